//! One open segment file and its index: which of its bytes are the batches that a read is for.

use crate::batch::{BatchInfo, HEADER_BYTES, HeaderError, peek};
use crate::buffers::{Buffer, Buffers, size_for};
use crate::disk::{Disk, File, Open, Shared, block_ceil, block_floor, read_file};
use crate::index::{SCAN_INTERVAL_BYTES, SegmentIndex};
use crate::reader::{ColdRecords, Found, find_in_batch};
use crate::store::ColdRead;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of an unsealed segment that are read at once where headers are looked for.
const SCAN_BYTES: u64 = 128 << 10;

/// An open segment file with its index.
pub(super) struct Segment {
    path: String,
    file: Arc<dyn File>,
    /// Of a sealed segment, all of it; of another one, what an earlier process wrote: the store knows the rest.
    index: SegmentIndex,
    /// The mapping of a sealed segment. Others are read around the page cache.
    shared: Option<Shared>,
    buffers: Buffers,
}

impl Segment {
    pub fn open(disk: &dyn Disk, read: &ColdRead, buffers: &Buffers) -> io::Result<Segment> {
        let how = if read.sealed { Open::Read } else { Open::ReadDirect };
        let file = disk.open(&read.log, how)?;
        let shared = if read.sealed { Some(file.share(read.bytes)?) } else { None };
        let index = SegmentIndex::new(read.base);
        let mut segment = Segment { path: read.log.clone(), file, index, shared, buffers: buffers.clone() };
        let stored = read.sealed.then(|| read_file(disk, &read.idx).ok()).flatten();
        match stored.and_then(|bytes| SegmentIndex::decode(&bytes, read.base, read.bytes).ok()) {
            Some(index) => segment.index = index,
            None => segment.index = segment.indexed(read.base, segment.unindexed(read))?,
        }
        Ok(segment)
    }

    /// Whether this is what a read needs: the segment may have been sealed, or cut, since it was opened.
    pub fn serves(&self, read: &ColdRead) -> bool {
        self.shared.is_some() == read.sealed && self.index.log_bytes() == self.unindexed(read)
    }

    fn unindexed(&self, read: &ColdRead) -> u64 {
        if read.sealed { read.bytes } else { read.unindexed }
    }

    /// The index of the first `bytes`, by reading the headers.
    fn indexed(&self, base: i64, bytes: u64) -> io::Result<SegmentIndex> {
        let mut index = SegmentIndex::new(base);
        let mut scan = Scan::new(self);
        while let Some(info) = scan.whole(index.log_bytes(), bytes)? {
            let (first, last, at) = (info.base_offset, info.last_offset(), index.log_bytes());
            index.append(first, last, at, info.max_timestamp, info.size, SCAN_INTERVAL_BYTES);
        }
        match index.log_bytes() {
            end if end == bytes => Ok(index),
            end => Err(self.too_short(end)),
        }
    }

