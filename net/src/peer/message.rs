//! What frames hold.
//!
//! ```text
//! snapshot chunk                             request                                answer
//!   0  term    u64 \ the entry that the       0  code     u16, what is asked         0  error  i16, Kafka's code
//!   8  index   u64 / snapshot reaches to      2  version  u16, of its body           2  zero   u16, 0
//!  16  offset  u64, of these bytes            4  timeout  u32, ms that the asker     4  body ...
//!  24  total   u64, bytes of the snapshot                 still waits
//!  32  bytes ...                              8  body ...                          control
//!                                                                                    0  code     u16
//!                                                                                    2  version  u16, of its body
//!                                                                                    4  body ...
//! ```

use super::decoder::Frame;
use super::error::FrameError;
use super::format::{HEAD_BYTES, Kind, seal};
use super::handshake::{Hello, Refusal, Welcome, fixed};
use bytes::{Buf, Bytes};
use zerocopy::little_endian::{I16, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A part of a snapshot. Parts come in order, each of them but the last full; the last one is answered when the
/// whole is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Term of the last entry that the snapshot covers.
    pub term: u64,
    /// Index of that entry.
    pub index: u64,
    /// Where in the snapshot these bytes begin.
    pub offset: u64,
    /// Bytes of the whole snapshot.
    pub total: u64,
    /// The bytes; at most up to `total`.
    pub bytes: Bytes,
}

/// A request that a broker forwards, or has of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked. The broker gives the codes their meaning.
    pub code: u16,
    /// Version of the body's layout.
    pub version: u16,
    /// How long the asker still waits, in milliseconds.
    pub timeout_ms: u32,
    /// What is asked in full.
    pub body: Bytes,
}

/// The answer to a request, or to the last chunk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Kafka's error code where the request could not be handled as such; 0 where the body says all.
    pub error: i16,
    /// What is answered.
    pub body: Bytes,
}

/// A notice that nobody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// What it is about. The broker gives the codes their meaning.
    pub code: u16,
    /// Version of the body's layout.
    pub version: u16,
    /// What it says.
    pub body: Bytes,
}

/// What one frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Welcome`].
    Welcome(Welcome),
    /// See [`Refusal`].
    Refusal(Refusal),
    /// Asks for the pong with the same number.
    Ping(u64),
    /// Answers the ping with this number.
    Pong(u64),
    /// A raft message in protobuf, not looked into. Its sender must be the node of the handshake.
    Raft(Bytes),
    /// See [`SnapshotChunk`]; the answer names the correlation id in front.
    SnapshotChunk(u64, SnapshotChunk),
    /// See [`Request`]; the answer names the correlation id in front.
    Request(u64, Request),
    /// See [`Answer`], behind the correlation id of what it answers.
    Answer(u64, Answer),
    /// See [`Control`].
    Control(Control),
}

