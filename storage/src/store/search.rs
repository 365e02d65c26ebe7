//! Searching a partition by timestamp: where to look is decided here, the looking is for a helper thread.
//!
//! A search copies nothing that it need not: it begins where the in-memory index of the segments still open says, takes
//! handles of the tail's chunks, and stops at the first record found.

use super::{PartitionIx, Store};
use crate::chunk::ChunkSlice;
use crate::disk::Disk;
use crate::pieces::Pieces;
use crate::reader::{Found, Segments, find_in_batch};
use crate::store::ColdRead;
use crate::wal::writer::CommitBuffer;
use std::io;

/// A search for the first record below a limit that is at least as new as a timestamp.
pub struct TimeSearch {
    timestamp: i64,
    start: i64,
    limit: i64,
    /// Files to search first, in this order.
    cold: Vec<ColdRead>,
    /// Nothing of the files is looked at from here on: it is in `tail`, where it matters.
    tail_from: i64,
    tail: Vec<ChunkSlice>,
}

impl TimeSearch {
    /// Bytes of memory that the search may walk through.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.tail.iter().map(ChunkSlice::len).sum()
    }

    /// Searches. Blocking.
    ///
    /// # Errors
    /// What the disk says, and `InvalidData` where something is no batch or cannot be opened.
    pub fn run(&self, segments: &Segments, disk: &dyn Disk) -> io::Result<Option<Found>> {
        let until = self.tail_from.min(self.limit);
        for read in &self.cold {
            let found = segments.find_time(disk, read, self.timestamp, self.start, until)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let mut rest = Pieces::new(&self.tail);
        while let Some(info) = rest.header()? {
            if info.max_timestamp >= self.timestamp {
                let found = find_in_batch(&rest.bytes(info.size)?, self.timestamp, self.start, self.limit)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            rest.skip(info.size);
        }
        Ok(None)
    }
}

impl<B: CommitBuffer> Store<B> {
    /// Plans the search for the first record that may be read, below `limit`, whose timestamp is at least `timestamp`.
    #[must_use]
    pub fn search(&self, ix: PartitionIx, timestamp: i64, limit: i64) -> TimeSearch {
        let log = self.log(ix);
        let (start, end) = (log.log_start, log.end());
        let open_from = log.rolled.front().unwrap_or(&log.active).base;
        let tail_from = log.tail.first_offset().map_or(end, |first| first.max(open_from));
        // In the open segments, no batch that this process wrote before this offset is new enough.
        let open = || log.rolled.iter().chain([&log.active]).filter(|s| s.max_timestamp >= timestamp);
        let place = open().next().map_or(end, |segment| segment.index.time_floor(timestamp).offset);
        let in_file = |base: i64| {
            let segment = open().find(|s| s.base == base);
            segment.is_none_or(|s| base < tail_from && (s.indexed_from > 0 || place < tail_from))
        };
        let cold = self.segments_since(ix, start, timestamp).into_iter();
        let cold = cold.filter(|c| c.bytes > 0 && in_file(c.base)).collect();
        let tail = log.tail.span(place.max(tail_from).max(start), limit);
        TimeSearch { timestamp, start, limit, cold, tail_from, tail }
    }

    /// The largest timestamp of all records that are durable; -1 where there is none.
    #[must_use]
    pub fn newest_durable(&self, ix: PartitionIx) -> i64 {
        let log = self.log(ix);
        let open = log.rolled.iter().chain([&log.active]).map(|s| s.durable_max_timestamp);
        log.sealed.iter().map(|s| s.max_timestamp).chain(open).max().unwrap_or(-1)
    }

    /// The largest timestamp of all records; -1 where there is none.
    #[must_use]
    pub fn newest(&self, ix: PartitionIx) -> i64 {
        self.segments(ix).iter().map(|s| s.max_timestamp).max().unwrap_or(-1)
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
