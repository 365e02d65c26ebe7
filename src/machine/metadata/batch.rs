//! A batch: the records of one decision, as one entry of the metadata log.
//!
//! ```text
//! batch     version u8 | offset varint | timestamp varint | count varint | count x (length varint | record)
//! ```
//!
//! Checksums and framing are the log's; a batch is what is inside a frame.

use super::codec::{DecodeError, Reader, Writer};
use super::record::Record;

const VERSION: u8 = 1;

/// Records that are applied together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Place in the log; grows from batch to batch.
    pub offset: i64,
    /// When it was made, by the wall clock of who made it, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// In the order in which they apply.
    pub records: Vec<Record>,
}

impl Batch {
    /// The batch as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 64 * self.records.len());
        let w = &mut Writer(&mut out);
        w.u8(VERSION);
        w.signed(self.offset);
        w.signed(self.timestamp_ms);
        let mut record_bytes = Vec::new();
        w.list(self.records.iter(), |w, record| {
            record_bytes.clear();
            record.encode(&mut record_bytes);
            w.bytes(&record_bytes);
        });
        out
    }

    /// Reads the batch that these bytes are, all of them.
    ///
    /// # Errors
    /// The bytes are no batch, or one of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Batch, DecodeError> {
        let r = &mut Reader(bytes);
        let version = r.u8()?;
        if version > VERSION {
            let (found, known) = (version.into(), VERSION.into());
            return Err(DecodeError::Newer { what: "batch version", found, known });
        }
        if version < VERSION {
            return Err(DecodeError::Invalid("batch version"));
        }
        let (offset, timestamp_ms) = (r.signed()?, r.signed()?);
        let records = r.list(|r| Record::decode(r.bytes()?))?;
        r.end()?;
        Ok(Batch { offset, timestamp_ms, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::record_codec::tests::record;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn batches_round_trip(offset: i64, timestamp_ms: i64, records in prop::collection::vec(record(), 0..9)) {
            let batch = Batch { offset, timestamp_ms, records };
            prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
        }

        #[test]
        fn damage_never_panics(
            records in prop::collection::vec(record(), 1..5),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut bytes = Batch { offset: 7, timestamp_ms: 9, records }.encode();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok(batch) = Batch::decode(&bytes) {
                prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
            }
        }
    }

    #[test]
    fn versions() {
        let mut bytes = Batch { offset: 1, timestamp_ms: 2, records: vec![] }.encode();
        assert_eq!(bytes, [1, 2, 4, 0]);
        bytes[0] = 2;
        let newer = Batch::decode(&bytes).unwrap_err();
        assert_eq!(newer, DecodeError::Newer { what: "batch version", found: 2, known: 1 });
        bytes[0] = 0;
        assert_eq!(Batch::decode(&bytes), Err(DecodeError::Invalid("batch version")));
    }
}
