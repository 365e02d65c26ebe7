//! A cursor over borrowed bytes: every read is checked against what is left, nothing is allocated.

use super::{Cause, GuardError};
use uuid::Uuid;

/// Kafka's limit on the length of a string, in bytes, also where the encoding could say more.
const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// Names the field in which a read failed.
pub(crate) trait At<T> {
    /// Turns the bare cause into an error that names `field`.
    fn at(self, field: &'static str) -> Result<T, GuardError>;
}

impl<T> At<T> for Result<T, Cause> {
    #[inline]
    fn at(self, field: &'static str) -> Result<T, GuardError> {
        self.map_err(|cause| GuardError { field, cause })
    }
}

/// The unread rest of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that were not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Cause> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Cause::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Cause> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Cause::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn i8(&mut self) -> Result<i8, Cause> {
        self.array().map(i8::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self) -> Result<i16, Cause> {
        self.array().map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self) -> Result<i32, Cause> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Cause> {
        self.array().map(i64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn uuid(&mut self) -> Result<Uuid, Cause> {
        self.array().map(Uuid::from_bytes)
    }

    /// An unsigned variable-length integer of at most five bytes. Like Kafka, takes encodings that are longer than
    /// needed; unlike it, refuses bits beyond the 32nd instead of dropping them.
    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u32, Cause> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            if shift == 28 && byte > 0x0f {
                return Err(Cause::VarintTooLong);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        Ok(value)
    }

    /// The length of a compact string, byte string or array: the integer is one more, and 0 means null.
    #[inline]
    fn compact_len(&mut self) -> Result<Option<u32>, Cause> {
        Ok(self.uvarint()?.checked_sub(1))
    }

    /// The length of a byte string or array with a 32-bit length, -1 meaning null.
    #[inline]
    fn i32_len(&mut self) -> Result<Option<u32>, Cause> {
        match self.i32()? {
            -1 => Ok(None),
            len => u32::try_from(len).map(Some).map_err(|_| Cause::NegativeLength),
        }
    }

    /// A string or null; compact in a flexible version.
    #[inline]
    pub(crate) fn nullable_str(&mut self, flexible: bool) -> Result<Option<&'a str>, Cause> {
        let len = if flexible {
            self.compact_len()?.map(|len| len as usize)
        } else {
            match self.i16()? {
                -1 => None,
                len => Some(usize::try_from(len).map_err(|_| Cause::NegativeLength)?),
            }
        };
        let Some(len) = len else { return Ok(None) };
        if len > STRING_BYTES_MAX {
            return Err(Cause::StringTooLong);
        }
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| Cause::NotUtf8)
    }

