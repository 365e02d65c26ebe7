//! What a partition remembers of its idempotent producers (KIP-98, KIP-360), to refuse gaps and to answer
//! duplicates with the offset of the original, as Kafka's `ProducerStateManager` does.
//!
//! For each producer: its epoch and its last five batches. Java's producer has at most five requests in
//! flight, so a retry is always among them.
//!
//! Producers are kept in the order in which they last wrote, in a list threaded through one vector: an append
//! moves its producer to the end, and the one at the front makes room for a new one. They expire by the
//! timestamps of their records, as in Kafka, which need not follow that order.
//!
//! ```text
//! snapshot, little-endian: version u16 | producers u32 | producer ...        (the one that wrote longest ago first)
//! producer: id i64 | last timestamp i64 | epoch i16 | batches u8 | batch ... (oldest first)
//! batch:    base offset i64 | max timestamp i64 | last sequence i32 | last offset delta i32
//! ```

use std::fmt;

use hashbrown::HashMap;
use zerocopy::little_endian::{I16, I32, I64, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::batch::BatchInfo;

/// Batches remembered of each producer.
pub const BATCHES_KEPT: usize = 5;
/// Version of the snapshot's format.
const SNAPSHOT_VERSION: u16 = 1;
/// End of the list of producers.
const NIL: u32 = u32::MAX;

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes next, or its producer is unknown or none: append it.
    Append,
    /// It was appended before: answer with the original's place, once that is durable.
    Duplicate {
        /// Offset of the original's first record.
        base_offset: i64,
        /// Offset of the original's last record.
        last_offset: i64,
        /// The original's max timestamp, ms since 1970.
        timestamp: i64,
    },
    /// It is refused.
    Refused(SequenceError),
}

/// A producer that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Last sequence number of its newest batch.
    pub last_sequence: i32,
    /// Max timestamp of its newest batch, ms since 1970.
    pub last_timestamp: i64,
}

/// Why an idempotent producer's batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceError {
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: batches before this one are missing, or it is older than what is
    /// remembered.
    OutOfOrder {
        /// First sequence number of the batch.
        found: i32,
        /// The one that comes next.
        expected: i32,
    },
    /// INVALID_PRODUCER_EPOCH: a newer instance of the producer has written already.
    InvalidEpoch {
        /// Epoch of the batch.
        found: i16,
        /// The producer's epoch.
        current: i16,
    },
}

impl SequenceError {
    /// Kafka's error code.
    pub fn code(self) -> i16 {
        match self {
            SequenceError::OutOfOrder { .. } => 45,
            SequenceError::InvalidEpoch { .. } => 47,
        }
    }
}

impl fmt::Display for SequenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SequenceError::OutOfOrder { found, expected } => {
                write!(
                    f,
                    "Out of order sequence number: {found} (incoming seq. number), {expected} (expected)"
                )
            }
            SequenceError::InvalidEpoch { found, current } => {
                write!(f, "Epoch {found} of the producer is smaller than the last seen epoch {current}")
            }
        }
    }
}

impl std::error::Error for SequenceError {}

/// One batch of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    base_offset: i64,
    timestamp: i64,
    last_sequence: i32,
    last_offset_delta: i32,
}

impl Appended {
    const NONE: Appended = Appended { base_offset: 0, timestamp: 0, last_sequence: -1, last_offset_delta: 0 };

    fn first_sequence(&self) -> i32 {
        self.last_sequence.wrapping_sub(self.last_offset_delta) & i32::MAX
    }

    fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }
}

/// One producer. The batches lie inline: an entry never allocates.
#[derive(Clone, Debug)]
struct Entry {
    producer_id: i64,
    /// Max timestamp of the newest batch, ms since 1970: what expiry goes by.
    last_ms: i64,
    /// The producer that wrote last before this one did, and the one after it.
    older: u32,
    newer: u32,
    epoch: i16,
    kept: u8,
    batches: [Appended; BATCHES_KEPT],
}

impl Entry {
    fn batches(&self) -> &[Appended] {
        &self.batches[..usize::from(self.kept)]
    }

    fn push(&mut self, batch: Appended) {
        if usize::from(self.kept) == BATCHES_KEPT {
            self.batches.copy_within(1.., 0);
            self.kept -= 1;
        }
        self.batches[usize::from(self.kept)] = batch;
        self.kept += 1;
    }
}