/// The bytes of a frame, in two parts: the second is shared with the message, not copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The frame's head and the first bytes of its payload.
    pub head: Vec<u8>,
    /// The rest of its payload.
    pub body: Bytes,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawChunk {
    term: U64,
    index: U64,
    offset: U64,
    total: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawRequest {
    code: U16,
    version: U16,
    timeout_ms: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawAnswer {
    error: I16,
    zero: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawControl {
    code: U16,
    version: U16,
}

/// The fixed part of a payload, and what follows it.
fn split<T: FromBytes>(kind: Kind, mut payload: Bytes) -> Result<(T, Bytes), FrameError> {
    let raw = fixed(kind, &payload)?;
    payload.advance(size_of::<T>());
    Ok((raw, payload))
}

impl SnapshotChunk {
    fn is_within_total(&self) -> bool {
        self.offset.checked_add(self.bytes.len() as u64).is_some_and(|end| end <= self.total)
    }

    /// Whether these are the snapshot's last bytes.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.offset + self.bytes.len() as u64 == self.total
    }
}

impl Message {
    /// What kind of frame says it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Message::Hello(_) => Kind::Hello,
            Message::Welcome(_) => Kind::Welcome,
            Message::Refusal(_) => Kind::Refusal,
            Message::Ping(_) => Kind::Ping,
            Message::Pong(_) => Kind::Pong,
            Message::Raft(_) => Kind::Raft,
            Message::SnapshotChunk(..) => Kind::SnapshotChunk,
            Message::Request(..) => Kind::Request,
            Message::Answer(..) => Kind::Answer,
            Message::Control(_) => Kind::Control,
        }
    }

    fn correlation(&self) -> u64 {
        match self {
            Message::Ping(id)
            | Message::Pong(id)
            | Message::SnapshotChunk(id, _)
            | Message::Request(id, _)
            | Message::Answer(id, _) => *id,
            _ => 0,
        }
    }

    /// The fixed part of the payload, and the rest of it.
    fn payload(&self) -> (Vec<u8>, Bytes) {
        match self {
            Message::Hello(hello) => (hello.encode(), Bytes::new()),
            Message::Welcome(welcome) => (welcome.encode(), Bytes::new()),
            Message::Refusal(refusal) => (refusal.encode(), Bytes::new()),
            Message::Ping(_) | Message::Pong(_) => (Vec::new(), Bytes::new()),
            Message::Raft(bytes) => (Vec::new(), bytes.clone()),
            Message::SnapshotChunk(_, chunk) => {
                assert!(chunk.is_within_total(), "a chunk lies in its snapshot");
                let raw = RawChunk {
                    term: U64::new(chunk.term),
                    index: U64::new(chunk.index),
                    offset: U64::new(chunk.offset),
                    total: U64::new(chunk.total),
                };
                (raw.as_bytes().to_vec(), chunk.bytes.clone())
            }
            Message::Request(_, request) => {
                let raw = RawRequest {
                    code: U16::new(request.code),
                    version: U16::new(request.version),
                    timeout_ms: U32::new(request.timeout_ms),
                };
                (raw.as_bytes().to_vec(), request.body.clone())
            }
            Message::Answer(_, answer) => {
                let raw = RawAnswer { error: I16::new(answer.error), zero: U16::ZERO };
                (raw.as_bytes().to_vec(), answer.body.clone())
            }
            Message::Control(control) => {
                let raw = RawControl { code: U16::new(control.code), version: U16::new(control.version) };
                (raw.as_bytes().to_vec(), control.body.clone())
            }
        }
    }

    /// The frame that says it, in this version of the format (frames of the handshake have one of their own).
    ///
    /// # Panics
    /// If the payload is larger than [`Kind::payload_bytes_max`], or holds what no peer would take.
    #[must_use]
    pub fn encode(&self, version: u16) -> Encoded {
        let (fixed, body) = self.payload();
        let mut head = Vec::with_capacity(HEAD_BYTES + fixed.len());
        head.extend_from_slice(&seal(self.kind(), version, self.correlation(), [&fixed, &body]));
        head.extend_from_slice(&fixed);
        Encoded { head, body }
    }

    /// Reads what a frame says. Bodies are slices of the frame's payload, not copies.
    ///
    /// # Errors
    /// [`FrameError::Malformed`] where a field cannot be.
    pub fn open(frame: Frame) -> Result<Message, FrameError> {
        let Frame { kind, correlation, payload } = frame;
        Ok(match kind {
            Kind::Hello => Message::Hello(Hello::decode(&payload)?),
            Kind::Welcome => Message::Welcome(Welcome::decode(&payload)?),
            Kind::Refusal => Message::Refusal(Refusal::decode(&payload)?),
            Kind::Ping => Message::Ping(correlation),
            Kind::Pong => Message::Pong(correlation),
            Kind::Raft => Message::Raft(payload),
            Kind::SnapshotChunk => {
                let (raw, bytes): (RawChunk, Bytes) = split(kind, payload)?;
                let chunk = SnapshotChunk {
                    term: raw.term.get(),
                    index: raw.index.get(),
                    offset: raw.offset.get(),
                    total: raw.total.get(),
                    bytes,
                };
                if !chunk.is_within_total() {
                    return Err(FrameError::Malformed { kind, field: "offset" });
                }
                Message::SnapshotChunk(correlation, chunk)
            }
            Kind::Request => {
                let (raw, body): (RawRequest, Bytes) = split(kind, payload)?;
                let (code, version, timeout_ms) = (raw.code.get(), raw.version.get(), raw.timeout_ms.get());
                Message::Request(correlation, Request { code, version, timeout_ms, body })
            }
            Kind::Answer => {
                let (raw, body): (RawAnswer, Bytes) = split(kind, payload)?;
                Message::Answer(correlation, Answer { error: raw.error.get(), body })
            }
            Kind::Control => {
                let (raw, body): (RawControl, Bytes) = split(kind, payload)?;
                Message::Control(Control { code: raw.code.get(), version: raw.version.get(), body })
            }
        })
    }
}
