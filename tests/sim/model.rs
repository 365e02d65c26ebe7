//! What the simulated store must hold: every batch that was ever given to it, what was acknowledged, what was
//! asked for. The checks compare the store with this and with nothing that the store says of itself.

use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{BatchInfo, peek};
use ringlog_storage::epochs::Epochs;
use ringlog_storage::producer::{SequenceError, Verdict};
use ringlog_storage::wal::Lsn;
use std::collections::BTreeMap;

/// A batch as it was stored.
pub struct Batch {
    pub info: BatchInfo,
    pub bytes: Vec<u8>,
    pub lsn: Lsn,
    /// Where it lies: base offset of the segment and position in it.
    pub segment: i64,
    pub position: u64,
}

impl Batch {
    pub fn end(&self) -> i64 {
        self.info.last_offset() + 1
    }
}

/// How far the deletion of a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    No,
    Asked(Lsn),
    Acknowledged,
}

/// A partition as it must be.
pub struct Partition {
    pub key: PartitionKey,
    pub batches: Vec<Batch>,
    /// Records below it were acknowledged.
    pub acknowledged: i64,
    /// Log start offsets asked for in this life, the first one acknowledged.
    pub starts: Vec<(Lsn, i64)>,
    pub deletion: Deletion,
}

impl Partition {
    pub fn new(key: PartitionKey) -> Partition {
        let starts = vec![(0, 0)];
        Partition { key, batches: Vec::new(), acknowledged: 0, starts, deletion: Deletion::No }
    }

