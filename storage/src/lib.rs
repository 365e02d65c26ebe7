//! The log: WAL, segments, checkpoints, recovery. Knows nothing of requests, replication or sockets.

pub mod batch;
pub mod compression;
pub mod epochs;
pub mod index;
pub mod producer;
