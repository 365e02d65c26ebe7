//! The consensus machine's disk: what it asks to be persisted, in files. Blocking; used on helper threads.
//!
//! ```text
//! metadata/raft/current          which log and which snapshot count: magic, CRC-32, log u64, snapshot u64
//! metadata/raft/<n>.log          bodies, framed like the WAL's commits: use id, CRC, what is durable
//! metadata/raft/<n>.snapshot     magic, CRC-32, the snapshot
//! ```
//!
//! A *switch* replaces log and snapshot in one step: both are written under a new number and synced, then `current`
//! is replaced atomically. So a snapshot, the hard state that belongs to it and the entries behind it are there
//! together or not at all. Every start switches to a new log: what a torn tail left behind is gone with the old one.

use super::metadata_log;
use crate::machine::consensus::log::{Snapshot, Stored};
use crate::machine::consensus::{Persist, Write};
use bytes::Bytes;
use ringlog_storage::chunk::AlignedBuffer;
use ringlog_storage::disk::{
    BLOCK, Disk, File, Open, block_ceil, is_full, make_dirs_durably, read_file, replace_file,
};
use ringlog_storage::wal::format::{COMMIT_HEAD, CommitInfo, FileUse, seal_commit};
use ringlog_storage::wal::scan::{Found, decide, find_commits};
use std::io;
use std::sync::Arc;
use uuid::Uuid;

const OLD_DIR: &str = "metadata";
const DIR: &str = "metadata/raft";
const CURRENT: &str = "metadata/raft/current";
const CURRENT_MAGIC: &[u8; 8] = b"RLRAFTCU";
const SNAPSHOT_MAGIC: &[u8; 8] = b"RLRAFTSN";
/// Magic and CRC-32.
const FILE_HEAD: usize = 12;

/// Draws the random numbers that tell one use of a file from another.
pub type Draw = Box<dyn FnMut() -> u64 + Send>;

/// What the files hold.
pub struct Read {
    /// What the machine starts on.
    pub stored: Stored,
    current: Current,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Current {
    log: u64,
    /// 0 for none.
    snapshot: u64,
}

/// See the module's documentation.
pub struct RaftLog {
    disk: Arc<dyn Disk>,
    draw: Draw,
    current: Current,
    file: Arc<dyn File>,
    usage: FileUse,
    position: u64,
    next: u64,
    /// Whether some commit's durability is not stated by a later one.
    is_unstated: bool,
}

fn log_path(number: u64) -> String {
    format!("{DIR}/{number:012}.log")
}

fn snapshot_path(number: u64) -> String {
    format!("{DIR}/{number:012}.snapshot")
}

fn damaged(path: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {what}"))
}

fn sealed(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEAD + body.len());
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn opened(magic: &[u8; 8], bytes: &[u8]) -> Option<usize> {
    let body = bytes.get(FILE_HEAD..)?;
    let is_whole = bytes.starts_with(magic) && bytes[8..FILE_HEAD] == crc32fast::hash(body).to_le_bytes();
    is_whole.then_some(FILE_HEAD)
}

impl Current {
    fn encode(self) -> Vec<u8> {
        let mut body = self.log.to_le_bytes().to_vec();
        body.extend_from_slice(&self.snapshot.to_le_bytes());
        sealed(CURRENT_MAGIC, &body)
    }

    fn decode(bytes: &[u8]) -> Option<Current> {
        let body = &bytes[opened(CURRENT_MAGIC, bytes)?..];
        let (log, snapshot) = body.split_at_checked(8)?;
        let (log, snapshot) = (log.try_into().ok()?, snapshot.try_into().ok()?);
        Some(Current { log: u64::from_le_bytes(log), snapshot: u64::from_le_bytes(snapshot) })
    }
}

/// Reads the files and changes nothing: a start that is refused later on leaves them as they were. A folder without
/// any is fresh.
///
/// # Errors
/// What the disk says; `InvalidData` where what was acknowledged is damaged.
pub fn read(disk: &dyn Disk) -> io::Result<Read> {
    let current = match read_file(disk, CURRENT) {
        Ok(bytes) => Current::decode(&bytes).ok_or_else(|| damaged(CURRENT, "it is damaged"))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Ok(Read { stored: Stored::new(None), current: Current::default() });
        }
        Err(e) => return Err(e),
    };
    let mut snapshot = None;
    if current.snapshot > 0 {
        let path = snapshot_path(current.snapshot);
        let bytes = Bytes::from(read_file(disk, &path)?);
        let body = opened(SNAPSHOT_MAGIC, &bytes).map(|at| bytes.slice(at..));
        let read = body.and_then(|body| Snapshot::decode(&body));
        snapshot = Some(read.ok_or_else(|| damaged(&path, "the snapshot is damaged"))?);
    }
    let stored = replay(disk, &log_path(current.log), Stored::new(snapshot))?;
    Ok(Read { stored, current })
}

