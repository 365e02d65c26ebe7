//! The consensus machine: Raft over the cluster's metadata, pure. raft-rs decides, this machine keeps its rules: the
//! order of a Ready, what must be durable before it is said, who may vote. Only this folder knows raft-rs.
//!
//! ```text
//!            tick, step, propose, read, change ...                persisted, applied
//!                      |                                                  |
//!        +-------------v--------------------------------------------------v---------+
//!        | Consensus   raft-rs' RawNode over View (the log in memory)               |
//!        |             Gate: durable before sent         streams: snapshots in chunks|
//!        +-------------+------------------------------------------------------------+
//!                      v
//!        Persist, Send, SendBulk, Apply, Install, ReadReady, Role, Members ...
//! ```

mod action;
mod bulk;
mod codec;
mod counting;
pub mod formation;
mod frame;
mod gate;
mod group;
mod journal;
pub mod log;
mod member;
pub mod membership;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
mod node;
mod peek;
mod reads;
mod ready;
mod settings;
mod stream;
mod timeouts;
mod view;

pub use action::{
    Action, Actions, BadFrame, Committed, Part, Persist, Proposed, ReadId, Refusal, RefusedFolder, Role,
    Write,
};
pub use group::SnapshotPoint;
pub use journal::{Journal, Level};
pub use member::{Members, Peer};
pub use node::{Consensus, PeerStatus, Status};
pub use peek::{Peek, peek};
pub use settings::{Limits, Profile, Settings, TICK_MS, Timing, Wrong};

#[cfg(test)]
mod tests;
