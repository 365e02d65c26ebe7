//! Why bytes on the peer port are refused. Any of these ends the connection: what follows cannot be trusted.

use super::format::Kind;
use std::fmt;

/// What is wrong with received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes are no frame of a broker: a client on the wrong port, or a stranger.
    NotAPeer,
    /// The head of a frame does not match its checksum.
    HeadChecksum,
    /// The payload of a frame does not match its checksum.
    PayloadChecksum {
        /// What kind of frame.
        kind: Kind,
    },
    /// A kind that this build does not know.
    UnknownKind {
        /// Its number.
        code: u16,
    },
    /// A kind that has no place here: another than the handshake's next frame, or not of this stream.
    NotExpected {
        /// What kind of frame.
        kind: Kind,
    },
    /// Another version than the one agreed on.
    Version {
        /// That of the frame.
        found: u16,
        /// The one agreed on.
        agreed: u16,
    },
    /// A payload longer than its kind may be.
    TooLong {
        /// What kind of frame.
        kind: Kind,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A field whose value cannot be, in a frame whose checksums are right.
    Malformed {
        /// What kind of frame.
        kind: Kind,
        /// Which field.
        field: &'static str,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotAPeer => write!(f, "not a frame of a broker"),
            FrameError::HeadChecksum => write!(f, "a frame's head does not match its checksum"),
            FrameError::PayloadChecksum { kind } => {
                write!(f, "the payload of a {kind:?} frame does not match its checksum")
            }
            FrameError::UnknownKind { code } => write!(f, "unknown kind of frame {code}"),
            FrameError::NotExpected { kind } => write!(f, "a {kind:?} frame is not expected here"),
            FrameError::Version { found, agreed } => {
                write!(f, "a frame of version {found} where version {agreed} was agreed on")
            }
            FrameError::TooLong { kind, length, max } => {
                write!(f, "a {kind:?} frame of {length} bytes, at most {max} are allowed")
            }
            FrameError::Malformed { kind, field } => write!(f, "a {kind:?} frame with a wrong {field}"),
        }
    }
}

impl std::error::Error for FrameError {}
