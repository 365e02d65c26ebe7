//! What the coordinator answers: Kafka's messages 8, 9, 11 to 16, 42 and 47 without versions and throttle times.

use bytes::Bytes;

use crate::machine::error::ErrorCode;

/// The answer to a [`Request`](super::Request) of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// JoinGroup (11).
    Join(JoinReply),
    /// SyncGroup (14).
    Sync(SyncReply),
    /// Heartbeat (12).
    Heartbeat(ErrorCode),
    /// LeaveGroup (13).
    Leave(LeaveReply),
    /// OffsetCommit (8).
    Commit(CommitReply),
    /// OffsetFetch (9).
    Fetch(FetchReply),
    /// OffsetDelete (47).
    OffsetDelete(OffsetDeleteReply),
    /// DescribeGroups (15), in the order asked.
    Describe(Vec<GroupDescription>),
    /// ListGroups (16).
    List(ListReply),
    /// DeleteGroups (42): each group's outcome, in the order asked.
    Delete(Vec<(String, ErrorCode)>),
}

/// JoinGroup's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinReply {
    /// The outcome. MEMBER_ID_REQUIRED comes with the member id to join with.
    pub error: ErrorCode,
    /// The generation; -1 with an error.
    pub generation: i32,
    /// The group's protocol type (version 7 and up).
    pub protocol_type: Option<String>,
    /// The protocol that the generation uses.
    pub protocol: Option<String>,
    /// The leader's member id; empty with an error.
    pub leader: String,
    /// Whether the leader is to leave the assignment as it is (version 9 and up, KIP-814).
    pub skip_assignment: bool,
    /// The member's id.
    pub member_id: String,
    /// For the leader: all members.
    pub members: Vec<JoinMember>,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinMember {
    /// The member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The member's metadata for the generation's protocol.
    pub metadata: Bytes,
}

/// SyncGroup's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncReply {
    /// The outcome.
    pub error: ErrorCode,
    /// The group's protocol type (version 5 and up).
    pub protocol_type: Option<String>,
    /// The generation's protocol (version 5 and up).
    pub protocol: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// LeaveGroup's answer. Versions below 3 answer the first of `error` and the only member's error that is set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveReply {
    /// The outcome for the request as a whole.
    pub error: ErrorCode,
    /// The outcome for each member, in the order asked.
    pub members: Vec<LeftMember>,
}

/// The outcome for one leaving member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftMember {
    /// The member id as asked.
    pub member_id: String,
    /// The instance id as asked.
    pub instance_id: Option<String>,
    /// The outcome.
    pub error: ErrorCode,
}

/// OffsetCommit's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitReply {
    /// The outcome for each partition, in the order asked.
    pub topics: Vec<TopicErrors>,
}

/// The outcome for the partitions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicErrors {
    /// The topic's name.
    pub name: String,
    /// The topic's id as asked.
    pub topic_id: [u8; 16],
    /// Each partition's outcome.
    pub partitions: Vec<(i32, ErrorCode)>,
}

/// OffsetFetch's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchReply {
    /// Each group's offsets, in the order asked.
    pub groups: Vec<FetchedGroup>,
}

/// The offsets of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedGroup {
    /// The group.
    pub group: String,
    /// The outcome. An unknown group is no error: its offsets are all -1.
    pub error: ErrorCode,
    /// The topics.
    pub topics: Vec<FetchedTopic>,
}

/// The offsets of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: String,
    /// The topic's id as asked.
    pub topic_id: [u8; 16],
    /// The partitions.
    pub partitions: Vec<FetchedPartition>,
}

/// A committed offset, or that there is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedPartition {
    /// The partition's index.
    pub partition: i32,
    /// The committed offset; -1 for none.
    pub offset: i64,
    /// The leader epoch committed with it; -1 for none.
    pub leader_epoch: i32,
    /// The text committed with it.
    pub metadata: String,
}

