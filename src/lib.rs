//! Ringlog: a durable message broker that speaks the Apache Kafka protocol.
//!
//! The library holds everything but `main`; `README.md` has the code map and the architecture's invariants.

pub mod api;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod host;
pub mod limits;
pub mod machine;
pub mod node;
pub mod shard;
pub mod telemetry;
mod version_file;
