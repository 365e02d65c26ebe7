//! What the machine asks its shell to do, and what it refuses.

use super::log::{HardState, Snapshot};
use super::member::{Members, Peer};
use bytes::Bytes;
use std::sync::Arc;

/// The caller's queue of actions, to be carried out in order.
pub type Actions = Vec<Action>;

/// Something for the shell to do. Whatever is said to a peer may leave as soon as it is here: what must be durable
/// before it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make this durable, in the order of the numbers, and say so with `persisted`. Several may be under way.
    Persist(Persist),
    /// Send a frame on the connection to that folder; drop it where there is none.
    Send {
        /// To whom.
        to: Peer,
        /// The frame.
        frame: Bytes,
    },
    /// As `Send`, on the connection for bulk, so that a heartbeat never waits behind it.
    SendBulk {
        /// To whom.
        to: Peer,
        /// The frame.
        frame: Bytes,
    },
    /// Replace the state machine's state by the snapshot's, then say `applied` with its index.
    Install(Arc<Snapshot>),
    /// Apply these entries in order, then say `applied` with the last one's index.
    Apply(Vec<Committed>),
    /// A peer needs a newer snapshot than there is: take one now.
    TakeSnapshot,
    /// The read may be answered from a state machine that has applied this index.
    ReadReady {
        /// As `read` returned it.
        read: ReadId,
        /// The index.
        index: u64,
    },
    /// The read will not be answered; ask again until its own deadline.
    ReadLost {
        /// As `read` returned it.
        read: ReadId,
    },
    /// Role, term or leader have changed.
    Role(Role),
    /// The members have changed.
    Members(Members),
    /// The folder must not take part: the process is to stop and say why.
    Refused(RefusedFolder),
}

/// Something to make durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Persist {
    /// Grows by one from write to write.
    pub number: u64,
    /// The hard state that is on disk after it.
    pub hard: HardState,
    /// The log on disk ends here after it.
    pub last: u64,
    /// What.
    pub write: Write,
}

/// How a write changes the files.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// One more body at the end of the log.
    Append(Vec<u8>),
    /// Snapshot and log are replaced in one step: a new log that begins with the body, and the snapshot.
    Switch {
        /// The snapshot.
        snapshot: Arc<Snapshot>,
        /// The new log's first body.
        body: Vec<u8>,
    },
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// What was proposed; empty for entries of Raft's own.
    pub data: Bytes,
    /// The proposal's context.
    pub context: Bytes,
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What the node is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its part.
    pub part: Part,
    /// The term.
    pub term: u64,
    /// Who leads, as far as is known.
    pub leader: Option<i32>,
}

/// A node's part in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It follows, or waits for a leader.
    Follower,
    /// It asks whether an election could be won.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// Where a proposal stands in the log. It is committed when an entry of this index *and term* is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
}

/// Why something is not done. None of it is an error: try elsewhere, or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another node leads, or none is known to.
    NotLeader {
        /// Who.
        leader: Option<i32>,
    },
    /// Leadership is being handed over.
    HandingOver,
    /// Too much is under way.
    Busy,
    /// It is larger than one proposal may be, or empty.
    Size,
    /// The folder does not take part (yet).
    NoPart,
    /// The disk is full.
    NoRoom,
}

/// Why a folder may not take part, for a line to its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedFolder {
    /// A peer has heard a higher count of it, or another process that runs on a copy of it.
    OlderCopy {
        /// Who remembers.
        peer: i32,
        /// The count it remembers.
        remembered: u64,
        /// The folder's own.
        count: u64,
    },
    /// The leader knows that this folder held entries that it does not hold.
    LostEntries {
        /// The leader.
        leader: i32,
        /// The folder held all up to here.
        held: u64,
        /// It ends here.
        last: u64,
    },
}

/// Why a frame of a peer was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// It is no frame, or of a kind that no peer sends.
    Malformed,
    /// It names another sender or receiver than its connection.
    Misdirected,
}