    fn too_short(&self, at: u64) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} ends at or after byte {at}", self.path))
    }

    fn no_batch(&self, at: u64, why: &dyn std::fmt::Display) -> io::Error {
        let text = format!("{} at byte {at}: no record batch: {why}", self.path);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }

    /// The blocks that hold `from..to`, and where in them that is.
    fn blocks(&self, from: u64, to: u64) -> io::Result<(Buffer, Range<usize>)> {
        let start = block_floor(from);
        let mut buffer = self.buffers.get((block_ceil(to) - start) as usize);
        let read = self.file.read_at(start, &mut buffer)?;
        let range = (from - start) as usize..(to - start) as usize;
        if read < range.end {
            return Err(self.too_short(from));
        }
        Ok((buffer, range))
    }

    fn bytes(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        if self.shared.is_none() {
            let (buffer, range) = self.blocks(at, at + len as u64)?;
            return Ok(buffer[range].to_vec());
        }
        let mut bytes = vec![0; len];
        if self.file.read_at(at, &mut bytes)? < len {
            return Err(self.too_short(at));
        }
        Ok(bytes)
    }

    /// See [`Segments::read`](crate::reader::Segments::read).
    pub fn read(
        &self,
        read: &ColdRead,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<(ColdRecords, i64)> {
        match &self.shared {
            Some(shared) => self.read_mapped(shared, read.bytes, offset, limit, max_bytes),
            None => self.read_around(read, offset, limit, max_bytes),
        }
    }

    fn read_mapped(
        &self,
        shared: &Shared,
        bytes: u64,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<(ColdRecords, i64)> {
        let (start, end, end_offset) = self.range(bytes, offset, limit, max_bytes)?;
        self.file.make_resident(shared, start, end)?;
        Ok((ColdRecords::Mapped(Arc::clone(shared), start as usize..end as usize), end_offset))
    }

    /// Where the batches to be read start and end, and the offset after them.
    fn range(&self, bytes: u64, offset: i64, limit: i64, max_bytes: usize) -> io::Result<(u64, u64, i64)> {
        let mut scan = Scan::new(self);
        let (start, first) = self.find(&mut scan, bytes, offset)?;
        if first.last_offset() >= limit {
            return Ok((start, start, offset));
        }
        let (mut end, mut end_offset) = (start + first.size as u64, first.last_offset() + 1);
        // Jump as far as the index allows, then go batch by batch.
        let jump = self.index.position_floor((start + max_bytes as u64).min(bytes));
        if jump.position > end && jump.offset <= limit {
            (end, end_offset) = (jump.position, jump.offset);
        }
        while let Some(next) = scan.whole(end, bytes)? {
            let size = next.size as u64;
            if next.last_offset() >= limit || end + size - start > max_bytes as u64 {
                break;
            }
            (end, end_offset) = (end + size, next.last_offset() + 1);
        }
        Ok((start, end, end_offset))
    }

    /// Position and header of the batch that holds `offset`, or of the first one above it.
    fn find(&self, scan: &mut Scan<'_>, bytes: u64, offset: i64) -> io::Result<(u64, BatchInfo)> {
        let mut at = self.index.floor(offset).position;
        while let Some(info) = scan.whole(at, bytes)? {
            if info.last_offset() >= offset {
                return Ok((at, info));
            }
            at += info.size as u64;
        }
        Err(self.too_short(at))
    }

    /// Reads around the page cache, with one read unless the first batch is larger than `max_bytes`.
    fn read_around(
        &self,
        read: &ColdRead,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<(ColdRecords, i64)> {
        let from = read.start.unwrap_or_else(|| self.index.floor(offset).position);
        let mut wanted = max_bytes.max(HEADER_BYTES) as u64;
        loop {
            let to = (from + wanted).min(read.bytes);
            if from + HEADER_BYTES as u64 > to {
                return Err(self.too_short(from));
            }
            let (buffer, range) = self.blocks(from, to)?;
            let cut = Cut::of(&buffer[range.clone()], offset, limit, max_bytes)
                .map_err(|(at, error)| self.no_batch(from + at as u64, &error))?;
            match cut {
                Cut::Batches { start, end, end_offset } => {
                    let found = range.start + start..range.start + end;
                    return Ok((self.fitted(buffer, found), end_offset));
                }
                Cut::Needs(more) if from + more as u64 > read.bytes => return Err(self.too_short(from)),
                Cut::Needs(more) => wanted = wanted.max(more as u64),
            }
        }
    }

    /// Records in a buffer that is not much larger than they are: they keep it for as long as a client takes to
    /// read them.
    fn fitted(&self, buffer: Buffer, found: Range<usize>) -> ColdRecords {
        if 2 * size_for(found.len()) > buffer.memory() {
            return ColdRecords::Read(Arc::new(buffer), found);
        }
        let mut small = self.buffers.get(found.len());
        small[..found.len()].copy_from_slice(&buffer[found.clone()]);
        ColdRecords::Read(Arc::new(small), 0..found.len())
    }

    /// See [`Segments::read_copy`](crate::reader::Segments::read_copy).
    pub fn read_copy(
        &self,
        read: &ColdRead,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<Vec<u8>> {
        if self.shared.is_none() {
            return Ok(self.read_around(read, offset, limit, max_bytes)?.0.as_bytes().to_vec());
        }
        let (start, end, _) = self.range(read.bytes, offset, limit, max_bytes)?;
        self.bytes(start, (end - start) as usize)
    }

    /// See [`Segments::find_time`](crate::reader::Segments::find_time).
    pub fn find_time(
        &self,
        read: &ColdRead,
        timestamp: i64,
        offset: i64,
        limit: i64,
    ) -> io::Result<Option<Found>> {
        let mut at = read.start.unwrap_or_else(|| self.index.time_floor(timestamp).position);
        let mut scan = Scan::new(self);
        while let Some(info) = scan.whole(at, read.bytes)? {
            if info.base_offset >= limit {
                return Ok(None);
            }
            if info.max_timestamp >= timestamp && info.last_offset() >= offset {
                let found = find_in_batch(&self.bytes(at, info.size)?, timestamp, offset, limit)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            at += info.size as u64;
        }
        Ok(None)
    }
}

/// What part of some bytes, which start with a batch, a read is for.
#[derive(Debug, PartialEq, Eq)]
enum Cut {
    /// The bytes that are read, and the offset after them.
    Batches { start: usize, end: usize, end_offset: i64 },
    /// The first batch ends, as far as can be seen, only there.
    Needs(usize),
}

impl Cut {
    /// Whole batches from the one that holds `offset` on, below `limit`, at least one.
    fn of(bytes: &[u8], offset: i64, limit: i64, max_bytes: usize) -> Result<Cut, (usize, HeaderError)> {
        let header = |at: usize| match bytes.get(at..at + HEADER_BYTES) {
            Some(header) => peek(header).map(Some).map_err(|error| (at, error)),
            None => Ok(None),
        };
        let mut start = 0;
        let first = loop {
            let Some(info) = header(start)? else { return Ok(Cut::Needs(start + HEADER_BYTES)) };
            if info.last_offset() >= offset {
                break info;
            }
            start += info.size;
        };
        if first.last_offset() >= limit {
            return Ok(Cut::Batches { start, end: start, end_offset: offset });
        }
        let (mut end, mut end_offset) = (start + first.size, first.last_offset() + 1);
        if end > bytes.len() {
            return Ok(Cut::Needs(end));
        }
        // What is no batch is an error for the read that begins there.
        while let Ok(Some(next)) = header(end) {
            let past = end + next.size;
            if next.last_offset() >= limit || past > bytes.len() || past - start > max_bytes {
                break;
            }
            (end, end_offset) = (past, next.last_offset() + 1);
        }
        Ok(Cut::Batches { start, end, end_offset })
    }
}

/// Goes over the headers of a segment's batches.
struct Scan<'a> {
    segment: &'a Segment,
    /// What was read last of an unsealed segment: its first byte in the file, and the blocks.
    run: Option<(u64, Buffer, Range<usize>)>,
}

impl Scan<'_> {
    fn new(segment: &Segment) -> Scan<'_> {
        Scan { segment, run: None }
    }

    /// The header of the batch at `at`, if all of the batch lies below `bytes`: the written part of an open
    /// segment may end inside one.
    fn whole(&mut self, at: u64, bytes: u64) -> io::Result<Option<BatchInfo>> {
        if at + HEADER_BYTES as u64 > bytes {
            return Ok(None);
        }
        let info = self.header(at, bytes)?;
        Ok(Some(info).filter(|info| at + info.size as u64 <= bytes))
    }

    fn header(&mut self, at: u64, bytes: u64) -> io::Result<BatchInfo> {
        let segment = self.segment;
        if segment.shared.is_some() {
            let mut header = [0; HEADER_BYTES];
            if segment.file.read_at(at, &mut header)? < HEADER_BYTES {
                return Err(segment.too_short(at));
            }
            return peek(&header).map_err(|e| segment.no_batch(at, &e));
        }
        let held = |(from, _, range): &(u64, Buffer, Range<usize>)| {
            *from <= at && at + HEADER_BYTES as u64 <= from + range.len() as u64
        };
        if !self.run.as_ref().is_some_and(held) {
            let (buffer, range) = segment.blocks(at, (at + SCAN_BYTES).min(bytes))?;
            self.run = Some((at, buffer, range));
        }
        let (from, buffer, range) = self.run.as_ref().expect("it was read just now");
        peek(&buffer[range.start + (at - from) as usize..range.end]).map_err(|e| segment.no_batch(at, &e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Codec;

    /// Batches of two records each, from an offset on.
    fn batches(first: i64, count: i64) -> (Vec<u8>, usize) {
        let build = |n: i64| {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(n, None, Some(&[7; 100]), &[]);
            builder.push(n, None, Some(&[7; 100]), &[]);
            builder.build(first + 2 * n, 0)
        };
        let all: Vec<Vec<u8>> = (0..count).map(build).collect();
        (all.concat(), all[0].len())
    }

    fn cut(bytes: &[u8], offset: i64, limit: i64, max: usize) -> Cut {
        Cut::of(bytes, offset, limit, max).unwrap()
    }

    #[test]
    fn a_read_is_whole_batches_from_the_one_that_holds_the_offset() {
        let (all, size) = batches(10, 5);
        let found = |start: usize, end: usize, end_offset| Cut::Batches {
            start: start * size,
            end: end * size,
            end_offset,
        };
        assert_eq!(cut(&all, 10, 100, all.len()), found(0, 5, 20));
        assert_eq!(cut(&all, 13, 100, all.len()), found(1, 5, 20), "the offset lies inside a batch");
        assert_eq!(cut(&all, 12, 100, 2 * size + 5), found(1, 3, 16), "no part of a batch");
        assert_eq!(cut(&all, 12, 100, 1), found(1, 2, 14), "at least one");
        assert_eq!(cut(&all, 12, 17, all.len()), found(1, 3, 16), "nothing at or beyond the limit");
        assert_eq!(cut(&all, 16, 17, all.len()), found(3, 3, 16), "not even the first");
    }

    #[test]
    fn what_is_not_whole_is_asked_for() {
        let (all, size) = batches(0, 3);
        assert_eq!(cut(&all[..size - 1], 0, 9, 1 << 20), Cut::Needs(size));
        assert_eq!(cut(&all[..size + 9], 2, 9, 1 << 20), Cut::Needs(size + HEADER_BYTES));
        assert_eq!(cut(&all[..2 * size - 1], 2, 9, 1 << 20), Cut::Needs(2 * size));
        assert_eq!(
            cut(&all[..2 * size + 9], 0, 9, 1 << 20),
            Cut::Batches { start: 0, end: 2 * size, end_offset: 4 },
            "the beginning of another batch is left out"
        );
    }

    #[test]
    fn what_is_no_batch_is_named_by_its_place() {
        let (mut all, size) = batches(0, 3);
        all[size + 16] = 9;
        assert_eq!(Cut::of(&all, 2, 9, 1 << 20).unwrap_err().0, size);
        let before = Cut::Batches { start: 0, end: size, end_offset: 2 };
        assert_eq!(cut(&all, 0, 9, 1 << 20), before, "what lies before it is read");
    }
}
