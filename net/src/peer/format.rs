//! A frame of the peer port, byte by byte. All numbers are little-endian.
//!
//! ```text
//! frame                                                     payload, by kind
//!   0  magic        "RLPF"                                    1 hello, 2 welcome, 3 refusal: see handshake.rs
//!   4  head crc     u32, CRC-32 of bytes 8..32                4 ping, 5 pong: empty
//!   8  version      u16                                       6 raft: one raft message in protobuf
//!  10  kind         u16                                       7 snapshot chunk, 8 request, 9 answer, 10 control:
//!  12  length       u32, bytes of payload                       see message.rs
//!  16  correlation  u64, names what is answered, else 0
//!  24  payload crc  u32, CRC-32 of the payload
//!  28  zero         u32, 0
//!  32  payload ...
//! ```
//!
//! The head has a checksum of its own, so that a damaged length is found before anyone waits for bytes that never
//! come, or takes memory for them. Each kind has a largest payload and belongs to certain streams; both are checked
//! as soon as the head is there.
//!
//! Frames of the handshake carry version 1 and keep their layout for ever: later versions append to it. Other frames
//! carry the version that the handshake agreed on.

use super::error::FrameError;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The lowest version of the format that this build speaks.
pub const VERSION_LOWEST: u16 = 1;
/// The highest version of the format that this build speaks.
pub const VERSION_HIGHEST: u16 = 1;
/// The versions of the format that this build speaks.
pub const VERSIONS: super::VersionRange =
    super::VersionRange { lowest: VERSION_LOWEST, highest: VERSION_HIGHEST };
/// The version that frames of the handshake carry.
pub(super) const HANDSHAKE_VERSION: u16 = 1;

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = size_of::<RawHead>();
/// The first bytes of every frame.
pub(super) const MAGIC: [u8; 4] = *b"RLPF";
const CRC_START: usize = 8;

/// Largest payload of a frame of the handshake.
pub const HANDSHAKE_BYTES_MAX: usize = 1 << 10;
/// Largest raft message. One command of 100,000 partitions is one entry, and an entry is never split.
pub const RAFT_BYTES_MAX: usize = 32 << 20;
/// Largest payload of a snapshot chunk.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Largest payload of a request.
pub const REQUEST_BYTES_MAX: usize = 32 << 20;
/// Largest payload of an answer: one with a record batch of the largest size still has room for others.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Largest payload of a control frame: the partitions that two brokers share, some 30 bytes for each.
pub const CONTROL_BYTES_MAX: usize = 4 << 20;

const _: () = assert!(HEAD_BYTES == 32);
const _: () = assert!(VERSION_LOWEST <= VERSION_HIGHEST && VERSION_LOWEST >= HANDSHAKE_VERSION);
const _: () = assert!(ANSWER_BYTES_MAX <= u32::MAX as usize && REQUEST_BYTES_MAX <= ANSWER_BYTES_MAX);

/// What a connection carries, fixed by the handshake. Each stream is a connection of its own, so that what is large
/// never delays what is urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Raft messages.
    Raft,
    /// Snapshots, in chunks.
    Bulk,
    /// Forwarded requests and their answers.
    Requests,
    /// Replication between two shards.
    Data,
}

impl Stream {
    /// Every stream.
    pub const ALL: [Stream; 4] = [Stream::Raft, Stream::Bulk, Stream::Requests, Stream::Data];

    pub(super) fn code(self) -> u16 {
        match self {
            Stream::Raft => 1,
            Stream::Bulk => 2,
            Stream::Requests => 3,
            Stream::Data => 4,
        }
    }

