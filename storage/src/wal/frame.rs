//! Frames: what the commits of the WAL hold, each about one partition. All numbers are little-endian.
//!
//! ```text
//! frame
//!   0  payload length u32
//!   4  kind           u16
//!   6  flags          u16, 0
//!   8  partition      i32
//!  12  topic id       16 bytes
//!  28  payload ...
//!
//! payload, by kind (segments are named by their base offset, i64; positions in them are u64)
//!   1  append          segment | position | record batch
//!   2  log start       offset i64
//!   3  delete
//!   4  block image     segment | position | bytes of the block up to the log's end
//!   5  roll            segment
//!   6  truncate        segment | position | log end i64 | max timestamp i64 | producers ...
//!   7  restart         offset i64
//!   8  epoch start     offset i64 | epoch i32
//!   9  high watermark  offset i64
//!  10  reference       segment | position | CRC-32 of the batch u32 | header of the batch, 61 bytes
//! ```

use crate::PartitionKey;
use crate::batch::HEADER_BYTES;
use zerocopy::little_endian::{I32, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a frame's head.
pub const FRAME_HEAD: usize = size_of::<FrameHead>();

const _: () = assert!(FRAME_HEAD == 28);

/// The head of a frame.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FrameHead {
    len: U32,
    kind: U16,
    flags: U16,
    partition: I32,
    topic: [u8; 16],
}

const KIND_APPEND: u16 = 1;
const KIND_LOG_START: u16 = 2;
const KIND_DELETE: u16 = 3;
const KIND_BLOCK_IMAGE: u16 = 4;
const KIND_ROLL: u16 = 5;
const KIND_TRUNCATE: u16 = 6;
const KIND_RESTART: u16 = 7;
const KIND_EPOCH_START: u16 = 8;
const KIND_HIGH_WATERMARK: u16 = 9;
const KIND_REFERENCE: u16 = 10;

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
    /// The log was cut: it ends at `end` now, at byte `position` of `segment`, which is appended to from here on. All
    /// segments above it are gone, its own bytes from `position` on too.
    Truncate {
        /// Base offset of the segment; all of it is gone where `position` is 0.
        segment: i64,
        /// Byte position in the segment.
        position: u64,
        /// Offset after the last record that is left.
        end: i64,
        /// Largest record timestamp of what is left of the segment, -1 where nothing is.
        max_timestamp: i64,
        /// The idempotent producers as they were at `end`, as
        /// [`Producers::snapshot`](crate::producer::Producers::snapshot) writes them; empty where none of their
        /// batches was cut.
        producers: &'a [u8],
    },
    /// Everything is gone: the log starts, and goes on, at `start`.
    Restart {
        /// The new log start offset and log end offset.
        start: i64,
    },
    /// A leader epoch begins before it has a record.
    EpochStart {
        /// The leader epoch.
        epoch: i32,
        /// Offset of the first record that it will append.
        start: i64,
    },
    /// The high watermark, as of this frame.
    HighWatermark {
        /// The high watermark.
        offset: i64,
    },
    /// A record batch was appended by writing it to its segment directly: the segment has its bytes.
    Reference {
        /// Base offset of the segment.
        segment: i64,
        /// Byte position in the segment.
        position: u64,
        /// CRC-32 of all of the batch's bytes, its header included.
        crc: u32,
        /// The batch's header: offsets, length, producer.
        header: &'a [u8],
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
            Frame::Truncate { .. } => KIND_TRUNCATE,
            Frame::Restart { .. } => KIND_RESTART,
            Frame::EpochStart { .. } => KIND_EPOCH_START,
            Frame::HighWatermark { .. } => KIND_HIGH_WATERMARK,
            Frame::Reference { .. } => KIND_REFERENCE,
        }
    }

    fn payload_len(&self) -> usize {
        match self {
            Frame::Append { batch, .. } => 16 + batch.0.len() + batch.1.len(),
            Frame::LogStart { .. }
            | Frame::Roll { .. }
            | Frame::Restart { .. }
            | Frame::HighWatermark { .. } => 8,
            Frame::Delete => 0,
            Frame::BlockImage { bytes, .. } => 16 + bytes.len(),
            Frame::Truncate { producers, .. } => 32 + producers.len(),
            Frame::EpochStart { .. } => 12,
            Frame::Reference { header, .. } => 20 + header.len(),
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
        let (head_out, payload) = out[..FRAME_HEAD + len].split_at_mut(FRAME_HEAD);
        head_out.copy_from_slice(head.as_bytes());
        let mut out = Out(payload);
        match self {
            Frame::Append { segment, position, batch } => {
                out.put(&segment.to_le_bytes());
                out.put(&position.to_le_bytes());
                out.put(batch.0);
                out.put(batch.1);
            }
            Frame::LogStart { start } | Frame::Restart { start } => out.put(&start.to_le_bytes()),
            Frame::Roll { segment } => out.put(&segment.to_le_bytes()),
            Frame::Delete => {}
            Frame::BlockImage { segment, position, bytes } => {
                out.put(&segment.to_le_bytes());
                out.put(&position.to_le_bytes());
                out.put(bytes);
            }
            Frame::Truncate { segment, position, end, max_timestamp, producers } => {
                out.put(&segment.to_le_bytes());
                out.put(&position.to_le_bytes());
                out.put(&end.to_le_bytes());
                out.put(&max_timestamp.to_le_bytes());
                out.put(producers);
            }
            Frame::EpochStart { epoch, start } => {
                out.put(&start.to_le_bytes());
                out.put(&epoch.to_le_bytes());
            }
            Frame::HighWatermark { offset } => out.put(&offset.to_le_bytes()),
            Frame::Reference { segment, position, crc, header } => {
                assert_eq!(header.len(), HEADER_BYTES, "a reference has its batch's header");
                out.put(&segment.to_le_bytes());
                out.put(&position.to_le_bytes());
                out.put(&crc.to_le_bytes());
                out.put(header);
            }
        }
        assert!(out.0.is_empty(), "a payload is as long as it said");
        FRAME_HEAD + len
    }
}