    /// A string; compact in a flexible version.
    #[inline]
    pub(crate) fn str(&mut self, flexible: bool) -> Result<&'a str, Cause> {
        self.nullable_str(flexible)?.ok_or(Cause::Null)
    }

    /// A byte string or null; compact in a flexible version.
    #[inline]
    pub(crate) fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>, Cause> {
        let len = if flexible { self.compact_len()? } else { self.i32_len()? };
        len.map(|len| self.take(len as usize)).transpose()
    }

    /// How many elements an array has, `None` for null. Every element takes at least one byte, so a count above the
    /// bytes that are left is refused here, before anyone reserves room for it.
    #[inline]
    pub(crate) fn nullable_array_len(&mut self, flexible: bool) -> Result<Option<u32>, Cause> {
        let len = if flexible { self.compact_len()? } else { self.i32_len()? };
        match len {
            Some(len) if len as usize > self.rest.len() => Err(Cause::Truncated),
            len => Ok(len),
        }
    }

    /// How many elements an array has; null is refused.
    #[inline]
    pub(crate) fn array_len(&mut self, flexible: bool) -> Result<u32, Cause> {
        self.nullable_array_len(flexible)?.ok_or(Cause::Null)
    }

    /// Walks the tagged fields at the end of a structure, giving each tag and its content to `field`. `Ok(false)`
    /// from it means that the tag is not known and its content is skipped; of a known one every byte must be read.
    #[inline]
    pub(crate) fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<bool, GuardError>,
    ) -> Result<u32, GuardError> {
        const NAME: &str = "tagged_fields";
        let count = self.uvarint().at(NAME)?;
        for _ in 0..count {
            let tag = self.uvarint().at(NAME)?;
            let size = self.uvarint().at(NAME)?;
            let mut content = Reader::new(self.take(size as usize).at(NAME)?);
            if field(tag, &mut content)? && !content.rest.is_empty() {
                return Err(GuardError { field: NAME, cause: Cause::TagSize });
            }
        }
        Ok(count)
    }

    /// Skips the tagged fields at the end of a structure in which none is known.
    #[inline]
    pub(crate) fn skip_tagged_fields(&mut self, flexible: bool) -> Result<(), GuardError> {
        if flexible {
            self.tagged_fields(|_, _| Ok(false))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::RequestHeader;
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    #[test]
    fn a_varint_beyond_32_bits_is_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(), Ok(u32::MAX));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint(), Err(Cause::VarintTooLong));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x8f, 0]).uvarint(), Err(Cause::VarintTooLong));
        assert_eq!(Reader::new(&[0x80, 0x00]).uvarint(), Ok(0));
        assert_eq!(Reader::new(&[0x80]).uvarint(), Err(Cause::Truncated));
    }

    #[test]
    fn lengths_below_null_are_refused() {
        assert_eq!(Reader::new(&[0xff, 0xff]).nullable_str(false), Ok(None));
        assert_eq!(Reader::new(&[0xff, 0xfe]).nullable_str(false), Err(Cause::NegativeLength));
        assert_eq!(Reader::new(&[0xff; 4]).nullable_bytes(false), Ok(None));
        assert_eq!(Reader::new(&[0x80, 0, 0, 0]).nullable_bytes(false), Err(Cause::NegativeLength));
        assert_eq!(Reader::new(&[0]).str(true), Err(Cause::Null));
    }

    #[test]
    fn a_count_beyond_the_rest_is_refused_at_once() {
        assert_eq!(Reader::new(&[0, 0, 0, 2, 9]).array_len(false), Err(Cause::Truncated));
        assert_eq!(Reader::new(&[0, 0, 0, 1, 9]).array_len(false), Ok(1));
        assert_eq!(Reader::new(&[3, 9]).array_len(true), Err(Cause::Truncated));
    }

    #[test]
    fn a_compact_string_longer_than_kafka_allows_is_refused() {
        let mut bytes = Vec::new();
        // 32,768 bytes: one more than the limit, and one more for the compact encoding.
        bytes.extend([0x81, 0x80, 0x02]);
        bytes.resize(40_000, b'a');
        assert_eq!(Reader::new(&bytes).str(true), Err(Cause::StringTooLong));
    }

    #[test]
    fn a_known_tagged_field_must_be_read_whole() {
        let bytes = [1, 0, 5, 0, 0, 0, 7, 9];
        let read = |_: u32, r: &mut Reader<'_>| r.i32().at("x").map(|_| true);
        assert_eq!(Reader::new(&bytes).tagged_fields(read).unwrap_err().cause, Cause::TagSize);
        assert_eq!(Reader::new(&bytes).tagged_fields(|_, _| Ok(false)), Ok(1));
    }

    proptest! {
        #[test]
        fn varints_are_read_as_the_library_writes_them(tag in 0..=i32::MAX as u32, size in 0usize..300) {
            let mut bytes = Vec::new();
            RequestHeader::default()
                .with_client_id(None)
                .with_unknown_tagged_field(tag as i32, vec![1; size].into())
                .encode(&mut bytes, 2)
                .unwrap();
            let mut reader = Reader::new(&bytes[10..]);
            let mut seen = None;
            reader.tagged_fields(|tag, r| { seen = Some((tag, r.rest().len())); Ok(false) }).unwrap();
            prop_assert_eq!(seen, Some((tag, size)));
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn no_bytes_make_a_read_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), flexible: bool) {
            let reader = Reader::new(&bytes);
            let _ = { reader }.nullable_str(flexible);
            let _ = { reader }.nullable_bytes(flexible);
            let _ = { reader }.nullable_array_len(flexible);
            let _ = { reader }.skip_tagged_fields(flexible);
        }
    }
}
