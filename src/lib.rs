//! Ringlog: a durable message broker that speaks the Apache Kafka protocol.
//!
//! The library holds everything but `main`; `README.md` has the code map and the architecture's invariants.

pub mod clock;
pub mod config;
pub mod limits;
pub mod machine;
