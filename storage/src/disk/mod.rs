//! The seam to the file system. Everything that storage does to files outside the hot WAL write goes through
//! [`Disk`], so that a test can put a faulty or simulated disk beneath it.
//!
//! All calls block and are made on helper threads or before the shards start, never on a shard's thread.
//! Paths are relative to the data folder, with `/` between their parts.

mod real;

use crate::mutant::{self, Mutant};
use std::io;
use std::sync::Arc;

pub use real::RealDisk;

/// The unit of direct I/O: positions, lengths and memory of direct writes are multiples of it.
pub const BLOCK: usize = 4096;

/// Rounds down to a whole block.
#[must_use]
pub const fn block_floor(position: u64) -> u64 {
    position & !(BLOCK as u64 - 1)
}

/// Rounds up to a whole block.
#[must_use]
pub const fn block_ceil(position: u64) -> u64 {
    block_floor(position + BLOCK as u64 - 1)
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing file, read through the page cache.
    Read,
    /// Existing file, read around the page cache: positions, lengths and memory in whole blocks.
    ReadDirect,
    /// Read and write around the page cache, created if absent: positions, lengths and memory in whole blocks.
    Direct,
    /// Written through the page cache, created if absent, cut to nothing first. For small files.
    Replace,
}

/// One entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without the folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A mapped or otherwise shared range of a file's bytes.
pub type Shared = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// An open file.
pub trait File: Send + Sync {
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// What the disk says.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// What the disk says; `StorageFull` when there is no room, after which nothing may be assumed of the range.
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reserves blocks from `from` to `to` without changing the file's length.
    ///
    /// # Errors
    /// `StorageFull` when there is no room.
    fn allocate(&self, from: u64, to: u64) -> io::Result<()>;
    /// Cuts or extends the file.
    ///
    /// # Errors
    /// What the disk says.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the disk says.
    fn size(&self) -> io::Result<u64>;
    /// Makes the file's bytes and length durable.
    ///
    /// # Errors
    /// What the disk says. A failed sync leaves the state on disk unknown: it is fatal, never retried.
    fn sync(&self) -> io::Result<()>;
    /// Shares the first `len` bytes for reading. Only of sealed files: a shared file is never written again.
    ///
    /// # Errors
    /// What the disk says.
    fn share(&self, len: u64) -> io::Result<Shared>;
    /// Makes a shared range resident in memory, so that touching it cannot fault to the disk.
    ///
    /// # Errors
    /// What the disk says, for instance of a bad sector.
    fn make_resident(&self, shared: &Shared, from: u64, to: u64) -> io::Result<()>;
}

/// A file system, rooted at the data folder.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound` and what else the disk says.
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>>;
    /// Lists a folder, sorted by name.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>>;
    /// Makes a folder and those above it. Not durable before [`Disk::sync_dir`] of each folder above it.
    ///
    /// # Errors
    /// What the disk says.
    fn make_dirs(&self, dir: &str) -> io::Result<()>;
    /// Makes a folder's entries durable. The data folder itself is `""`.
    ///
    /// # Errors
    /// What the disk says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Renames, replacing what is there.
    ///
    /// # Errors
    /// What the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn remove_file(&self, path: &str) -> io::Result<()>;
    /// Removes an empty folder.
    ///
    /// # Errors
    /// What the disk says, for instance that it is not empty.
    fn remove_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes that may still be written to the file system.
    ///
    /// # Errors
    /// What the disk says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Whether an error says that the disk is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The folder part of a path, `""` for one at the top.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

/// Reads a whole small file.
///
/// # Errors
/// `NotFound` and what else the disk says.
pub fn read_file(disk: &dyn Disk, path: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Open::Read)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Where a file is written that is to be renamed to `path` once it is whole.
#[must_use]
pub fn beside(path: &str) -> String {
    format!("{path}.tmp")
}

/// Puts a whole small file in place, atomically and durably: written beside it, synced, renamed, folder synced.
///
/// # Errors
/// What the disk says; the old file is then still whole.
pub fn replace_file(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let file = disk.open(&beside, Open::Replace)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    disk.rename(&beside, path)?;
    if mutant::on(Mutant::NoDirSync) {
        return Ok(());
    }
    disk.sync_dir(parent(path))
}

/// Makes a folder durably: every folder on the way is synced into the one above it.
///
/// # Errors
/// What the disk says.
pub fn make_dirs_durably(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    disk.make_dirs(dir)?;
    let mut at = dir;
    while !at.is_empty() {
        at = parent(at);
        disk.sync_dir(at)?;
    }
    Ok(())
}

fn absent_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes a folder and all below it; absent is fine, also when another thread is removing the same.
///
/// # Errors
/// What the disk says.
pub fn remove_tree(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = format!("{dir}/{}", entry.name);
        if entry.is_dir { remove_tree(disk, &path)? } else { absent_is_fine(disk.remove_file(&path))? }
    }
    absent_is_fine(disk.remove_dir(dir))
}
