//! Records inside a batch, read without copying. Nothing here panics on garbage.
//!
//! ```text
//! length varint | attributes u8 | timestamp delta varlong | offset delta varint
//!   | key length varint, key | value length varint, value           (length -1: null)
//!   | header count varint | { key length varint, key | value length varint, value } ...
//! ```
//!
//! Varints are zigzag encoded, seven bits a byte, the lowest first.

use std::borrow::Cow;
use std::fmt;

use super::header::{BatchInfo, HEADER_BYTES, HeaderError, crc_is_right, peek};
use crate::compression::{Codec, DecompressError, decompress};

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset minus the batch's base offset.
    pub offset_delta: i32,
    /// Its timestamp minus the batch's base timestamp, ms; see [`BatchInfo::timestamp_of`].
    pub timestamp_delta: i64,
    /// Its key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// Its value, `None` for null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl Headers<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    /// Key and value; a key is UTF-8 where the producer kept to Kafka's rules.
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut reader = Reader(self.bytes);
        let header = reader.header().expect("headers were checked when their record was read");
        self.bytes = reader.0;
        Some(header)
    }
}

/// Why bytes are not the records that a batch announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The bytes end within a record.
    CutShort,
    /// A varint has more bytes than its type.
    Varint,
    /// A record's or field's length is negative or exceeds what holds it.
    Length(i32),
    /// A header's key is null, or there is a negative number of headers.
    Header,
    /// A record's fields end before or behind its length.
    RecordLength,
    /// Bytes are left behind the last announced record.
    Trailing(usize),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::CutShort => write!(f, "the batch ends within a record"),
            RecordError::Varint => write!(f, "a varint is too long"),
            RecordError::Length(length) => write!(f, "length {length} is out of bounds"),
            RecordError::Header => write!(f, "a header has no key, or their number is negative"),
            RecordError::RecordLength => write!(f, "a record's fields do not fill its length"),
            RecordError::Trailing(bytes) => write!(f, "{bytes} bytes are left behind the last record"),
        }
    }
}

impl std::error::Error for RecordError {}

/// What is left of some bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, RecordError> {
        let (byte, rest) = self.0.split_first().ok_or(RecordError::CutShort)?;
        self.0 = rest;
        Ok(*byte)
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = self.unsigned(64)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        // Bits beyond the 32nd in a fifth byte are dropped, as Kafka does.
        let raw = (self.unsigned(32)? & u64::from(u32::MAX)) as u32;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn unsigned(&mut self, bits: u32) -> Result<u64, RecordError> {
        let mut value = 0;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
            shift += 7;
            if shift >= bits {
                return Err(RecordError::Varint);
            }
        }
    }

    fn take(&mut self, length: i32) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length))
            .ok_or(RecordError::Length(length))?;
        self.0 = rest;
        Ok(taken)
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => self.take(length).map(Some),
        }
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), RecordError> {
        let key = self.nullable()?.ok_or(RecordError::Header)?;
        Ok((key, self.nullable()?))
    }

    fn record(&mut self) -> Result<Record<'a>, RecordError> {
        let length = self.varint()?;
        let mut body = Reader(self.take(length)?);
        // The attributes of a record are unused in this format.
        body.byte()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let count = usize::try_from(body.varint()?).map_err(|_| RecordError::Header)?;
        let headers = Headers { bytes: body.0, count };
        for _ in 0..count {
            body.header()?;
        }
        if !body.0.is_empty() {
            return Err(RecordError::RecordLength);
        }
        Ok(Record { offset_delta, timestamp_delta, key, value, headers })
    }
}

/// Walks the records of a batch. Ends after the announced number of records or the first error; bytes left
/// behind the last record are an error too.
pub struct RecordIter<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> RecordIter<'a> {
    /// Walks `count` records that fill `bytes`, which are uncompressed.
    pub fn new(bytes: &'a [u8], count: i32) -> RecordIter<'a> {
        RecordIter { reader: Reader(bytes), left: u32::try_from(count).unwrap_or(0) }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let trailing = std::mem::take(&mut self.reader.0).len();
            return (trailing > 0).then_some(Err(RecordError::Trailing(trailing)));
        }
        self.left -= 1;
        let record = self.reader.record();
        if record.is_err() {
            (self.left, self.reader.0) = (0, &[]);
        }
        Some(record)
    }
}

/// The records of a batch, opened.
#[derive(Clone, Debug)]
pub struct Decompressed<'a> {
    /// What the batch's header says.
    pub info: BatchInfo,
    bytes: Cow<'a, [u8]>,
}

