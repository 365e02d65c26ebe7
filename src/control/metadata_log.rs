//! The metadata log of one voter: batches in a file, a snapshot beside it. Blocking; used on helper threads.
//!
//! ```text
//! metadata/snapshot           the image as one batch: magic, CRC-32, bytes; replaced atomically
//! metadata/<sequence>.log     batches after it, framed like the WAL's commits: use id, CRC, what is durable
//! ```

use crate::machine::metadata::{Batch, Image};
use ringlog_storage::chunk::AlignedBuffer;
use ringlog_storage::disk::{
    BLOCK, Disk, File, Open, block_ceil, is_full, make_dirs_durably, read_file, replace_file,
};
use ringlog_storage::wal::format::{COMMIT_HEAD, CommitInfo, FileUse, seal_commit};
use ringlog_storage::wal::scan::{Found, decide, find_commits};
use std::io;
use std::sync::Arc;
use uuid::Uuid;

const DIR: &str = "metadata";
const SNAPSHOT: &str = "metadata/snapshot";
/// Where it is written before it is put in place.
const SNAPSHOT_BESIDE: &str = "metadata/snapshot.tmp";
/// The first bytes of a snapshot.
pub const SNAPSHOT_MAGIC: &[u8; 8] = b"RLMDSNAP";
/// Bytes of log after which a snapshot is taken.
const SNAPSHOT_AFTER_BYTES: u64 = 8 << 20;
/// Bytes of log more after which one that found the disk full is tried again.
const SNAPSHOT_RETRY_BYTES: u64 = 256 << 10;

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// It is durable.
    Done,
    /// The disk is full; nothing was taken.
    Full,
}

/// See the module's documentation.
pub struct MetadataLog {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    usage: FileUse,
    position: u64,
    next: u64,
    /// Position from which on a snapshot is wanted.
    snapshot_at: u64,
}

/// What the log's files say.
pub struct Committed {
    /// The metadata.
    pub image: Image,
    /// Sequence of the last file.
    sequence: u64,
}

fn path(sequence: u64) -> String {
    format!("{DIR}/{sequence:012}.log")
}

fn damaged(path: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what}"))
}

