//! The shell of a data shard: one glommio executor that owns its partitions outright. The only place, with
//! `control`, that awaits.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | what a shard is made of, how it starts and stops |
//! | `mailbox`, `message` | what shards and other threads say to one another |
//! | `connection`, `writer` | one client connection: frames in, responses out, in order |
//! | `dispatch` | a frame becomes a request that takes effect in its turn |
//! | `produce`, `fetch`, `watch`, `ask` | what is done to and asked of partitions, here or on their shard |
//! | `partitions` | the shard's partitions, kept in step with the metadata image |
//! | `groups` | the group coordinators of this shard's `__consumer_offsets` partitions |
//! | `handlers` | the APIs that are not hot |
//! | `storage_io` | carries the store's commits and jobs |
//! | `watchdog` | bounds glommio's lost wake-up |

pub mod ask;
pub mod handlers;
pub mod mailbox;
pub mod storage_io;
pub mod watchdog;
