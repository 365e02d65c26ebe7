//! Numbers, text and lists as bytes, and back.
//!
//! Numbers are LEB128 varints, signed ones zigzagged first, so that small ones are short; text and lists have their
//! length before them. Reading is total: whatever the bytes are, it ends in a value or an error, and no list is
//! made longer than the bytes that are left could fill.

use std::fmt;

use uuid::Uuid;

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the value does.
    Truncated,
    /// The bytes say something that cannot be; what, in one word.
    Invalid(&'static str),
    /// Written by a newer version of Ringlog, which this one must not guess at.
    Newer {
        /// What is newer.
        what: &'static str,
        /// Its version or kind.
        found: u64,
        /// The highest one known here.
        known: u64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("metadata ends in the middle of a record"),
            DecodeError::Invalid(what) => write!(f, "metadata has an invalid {what}"),
            DecodeError::Newer { what, found, known } => {
                write!(f, "metadata was written by a newer Ringlog: {what} {found}, known here up to {known}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Appends to a buffer.
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn unsigned(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(super) fn signed(&mut self, value: i64) {
        self.unsigned(((value << 1) ^ (value >> 63)) as u64);
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.unsigned(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(super) fn id(&mut self, value: Uuid) {
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(super) fn list<T>(
        &mut self,
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T),
    ) {
        self.unsigned(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// Takes values off the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid("number"))
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A signed number of a smaller type.
    pub(super) fn small<T: TryFrom<i64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.signed()?).map_err(|_| DecodeError::Invalid("number"))
    }

    fn len(&mut self) -> Result<usize, DecodeError> {
        let len = usize::try_from(self.unsigned()?).map_err(|_| DecodeError::Truncated)?;
        // Whatever is counted takes a byte or more each.
        if len > self.0.len() { Err(DecodeError::Truncated) } else { Ok(len) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.len()?;
        self.take(len)
    }

    pub(super) fn text(&mut self) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Invalid("text"))?;
        Ok(text.to_owned())
    }

    pub(super) fn id(&mut self) -> Result<Uuid, DecodeError> {
        let bytes: [u8; 16] = self.take(16)?.try_into().expect("16 bytes were taken");
        Ok(Uuid::from_bytes(bytes))
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(DecodeError::Invalid("option")),
        }
    }

    pub(super) fn list<T, C: FromIterator<T>>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<C, DecodeError> {
        let len = self.len()?;
        (0..len).map(|_| read(self)).collect()
    }

    /// Nothing may be left over.
    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Invalid("length")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(unsigned: u64, signed: i64) {
            let mut bytes = Vec::new();
            Writer(&mut bytes).unsigned(unsigned);
            Writer(&mut bytes).signed(signed);
            let mut reader = Reader(&bytes);
            prop_assert_eq!(reader.unsigned(), Ok(unsigned));
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn lengths_beyond_the_bytes_are_refused_before_anything_is_reserved() {
        let mut bytes = Vec::new();
        Writer(&mut bytes).unsigned(u64::MAX);
        assert_eq!(Reader(&bytes).text(), Err(DecodeError::Truncated));
        assert_eq!(Reader(&bytes).list::<u8, Vec<u8>>(|reader| reader.u8()), Err(DecodeError::Truncated));
        assert_eq!(Reader(&[0xff; 11]).unsigned(), Err(DecodeError::Invalid("number")));
    }
}
