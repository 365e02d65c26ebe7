//! The write-ahead log of one shard: its bytes ([`mod@format`]), the machine that fills commits and tracks what is
//! durable ([`writer`]) and what recovery decides from what it finds ([`scan`]). All of it pure.

mod files;
pub mod format;
pub mod scan;
pub mod writer;

/// The number of a frame in its generation's log. The first frame has 1; 0 means "before everything".
pub type Lsn = u64;
