//! Cutting a partition's log.
//!
//! A truncation is rare and takes its time: it waits until nothing of the partition is in flight (writes, seals, block
//! loads, a checkpoint that has captured it), finds the place to cut at by reading headers off the shard's thread, logs
//! the cut, waits until that frame is durable, and only then touches files. From the request to the end nothing is
//! appended; other partitions go on.
//!
//! ```text
//! asked --settled--> searching --place found--> logged --frame durable--> cutting files --> done
//!   '--- restart: nothing to find, settled -------^
//! ```

use super::{OpenSegment, PartitionLog, encoded};
use crate::checkpoint::PRODUCERS_MAX;
use crate::cut::{Before, CutFiles, CutPoint, Keep, Rebuild, Search};
use crate::disk::{BLOCK, block_ceil};
use crate::epochs::Epochs;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::producer::Producers;
use crate::wal::Lsn;
use crate::wal::format::Frame;
use crate::wal::writer::{CommitBuffer, FRAME_BYTES_MAX, WalWriter};

/// Bytes that a producer takes in a snapshot, with all the batches that are remembered of it.
const PRODUCER_BYTES_MAX: usize = 19 + 5 * 24;
const _: () =
    assert!(PRODUCERS_MAX as usize * PRODUCER_BYTES_MAX + 4096 <= FRAME_BYTES_MAX, "a cut is one frame");

/// How far a truncation has come.
pub(crate) enum Truncation {
    /// It waits until nothing is in flight.
    Asked(Target),
    /// The place to cut at is being looked for.
    Searching,
    /// The log is cut in memory; files follow once this frame is durable.
    Logged(Lsn, CutFiles),
    /// Files are being cut.
    Cutting(Lsn, CutFiles),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Only batches wholly below the offset stay.
    Below(i64),
    /// Nothing stays; the log goes on at the offset.
    Restart(i64),
}

impl PartitionLog {
    /// Whether a truncation keeps everybody else from the partition's files: before it begins only a checkpoint that
    /// has captured the partition may still need them written.
    pub fn holds_files_still(&self) -> bool {
        match &self.truncation {
            None => false,
            Some(Truncation::Asked(_)) => self.capture.is_none(),
            Some(_) => true,
        }
    }

    /// Whether a truncation was asked for that is not logged yet: no checkpoint captures the partition meanwhile.
    pub fn is_before_cut(&self) -> bool {
        matches!(self.truncation, Some(Truncation::Asked(_) | Truncation::Searching))
    }

    /// Whether the log is cut and its files are not yet.
    pub fn is_cutting_files(&self) -> bool {
        matches!(self.truncation, Some(Truncation::Logged(..) | Truncation::Cutting(..)))
    }

    /// What finds the place to cut at, for an offset from the log start on and below the log's end.
    pub fn search(&self, to: i64) -> Search {
        assert!(
            to >= self.log_start && to < self.end(),
            "there is something to cut, and not below the start"
        );
        let rebuild = (self.producers.has_from(to) && !mutant::on(Mutant::DisplacedForgotten)).then(|| {
            let mut remembered = self.producers.clone();
            remembered.truncate(to);
            remembered
        });
        let rebuild = |before: Before| rebuild.map(|remembered| Rebuild { before, remembered });
        let holds = |base: i64, end: i64| base <= to && to < end;
        if let Some(sealed) = self.sealed.iter().find(|s| holds(s.base, s.end)) {
            return Search {
                path: layout::segment_file(&self.key, sealed.base),
                file_bytes: sealed.bytes,
                memory: Vec::new(),
                base: sealed.base,
                bytes: sealed.bytes,
                to,
                index_interval_bytes: self.settings.index_interval_bytes,
                rebuild: rebuild(Before::File(layout::snapshot_file(&self.key, sealed.base))),
            };
        }
        let mut open = self.rolled.iter().chain([&self.active]);
        let segment = open.find(|s| holds(s.base, s.end)).expect("an offset below the end lies in a segment");
        let memory = self.tail.pieces(segment.base, segment.written, segment.bytes);
        let before = if segment.written == 0 {
            Before::Memory(segment.snapshot.clone())
        } else {
            Before::File(layout::snapshot_file(&self.key, segment.base))
        };
        Search {
            path: layout::segment_file(&self.key, segment.base),
            file_bytes: segment.written,
            memory: memory.into_iter().map(|piece| piece.slice).collect(),
            base: segment.base,
            bytes: segment.bytes,
            to,
            index_interval_bytes: self.settings.index_interval_bytes,
            rebuild: rebuild(before),
        }
    }

