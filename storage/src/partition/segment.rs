//! A segment that is not sealed yet: the one being appended to, or one that was rolled and waits for its last
//! bytes to be written and synced.

use crate::index::{SCAN_INTERVAL_BYTES, SegmentIndex};

/// See the module's documentation. Positions are bytes in the segment's file.
pub(crate) struct OpenSegment {
    /// Offset of its first record; names its file.
    pub base: i64,
    /// Offset after its last record.
    pub end: i64,
    /// Bytes appended.
    pub bytes: u64,
    /// Bytes whose commit is durable: what may be written to the file.
    pub durable: u64,
    /// Bytes that are in the file (not necessarily synced).
    pub written: u64,
    /// Bytes of it that were in the file when it was last synced.
    pub synced: u64,
    /// Bytes for which blocks are reserved.
    pub allocated: u64,
    /// Largest record timestamp, -1 while empty.
    pub max_timestamp: i64,
    /// The same of the records that are durable.
    pub durable_max_timestamp: i64,
    /// Wall clock of the first append of this segment that this process saw, ms.
    pub first_append_ms: Option<i64>,
    /// Index of the bytes from `indexed_from` on. What lies before was written by an earlier process and is
    /// indexed from the file where it is needed.
    pub index: SegmentIndex,
    /// See `index`.
    pub indexed_from: u64,
    /// Checkpoints may say that the segment ends inside its last block: the next append logs that block's bytes
    /// first, because replay begins there and the block, written again, may be torn.
    pub wants_image: bool,
    /// The producers before its first record, encoded, until they are in its snapshot; empty where there are none.
    pub snapshot: Vec<u8>,
    /// A random number: which part of `segment.jitter.ms` is taken off its age.
    jitter: u64,
}

impl OpenSegment {
    /// An empty segment. `jitter` is random.
    pub fn new(base: i64, jitter: u64) -> OpenSegment {
        OpenSegment {
            base,
            end: base,
            bytes: 0,
            durable: 0,
            written: 0,
            synced: 0,
            allocated: 0,
            max_timestamp: -1,
            durable_max_timestamp: -1,
            first_append_ms: None,
            index: SegmentIndex::new(base),
            indexed_from: 0,
            wants_image: false,
            snapshot: Vec::new(),
            jitter,
        }
    }

    /// The age at which it is closed, ms: `segment.ms` less a random part of `segment.jitter.ms`, as in Kafka.
    pub fn age_max(&self, segment_ms: i64, jitter_ms: i64) -> i64 {
        match u64::try_from(jitter_ms.min(segment_ms)) {
            Ok(most) if most > 0 => segment_ms - (self.jitter % most) as i64,
            _ => segment_ms,
        }
    }

    /// Bytes of its index once one more batch is in it, at most.
    pub fn index_bytes_with_next(&self, interval_bytes: u32) -> u64 {
        if self.indexed_from == 0 {
            self.index.encoded_bytes_with_next(interval_bytes) as u64
        } else {
            // The index of a segment that an earlier process began is made by reading all of it.
            SegmentIndex::encoded_bytes_of(self.bytes, SCAN_INTERVAL_BYTES)
        }
    }

    /// Bytes to have reserved once `to` bytes are written: steps that grow with the file.
    pub fn allocation_for(&self, to: u64, segment_bytes: u64) -> u64 {
        const STEP_MIN: u64 = 64 << 10;
        const STEP_MAX: u64 = 16 << 20;
        let step = self.allocated.clamp(STEP_MIN, STEP_MAX);
        let wanted = crate::disk::block_ceil(to.max((self.allocated + step).min(segment_bytes)));
        if to <= self.allocated { self.allocated } else { wanted }
    }
}
