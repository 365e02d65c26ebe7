//! All the storage of one shard: its WAL, its partitions, their segments and checkpoints.
//!
//! Contract of [`Store`], a pure machine:
//! - in: [`open`](Store::open), [`append`](Store::append), [`advance_start`](Store::advance_start),
//!   [`delete`](Store::delete); completions by [`commit_written`](Store::commit_written) and
//!   [`job_done`](Store::job_done); time by [`tick`](Store::tick);
//! - out: commits to write ([`next_commit`](Store::next_commit)), blocking jobs ([`next_job`](Store::next_job)),
//!   events ([`next_event`](Store::next_event)), the [`next_deadline`](Store::next_deadline);
//! - [`check`](Store::check) asserts every invariant.
//!
//! Commits and jobs may complete in any order. A job that returns an error must stop the process: what is on the
//! disk is unknowable. Write-ahead: no byte reaches a segment before its commit is durable, nothing is removed
//! before the frame that says so is durable, no WAL file is used again before all it holds is in synced segments
//! and in a checkpoint.

mod cycle;
#[cfg(test)]
pub(crate) mod fixture;
mod jobs;
mod read;
mod search;
mod truncate;

use crate::PartitionKey;
use crate::batch::{BatchInfo, Checked};
use crate::checkpoint::PartitionState;
use crate::job::{Job, JobId, Work};
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::partition::PartitionLog;
pub use crate::partition::{Appended, LogSettings, TailRead};
use crate::producer;
use crate::random::SplitMix;
use crate::wal::Lsn;
use crate::wal::format::{FileUse, Frame};
use crate::wal::writer::{CommitBuffer, WalSettings, WalWriter};
use cycle::Cycle;
use hashbrown::HashMap;
use jobs::{Out, Removal};
pub use read::{ColdRead, ReadPlan};
pub use search::TimeSearch;
use std::collections::{BTreeMap, VecDeque};

/// Writes and seals of segments that may be out at once.
pub const FLUSHES_MAX: usize = 8;
/// Removals that may be out at once, apart from those: deleting thousands of partitions leaves flushing its room. Fewer
/// than a shard has helper threads.
pub const REMOVALS_MAX: usize = 2;
/// Partitions looked at for something to evict, before waiting for more to be written.
const EVICTION_TRIES: usize = 64;
/// After how long an idle log states its durable LSN, ms.
const STATE_DURABLE_AFTER_MS: u64 = 5;
/// After how long a job that found the disk full is tried again, ms.
const RETRY_FULL_AFTER_MS: u64 = 250;

/// Handle of a partition in its shard's store. Not used again after the partition is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionIx(u32);

/// Sizes and limits of a shard's storage.
#[derive(Clone, Copy, Debug)]
pub struct StoreSettings {
    /// The WAL's.
    pub wal: WalSettings,
    /// Bytes of tail chunks kept in memory for readers; what is not written yet counts but is never dropped.
    pub memory_bytes: usize,
    /// A checkpoint begins once the WAL holds this many bytes...
    pub checkpoint_bytes: u64,
    /// ... or this long after the one before, if anything changed, ms.
    pub checkpoint_ms: u64,
}

/// What happened that others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// More of the partition is durable.
    Durable(PartitionIx),
    /// The block that appending waited for is there.
    BlockLoaded(PartitionIx),
    /// A truncation is durable and done: the log's end and all that follows from it are as they will stay.
    Truncated(PartitionIx),
    /// A truncation failed, because the segment to be cut is damaged before the place. Nothing was cut.
    TruncationFailed(PartitionIx),
}

/// What recovery hands to a shard's store.
pub struct StoreState {
    /// Shard number.
    pub shard: u32,
    /// Head of the prepared first WAL file of the new generation.
    pub first_file: FileUse,
    /// The shard's partitions.
    pub partitions: Vec<PartitionState>,
    /// Number of the next checkpoint file.
    pub next_checkpoint: u64,
}

struct Pending {
    lsn: Lsn,
    partition: PartitionIx,
    segment: i64,
    position: u64,
    end: i64,
    max_timestamp: i64,
}

