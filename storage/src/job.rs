//! Blocking work of a shard's storage, done on helper threads over the [`Disk`] seam.

use crate::batch::{HEADER_BYTES, peek};
use crate::chunk::AlignedBuffer;
pub use crate::cut::CutPoint;
use crate::cut::{self, CutFiles, Search};
use crate::disk::{BLOCK, Disk, File, Open, is_full, make_dirs_durably, parent, remove_tree, replace_file};
use crate::index::{SCAN_INTERVAL_BYTES, SegmentIndex};
use crate::mutant::{self, Mutant};
pub(crate) use crate::partition::Piece;
use crate::wal::writer::FileRequest;
use hashbrown::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Tries at making a folder that others remove: more than other shards have partitions to remove at a time.
const FOLDER_TRIES: usize = 1000;

/// Number of a job that is out.
pub type JobId = u64;

/// One piece of blocking work.
pub struct Job(pub(crate) Work);

pub(crate) enum Work {
    /// Make (if fresh) and head a WAL file.
    PrepareWal { path: String, request: FileRequest },
    /// Remove a WAL file that holds nothing any more, durably.
    RemoveWal { path: String, file: u32 },
    /// Write blocks of a segment, reserving `reserved..allocate` first.
    Write {
        path: String,
        make_dir: bool,
        first: Option<First>,
        pieces: Vec<Piece>,
        reserved: u64,
        allocate: u64,
    },
    /// Cut a segment to its length, sync it, write its index.
    Seal { log: String, idx: String, base: i64, bytes: u64, index: SegmentIndex, indexed_from: u64 },
    /// Sync segment files, then folders in the order given.
    Sync { files: Vec<String>, dirs: Vec<String> },
    /// Put a checkpoint in place, then remove those it replaces.
    Checkpoint { path: String, bytes: Vec<u8>, remove: Vec<String> },
    /// Remove files of a folder one by one, durably.
    Remove { dir: String, files: Vec<String> },
    /// Remove a partition's folder, and its topic's if that is empty then.
    RemovePartition { dir: String },
    /// Read the first `len` bytes of the block at `position`.
    ReadBlock { path: String, position: u64, len: usize },
    /// Find where a log is to be cut.
    FindCut(Search),
    /// Cut a log's files.
    Cut(CutFiles),
}

/// Written before a segment's first bytes are.
pub(crate) struct First {
    /// Its producer snapshot, and what that says.
    pub path: String,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Job {
    /// Files and folders that are gone once it is done: who has them open lets go of them.
    #[must_use]
    pub fn removes(&self) -> (Vec<String>, Option<String>) {
        match &self.0 {
            Work::Remove { files, .. } => (files.clone(), None),
            Work::RemovePartition { dir } => (Vec::new(), Some(dir.clone())),
            _ => (Vec::new(), None),
        }
    }

    /// The folder of a partition whose log it cuts, and how often that log was cut then: for
    /// [`Segments::cut`](crate::reader::Segments::cut).
    #[must_use]
    pub fn cuts(&self) -> Option<(String, u64)> {
        match &self.0 {
            Work::Cut(cut) => Some((cut.dir.clone(), cut.cuts)),
            _ => None,
        }
    }

    /// The WAL file that it removes: who has it open lets go of it first.
    #[must_use]
    pub fn removes_wal(&self) -> Option<u32> {
        match self.0 {
            Work::RemoveWal { file, .. } => Some(file),
            _ => None,
        }
    }

    /// What it does, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.0 {
            Work::PrepareWal { .. } => "prepare WAL file",
            Work::RemoveWal { .. } => "remove WAL file",
            Work::Write { .. } => "write segment",
            Work::Seal { .. } => "seal segment",
            Work::Sync { .. } => "sync segments",
            Work::Checkpoint { .. } => "write checkpoint",
            Work::Remove { .. } => "remove segments",
            Work::RemovePartition { .. } => "remove partition",
            Work::ReadBlock { .. } => "read block",
            Work::FindCut(_) => "find where to truncate",
            Work::Cut(_) => "truncate",
        }
    }
}

/// What a job gives back.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// It is done.
    Done,
    /// There was no room; nothing may be assumed of what it wrote. It is tried again later.
    Full,
    /// The bytes that were to be read.
    Bytes(Vec<u8>),
    /// Where to cut.
    Cut(CutPoint),
    /// What was to be read is damaged, in these words.
    Damaged(String),
}