fn replay(disk: &dyn Disk, path: &str, mut stored: Stored) -> io::Result<Stored> {
    let bytes = read_file(disk, path)?;
    let usage = FileUse::decode(&bytes).ok_or_else(|| damaged(path, "its first block is damaged"))?;
    let found = find_commits(&bytes, &usage).into_iter().map(|info| Found { file: 0, info }).collect();
    // The first commit was synced before the file counted.
    let verdict = decide(found, 0, 1).map_err(|damage| {
        let at = damage.after.map_or(BLOCK as u64, |found| found.info.position + found.info.disk_len());
        damaged(path, &format!("acknowledged metadata are damaged at byte {at}"))
    })?;
    for commit in verdict.replay {
        let start = commit.info.position as usize + COMMIT_HEAD;
        let body = &bytes[start..start + commit.info.body_len as usize];
        stored.replay(body).map_err(|damage| damaged(path, &damage.to_string()))?;
    }
    stored.finish().map_err(|damage| damaged(path, &damage.to_string()))
}

/// The metadata of a single node that were written before there was a log of Raft.
pub struct CarriedOver {
    /// The cluster's id: the new log keeps it.
    pub cluster: Uuid,
    /// The image as one batch: the first snapshot of the state machine.
    pub image: Bytes,
}

/// Reads the metadata of a single node that were written before there was a log of Raft; none where there are none.
///
/// # Errors
/// What the disk says; `InvalidData` where they are damaged.
pub fn carried_over(disk: &dyn Disk) -> io::Result<Option<CarriedOver>> {
    let image = metadata_log::read(disk)?.image;
    let parts = image.cluster_id().zip(image.snapshot());
    Ok(parts.map(|(cluster, batch)| CarriedOver { cluster, image: Bytes::from(batch.encode()) }))
}

/// Removes what [`carried_over`] read, once it is durable here.
///
/// # Errors
/// What the disk says.
pub fn remove_carried_over(disk: &dyn Disk) -> io::Result<()> {
    for entry in disk.list(OLD_DIR)?.iter().filter(|entry| !entry.is_dir) {
        disk.remove_file(&format!("{OLD_DIR}/{}", entry.name))?;
    }
    disk.sync_dir(OLD_DIR)
}

/// The use of a log file under a number.
fn usage(number: u64, use_id: u64) -> FileUse {
    FileUse { generation: 0, use_id, sequence: number, file_bytes: 0, first_lsn: 1, shard: u32::MAX }
}

