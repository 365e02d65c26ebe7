//! What of a partition's log is written to its segment files next. The write-ahead rule lives here: only bytes
//! whose commit is durable are handed out.

use super::PartitionLog;
use crate::chunk::{AlignedBuffer, ChunkSlice};
use crate::disk::{BLOCK, block_floor};
use crate::index::SegmentIndex;

/// Most bytes written by one job.
const WRITE_BYTES_MAX: u64 = 4 << 20;

/// Whole blocks to write at a position.
pub(crate) enum Piece {
    /// Straight from a chunk.
    Chunk(u64, ChunkSlice),
    /// A copy, padded with zeros to whole blocks.
    Padded(u64, AlignedBuffer),
}

/// The next thing to do for a partition.
pub(crate) enum FlushStep {
    /// Write a segment's bytes up to `to`; reserve blocks up to `allocate` first.
    Write { base: i64, to: u64, snapshot: Vec<u8>, pieces: Vec<Piece>, reserved: u64, allocate: u64 },
    /// Everything of a rolled segment is written: cut it to its length, sync it, write its index.
    Seal { base: i64, bytes: u64, index: SegmentIndex, indexed_from: u64 },
}

impl PartitionLog {
    /// Whether [`next_flush`](Self::next_flush) would give something.
    pub fn wants_flush(&self) -> bool {
        if self.flushing || self.deleted.is_some() || self.holds_files_still() {
            return false;
        }
        match self.rolled.front() {
            Some(front) => front.written < front.durable || front.written == front.bytes,
            None => self.active_target() > self.active.written,
        }
    }

    /// How far the active segment should be written: to the end of its full chunks, or to where a checkpoint
    /// wants it.
    fn active_target(&self) -> u64 {
        let active = &self.active;
        let full = self.tail.full_until(active.base, active.durable);
        let captured = self
            .capture
            .as_ref()
            .filter(|c| c.active.base == active.base)
            .map_or(0, |c| c.active.bytes.min(active.durable));
        full.max(captured)
    }

    /// The next write or seal, one at a time for each partition.
    pub fn next_flush(&mut self) -> Option<FlushStep> {
        if !self.wants_flush() {
            return None;
        }
        self.flushing = true;
        if let Some(front) = self.rolled.front_mut()
            && front.written == front.bytes
        {
            return Some(FlushStep::Seal {
                base: front.base,
                bytes: front.bytes,
                index: front.index.clone(),
                indexed_from: front.indexed_from,
            });
        }
        let target = if self.rolled.is_empty() { self.active_target() } else { u64::MAX };
        let segment_bytes = self.settings.segment_bytes;
        let segment = self.rolled.front_mut().unwrap_or(&mut self.active);
        let from = block_floor(segment.written);
        let mut to = target.min(segment.durable);
        if to - from > WRITE_BYTES_MAX {
            to = from + WRITE_BYTES_MAX;
        }
        assert!(
            to > segment.written && to <= segment.durable,
            "write-ahead: only what is durable in the WAL"
        );
        let allocate = segment.allocation_for(to, segment_bytes);
        let (base, reserved, snapshot) = (segment.base, segment.allocated, segment.snapshot.clone());
        let pieces = whole_blocks(self.tail.pieces(base, from, to));
        Some(FlushStep::Write { base, to, snapshot, pieces, reserved, allocate })
    }

    /// A write is done (`true`) or found no room and will be tried again (`false`).
    pub fn write_done(&mut self, base: i64, to: u64, allocated: u64, done: bool) {
        assert!(self.flushing, "a write was out");
        self.flushing = false;
        if !done {
            return;
        }
        self.has_folder = true;
        let mut open = self.rolled.iter_mut().chain([&mut self.active]);
        // Deleting everything may have dropped the segment meanwhile.
        if let Some(segment) = open.find(|s| s.base == base) {
            self.new_files |= segment.written == 0;
            segment.written = to;
            segment.snapshot = Vec::new();
            segment.allocated = segment.allocated.max(allocated);
        }
    }

    /// A seal is done: the segment may be mapped from now on.
    pub fn seal_done(&mut self, base: i64) {
        assert!(self.flushing, "a seal was out");
        self.flushing = false;
        let segment = self.rolled.pop_front().expect("it waited for its seal");
        assert_eq!(segment.base, base, "segments are sealed in order");
        self.sealed.push_back(crate::checkpoint::SegmentState {
            base,
            end: segment.end,
            bytes: segment.bytes,
            max_timestamp: segment.max_timestamp,
        });
    }

    /// Whether everything that the capture names is in the files.
    pub fn capture_is_written(&self) -> bool {
        let Some(capture) = &self.capture else { return true };
        if self.is_cutting_files() {
            return false;
        }
        if self.active.base == capture.active.base {
            return self.rolled.is_empty() && self.active.written >= capture.active.bytes;
        }
        match self.rolled.iter().position(|s| s.base == capture.active.base) {
            Some(at) => at == 0 && self.rolled[0].written >= capture.active.bytes,
            None => true,
        }
    }
}

/// Cuts pieces of chunks into whole blocks; the last, partly filled one is copied and padded.
fn whole_blocks(pieces: Vec<super::tail::Piece>) -> Vec<Piece> {
    let mut out = Vec::with_capacity(pieces.len() + 1);
    for piece in pieces {
        assert!(piece.position.is_multiple_of(BLOCK as u64), "chunks start on a block");
        let whole = block_floor(piece.slice.len() as u64) as usize;
        if whole > 0 {
            out.push(Piece::Chunk(piece.position, piece.slice.part(0, whole)));
        }
        if whole < piece.slice.len() {
            let mut last = AlignedBuffer::zeroed(BLOCK);
            let rest = &piece.slice.as_bytes()[whole..];
            last[..rest.len()].copy_from_slice(rest);
            out.push(Piece::Padded(piece.position + whole as u64, last));
        }
    }
    out
}
