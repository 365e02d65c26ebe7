//! A segment's producer snapshot: the idempotent producers as they were before the segment's first record, for
//! truncation. Written when the segment is begun, as Kafka does it.
//!
//! A producer is remembered by its last five batches. When the log is cut, batches come back that the cut ones had
//! displaced; they are found by reading the headers of the batches that are left. With a snapshot that is one segment
//! to read, however long the log is, and what lies in segments that retention has removed is not forgotten.
//!
//! ```text
//! offset  field                    little-endian
//!      0  magic "RLPRODUC"          8
//!      8  CRC-32 of all that follows   u32
//!     12  version                   u16
//!     14  zero                      u16
//!     16  base offset of the segment   i64
//!     24  producers, as `producer.rs` draws them
//! ```
//!
//! A segment before which no producer was remembered has none. Where one is missing or damaged, what is remembered
//! from below the segment is taken in its place.

use crate::codec::{Put, Take};
use crate::producer::Producers;

const MAGIC: &[u8; 8] = b"RLPRODUC";
const VERSION: u16 = 1;
/// Where the bytes under the CRC begin.
const CRC_START: usize = 12;

/// The file's bytes. `producers` is what [`Producers::snapshot`] wrote.
#[must_use]
pub fn encode(base: i64, producers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + producers.len());
    out.extend_from_slice(MAGIC);
    out.put_u32(0);
    out.put_u16(VERSION);
    out.put_u16(0);
    out.put_i64(base);
    out.extend_from_slice(producers);
    let crc = crc32fast::hash(&out[CRC_START..]);
    out[8..CRC_START].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The producers of a file; `None` where it is damaged, or of another segment.
#[must_use]
pub fn decode(bytes: &[u8], base: i64, max: u32) -> Option<Producers> {
    let whole = bytes.len() >= CRC_START
        && &bytes[..8] == MAGIC
        && bytes[8..CRC_START] == crc32fast::hash(&bytes[CRC_START..]).to_le_bytes();
    let mut take = Take(bytes.get(CRC_START..).filter(|_| whole)?);
    let (version, _zero, of) = (take.u16()?, take.u16()?, take.i64()?);
    if version != VERSION || of != base {
        return None;
    }
    Producers::restore(take.0, max).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_damage_is_seen() {
        let mut producers = Vec::new();
        Producers::new(5).snapshot(&mut producers);
        let bytes = encode(40, &producers);
        assert!(decode(&bytes, 40, 5).is_some_and(|p| p.is_empty()));
        assert!(decode(&bytes, 41, 5).is_none(), "of another segment");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(decode(&damaged, 40, 5).is_none(), "byte {at}");
            assert!(decode(&bytes[..at], 40, 5).is_none(), "cut at {at}");
        }
    }
}