/// The idempotent producers of one partition.
///
/// At most `max` are remembered. When one more comes, the one that wrote longest ago is forgotten: should it write
/// again, its next batch is taken whatever its sequence number, as is any unknown producer's, so that a
/// retry from before could be appended twice.
#[derive(Clone, Debug)]
pub struct Producers {
    entries: Vec<Entry>,
    /// Seeded at random, as clients choose the ids; nothing ever depends on the map's order.
    by_id: HashMap<i64, u32, foldhash::fast::RandomState>,
    oldest: u32,
    newest: u32,
    max: u32,
    /// No producer's `last_ms` is below: while this one cannot have expired, none has.
    earliest_ms: i64,
}

impl Producers {
    /// No producers, and room for `max`.
    ///
    /// # Panics
    /// When `max` is 0 or `u32::MAX`.
    pub fn new(max: u32) -> Producers {
        assert!((1..NIL).contains(&max), "room for at least one producer, and a number for none");
        let by_id = HashMap::with_hasher(foldhash::fast::RandomState::default());
        Producers { entries: Vec::new(), by_id, oldest: NIL, newest: NIL, max, earliest_ms: i64::MAX }
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no producer is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Says what to do with a batch that a client sent.
    ///
    /// In this order, as Kafka: a duplicate of one of the five last batches in the same epoch; an older epoch
    /// is refused; a newer one starts with sequence number 0; within an epoch numbers follow one another, 0
    /// after `i32::MAX`. A producer that is not remembered may start anywhere.
    pub fn check(&self, batch: &BatchInfo) -> Verdict {
        let Some(entry) = self.entry(batch.producer_id) else { return Verdict::Append };
        let (epoch, first) = (batch.producer_epoch, batch.base_sequence);
        if epoch < entry.epoch {
            return Verdict::Refused(SequenceError::InvalidEpoch { found: epoch, current: entry.epoch });
        }
        if epoch > entry.epoch {
            return match first {
                0 => Verdict::Append,
                _ => Verdict::Refused(SequenceError::OutOfOrder { found: first, expected: 0 }),
            };
        }
        let last = batch.last_sequence();
        let same = |kept: &&Appended| kept.first_sequence() == first && kept.last_sequence == last;
        if let Some(original) = entry.batches().iter().find(same) {
            return Verdict::Duplicate {
                base_offset: original.base_offset,
                last_offset: original.last_offset(),
                timestamp: original.timestamp,
            };
        }
        let newest = entry.batches().last().expect("a producer is remembered by its batches");
        let expected = newest.last_sequence.wrapping_add(1) & i32::MAX;
        if first == expected {
            Verdict::Append
        } else {
            Verdict::Refused(SequenceError::OutOfOrder { found: first, expected })
        }
    }

    /// Takes note of a batch that was appended at `base_offset`, or was found there by recovery or came from
    /// the leader: it is not questioned. Batches without sequence numbers and control batches leave no trace.
    ///
    /// For expiry the batch's own max timestamp counts, as in Kafka: it is the same before and after a restart, and
    /// on every replica.
    pub fn apply(&mut self, batch: &BatchInfo, base_offset: i64) {
        if !batch.has_producer_id() || batch.base_sequence < 0 || batch.is_control() {
            return;
        }
        let at = match self.by_id.get(&batch.producer_id) {
            Some(at) => *at,
            None => self.insert(batch.producer_id, batch.producer_epoch),
        };
        let entry = self.at_mut(at);
        if entry.epoch != batch.producer_epoch {
            (entry.epoch, entry.kept) = (batch.producer_epoch, 0);
        }
        entry.push(Appended {
            base_offset,
            timestamp: batch.max_timestamp,
            last_sequence: batch.last_sequence(),
            last_offset_delta: batch.last_offset_delta,
        });
        self.unlink(at);
        self.link_newest(at);
        self.date(at, batch.max_timestamp);
    }

    /// The producers remembered, the one that wrote longest ago first.
    pub fn active(&self) -> impl Iterator<Item = ActiveProducer> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(index(at))?;
            at = entry.newer;
            let newest = entry.batches().last().expect("a producer is remembered by its batches");
            Some(ActiveProducer {
                producer_id: entry.producer_id,
                epoch: entry.epoch,
                last_sequence: newest.last_sequence,
                last_timestamp: newest.timestamp,
            })
        })
    }

    /// Forgets producers whose newest batch's max timestamp is `expiration_ms` old (`producer.id.expiration.ms`).
    /// Returns how many. Costs nothing while none can have expired.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> usize {
        let is_over = |last_ms: i64| now_ms.saturating_sub(last_ms) >= expiration_ms;
        if !is_over(self.earliest_ms) {
            return 0;
        }
        let before = self.len();
        let mut at = 0;
        self.earliest_ms = i64::MAX;
        while let Some(entry) = self.entries.get(index(at)) {
            if is_over(entry.last_ms) {
                // Another entry takes its place.
                self.remove(at);
            } else {
                self.earliest_ms = self.earliest_ms.min(entry.last_ms);
                at += 1;
            }
        }
        before - self.len()
    }

    /// Forgets every batch that does not lie wholly below `offset`, and producers of whom nothing is left.
    ///
    /// What a removed batch had displaced (a sixth batch, an older epoch) does not come back: whoever has a
    /// [snapshot](Producers::snapshot) from below `offset` does better to restore it and apply what follows.
    pub fn truncate(&mut self, offset: i64) {
        let mut at = 0;
        while let Some(entry) = self.entries.get_mut(index(at)) {
            let kept = entry.batches().iter().take_while(|batch| batch.last_offset() < offset).count();
            entry.kept = u8::try_from(kept).expect("five at most");
            if kept == 0 {
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }

    /// Appends all state to `out`, for a checkpoint, which adds the checksum.
    pub fn snapshot(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.len()).expect("at most `max`, a u32");
        let head = SnapshotHead { version: U16::new(SNAPSHOT_VERSION), producers: U32::new(count) };
        out.extend_from_slice(head.as_bytes());
        let mut at = self.oldest;
        while let Some(entry) = self.entries.get(index(at)) {
            let head = SnapshotEntry {
                producer_id: I64::new(entry.producer_id),
                last_ms: I64::new(entry.last_ms),
                epoch: I16::new(entry.epoch),
                batches: entry.kept,
            };
            out.extend_from_slice(head.as_bytes());
            for batch in entry.batches() {
                let batch = SnapshotBatch {
                    base_offset: I64::new(batch.base_offset),
                    timestamp: I64::new(batch.timestamp),
                    last_sequence: I32::new(batch.last_sequence),
                    last_offset_delta: I32::new(batch.last_offset_delta),
                };
                out.extend_from_slice(batch.as_bytes());
            }
            at = entry.newer;
        }
    }

    /// State from the bytes of a [snapshot](Producers::snapshot). Where it has more than `max` producers, those
    /// that wrote longest ago are left out.
    ///
    /// # Errors
    /// When the bytes are not exactly a snapshot of a known version.
    pub fn restore(bytes: &[u8], max: u32) -> Result<Producers, SnapshotError> {
        let (head, mut rest) = SnapshotHead::ref_from_prefix(bytes).map_err(|_| SnapshotError::CutShort)?;
        if head.version.get() != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(head.version.get()));
        }
        let mut producers = Producers::new(max);
        for _ in 0..head.producers.get() {
            let (entry, after) = SnapshotEntry::ref_from_prefix(rest).map_err(|_| SnapshotError::CutShort)?;
            let count = usize::from(entry.batches);
            let id = entry.producer_id.get();
            if !(1..=BATCHES_KEPT).contains(&count) || id < 0 || producers.by_id.contains_key(&id) {
                return Err(SnapshotError::Content);
            }
            let (batches, after) = <[SnapshotBatch]>::ref_from_prefix_with_elems(after, count)
                .map_err(|_| SnapshotError::CutShort)?;
            let at = producers.insert(id, entry.epoch.get());
            for batch in batches {
                producers.at_mut(at).push(batch.appended().ok_or(SnapshotError::Content)?);
            }
            producers.date(at, entry.last_ms.get());
            rest = after;
        }
        if rest.is_empty() { Ok(producers) } else { Err(SnapshotError::Content) }
    }

    /// Asserts what always holds; for tests and simulation, as it visits every producer.
    pub fn assert_invariants(&self) {
        assert!(self.entries.len() <= index(self.max), "no more producers than allowed");
        assert_eq!(self.entries.len(), self.by_id.len(), "each producer is found by its id");
        let (mut at, mut older, mut count) = (self.oldest, NIL, 0);
        while let Some(entry) = self.entries.get(index(at)) {
            assert_eq!(self.by_id.get(&entry.producer_id), Some(&at), "the map leads to the entry");
            assert_eq!(entry.older, older, "the list reads the same both ways");
            assert!(entry.last_ms >= self.earliest_ms, "expiry overlooks none");
            assert!(entry.kept > 0, "a producer is remembered by its batches");
            assert!(entry.batches().is_sorted_by_key(|batch| batch.base_offset), "batches come in order");
            (older, count) = (at, count + 1);
            at = entry.newer;
        }
        assert_eq!((self.newest, count), (older, self.entries.len()), "the list has every producer");
    }

    fn entry(&self, producer_id: i64) -> Option<&Entry> {
        self.by_id.get(&producer_id).map(|at| &self.entries[index(*at)])
    }

    fn at_mut(&mut self, at: u32) -> &mut Entry {
        &mut self.entries[index(at)]
    }

    /// Adds a producer as the newest, without batches; forgets the oldest when there is no room.
    fn insert(&mut self, producer_id: i64, epoch: i16) -> u32 {
        if self.len() == index(self.max) {
            self.remove(self.oldest);
        }
        let at = u32::try_from(self.len()).expect("below `max`, a u32");
        self.entries.push(Entry {
            producer_id,
            last_ms: i64::MAX,
            older: NIL,
            newer: NIL,
            epoch,
            kept: 0,
            batches: [Appended::NONE; BATCHES_KEPT],
        });
        self.by_id.insert(producer_id, at);
        self.link_newest(at);
        at
    }

    /// Notes what a producer's expiry goes by.
    fn date(&mut self, at: u32, last_ms: i64) {
        self.at_mut(at).last_ms = last_ms;
        self.earliest_ms = self.earliest_ms.min(last_ms);
    }

    fn remove(&mut self, at: u32) {
        self.unlink(at);
        let removed = self.entries.swap_remove(index(at));
        self.by_id.remove(&removed.producer_id);
        // The last entry took the place of the removed one: whoever points at it must follow.
        let Some(moved) = self.entries.get(index(at)) else { return };
        let (id, older, newer) = (moved.producer_id, moved.older, moved.newer);
        self.by_id.insert(id, at);
        self.set_newer_of(older, at);
        self.set_older_of(newer, at);
    }

    fn unlink(&mut self, at: u32) {
        let (older, newer) = (self.entries[index(at)].older, self.entries[index(at)].newer);
        self.set_newer_of(older, newer);
        self.set_older_of(newer, older);
    }

    fn link_newest(&mut self, at: u32) {
        let older = self.newest;
        let entry = self.at_mut(at);
        (entry.older, entry.newer) = (older, NIL);
        self.set_newer_of(older, at);
        self.newest = at;
    }

    fn set_newer_of(&mut self, at: u32, newer: u32) {
        match at {
            NIL => self.oldest = newer,
            at => self.at_mut(at).newer = newer,
        }
    }

    fn set_older_of(&mut self, at: u32, older: u32) {
        match at {
            NIL => self.newest = older,
            at => self.at_mut(at).older = older,
        }
    }
}