impl MetadataLog {
    /// Begins a new file after what was read.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>, committed: &Committed) -> io::Result<MetadataLog> {
        make_dirs_durably(&*disk, DIR)?;
        let log = MetadataLog::begin(disk, committed.sequence + 1)?;
        if let Some(snapshot) = committed.image.snapshot()
            && !log.write_snapshot(&snapshot)?
        {
            // The old files say the same as the snapshot would: they stay until there is room for it.
            return Ok(log);
        }
        // What a torn tail left behind is gone with the old files.
        log.remove_before(log.usage.sequence)?;
        Ok(log)
    }

    fn begin(disk: Arc<dyn Disk>, sequence: u64) -> io::Result<MetadataLog> {
        let use_id = Uuid::new_v4().as_u64_pair().0;
        let usage = FileUse { generation: 0, use_id, sequence, file_bytes: 0, first_lsn: 1, shard: u32::MAX };
        let file = disk.open(&path(sequence), Open::Direct)?;
        let mut head = AlignedBuffer::zeroed(BLOCK);
        head.copy_from_slice(&usage.encode());
        file.write_at(0, &head)?;
        file.sync()?;
        disk.sync_dir(DIR)?;
        let (position, snapshot_at) = (BLOCK as u64, SNAPSHOT_AFTER_BYTES);
        Ok(MetadataLog { disk, file, usage, position, next: 1, snapshot_at })
    }

    /// Whether so much was appended that the next append should come with a snapshot.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        self.position > self.snapshot_at
    }

    /// Appends batches, all in one write, and makes them durable. Where there is no room, what was written of them is
    /// undone.
    ///
    /// # Errors
    /// Any but a full disk; the state on disk is then unknown.
    pub fn append(&mut self, batches: &[Vec<u8>]) -> io::Result<Append> {
        let lens = batches.iter().map(|b| block_ceil((COMMIT_HEAD + b.len()) as u64));
        let total: u64 = lens.sum();
        match self.file.allocate(self.position, self.position + total) {
            Err(e) if is_full(&e) => return self.undo(),
            other => other?,
        }
        let mut buffer = AlignedBuffer::zeroed(usize::try_from(total).map_err(io::Error::other)?);
        let (mut at, mut next) = (0, self.next);
        for batch in batches {
            let len = block_ceil((COMMIT_HEAD + batch.len()) as u64) as usize;
            let commit = &mut buffer[at..at + len];
            commit[COMMIT_HEAD..COMMIT_HEAD + batch.len()].copy_from_slice(batch);
            let info = CommitInfo {
                position: self.position + at as u64,
                first_lsn: next,
                durable_lsn: self.next - 1,
                body_len: u32::try_from(batch.len()).map_err(io::Error::other)?,
                frames: 1,
            };
            seal_commit(&mut commit[..COMMIT_HEAD + batch.len()], &self.usage, &info);
            at += len;
            next += 1;
        }
        match self.file.write_at(self.position, &buffer) {
            // File systems that copy what they write, and quotas, may say so only here.
            Err(e) if is_full(&e) => return self.undo(),
            other => other?,
        }
        self.file.sync()?;
        (self.position, self.next) = (self.position + total, next);
        Ok(Append::Done)
    }

    /// Cuts off what an append wrote that found the disk full: whole batches of it would count after a restart.
    fn undo(&self) -> io::Result<Append> {
        self.file.set_len(self.position)?;
        self.file.sync()?;
        Ok(Append::Full)
    }

    /// Writes a snapshot and begins a new file. Where there is no room for either, the log goes on in the old file,
    /// which holds all that the snapshot does, and a snapshot is wanted again a little later.
    ///
    /// # Errors
    /// Any but a full disk.
    pub fn snapshot(&mut self, snapshot: &Batch) -> io::Result<()> {
        let begun = match self.write_snapshot(snapshot)? {
            true => MetadataLog::begin(Arc::clone(&self.disk), self.usage.sequence + 1).map(Some),
            false => Ok(None),
        };
        match begun {
            Ok(Some(log)) => *self = log,
            Err(e) if !is_full(&e) => return Err(e),
            Ok(None) | Err(_) => {
                self.snapshot_at = self.position + SNAPSHOT_RETRY_BYTES;
                return Ok(());
            }
        }
        self.remove_before(self.usage.sequence)
    }

    /// Puts a snapshot in place. Says whether there was room for it.
    fn write_snapshot(&self, snapshot: &Batch) -> io::Result<bool> {
        let bytes = snapshot.encode();
        let mut file = SNAPSHOT_MAGIC.to_vec();
        file.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        file.extend_from_slice(&bytes);
        match replace_file(&*self.disk, SNAPSHOT, &file) {
            Err(e) if is_full(&e) => {
                // A part of it beside the old one only takes room.
                let _ = self.disk.remove_file(SNAPSHOT_BESIDE);
                Ok(false)
            }
            other => other.map(|()| true),
        }
    }

    fn remove_before(&self, sequence: u64) -> io::Result<()> {
        for (other, path) in log_files(&*self.disk)? {
            if other < sequence {
                self.disk.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn log_files(disk: &dyn Disk) -> io::Result<Vec<(u64, String)>> {
    let entries = match disk.list(DIR) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let sequence = |name: &str| name.strip_suffix(".log").and_then(|n| n.parse().ok());
    Ok(entries.iter().filter_map(|e| Some((sequence(&e.name)?, format!("{DIR}/{}", e.name)))).collect())
}

/// The batch in a snapshot's file; none where the file is damaged.
#[must_use]
pub fn snapshot_body(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(12..).filter(|body| {
        bytes.starts_with(SNAPSHOT_MAGIC) && bytes[8..12] == crc32fast::hash(body).to_le_bytes()
    })
}

/// Reads the log and changes nothing: a start that is refused later on leaves it as it was.
///
/// # Errors
/// What the disk says; `InvalidData` where committed metadata are damaged.
pub fn read(disk: &dyn Disk) -> io::Result<Committed> {
    let mut image = Image::default();
    match read_file(disk, SNAPSHOT) {
        Ok(bytes) => {
            let body =
                snapshot_body(&bytes).ok_or_else(|| damaged(SNAPSHOT, "the metadata snapshot is damaged"))?;
            image.apply_batch(&Batch::decode(body).map_err(|e| damaged(SNAPSHOT, &e.to_string()))?);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let mut last = 0;
    for (sequence, path) in log_files(disk)? {
        last = last.max(sequence);
        let bytes = read_file(disk, &path)?;
        let Some(usage) = FileUse::decode(&bytes) else { continue };
        let found = find_commits(&bytes, &usage).into_iter().map(|info| Found { file: 0, info }).collect();
        let verdict = decide(found, 0, 0).map_err(|damage| {
            let at = damage.after.map_or(BLOCK as u64, |f| f.info.position + f.info.disk_len());
            damaged(&path, &format!("committed metadata are damaged at byte {at}"))
        })?;
        for commit in verdict.replay {
            let start = commit.info.position as usize + COMMIT_HEAD;
            let body = &bytes[start..start + commit.info.body_len as usize];
            let batch = Batch::decode(body).map_err(|e| damaged(&path, &e.to_string()))?;
            if image.offset().is_none_or(|offset| batch.offset > offset) {
                image.apply_batch(&batch);
            }
        }
    }
    Ok(Committed { image, sequence: last })
}

#[cfg(test)]
#[path = "metadata_log_tests.rs"]
mod tests;
