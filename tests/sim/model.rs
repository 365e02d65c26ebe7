//! What the simulated store must hold: every batch that was ever given to it, what was acknowledged, what was
//! asked for. The checks compare the store with this and with nothing that the store says of itself.

use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{BatchInfo, peek};
use ringlog_storage::epochs::{EpochStart, Epochs};
use ringlog_storage::producer::{SequenceError, Verdict};
use ringlog_storage::wal::Lsn;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// A batch as it was stored.
pub struct Batch {
    pub info: BatchInfo,
    pub bytes: Vec<u8>,
    /// Its frame, 0 in later lives.
    pub lsn: Cell<Lsn>,
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

/// Something that a frame says.
pub enum Change {
    Append(Rc<Batch>),
    /// The log start moved.
    Start(i64),
    /// The log ends here.
    Cut(i64),
    /// Everything is gone, and the log goes on here.
    Restart(i64),
    Epoch(i32),
    Watermark(i64),
}

/// A partition's log as of one of its frames.
#[derive(Clone, Default)]
pub struct Log {
    /// Every batch, also those below the log start.
    pub batches: Vec<Rc<Batch>>,
    pub start: i64,
    pub end: i64,
    pub watermark: i64,
    pub epochs: Epochs,
}

impl Log {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(batch) => {
                self.epochs.assign(batch.info.leader_epoch, batch.info.base_offset);
                self.end = batch.end();
                self.batches.push(Rc::clone(batch));
            }
            Change::Start(start) => {
                self.start = *start;
                self.watermark = self.watermark.max(*start);
                self.epochs.truncate_from_start(*start);
            }
            Change::Cut(end) => {
                self.batches.retain(|b| b.end() <= *end);
                self.end = *end;
                self.watermark = self.watermark.min(*end);
                self.epochs.truncate_from_end(*end);
            }
            Change::Restart(start) => {
                *self = Log { start: *start, end: *start, watermark: *start, ..Log::default() };
            }
            Change::Epoch(epoch) => {
                self.epochs.assign(*epoch, self.end);
            }
            Change::Watermark(offset) => self.watermark = *offset,
        }
    }

    fn facts(&self) -> Facts {
        let (start, end, watermark) = (self.start, self.end, self.watermark);
        Facts { start, end, watermark, epochs: self.epochs.entries().to_vec() }
    }

    /// Where a cut at `to` ends the log; `None` where nothing stays.
    fn cut_at(&self, to: i64) -> Option<i64> {
        let first = self.batches.iter().find(|b| b.end() > to).map_or(self.end, |b| b.info.base_offset);
        Some(first).filter(|end| *end >= self.start)
    }
}

/// What a store says of a log without reading it.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    pub start: i64,
    pub end: i64,
    pub watermark: i64,
    pub epochs: Vec<EpochStart>,
}

/// A truncation on its way.
pub struct Cutting {
    /// Only what lies below stays; without it nothing does.
    pub below: Option<i64>,
    /// Where the log then goes on.
    pub restart: i64,
    /// The frame that says so, once there is one.
    pub lsn: Option<Lsn>,
}

/// A partition as it must be.
pub struct Partition {
    pub key: PartitionKey,
    /// As of the last change asked for.
    pub log: Log,
    /// As of the last change acknowledged.
    known: Log,
    /// Changes after that one.
    changes: VecDeque<(Lsn, Change)>,
    /// Records below it were acknowledged.
    pub acknowledged: i64,
    /// The leader epoch of appends.
    pub epoch: i32,
    pub cutting: Option<Cutting>,
    /// Truncations in this life.
    pub cuts: u64,
    pub deletion: Deletion,
}

/// What a crash did to unacknowledged changes.
#[derive(Default)]
pub struct Outcome {
    pub lost_appends: bool,
    pub kept_appends: bool,
    pub lost_cuts: bool,
    pub kept_cuts: bool,
}

impl Partition {
    pub fn new(key: PartitionKey) -> Partition {
        Partition {
            key,
            log: Log::default(),
            known: Log::default(),
            changes: VecDeque::new(),
            acknowledged: 0,
            epoch: 0,
            cutting: None,
            cuts: 0,
            deletion: Deletion::No,
        }
    }

    /// Offset after the last batch that was appended.
    pub fn end(&self) -> i64 {
        self.log.end
    }

    /// The log start offset last asked for.
    pub fn start(&self) -> i64 {
        self.log.start
    }

    /// Takes note of a change that frame `lsn` says.
    pub fn change(&mut self, lsn: Lsn, change: Change) {
        self.log.apply(&change);
        self.changes.push_back((lsn, change));
    }

