//! Reading segments' files, on helper threads: records by offset, offsets by timestamp.
//!
//! Sealed segments are shared by mapping and handed out as ranges that were made resident; mapped memory is
//! never dereferenced here, headers are read with ordinary reads. The written part of a segment that is still
//! open is read around the page cache, into memory of its own.

use crate::batch::{BatchInfo, HEADER_BYTES, peek, records_of};
use crate::chunk::AlignedBuffer;
use crate::disk::{Disk, File, Open, Shared, block_ceil, block_floor};
use crate::index::{SCAN_INTERVAL_BYTES, SegmentIndex};
use crate::store::ColdRead;
use hashbrown::HashMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Records read from a file.
#[derive(Clone)]
pub enum ColdRecords {
    /// A resident range of a mapping.
    Mapped(Shared, Range<usize>),
    /// A range of a buffer.
    Read(Arc<AlignedBuffer>, Range<usize>),
}

impl ColdRecords {
    /// The bytes, for handing to the socket. Those of a mapping are not to be looked at.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            ColdRecords::Mapped(shared, range) => &shared.as_ref().as_ref()[range.clone()],
            ColdRecords::Read(buffer, range) => &buffer[range.clone()],
        }
    }

    /// Their number.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            ColdRecords::Mapped(_, range) | ColdRecords::Read(_, range) => range.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, ms since 1970.
    pub timestamp: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: i32,
}

/// An open segment file with its index.
struct Segment {
    path: String,
    file: Arc<dyn File>,
    direct: bool,
    index: SegmentIndex,
    /// Bytes of the file that were looked at for the index, which ends with the last whole batch of them.
    indexed: u64,
    shared: Option<Shared>,
}

/// Open segments, at most a stated number. Used on helper threads only.
pub struct Segments {
    open: Mutex<Opened>,
    limit: usize,
}

#[derive(Default)]
struct Opened {
    by_path: HashMap<String, (Arc<Segment>, u64), foldhash::fast::RandomState>,
    clock: u64,
}

impl Segments {
    /// A cache of at most `limit` open segments.
    #[must_use]
    pub fn new(limit: usize) -> Segments {
        assert!(limit > 0);
        Segments { open: Mutex::default(), limit }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a removed segment's file, so that its space is free.
    pub fn forget(&self, path: &str) {
        self.lock().by_path.remove(path);
    }

    /// Lets go of all files of a removed folder.
    pub fn forget_below(&self, dir: &str) {
        let below = |path: &String| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        self.lock().by_path.retain(|path, _| !below(path));
    }

    fn get(&self, disk: &dyn Disk, read: &ColdRead) -> io::Result<Arc<Segment>> {
        let mut opened = self.lock();
        opened.clock += 1;
        let clock = opened.clock;
        let known = opened.by_path.get_mut(&read.log).map(|(segment, used)| {
            *used = clock;
            Arc::clone(segment)
        });
        drop(opened);
        let segment = match known {
            Some(segment) if segment.indexed >= read.bytes && segment.direct != read.sealed => {
                return Ok(segment);
            }
            known => Arc::new(Segment::open(disk, read, known.as_deref())?),
        };
        let mut opened = self.lock();
        if opened.by_path.len() >= self.limit {
            let oldest = opened.by_path.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                opened.by_path.remove(&path);
            }
        }
        opened.by_path.insert(read.log.clone(), (Arc::clone(&segment), clock));
        Ok(segment)
    }

    /// Reads whole batches from the one that holds `offset`, below `limit`, at least one, in at most
    /// `max_bytes` unless the first is larger. Returns them and the offset after them.
    ///
    /// # Errors
    /// What the disk says, and `InvalidData` where something is no batch: that takes the partition offline.
    pub fn read(
        &self,
        disk: &dyn Disk,
        read: &ColdRead,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<(ColdRecords, i64)> {
        let segment = self.get(disk, read)?;
        let (start, end, end_offset) = segment.range(read.bytes, offset, limit, max_bytes)?;
        Ok((segment.records(start, end)?, end_offset))
    }

    /// As [`read`](Self::read), into memory that may be looked at.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn read_copy(
        &self,
        disk: &dyn Disk,
        read: &ColdRead,
        offset: i64,
        limit: i64,
        max_bytes: usize,
    ) -> io::Result<Vec<u8>> {
        let segment = self.get(disk, read)?;
        let (start, end, _) = segment.range(read.bytes, offset, limit, max_bytes)?;
        segment.bytes(start, (end - start) as usize)
    }

    /// The first record at or after `offset` and below `limit` whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn find_time(
        &self,
        disk: &dyn Disk,
        read: &ColdRead,
        timestamp: i64,
        offset: i64,
        limit: i64,
    ) -> io::Result<Option<Found>> {
        let segment = self.get(disk, read)?;
        let mut at = segment.index.time_floor(timestamp).position;
        while let Some(info) = segment.whole(at, read.bytes)? {
            if info.base_offset >= limit {
                return Ok(None);
            }
            if info.max_timestamp >= timestamp && info.last_offset() >= offset {
                let found = find_in_batch(&segment.bytes(at, info.size)?, timestamp, offset, limit)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            at += info.size as u64;
        }
        Ok(None)
    }
}

