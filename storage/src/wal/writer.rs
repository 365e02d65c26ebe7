//! Fills commits, hands them out for writing with several in flight, and knows what is durable.
//!
//! Contract of [`WalWriter`], a pure machine:
//! - in: [`append`](WalWriter::append) frames; [`submit`](WalWriter::submit) until it returns `None`;
//!   [`written`](WalWriter::written) when the disk has a commit; [`file_ready`](WalWriter::file_ready) when a
//!   file asked for by [`wants_file`](WalWriter::wants_file) is prepared; [`recycle`](WalWriter::recycle) when a
//!   checkpoint covers more;
//! - out: commits to write, files to prepare, the durable LSN.
//!
//! Commits may complete in any order; the durable LSN moves in LSN order only.

use crate::PartitionKey;
use crate::disk::{BLOCK, block_ceil};
use crate::mutant::{self, Mutant};
use crate::wal::Lsn;
pub use crate::wal::files::FileRequest;
use crate::wal::files::Files;
use crate::wal::format::{COMMIT_HEAD, CommitInfo, FileUse, Frame, seal_commit};
use std::collections::VecDeque;

/// Memory that a commit is built in and written from: block-aligned, a multiple of a block long.
pub trait CommitBuffer {
    /// A buffer of `bytes` bytes, whole blocks.
    fn with_capacity(bytes: usize) -> Self;
    /// All of it.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Cuts it to `bytes` bytes, whole blocks.
    fn cut(&mut self, bytes: usize);
}

/// Sizes and limits of a shard's WAL.
#[derive(Clone, Copy, Debug)]
pub struct WalSettings {
    /// Bytes of a WAL file (all but the first of a generation).
    pub file_bytes: u64,
    /// Bytes that all files of the shard may take (`wal.max.bytes`).
    pub max_bytes: u64,
    /// Commits that may be in flight at once (`wal.commits.in.flight`).
    pub commits_in_flight: usize,
}

/// Bytes at which a commit is closed, unless one frame alone is larger.
pub const COMMIT_BYTES: usize = 1 << 20;
const COMMIT_BYTES_MIN: usize = 16 << 10;
/// Largest frame; the largest record batch must be smaller by a little.
pub const FRAME_BYTES_MAX: usize = 36 << 20;
/// Smallest allowed WAL file. A commit that does not fit gets a file of its size.
pub const FILE_BYTES_MIN: u64 = 64 << 10;

const _: () = assert!(COMMIT_BYTES.is_multiple_of(BLOCK) && COMMIT_BYTES_MIN.is_multiple_of(BLOCK));

/// A commit to be written.
pub struct Submission<B> {
    /// Number to give back to [`WalWriter::written`].
    pub commit: u64,
    /// Number of the file to write to.
    pub file: u32,
    /// Where in the file.
    pub position: u64,
    /// What.
    pub buffer: B,
}

struct Filling<B> {
    buffer: B,
    capacity: usize,
    len: usize,
    first_lsn: Lsn,
    frames: u32,
}

struct InFlight {
    commit: u64,
    file: u32,
    last_lsn: Lsn,
    bytes: u64,
    done: bool,
}

/// See the module's documentation.
pub struct WalWriter<B> {
    settings: WalSettings,
    files: Files,
    filling: Option<Filling<B>>,
    closed: VecDeque<Filling<B>>,
    in_flight: VecDeque<InFlight>,
    next_commit: u64,
    next_lsn: Lsn,
    durable: Lsn,
    stated: Lsn,
    capacity: usize,
    backlog: u64,
    commits: u64,
}

