//! Checkpoints: what a shard's partitions are, as of an LSN, so that recovery never scans a segment.
//!
//! A *base* holds all partitions of the shard, a *delta* those that changed since the file before. Recovery
//! reads the newest base and every later delta. A file is written beside its place, synced, renamed, and the
//! folder synced, so each is whole or absent. Numbers are little-endian.
//!
//! ```text
//!  0  magic "RLCHKPNT"        28  shard         u32        entry
//!  8  crc   u32 of the rest   32  sequence      u64          16  topic id, then partition i32
//! 12  version u16             40  covered LSN   u64           1  0 state, 1 deleted
//! 14  kind: 0 base, 1 delta   48  durable LSN   u64           8  applied LSN; a state goes on with
//! 16  length of the file u32  56  entries       u32           8  log start offset
//! 20  generation u64          60  entries ...                 8  high watermark
//!                                                             4  segments, each: base, end, bytes, max timestamp
//!                                                             .  epochs, producers, each with u32 length
//! ```

use crate::PartitionKey;
use crate::codec::{Put, Take};
use crate::epochs::Epochs;
use crate::producer::Producers;
use crate::wal::Lsn;
use uuid::Uuid;

/// Idempotent producers remembered for one partition; beyond it the one seen longest ago is forgotten.
pub const PRODUCERS_MAX: u32 = 100_000;

const MAGIC: &[u8; 8] = b"RLCHKPNT";
/// Version 1 had no high watermarks: it is read as well.
const VERSION: u16 = 2;
const VERSION_MIN: u16 = 1;

/// Whether a file holds everything or only what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All partitions.
    Base,
    /// Those that changed since the file before.
    Delta,
}

/// A segment, as a checkpoint knows it. All but a partition's last one are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// Offset of its first record; names its file.
    pub base: i64,
    /// Offset after its last record.
    pub end: i64,
    /// Bytes of it that are synced.
    pub bytes: u64,
    /// Largest record timestamp in it, -1 where it is empty.
    pub max_timestamp: i64,
}

/// A partition, as of [`applied`](PartitionState::applied). Its data up to the last segment's end are synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Which one.
    pub key: PartitionKey,
    /// LSN of the last frame that is in this state. Earlier frames are not replayed.
    pub applied: Lsn,
    /// First offset that may be read.
    pub log_start: i64,
    /// The high watermark last noted; never below the log start, nor beyond the log's end.
    pub high_watermark: i64,
    /// Its segments, oldest first; never empty; the last one is being appended to.
    pub segments: Vec<SegmentState>,
    /// Leader epoch history, encoded.
    pub epochs: Vec<u8>,
    /// Producer state, encoded.
    pub producers: Vec<u8>,
}

impl PartitionState {
    /// A partition that holds nothing yet.
    #[must_use]
    pub fn fresh(key: PartitionKey) -> PartitionState {
        PartitionState {
            key,
            applied: 0,
            log_start: 0,
            high_watermark: 0,
            segments: vec![SegmentState { base: 0, end: 0, bytes: 0, max_timestamp: -1 }],
            epochs: Vec::new(),
            producers: Vec::new(),
        }
    }

    /// Its leader epoch history.
    #[must_use]
    pub fn decode_epochs(&self) -> Epochs {
        if self.epochs.is_empty() {
            return Epochs::new();
        }
        Epochs::decode(&self.epochs).expect("whole, by its checkpoint's checksum")
    }

    /// Its idempotent producers.
    #[must_use]
    pub fn decode_producers(&self) -> Producers {
        if self.producers.is_empty() {
            return Producers::new(PRODUCERS_MAX);
        }
        Producers::restore(&self.producers, PRODUCERS_MAX).expect("whole, by its checkpoint's checksum")
    }

    /// Offset after the last record.
    #[must_use]
    pub fn end(&self) -> i64 {
        self.active().end
    }

    /// The segment that is appended to.
    #[must_use]
    pub fn active(&self) -> &SegmentState {
        self.segments.last().expect("a partition has a segment")
    }
}

/// One entry of a checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The partition is this.
    State(PartitionState),
    /// The partition was deleted.
    Deleted {
        /// Which one.
        key: PartitionKey,
        /// LSN of the frame that says so. It and earlier frames of the partition are not replayed.
        applied: Lsn,
    },
}

/// A checkpoint file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Base or delta.
    pub kind: Kind,
    /// WAL generation that it belongs to.
    pub generation: u64,
    /// Shard that wrote it.
    pub shard: u32,
    /// Its place in the order of the shard's checkpoints.
    pub sequence: u64,
    /// Every frame up to this LSN is in the checkpoints up to this one: the WAL may have forgotten it.
    pub covered: Lsn,
    /// Every frame up to this LSN was durable.
    pub durable: Lsn,
    /// The partitions.
    pub entries: Vec<Entry>,
}

/// A checkpoint file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Wrong magic, length or checksum.
    Damaged,
    /// Written by a newer version of the format.
    Newer(u16),
}

