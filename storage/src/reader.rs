//! Reading segments' files, on helper threads: records by offset, offsets by timestamp.
//!
//! Sealed segments are shared by mapping and handed out as ranges that were made resident; mapped memory is
//! never dereferenced here, headers are read with ordinary reads. The written part of a segment that is still
//! open is read around the page cache, into memory of its own.

mod segment;

use crate::batch::{peek, records_of};
use crate::buffers::{Buffer, Buffers};
use crate::disk::{Disk, Shared, parent};
use crate::mutant::{self, Mutant};
use crate::store::ColdRead;
use hashbrown::HashMap;
use segment::Segment;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Records read from a file.
#[derive(Clone)]
pub enum ColdRecords {
    /// A resident range of a mapping.
    Mapped(Shared, Range<usize>),
    /// A range of a buffer, which goes back to its pool.
    Read(Arc<Buffer>, Range<usize>),
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

    /// Bytes of memory that they keep in use: none for what is mapped.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            ColdRecords::Mapped(..) => 0,
            ColdRecords::Read(buffer, _) => buffer.memory(),
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

/// Open segments, at most a stated number. Used on helper threads only.
pub struct Segments {
    open: Mutex<Opened>,
    limit: usize,
    buffers: Buffers,
}

#[derive(Default)]
struct Opened {
    by_path: HashMap<String, (Arc<Segment>, u64), foldhash::fast::RandomState>,
    clock: u64,
    /// Truncations of the partitions whose logs were cut, by folder: see [`ColdRead::cuts`].
    cuts: HashMap<String, u64, foldhash::fast::RandomState>,
    /// How often files were let go of because they were cut or removed.
    purges: u64,
}

impl Opened {
    /// Refuses a read that was planned before its log was cut: the file may be another one now, which is written to
    /// and must not be mapped.
    fn check(&self, read: &ColdRead) -> io::Result<()> {
        match self.cuts.get(parent(&read.log)) {
            Some(cuts) if *cuts > read.cuts && !mutant::on(Mutant::StaleIndex) => {
                let text = format!("{}: the log was cut since", read.log);
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
            _ => Ok(()),
        }
    }
}

impl Segments {
    /// A cache of at most `limit` open segments.
    #[must_use]
    pub fn new(limit: usize) -> Segments {
        assert!(limit > 0);
        Segments { open: Mutex::default(), limit, buffers: Buffers::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of a removed segment's file, so that its space is free.
    pub fn forget(&self, path: &str) {
        let mut opened = self.lock();
        opened.purges += 1;
        opened.by_path.remove(path);
    }

    /// Lets go of all files of a partition whose log was cut, and refuses what was planned before: it was cut `cuts`
    /// times in all. Said between the cut of the files and [`job_done`](crate::store::Store::job_done), after which they
    /// are written to again.
    pub fn cut(&self, dir: &str, cuts: u64) {
        let mut opened = self.lock();
        opened.cuts.insert(dir.to_owned(), cuts);
        opened.purges += 1;
        if !mutant::on(Mutant::StaleIndex) {
            opened.by_path.retain(|path, _| parent(path) != dir);
        }
    }

    /// Lets go of all files of a removed folder.
    pub fn forget_below(&self, dir: &str) {
        let below = |path: &String| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        let mut opened = self.lock();
        opened.purges += 1;
        opened.by_path.retain(|path, _| !below(path));
        opened.cuts.remove(dir);
    }

    fn get(&self, disk: &dyn Disk, read: &ColdRead) -> io::Result<Arc<Segment>> {
        let mut opened = self.lock();
        opened.check(read)?;
        opened.clock += 1;
        let (clock, purges) = (opened.clock, opened.purges);
        let known = opened.by_path.get_mut(&read.log).map(|(segment, used)| {
            *used = clock;
            Arc::clone(segment)
        });
        drop(opened);
        let segment = match known {
            Some(segment) if segment.serves(read) => return Ok(segment),
            _ => Arc::new(Segment::open(disk, read, &self.buffers)?),
        };
        let mut opened = self.lock();
        opened.check(read)?;
        if opened.purges != purges {
            // It may be a file that was cut or removed since it was opened: good for this read, not for later ones.
            return Ok(segment);
        }
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
        self.get(disk, read)?.read(read, offset, limit, max_bytes)
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
        self.get(disk, read)?.read_copy(read, offset, limit, max_bytes)
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
        self.get(disk, read)?.find_time(read, timestamp, offset, limit)
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
