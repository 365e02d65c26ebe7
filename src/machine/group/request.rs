//! What clients ask of the coordinator: Kafka's messages 8, 9, 11 to 16, 42 and 47 without their versions.
//!
//! Where versions of a message differ in meaning, a field says so. A request with several groups carries only
//! those whose partition of `__consumer_offsets` the coordinator leads; the API layer splits and joins.

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::reply::{
    CommitReply, FetchReply, FetchedGroup, GroupDescription, JoinReply, LeaveReply, ListReply,
    OffsetDeleteReply, Reply, SyncReply, TopicErrors,
};

/// A client's request.
#[derive(Clone, Debug)]
pub enum Request {
    /// JoinGroup (11).
    Join(JoinRequest),
    /// SyncGroup (14).
    Sync(SyncRequest),
    /// Heartbeat (12).
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup (13).
    Leave(LeaveRequest),
    /// OffsetCommit (8).
    Commit(CommitRequest),
    /// OffsetFetch (9).
    Fetch(FetchRequest),
    /// OffsetDelete (47).
    OffsetDelete(OffsetDeleteRequest),
    /// DescribeGroups (15).
    Describe(DescribeRequest),
    /// ListGroups (16).
    List(ListRequest),
    /// DeleteGroups (42): the groups' ids.
    Delete(Vec<String>),
}

/// JoinGroup.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// The group.
    pub group: String,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the member may take to rejoin, in milliseconds; negative (version 0) for the session timeout.
    pub rebalance_timeout_ms: i32,
    /// The member id; empty for a member that has none yet.
    pub member_id: String,
    /// `group.instance.id` of a static member (version 5 and up, KIP-345).
    pub instance_id: Option<String>,
    /// The kind of protocol, `consumer` for consumers.
    pub protocol_type: String,
    /// The protocols that the member supports, the preferred one first, each with its metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// The client id of the request's header; empty if it had none.
    pub client_id: String,
    /// Where the client connected from, as Kafka writes it: `/10.0.0.1`.
    pub client_host: String,
    /// A fresh random UUID, from which a member id is made if one is needed.
    pub uuid: String,
    /// Whether a new dynamic member must come back with the id it is given (version 4 and up, KIP-394).
    pub require_known_member_id: bool,
    /// Whether the client understands `skip_assignment` (version 9 and up, KIP-814).
    pub supports_skip_assignment: bool,
    /// Why the member joins, in its own words (version 8 and up, KIP-800). For logs.
    pub reason: Option<String>,
}

/// SyncGroup.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// The group.
    pub group: String,
    /// The generation that the member joined.
    pub generation: i32,
    /// The member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The protocol type that the member takes the generation to use (version 5 and up, KIP-559).
    pub protocol_type: Option<String>,
    /// The protocol that the member takes the generation to use (version 5 and up).
    pub protocol: Option<String>,
    /// From the leader: each member's assignment.
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: String,
    /// The generation that the member is in.
    pub generation: i32,
    /// The member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
}

/// LeaveGroup. Versions below 3 name one member.
#[derive(Clone, Debug)]
pub struct LeaveRequest {
    /// The group.
    pub group: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves or that an administrator removes.
#[derive(Clone, Debug)]
pub struct LeavingMember {
    /// The member id; empty when an administrator names the instance id alone.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// Why it leaves (version 5 and up, KIP-800). For logs.
    pub reason: Option<String>,
}

/// OffsetCommit.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The group; may be empty, as in Kafka, for consumers from before groups had to have a name.
    pub group: String,
    /// The generation, or a negative number from consumers without group management and from administrators.
    pub generation: i32,
    /// The member id; empty without group management.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// How long to keep the offsets, in milliseconds (versions 2 to 4); -1 for the broker's retention.
    pub retention_ms: i64,
    /// Whether the client understands GROUP_ID_NOT_FOUND (version 9 and up) instead of ILLEGAL_GENERATION.
    pub supports_group_id_not_found: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// The offsets to commit for one topic.
#[derive(Clone, Debug)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: String,
    /// The topic's id (version 10 and up); zeros where the request has none.
    pub topic_id: [u8; 16],
    /// The partitions.
    pub partitions: Vec<CommitPartition>,
}

/// An offset to commit.
#[derive(Clone, Debug)]
pub struct CommitPartition {
    /// The partition's index.
    pub partition: i32,
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown (KIP-320).
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: Option<String>,
}

/// OffsetFetch.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The groups. Versions below 8 name one.
    pub groups: Vec<FetchGroup>,
    /// Whether to wait until every commit that arrived before is decided (version 7 and up, KIP-447).
    pub require_stable: bool,
}

/// The offsets to fetch for one group.
#[derive(Clone, Debug)]
pub struct FetchGroup {
    /// The group.
    pub group: String,
    /// The topics; `None` for all that the group has offsets for.
    pub topics: Option<Vec<FetchTopic>>,
}

/// The offsets to fetch for one topic.
#[derive(Clone, Debug)]
pub struct FetchTopic {
    /// The topic's name.
    pub name: String,
    /// The topic's id (version 10 and up); zeros where the request has none. An offset that was committed under
    /// another id is not returned.
    pub topic_id: [u8; 16],
    /// The partitions' indexes.
    pub partitions: Vec<i32>,
}

/// OffsetDelete.
#[derive(Clone, Debug)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group: String,
    /// Topics with their partitions.
    pub topics: Vec<(String, Vec<i32>)>,
}

/// DescribeGroups.
#[derive(Clone, Debug)]
pub struct DescribeRequest {
    /// The groups.
    pub groups: Vec<String>,
    /// Whether an unknown group is GROUP_ID_NOT_FOUND (version 6 and up, KIP-1043) instead of a group that is
    /// Dead.
    pub not_found_is_error: bool,
}

/// ListGroups.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// Only groups in these states, in any case (version 4 and up, KIP-518); empty for all.
    pub states: Vec<String>,
    /// Only groups of these types, in any case (version 5 and up, KIP-848); empty for all.
    pub types: Vec<String>,
}

impl Request {
    /// The reply that refuses the request as a whole.
    #[must_use]
    pub fn refuse(&self, error: ErrorCode) -> Reply {
        match self {
            Request::Join(join) => Reply::Join(JoinReply::refused(&join.member_id, error)),
            Request::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Request::Heartbeat(_) => Reply::Heartbeat(error),
            Request::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
            Request::Commit(commit) => Reply::Commit(commit.refuse(error)),
            Request::Fetch(fetch) => {
                let refused = |group: &FetchGroup| FetchedGroup::refused(&group.group, error);
                Reply::Fetch(FetchReply { groups: fetch.groups.iter().map(refused).collect() })
            }
            Request::OffsetDelete(_) => Reply::OffsetDelete(OffsetDeleteReply { error, topics: Vec::new() }),
            Request::Describe(describe) => {
                let refused = |group: &String| GroupDescription::refused(group, error);
                Reply::Describe(describe.groups.iter().map(refused).collect())
            }
            Request::List(_) => Reply::List(ListReply { error, groups: Vec::new() }),
            Request::Delete(groups) => {
                Reply::Delete(groups.iter().map(|group| (group.clone(), error)).collect())
            }
        }
    }
}

impl CommitRequest {
    /// The reply that gives every partition the same error.
    #[must_use]
    pub fn refuse(&self, error: ErrorCode) -> CommitReply {
        let topic = |topic: &CommitTopic| TopicErrors {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|partition| (partition.partition, error)).collect(),
        };
        CommitReply { topics: self.topics.iter().map(topic).collect() }
    }
}