/// See the module's documentation.
pub struct Store<B> {
    shard: u32,
    settings: StoreSettings,
    wal: WalWriter<B>,
    partitions: Vec<Option<PartitionLog>>,
    by_key: HashMap<PartitionKey, PartitionIx, foldhash::fast::RandomState>,
    recovered: BTreeMap<PartitionKey, PartitionState>,
    pending: VecDeque<Pending>,
    events: VecDeque<Event>,
    jobs: VecDeque<(JobId, Job)>,
    out: HashMap<JobId, Out, foldhash::fast::RandomState>,
    next_job: JobId,
    flushes_out: usize,
    removals_out: usize,
    flush: VecDeque<PartitionIx>,
    removals: VecDeque<Removal>,
    deletions: VecDeque<(Lsn, PartitionIx)>,
    loading: Vec<PartitionIx>,
    truncating: Vec<PartitionIx>,
    cycle: Cycle,
    memory: usize,
    eviction: VecDeque<PartitionIx>,
    now_ms: u64,
    idle_since: Option<u64>,
    full_since: Option<u64>,
    random: SplitMix,
}

impl<B: CommitBuffer> Store<B> {
    /// The store of a shard after recovery. `seed` is random: use ids and the jitter of
    /// segments' age are drawn from it.
    #[must_use]
    pub fn new(settings: StoreSettings, state: StoreState, seed: u64) -> Store<B> {
        Store {
            shard: state.shard,
            settings,
            wal: WalWriter::new(settings.wal, state.first_file),
            partitions: Vec::new(),
            by_key: HashMap::default(),
            recovered: state.partitions.into_iter().map(|p| (p.key, p)).collect(),
            pending: VecDeque::new(),
            events: VecDeque::new(),
            jobs: VecDeque::new(),
            out: HashMap::default(),
            next_job: 0,
            flushes_out: 0,
            removals_out: 0,
            flush: VecDeque::new(),
            removals: VecDeque::new(),
            deletions: VecDeque::new(),
            loading: Vec::new(),
            truncating: Vec::new(),
            cycle: Cycle::new(state.next_checkpoint),
            memory: 0,
            eviction: VecDeque::new(),
            now_ms: 0,
            idle_since: None,
            full_since: None,
            random: SplitMix::new(seed),
        }
    }

    /// Opens a partition of this shard: what recovery found of it, or an empty one. No I/O.
    pub fn open(&mut self, key: PartitionKey, settings: LogSettings) -> PartitionIx {
        if let Some(ix) = self.by_key.get(&key) {
            return *ix;
        }
        let recovered = self.recovered.remove(&key);
        let was_recovered = recovered.is_some();
        let state = recovered.unwrap_or_else(|| PartitionState::fresh(key));
        let ix =
            PartitionIx(u32::try_from(self.partitions.len()).expect("partitions of a shard are bounded"));
        self.partitions.push(Some(PartitionLog::new(&state, settings, SplitMix::new(self.random.draw()))));
        self.by_key.insert(key, ix);
        if was_recovered {
            self.capture_opened(ix);
        }
        ix
    }

    /// Changes a partition's settings, from the next append on.
    pub fn configure(&mut self, ix: PartitionIx, settings: LogSettings) {
        self.log_mut(ix).settings = settings;
    }

    fn log(&self, ix: PartitionIx) -> &PartitionLog {
        self.partitions[ix.0 as usize].as_ref().expect("the handle of a partition that is there")
    }

    fn log_mut(&mut self, ix: PartitionIx) -> &mut PartitionLog {
        self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there")
    }

    /// First offset that may be read.
    #[must_use]
    pub fn start_offset(&self, ix: PartitionIx) -> i64 {
        self.log(ix).log_start
    }

    /// Offset after the last record.
    #[must_use]
    pub fn end_offset(&self, ix: PartitionIx) -> i64 {
        self.log(ix).end()
    }

    /// Offset after the last record that is durable.
    #[must_use]
    pub fn durable_offset(&self, ix: PartitionIx) -> i64 {
        self.log(ix).durable_end
    }

    /// The high watermark last noted, which survives restarts. Never below the log start.
    #[must_use]
    pub fn high_watermark(&self, ix: PartitionIx) -> i64 {
        self.log(ix).high_watermark
    }

