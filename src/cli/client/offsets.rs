//! Offsets: of logs (ListOffsets) and of groups (OffsetFetch, OffsetCommit).

use std::collections::BTreeMap;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    BrokerId, GroupId, ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::error::{ClientError, Result};
use super::{Client, TopicPartition, caps, check, topic_name};
use crate::cli::units::Position;
use crate::clock::wall_ms;

/// ListOffsets' timestamp that stands for the log end.
const LATEST: i64 = -1;
/// ListOffsets' timestamp that stands for the log start.
const EARLIEST: i64 = -2;

/// Offsets by partition.
pub type Offsets = BTreeMap<TopicPartition, i64>;

/// Who commits: nobody in particular (a tool, on an empty group) or a member of a generation.
#[derive(Debug, Clone)]
pub struct Committer {
    /// Generation, -1 for a tool.
    pub generation: i32,
    /// Member id, empty for a tool.
    pub member_id: String,
}

impl Committer {
    /// A tool that is no member.
    pub fn tool() -> Committer {
        Committer { generation: -1, member_id: String::new() }
    }
}

impl Client {
    /// Groups partitions by their leaders.
    pub fn by_leader(&mut self, partitions: &[TopicPartition]) -> Result<BTreeMap<i32, Vec<TopicPartition>>> {
        let mut leaders: BTreeMap<i32, Vec<TopicPartition>> = BTreeMap::new();
        for at in partitions {
            leaders.entry(self.leader(at)?).or_default().push(at.clone());
        }
        Ok(leaders)
    }

    /// The first offset of each partition.
    pub fn earliest(&mut self, partitions: &[TopicPartition]) -> Result<Offsets> {
        self.offsets_at(partitions, EARLIEST)
    }

    /// The offset behind the last record that consumers see, of each partition.
    pub fn latest(&mut self, partitions: &[TopicPartition]) -> Result<Offsets> {
        self.offsets_at(partitions, LATEST)
    }

    /// Turns a position into an offset for each partition. Fixed offsets are taken into the bounds of the log
    /// only where they count from its end.
    pub fn resolve(&mut self, partitions: &[TopicPartition], position: Position) -> Result<Offsets> {
        match position {
            Position::Earliest => self.earliest(partitions),
            Position::Latest => self.latest(partitions),
            Position::Offset(offset) => Ok(partitions.iter().map(|at| (at.clone(), offset)).collect()),
            Position::BeforeEnd(back) => {
                let first = self.earliest(partitions)?;
                let mut offsets = self.latest(partitions)?;
                for (at, offset) in &mut offsets {
                    *offset = offset.saturating_sub(back).max(first[at]);
                }
                Ok(offsets)
            }
            Position::Time(ms) => self.at_time(partitions, ms),
            Position::Ago(ms) => self.at_time(partitions, wall_ms().saturating_sub(ms).max(0)),
        }
    }

    /// The first offset with a timestamp of at least `ms`; the end where there is none.
    fn at_time(&mut self, partitions: &[TopicPartition], ms: i64) -> Result<Offsets> {
        let mut offsets = self.offsets_at(partitions, ms)?;
        if offsets.values().any(|offset| *offset < 0) {
            let ends = self.latest(partitions)?;
            for (at, offset) in offsets.iter_mut().filter(|(_, offset)| **offset < 0) {
                *offset = ends[at];
            }
        }
        Ok(offsets)
    }

    fn offsets_at(&mut self, partitions: &[TopicPartition], timestamp: i64) -> Result<Offsets> {
        self.retry(|client| client.offsets_once(partitions, timestamp))
    }

    fn offsets_once(&mut self, partitions: &[TopicPartition], timestamp: i64) -> Result<Offsets> {
        let mut offsets = Offsets::new();
        for (leader, partitions) in self.by_leader(partitions)? {
            let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
            for at in &partitions {
                let wanted = ListOffsetsPartition::default()
                    .with_partition_index(at.partition)
                    .with_current_leader_epoch(-1)
                    .with_timestamp(timestamp);
                topics.entry(&at.topic).or_default().push(wanted);
            }
            let topics = topics
                .into_iter()
                .map(|(name, list)| {
                    ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(list)
                })
                .collect();
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(topics);
            for topic in self.call_node(leader, &request, 7)?.topics {
                for partition in topic.partitions {
                    let at = TopicPartition::new(&topic.name, partition.partition_index);
                    check(partition.error_code, || format!("offsets of {at}"), None)?;
                    offsets.insert(at, partition.offset);
                }
            }
            if let Some(missing) = partitions.iter().find(|at| !offsets.contains_key(at)) {
                let peer = self.peer_of(leader)?;
                return Err(ClientError::Malformed { peer, what: format!("no offset for {missing}") });
            }
        }
        Ok(offsets)
    }

    /// What the group has committed, for all partitions it has anything for.
    pub fn committed(&mut self, group: &str) -> Result<Offsets> {
        self.retry(|client| {
            let request = OffsetFetchRequest::default()
                .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
                .with_topics(None);
            let response = client.call_coordinator(group, &request, caps::OFFSET_FETCH)?;
            check(response.error_code, || format!("offsets of group `{group}`"), None)?;
            let mut offsets = Offsets::new();
            for topic in response.topics {
                for partition in topic.partitions {
                    let at = TopicPartition::new(&topic.name, partition.partition_index);
                    check(partition.error_code, || format!("offset of group `{group}` in {at}"), None)?;
                    if partition.committed_offset >= 0 {
                        offsets.insert(at, partition.committed_offset);
                    }
                }
            }
            Ok(offsets)
        })
    }

    /// Commits offsets for a group.
    pub fn commit(&mut self, group: &str, who: &Committer, offsets: &Offsets) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (at, offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(at.partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(StrBytes::default()));
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, list)| {
                OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(list)
            })
            .collect();
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id_or_member_epoch(who.generation)
            .with_member_id(StrBytes::from_string(who.member_id.clone()))
            .with_topics(topics);
        self.retry(|client| {
            let response = client.call_coordinator(group, &request, caps::OFFSET_COMMIT)?;
            for topic in response.topics {
                for partition in topic.partitions {
                    let what = || format!("commit of {}-{}", topic.name.as_str(), partition.partition_index);
                    check(partition.error_code, what, None)?;
                }
            }
            Ok(())
        })
    }
}
