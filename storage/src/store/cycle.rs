//! The checkpoint cycle: capture what changed, have the captured bytes written, sync them, write the checkpoint,
//! free the WAL files that it covers.
//!
//! A cycle holds nobody up: appends go on meanwhile and belong to the next one. Every so often it captures all
//! partitions and writes a new base, which replaces the files before it.

use super::jobs::Out;
use super::{PartitionIx, RETRY_FULL_AFTER_MS, Store};
use crate::PartitionKey;
use crate::checkpoint::{Checkpoint, Entry, Kind};
use crate::job::Work;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::partition::{CHUNK_BYTES_MIN, PartitionLog};
use crate::wal::Lsn;
use crate::wal::writer::CommitBuffer;

/// Delta files before the next base.
const DELTAS_MAX: u64 = 32;
/// Files synced by one job.
const SYNC_FILES_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Captured bytes are being written.
    Writing,
    /// Files and folders are being synced.
    Syncing {
        files_left: usize,
        dirs: Vec<String>,
    },
    /// The checkpoint itself is being written, or is to be tried again.
    Checkpoint {
        covered: Lsn,
        out: bool,
    },
}

/// See the module's documentation.
pub(super) struct Cycle {
    phase: Phase,
    dirty: Vec<PartitionIx>,
    captured: Vec<PartitionIx>,
    /// Partitions that were captured and found unchanged when the cycle ended, with their last LSN.
    quiet: Vec<(PartitionIx, Lsn)>,
    /// Partitions whose files are gone, named by every checkpoint until the WAL need not hold any of their frames.
    removed: Vec<(PartitionKey, Lsn)>,
    kind: Kind,
    sequence: u64,
    deltas: u64,
    files: Vec<String>,
    covered: Lsn,
    /// The last frame when the cycle began.
    captured_lsn: Lsn,
    begun_ms: u64,
}

impl Cycle {
    pub fn new(next_sequence: u64) -> Cycle {
        Cycle {
            phase: Phase::Idle,
            dirty: Vec::new(),
            captured: Vec::new(),
            quiet: Vec::new(),
            removed: Vec::new(),
            kind: Kind::Delta,
            sequence: next_sequence,
            deltas: 0,
            files: Vec::new(),
            covered: 0,
            captured_lsn: 0,
            begun_ms: 0,
        }
    }

    /// Everything up to here is in checkpoints.
    pub fn covered(&self) -> Lsn {
        self.covered
    }

    pub fn note_dirty(&mut self, ix: PartitionIx, log: &mut PartitionLog) {
        if !std::mem::replace(&mut log.listed, true) {
            self.dirty.push(ix);
        }
    }

    /// A deleted partition's files are gone.
    pub fn removed(&mut self, key: PartitionKey, deleted: Lsn) {
        self.removed.push((key, deleted));
    }

    pub fn note_removed(&mut self, ix: PartitionIx) {
        self.dirty.retain(|other| *other != ix);
        self.captured.retain(|other| *other != ix);
    }
}

impl<B: CommitBuffer> Store<B> {
    /// Whether a checkpoint is under way.
    #[must_use]
    pub fn is_checkpointing(&self) -> bool {
        self.cycle.phase != Phase::Idle
    }

