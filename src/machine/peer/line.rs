//! What a broker's log says about its peers: one warning when one goes, one line when it comes back, the attempts at
//! debug.

use super::admit::Refusal;
use core::net::SocketAddr;
use std::fmt;

/// How loud a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever looks closely.
    Debug,
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warn,
}

/// Why an attempt failed or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens at the address: the host answered so.
    Refused,
    /// No connection, or no answer to the handshake, in time.
    TimedOut,
    /// Anything else that kept the connection from being made.
    Unreachable,
    /// The peer closed the connection.
    Closed,
    /// The connection was reset, or writing to it failed.
    Reset,
    /// Nothing came for too long.
    Silent,
    /// Something came that no broker sends.
    Malformed,
    /// The peer answered the handshake with a refusal, or ended the connection with one.
    Denied(Refusal),
    /// The peer accepted, but it is not what this broker looked for.
    Rejected(Refusal),
    /// The connection leads to a process that has been replaced since.
    Replaced,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused => f.write_str("connection refused"),
            Failure::TimedOut => f.write_str("no answer in time"),
            Failure::Unreachable => f.write_str("unreachable"),
            Failure::Closed => f.write_str("closed by it"),
            Failure::Reset => f.write_str("connection reset"),
            Failure::Silent => f.write_str("silent for too long"),
            Failure::Malformed => f.write_str("it sent what no broker sends"),
            Failure::Denied(refusal) => write!(f, "it refused: {refusal}"),
            Failure::Rejected(refusal) => write!(f, "its answer was rejected: {refusal}"),
            Failure::Replaced => f.write_str("it was restarted"),
        }
    }
}

/// A line about one peer; who it is stands in front of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Connected for the first time.
    Connected,
    /// Connected again.
    Back {
        /// How long it was away, in milliseconds.
        away_ms: u64,
        /// How many attempts that took.
        attempts: u32,
    },
    /// The connection that stood is gone.
    Gone(Failure),
    /// It was never there, and is not for a while now.
    NotReached(Failure),
    /// It is there, but one of the two does not want the other.
    Unwanted(Failure),
    /// An attempt begins.
    Trying(SocketAddr),
    /// It failed.
    Failed(SocketAddr, Failure),
    /// A connection ended, and the log knows already that the peer comes and goes.
    Ended(Failure),
}

impl Line {
    /// How loud it is.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Line::Connected | Line::Back { .. } => Level::Info,
            Line::Gone(_) | Line::NotReached(_) | Line::Unwanted(_) => Level::Warn,
            Line::Trying(_) | Line::Failed(..) | Line::Ended(_) => Level::Debug,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Connected => f.write_str("connected"),
            Line::Back { away_ms, attempts } => {
                let (seconds, tenths) = (away_ms / 1_000, away_ms % 1_000 / 100);
                write!(f, "is back after {seconds}.{tenths} s and {attempts} attempts")
            }
            Line::Gone(failure) => write!(f, "is gone: {failure}; trying again"),
            Line::NotReached(failure) => write!(f, "cannot be reached: {failure}; trying again"),
            Line::Unwanted(failure) => write!(f, "is not connected: {failure}; trying again"),
            Line::Trying(address) => write!(f, "trying {address}"),
            Line::Failed(address, failure) => write!(f, "{address}: {failure}"),
            Line::Ended(failure) => write!(f, "connection ended: {failure}"),
        }
    }
}
