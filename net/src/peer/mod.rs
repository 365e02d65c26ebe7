//! What brokers say to each other on the peer port: frames, the handshake, messages. No sockets.
//!
//! The broker that dials sends a [`Hello`]; the one that accepted answers with a [`Welcome`], or with a [`Refusal`]
//! and closes. From then on both speak the version that the welcome names, and only the kinds of frames that the
//! [`Stream`] of the connection is for. A shell gives received bytes to a [`Decoder`], which hands out whole
//! [`Frame`]s; [`Message::open`] reads one, [`Message::encode`] makes one. Nothing is allocated for a frame before
//! its head's checksum, its kind and its length were found right: what a stranger can make a broker hold before the
//! handshake is [`HANDSHAKE_BYTES_MAX`] bytes.

mod decoder;
mod error;
mod format;
mod handshake;
mod message;

pub use decoder::{Decoder, Expect, Frame};
pub use error::FrameError;
pub use format::{
    ANSWER_BYTES_MAX, CONTROL_BYTES_MAX, HANDSHAKE_BYTES_MAX, HEAD_BYTES, Kind, RAFT_BYTES_MAX,
    REQUEST_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, Stream, VERSION_HIGHEST, VERSION_LOWEST, VERSIONS,
};
pub use handshake::{Hello, Identity, Refusal, RefusalReason, VersionRange, Welcome};
pub use message::{Answer, Control, Encoded, Message, Request, SnapshotChunk};
