//! Connections to other brokers: which are wanted, when they are tried, when they count as gone. No sockets.
//!
//! ```text
//!   metadata image, --voters            names                    answers
//!            |                            |                         ^
//!            v                            v                         |
//!   plan: who is wanted <--------- discovery: addresses      admit: who is let in
//!            |
//!            v
//!   table: a link for each peer and stream; attempts per second bounded
//!     link: waiting -> connecting -> handshaking -> up      backoff, breaker, keepalive
//! ```
//!
//! The shell carries it: it opens sockets where [`action::Action::Connect`] says, reports what became of them, and
//! calls [`table::Table::on_time`] at [`table::Table::next_deadline`]. Times are milliseconds of a monotone clock;
//! randomness comes from the seed given at the start.

pub mod action;
pub mod admit;
pub mod backoff;
pub mod breaker;
pub mod discovery;
pub mod keepalive;
pub mod limiter;
pub mod line;
pub mod link;
#[cfg(test)]
mod network_tests;
pub mod plan;
pub mod round;
pub mod table;
mod voice;

use uuid::Uuid;

/// What a connection carries; each is a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Raft messages.
    Raft,
    /// Forwarded requests and their answers.
    Requests,
    /// Replication.
    Data,
    /// Snapshots.
    Bulk,
}

/// Who a broker says it is, in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Node id.
    pub node_id: i32,
    /// Its cluster; none while it belongs to none.
    pub cluster_id: Option<Uuid>,
    /// Names its data folder.
    pub directory: Uuid,
    /// Names its process.
    pub incarnation: Uuid,
    /// The epoch of its registration; none before it is registered.
    pub broker_epoch: Option<i64>,
}
