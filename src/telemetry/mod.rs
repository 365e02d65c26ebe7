//! Seeing inside: the counters of each shard and the small HTTP server that shows them.
//!
//! Nothing here runs on a shard's thread but a relaxed store into a counter that only that shard writes.

pub mod http;
pub mod metrics;