    /// Logs the cut and cuts all that is in memory. Returns the frame, the files to be cut once it is durable, and the
    /// memory given back.
    pub fn cut<B: CommitBuffer>(
        &mut self,
        wal: &mut WalWriter<B>,
        point: CutPoint,
    ) -> (Lsn, CutFiles, usize) {
        let CutPoint { segment, position, end, index, producers } = point;
        assert!(end >= self.log_start && end < self.end(), "a cut leaves the log start in the log");
        let max_timestamp = index.max_timestamp();
        let frame = Frame::Truncate { segment, position, end, max_timestamp, producers: &producers };
        let lsn = wal.append(&self.key, &frame);
        self.touch(lsn);
        if !mutant::on(Mutant::ProducersNotCut) {
            self.producers.cut(end, &producers);
        }
        if !mutant::on(Mutant::EpochsNotCut) {
            self.epochs.truncate_from_end(end);
        }
        self.cuts += 1;
        let files = self.cut_segments(segment, position, end);
        // Where some of what is left is not durable, nothing durable was cut.
        let is_durable = self.active.durable == position;
        if position > 0 {
            (self.active.index, self.active.indexed_from) = (index, 0);
            self.active.max_timestamp = max_timestamp;
            if is_durable {
                self.active.durable_max_timestamp = max_timestamp;
            }
        }
        self.durable_end = self.durable_end.min(end);
        if !mutant::on(Mutant::WatermarkNotLowered) {
            self.high_watermark = self.high_watermark.min(end);
        }
        let freed = self.tail.cut(segment, position);
        (lsn, files, freed)
    }

    /// Makes the segment the last one, `position` bytes of it left.
    fn cut_segments(&mut self, segment: i64, position: u64, end: i64) -> CutFiles {
        let goes = |base: i64| base > segment || (base == segment && position == 0);
        let sealed = self.sealed.iter().map(|s| s.base);
        let open = self.rolled.iter().chain([&self.active]).map(|s| s.base);
        let gone = sealed.chain(open).filter(|base| goes(*base));
        let mut remove: Vec<String> = gone.flat_map(|base| layout::segment_files(&self.key, base)).collect();
        let log = layout::segment_file(&self.key, segment);
        let is_sealed = self.sealed.iter().any(|s| s.base == segment);
        self.sealed.retain(|s| s.base < segment);
        let mut open: Vec<OpenSegment> = self.rolled.drain(..).collect();
        open.push(std::mem::replace(&mut self.active, OpenSegment::new(end, self.random.draw())));
        let mut keep = None;
        for part in open {
            if part.base < segment {
                self.rolled.push_back(part);
            } else if part.base == segment && position > 0 {
                self.active = part;
            }
        }
        if position == 0 {
            assert_eq!(segment, end, "an empty segment starts at the log's end");
            self.active.snapshot = encoded_producers(&self.producers);
        } else if is_sealed {
            self.active.base = segment;
            keep = Some(Keep { log, bytes: position, is_sealed });
            (self.active.durable, self.active.written, self.active.synced) = (position, position, position);
        } else if self.active.written > position {
            keep = Some(Keep { log, bytes: position, is_sealed });
        }
        if keep.is_some() {
            self.active.allocated = block_ceil(position);
        }
        // It tells of batches that are no more. An open segment has one, too, from a seal that a crash undid.
        if position > 0 {
            remove.push(layout::index_file(&self.key, segment));
        }
        let active = &mut self.active;
        (active.bytes, active.end) = (position, end);
        for bytes in [&mut active.durable, &mut active.written, &mut active.synced] {
            *bytes = (*bytes).min(position);
        }
        active.wants_image = !position.is_multiple_of(BLOCK as u64);
        CutFiles { dir: layout::partition_dir(&self.key), cuts: self.cuts, keep, remove }
    }

    /// Logs that everything is gone and the log goes on at `start`. Returns as [`cut`](Self::cut).
    pub fn restart<B: CommitBuffer>(&mut self, wal: &mut WalWriter<B>, start: i64) -> (Lsn, CutFiles, usize) {
        assert!(start >= self.log_start, "the log start never goes back");
        let lsn = wal.append(&self.key, &Frame::Restart { start });
        self.touch(lsn);
        let sealed = self.sealed.iter().map(|s| s.base);
        let open = self.rolled.iter().chain([&self.active]).map(|s| s.base);
        let remove = sealed.chain(open).flat_map(|base| layout::segment_files(&self.key, base)).collect();
        self.sealed.clear();
        self.rolled.clear();
        self.active = OpenSegment::new(start, self.random.draw());
        self.epochs = Epochs::new();
        self.producers = Producers::new(PRODUCERS_MAX);
        (self.log_start, self.durable_end, self.high_watermark) = (start, start, start);
        self.cuts += 1;
        let freed = self.tail.clear();
        (lsn, CutFiles { dir: layout::partition_dir(&self.key), cuts: self.cuts, keep: None, remove }, freed)
    }
}

/// A snapshot of producers; empty where there are none.
pub(super) fn encoded_producers(producers: &Producers) -> Vec<u8> {
    if producers.is_empty() { Vec::new() } else { encoded(|out| producers.snapshot(out)) }
}