/// Handles of files being written, so that a job need not open its file each time. Used on helper threads only.
pub struct Files {
    open: Mutex<Handles>,
    limit: usize,
}

#[derive(Default)]
struct Handles {
    by_path: HashMap<String, (Arc<dyn File>, u64), foldhash::fast::RandomState>,
    clock: u64,
}

impl Files {
    /// A cache of at most `limit` open files.
    #[must_use]
    pub fn new(limit: usize) -> Files {
        assert!(limit > 0);
        Files { open: Mutex::default(), limit }
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, Handles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, opened for direct writes if it is not open yet.
    pub(crate) fn get(&self, disk: &dyn Disk, path: &str) -> io::Result<Arc<dyn File>> {
        let mut handles = self.handles();
        handles.clock += 1;
        let clock = handles.clock;
        if let Some((file, used)) = handles.by_path.get_mut(path) {
            *used = clock;
            return Ok(Arc::clone(file));
        }
        drop(handles);
        let file = disk.open(path, Open::Direct)?;
        let mut handles = self.handles();
        if handles.by_path.len() >= self.limit {
            let oldest = handles.by_path.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(path) = oldest.map(|(path, _)| path.clone()) {
                handles.by_path.remove(&path);
            }
        }
        handles.by_path.insert(path.to_owned(), (Arc::clone(&file), clock));
        Ok(file)
    }

    pub(crate) fn forget(&self, path: &str) {
        self.handles().by_path.remove(path);
    }

    fn forget_below(&self, dir: &str) {
        let below = |path: &String| path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'));
        self.handles().by_path.retain(|path, _| !below(path));
    }
}

/// Does a job.
///
/// # Errors
/// Any error but a full disk. It is fatal: what is on the disk is unknowable.
pub fn run(disk: &dyn Disk, files: &Files, job: Job) -> io::Result<Output> {
    let name = job.name();
    match run_work(disk, files, job.0) {
        Ok(output) => Ok(output),
        Err(e) if is_full(&e) => Ok(Output::Full),
        Err(e) => Err(io::Error::new(e.kind(), format!("{name}: {e}"))),
    }
}

fn run_work(disk: &dyn Disk, files: &Files, work: Work) -> io::Result<Output> {
    match work {
        Work::PrepareWal { path, request } => prepare_wal(disk, &path, &request)?,
        Work::RemoveWal { path, .. } => {
            remove_if_there(disk, &path)?;
            disk.sync_dir(parent(&path)).map_err(fatal)?;
        }
        Work::Write { path, make_dir, first, pieces, reserved, allocate } => {
            let file = open_in_folder(disk, files, &path, make_dir, first.as_ref())?;
            if allocate > reserved {
                file.allocate(reserved, allocate)?;
            }
            for piece in &pieces {
                match piece {
                    Piece::Chunk(position, slice) => file.write_at(*position, slice.as_bytes())?,
                    Piece::Padded(position, block) => file.write_at(*position, block)?,
                }
            }
        }
        Work::Seal { log, idx, base, bytes, index, indexed_from } => {
            seal(disk, files, &log, bytes)?;
            let index = if indexed_from == 0 { index } else { scan_segment(disk, &log, base, bytes)? };
            // Derived data: checked by its checksum, built again where it is missing; so it is not synced.
            disk.open(&idx, Open::Replace)?.write_at(0, &encoded(&index))?;
        }
        Work::Sync { files: paths, dirs } => {
            for path in &paths {
                files.get(disk, path)?.sync().map_err(fatal)?;
            }
            for dir in &dirs {
                disk.sync_dir(dir).map_err(fatal)?;
            }
        }
        Work::Checkpoint { path, bytes, remove } => {
            replace_file(disk, &path, &bytes)?;
            remove.iter().try_for_each(|path| remove_if_there(disk, path))?;
        }
        Work::Remove { dir, files: paths } => {
            for path in &paths {
                files.forget(path);
                remove_if_there(disk, path)?;
            }
            // The partition may be deleted meanwhile.
            unless_gone(disk.sync_dir(&dir)).map_err(fatal)?;
        }
        Work::RemovePartition { dir } => {
            files.forget_below(&dir);
            remove_partition(disk, &dir)?;
        }
        Work::ReadBlock { path, position, len } => {
            let mut block = AlignedBuffer::zeroed(BLOCK);
            let read = disk.open(&path, Open::ReadDirect)?.read_at(position, &mut block)?;
            if read < len {
                let text = format!("{path}: {read} bytes at {position} where {len} were synced");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            return Ok(Output::Bytes(block[..len].to_vec()));
        }
        Work::FindCut(search) => {
            return match cut::find(disk, search) {
                Ok(point) => Ok(Output::Cut(point)),
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                    Ok(Output::Damaged(e.to_string()))
                }
                Err(e) => Err(e),
            };
        }
        Work::Cut(cut) => cut::cut(disk, files, &cut)?,
    }
    Ok(Output::Done)
}

/// Opens a segment to be written, behind the file that comes before its first bytes. Other shards remove their
/// partitions of the topic, and its folder with the last one that is there, also while this one makes its own below
/// it: then it is made again.
fn open_in_folder(
    disk: &dyn Disk,
    files: &Files,
    path: &str,
    make_dir: bool,
    first: Option<&First>,
) -> io::Result<Arc<dyn File>> {
    let open = |make_dir: bool| {
        if make_dir {
            disk.make_dirs(parent(path))?;
        }
        if let Some(First { path, bytes }) = first {
            // Synced at once: a truncation relies on it after any crash from now on.
            replace_file(disk, path, bytes)?;
        }
        files.get(disk, path)
    };
    let mut make_dir = make_dir || first.is_some();
    for _ in 0..FOLDER_TRIES {
        match open(make_dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => make_dir = true,
            opened => return opened,
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("{path}: its folder goes as often as it is made")))
}

fn encoded(index: &SegmentIndex) -> Vec<u8> {
    let mut out = Vec::new();
    index.encode(&mut out);
    out
}

/// A failed sync leaves the disk in an unknown state, whatever its reason: never "full, try again".
pub(crate) fn fatal(error: io::Error) -> io::Error {
    io::Error::other(format!("sync: {error}"))
}

pub(crate) fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

pub(crate) fn remove_if_there(disk: &dyn Disk, path: &str) -> io::Result<()> {
    unless_gone(disk.remove_file(path))
}

/// Removes a partition's folder durably, and its topic's if it was the last one there. Its frames may be
/// forgotten afterwards: nothing would remove the folder again.
pub(crate) fn remove_partition(disk: &dyn Disk, dir: &str) -> io::Result<()> {
    remove_tree(disk, dir)?;
    let topic = parent(dir);
    // Fails while other partitions of the topic are there; other shards may be removing those.
    if disk.remove_dir(topic).is_err() {
        unless_gone(disk.sync_dir(topic)).map_err(fatal)?;
    }
    disk.sync_dir(parent(topic)).map_err(fatal)
}

/// The use id made of a random number: the number.
pub(crate) fn use_id(random: u64) -> u64 {
    if mutant::on(Mutant::SameUseId) { 7 } else { random }
}

/// Makes and heads a WAL file. The zeros and the head are synced before the file is used: a use begins with a
/// durable use id.
pub(crate) fn prepare_wal(disk: &dyn Disk, path: &str, request: &FileRequest) -> io::Result<()> {
    const FILL: usize = 1 << 20;
    if request.fresh {
        make_dirs_durably(disk, parent(path))?;
    }
    let file = disk.open(path, Open::Direct)?;
    if request.fresh {
        let len = request.usage.file_bytes;
        file.set_len(0)?;
        file.allocate(0, len)?;
        let zeros = AlignedBuffer::zeroed(FILL.min(len as usize));
        let mut at = 0;
        while at < len {
            let n = (len - at).min(FILL as u64) as usize;
            file.write_at(at, &zeros[..n])?;
            at += n as u64;
        }
    }
    let mut block = AlignedBuffer::zeroed(BLOCK);
    block.copy_from_slice(&request.usage.encode());
    file.write_at(0, &block)?;
    if !mutant::on(Mutant::UnsyncedHead) {
        file.sync()?;
    }
    if request.fresh {
        disk.sync_dir(parent(path))?;
    }
    Ok(())
}

/// Cuts a segment to its length and syncs it: from now on it may be mapped and is never written again.
pub(crate) fn seal(disk: &dyn Disk, files: &Files, path: &str, bytes: u64) -> io::Result<()> {
    let file = files.get(disk, path)?;
    if file.size()? < bytes {
        return Err(io::Error::other(format!("{path} is shorter than the {bytes} bytes written to it")));
    }
    file.set_len(bytes)?;
    if !mutant::on(Mutant::UnsyncedSeal) {
        file.sync().map_err(fatal)?;
    }
    files.forget(path);
    Ok(())
}

/// Builds a segment's index by reading the headers of its batches, up to `bytes`.
///
/// # Errors
/// What the disk says; `InvalidData` where something is no batch.
pub(crate) fn scan_segment(disk: &dyn Disk, path: &str, base: i64, bytes: u64) -> io::Result<SegmentIndex> {
    let file = disk.open(path, Open::Read)?;
    let mut index = SegmentIndex::new(base);
    let mut at = 0;
    while at < bytes {
        let mut header = [0; HEADER_BYTES];
        let read = file.read_at(at, &mut header)?;
        let info = peek(&header[..read]).map_err(|e| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{path}: no record batch at {at}: {e}"))
        })?;
        let (first, last) = (info.base_offset, info.last_offset());
        index.append(first, last, at, info.max_timestamp, info.size, SCAN_INTERVAL_BYTES);
        at += info.size as u64;
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Entry, RealDisk};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk on which somebody else removes files and folders between two steps of a job.
    struct Shared {
        disk: RealDisk,
        /// So many times a topic's folder goes while one is made below it.
        folder_goes: AtomicUsize,
        /// Removed as soon as it was listed.
        goes: Option<&'static str>,
    }