/// `NIL` becomes an index that no vector has.
fn index(at: u32) -> usize {
    usize::try_from(at).expect("a usize has 32 bits and more")
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SnapshotHead {
    version: U16,
    producers: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SnapshotEntry {
    producer_id: I64,
    last_ms: I64,
    epoch: I16,
    batches: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SnapshotBatch {
    base_offset: I64,
    timestamp: I64,
    last_sequence: I32,
    last_offset_delta: I32,
}

impl SnapshotBatch {
    /// `None` for values that no batch has.
    fn appended(&self) -> Option<Appended> {
        let batch = Appended {
            base_offset: self.base_offset.get(),
            timestamp: self.timestamp.get(),
            last_sequence: self.last_sequence.get(),
            last_offset_delta: self.last_offset_delta.get(),
        };
        let end = batch.base_offset.checked_add(i64::from(batch.last_offset_delta))?;
        let sane = batch.base_offset >= 0 && batch.last_offset_delta >= 0 && batch.last_sequence >= 0;
        (sane && end >= batch.base_offset).then_some(batch)
    }
}

/// Why bytes are not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// A version of the format that is not known here.
    Version(u16),
    /// The bytes end too early.
    CutShort,
    /// Values that no snapshot has, or bytes behind its end.
    Content,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Version(version) => write!(f, "version {version} of producer state is unknown"),
            SnapshotError::CutShort => write!(f, "producer state is cut short"),
            SnapshotError::Content => write!(f, "producer state has impossible values"),
        }
    }
}

impl std::error::Error for SnapshotError {}

#[cfg(test)]
#[path = "producer_tests.rs"]
mod tests;
