//! Truncations on their way: see [`partition::truncate`](crate::partition) for the order of things.

use super::jobs::Out;
use super::{Event, FLUSHES_MAX, PartitionIx, Store};
use crate::cut::CutFiles;
use crate::job::{Output, Work};
use crate::mutant::{self, Mutant};
use crate::partition::{Target, Truncation};
use crate::wal::Lsn;
use crate::wal::writer::CommitBuffer;

impl<B: CommitBuffer> Store<B> {
    /// Cuts the log so that only batches wholly below `to` stay; `to` is at least the log start. Should the log start
    /// lie inside a batch that goes, nothing stays and the log goes on at its start.
    ///
    /// Returns whether there is anything to cut: if so, [`Event::Truncated`] follows once the cut is durable, or
    /// [`Event::TruncationFailed`]. Until then [`must_wait`](Self::must_load_block) says that appending must wait, the
    /// log's end is where it was until the cut is logged, and what is read beyond `to` may be gone at any time.
    ///
    /// # Panics
    /// When another truncation of the partition is under way.
    pub fn truncate(&mut self, ix: PartitionIx, to: i64) -> bool {
        assert!(to >= self.log(ix).log_start, "nothing below the log start is cut: it restarts there");
        if to >= self.log(ix).end() {
            return false;
        }
        self.ask(ix, Target::Below(to));
        true
    }

    /// Drops all of the log and lets it go on at `start`, which is not below the log start: for a follower whose log
    /// ends below its leader's start. [`Event::Truncated`] follows as for [`truncate`](Self::truncate).
    ///
    /// # Panics
    /// When a truncation of the partition is under way.
    pub fn restart_at(&mut self, ix: PartitionIx, start: i64) {
        assert!(start >= self.log(ix).log_start, "the log start never goes back");
        self.ask(ix, Target::Restart(start));
    }

    /// Whether a truncation of the partition is under way.
    #[must_use]
    pub fn is_truncating(&self, ix: PartitionIx) -> bool {
        self.log(ix).truncation.is_some()
    }

    /// The frame that says where the log was cut, while the truncation is under way and that frame is logged.
    #[must_use]
    pub fn truncation_lsn(&self, ix: PartitionIx) -> Option<Lsn> {
        match self.log(ix).truncation {
            Some(Truncation::Logged(lsn, _) | Truncation::Cutting(lsn, _)) => Some(lsn),
            _ => None,
        }
    }

    fn ask(&mut self, ix: PartitionIx, target: Target) {
        let log = self.log_mut(ix);
        assert!(log.truncation.is_none(), "one truncation of a partition at a time");
        assert!(log.deleted.is_none(), "a deleted partition is not truncated");
        log.truncation = Some(Truncation::Asked(target));
        self.truncating.push(ix);
    }

    /// Moves truncations on as far as they can go, making jobs.
    pub(super) fn plan_truncations(&mut self) {
        for ix in std::mem::take(&mut self.truncating) {
            let log = self.partitions[ix.0 as usize].as_ref();
            let Some(log) = log.filter(|log| log.truncation.is_some() && log.deleted.is_none()) else {
                continue;
            };
            self.truncating.push(ix);
            let settled = (log.capture.is_none() && !log.flushing && !self.loading.contains(&ix))
                || mutant::on(Mutant::TruncateUnsettled);
            match &log.truncation {
                Some(Truncation::Asked(target)) if settled => self.begin_cut(ix, *target),
                Some(Truncation::Logged(lsn, files)) => {
                    let durable = *lsn <= self.wal.durable() || mutant::on(Mutant::TruncateEarly);
                    if durable && self.full_since.is_none() && self.flushes_out < FLUSHES_MAX {
                        let (lsn, files) = (*lsn, files.clone());
                        self.cut_files(ix, lsn, files);
                    }
                }
                _ => {}
            }
        }
    }

    fn begin_cut(&mut self, ix: PartitionIx, target: Target) {
        let log = self.log(ix);
        match target {
            Target::Restart(start) => self.log_restart(ix, start.max(log.log_start)),
            // The log start may have moved meanwhile.
            Target::Below(to) if to < log.log_start => self.log_restart(ix, log.log_start),
            Target::Below(_) if self.flushes_out >= FLUSHES_MAX => {}
            Target::Below(to) => {
                let work = Work::FindCut(log.search(to));
                let log = self.log_mut(ix);
                log.flushing = true;
                log.truncation = Some(Truncation::Searching);
                self.start(work, Out::FindCut(ix));
            }
        }
    }

    fn cut_files(&mut self, ix: PartitionIx, lsn: Lsn, files: CutFiles) {
        let mut work = files.clone();
        if mutant::on(Mutant::CutFilesKept) {
            work.remove.clear();
        }
        let log = self.log_mut(ix);
        log.flushing = true;
        log.truncation = Some(Truncation::Cutting(lsn, files));
        self.start(Work::Cut(work), Out::Cut(ix));
    }

    /// The place to cut at is known, or it cannot be.
    pub(super) fn cut_found(&mut self, ix: PartitionIx, output: Output) {
        let log = self.partitions[ix.0 as usize].as_mut().expect("not removed while a job is out");
        log.flushing = false;
        if log.deleted.is_some() {
            return;
        }
        let point = match output {
            Output::Cut(point) => point,
            Output::Damaged(_) => {
                log.truncation = None;
                self.events.push_back(Event::TruncationFailed(ix));
                return self.after_flush(ix);
            }
            output => unreachable!("a search gives a place, not {output:?}"),
        };
        if point.end < log.log_start {
            let start = log.log_start;
            return self.log_restart(ix, start);
        }
        let end = point.end;
        let (lsn, files, freed) = log.cut(&mut self.wal, point);
        self.cut_logged(ix, lsn, files, freed, end);
    }

    fn log_restart(&mut self, ix: PartitionIx, start: i64) {
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        let (lsn, files, freed) = log.restart(&mut self.wal, start);
        // Offsets below `start` are given out again by nobody, but all segments are gone: nothing that was appended
        // before is waited for.
        self.cut_logged(ix, lsn, files, freed, i64::MIN);
    }

    /// Appends that end beyond `end` are no more.
    fn cut_logged(&mut self, ix: PartitionIx, lsn: Lsn, files: CutFiles, freed: usize, end: i64) {
        self.memory -= freed;
        self.pending.retain(|p| p.partition != ix || p.end <= end);
        let log = self.partitions[ix.0 as usize].as_mut().expect("the handle of a partition that is there");
        log.truncation = Some(Truncation::Logged(lsn, files));
        self.cycle.note_dirty(ix, log);
    }

    /// The files are cut (`true`), or there was no room to (`false`).
    pub(super) fn cut_done(&mut self, ix: PartitionIx, done: bool) {
        let log = self.partitions[ix.0 as usize].as_mut().expect("not removed while a job is out");
        log.flushing = false;
        let Some(Truncation::Cutting(lsn, files)) = log.truncation.take() else {
            unreachable!("files are cut once the cut is logged")
        };
        if !done {
            log.truncation = Some(Truncation::Logged(lsn, files));
            return;
        }
        if log.deleted.is_none() {
            self.events.push_back(Event::Truncated(ix));
            self.after_flush(ix);
        }
    }
}
