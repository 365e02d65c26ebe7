//! Random batches: plain ones, those of idempotent producers with their mistakes, large ones, and such whose
//! payload pretends to be commits of the WAL.

use crate::counts::Counts;
use crate::model::Partition;
use crate::rng::Rng;
use ringlog_storage::batch::{BatchBuilder, Checked, Compression, Rules, TimestampType, check};
use ringlog_storage::compression::Codec;
use ringlog_storage::disk::BLOCK;
use ringlog_storage::producer::{SequenceError, Verdict};
use ringlog_storage::wal::format::{COMMIT_HEAD, CommitInfo, FRAME_HEAD, FileUse, seal_commit};

/// Makes batches that all differ.
pub struct Traffic {
    rng: Rng,
    stamp: u64,
}

pub fn rules() -> Rules {
    Rules {
        max_message_bytes: usize::MAX,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        compression: Compression::Producer,
        keys_required: false,
        decompressed_max_bytes: 1 << 20,
        zstd_allowed: true,
        from_coordinator: false,
    }
}

/// Checks a batch as the broker would.
pub fn checked(bytes: &[u8]) -> Checked<'_> {
    check(bytes, &rules(), 0).expect("a batch by the rules")
}

impl Traffic {
    pub fn new(rng: Rng) -> Traffic {
        Traffic { rng, stamp: 0 }
    }

    /// Bytes of which no two pieces are the same.
    fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![(self.rng.next() & 0xff) as u8; len];
        for chunk in bytes.chunks_mut(256).filter(|chunk| chunk.len() >= 8) {
            self.stamp += 1;
            chunk[..8].copy_from_slice(&self.stamp.to_le_bytes());
        }
        bytes
    }

    fn size(&mut self, large_percent: u64, counts: &mut Counts) -> usize {
        if !self.rng.percent(large_percent) {
            return self.rng.between(0, 1500) as usize;
        }
        counts.note("large appends");
        if self.rng.percent(6) {
            counts.note("batches larger than a commit");
            return self.rng.between(1 << 20, 1_100_000) as usize;
        }
        self.rng.between(4_000, 150_000) as usize
    }

    /// A batch for a partition, or `None` where a mistake of its producer was refused or found a duplicate.
    pub fn batch(&mut self, to: &Partition, large_percent: u64, counts: &mut Counts) -> Vec<u8> {
        let size = self.size(large_percent, counts);
        let records = self.rng.between(1, 4);
        let mut builder = BatchBuilder::new(Codec::None);
        if self.rng.percent(60) {
            let (id, epoch, sequence) = self.producer(to);
            builder = builder.producer(id, epoch, sequence);
        }
        for _ in 0..records {
            let value = self.payload(size / records as usize);
            builder.push(self.rng.between(1, 1000) as i64, None, Some(&value), &[]);
        }
        builder.build(0, -1)
    }

    /// A producer and where its next batch starts, right four times in five.
    fn producer(&mut self, to: &Partition) -> (i64, i16, i32) {
        let id = self.rng.between(1, 3) as i64;
        let Some(last) = to.log.batches.iter().rev().find(|b| b.info.producer_id == id) else {
            return (id, 0, self.rng.pick(&[0, 7, i32::MAX - 1]));
        };
        let (epoch, next) = (last.info.producer_epoch, last.info.last_sequence().wrapping_add(1) & i32::MAX);
        match self.rng.below(20) {
            0 => (id, epoch + 1, 0),
            1 => (id, epoch, next.wrapping_add(2) & i32::MAX),
            2 if epoch > 0 => (id, epoch - 1, next),
            _ => (id, epoch, next),
        }
    }

    /// One of the last batches of a producer again, if there is any.
    pub fn again(&mut self, of: &Partition) -> Option<Vec<u8>> {
        let own: Vec<_> =
            of.log.batches.iter().rev().take(12).filter(|b| b.info.base_sequence >= 0).collect();
        let batch = own.get(self.rng.index(own.len().max(1)))?;
        let mut bytes = batch.bytes.clone();
        bytes[..8].fill(0);
        Some(bytes)
    }

    /// A batch whose payload looks like commits, wherever it lies in a file at `position` as the first frame of
    /// a commit, if they had use id `use_id`.
    pub fn spoof(&mut self, position: u64, usage: &FileUse) -> Vec<u8> {
        let build = |value: &[u8]| {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(1, None, Some(value), &[]);
            builder.build(0, -1)
        };
        let blocks = self.rng.between(3, 8) as usize;
        let mut value = self.payload(BLOCK * blocks);
        // The value is followed by one byte, the number of headers.
        let start = COMMIT_HEAD + FRAME_HEAD + 16 + build(&value).len() - 1 - value.len();
        for block in 1..value.len() / BLOCK {
            let at = block * BLOCK - start;
            let info = CommitInfo {
                position: position + (block * BLOCK) as u64,
                first_lsn: 1_000_001,
                durable_lsn: 1_000_000,
                body_len: 0,
                frames: 0,
            };
            seal_commit(&mut value[at..at + COMMIT_HEAD], usage, &info);
        }
        build(&value)
    }
}

/// Compares the verdict on a batch with the one that must be. Returns whether to append it.
pub fn agree(expected: Verdict, verdict: Verdict, counts: &mut Counts) -> bool {
    assert_eq!(expected, verdict, "what is said of an idempotent producer's batch");
    match verdict {
        Verdict::Append => return true,
        Verdict::Duplicate { .. } => counts.note("duplicates"),
        Verdict::Refused(SequenceError::OutOfOrder { .. }) => counts.note("out of order"),
        Verdict::Refused(SequenceError::InvalidEpoch { .. }) => counts.note("stale epochs"),
    }
    false
}