    /// Offset after the last batch that was appended.
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, Batch::end)
    }

    /// The log start offset last asked for.
    pub fn start(&self) -> i64 {
        self.starts.last().expect("never empty").1
    }

    /// Takes note that the store acknowledges all below `offset`; `durable` is what the disk really has.
    pub fn acknowledge(&mut self, offset: i64, durable: Lsn) {
        assert!(offset >= self.acknowledged, "{}: acknowledgements move forward", self.key);
        let from = self.batches.partition_point(|b| b.end() <= self.acknowledged);
        for batch in self.batches[from..].iter().take_while(|b| b.end() <= offset) {
            assert!(batch.lsn <= durable, "{}: offset {offset} acknowledged before durable", self.key);
        }
        self.acknowledged = offset;
    }

    /// Takes note that log starts up to frame `lsn` are acknowledged.
    pub fn acknowledge_starts(&mut self, acknowledged: Lsn, durable: Lsn) {
        while self.starts.len() > 1 && self.starts[1].0 <= acknowledged {
            assert!(self.starts[1].0 <= durable, "{}: log start acknowledged before durable", self.key);
            self.starts.remove(0);
        }
    }

    /// What recovery found becomes what is; all that was acknowledged must be there, and no more than ever was.
    pub fn recovered(&mut self, start: i64, end: i64) {
        let key = self.key;
        assert!(end >= self.acknowledged, "{key}: acknowledged to {}, recovered to {end}", self.acknowledged);
        assert!(end <= self.end(), "{key}: recovered to {end}, appended to {} only", self.end());
        self.batches.retain(|b| b.end() <= end);
        assert_eq!(self.end(), end, "{key}: the recovered log ends with a batch");
        let acknowledged = self.starts[0].1;
        assert!(start >= acknowledged, "{key}: log start went back from {acknowledged} to {start}");
        assert!(self.starts.iter().any(|(_, s)| *s == start), "{key}: nobody asked for log start {start}");
        self.starts = vec![(0, start)];
        self.acknowledged = end;
        self.deletion = Deletion::No;
        self.batches.iter_mut().for_each(|b| b.lsn = 0);
    }

    /// Compares what a read of `offset` gave with the batches that are there. Returns the offset to go on with.
    pub fn check_read(&self, offset: i64, limit: i64, max_bytes: usize, bytes: &[u8], end: i64) -> i64 {
        let key = self.key;
        let first = self.batches.partition_point(|b| b.end() <= offset);
        let (mut at, mut next) = (0, offset);
        for batch in &self.batches[first..] {
            if at == bytes.len() {
                break;
            }
            assert!(
                batch.end() <= limit,
                "{key}: a read below {limit} gave offset {}",
                batch.info.last_offset()
            );
            let to = at + batch.bytes.len();
            assert!(to <= bytes.len(), "{key}: a read of {offset} ends inside the batch at {next}");
            assert!(bytes[at..to] == batch.bytes, "{key}: other bytes at offset {}", batch.info.base_offset);
            assert!(at == 0 || to <= max_bytes, "{key}: a read of {offset} gave too many bytes");
            (at, next) = (to, batch.end());
        }
        assert_eq!(at, bytes.len(), "{key}: a read of {offset} gave more than was appended");
        assert!(bytes.is_empty() || end == next, "{key}: a read of {offset} ends at {next}, not at {end}");
        next
    }

    /// Checks that bytes written to a segment's file are those appended there, and durable in the WAL.
    pub fn check_segment_write(&self, segment: i64, position: u64, bytes: &[u8], durable: Lsn) {
        let key = self.key;
        let mut covered = position;
        let end = position + bytes.len() as u64;
        for batch in self.batches.iter().filter(|b| b.segment == segment) {
            let (from, to) =
                (batch.position.max(position), (batch.position + batch.bytes.len() as u64).min(end));
            if from >= to {
                continue;
            }
            let written = &bytes[(from - position) as usize..(to - position) as usize];
            let expected = &batch.bytes[(from - batch.position) as usize..(to - batch.position) as usize];
            let is_padding = written != expected || batch.lsn > durable;
            if is_padding && written.iter().all(|b| *b == 0) {
                // Padding: the batch was not durable, or not there, when the write was made.
                break;
            }
            assert!(written == expected, "{key}: other bytes at {from} of segment {segment}");
            assert!(
                batch.lsn <= durable,
                "{key}: bytes {from}..{to} of segment {segment} written before frame {} is durable",
                batch.lsn
            );
            assert_eq!(covered, from, "{key}: a hole is written into segment {segment}");
            covered = to;
        }
        let padding = &bytes[(covered - position) as usize..];
        assert!(padding.iter().all(|b| *b == 0), "{key}: bytes that nobody appended in segment {segment}");
    }

    /// What must be said of a batch, from the batches that are there alone.
    pub fn judge(&self, info: &BatchInfo) -> Verdict {
        let mut epoch = None;
        let mut kept: Vec<&Batch> = Vec::new();
        for batch in self.batches.iter().filter(|b| b.info.producer_id == info.producer_id) {
            if epoch != Some(batch.info.producer_epoch) {
                epoch = Some(batch.info.producer_epoch);
                kept.clear();
            }
            kept.push(batch);
        }
        let (Some(epoch), Some(last)) = (epoch, kept.last()) else { return Verdict::Append };
        if info.producer_epoch < epoch {
            let (found, current) = (info.producer_epoch, epoch);
            return Verdict::Refused(SequenceError::InvalidEpoch { found, current });
        }
        let (found, mut expected) = (info.base_sequence, 0);
        if info.producer_epoch == epoch {
            expected = last.info.last_sequence().wrapping_add(1) & i32::MAX;
            let same = |b: &&&Batch| {
                b.info.base_sequence == info.base_sequence && b.info.last_sequence() == info.last_sequence()
            };
            if let Some(original) = kept.iter().rev().take(5).find(same) {
                return Verdict::Duplicate {
                    base_offset: original.info.base_offset,
                    last_offset: original.info.last_offset(),
                    timestamp: original.info.max_timestamp,
                };
            }
        }
        if found == expected {
            Verdict::Append
        } else {
            Verdict::Refused(SequenceError::OutOfOrder { found, expected })
        }
    }

    /// The leader epochs that the batches tell.
    pub fn epochs(&self) -> Epochs {
        let mut epochs = Epochs::new();
        for batch in &self.batches {
            epochs.assign(batch.info.leader_epoch, batch.info.base_offset);
        }
        epochs.truncate_from_start(self.start());
        epochs
    }
}

/// All partitions that were ever made.
#[derive(Default)]
pub struct Model {
    pub partitions: BTreeMap<PartitionKey, Partition>,
}

impl Model {
    pub fn get(&mut self, key: &PartitionKey) -> &mut Partition {
        self.partitions.get_mut(key).expect("a partition of the model")
    }
}

/// A batch of the model from its stored bytes.
pub fn batch(bytes: Vec<u8>, lsn: Lsn, segment: i64, position: u64) -> Batch {
    let info = peek(&bytes).expect("a stored batch");
    Batch { info, bytes, lsn, segment, position }
}
