//! The blocking parts of a truncation, done on helper threads: finding the place to cut at, and cutting the files.

use crate::batch::{BatchInfo, HEADER_BYTES, peek};
use crate::checkpoint::PRODUCERS_MAX;
use crate::chunk::{AlignedBuffer, ChunkSlice};
use crate::disk::{BLOCK, Disk, File, Open, beside, block_ceil, block_floor, read_file};
use crate::index::SegmentIndex;
use crate::job::{Files, fatal, remove_if_there, unless_gone};
use crate::mutant::{self, Mutant};
use crate::producer::Producers;
use crate::snapshot;
use std::io;
use std::sync::Arc;

/// Bytes of a segment that are read at once for headers.
const WINDOW_BYTES: usize = 64 << 10;
/// Bytes of a segment that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A segment whose place to cut at is to be found.
pub(crate) struct Search {
    /// Its file, and how many bytes of the segment are in it.
    pub path: String,
    pub file_bytes: u64,
    /// Its bytes behind those.
    pub memory: Vec<ChunkSlice>,
    /// Its base offset, and all of its bytes.
    pub base: i64,
    pub bytes: u64,
    /// The offset to cut at, which lies in it.
    pub to: i64,
    pub index_interval_bytes: u32,
    /// Producers have batches that are cut.
    pub rebuild: Option<Rebuild>,
}

/// How the producers are found that were there at the place to cut at.
pub(crate) struct Rebuild {
    /// Those before the segment's first record.
    pub before: Before,
    /// What is remembered now.
    pub remembered: Producers,
}

/// See [`Rebuild::before`].
pub(crate) enum Before {
    /// In memory; the segment has no file yet.
    Memory(Vec<u8>),
    /// In the segment's snapshot, if it has one.
    File(String),
}

/// Where a log is cut: before the first batch that does not lie wholly below the offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutPoint {
    pub(crate) segment: i64,
    pub(crate) position: u64,
    pub(crate) end: i64,
    /// Of what is left of the segment.
    pub(crate) index: SegmentIndex,
    /// The producers at `end`, encoded; empty where none of their batches is cut.
    pub(crate) producers: Vec<u8>,
}

