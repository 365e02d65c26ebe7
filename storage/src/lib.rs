//! The log: WAL, segments, checkpoints, recovery. Knows nothing of requests, replication or sockets.
//!
//! A [`store::Store`] is all the storage of one shard: a pure machine that is told of appends and of completed
//! I/O and says what I/O to do. The hot WAL writes are for the shard's io_uring; everything else is a blocking
//! [`job::Job`] over the [`disk::Disk`] seam.

pub mod batch;
mod buffers;
pub mod checkpoint;
pub mod chunk;
mod codec;
pub mod compression;
mod cut;
pub mod disk;
pub mod epochs;
pub mod index;
pub mod job;
pub mod layout;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
mod mutant;
mod partition;
mod pieces;
pub mod producer;
pub mod random;
pub mod reader;
pub mod recovery;
pub mod salvage;
pub mod snapshot;
pub mod store;
pub mod survey;
pub mod wal;

use uuid::Uuid;

/// A partition, by what never changes: the topic's id and the partition's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's index in its topic.
    pub partition: i32,
}

impl std::fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
