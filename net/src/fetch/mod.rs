//! Fetch, the hot path: a decoder that borrows from the frame ([`FetchRequest`]) and an encoder that leaves the places
//! of the record bytes open, to be filled by a vectored write ([`FetchResponseWriter`]).
//!
//! Versions 4 to 18, as far as Kafka 4.4 speaks.

mod request;
mod response;

pub use request::{
    FetchPartition, FetchPartitions, FetchRequest, FetchTopic, FetchTopics, ForgottenPartitions,
    ForgottenTopic, ForgottenTopics,
};
pub use response::{FetchResponse, FetchResponseHead, FetchResponseWriter, Part, PartitionData, RecordSlice};

/// The lowest version that is decoded.
pub const VERSION_MIN: i16 = 4;
/// The highest version that is decoded.
pub const VERSION_MAX: i16 = 18;

/// The most partitions that one request may name, forgotten ones included, over all topics.
pub const PARTITIONS_MAX: u32 = 100_000;

/// The first version in the flexible format.
const FLEXIBLE_SINCE: i16 = 12;
/// The first version that names topics by their id.
const TOPIC_IDS_SINCE: i16 = 13;

#[cfg(test)]
mod tests;
