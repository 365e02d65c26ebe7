//! Reading: what serves an offset, decided without I/O.

use super::{PartitionIx, Store};
use crate::batch::HEADER_BYTES;
use crate::buffers::size_for;
use crate::checkpoint::SegmentState;
use crate::disk::BLOCK;
use crate::layout;
use crate::partition::{OpenSegment, PartitionLog, TailRead};
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
    /// Bytes of an unsealed segment that its index in memory does not know: an earlier process wrote them.
    pub unindexed: u64,
    /// Where in the file to begin, as the index in memory says.
    pub start: Option<u64>,
    /// Truncations of the partition before the read was planned. The file may be another one after the next.
    pub cuts: u64,
}

impl ColdRead {
    /// Bytes of memory that reading at most `max_bytes` of it takes, unless its first batch is larger.
    #[must_use]
    pub fn memory_for(&self, max_bytes: usize) -> usize {
        if self.sealed {
            return 0;
        }
        let written = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        // The blocks at both ends are read whole.
        size_for(max_bytes.max(HEADER_BYTES).min(written) + BLOCK)
    }
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

    /// Whether a planned read is still to be trusted: the log was not cut since. What was read otherwise may be of
    /// records that are no more, or no records at all, and an error may mean no damage.
    #[must_use]
    pub fn is_current(&self, ix: PartitionIx, read: &ColdRead) -> bool {
        self.log(ix).cuts == read.cuts
    }

    /// The segments that may hold a record at or after `offset` with a timestamp of at least `timestamp`, as
    /// files. Records that are only in memory yet are in none of them.
    #[must_use]
    pub fn segments_since(&self, ix: PartitionIx, offset: i64, timestamp: i64) -> Vec<ColdRead> {
        let log = self.log(ix);
        let sealed = log.sealed.iter().filter(|s| s.end > offset && s.max_timestamp >= timestamp);
        let open = log.rolled.iter().chain([&log.active]);
        let open = open.filter(|s| s.end > offset && s.max_timestamp >= timestamp);
        // The index in memory cannot tell what times lie before the part that it knows.
        let start = |s: &OpenSegment| (s.indexed_from == 0).then(|| s.index.time_floor(timestamp).position);
        sealed.map(|s| sealed_read(log, s)).chain(open.map(|s| open_read(log, s, start(s)))).collect()
    }

    fn segment_at(&self, ix: PartitionIx, offset: i64) -> ColdRead {
        let log = self.log(ix);
        if let Some(sealed) = log.sealed.get(log.sealed.partition_point(|s| s.end <= offset)) {
            return sealed_read(log, sealed);
        }
        let open = log.rolled.iter().chain([&log.active]).find(|s| s.end > offset);
        let open = open.expect("an offset below the log's end lies in a segment");
        let start = Some(open.index.floor(offset).position).filter(|at| *at >= open.indexed_from);
        open_read(log, open, start)
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

fn sealed_read(partition: &PartitionLog, segment: &SegmentState) -> ColdRead {
    ColdRead {
        log: layout::segment_file(&partition.key, segment.base),
        idx: layout::index_file(&partition.key, segment.base),
        base: segment.base,
        bytes: segment.bytes,
        sealed: true,
        unindexed: 0,
        start: None,
        cuts: partition.cuts,
    }
}

fn open_read(partition: &PartitionLog, segment: &OpenSegment, start: Option<u64>) -> ColdRead {
    ColdRead {
        log: layout::segment_file(&partition.key, segment.base),
        idx: layout::index_file(&partition.key, segment.base),
        base: segment.base,
        bytes: segment.written,
        sealed: false,
        unindexed: segment.indexed_from,
        start,
        cuts: partition.cuts,
    }
}