    impl Disk for Shared {
        fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
            self.disk.open(path, how)
        }

        fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
            let entries = self.disk.list(dir);
            if let Some(path) = self.goes.filter(|path| parent(path) == dir) {
                self.disk.remove_file(path)?;
            }
            entries
        }

        fn make_dirs(&self, dir: &str) -> io::Result<()> {
            let left =
                self.folder_goes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            if left.is_ok() { Err(io::ErrorKind::NotFound.into()) } else { self.disk.make_dirs(dir) }
        }

        fn sync_dir(&self, dir: &str) -> io::Result<()> {
            self.disk.sync_dir(dir)
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.disk.rename(from, to)
        }

        fn remove_file(&self, path: &str) -> io::Result<()> {
            self.disk.remove_file(path)
        }

        fn remove_dir(&self, dir: &str) -> io::Result<()> {
            self.disk.remove_dir(dir)
        }

        fn free_bytes(&self) -> io::Result<u64> {
            self.disk.free_bytes()
        }
    }

    fn write(make_dir: bool) -> Work {
        let path = "topics/t/0/0.log".to_owned();
        Work::Write { path, make_dir, first: None, pieces: Vec::new(), reserved: 0, allocate: 0 }
    }

    #[test]
    fn a_folder_that_others_remove_is_made_again() {
        for (make_dir, goes) in [(true, 0), (true, 1), (true, 3), (false, 0), (false, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let disk = RealDisk::new(folder.path());
            let disk = Shared { disk, folder_goes: AtomicUsize::new(goes), goes: None };
            let done = run(&disk, &Files::new(4), Job(write(make_dir)));
            assert!(done.is_ok(), "{make_dir} {goes}: {done:?}");
            assert!(folder.path().join("topics/t/0/0.log").is_file());
        }
    }

    #[test]
    fn a_partition_goes_while_retention_removes_its_segments() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path());
        let disk = Shared { disk, folder_goes: AtomicUsize::new(0), goes: Some("topics/t/0/0.log") };
        let files = Files::new(4);
        run(&disk, &files, Job(write(true))).unwrap();
        run(&disk, &files, Job(Work::RemovePartition { dir: "topics/t/0".to_owned() })).unwrap();
        assert!(!folder.path().join("topics/t").exists());
        // And retention, when it comes last.
        let remove =
            Work::Remove { dir: "topics/t/0".to_owned(), files: vec!["topics/t/0/0.log".to_owned()] };
        run(&disk, &files, Job(remove)).unwrap();
    }
}