    /// Whether a checkpoint has something to do.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.cycle.dirty.is_empty() || !self.cycle.removed.is_empty()
    }

    /// When the next checkpoint is due.
    pub(super) fn cycle_deadline(&self) -> Option<u64> {
        if self.cycle.phase != Phase::Idle || !self.is_dirty() {
            return None;
        }
        let wait = if self.wal.is_stalled() {
            return Some(self.now_ms);
        } else if self.wal.used_bytes() >= self.settings.checkpoint_bytes {
            self.settings.checkpoint_ms.min(RETRY_FULL_AFTER_MS)
        } else {
            self.settings.checkpoint_ms
        };
        Some(self.cycle.begun_ms + wait)
    }

    pub(super) fn cycle_tick(&mut self) {
        if self.cycle_deadline().is_some_and(|due| self.now_ms >= due) {
            self.begin_checkpoint();
        }
    }

    /// Whether files or folders are being synced: nothing may be removed meanwhile.
    pub(super) fn is_syncing(&self) -> bool {
        matches!(self.cycle.phase, Phase::Syncing { .. })
    }

    /// Whether the checkpoint under way names frames that the WAL has no room for. They are bounded by what was
    /// appended when it began, and only it can make room: so they get room beyond the limit.
    pub(super) fn checkpoint_waits_for_wal(&self) -> bool {
        self.cycle.phase == Phase::Writing
            && self.cycle.captured_lsn > self.wal.durable()
            && self.wal.is_stalled()
    }

    /// A partition was opened that was only known from recovery: a base that is not written yet must name it.
    pub(super) fn capture_opened(&mut self, ix: PartitionIx) {
        let to_be_written = match self.cycle.phase {
            Phase::Idle => false,
            Phase::Writing | Phase::Syncing { .. } => true,
            Phase::Checkpoint { out, .. } => !out,
        };
        if self.cycle.kind == Kind::Base && to_be_written {
            self.log_mut(ix).take_capture();
            self.cycle.captured.push(ix);
        }
    }

    /// Begins a checkpoint now, unless one is under way.
    pub fn begin_checkpoint(&mut self) {
        if self.cycle.phase != Phase::Idle {
            return;
        }
        self.release_quiet();
        self.cycle.begun_ms = self.now_ms;
        self.cycle.captured_lsn = self.wal.next_lsn() - 1;
        self.cycle.kind = if self.cycle.deltas >= DELTAS_MAX { Kind::Base } else { Kind::Delta };
        let candidates = match self.cycle.kind {
            Kind::Delta => self.cycle.dirty.clone(),
            Kind::Base => (0..self.partitions.len()).map(|i| PartitionIx(i as u32)).collect(),
        };
        for ix in candidates {
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            if log.deleted.is_none() {
                log.take_capture();
                self.cycle.captured.push(ix);
                if log.wants_flush() {
                    self.enqueue_flush(ix);
                }
            }
        }
        self.cycle.phase = Phase::Writing;
    }

    /// Gives the memory of small tails back that nobody appended to for a whole cycle.
    fn release_quiet(&mut self) {
        for (ix, lsn) in std::mem::take(&mut self.cycle.quiet) {
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            let small = log.tail.memory() <= CHUNK_BYTES_MIN;
            let written = log.rolled.is_empty() && log.active.written == log.active.bytes && !log.flushing;
            if log.last_lsn == lsn && small && written && log.deleted.is_none() {
                self.memory -= log.tail.clear();
            }
        }
    }

    /// Moves the cycle on as far as it can go, making jobs.
    pub(super) fn plan_cycle(&mut self) {
        if self.cycle.phase == Phase::Writing {
            let partitions = &self.partitions;
            let written = |ix: &PartitionIx| {
                let log = partitions[ix.0 as usize].as_ref();
                log.is_none_or(|log| log.deleted.is_some() || log.capture_is_written())
            };
            if self.cycle.captured.iter().all(written) {
                self.begin_sync();
            }
        }
        let out = match &self.cycle.phase {
            Phase::Checkpoint { covered, out: false } => *covered,
            _ => return,
        };
        if self.full_since.is_none() {
            self.write_checkpoint(out);
        }
    }

    fn begin_sync(&mut self) {
        let mut files = Vec::new();
        let (mut partition_dirs, mut topic_dirs) = (Vec::new(), Vec::new());
        for ix in &self.cycle.captured {
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            if log.deleted.is_some() {
                // Its bytes may not all be written: nothing is said of it before its deletion is.
                log.capture = None;
                continue;
            }
            let capture = log.capture.as_ref().expect("captured when the cycle began");
            let base = capture.active.base;
            let mut open = log.rolled.iter_mut().chain([&mut log.active]);
            if let Some(segment) = open.find(|s| s.base == base && s.written > s.synced) {
                segment.synced = segment.written;
                files.push(layout::segment_file(&log.key, base));
            }
            if std::mem::take(&mut log.new_files) {
                partition_dirs.push(layout::partition_dir(&log.key));
                if !std::mem::replace(&mut log.folder_synced, true) {
                    topic_dirs.push(layout::topic_dir(log.key.topic));
                }
            }
        }
        topic_dirs.sort();
        topic_dirs.dedup();
        if !topic_dirs.is_empty() {
            topic_dirs.push(layout::TOPICS.to_owned());
        }
        partition_dirs.append(&mut topic_dirs);
        if mutant::on(Mutant::NoSegmentDirSync) {
            partition_dirs.clear();
        }
        if mutant::on(Mutant::CheckpointBeforeSync) {
            let covered = self.coverable();
            self.cycle.phase = Phase::Checkpoint { covered, out: false };
            return;
        }
        let jobs = files.len().div_ceil(SYNC_FILES_MAX);
        self.cycle.phase = Phase::Syncing { files_left: jobs, dirs: partition_dirs };
        for chunk in files.chunks(SYNC_FILES_MAX) {
            self.start(Work::Sync { files: chunk.to_vec(), dirs: Vec::new() }, Out::Cycle);
        }
        self.sync_dirs_if_files_are();
    }

    fn sync_dirs_if_files_are(&mut self) {
        let Phase::Syncing { files_left: 0, dirs } = &mut self.cycle.phase else { return };
        let dirs = std::mem::take(dirs);
        if dirs.is_empty() {
            let covered = self.coverable();
            self.cycle.phase = Phase::Checkpoint { covered, out: false };
        } else {
            self.cycle.phase = Phase::Syncing { files_left: 1, dirs: Vec::new() };
            self.start(Work::Sync { files: Vec::new(), dirs }, Out::Cycle);
        }
    }

    /// Everything below the first frame that will not be in checkpoints, once this one is written.
    fn coverable(&self) -> Lsn {
        let first = self.cycle.dirty.iter().filter_map(|ix| {
            let log = self.partitions[ix.0 as usize].as_ref()?;
            if log.capture.is_some() { log.after_capture } else { log.dirty }
        });
        first.min().map_or(self.wal.durable(), |lsn| (lsn - 1).min(self.wal.durable()))
    }

    fn write_checkpoint(&mut self, covered: Lsn) {
        let logs = self.cycle.captured.iter().filter_map(|ix| self.partitions[ix.0 as usize].as_ref());
        let mut entries: Vec<Entry> = logs.filter_map(|log| log.captured_state().map(Entry::State)).collect();
        if self.cycle.kind == Kind::Base {
            entries.extend(self.recovered.values().cloned().map(Entry::State));
        }
        let removed = self.cycle.removed.iter();
        entries.extend(removed.map(|(key, applied)| Entry::Deleted { key: *key, applied: *applied }));
        let checkpoint = Checkpoint {
            kind: self.cycle.kind,
            generation: self.wal.generation(),
            shard: self.shard,
            sequence: self.cycle.sequence,
            covered,
            durable: self.wal.durable(),
            entries,
        };
        let path = layout::checkpoint_file(checkpoint.generation, self.shard, self.cycle.sequence);
        let remove = if checkpoint.kind == Kind::Base { self.cycle.files.clone() } else { Vec::new() };
        if mutant::on(Mutant::RecycleEarly) {
            self.wal.recycle(covered);
        }
        self.cycle.phase = Phase::Checkpoint { covered, out: true };
        self.start(Work::Checkpoint { path, bytes: checkpoint.encode(), remove }, Out::Cycle);
    }

    /// A job of the cycle is done, or found the disk full.
    pub(super) fn cycle_job_done(&mut self, done: bool) {
        match &mut self.cycle.phase {
            Phase::Syncing { files_left, .. } => {
                assert!(done, "a sync that fails is fatal, whatever the reason");
                *files_left -= 1;
                self.sync_dirs_if_files_are();
            }
            Phase::Checkpoint { covered, out } => {
                assert!(*out, "it was being written");
                let covered = *covered;
                if done { self.checkpoint_written(covered) } else { *out = false }
            }
            phase => unreachable!("no job of the cycle is out in {phase:?}"),
        }
    }

    fn checkpoint_written(&mut self, covered: Lsn) {
        let path = layout::checkpoint_file(self.wal.generation(), self.shard, self.cycle.sequence);
        match self.cycle.kind {
            Kind::Base => {
                self.cycle.files = vec![path];
                self.cycle.deltas = 0;
            }
            Kind::Delta => {
                self.cycle.files.push(path);
                self.cycle.deltas += 1;
            }
        }
        self.cycle.sequence += 1;
        self.cycle.removed.retain(|(_, deleted)| *deleted > covered);
        for ix in std::mem::take(&mut self.cycle.captured) {
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            let Some(capture) = &log.capture else { continue };
            if capture.lsn == log.last_lsn {
                self.cycle.quiet.push((ix, log.last_lsn));
            }
            log.capture_is_safe();
        }
        let partitions = &mut self.partitions;
        self.cycle.dirty.retain(|ix| {
            let Some(log) = partitions[ix.0 as usize].as_mut() else { return false };
            log.listed = log.dirty.is_some();
            log.listed
        });
        self.cycle.covered = covered;
        self.wal.recycle(covered);
        self.cycle.phase = Phase::Idle;
    }
}
