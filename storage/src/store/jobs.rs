//! The shard's blocking jobs: what is due becomes one, what is done moves the store on.

use super::{EVICTION_TRIES, Event, FLUSHES_MAX, PartitionIx, REMOVALS_MAX, Store};
use crate::job::{First, Job, JobId, Output, Work, use_id};
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::partition::{FlushStep, PartitionLog};
use crate::snapshot;
use crate::wal::Lsn;
use crate::wal::writer::{CommitBuffer, FileRequest};
use std::collections::VecDeque;

/// Segments below the log start, to be removed once the frame that moved it is durable.
pub(super) struct Removal {
    lsn: Lsn,
    partition: PartitionIx,
    bases: Vec<i64>,
}

/// A job that is out.
pub(super) enum Out {
    PrepareWal(FileRequest),
    Write { partition: PartitionIx, base: i64, to: u64, allocate: u64 },
    Seal { partition: PartitionIx, base: i64 },
    Cycle,
    Remove { partition: PartitionIx, bases: Vec<i64> },
    RemovePartition(PartitionIx),
    ReadBlock { partition: PartitionIx, base: i64 },
    FindCut(PartitionIx),
    Cut(PartitionIx),
    RemoveWal(u32),
}

impl Out {
    /// Whether it counts among the flushes: those have a limit of their own, and so does what cuts files.
    fn is_flush(&self) -> bool {
        matches!(self, Out::Write { .. } | Out::Seal { .. } | Out::FindCut(_) | Out::Cut(_))
    }

    fn is_removal(&self) -> bool {
        matches!(self, Out::Remove { .. } | Out::RemovePartition(_) | Out::RemoveWal(_))
    }
}

impl<B: CommitBuffer> Store<B> {
    /// Removes segments' files once frame `lsn` is durable.
    pub(super) fn remove_later(&mut self, lsn: Lsn, partition: PartitionIx, bases: Vec<i64>) {
        if !bases.is_empty() {
            self.removals.push_back(Removal { lsn, partition, bases });
        }
    }

    /// Starts the removals whose frames are durable, once nothing is out that needs the files, within their limit.
    fn plan_removals(&mut self) {
        if self.is_syncing() {
            return;
        }
        let durable = if mutant::on(Mutant::RemoveEarly) { Lsn::MAX } else { self.wal.durable() };
        let mut later = VecDeque::new();
        while self.removals_out < REMOVALS_MAX {
            let Some(removal) = self.removals.pop_front_if(|removal| removal.lsn <= durable) else { break };
            let Some(log) = self.partitions[removal.partition.0 as usize].as_ref() else { continue };
            if self.loading.contains(&removal.partition) || log.truncation.is_some() {
                later.push_back(removal);
                continue;
            }
            let Removal { partition, bases, .. } = removal;
            let work = Work::Remove {
                dir: layout::partition_dir(&log.key),
                files: bases.iter().flat_map(|base| layout::segment_files(&log.key, *base)).collect(),
            };
            self.start(work, Out::Remove { partition, bases });
        }
        later.append(&mut self.removals);
        self.removals = later;
        let mut later = VecDeque::new();
        while self.removals_out < REMOVALS_MAX {
            let Some((lsn, ix)) = self.deletions.pop_front_if(|(lsn, _)| *lsn <= durable) else { break };
            let log = self.log(ix);
            if !log.flushing && !self.loading.contains(&ix) {
                let dir = layout::partition_dir(&log.key);
                self.start(Work::RemovePartition { dir }, Out::RemovePartition(ix));
            } else {
                later.push_back((lsn, ix));
            }
        }
        later.append(&mut self.deletions);
        self.deletions = later;
    }

    pub(super) fn enqueue_flush(&mut self, ix: PartitionIx) {
        let log = self.log_mut(ix);
        if !std::mem::replace(&mut log.queued, true) {
            self.flush.push_back(ix);
        }
    }

    pub(super) fn start(&mut self, work: Work, out: Out) {
        let id = self.next_job;
        self.next_job += 1;
        self.flushes_out += usize::from(out.is_flush());
        self.removals_out += usize::from(out.is_removal());
        self.out.insert(id, out);
        self.jobs.push_back((id, Job(work)));
    }

    /// The next blocking job to do.
    pub fn next_job(&mut self) -> Option<(JobId, Job)> {
        self.plan_jobs();
        self.jobs.pop_front()
    }

    /// Turns what is due into jobs, within the limits.
    fn plan_jobs(&mut self) {
        if let Some(request) = self.wants_wal_file() {
            let path = layout::wal_file(self.wal.generation(), self.shard, request.file);
            self.start(Work::PrepareWal { path, request }, Out::PrepareWal(request));
        }
        while self.full_since.is_none() && self.flushes_out < FLUSHES_MAX {
            let Some(ix) = self.flush.pop_front() else { break };
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            log.queued = false;
            let Some(step) = log.next_flush() else { continue };
            let (work, out) = flush_work(ix, log, step);
            self.start(work, out);
        }
        self.plan_cycle();
        // Before what is deleted, which may be much; there is one at a time.
        if self.removals_out < REMOVALS_MAX
            && let Some(file) = self.wal.surplus_file()
        {
            let path = layout::wal_file(self.wal.generation(), self.shard, file);
            self.start(Work::RemoveWal { path, file }, Out::RemoveWal(file));
        }
        self.plan_removals();
        self.plan_truncations();
    }

    fn wants_wal_file(&mut self) -> Option<FileRequest> {
        if self.full_since.is_some() {
            return None;
        }
        let beyond_limit = self.checkpoint_waits_for_wal();
        self.wal.wants_file(use_id(self.random.draw()), beyond_limit)
    }