/// OffsetDelete's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetDeleteReply {
    /// The outcome for the request as a whole; with an error there are no topics.
    pub error: ErrorCode,
    /// The outcome for each partition, in the order asked.
    pub topics: Vec<TopicErrors>,
}

/// DescribeGroups' answer for one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// The outcome.
    pub error: ErrorCode,
    /// A message for people with the error (version 6 and up).
    pub error_message: Option<String>,
    /// The group.
    pub group: String,
    /// The state's name; empty with an error other than GROUP_ID_NOT_FOUND.
    pub state: &'static str,
    /// The protocol type; empty if the group never had a member.
    pub protocol_type: String,
    /// The protocol, while the group is Stable; else empty.
    pub protocol: String,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member in DescribeGroups' answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    /// The member id.
    pub member_id: String,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id of its requests.
    pub client_id: String,
    /// Where it connected from.
    pub client_host: String,
    /// Its metadata for the protocol, while the group is Stable; else empty.
    pub metadata: Bytes,
    /// Its assignment.
    pub assignment: Bytes,
}

/// ListGroups' answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListReply {
    /// The outcome.
    pub error: ErrorCode,
    /// The groups that pass the filters, by id.
    pub groups: Vec<ListedGroup>,
}

/// A group in ListGroups' answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    /// The group.
    pub group: String,
    /// The protocol type; empty if the group never had a member.
    pub protocol_type: String,
    /// The state's name (version 4 and up).
    pub state: &'static str,
    /// The type's name (version 5 and up).
    pub group_type: &'static str,
}

impl JoinReply {
    /// A refusal.
    pub(super) fn refused(member_id: &str, error: ErrorCode) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

impl SyncReply {
    /// A refusal.
    pub(super) fn refused(error: ErrorCode) -> SyncReply {
        SyncReply { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl FetchedGroup {
    /// A refusal.
    pub(super) fn refused(group: &str, error: ErrorCode) -> FetchedGroup {
        FetchedGroup { group: group.to_owned(), error, topics: Vec::new() }
    }
}

impl GroupDescription {
    /// A refusal.
    pub(super) fn refused(group: &str, error: ErrorCode) -> GroupDescription {
        GroupDescription {
            error,
            error_message: None,
            group: group.to_owned(),
            state: "",
            protocol_type: String::new(),
            protocol: String::new(),
            members: Vec::new(),
        }
    }
}

impl Reply {
    /// Turns an answer that waited for its records into a failure, because they could not be appended. What had
    /// failed before keeps its own error.
    #[must_use]
    pub(super) fn fail(self, error: ErrorCode) -> Reply {
        let or = |code: ErrorCode| if code.is_error() { code } else { error };
        match self {
            Reply::Join(join) => Reply::Join(JoinReply::refused(&join.member_id, error)),
            Reply::Sync(_) => Reply::Sync(SyncReply::refused(error)),
            Reply::Heartbeat(code) => Reply::Heartbeat(or(code)),
            Reply::Leave(_) => Reply::Leave(LeaveReply { error, members: Vec::new() }),
            Reply::Commit(mut commit) => {
                let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
                partitions.for_each(|(_, code)| *code = or(*code));
                Reply::Commit(commit)
            }
            Reply::Fetch(mut fetch) => {
                fetch.groups.iter_mut().for_each(|group| *group = FetchedGroup::refused(&group.group, error));
                Reply::Fetch(fetch)
            }
            Reply::OffsetDelete(_) => Reply::OffsetDelete(OffsetDeleteReply { error, topics: Vec::new() }),
            Reply::Describe(groups) => Reply::Describe(
                groups.iter().map(|group| GroupDescription::refused(&group.group, error)).collect(),
            ),
            Reply::List(_) => Reply::List(ListReply { error, groups: Vec::new() }),
            Reply::Delete(mut groups) => {
                groups.iter_mut().for_each(|(_, code)| *code = or(*code));
                Reply::Delete(groups)
            }
        }
    }
}
