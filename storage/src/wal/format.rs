//! The WAL's bytes on disk. All numbers are little-endian.
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
//! frame
//!   0  payload length u32
//!   4  kind           u16
//!   6  flags          u16, 0
//!   8  partition      i32
//!  12  topic id       16 bytes
//!  28  payload ...
//! ```
//!
//! A commit is valid only with the use id of its file head, at the position it names: neither a former use of
//! the file nor a client's payload that looks like a commit can be taken for one.

use crate::PartitionKey;
use crate::disk::BLOCK;
use crate::wal::Lsn;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The format's version, in file heads and commits.
pub const VERSION: u16 = 1;
/// Bytes of a commit's head.
pub const COMMIT_HEAD: usize = size_of::<CommitHead>();
/// Bytes of a frame's head.
pub const FRAME_HEAD: usize = size_of::<FrameHead>();

const FILE_MAGIC: [u8; 8] = *b"RLWALFIL";
/// The first bytes of every commit.
pub const COMMIT_MAGIC: [u8; 8] = *b"RLCOMMIT";
const CRC_START: usize = 12;

const _: () = assert!(COMMIT_HEAD == 64 && size_of::<FileHead>() == 64 && FRAME_HEAD == 28);
const _: () = assert!(COMMIT_HEAD <= BLOCK);

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
        if !whole || head.version.get() != VERSION {
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
        || head.version.get() != VERSION
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

/// The head of a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FrameHead {
    len: U32,
    kind: U16,
    flags: U16,
    partition: zerocopy::little_endian::I32,
    topic: [u8; 16],
}

const KIND_APPEND: u16 = 1;
const KIND_LOG_START: u16 = 2;
const KIND_DELETE: u16 = 3;
const KIND_BLOCK_IMAGE: u16 = 4;
const KIND_ROLL: u16 = 5;

/// What a frame says of its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A record batch was appended at `position` of the segment with base offset `segment`.
    Append {
        /// Base offset of the segment.
        segment: i64,
        /// Byte position in the segment.
        position: u64,
        /// The batch as stored, in two parts: its head and what follows.
        batch: (&'a [u8], &'a [u8]),
    },
    /// The log start offset moved.
    LogStart {
        /// The new log start offset.
        start: i64,
    },
    /// The partition was deleted with its topic.
    Delete,
    /// The bytes of a segment's partly filled last block, logged before that block is written again.
    BlockImage {
        /// Base offset of the segment.
        segment: i64,
        /// Byte position of the block in the segment.
        position: u64,
        /// Its bytes, less than a block.
        bytes: &'a [u8],
    },
    /// A new segment begins at the log's end, before anything is appended to it: the old one may be removed.
    Roll {
        /// Base offset of the new segment.
        segment: i64,
    },
}

impl Frame<'_> {
    fn kind(&self) -> u16 {
        match self {
            Frame::Append { .. } => KIND_APPEND,
            Frame::LogStart { .. } => KIND_LOG_START,
            Frame::Delete => KIND_DELETE,
            Frame::BlockImage { .. } => KIND_BLOCK_IMAGE,
            Frame::Roll { .. } => KIND_ROLL,
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Frame::Append { batch, .. } => 16 + batch.0.len() + batch.1.len(),
            Frame::LogStart { .. } | Frame::Roll { .. } => 8,
            Frame::Delete => 0,
            Frame::BlockImage { bytes, .. } => 16 + bytes.len(),
        }
    }

    /// Bytes of the whole frame.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        FRAME_HEAD + self.payload_len()
    }

    /// Writes the frame to the start of `out` and returns its length.
    pub fn encode(&self, key: &PartitionKey, out: &mut [u8]) -> usize {
        let len = self.payload_len();
        let head = FrameHead {
            len: U32::new(u32::try_from(len).expect("a frame is bounded by the commit size")),
            kind: U16::new(self.kind()),
            flags: U16::ZERO,
            partition: key.partition.into(),
            topic: *key.topic.as_bytes(),
        };
        let (head_out, out) = out[..FRAME_HEAD + len].split_at_mut(FRAME_HEAD);
        head_out.copy_from_slice(head.as_bytes());
        match self {
            Frame::Append { segment, position, batch } => {
                out[..8].copy_from_slice(&segment.to_le_bytes());
                out[8..16].copy_from_slice(&position.to_le_bytes());
                let (first, second) = out[16..].split_at_mut(batch.0.len());
                first.copy_from_slice(batch.0);
                second.copy_from_slice(batch.1);
            }
            Frame::LogStart { start } => out.copy_from_slice(&start.to_le_bytes()),
            Frame::Roll { segment } => out.copy_from_slice(&segment.to_le_bytes()),
            Frame::Delete => {}
            Frame::BlockImage { segment, position, bytes } => {
                out[..8].copy_from_slice(&segment.to_le_bytes());
                out[8..16].copy_from_slice(&position.to_le_bytes());
                out[16..].copy_from_slice(bytes);
            }
        }
        FRAME_HEAD + len
    }
}

/// Reads the frames of a commit's body, in order. Stops with `None` at what cannot be a frame: the caller knows
/// how many there are, and a commit with a right checksum and a wrong frame is a bug, not damage.
pub struct Frames<'a> {
    body: &'a [u8],
}

impl<'a> Frames<'a> {
    /// The frames of `body`.
    #[must_use]
    pub fn of(body: &'a [u8]) -> Frames<'a> {
        Frames { body }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (PartitionKey, Frame<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = FrameHead::read_from_prefix(self.body).ok()?;
        let len = head.len.get() as usize;
        if rest.len() < len {
            return None;
        }
        let (payload, rest) = rest.split_at(len);
        let key = PartitionKey { topic: uuid::Uuid::from_bytes(head.topic), partition: head.partition.get() };
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().expect("eight bytes")))
        };
        let frame = match head.kind.get() {
            KIND_APPEND => Frame::Append {
                segment: number(0)?.cast_signed(),
                position: number(8)?,
                batch: (payload.get(16..)?, &[]),
            },
            KIND_LOG_START => Frame::LogStart { start: number(0)?.cast_signed() },
            KIND_ROLL => Frame::Roll { segment: number(0)?.cast_signed() },
            KIND_DELETE => Frame::Delete,
            KIND_BLOCK_IMAGE => Frame::BlockImage {
                segment: number(0)?.cast_signed(),
                position: number(8)?,
                bytes: payload.get(16..)?,
            },
            _ => return None,
        };
        self.body = rest;
        Some((key, frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn every_kind_of_frame_reads_back() {
        let frames = [
            Frame::Append { segment: 1, position: 2, batch: (b"whole", b"") },
            Frame::LogStart { start: 99 },
            Frame::Delete,
            Frame::BlockImage { segment: 4, position: 4096, bytes: b"image" },
        ];
        let mut body = vec![0; frames.iter().map(Frame::encoded_len).sum()];
        let mut at = 0;
        for frame in &frames {
            at += frame.encode(&key(), &mut body[at..]);
        }
        assert_eq!(Frames::of(&body).map(|(_, f)| f).collect::<Vec<_>>(), frames);
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
        fn garbage_is_neither_head_nor_commit_nor_endless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(FileUse::decode(&bytes), None);
            prop_assert_eq!(open_commit(&bytes, &file(1), 0), None);
            prop_assert!(Frames::of(&bytes).count() <= bytes.len() / FRAME_HEAD);
        }
    }
}
