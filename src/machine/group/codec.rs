//! Reads and writes the primitive types of Kafka's record schemas, in their plain and flexible (KIP-482) forms.

use bytes::{BufMut, Bytes, BytesMut};

/// Why bytes are not what their schema says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodecError {
    /// The bytes end inside a field, or a length goes beyond them.
    Truncated,
    /// A length is negative where the field cannot be null, or a varint does not end.
    BadLength,
    /// A string is not UTF-8.
    BadString,
    /// The schema has no such version.
    UnknownVersion(i16),
}

impl std::fmt::Display for CodecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CodecError::Truncated => f.write_str("the bytes end inside a field"),
            CodecError::BadLength => f.write_str("a length is not possible"),
            CodecError::BadString => f.write_str("a string is not UTF-8"),
            CodecError::UnknownVersion(version) => write!(f, "unknown version {version}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// A cursor over the bytes of one key, value or protocol message. Byte fields are slices of the input.
pub(super) struct Reader {
    input: Bytes,
    flexible: bool,
}

impl Reader {
    pub(super) fn new(input: Bytes) -> Reader {
        Reader { input, flexible: false }
    }

    /// From here on strings, bytes and arrays have their compact forms and structs end with tagged fields.
    pub(super) fn set_flexible(&mut self) {
        self.flexible = true;
    }

    pub(super) fn remaining(&self) -> usize {
        self.input.len()
    }

    fn take(&mut self, length: usize) -> Result<Bytes, CodecError> {
        if length > self.input.len() {
            return Err(CodecError::Truncated);
        }
        Ok(self.input.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    pub(super) fn i16(&mut self) -> Result<i16, CodecError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, CodecError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, CodecError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<usize, CodecError> {
        let mut value: u32 = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.array::<1>()?;
            if shift == 28 && byte > 0x0f {
                return Err(CodecError::BadLength);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value as usize);
            }
        }
        Err(CodecError::BadLength)
    }

    /// A length of a compact field is stored plus one, so that 0 means null.
    fn compact_length(&mut self) -> Result<Option<usize>, CodecError> {
        Ok(self.varint()?.checked_sub(1))
    }

    fn plain_length(length: i64) -> Result<Option<usize>, CodecError> {
        match length {
            -1 => Ok(None),
            0.. => usize::try_from(length).map(Some).map_err(|_| CodecError::BadLength),
            _ => Err(CodecError::BadLength),
        }
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, CodecError> {
        let length =
            if self.flexible { self.compact_length()? } else { Self::plain_length(i64::from(self.i16()?))? };
        let Some(length) = length else { return Ok(None) };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| CodecError::BadString)?;
        Ok(Some(text.to_owned()))
    }

    pub(super) fn string(&mut self) -> Result<String, CodecError> {
        self.nullable_string()?.ok_or(CodecError::BadLength)
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, CodecError> {
        let length =
            if self.flexible { self.compact_length()? } else { Self::plain_length(i64::from(self.i32()?))? };
        length.map(|length| self.take(length)).transpose()
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, CodecError> {
        self.nullable_bytes()?.ok_or(CodecError::BadLength)
    }

    /// Number of elements of an array whose elements take at least `element_bytes_min` bytes each: a count that
    /// the remaining bytes cannot hold is refused before anything is reserved for it.
    pub(super) fn array_length(&mut self, element_bytes_min: usize) -> Result<usize, CodecError> {
        let length =
            if self.flexible { self.compact_length()? } else { Self::plain_length(i64::from(self.i32()?))? };
        let length = length.ok_or(CodecError::BadLength)?;
        if length.saturating_mul(element_bytes_min.max(1)) > self.remaining() {
            return Err(CodecError::Truncated);
        }
        Ok(length)
    }

    /// Reads the tagged fields at the end of a struct and hands each to `field`. A plain struct has none.
    pub(super) fn tagged_fields(&mut self, mut field: impl FnMut(usize, &[u8])) -> Result<(), CodecError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()?;
            field(tag, &self.take(length)?);
        }
        Ok(())
    }
}

/// Builds a key or a value in the plain forms, which are all that Kafka writes to `__consumer_offsets`.
pub(super) struct Writer {
    output: BytesMut,
}

impl Writer {
    pub(super) fn new(version: i16) -> Writer {
        let mut output = BytesMut::with_capacity(64);
        output.put_i16(version);
        Writer { output }
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.output.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.output.put_i64(value);
    }

    /// Panics where the string is longer than its 16-bit length can say; requests are checked for that before
    /// they become records.
    pub(super) fn string(&mut self, value: &str) {
        let length = i16::try_from(value.len()).expect("requests with longer strings are refused");
        self.output.put_i16(length);
        self.output.put_slice(value.as_bytes());
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None => self.output.put_i16(-1),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.output.put_i32(i32::try_from(value.len()).expect("a request's frame is smaller than 2 GiB"));
        self.output.put_slice(value);
    }

    pub(super) fn array_length(&mut self, length: usize) {
        self.output.put_i32(i32::try_from(length).expect("a group has fewer than 2^31 members"));
    }

    pub(super) fn finish(self) -> Bytes {
        self.output.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flexible(bytes: &[u8]) -> Reader {
        let mut reader = Reader::new(Bytes::copy_from_slice(bytes));
        reader.set_flexible();
        reader
    }

    #[test]
    fn compact_lengths_are_one_more() {
        assert_eq!(flexible(&[0]).nullable_string(), Ok(None));
        assert_eq!(flexible(&[1]).nullable_string(), Ok(Some(String::new())));
        assert_eq!(flexible(&[3, b'o', b'k']).string(), Ok("ok".to_owned()));
        assert_eq!(flexible(&[0]).string(), Err(CodecError::BadLength));
        assert_eq!(flexible(&[4, b'o', b'k']).string(), Err(CodecError::Truncated));
        assert_eq!(flexible(&[0x80, 0x80, 0x80, 0x80, 0x10]).string(), Err(CodecError::BadLength));
    }

    #[test]
    fn counts_beyond_the_input_are_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0]));
        assert_eq!(reader.array_length(1), Err(CodecError::Truncated));
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(reader.array_length(1), Err(CodecError::BadLength));
    }

    #[test]
    fn tagged_fields_are_walked() {
        let mut seen = Vec::new();
        let mut reader = flexible(&[2, 0, 1, 9, 5, 2, 7, 8, 42]);
        reader.tagged_fields(|tag, bytes| seen.push((tag, bytes.to_vec()))).unwrap();
        assert_eq!(seen, vec![(0, vec![9]), (5, vec![7, 8])]);
        assert_eq!(reader.remaining(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_read_without_panic(input in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = flexible(&input);
            let _ = reader.nullable_string();
            let _ = reader.nullable_bytes();
            let _ = reader.array_length(3);
            let _ = reader.tagged_fields(|_, _| ());
            prop_assert!(reader.remaining() <= input.len());
        }
    }
}