/// The first record of a batch at or after `offset` and below `limit` whose timestamp is at least `timestamp`.
///
/// # Errors
/// `InvalidData` where the batch cannot be opened.
pub fn find_in_batch(batch: &[u8], timestamp: i64, offset: i64, limit: i64) -> io::Result<Option<Found>> {
    const DECOMPRESSED_MAX: usize = 256 << 20;
    let bad = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
    let info = peek(batch).map_err(|e| bad(&e))?;
    let appended_at = info.timestamp_type() == crate::batch::TimestampType::LogAppendTime;
    let records = records_of(batch, DECOMPRESSED_MAX).map_err(|e| bad(&e))?;
    for record in records.iter() {
        let record = record.map_err(|e| bad(&e))?;
        let at = info.base_offset + i64::from(record.offset_delta);
        let time = if appended_at { info.max_timestamp } else { info.timestamp_of(record.timestamp_delta) };
        if at >= offset && at < limit && time >= timestamp {
            return Ok(Some(Found { offset: at, timestamp: time, leader_epoch: info.leader_epoch }));
        }
    }
    Ok(None)
}

impl Segment {
    fn open(disk: &dyn Disk, read: &ColdRead, known: Option<&Segment>) -> io::Result<Segment> {
        let how = if read.sealed { Open::Read } else { Open::ReadDirect };
        let file = disk.open(&read.log, how)?;
        let shared = if read.sealed { Some(file.share(read.bytes)?) } else { None };
        let index = SegmentIndex::new(read.base);
        let mut segment = Segment {
            path: read.log.clone(),
            file,
            direct: !read.sealed,
            index,
            indexed: read.bytes,
            shared,
        };
        let stored = read.sealed.then(|| crate::disk::read_file(disk, &read.idx).ok()).flatten();
        let stored = stored.and_then(|bytes| SegmentIndex::decode(&bytes, read.base, read.bytes).ok());
        segment.index = match (stored, known) {
            (Some(index), _) => index,
            (None, Some(known)) if known.index.log_bytes() <= read.bytes => known.index.clone(),
            _ => segment.index,
        };
        segment.extend_index(read.bytes)?;
        Ok(segment)
    }

    /// Indexes what lies between the index's end and `bytes`, by reading the headers.
    fn extend_index(&mut self, bytes: u64) -> io::Result<()> {
        let mut at = self.index.log_bytes();
        while let Some(info) = self.whole(at, bytes)? {
            let size = info.size as u64;
            let (first, last) = (info.base_offset, info.last_offset());
            self.index.append(first, last, at, info.max_timestamp, info.size, SCAN_INTERVAL_BYTES);
            at += size;
        }
        Ok(())
    }

    /// The header of the batch at `at`, if all of the batch lies below `bytes`: the written part of an open
    /// segment may end inside one.
    fn whole(&self, at: u64, bytes: u64) -> io::Result<Option<BatchInfo>> {
        if at + HEADER_BYTES as u64 > bytes {
            return Ok(None);
        }
        let info = self.header(at)?;
        Ok(Some(info).filter(|info| at + info.size as u64 <= bytes))
    }

    fn header(&self, at: u64) -> io::Result<BatchInfo> {
        let bytes = self.bytes(at, HEADER_BYTES)?;
        peek(&bytes).map_err(|e| {
            let text = format!("{} at byte {at}: no record batch: {e}", self.path);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn bytes(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        if self.direct {
            let (buffer, range) = self.read_blocks(at, at + len as u64)?;
            return Ok(buffer[range].to_vec());
        }
        let mut bytes = vec![0; len];
        if self.file.read_at(at, &mut bytes)? < len {
            return Err(self.too_short(at));
        }
        Ok(bytes)
    }

    fn too_short(&self, at: u64) -> io::Error {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("{} ends at or after byte {at}", self.path))
    }

    fn read_blocks(&self, from: u64, to: u64) -> io::Result<(AlignedBuffer, Range<usize>)> {
        let start = block_floor(from);
        let mut buffer = AlignedBuffer::zeroed((block_ceil(to) - start) as usize);
        let read = self.file.read_at(start, &mut buffer)?;
        let range = (from - start) as usize..(to - start) as usize;
        if read < range.end {
            return Err(self.too_short(from));
        }
        Ok((buffer, range))
    }

    /// Where the batches to be read start and end, and the offset after them: see [`Segments::read`].
    fn range(&self, bytes: u64, offset: i64, limit: i64, max_bytes: usize) -> io::Result<(u64, u64, i64)> {
        let (start, first) = self.find(bytes, offset)?;
        if first.last_offset() >= limit {
            return Ok((start, start, offset));
        }
        let (mut end, mut end_offset) = (start + first.size as u64, first.last_offset() + 1);
        // Jump as far as the index allows, then go batch by batch.
        let jump = self.index.position_floor((start + max_bytes as u64).min(bytes));
        if jump.position > end && jump.offset <= limit {
            (end, end_offset) = (jump.position, jump.offset);
        }
        while let Some(next) = self.whole(end, bytes)? {
            let size = next.size as u64;
            if next.last_offset() >= limit || end + size - start > max_bytes as u64 {
                break;
            }
            (end, end_offset) = (end + size, next.last_offset() + 1);
        }
        Ok((start, end, end_offset))
    }

    /// Position and header of the batch that holds `offset`, or of the first one above it.
    fn find(&self, bytes: u64, offset: i64) -> io::Result<(u64, BatchInfo)> {
        let mut at = self.index.floor(offset).position;
        while let Some(info) = self.whole(at, bytes)? {
            if info.last_offset() >= offset {
                return Ok((at, info));
            }
            at += info.size as u64;
        }
        Err(self.too_short(at))
    }

    fn records(&self, from: u64, to: u64) -> io::Result<ColdRecords> {
        if let Some(shared) = &self.shared {
            self.file.make_resident(shared, from, to)?;
            return Ok(ColdRecords::Mapped(Arc::clone(shared), from as usize..to as usize));
        }
        if from == to {
            return Ok(ColdRecords::Read(Arc::new(AlignedBuffer::zeroed(crate::disk::BLOCK)), 0..0));
        }
        let (buffer, range) = self.read_blocks(from, to)?;
        Ok(ColdRecords::Read(Arc::new(buffer), range))
    }
}