    /// Bytes of the partition's segments.
    #[must_use]
    pub fn bytes(&self, ix: PartitionIx) -> u64 {
        self.log(ix).bytes()
    }

    /// The partition's leader epoch history.
    #[must_use]
    pub fn epochs(&self, ix: PartitionIx) -> &crate::epochs::Epochs {
        &self.log(ix).epochs
    }

    /// The partition's idempotent producers.
    #[must_use]
    pub fn producers(&self, ix: PartitionIx) -> &producer::Producers {
        &self.log(ix).producers
    }

    /// What an idempotent producer's batch is: next in order, a duplicate, or wrong.
    #[must_use]
    pub fn judge(&self, ix: PartitionIx, info: &BatchInfo) -> producer::Verdict {
        self.log(ix).producers.check(info)
    }

    /// Forgets producers whose newest record is `expiration_ms` old.
    pub fn expire_producers(&mut self, ix: PartitionIx, now_ms: i64, expiration_ms: i64) {
        self.log_mut(ix).producers.expire(now_ms, expiration_ms);
    }

    /// The WAL's machine, for its figures.
    #[must_use]
    pub fn wal(&self) -> &WalWriter<B> {
        &self.wal
    }

    /// Bytes of memory that tail chunks take.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Whether blocking jobs are out or waiting.
    #[must_use]
    pub fn has_jobs_out(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the disk has no room for something that must be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Whether the next append to the partition must wait: for its last block to be read back, which this asks for
    /// ([`Event::BlockLoaded`] follows), or for a truncation ([`Event::Truncated`] follows, or
    /// [`Event::TruncationFailed`]).
    pub fn must_load_block(&mut self, ix: PartitionIx) -> bool {
        if self.log(ix).truncation.is_some() {
            return true;
        }
        if !self.log(ix).needs_block() {
            return false;
        }
        if !self.loading.contains(&ix) {
            self.loading.push(ix);
            let log = self.log(ix);
            let position = crate::disk::block_floor(log.active.bytes);
            let work = Work::ReadBlock {
                path: layout::segment_file(&log.key, log.active.base),
                position,
                len: (log.active.bytes - position) as usize,
            };
            let base = log.active.base;
            self.start(work, Out::ReadBlock { partition: ix, base });
        }
        true
    }

    /// Appends a batch. [`must_load_block`](Self::must_load_block) said no just before.
    pub fn append(
        &mut self,
        ix: PartitionIx,
        batch: &Checked<'_>,
        leader_epoch: i32,
        wall_ms: i64,
    ) -> Appended {
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let (appended, taken) = log.append(&mut self.wal, batch, leader_epoch, wall_ms);
        self.pending.push_back(Pending {
            lsn: appended.lsn,
            partition: ix,
            segment: log.active.base,
            position: log.active.bytes,
            end: log.active.end,
            max_timestamp: batch.info.max_timestamp,
        });
        self.cycle.note_dirty(ix, log);
        if mutant::on(Mutant::AcknowledgeAtAppend) {
            log.durable_end = log.active.end;
            self.events.push_back(Event::Durable(ix));
        }
        if taken > 0 {
            self.memory += taken;
            self.make_evictable(ix);
        }
        appended
    }

    /// Notes that leader epoch `epoch` begins at the log's end, before it has a record. Returns the frame to wait for
    /// before anybody is told; none where the epoch has begun already. An epoch below the log's latest is never begun.
    pub fn start_epoch(&mut self, ix: PartitionIx, epoch: i32) -> Option<Lsn> {
        assert!(self.log(ix).truncation.is_none(), "a log that is being cut has no leader here");
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let lsn = log.start_epoch(&mut self.wal, epoch)?;
        self.cycle.note_dirty(ix, log);
        Some(lsn)
    }

    /// Notes the high watermark, which lies in the log and only moves forward, but for a truncation, which lowers it to
    /// the log's new end. Each one noted is a frame in the log: the caller says how often. Returns that frame; none
    /// where the watermark is not above the one noted before.
    pub fn note_high_watermark(&mut self, ix: PartitionIx, offset: i64) -> Option<Lsn> {
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let lsn = log.note_high_watermark(&mut self.wal, offset)?;
        self.cycle.note_dirty(ix, log);
        Some(lsn)
    }

    /// Starts a new segment, so that the old one can be deleted by retention. Nothing happens to an empty one, nor
    /// while the log is being cut.
    pub fn roll(&mut self, ix: PartitionIx) {
        if self.log(ix).active.bytes > 0 && self.log(ix).truncation.is_none() {
            let log =
                self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
            log.roll_now(&mut self.wal);
            self.cycle.note_dirty(ix, log);
            self.enqueue_flush(ix);
        }
    }

    /// Moves the log start offset forward and lets go of the segments below it. Returns the frame to wait for
    /// before anybody is told.
    pub fn advance_start(&mut self, ix: PartitionIx, start: i64) -> Lsn {
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let (lsn, gone, freed) = log.advance_start(&mut self.wal, start);
        self.memory -= freed;
        self.cycle.note_dirty(ix, log);
        self.remove_later(lsn, ix, gone);
        lsn
    }

    /// Deletes a partition: logged first, removed once that is durable. The handle is dead from now on.
    pub fn delete(&mut self, ix: PartitionIx) -> Lsn {
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let lsn = self.wal.append(&log.key, &Frame::Delete);
        log.touch(lsn);
        log.deleted = Some(lsn);
        self.memory -= log.tail.clear();
        self.by_key.remove(&log.key);
        self.cycle.note_dirty(ix, log);
        self.deletions.push_back((lsn, ix));
        lsn
    }

    /// The next commit to write, and the path of its file.
    pub fn next_commit(&mut self) -> Option<(crate::wal::writer::Submission<B>, String)> {
        let submission = self.wal.submit()?;
        let path = layout::wal_file(self.wal.generation(), self.shard, submission.file);
        self.idle_since = None;
        Some((submission, path))
    }

    /// The disk has a commit.
    pub fn commit_written(&mut self, commit: u64) {
        let Some(durable) = self.wal.written(commit) else { return };
        while self.pending.front().is_some_and(|p| p.lsn <= durable) {
            let p = self.pending.pop_front().expect("looked at just above");
            let log = self.partitions[p.partition.0 as usize].as_mut();
            let Some(log) = log.filter(|log| log.deleted.is_none()) else { continue };
            log.made_durable(p.segment, p.position, p.end, p.max_timestamp);
            if self.events.back() != Some(&Event::Durable(p.partition)) {
                self.events.push_back(Event::Durable(p.partition));
            }
            if log.wants_flush() {
                self.enqueue_flush(p.partition);
            }
        }
    }

    /// The next event.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Time passed. `now_ms` is monotone.
    pub fn tick(&mut self, now_ms: u64) {
        assert!(now_ms >= self.now_ms, "the clock is monotone");
        self.now_ms = now_ms;
        if self.full_since.is_some_and(|since| now_ms >= since + RETRY_FULL_AFTER_MS) {
            self.full_since = None;
        }
        if !self.wal.is_idle() || !self.wal.has_unstated() {
            self.idle_since = None;
        } else if now_ms >= *self.idle_since.get_or_insert(now_ms) + STATE_DURABLE_AFTER_MS {
            self.wal.state_durable();
        }
        self.cycle_tick();
    }

    /// When [`tick`](Self::tick) is wanted next, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let state = if self.wal.is_idle() && self.wal.has_unstated() {
            Some(self.idle_since.unwrap_or(self.now_ms) + STATE_DURABLE_AFTER_MS)
        } else {
            None
        };
        let retry = self.full_since.map(|since| since + RETRY_FULL_AFTER_MS);
        [state, retry, self.cycle_deadline()].into_iter().flatten().min()
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        self.wal.check();
        let memory: usize = self.partitions.iter().flatten().map(|log| log.tail.memory()).sum();
        assert_eq!(memory, self.memory, "memory is accounted for");
        for log in self.partitions.iter().flatten().filter(|log| log.deleted.is_none()) {
            log.check();
            if let Some(dirty) = log.dirty {
                assert!(dirty > self.cycle.covered(), "what is covered is not dirty");
            }
        }
        assert!(self.flushes_out <= FLUSHES_MAX && self.removals_out <= REMOVALS_MAX);
        assert!(self.pending.iter().zip(self.pending.iter().skip(1)).all(|(a, b)| a.lsn < b.lsn));
    }
}
