//! The WAL's files of one shard: which is written to, which are prepared ahead, which may be used again. Pure; the
//! [`WalWriter`](super::writer::WalWriter) drives it.

use crate::disk::{BLOCK, block_ceil};
use crate::wal::Lsn;
use crate::wal::format::FileUse;
use crate::wal::writer::WalSettings;

/// A file to be prepared: made (zero-filled) if `fresh`, its head written, synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Number of the file, which is its name.
    pub file: u32,
    /// What its head will say.
    pub usage: FileUse,
    /// Whether it has to be made and filled with zeros first.
    pub fresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preparing,
    Ready,
    Current,
    Full,
    Free,
    /// Being removed: see [`Files::surplus`].
    Removing,
    /// There is no such file. Its number is given to the next one that is made.
    Gone,
}

struct WalFile {
    state: State,
    bytes: u64,
    usage: FileUse,
    last_lsn: Lsn,
}

/// See the module's documentation.
pub(super) struct Files {
    generation: u64,
    shard: u32,
    settings: WalSettings,
    files: Vec<WalFile>,
    current: Option<u32>,
    position: u64,
    sequence: u64,
    covered: Lsn,
}

impl Files {
    /// The files of a new generation. File 0 is already prepared with head `first`.
    pub fn new(settings: WalSettings, first: FileUse) -> Files {
        let file = WalFile { state: State::Ready, bytes: first.file_bytes, usage: first, last_lsn: 0 };
        Files {
            generation: first.generation,
            shard: first.shard,
            settings,
            files: vec![file],
            current: None,
            position: 0,
            sequence: first.sequence + 1,
            covered: first.first_lsn - 1,
        }
    }

    /// Generation that is written.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes of all files that hold something a checkpoint does not cover.
    pub fn used_bytes(&self) -> u64 {
        let full: u64 = self.files.iter().filter(|f| f.state == State::Full).map(|f| f.bytes).sum();
        full + if self.current.is_some() { self.position } else { 0 }
    }

    /// What the head of a file says.
    pub fn usage(&self, file: u32) -> &FileUse {
        &self.files[file as usize].usage
    }

    /// The file that the next `disk_len` bytes go to, and where in it. `durable` is the log's durable LSN.
    pub fn place(&mut self, disk_len: u64, durable: Lsn) -> Option<(u32, u64)> {
        if let Some(at) = self.current {
            let file = &mut self.files[at as usize];
            if file.bytes - self.position >= disk_len {
                return Some((at, self.position));
            }
            file.state = State::Full;
            self.current = None;
        }
        // The file with the lowest sequence: recovery reads files in the order of their use.
        let next = (0..self.files.len())
            .filter(|i| {
                let file = &self.files[*i];
                file.state == State::Ready && file.bytes - BLOCK as u64 >= disk_len
            })
            .min_by_key(|i| self.files[*i].usage.sequence)?;
        self.files[next].state = State::Current;
        self.files[next].last_lsn = durable;
        self.position = BLOCK as u64;
        let at = u32::try_from(next).expect("a shard has few WAL files");
        self.current = Some(at);
        Some((at, self.position))
    }

    /// The place just given is taken by a commit of `disk_len` bytes, whose last frame is `last_lsn`.
    pub fn taken(&mut self, file: u32, disk_len: u64, last_lsn: Lsn) {
        self.position += disk_len;
        self.files[file as usize].last_lsn = last_lsn;
    }