impl<B: CommitBuffer> WalWriter<B> {
    /// The writer of a new generation. File 0 is already prepared with head `first`.
    #[must_use]
    pub fn new(settings: WalSettings, first: FileUse) -> WalWriter<B> {
        assert!(settings.commits_in_flight > 0, "at least one commit must be allowed in flight");
        assert!(settings.file_bytes >= FILE_BYTES_MIN && settings.file_bytes.is_multiple_of(BLOCK as u64));
        WalWriter {
            settings,
            files: Files::new(settings, first),
            filling: None,
            closed: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_commit: 0,
            next_lsn: first.first_lsn,
            durable: first.first_lsn - 1,
            stated: first.first_lsn - 1,
            capacity: COMMIT_BYTES_MIN,
            backlog: 0,
            commits: 0,
        }
    }

    /// LSN that the next frame gets.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Every frame up to here is on the disk.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Generation that is written.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.files.generation()
    }

    /// Commits submitted so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Bytes appended that are not durable yet.
    #[must_use]
    pub fn backlog_bytes(&self) -> u64 {
        self.backlog
    }

    /// Bytes of all files that hold something a checkpoint does not cover.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.files.used_bytes()
    }

    /// Whether a commit is closed or filled that no file has room for: appending must wait.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        !self.closed.is_empty() && self.in_flight.len() < self.settings.commits_in_flight
    }

    /// Whether nothing is being filled or written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.closed.is_empty() && self.filling.is_none()
    }

    /// Whether the disk does not know yet how far it is durable.
    #[must_use]
    pub fn has_unstated(&self) -> bool {
        self.stated < self.durable
    }

    /// Appends a frame and returns its LSN.
    pub fn append(&mut self, key: &PartitionKey, frame: &Frame<'_>) -> Lsn {
        let len = frame.encoded_len();
        assert!(len <= FRAME_BYTES_MAX, "frames are bounded by the largest batch");
        if self.filling.as_ref().is_some_and(|f| f.len + len > f.capacity) {
            self.closed.extend(self.filling.take());
            self.capacity = (self.capacity * 2).min(COMMIT_BYTES);
        }
        let wanted = self.capacity;
        let filling = self.filling.get_or_insert_with(|| {
            let capacity = wanted.max(block_ceil((COMMIT_HEAD + len) as u64) as usize);
            Filling {
                buffer: B::with_capacity(capacity),
                capacity,
                len: COMMIT_HEAD,
                first_lsn: self.next_lsn,
                frames: 0,
            }
        });
        let written = frame.encode(key, &mut filling.buffer.bytes_mut()[filling.len..]);
        assert_eq!(written, len, "a frame is as long as it said");
        filling.len += len;
        filling.frames += 1;
        self.backlog += len as u64;
        self.next_lsn += 1;
        self.next_lsn - 1
    }

    /// Makes an empty commit that records the durable LSN, if the log is idle and its last durable LSN is not
    /// on the disk yet. Submit afterwards.
    pub fn state_durable(&mut self) {
        if self.is_idle() && self.has_unstated() {
            self.filling = Some(Filling {
                buffer: B::with_capacity(BLOCK),
                capacity: BLOCK,
                len: COMMIT_HEAD,
                first_lsn: self.next_lsn,
                frames: 0,
            });
        }
    }

    /// The next commit to write now, if any. Returns `None` when nothing is filled, enough are in flight, or no
    /// file has room.
    pub fn submit(&mut self) -> Option<Submission<B>> {
        if self.in_flight.len() >= self.settings.commits_in_flight {
            return None;
        }
        if self.closed.is_empty() {
            self.closed.extend(self.filling.take());
        }
        let disk_len = block_ceil(self.closed.front()?.len as u64);
        let (file, position) = self.files.place(disk_len, self.durable)?;
        let mut filled = self.closed.pop_front().expect("looked at just above");
        let info = CommitInfo {
            position,
            first_lsn: filled.first_lsn,
            durable_lsn: if mutant::on(Mutant::NeverStatesDurable) { 0 } else { self.durable },
            body_len: u32::try_from(filled.len - COMMIT_HEAD).expect("commits are far below 4 GiB"),
            frames: filled.frames,
        };
        let bytes = filled.buffer.bytes_mut();
        bytes[filled.len..disk_len as usize].fill(0);
        seal_commit(&mut bytes[..filled.len], self.files.usage(file), &info);
        filled.buffer.cut(disk_len as usize);
        if filled.len * 4 < self.capacity {
            self.capacity = (self.capacity / 2).max(COMMIT_BYTES_MIN);
        }
        let commit = self.next_commit;
        self.next_commit += 1;
        self.commits += 1;
        self.stated = self.durable;
        self.files.taken(file, disk_len, info.last_lsn());
        let bytes = (filled.len - COMMIT_HEAD) as u64;
        self.in_flight.push_back(InFlight { commit, file, last_lsn: info.last_lsn(), bytes, done: false });
        Some(Submission { commit, file, position: info.position, buffer: filled.buffer })
    }

    /// The disk has commit `commit`. Returns the durable LSN if it moved.
    pub fn written(&mut self, commit: u64) -> Option<Lsn> {
        let flight = self.in_flight.iter_mut().find(|f| f.commit == commit).expect("a commit in flight");
        assert!(!flight.done, "a commit completes once");
        flight.done = true;
        let before = self.durable;
        if mutant::on(Mutant::DurableOutOfOrder) {
            self.durable = flight.last_lsn.max(self.durable);
        }
        while self.in_flight.front().is_some_and(|f| f.done) {
            let flight = self.in_flight.pop_front().expect("looked at just above");
            if !mutant::on(Mutant::DurableOutOfOrder) {
                assert!(flight.last_lsn >= self.durable, "commits are durable in LSN order");
            }
            self.durable = flight.last_lsn.max(self.durable);
            self.backlog -= flight.bytes;
        }
        (self.durable > before).then_some(self.durable)
    }

    /// A file to prepare, where there is none ready ahead of the current one. `use_id` is a fresh random number.
    /// `beyond_limit`: room is needed even beyond what the files may take, because only by writing on can any be
    /// freed.
    pub fn wants_file(&mut self, use_id: u64, beyond_limit: bool) -> Option<FileRequest> {
        // A file may become full, or its last commit complete, after the checkpoint that covers it.
        self.free_covered();
        let largest = self.closed.iter().map(|f| f.len).max().unwrap_or(0) as u64;
        self.files.wants(largest, use_id, beyond_limit)
    }

    /// The file asked for is prepared.
    pub fn file_ready(&mut self, file: u32) {
        self.files.ready(file);
    }

    /// Preparing failed for want of space: ask again later.
    pub fn file_failed(&mut self, request: &FileRequest) {
        self.files.failed(request);
    }

    /// A file that holds nothing any more and is not needed: `wal.max.bytes` is passed without it, or it is too small
    /// to be used again. It is to be removed; [`file_removed`](Self::file_removed) says that it is.
    pub fn surplus_file(&mut self) -> Option<u32> {
        self.files.surplus()
    }

    /// A surplus file is gone.
    pub fn file_removed(&mut self, file: u32) {
        self.files.removed(file);
    }

    /// Bytes that all files take on the disk, whatever is in them.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        self.files.total_bytes()
    }

    /// Everything up to `covered` is in synced segments and in the checkpoint: files that hold no more are free.
    pub fn recycle(&mut self, covered: Lsn) {
        self.files.cover(covered, self.durable);
        self.free_covered();
    }

    fn free_covered(&mut self) {
        let in_flight = &self.in_flight;
        self.files.free_covered(|file| in_flight.iter().any(|f| f.file == file));
    }

    /// Asserts what must always hold.
    pub fn check(&self) {
        assert!(self.stated <= self.durable && self.durable < self.next_lsn);
        self.files.check(self.durable);
        assert!(self.in_flight.len() <= self.settings.commits_in_flight);
        assert!(
            self.in_flight.iter().zip(self.in_flight.iter().skip(1)).all(|(a, b)| a.last_lsn <= b.last_lsn)
        );
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