    /// Takes note that the truncation on its way is logged by frame `lsn`.
    pub fn cut(&mut self, lsn: Lsn) {
        let cutting = self.cutting.as_mut().expect("a truncation was asked for");
        cutting.lsn = Some(lsn);
        let restart = cutting.restart.max(self.log.start);
        let end = cutting.below.and_then(|to| self.log.cut_at(to));
        self.change(lsn, end.map_or(Change::Restart(restart), Change::Cut));
        self.acknowledged = end.map_or(restart, |end| self.acknowledged.min(end));
        // Never twice other bytes at the same offset in the same epoch.
        self.epoch += 1;
        self.cuts += 1;
    }

    /// Takes note that the store acknowledges all below `offset`; `durable` is what the disk really has.
    pub fn acknowledge(&mut self, offset: i64, durable: Lsn) {
        assert!(offset >= self.acknowledged, "{}: acknowledgements move forward", self.key);
        let from = self.log.batches.partition_point(|b| b.end() <= self.acknowledged);
        for batch in self.log.batches[from..].iter().take_while(|b| b.end() <= offset) {
            assert!(batch.lsn.get() <= durable, "{}: offset {offset} acknowledged before durable", self.key);
        }
        self.acknowledged = offset;
    }

    /// Takes note that frames up to `acknowledged` are.
    pub fn acknowledge_frames(&mut self, acknowledged: Lsn, durable: Lsn) {
        while self.changes.front().is_some_and(|(lsn, _)| *lsn <= acknowledged) {
            let (lsn, change) = self.changes.pop_front().expect("looked at just above");
            assert!(lsn <= durable, "{}: frame {lsn} acknowledged before durable", self.key);
            self.known.apply(&change);
        }
    }

    /// What recovery found becomes what is: the log as of some frame, the last one acknowledged or a later one.
    pub fn recovered(&mut self, found: &Facts) -> Outcome {
        let key = self.key;
        let mut log = self.known.clone();
        let mut matching = (log.facts() == *found).then(|| (log.clone(), 0));
        for (at, (_, change)) in self.changes.iter().enumerate() {
            log.apply(change);
            if log.facts() == *found {
                matching = Some((log.clone(), at + 1));
            }
        }
        let Some((log, kept)) = matching else {
            panic!(
                "{key}: acknowledged {:?}, asked for {:?}, recovered {found:?}",
                self.known.facts(),
                self.log.facts()
            );
        };
        let mut outcome = Outcome::default();
        for (at, (_, change)) in self.changes.drain(..).enumerate() {
            match change {
                Change::Append(_) if at < kept => outcome.kept_appends = true,
                Change::Append(_) => outcome.lost_appends = true,
                Change::Cut(_) | Change::Restart(_) if at < kept => outcome.kept_cuts = true,
                Change::Cut(_) | Change::Restart(_) => outcome.lost_cuts = true,
                _ => {}
            }
        }
        log.batches.iter().for_each(|b| b.lsn.set(0));
        self.known = log.clone();
        self.log = log;
        self.acknowledged = self.end();
        (self.cutting, self.cuts) = (None, 0);
        self.deletion = Deletion::No;
        outcome
    }

    /// Whether the store says of the log what must be said.
    pub fn check_facts(&self, found: &Facts) {
        assert_eq!(*found, self.log.facts(), "{}: what is said of the log", self.key);
    }

    /// Compares what a read of `offset` gave with the batches that are there. Returns the offset to go on with.
    pub fn check_read(&self, offset: i64, limit: i64, max_bytes: usize, bytes: &[u8], end: i64) -> i64 {
        let key = self.key;
        let first = self.log.batches.partition_point(|b| b.end() <= offset);
        let (mut at, mut next) = (0, offset);
        for batch in &self.log.batches[first..] {
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
        for batch in self.log.batches.iter().filter(|b| b.segment == segment) {
            let (from, to) =
                (batch.position.max(position), (batch.position + batch.bytes.len() as u64).min(end));
            if from >= to {
                continue;
            }
            let written = &bytes[(from - position) as usize..(to - position) as usize];
            let expected = &batch.bytes[(from - batch.position) as usize..(to - batch.position) as usize];
            let is_padding = written != expected || batch.lsn.get() > durable;
            if is_padding && written.iter().all(|b| *b == 0) {
                // Padding: the batch was not durable, or not there, when the write was made.
                break;
            }
            assert!(written == expected, "{key}: other bytes at {from} of segment {segment}");
            assert!(
                batch.lsn.get() <= durable,
                "{key}: bytes {from}..{to} of segment {segment} written before frame {} is durable",
                batch.lsn.get()
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
        let mut kept: Vec<&Rc<Batch>> = Vec::new();
        for batch in self.log.batches.iter().filter(|b| b.info.producer_id == info.producer_id) {
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
            let same = |b: &&&Rc<Batch>| {
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
pub fn batch(bytes: Vec<u8>, lsn: Lsn, segment: i64, position: u64) -> Rc<Batch> {
    let info = peek(&bytes).expect("a stored batch");
    Rc::new(Batch { info, bytes, lsn: Cell::new(lsn), segment, position })
}
