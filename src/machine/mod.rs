//! Pure state machines: inputs and a clock value in, outputs out. No sockets, files, timers, threads,
//! randomness or `async`; the simulator runs exactly this code.

pub mod budget;
pub mod config;
pub mod connection;
pub mod consensus;
pub mod deadlines;
pub mod error;
pub mod fetch_session;
pub mod group;
pub mod metadata;
pub mod peer;
pub mod placement;
pub mod unsynced;
