//! Reading: what serves an offset, decided without I/O.

use super::{PartitionIx, Store};
use crate::layout;
use crate::partition::TailRead;
use crate::wal::writer::CommitBuffer;

/// How a read is served.
pub enum ReadPlan {
    /// The offset is below the log start or beyond the log end.
    OutOfRange,
    /// Nothing there yet.
    Empty,
    /// From memory.
    Tail(TailRead),
    /// From a file, off the shard's thread.
    Cold(ColdRead),
}

/// A read from a segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdRead {
    /// The segment's records.
    pub log: String,
    /// The segment's index.
    pub idx: String,
    /// Base offset of the segment.
    pub base: i64,
    /// Bytes of the file that may be read: all of a sealed segment, what is written of another one.
    pub bytes: u64,
    /// Whether the segment is sealed: only then it may be mapped.
    pub sealed: bool,
    /// Largest record timestamp of the segment, -1 where it is empty.
    pub max_timestamp: i64,
}

impl<B: CommitBuffer> Store<B> {
    /// Plans a read of whole batches from the one that holds `offset`, below `limit`, at least one batch if
    /// there is any, in at most `max_bytes` unless the first is larger.
    #[must_use]
    pub fn read(&self, ix: PartitionIx, offset: i64, limit: i64, max_bytes: usize) -> ReadPlan {
        let log = self.log(ix);
        if offset < log.log_start || offset > log.end() {
            return ReadPlan::OutOfRange;
        }
        if offset >= limit {
            return ReadPlan::Empty;
        }
        match log.tail.read(offset, limit, max_bytes) {
            Some(read) if read.bytes == 0 => ReadPlan::Empty,
            Some(read) => ReadPlan::Tail(read),
            None => ReadPlan::Cold(self.segment_at(ix, offset)),
        }
    }

    /// The segments from the one that holds `offset` on, as files. Records that are only in memory yet are in
    /// none of them.
    #[must_use]
    pub fn segments_from(&self, ix: PartitionIx, offset: i64) -> Vec<ColdRead> {
        let log = self.log(ix);
        let cold = |base: i64, bytes: u64, sealed: bool, max_timestamp: i64| ColdRead {
            log: layout::segment_file(&log.key, base),
            idx: layout::index_file(&log.key, base),
            base,
            bytes,
            sealed,
            max_timestamp,
        };
        let sealed = log.sealed.iter().filter(|s| s.end > offset);
        let open = log.rolled.iter().chain([&log.active]).filter(|s| s.end > offset);
        sealed
            .map(|s| cold(s.base, s.bytes, true, s.max_timestamp))
            .chain(open.map(|s| cold(s.base, s.written, false, s.max_timestamp)))
            .collect()
    }

    fn segment_at(&self, ix: PartitionIx, offset: i64) -> ColdRead {
        let segments = self.segments_from(ix, offset);
        segments.into_iter().next().expect("an offset below the log's end lies in a segment")
    }

    /// Each segment's base, end, bytes and largest timestamp, oldest first; the last one is appended to.
    #[must_use]
    pub fn segments(&self, ix: PartitionIx) -> Vec<crate::checkpoint::SegmentState> {
        let log = self.log(ix);
        let open = log.rolled.iter().chain([&log.active]).map(|s| crate::checkpoint::SegmentState {
            base: s.base,
            end: s.end,
            bytes: s.bytes,
            max_timestamp: s.max_timestamp,
        });
        log.sealed.iter().copied().chain(open).collect()
    }
}