    /// A file to prepare, where there is none ready ahead of the current one that has room for a commit of
    /// `largest` bytes. `use_id` is a fresh random number. `beyond_limit`: see
    /// [`WalWriter::wants_file`](super::writer::WalWriter::wants_file).
    pub fn wants(&mut self, largest: u64, use_id: u64, beyond_limit: bool) -> Option<FileRequest> {
        let need = (largest + BLOCK as u64).max(1);
        if self
            .files
            .iter()
            .any(|f| f.state == State::Preparing || (f.state == State::Ready && f.bytes >= block_ceil(need)))
        {
            return None;
        }
        let (total, count) =
            (self.total_bytes(), self.files.iter().filter(|f| f.state != State::Gone).count());
        let bytes = self.settings.file_bytes.max(block_ceil(need + BLOCK as u64));
        let (file, fresh) = match self.files.iter().position(|f| f.state == State::Free && f.bytes >= bytes) {
            Some(at) => (at, false),
            None if total + bytes <= self.settings.max_bytes || count < 2 || beyond_limit => {
                let gone = self.files.iter().position(|f| f.state == State::Gone);
                (gone.unwrap_or(self.files.len()), true)
            }
            None => return None,
        };
        let usage = FileUse {
            generation: self.generation,
            use_id,
            sequence: self.sequence,
            file_bytes: if fresh { bytes } else { self.files[file].bytes },
            first_lsn: self.covered + 1,
            shard: self.shard,
        };
        self.sequence += 1;
        let entry = WalFile { state: State::Preparing, bytes: usage.file_bytes, usage, last_lsn: 0 };
        if file == self.files.len() {
            self.files.push(entry)
        } else {
            self.files[file] = entry
        }
        Some(FileRequest { file: u32::try_from(file).expect("a shard has few WAL files"), usage, fresh })
    }

    /// The file asked for is prepared.
    pub fn ready(&mut self, file: u32) {
        let file = &mut self.files[file as usize];
        assert_eq!(file.state, State::Preparing, "a file is prepared once for each use");
        file.state = State::Ready;
    }

    /// Preparing failed for want of space.
    pub fn failed(&mut self, request: &FileRequest) {
        let at = request.file as usize;
        assert_eq!(self.files[at].state, State::Preparing, "a file is prepared once for each use");
        if request.fresh {
            self.forget(at);
        } else {
            self.files[at].state = State::Free;
        }
    }

    /// A free file that is kept for nothing: it is too small to be used again, or the files take more than they may.
    /// It is to be removed; [`removed`](Self::removed) says that it is.
    pub fn surplus(&mut self) -> Option<u32> {
        if self.files.iter().any(|f| f.state == State::Removing) {
            return None;
        }
        let too_much = self.total_bytes() > self.settings.max_bytes;
        let is_surplus =
            |f: &WalFile| f.state == State::Free && (too_much || f.bytes < self.settings.file_bytes);
        let largest = (0..self.files.len()).filter(|at| is_surplus(&self.files[*at]));
        let at = largest.max_by_key(|at| self.files[*at].bytes)?;
        self.files[at].state = State::Removing;
        Some(u32::try_from(at).expect("a shard has few WAL files"))
    }

    /// A surplus file is gone.
    pub fn removed(&mut self, file: u32) {
        assert_eq!(self.files[file as usize].state, State::Removing, "only what is surplus is removed");
        self.forget(file as usize);
    }

    fn forget(&mut self, at: usize) {
        (self.files[at].state, self.files[at].bytes) = (State::Gone, 0);
        while self.files.last().is_some_and(|f| f.state == State::Gone) {
            self.files.pop();
        }
    }

    /// Bytes that all files take on the disk.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// Everything up to `covered` is in synced segments and in the checkpoint.
    pub fn cover(&mut self, covered: Lsn, durable: Lsn) {
        assert!(covered >= self.covered && covered <= durable, "a checkpoint covers durable frames only");
        self.covered = covered;
    }

    /// Frees full files that hold nothing beyond what is covered, but those that are being written to.
    pub fn free_covered(&mut self, is_written: impl Fn(u32) -> bool) {
        let covered = self.covered;
        for (at, file) in (0u32..).zip(&mut self.files) {
            // A commit without frames has the LSN of its predecessor, so the LSN alone does not tell whether
            // the file is still being written.
            if file.state == State::Full && file.last_lsn <= covered && !is_written(at) {
                file.state = State::Free;
            }
        }
    }

    /// Asserts what must always hold.
    pub fn check(&self, durable: Lsn) {
        assert!(self.covered <= durable);
        assert!(self.files.iter().filter(|f| f.state == State::Current).count() <= 1);
        assert!(self.files.iter().filter(|f| f.state == State::Preparing).count() <= 1);
        assert!(self.files.iter().filter(|f| f.state == State::Removing).count() <= 1);
        assert!(self.files.iter().all(|f| (f.state == State::Gone) == (f.bytes == 0)));
    }
}
