//! Tests of the metadata log on a disk that is full.

use super::*;
use crate::machine::metadata::Record;
use ringlog_storage::disk::{Entry, RealDisk, Shared};
use std::path::Path;
use std::sync::Mutex;

/// What finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    /// Reserving blocks.
    Allocate,
    /// Writing to the log, after the first half is written.
    LogWrite,
    /// Writing a snapshot.
    SnapshotWrite,
    /// Making a file of the log.
    LogFile,
    /// Cutting a file, and writing: the disk is not full but broken.
    Broken,
}

/// A disk that can be made full.
struct Limited {
    disk: RealDisk,
    full: Arc<Mutex<Option<Full>>>,
}

struct LimitedFile {
    file: Arc<dyn File>,
    path: String,
    full: Arc<Mutex<Option<Full>>>,
}

fn no_room() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl File for LimitedFile {
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buffer)
    }
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let full = *self.full.lock().unwrap();
        let is_log = self.path.ends_with(".log");
        if is_log && matches!(full, Some(Full::LogWrite | Full::Broken)) {
            self.file.write_at(position, &bytes[..bytes.len() / 2 / BLOCK * BLOCK])?;
            return Err(no_room());
        }
        if !is_log && full == Some(Full::SnapshotWrite) {
            self.file.write_at(position, &bytes[..bytes.len() / 2])?;
            return Err(no_room());
        }
        self.file.write_at(position, bytes)
    }
    fn allocate(&self, from: u64, to: u64) -> io::Result<()> {
        match *self.full.lock().unwrap() {
            Some(Full::Allocate) => Err(no_room()),
            _ => self.file.allocate(from, to),
        }
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        match *self.full.lock().unwrap() {
            Some(Full::Broken) => Err(io::ErrorKind::PermissionDenied.into()),
            _ => self.file.set_len(len),
        }
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn share(&self, len: u64) -> io::Result<Shared> {
        self.file.share(len)
    }
    fn make_resident(&self, shared: &Shared, from: u64, to: u64) -> io::Result<()> {
        self.file.make_resident(shared, from, to)
    }
}

impl Disk for Limited {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        if how == Open::Direct && *self.full.lock().unwrap() == Some(Full::LogFile) {
            return Err(no_room());
        }
        let file = self.disk.open(path, how)?;
        Ok(Arc::new(LimitedFile { file, path: path.to_owned(), full: Arc::clone(&self.full) }))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.disk.list(dir)
    }
    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        self.disk.make_dirs(dir)
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

/// A log over a disk that can be made full.
struct Lab {
    dir: tempfile::TempDir,
    full: Arc<Mutex<Option<Full>>>,
    log: MetadataLog,
    image: Image,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::default();
        let log = open(dir.path(), &full).unwrap();
        let mut lab = Lab { dir, full, log, image: Image::default() };
        lab.append(1, 1).unwrap();
        lab
    }

    fn full(&self, what: Option<Full>) {
        *self.full.lock().unwrap() = what;
    }

    /// Appends batches of a record that sets the feature `f` to ever higher levels.
    fn append(&mut self, batches: usize, records: usize) -> io::Result<Append> {
        let mut image = self.image.clone();
        let mut encoded = Vec::new();
        for _ in 0..batches {
            let offset = image.offset().map_or(0, |offset| offset + 1);
            let record = Record::Feature { name: "f".into(), level: (offset + 1) as i16 };
            let batch = Batch { offset, timestamp_ms: 1, records: vec![record; records] };
            image.apply_batch(&batch);
            encoded.push(batch.encode());
        }
        let appended = self.log.append(&encoded);
        if appended.as_ref().is_ok_and(|appended| *appended == Append::Done) {
            self.image = image;
        }
        appended
    }

    /// What a restart finds is what was answered with success.
    fn check(&self) {
        let read = read(&RealDisk::new(self.dir.path())).unwrap();
        assert_eq!(read.image.offset(), self.image.offset());
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join(DIR)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn open(dir: &Path, full: &Arc<Mutex<Option<Full>>>) -> io::Result<MetadataLog> {
    let disk = Limited { disk: RealDisk::new(dir), full: Arc::clone(full) };
    let committed = read(&disk).unwrap();
    MetadataLog::open(Arc::new(disk), &committed)
}

#[test]
fn an_append_without_room_is_undone_and_the_log_goes_on() {
    for what in [Full::Allocate, Full::LogWrite] {
        let mut lab = Lab::new();
        lab.full(Some(what));
        // Half of them are whole on the disk when it is full.
        assert_eq!(lab.append(8, 1).unwrap(), Append::Full);
        lab.check();
        lab.full(None);
        assert_eq!(lab.append(2, 1).unwrap(), Append::Done);
        lab.check();
    }
}

#[test]
fn what_cannot_be_undone_is_an_error() {
    let mut lab = Lab::new();
    lab.full(Some(Full::Broken));
    assert_eq!(lab.append(8, 1).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_snapshot_without_room_is_tried_again_later() {
    for what in [Full::SnapshotWrite, Full::LogFile] {
        let mut lab = Lab::new();
        while !lab.log.wants_snapshot() {
            assert_eq!(lab.append(16, 20_000).unwrap(), Append::Done);
        }
        let before = lab.files();
        lab.full(Some(what));
        lab.log.snapshot(&lab.image.snapshot().unwrap()).unwrap();
        assert!(!lab.log.wants_snapshot(), "not with the next append");
        assert!(lab.files().iter().all(|file| !file.ends_with(".tmp")), "{:?}", lab.files());
        lab.check();
        // Appends go on in the old file.
        assert_eq!(lab.append(1, 1).unwrap(), Append::Done);
        lab.check();
        while !lab.log.wants_snapshot() {
            assert_eq!(lab.append(1, 20_000).unwrap(), Append::Done);
        }
        lab.full(None);
        lab.log.snapshot(&lab.image.snapshot().unwrap()).unwrap();
        let after = lab.files();
        assert!(after.len() == 2 && after[0] > before[0], "{before:?}, {after:?}");
        lab.append(1, 1).unwrap();
        lab.check();
    }
}

#[test]
fn a_start_without_room_for_the_snapshot_keeps_the_files() {
    let mut lab = Lab::new();
    lab.append(3, 1).unwrap();
    for _ in 0..2 {
        lab.full(Some(Full::SnapshotWrite));
        lab.log = open(lab.dir.path(), &lab.full).unwrap();
        lab.check();
        lab.append(1, 1).unwrap();
        lab.check();
    }
    assert_eq!(lab.files().iter().filter(|file| file.ends_with(".log")).count(), 3);
    lab.full(None);
    lab.log = open(lab.dir.path(), &lab.full).unwrap();
    assert_eq!(lab.files().iter().filter(|file| file.ends_with(".log")).count(), 1);
    lab.check();
}
