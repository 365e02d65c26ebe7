//! The WAL's bytes on disk: files and commits; [frames](super::frame) are what commits hold. All numbers are
//! little-endian.
//!
//! ```text
//! file     0            4096                        ...                                   file end
//!          [ file head ][ commit ][ commit ........ ][ commit ]  zeros or a former use's commits
//!
//! file head (64 bytes, rest of its block zero)          commit (starts on a block, padded with zeros to one)
//!   0  magic     "RLWALFIL"                               0  magic        "RLCOMMIT"
//!   8  crc       CRC-32 of bytes 12..64                   8  crc          CRC-32 of use id, bytes 12..64, frames
//!  12  version   u16                                     12  version      u16
//!  14  flags     u16, 0                                  14  flags        u16, 0
//!  16  generation                                        16  generation
//!  24  use id    random, drawn at each use               24  use id       that of the file head
//!  32  sequence  order of the files                      32  position     of this commit in its file
//!  40  file size in bytes                                40  first LSN    of its first frame
//!  48  first LSN that this use may hold                  48  durable LSN  known when it was submitted
//!  56  shard     u32, then 4 zero bytes                  56  body length  u32, bytes of frames
//!                                                        60  frames       u32, how many
//!                                                        64  frames ...
//! ```
//!
//! A commit is valid only with the use id of its file head, at the position it names: neither a former use of
//! the file nor a client's payload that looks like a commit can be taken for one.

use crate::disk::BLOCK;
use crate::wal::Lsn;
pub use crate::wal::frame::{FRAME_HEAD, Frame, Frames};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format's version, in file heads and commits. Version 1 had the kinds of frames up to [`Frame::Roll`] and is
/// the same otherwise: it is read as well.
pub const VERSION: u16 = 2;
const VERSION_MIN: u16 = 1;
/// Bytes of a commit's head.
pub const COMMIT_HEAD: usize = size_of::<CommitHead>();

const FILE_MAGIC: [u8; 8] = *b"RLWALFIL";
/// The first bytes of every commit.
pub const COMMIT_MAGIC: [u8; 8] = *b"RLCOMMIT";
const CRC_START: usize = 12;

const _: () = assert!(COMMIT_HEAD == 64 && size_of::<FileHead>() == 64);
const _: () = assert!(COMMIT_HEAD <= BLOCK);

fn is_known(version: u16) -> bool {
    (VERSION_MIN..=VERSION).contains(&version)
}

/// The first block of a WAL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FileHead {
    magic: [u8; 8],
    crc: U32,
    version: U16,
    flags: U16,
    generation: U64,
    use_id: U64,
    sequence: U64,
    file_bytes: U64,
    first_lsn: U64,
    shard: U32,
    zero: U32,
}

/// What a file head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUse {
    /// Generation that the file belongs to.
    pub generation: u64,
    /// Random number of this use of the file.
    pub use_id: u64,
    /// Place of this use in the order of all uses of the shard's files.
    pub sequence: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// No frame below it is in this use.
    pub first_lsn: Lsn,
    /// Shard whose log it is.
    pub shard: u32,
}

impl FileUse {
    /// The file's first block.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut head = FileHead {
            magic: FILE_MAGIC,
            crc: U32::ZERO,
            version: U16::new(VERSION),
            flags: U16::ZERO,
            generation: U64::new(self.generation),
            use_id: U64::new(self.use_id),
            sequence: U64::new(self.sequence),
            file_bytes: U64::new(self.file_bytes),
            first_lsn: U64::new(self.first_lsn),
            shard: U32::new(self.shard),
            zero: U32::ZERO,
        };
        head.crc = U32::new(crc32fast::hash(&head.as_bytes()[CRC_START..]));
        let mut block = vec![0; BLOCK];
        block[..COMMIT_HEAD].copy_from_slice(head.as_bytes());
        block
    }

    /// Reads a file head; `None` where there is no valid one (a file not yet in use).
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<FileUse> {
        let (head, _) = FileHead::read_from_prefix(block).ok()?;
        let whole =
            head.magic == FILE_MAGIC && head.crc.get() == crc32fast::hash(&head.as_bytes()[CRC_START..]);
        if !whole || !is_known(head.version.get()) {
            return None;
        }
        Some(FileUse {
            generation: head.generation.get(),
            use_id: head.use_id.get(),
            sequence: head.sequence.get(),
            file_bytes: head.file_bytes.get(),
            first_lsn: head.first_lsn.get(),
            shard: head.shard.get(),
        })
    }
}

/// The head of a commit.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CommitHead {
    magic: [u8; 8],
    crc: U32,
    version: U16,
    flags: U16,
    generation: U64,
    use_id: U64,
    position: U64,
    first_lsn: U64,
    durable_lsn: U64,
    body_len: U32,
    frames: U32,
}

/// What a commit says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitInfo {
    /// Position in its file.
    pub position: u64,
    /// LSN of its first frame (or of the next frame to come, where it has none).
    pub first_lsn: Lsn,
    /// Every frame up to this LSN was durable when the commit was submitted.
    pub durable_lsn: Lsn,
    /// Bytes of its frames.
    pub body_len: u32,
    /// Number of its frames.
    pub frames: u32,
}

impl CommitInfo {
    /// LSN of the last frame; `first_lsn - 1` where it has none.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.first_lsn + u64::from(self.frames) - 1
    }

    /// Bytes on disk, padding included.
    #[must_use]
    pub fn disk_len(&self) -> u64 {
        crate::disk::block_ceil(COMMIT_HEAD as u64 + u64::from(self.body_len))
    }
}