    pub(super) fn of_code(code: u16) -> Option<Stream> {
        Stream::ALL.into_iter().find(|stream| stream.code() == code)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The dialling broker says who it is and what it wants.
    Hello,
    /// The accepting broker agrees.
    Welcome,
    /// No, or no longer; the connection closes.
    Refusal,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// A raft message.
    Raft,
    /// A part of a snapshot.
    SnapshotChunk,
    /// A request that the other side is to answer.
    Request,
    /// Answers a request or a snapshot chunk.
    Answer,
    /// A notice that nobody answers.
    Control,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = [
        Kind::Hello,
        Kind::Welcome,
        Kind::Refusal,
        Kind::Ping,
        Kind::Pong,
        Kind::Raft,
        Kind::SnapshotChunk,
        Kind::Request,
        Kind::Answer,
        Kind::Control,
    ];

    pub(super) fn code(self) -> u16 {
        match self {
            Kind::Hello => 1,
            Kind::Welcome => 2,
            Kind::Refusal => 3,
            Kind::Ping => 4,
            Kind::Pong => 5,
            Kind::Raft => 6,
            Kind::SnapshotChunk => 7,
            Kind::Request => 8,
            Kind::Answer => 9,
            Kind::Control => 10,
        }
    }

    fn of_code(code: u16) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The largest payload of a frame of this kind, in bytes.
    #[must_use]
    pub fn payload_bytes_max(self) -> usize {
        match self {
            Kind::Hello | Kind::Welcome | Kind::Refusal => HANDSHAKE_BYTES_MAX,
            Kind::Ping | Kind::Pong => 0,
            Kind::Raft => RAFT_BYTES_MAX,
            Kind::SnapshotChunk => SNAPSHOT_CHUNK_BYTES_MAX,
            Kind::Request => REQUEST_BYTES_MAX,
            Kind::Answer => ANSWER_BYTES_MAX,
            Kind::Control => CONTROL_BYTES_MAX,
        }
    }

    /// Whether frames of this kind travel on an open stream. Raft messages go on the bulk stream too: the message
    /// that ends a snapshot follows its chunks.
    #[must_use]
    pub fn belongs_to(self, stream: Stream) -> bool {
        match self {
            Kind::Hello | Kind::Welcome => false,
            Kind::Refusal | Kind::Ping | Kind::Pong => true,
            Kind::Raft => matches!(stream, Stream::Raft | Stream::Bulk),
            Kind::SnapshotChunk => stream == Stream::Bulk,
            Kind::Request | Kind::Control => matches!(stream, Stream::Requests | Stream::Data),
            Kind::Answer => matches!(stream, Stream::Bulk | Stream::Requests | Stream::Data),
        }
    }

    /// Whether frames of this kind name what they answer, or are answered.
    pub(super) fn is_correlated(self) -> bool {
        matches!(self, Kind::Ping | Kind::Pong | Kind::SnapshotChunk | Kind::Request | Kind::Answer)
    }

    /// Whether frames of this kind are read before a version is agreed on.
    pub(super) fn is_handshake(self) -> bool {
        matches!(self, Kind::Hello | Kind::Welcome | Kind::Refusal)
    }
}

/// The bytes of a frame's head.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHead {
    magic: [u8; 4],
    head_crc: U32,
    version: U16,
    kind: U16,
    length: U32,
    correlation: U64,
    payload_crc: U32,
    zero: U32,
}

/// What the head of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub version: u16,
    pub kind: Kind,
    /// Bytes of payload; at most what the kind allows.
    pub length: usize,
    pub correlation: u64,
    pub payload_crc: u32,
}

/// Makes the head of a frame whose payload is these parts, one behind the other.
///
/// # Panics
/// If the payload is larger than its kind allows, or the correlation id does not fit the kind.
pub(super) fn seal(kind: Kind, version: u16, correlation: u64, payload: [&[u8]; 2]) -> [u8; HEAD_BYTES] {
    let length = payload[0].len() + payload[1].len();
    assert!(length <= kind.payload_bytes_max(), "a {kind:?} of {length} bytes is larger than any may be");
    assert!(kind.is_correlated() || correlation == 0, "a {kind:?} answers nothing");
    let mut hasher = crc32fast::Hasher::new();
    payload.iter().for_each(|part| hasher.update(part));
    let mut head = RawHead {
        magic: MAGIC,
        head_crc: U32::ZERO,
        version: U16::new(if kind.is_handshake() { HANDSHAKE_VERSION } else { version }),
        kind: U16::new(kind.code()),
        length: U32::new(u32::try_from(length).expect("the limits of all kinds are below 2^32")),
        correlation: U64::new(correlation),
        payload_crc: U32::new(hasher.finalize()),
        zero: U32::ZERO,
    };
    head.head_crc = U32::new(crc32fast::hash(&head.as_bytes()[CRC_START..]));
    let mut bytes = [0; HEAD_BYTES];
    bytes.copy_from_slice(head.as_bytes());
    bytes
}

/// Reads the head of a frame and checks all that can be checked without knowing what is expected.
///
/// # Errors
/// What is wrong with it.
pub(super) fn open_head(bytes: &[u8; HEAD_BYTES]) -> Result<Head, FrameError> {
    let head = RawHead::read_from_bytes(bytes).expect("a head has this size");
    if head.magic != MAGIC {
        return Err(FrameError::NotAPeer);
    }
    if head.head_crc.get() != crc32fast::hash(&bytes[CRC_START..]) {
        return Err(FrameError::HeadChecksum);
    }
    let kind = Kind::of_code(head.kind.get()).ok_or(FrameError::UnknownKind { code: head.kind.get() })?;
    let length = head.length.get() as usize;
    if length > kind.payload_bytes_max() {
        return Err(FrameError::TooLong { kind, length, max: kind.payload_bytes_max() });
    }
    let correlation = head.correlation.get();
    if !kind.is_correlated() && correlation != 0 {
        return Err(FrameError::Malformed { kind, field: "correlation" });
    }
    if head.zero.get() != 0 {
        return Err(FrameError::Malformed { kind, field: "zero" });
    }
    Ok(Head { version: head.version.get(), kind, length, correlation, payload_crc: head.payload_crc.get() })
}