impl Decompressed<'_> {
    /// The records in their order.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.bytes, self.info.record_count)
    }

    /// The uncompressed bytes of all records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> IntoIterator for &'a Decompressed<'_> {
    type Item = Result<Record<'a>, RecordError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Why a stored batch could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// Its header is none.
    Header(HeaderError),
    /// It is longer than the bytes there are.
    CutShort {
        /// Bytes that the header announces.
        size: usize,
        /// Bytes there are.
        present: usize,
    },
    /// Its CRC does not fit.
    Crc,
    /// Its records could not be decompressed.
    Decompress(DecompressError),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Header(e) => e.fmt(f),
            OpenError::CutShort { size, present } => {
                write!(f, "a batch of {size} bytes ends after {present}")
            }
            OpenError::Crc => write!(f, "the batch's checksum is wrong"),
            OpenError::Decompress(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens the batch at the start of `bytes`, which may go on behind it. Checks the CRC; decompresses, to at
/// most `limit` bytes, where the batch is compressed, and borrows where it is not. Decompression takes
/// milliseconds for a large batch: not for a shard's thread.
///
/// # Errors
/// When the batch is damaged, or holds more than `limit` bytes.
pub fn records_of(bytes: &[u8], limit: usize) -> Result<Decompressed<'_>, OpenError> {
    let info = peek(bytes).map_err(OpenError::Header)?;
    let batch =
        bytes.get(..info.size).ok_or(OpenError::CutShort { size: info.size, present: bytes.len() })?;
    if !crc_is_right(batch) {
        return Err(OpenError::Crc);
    }
    let body = &batch[HEADER_BYTES..];
    let bytes = match info.compression() {
        Codec::None => Cow::Borrowed(body),
        codec => Cow::Owned(decompress(codec, body, limit).map_err(OpenError::Decompress)?),
    };
    Ok(Decompressed { info, bytes })
}

/// Appends a zigzag varint; Kafka's varint and varlong differ in the reader's bounds only.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// Bytes that [`put_varlong`] appends.
pub(super) fn varlong_bytes(value: i64) -> usize {
    let raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = usize::try_from(64 - (raw | 1).leading_zeros()).expect("at most 64");
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_come_back(value in any::<i64>(), small in any::<i32>()) {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            prop_assert_eq!(out.len(), varlong_bytes(value));
            prop_assert_eq!(Reader(&out).varlong(), Ok(value));
            out.clear();
            put_varlong(&mut out, i64::from(small));
            prop_assert_eq!(out.len(), varlong_bytes(i64::from(small)));
            prop_assert_eq!(Reader(&out).varint(), Ok(small));
        }

        #[test]
        fn garbage_ends_in_an_error_or_in_the_count(bytes in prop::collection::vec(any::<u8>(), 0..200), count in -2i32..40) {
            let items: Vec<_> = RecordIter::new(&bytes, count).collect();
            let errors = items.iter().filter(|i| i.is_err()).count();
            prop_assert!(errors <= 1);
            prop_assert!(errors == 0 || items.last().is_some_and(Result::is_err));
            if errors == 0 {
                prop_assert_eq!(items.len(), usize::try_from(count.max(0)).unwrap());
            }
            for record in items.into_iter().flatten() {
                prop_assert_eq!(record.headers.count(), record.headers.len());
            }
        }
    }

    #[test]
    fn kafkas_limits_on_varints_hold() {
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Ok(i32::MIN));
        assert_eq!(Reader(&[0xff, 0xff, 0xff, 0xff, 0x8f, 0x00]).varint(), Err(RecordError::Varint));
        assert_eq!(Reader(&[0x80]).varint(), Err(RecordError::CutShort));
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader(&longest).varlong(), Ok(i64::MIN));
        assert_eq!(Reader(&[0xff; 11]).varlong(), Err(RecordError::Varint));
    }

    #[test]
    fn each_way_to_break_a_record_is_found() {
        // length 7, attributes, timestamp 0, offset 0, null key, value "a", no headers
        let good = [14, 0, 0, 0, 1, 2, b'a', 0];
        assert!(RecordIter::new(&good, 1).all(|r| r.is_ok_and(|r| r.value == Some(b"a") && r.key.is_none())));
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.to_vec();
            change(&mut bytes);
            RecordIter::new(&bytes, 1).find_map(Result::err)
        };
        assert_eq!(broken(|b| b.truncate(7)), Some(RecordError::Length(7)));
        assert_eq!(broken(|b| b[0] = 1), Some(RecordError::Length(-1)));
        assert_eq!(broken(|b| b[4] = 3), Some(RecordError::Length(-2)));
        assert_eq!(broken(|b| b[5] = 40), Some(RecordError::Length(20)));
        assert_eq!(broken(|b| b[7] = 1), Some(RecordError::Header));
        assert_eq!(broken(|b| b[7] = 2), Some(RecordError::CutShort));
        assert_eq!(broken(|b| b[5] = 0), Some(RecordError::Header));
        assert_eq!(broken(|b| b.push(0)), Some(RecordError::Trailing(1)));
        assert_eq!(broken(|b| (b[0], b[7]) = (16, 0)), Some(RecordError::Length(8)));
        assert_eq!(RecordIter::new(&good, 2).find_map(Result::err), Some(RecordError::CutShort));
        // one byte more within the record's length than its fields take
        assert_eq!(
            RecordIter::new(&[16, 0, 0, 0, 1, 2, b'a', 0, 9], 1).find_map(Result::err),
            Some(RecordError::RecordLength)
        );
    }
}