impl RaftLog {
    /// Begins a new log with what the machine starts on, durably. `stored` is what was read, its count raised, or
    /// the first entry of a cluster.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>, read: &Read, stored: &Stored, mut draw: Draw) -> io::Result<RaftLog> {
        make_dirs_durably(&*disk, DIR)?;
        let number = read.current.log + 1;
        let is_new = stored.snapshot() != read.stored.snapshot();
        let snapshot = stored.snapshot().filter(|_| is_new);
        let (file, usage, position) =
            begin(&*disk, number, snapshot.map(|s| &**s), &stored.encode(), draw())?;
        let current = Current { log: number, snapshot: if is_new { number } else { read.current.snapshot } };
        replace_file(&*disk, CURRENT, &current.encode())?;
        let log = RaftLog { disk, draw, current, file, usage, position, next: 2, is_unstated: true };
        log.remove_others()?;
        Ok(log)
    }

    /// Bytes of the log file: when to take a snapshot.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.position
    }

    /// Makes writes durable, in order. Returns how many from the first on are; fewer than all where the disk is
    /// full: the rest left no trace, and may be tried again.
    ///
    /// # Errors
    /// Any but a full disk; the state on disk is then unknown, and the process is to stop.
    pub fn persist(&mut self, writes: &[Persist]) -> io::Result<usize> {
        let mut done = 0;
        while done < writes.len() {
            let is_append = |write: &&Persist| matches!(write.write, Write::Append(_));
            let appends = writes[done..].iter().take_while(is_append).count();
            let taken = if appends > 0 {
                self.append(&writes[done..done + appends])?.then_some(appends)
            } else {
                self.switch(&writes[done])?.then_some(1)
            };
            let Some(taken) = taken else { break };
            done += taken;
        }
        Ok(done)
    }

    /// Appends bodies in one write and one sync. Returns whether there was room.
    fn append(&mut self, writes: &[Persist]) -> io::Result<bool> {
        let bodies: Vec<&[u8]> = writes
            .iter()
            .map(|write| match &write.write {
                Write::Append(body) => body.as_slice(),
                Write::Switch { .. } => unreachable!("switches are taken one by one"),
            })
            .collect();
        let total: u64 = bodies.iter().map(|body| commit_len(body)).sum();
        match self.file.allocate(self.position, self.position + total) {
            Err(e) if is_full(&e) => return Ok(false),
            other => other?,
        }
        let mut buffer = AlignedBuffer::zeroed(usize::try_from(total).map_err(io::Error::other)?);
        let (mut at, mut next) = (0, self.next);
        for body in bodies {
            let position = self.position + at as u64;
            seal(&mut buffer[at..], body, &self.usage, (position, next, self.next - 1))?;
            at += commit_len(body) as usize;
            next += 1;
        }
        match self.file.write_at(self.position, &buffer) {
            Err(e) if is_full(&e) => {
                // Part of it may be there, and would be taken for the beginning of what comes next.
                self.file.set_len(self.position)?;
                self.file.sync()?;
                return Ok(false);
            }
            other => other?,
        }
        self.file.sync()?;
        (self.position, self.next, self.is_unstated) = (self.position + total, next, true);
        Ok(true)
    }

    /// Says on disk that everything so far is durable, when nothing follows for a while: damage to the last commit
    /// is then told from a torn tail. Returns whether there was room, or nothing to say.
    ///
    /// # Errors
    /// As for [`RaftLog::persist`].
    pub fn state_durable(&mut self) -> io::Result<bool> {
        if !self.is_unstated {
            return Ok(true);
        }
        match self.file.allocate(self.position, self.position + BLOCK as u64) {
            Err(e) if is_full(&e) => return Ok(false),
            other => other?,
        }
        let mut buffer = AlignedBuffer::zeroed(BLOCK);
        let info = CommitInfo {
            position: self.position,
            first_lsn: self.next,
            durable_lsn: self.next - 1,
            body_len: 0,
            frames: 0,
        };
        seal_commit(&mut buffer[..COMMIT_HEAD], &self.usage, &info);
        self.file.write_at(self.position, &buffer)?;
        self.file.sync()?;
        self.position += BLOCK as u64;
        self.is_unstated = false;
        Ok(true)
    }

    fn switch(&mut self, persist: &Persist) -> io::Result<bool> {
        let Write::Switch { snapshot, body } = &persist.write else {
            unreachable!("appends are taken together");
        };
        let number = self.current.log + 1;
        let use_id = (self.draw)();
        let (file, usage, position) = match begin(&*self.disk, number, Some(snapshot), body, use_id) {
            Err(e) if is_full(&e) => {
                self.remove_others()?;
                return Ok(false);
            }
            other => other?,
        };
        let current = Current { log: number, snapshot: number };
        match replace_file(&*self.disk, CURRENT, &current.encode()) {
            Err(e) if is_full(&e) => {
                self.remove_others()?;
                return Ok(false);
            }
            other => other?,
        }
        (self.current, self.file, self.usage) = (current, file, usage);
        (self.position, self.next) = (position, 2);
        self.is_unstated = true;
        self.remove_others()?;
        Ok(true)
    }

    /// Removes what does not count (any more).
    fn remove_others(&self) -> io::Result<()> {
        let Current { log, snapshot } = self.current;
        let kept = [CURRENT.to_owned(), log_path(log), snapshot_path(snapshot)];
        for entry in self.disk.list(DIR)? {
            let path = format!("{DIR}/{}", entry.name);
            if !kept.contains(&path) {
                self.disk.remove_file(&path)?;
            }
        }
        Ok(())
    }
}

fn commit_len(body: &[u8]) -> u64 {
    block_ceil((COMMIT_HEAD + body.len()) as u64)
}

/// Puts a commit to the start of `out`: where it lies, its LSN, and what is durable.
fn seal(
    out: &mut [u8],
    body: &[u8],
    usage: &FileUse,
    (position, lsn, durable): (u64, u64, u64),
) -> io::Result<()> {
    let commit = &mut out[..COMMIT_HEAD + body.len()];
    commit[COMMIT_HEAD..].copy_from_slice(body);
    let body_len = u32::try_from(body.len()).map_err(io::Error::other)?;
    let info = CommitInfo { position, first_lsn: lsn, durable_lsn: durable, body_len, frames: 1 };
    seal_commit(commit, usage, &info);
    Ok(())
}

/// A new log file, its use, and where it ends.
type Begun = (Arc<dyn File>, FileUse, u64);

/// Writes a new log that begins with a body, and a snapshot if there is a new one, all synced. They do not count yet.
fn begin(
    disk: &dyn Disk,
    number: u64,
    snapshot: Option<&Snapshot>,
    body: &[u8],
    use_id: u64,
) -> io::Result<Begun> {
    if let Some(snapshot) = snapshot {
        let file = disk.open(&snapshot_path(number), Open::Replace)?;
        file.write_at(0, &sealed(SNAPSHOT_MAGIC, &snapshot.encode()))?;
        file.sync()?;
    }
    let usage = usage(number, use_id);
    let total = BLOCK as u64 + commit_len(body);
    let mut buffer = AlignedBuffer::zeroed(usize::try_from(total).map_err(io::Error::other)?);
    buffer[..BLOCK].copy_from_slice(&usage.encode());
    seal(&mut buffer[BLOCK..], body, &usage, (BLOCK as u64, 1, 0))?;
    let file = disk.open(&log_path(number), Open::Direct)?;
    // A start that was interrupted may have left a file of this number.
    file.set_len(0)?;
    file.write_at(0, &buffer)?;
    file.sync()?;
    disk.sync_dir(DIR)?;
    Ok((file, usage, total))
}
