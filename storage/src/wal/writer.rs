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
}

struct WalFile {
    state: State,
    bytes: u64,
    usage: FileUse,
    last_lsn: Lsn,
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
    generation: u64,
    shard: u32,
    settings: WalSettings,
    files: Vec<WalFile>,
    current: Option<u32>,
    position: u64,
    filling: Option<Filling<B>>,
    closed: VecDeque<Filling<B>>,
    in_flight: VecDeque<InFlight>,
    next_commit: u64,
    next_lsn: Lsn,
    durable: Lsn,
    stated: Lsn,
    sequence: u64,
    capacity: usize,
    backlog: u64,
    covered: Lsn,
    commits: u64,
}

impl<B: CommitBuffer> WalWriter<B> {
    /// The writer of a new generation. File 0 is already prepared with head `first`.
    #[must_use]
    pub fn new(settings: WalSettings, first: FileUse) -> WalWriter<B> {
        assert!(settings.commits_in_flight > 0, "at least one commit must be allowed in flight");
        assert!(settings.file_bytes >= FILE_BYTES_MIN && settings.file_bytes.is_multiple_of(BLOCK as u64));
        let file = WalFile { state: State::Ready, bytes: first.file_bytes, usage: first, last_lsn: 0 };
        WalWriter {
            generation: first.generation,
            shard: first.shard,
            settings,
            files: vec![file],
            current: None,
            position: 0,
            filling: None,
            closed: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_commit: 0,
            next_lsn: first.first_lsn,
            durable: first.first_lsn - 1,
            stated: first.first_lsn - 1,
            sequence: first.sequence + 1,
            capacity: COMMIT_BYTES_MIN,
            backlog: 0,
            covered: first.first_lsn - 1,
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
        self.generation
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
        let full: u64 = self.files.iter().filter(|f| f.state == State::Full).map(|f| f.bytes).sum();
        full + if self.current.is_some() { self.position } else { 0 }
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
        let file = self.place(disk_len)?;
        let mut filled = self.closed.pop_front().expect("looked at just above");
        let info = CommitInfo {
            position: self.position,
            first_lsn: filled.first_lsn,
            durable_lsn: if mutant::on(Mutant::NeverStatesDurable) { 0 } else { self.durable },
            body_len: u32::try_from(filled.len - COMMIT_HEAD).expect("commits are far below 4 GiB"),
            frames: filled.frames,
        };
        let bytes = filled.buffer.bytes_mut();
        bytes[filled.len..disk_len as usize].fill(0);
        seal_commit(&mut bytes[..filled.len], &self.files[file as usize].usage, &info);
        filled.buffer.cut(disk_len as usize);
        if filled.len * 4 < self.capacity {
            self.capacity = (self.capacity / 2).max(COMMIT_BYTES_MIN);
        }
        let commit = self.next_commit;
        self.next_commit += 1;
        self.commits += 1;
        self.stated = self.durable;
        self.position += disk_len;
        self.files[file as usize].last_lsn = info.last_lsn();
        let bytes = (filled.len - COMMIT_HEAD) as u64;
        self.in_flight.push_back(InFlight { commit, file, last_lsn: info.last_lsn(), bytes, done: false });
        Some(Submission { commit, file, position: info.position, buffer: filled.buffer })
    }

    /// The file that the next `disk_len` bytes go to, at `self.position`.
    fn place(&mut self, disk_len: u64) -> Option<u32> {
        if let Some(at) = self.current {
            let file = &mut self.files[at as usize];
            if file.bytes - self.position >= disk_len {
                return Some(at);
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
        self.files[next].last_lsn = self.durable;
        self.position = BLOCK as u64;
        self.current = Some(u32::try_from(next).expect("a shard has few WAL files"));
        self.current
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
        let need = (largest + BLOCK as u64).max(1);
        if self
            .files
            .iter()
            .any(|f| f.state == State::Preparing || (f.state == State::Ready && f.bytes >= block_ceil(need)))
        {
            return None;
        }
        let total: u64 = self.files.iter().map(|f| f.bytes).sum();
        let bytes = self.settings.file_bytes.max(block_ceil(need + BLOCK as u64));
        let (file, fresh) = match self.files.iter().position(|f| f.state == State::Free && f.bytes >= bytes) {
            Some(at) => (at, false),
            None if total + bytes <= self.settings.max_bytes || self.files.len() < 2 || beyond_limit => {
                (self.files.len(), true)
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
        if fresh {
            self.files.push(entry)
        } else {
            self.files[file] = entry
        }
        Some(FileRequest { file: u32::try_from(file).expect("a shard has few WAL files"), usage, fresh })
    }

    /// The file asked for is prepared.
    pub fn file_ready(&mut self, file: u32) {
        let file = &mut self.files[file as usize];
        assert_eq!(file.state, State::Preparing, "a file is prepared once for each use");
        file.state = State::Ready;
    }

    /// Preparing failed for want of space: ask again later.
    pub fn file_failed(&mut self, request: &FileRequest) {
        let at = request.file as usize;
        assert_eq!(self.files[at].state, State::Preparing, "a file is prepared once for each use");
        if request.fresh && at + 1 == self.files.len() {
            self.files.pop();
        } else {
            self.files[at].state = State::Free;
        }
    }

    /// Everything up to `covered` is in synced segments and in the checkpoint: files that hold no more are free.
    pub fn recycle(&mut self, covered: Lsn) {
        assert!(
            covered >= self.covered && covered <= self.durable,
            "a checkpoint covers durable frames only"
        );
        self.covered = covered;
        self.free_covered();
    }

    /// Frees full files that hold nothing beyond what is covered.
    fn free_covered(&mut self) {
        let covered = self.covered;
        for (at, file) in self.files.iter_mut().enumerate() {
            // A commit without frames has the LSN of its predecessor, so the LSN alone does not tell whether
            // the file is still being written.
            let writing = self.in_flight.iter().any(|f| f.file as usize == at);
            if file.state == State::Full && file.last_lsn <= covered && !writing {
                file.state = State::Free;
            }
        }
    }

    /// Asserts what must always hold.
    pub fn check(&self) {
        assert!(self.stated <= self.durable && self.durable < self.next_lsn);
        assert!(self.covered <= self.durable);
        assert!(self.in_flight.len() <= self.settings.commits_in_flight);
        assert!(
            self.in_flight.iter().zip(self.in_flight.iter().skip(1)).all(|(a, b)| a.last_lsn <= b.last_lsn)
        );
        assert!(self.files.iter().filter(|f| f.state == State::Current).count() <= 1);
        assert!(self.files.iter().filter(|f| f.state == State::Preparing).count() <= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::scan::{Found, decide, find_commits};
    use proptest::prelude::*;
    use uuid::Uuid;

    impl CommitBuffer for Vec<u8> {
        fn with_capacity(bytes: usize) -> Vec<u8> {
            vec![0xee; bytes]
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            self
        }
        fn cut(&mut self, bytes: usize) {
            self.truncate(bytes);
        }
    }

    fn usage(use_id: u64, sequence: u64) -> FileUse {
        FileUse { generation: 1, use_id, sequence, file_bytes: 1 << 20, first_lsn: 1, shard: 0 }
    }

    fn writer(in_flight: usize) -> WalWriter<Vec<u8>> {
        let settings = WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: in_flight };
        WalWriter::new(settings, usage(100, 1))
    }

    fn key() -> PartitionKey {
        PartitionKey { topic: Uuid::from_u128(1), partition: 0 }
    }

    fn append(wal: &mut WalWriter<Vec<u8>>, len: usize) -> Lsn {
        let batch = vec![1; len];
        wal.append(&key(), &Frame::Append { segment: 0, position: 0, batch: (&batch, &[]) })
    }

    #[test]
    fn durable_moves_in_lsn_order_whatever_order_commits_complete_in() {
        let mut wal = writer(4);
        let commits: Vec<_> = (0..3)
            .map(|_| {
                append(&mut wal, 10);
                wal.submit().unwrap().commit
            })
            .collect();
        assert_eq!(wal.written(commits[2]), None);
        assert_eq!(wal.written(commits[1]), None);
        assert_eq!(wal.written(commits[0]), Some(3));
        assert_eq!(wal.backlog_bytes(), 0);
    }

    #[test]
    fn beyond_the_commits_in_flight_the_filling_commit_grows() {
        let mut wal = writer(1);
        append(&mut wal, 10);
        let first = wal.submit().unwrap();
        append(&mut wal, 10);
        append(&mut wal, 10);
        assert!(wal.submit().is_none());
        wal.written(first.commit);
        let second = wal.submit().unwrap();
        assert_eq!(second.position, first.position + BLOCK as u64);
        assert_eq!(wal.written(second.commit), Some(3));
    }

    #[test]
    fn an_idle_log_states_its_durable_lsn_once() {
        let mut wal = writer(4);
        append(&mut wal, 10);
        let commit = wal.submit().unwrap().commit;
        wal.state_durable();
        assert!(wal.submit().is_none(), "not idle");
        wal.written(commit);
        assert!(wal.has_unstated());
        wal.state_durable();
        let statement = wal.submit().unwrap();
        assert_eq!(wal.written(statement.commit), None);
        assert!(!wal.has_unstated());
        wal.state_durable();
        assert!(wal.submit().is_none());
    }

    #[test]
    fn a_full_log_stalls_until_a_checkpoint_frees_a_file() {
        let mut wal = writer(4);
        let mut use_id = 200;
        let mut stalled = false;
        for _ in 0..200 {
            append(&mut wal, 100_000);
            while let Some(submission) = wal.submit() {
                wal.written(submission.commit);
            }
            use_id += 1;
            if let Some(request) = wal.wants_file(use_id, false) {
                wal.file_ready(request.file);
            }
            wal.check();
            if wal.is_stalled() {
                stalled = true;
                let covered = wal.durable();
                wal.recycle(covered);
                let request = wal.wants_file(use_id + 1000, false).expect("a free file is used again");
                assert!(!request.fresh);
                wal.file_ready(request.file);
                assert!(wal.submit().is_some());
                break;
            }
        }
        assert!(stalled, "4 MiB of files are not endless");
    }

    #[test]
    fn a_frame_larger_than_a_file_gets_a_file_of_its_size() {
        let mut wal = writer(4);
        append(&mut wal, 3 << 20);
        assert!(wal.submit().is_none());
        let request = wal.wants_file(7, false).expect("a larger file");
        assert!(request.usage.file_bytes > 3 << 20);
        wal.file_ready(request.file);
        assert!(wal.submit().is_some());
    }

    proptest! {
        /// What is written reads back through the scan, frame for frame.
        #[test]
        fn recovery_finds_what_was_written(lens in proptest::collection::vec(0usize..9000, 1..60), together in 1usize..5) {
            let mut wal = writer(4);
            let mut disk = vec![0u8; 1 << 20];
            let mut count = 0u64;
            for chunk in lens.chunks(together) {
                for len in chunk {
                    append(&mut wal, *len);
                    count += 1;
                }
                while let Some(s) = wal.submit() {
                    disk[s.position as usize..][..s.buffer.len()].copy_from_slice(&s.buffer);
                    wal.written(s.commit);
                }
            }
            prop_assert_eq!(wal.durable(), count);
            let found = find_commits(&disk, &usage(100, 1)).into_iter().map(|info| Found { file: 0, info }).collect();
            let verdict = decide(found, 0, 0).unwrap();
            prop_assert_eq!(verdict.end, count);
        }
    }
}