impl Checkpoint {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.put_u32(0);
        out.put_u16(VERSION);
        out.put_u16(u16::from(self.kind == Kind::Delta));
        out.put_u32(0);
        out.put_u64(self.generation);
        out.put_u32(self.shard);
        out.put_u64(self.sequence);
        out.put_u64(self.covered);
        out.put_u64(self.durable);
        out.put_u32(u32::try_from(self.entries.len()).expect("partitions are bounded"));
        for entry in &self.entries {
            encode_entry(entry, &mut out);
        }
        let len = u32::try_from(out.len()).expect("a checkpoint is far below 4 GiB");
        out[16..20].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Bad`] where it is damaged or newer.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, Bad> {
        let whole = bytes.len() >= 20
            && &bytes[..8] == MAGIC
            && bytes[8..12] == crc32fast::hash(&bytes[12..]).to_le_bytes()
            && bytes[16..20] == u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
        if !whole {
            return Err(Bad::Damaged);
        }
        let version = u16::from_le_bytes([bytes[12], bytes[13]]);
        if !(VERSION_MIN..=VERSION).contains(&version) {
            return Err(Bad::Newer(version));
        }
        decode_body(bytes, version).ok_or(Bad::Damaged)
    }
}

fn decode_body(bytes: &[u8], version: u16) -> Option<Checkpoint> {
    let mut take = Take(&bytes[14..]);
    let kind = if take.u16()? == 0 { Kind::Base } else { Kind::Delta };
    take.u32()?;
    let (generation, shard, sequence) = (take.u64()?, take.u32()?, take.u64()?);
    let (covered, durable) = (take.u64()?, take.u64()?);
    let count = take.u32()?;
    let mut entries = Vec::new();
    for _ in 0..count {
        entries.push(decode_entry(&mut take, version)?);
    }
    take.0.is_empty().then_some(Checkpoint { kind, generation, shard, sequence, covered, durable, entries })
}

fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let (key, applied) = match entry {
        Entry::State(state) => (&state.key, state.applied),
        Entry::Deleted { key, applied } => (key, *applied),
    };
    out.extend_from_slice(key.topic.as_bytes());
    out.extend_from_slice(&key.partition.to_le_bytes());
    out.put_u8(u8::from(matches!(entry, Entry::Deleted { .. })));
    out.put_u64(applied);
    let Entry::State(state) = entry else { return };
    out.put_i64(state.log_start);
    out.put_i64(state.high_watermark);
    out.put_u32(u32::try_from(state.segments.len()).expect("segments are bounded"));
    for segment in &state.segments {
        out.put_i64(segment.base);
        out.put_i64(segment.end);
        out.put_u64(segment.bytes);
        out.put_i64(segment.max_timestamp);
    }
    out.put_bytes(&state.epochs);
    out.put_bytes(&state.producers);
}

fn decode_entry(take: &mut Take<'_>, version: u16) -> Option<Entry> {
    let topic = Uuid::from_slice(take.raw(16)?).ok()?;
    let key = PartitionKey { topic, partition: take.u32()?.cast_signed() };
    let (is_deleted, applied) = (take.u8()? != 0, take.u64()?);
    if is_deleted {
        return Some(Entry::Deleted { key, applied });
    }
    let log_start = take.i64()?;
    let high_watermark = if version == VERSION_MIN { log_start } else { take.i64()? };
    let count = take.u32()?;
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push(SegmentState {
            base: take.i64()?,
            end: take.i64()?,
            bytes: take.u64()?,
            max_timestamp: take.i64()?,
        });
    }
    let (epochs, producers) = (take.bytes()?.to_vec(), take.bytes()?.to_vec());
    (!segments.is_empty()).then_some(Entry::State(PartitionState {
        key,
        applied,
        log_start,
        high_watermark,
        segments,
        epochs,
        producers,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn checkpoint(partitions: i32) -> Checkpoint {
        let entries = (0..partitions)
            .map(|partition| {
                let key = PartitionKey { topic: Uuid::from_u128(5), partition };
                if partition % 3 == 2 {
                    return Entry::Deleted { key, applied: 8 };
                }
                let mut state = PartitionState::fresh(key);
                (state.applied, state.high_watermark) = (9, 15);
                state.epochs = vec![1, 2, 3];
                state.segments.push(SegmentState { base: 7, end: 19, bytes: 4321, max_timestamp: 77 });
                Entry::State(state)
            })
            .collect();
        Checkpoint {
            kind: Kind::Delta,
            generation: 2,
            shard: 1,
            sequence: 3,
            covered: 10,
            durable: 12,
            entries,
        }
    }

    #[test]
    fn reads_back() {
        for partitions in [0, 1, 7] {
            let checkpoint = checkpoint(partitions);
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }

    #[test]
    fn the_first_version_has_no_high_watermark() {
        let mut checkpoint = checkpoint(1);
        let Entry::State(state) = &mut checkpoint.entries[0] else { panic!("a state") };
        (state.log_start, state.high_watermark) = (3, 3);
        let mut bytes = checkpoint.encode();
        // The entry begins at 60; before the high watermark come key, tag, LSN and log start.
        bytes.drain(60 + 20 + 1 + 8 + 8..60 + 20 + 1 + 8 + 8 + 8);
        bytes[12] = 1;
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[16..20].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Checkpoint::decode(&bytes), Ok(checkpoint));
    }

    #[test]
    fn a_newer_version_says_so() {
        let mut bytes = checkpoint(1).encode();
        bytes[12] = 9;
        let crc = crc32fast::hash(&bytes[12..]);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Checkpoint::decode(&bytes), Err(Bad::Newer(9)));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_or_cut_is_seen(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let bytes = checkpoint(4).encode();
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert_eq!(Checkpoint::decode(&flipped), Err(Bad::Damaged));
            prop_assert_eq!(Checkpoint::decode(&bytes[..cut.index(bytes.len())]), Err(Bad::Damaged));
        }
    }
}
