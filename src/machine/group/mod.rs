//! The classic consumer group coordinator: membership, generations, committed offsets, and their records in
//! `__consumer_offsets`.
//!
//! [`Coordinator`] is one pure machine for each partition of `__consumer_offsets` that a shard leads. Requests,
//! a clock value and the outcome of its appends go in; records to append and replies come out. Its state is
//! the state that the partition's log describes plus what is under way: rebalances, parked requests, timers.
//! The semantics are those of Apache Kafka 4 (KIP-62, KIP-134, KIP-211, KIP-345, KIP-394, KIP-496, KIP-559,
//! KIP-814).

mod admin;
mod codec;
mod commit;
mod consumer_protocol;
mod coordinator;
mod join;
mod load;
mod member;
mod offsets;
mod outbox;
mod records;
mod reply;
mod request;
mod settings;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod timers;

pub use coordinator::{Coordinator, Now};
pub use load::LoadError;
pub use offsets::CommittedOffset;
pub use outbox::{Action, AppendId};
pub use records::{
    CodecError, GroupValue, MemberValue, RecordKey, StateRecord, decode_group_value, decode_key,
    decode_offset_value, encode_group_key, encode_group_value, encode_offset_key, encode_offset_value,
    partition_for,
};
pub use reply::{
    CommitReply, DescribedMember, FetchReply, FetchedGroup, FetchedPartition, FetchedTopic, GroupDescription,
    JoinMember, JoinReply, LeaveReply, LeftMember, ListReply, ListedGroup, OffsetDeleteReply, Reply,
    SyncReply, TopicErrors,
};
pub use request::{
    CommitPartition, CommitRequest, CommitTopic, DescribeRequest, FetchGroup, FetchRequest, FetchTopic,
    HeartbeatRequest, JoinRequest, LeaveRequest, LeavingMember, ListRequest, OffsetDeleteRequest, Request,
    SyncRequest,
};
pub use settings::GroupSettings;
pub use state::GroupState;