    /// A job is done.
    pub fn job_done(&mut self, id: JobId, output: Output) {
        let out = self.out.remove(&id).expect("a job that is out");
        self.flushes_out -= usize::from(out.is_flush());
        self.removals_out -= usize::from(out.is_removal());
        if output == Output::Full {
            self.full_since = Some(self.now_ms);
        }
        let done = output != Output::Full;
        match (out, output) {
            (Out::PrepareWal(request), _) if done => self.wal.file_ready(request.file),
            (Out::PrepareWal(request), _) => self.wal.file_failed(&request),
            (Out::Write { partition, base, to, allocate }, _) => {
                self.log_mut(partition).write_done(base, to, allocate, done);
                self.after_flush(partition);
                self.evict();
            }
            (Out::Seal { partition, base }, _) => self.sealed(partition, base, done),
            (Out::Cycle, _) => self.cycle_job_done(done),
            (Out::Remove { partition, bases }, _) => {
                assert!(done, "removing needs no room");
                if let Some(log) = self.partitions[partition.0 as usize].as_mut() {
                    log.dropped.retain(|s| !bases.contains(&s.base));
                }
            }
            (Out::RemovePartition(ix), _) => {
                assert!(done, "removing needs no room");
                let log = self.log(ix);
                let (key, deleted) = (log.key, log.deleted.expect("only deleted partitions are removed"));
                self.cycle.removed(key, deleted);
                self.partitions[ix.0 as usize] = None;
                self.cycle.note_removed(ix);
            }
            (Out::RemoveWal(file), _) => {
                assert!(done, "removing needs no room");
                self.wal.file_removed(file);
            }
            (Out::ReadBlock { partition, base }, Output::Bytes(bytes)) => {
                self.block_loaded(partition, base, &bytes);
            }
            (Out::ReadBlock { .. }, _) => unreachable!("reading needs no room and gives bytes"),
            (Out::FindCut(ix), output) => self.cut_found(ix, output),
            (Out::Cut(ix), _) => self.cut_done(ix, done),
        }
    }

    fn block_loaded(&mut self, ix: PartitionIx, base: i64, bytes: &[u8]) {
        self.loading.retain(|other| *other != ix);
        let Some(log) = self.partitions[ix.0 as usize].as_mut().filter(|log| log.deleted.is_none()) else {
            return;
        };
        // Rolled meanwhile, the log goes on in another segment.
        if log.active.base == base && log.needs_block() {
            let position = crate::disk::block_floor(log.active.bytes);
            self.memory -= log.tail.memory();
            log.tail.load_block(base, position, bytes);
            self.memory += log.tail.memory();
            self.make_evictable(ix);
        }
        self.events.push_back(Event::BlockLoaded(ix));
    }

    fn sealed(&mut self, ix: PartitionIx, base: i64, done: bool) {
        let log = self.log_mut(ix);
        if done {
            log.seal_done(base);
            // The log start may have passed it while it was being sealed.
            let gone = log.drop_below_start();
            let lsn = log.last_lsn;
            self.remove_later(lsn, ix, gone);
        } else {
            log.flushing = false;
        }
        self.after_flush(ix);
        self.evict();
    }

    pub(super) fn after_flush(&mut self, ix: PartitionIx) {
        if self.log(ix).wants_flush() {
            self.enqueue_flush(ix);
        }
    }

    pub(super) fn make_evictable(&mut self, ix: PartitionIx) {
        if !std::mem::replace(&mut self.log_mut(ix).evictable, true) {
            self.eviction.push_back(ix);
        }
    }

    /// Forgets written chunks, each partition's oldest in turn, until the memory is within its limit.
    fn evict(&mut self) {
        let mut tries = self.eviction.len().min(EVICTION_TRIES);
        while self.memory > self.settings.memory_bytes && tries > 0 {
            tries -= 1;
            let Some(ix) = self.eviction.pop_front() else { break };
            let Some(log) = self.partitions[ix.0 as usize].as_mut() else { continue };
            if let Some((segment, end)) = log.tail.oldest(log.active.base) {
                let open = log.rolled.iter().chain([&log.active]).find(|s| s.base == segment);
                if open.is_none_or(|s| s.written >= end) {
                    self.memory -= log.tail.evict_oldest();
                    tries = (self.eviction.len() + 1).min(EVICTION_TRIES);
                }
            }
            log.evictable = log.tail.memory() > 0;
            if log.evictable {
                self.eviction.push_back(ix);
            }
        }
    }
}

fn flush_work(ix: PartitionIx, log: &PartitionLog, step: FlushStep) -> (Work, Out) {
    match step {
        FlushStep::Write { base, to, snapshot, pieces, reserved, allocate } => (
            Work::Write {
                path: layout::segment_file(&log.key, base),
                make_dir: !log.has_folder,
                first: (!snapshot.is_empty() && !mutant::on(Mutant::NoSnapshot)).then(|| First {
                    path: layout::snapshot_file(&log.key, base),
                    bytes: snapshot::encode(base, &snapshot),
                }),
                pieces,
                reserved,
                allocate,
            },
            Out::Write { partition: ix, base, to, allocate },
        ),
        FlushStep::Seal { base, bytes, index, indexed_from } => (
            Work::Seal {
                log: layout::segment_file(&log.key, base),
                idx: layout::index_file(&log.key, base),
                base,
                bytes,
                index,
                indexed_from,
            },
            Out::Seal { partition: ix, base },
        ),
    }
}

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