/// Writes to the front of a slice.
struct Out<'a>(&'a mut [u8]);

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (front, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        front.copy_from_slice(bytes);
        self.0 = rest;
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
        let frame = decode(head.kind.get(), payload)?;
        self.body = rest;
        Some((key, frame))
    }
}

fn decode(kind: u16, payload: &[u8]) -> Option<Frame<'_>> {
    let number = |at: usize| -> Option<u64> {
        Some(u64::from_le_bytes(payload.get(at..at + 8)?.try_into().expect("eight bytes")))
    };
    let offset = |at: usize| number(at).map(u64::cast_signed);
    let small = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(payload.get(at..at + 4)?.try_into().expect("four bytes")))
    };
    Some(match kind {
        KIND_APPEND => {
            Frame::Append { segment: offset(0)?, position: number(8)?, batch: (payload.get(16..)?, &[]) }
        }
        KIND_LOG_START => Frame::LogStart { start: offset(0)? },
        KIND_DELETE => Frame::Delete,
        KIND_BLOCK_IMAGE => {
            Frame::BlockImage { segment: offset(0)?, position: number(8)?, bytes: payload.get(16..)? }
        }
        KIND_ROLL => Frame::Roll { segment: offset(0)? },
        KIND_TRUNCATE => Frame::Truncate {
            segment: offset(0)?,
            position: number(8)?,
            end: offset(16)?,
            max_timestamp: offset(24)?,
            producers: payload.get(32..)?,
        },
        KIND_RESTART => Frame::Restart { start: offset(0)? },
        KIND_EPOCH_START => Frame::EpochStart { start: offset(0)?, epoch: small(8)?.cast_signed() },
        KIND_HIGH_WATERMARK => Frame::HighWatermark { offset: offset(0)? },
        KIND_REFERENCE => Frame::Reference {
            segment: offset(0)?,
            position: number(8)?,
            crc: small(16)?,
            header: payload.get(20..).filter(|header| header.len() == HEADER_BYTES)?,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_reads_back() {
        let key = PartitionKey { topic: uuid::Uuid::from_u128(77), partition: 4 };
        let frames = [
            Frame::Append { segment: 1, position: 2, batch: (b"whole", b"") },
            Frame::LogStart { start: 99 },
            Frame::Delete,
            Frame::BlockImage { segment: 4, position: 4096, bytes: b"image" },
            Frame::Roll { segment: 8 },
            Frame::Truncate { segment: 8, position: 3, end: 17, max_timestamp: -1, producers: b"them" },
            Frame::Restart { start: 1000 },
            Frame::EpochStart { epoch: 7, start: 1000 },
            Frame::HighWatermark { offset: 1001 },
            Frame::Reference { segment: 8, position: 5, crc: 77, header: &[3; HEADER_BYTES] },
        ];
        let mut body = vec![0; frames.iter().map(Frame::encoded_len).sum()];
        let mut at = 0;
        for frame in &frames {
            at += frame.encode(&key, &mut body[at..]);
        }
        assert_eq!(Frames::of(&body).map(|(_, f)| f).collect::<Vec<_>>(), frames);
        let kinds: Vec<u16> = frames.iter().map(Frame::kind).collect();
        assert_eq!(kinds, (1..=10).collect::<Vec<u16>>(), "every kind is here");
    }

    proptest! {
        #[test]
        fn garbage_is_not_endless(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Frames::of(&bytes).count() <= bytes.len() / FRAME_HEAD);
        }

        /// A payload of any length is a frame or none, never a panic.
        #[test]
        fn any_payload_decodes_or_not(kind in 0u16..12, payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(kind, &payload);
        }
    }
}