fn commit_crc(use_id: u64, head: &CommitHead, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&use_id.to_le_bytes());
    hasher.update(&head.as_bytes()[CRC_START..]);
    hasher.update(body);
    hasher.finalize()
}

/// Writes a commit's head over the first bytes of `commit`, whose frames stand behind it already.
pub fn seal_commit(commit: &mut [u8], file: &FileUse, info: &CommitInfo) {
    let mut head = CommitHead {
        magic: COMMIT_MAGIC,
        crc: U32::ZERO,
        version: U16::new(VERSION),
        flags: U16::ZERO,
        generation: U64::new(file.generation),
        use_id: U64::new(file.use_id),
        position: U64::new(info.position),
        first_lsn: U64::new(info.first_lsn),
        durable_lsn: U64::new(info.durable_lsn),
        body_len: U32::new(info.body_len),
        frames: U32::new(info.frames),
    };
    let body = &commit[COMMIT_HEAD..COMMIT_HEAD + info.body_len as usize];
    head.crc = U32::new(commit_crc(file.use_id, &head, body));
    commit[..COMMIT_HEAD].copy_from_slice(head.as_bytes());
}

/// Reads a valid commit of `file` that starts at `bytes[0]`, which lies at `position` of the file. `None` where
/// there is none.
#[must_use]
pub fn open_commit(bytes: &[u8], file: &FileUse, position: u64) -> Option<CommitInfo> {
    let (head, _) = CommitHead::ref_from_prefix(bytes).ok()?;
    if head.use_id.get() == file.use_id { open_own_commit(bytes, file.generation, position) } else { None }
}

/// As [`open_commit`], with whatever use id the commit itself names.
#[must_use]
pub fn open_own_commit(bytes: &[u8], generation: u64, position: u64) -> Option<CommitInfo> {
    let (head, rest) = CommitHead::read_from_prefix(bytes).ok()?;
    if head.magic != COMMIT_MAGIC
        || !is_known(head.version.get())
        || head.generation.get() != generation
        || head.position.get() != position
    {
        return None;
    }
    let body = rest.get(..head.body_len.get() as usize)?;
    if head.crc.get() != commit_crc(head.use_id.get(), &head, body) {
        return None;
    }
    Some(CommitInfo {
        position,
        first_lsn: head.first_lsn.get(),
        durable_lsn: head.durable_lsn.get(),
        body_len: head.body_len.get(),
        frames: head.frames.get(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionKey;
    use proptest::prelude::*;

    fn file(use_id: u64) -> FileUse {
        FileUse { generation: 3, use_id, sequence: 9, file_bytes: 1 << 20, first_lsn: 5, shard: 1 }
    }

    fn key() -> PartitionKey {
        PartitionKey { topic: uuid::Uuid::from_u128(77), partition: 4 }
    }

    fn commit(use_id: u64, position: u64, batch: &[u8]) -> (Vec<u8>, CommitInfo) {
        let frame = Frame::Append { segment: 10, position: 8192, batch: (&batch[..1], &batch[1..]) };
        let mut bytes = vec![0; COMMIT_HEAD + frame.encoded_len()];
        let body_len = frame.encode(&key(), &mut bytes[COMMIT_HEAD..]);
        let info =
            CommitInfo { position, first_lsn: 12, durable_lsn: 11, body_len: body_len as u32, frames: 1 };
        seal_commit(&mut bytes, &file(use_id), &info);
        (bytes, info)
    }

    #[test]
    fn file_heads_and_commits_read_back() {
        assert_eq!(FileUse::decode(&file(7).encode()), Some(file(7)));
        let (bytes, info) = commit(7, 4096, b"batch");
        assert_eq!(open_commit(&bytes, &file(7), 4096), Some(info));
        let frames: Vec<_> = Frames::of(&bytes[COMMIT_HEAD..]).collect();
        assert_eq!(frames, [(key(), Frame::Append { segment: 10, position: 8192, batch: (b"batch", b"") })]);
    }

    #[test]
    fn files_of_the_first_version_are_read() {
        let mut head = file(7).encode();
        head[12] = 1;
        let crc = crc32fast::hash(&head[CRC_START..COMMIT_HEAD]);
        head[8..12].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FileUse::decode(&head), Some(file(7)));
        let (mut bytes, info) = commit(7, 4096, b"batch");
        bytes[12] = 1;
        let (head, body) = CommitHead::read_from_prefix(&bytes).unwrap();
        bytes.splice(8..12, commit_crc(7, &head, body).to_le_bytes());
        assert_eq!(open_commit(&bytes, &file(7), 4096), Some(info));
    }

    proptest! {
        /// Neither a former use of the file, another position nor a flipped bit passes for a commit.
        #[test]
        fn only_the_commit_itself_is_valid(use_id in 0u64..4, position in 0u64..4, bit in 0usize..(64 + 28 + 21) * 8) {
            let (mut bytes, info) = commit(2, 8192, b"batch");
            let found = open_commit(&bytes, &file(use_id), position * 4096);
            prop_assert_eq!(found, (use_id == 2 && position == 2).then_some(info));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(open_commit(&bytes, &file(2), 8192), None);
        }

        /// A client may store whole WAL files as its payload: at the same position, with another use id, they
        /// are never commits of this one.
        #[test]
        fn a_payload_that_looks_like_a_commit_is_none(mine in any::<u64>(), theirs in any::<u64>()) {
            prop_assume!(mine != theirs);
            let (inner, _) = commit(theirs, 4096, b"evil");
            prop_assert_eq!(open_commit(&inner, &file(mine), 4096), None);
        }

        #[test]
        fn garbage_is_neither_head_nor_commit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(FileUse::decode(&bytes), None);
            prop_assert_eq!(open_commit(&bytes, &file(1), 0), None);
        }
    }
}