/// Files to be cut and removed.
#[derive(Clone)]
pub(crate) struct CutFiles {
    /// The partition's folder.
    pub dir: String,
    /// How often the log was cut, this time included.
    pub cuts: u64,
    /// The segment that is kept in part, and is not shorter anyway.
    pub keep: Option<Keep>,
    /// Everything of the segments that go.
    pub remove: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Keep {
    pub log: String,
    pub bytes: u64,
    /// It may be mapped: its file is never changed, a new one takes its place.
    pub is_sealed: bool,
}

/// Finds where to cut. Only headers are read, and each says how long its batch is.
///
/// # Errors
/// What the disk says; `InvalidData` and `UnexpectedEof` where the segment is damaged.
pub(crate) fn find(disk: &dyn Disk, search: Search) -> io::Result<CutPoint> {
    let Search { base, to, rebuild, .. } = &search;
    let mut producers = rebuild.as_ref().map(|rebuild| rebuild.before(disk, *base));
    let mut index = SegmentIndex::new(*base);
    let mut headers = Headers::open(disk, &search)?;
    loop {
        let at = index.log_bytes();
        if at >= search.bytes {
            let text = format!("{}: no batch holds offset {to}", search.path);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let info = headers.at(at)?;
        if info.base_offset < index.end_offset() {
            let text = format!("{}: offset {} at {at}", search.path, info.base_offset);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if info.last_offset() >= *to {
            break;
        }
        let interval = search.index_interval_bytes;
        index.append(info.base_offset, info.last_offset(), at, info.max_timestamp, info.size, interval);
        producers.iter_mut().for_each(|producers| producers.apply(&info, info.base_offset));
    }
    let mut encoded = Vec::new();
    producers.iter().for_each(|producers| producers.snapshot(&mut encoded));
    Ok(CutPoint {
        segment: *base,
        position: index.log_bytes(),
        end: index.end_offset(),
        index,
        producers: encoded,
    })
}

impl Rebuild {
    /// The producers before the first record of the segment with base offset `base`.
    fn before(&self, disk: &dyn Disk, base: i64) -> Producers {
        let known = match &self.before {
            Before::Memory(bytes) if bytes.is_empty() => None,
            Before::Memory(bytes) => Producers::restore(bytes, PRODUCERS_MAX).ok(),
            Before::File(path) => {
                read_file(disk, path).ok().and_then(|bytes| snapshot::decode(&bytes, base, PRODUCERS_MAX))
            }
        };
        known.unwrap_or_else(|| {
            let mut remembered = self.remembered.clone();
            remembered.truncate(base);
            remembered
        })
    }
}

/// Reads batch headers of a segment that is in part in its file and in part in memory.
struct Headers<'a> {
    search: &'a Search,
    file: Option<Arc<dyn File>>,
    window: AlignedBuffer,
    /// What of the file is in the window.
    start: u64,
    len: usize,
}

impl<'a> Headers<'a> {
    fn open(disk: &dyn Disk, search: &'a Search) -> io::Result<Headers<'a>> {
        let file = match search.file_bytes {
            0 => None,
            _ => Some(disk.open(&search.path, Open::ReadDirect)?),
        };
        Ok(Headers { search, file, window: AlignedBuffer::zeroed(WINDOW_BYTES), start: 0, len: 0 })
    }

    fn at(&mut self, position: u64) -> io::Result<BatchInfo> {
        let mut header = [0; HEADER_BYTES];
        let in_file = self.search.file_bytes.saturating_sub(position).min(HEADER_BYTES as u64) as usize;
        if in_file > 0 {
            self.read_file(position, in_file, &mut header)?;
        }
        let mut skip = (position + in_file as u64).saturating_sub(self.search.file_bytes) as usize;
        let mut filled = in_file;
        for slice in &self.search.memory {
            let rest = slice.as_bytes().get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(slice.len());
            let n = rest.len().min(HEADER_BYTES - filled);
            header[filled..filled + n].copy_from_slice(&rest[..n]);
            filled += n;
        }
        peek(&header[..filled]).map_err(|e| {
            let text = format!("{}: no record batch at {position}: {e}", self.search.path);
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn read_file(&mut self, position: u64, len: usize, out: &mut [u8]) -> io::Result<()> {
        let end = position + len as u64;
        if position < self.start || end > self.start + self.len as u64 {
            let file = self.file.as_ref().expect("bytes of the segment are in its file");
            self.start = block_floor(position);
            self.len = file.read_at(self.start, &mut self.window)?;
        }
        if end > self.start + self.len as u64 {
            let text = format!("{} ends at or after byte {position}", self.search.path);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let from = (position - self.start) as usize;
        out[..len].copy_from_slice(&self.window[from..from + len]);
        Ok(())
    }
}

/// Cuts and removes files, durably. May be repeated.
///
/// # Errors
/// What the disk says.
pub(crate) fn cut(disk: &dyn Disk, files: &Files, cut: &CutFiles) -> io::Result<()> {
    if let Some(Keep { log, bytes, is_sealed }) = &cut.keep {
        if *is_sealed && !mutant::on(Mutant::TruncateInPlace) {
            copy_beside(disk, log, *bytes)?;
        } else {
            let file = files.get(disk, log)?;
            file.set_len(*bytes)?;
            file.sync().map_err(fatal)?;
        }
        files.forget(log);
    }
    for path in &cut.remove {
        files.forget(path);
        remove_if_there(disk, path)?;
    }
    unless_gone(disk.sync_dir(&cut.dir)).map_err(fatal)
}

/// Puts a file with the first `bytes` bytes of a segment in the segment's place: whoever reads or has mapped the old
/// one keeps that.
fn copy_beside(disk: &dyn Disk, path: &str, bytes: u64) -> io::Result<()> {
    let beside = beside(path);
    copy(disk, path, &beside, bytes).inspect_err(|_| {
        // Where there is no room, half a copy does not take what is left of it.
        let _ = disk.remove_file(&beside);
    })?;
    disk.rename(&beside, path)
}

fn copy(disk: &dyn Disk, path: &str, beside: &str, bytes: u64) -> io::Result<()> {
    let (from, to) = (disk.open(path, Open::ReadDirect)?, disk.open(beside, Open::Direct)?);
    to.set_len(0)?;
    let mut buffer = AlignedBuffer::zeroed(COPY_BYTES.min(block_ceil(bytes) as usize));
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(buffer.len() as u64) as usize;
        if from.read_at(at, &mut buffer)? < len {
            let text = format!("{path} is shorter than the {bytes} bytes that were sealed");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let whole = block_ceil(len as u64) as usize;
        buffer[len..whole].fill(0);
        to.write_at(at, &buffer[..whole])?;
        at += len as u64;
    }
    assert!(buffer.len().is_multiple_of(BLOCK), "pieces are whole blocks");
    to.sync().map_err(fatal)
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
