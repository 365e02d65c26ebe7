//! What a link asks of its shell.

use super::Identity;
use super::line::Line;
use core::net::SocketAddr;
use uuid::Uuid;

/// Why a process is known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its host refuses connections at every address that it registered.
    Refused,
    /// Another process of the same node answered.
    Answered {
        /// The process that answered.
        incarnation: Uuid,
    },
}

/// News for whoever watches over brokers, before any session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A connection that stood broke. Proves nothing: the attempt that follows at once will tell.
    Broken,
    /// A process of this node is gone.
    Gone {
        /// The process that was met last; none if none was: it is the one that is registered.
        incarnation: Option<Uuid>,
        /// How that is known.
        proof: Proof,
    },
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to the address; report whether it is connected or failed, then send a hello and report whether
    /// that was accepted or denied.
    Connect {
        /// Number of the attempt, later of the connection.
        connection: u64,
        /// Where to.
        address: SocketAddr,
    },
    /// The connection may be used.
    Up {
        /// Which.
        connection: u64,
        /// Who is at the other end.
        identity: Identity,
    },
    /// Send a ping.
    Ping {
        /// On which connection.
        connection: u64,
    },
    /// Close the connection, or give the attempt up.
    Close {
        /// Which.
        connection: u64,
    },
    /// Look the peer's addresses up again: none of them led to it.
    LookUp,
    /// Write this to the log.
    Log(Line),
    /// Tell whoever watches over brokers.
    Hint(Hint),
}
