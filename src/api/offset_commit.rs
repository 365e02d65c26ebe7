//! OffsetCommit (8): a group's offsets are stored. Partitions that do not exist are refused here; the others go to
//! the coordinator.

use crate::api::partitions::{Outline, find};
use crate::api::wire::{owned, partition_results, topic_name};
use crate::machine::error::ErrorCode;
use crate::machine::group::{CommitPartition, CommitReply, CommitRequest, CommitTopic};
use crate::machine::metadata::Image;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

/// Topics in requests up to version 9 have no id.
const NO_TOPIC_ID: [u8; 16] = [0; 16];

/// What the coordinator is asked, none if every partition was refused, and what becomes of each partition.
#[must_use]
pub fn plan(version: i16, request: &OffsetCommitRequest, image: &Image) -> (Option<CommitRequest>, Outline) {
    let mut outline = Outline::default();
    let mut topics = Vec::new();
    for topic in &request.topics {
        let name = topic.name.as_str();
        outline.topic(name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let refused = find(image, name, partition.partition_index).err();
            outline.partition(partition.partition_index, refused);
            if refused.is_none() {
                partitions.push(commit(version, partition));
            }
        }
        if !partitions.is_empty() {
            topics.push(CommitTopic { name: name.to_owned(), topic_id: NO_TOPIC_ID, partitions });
        }
    }
    let commit = CommitRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        retention_ms: if version <= 4 { request.retention_time_ms } else { -1 },
        supports_group_id_not_found: version >= 9,
        topics,
    };
    ((!commit.topics.is_empty()).then_some(commit), outline)
}

fn commit(version: i16, partition: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: if version >= 6 { partition.committed_leader_epoch } else { -1 },
        metadata: owned(partition.committed_metadata.as_ref()),
    }
}

/// The response; `committed` is the coordinator's answer if it was asked.
#[must_use]
pub fn reply(outline: Outline, committed: Option<&CommitReply>) -> OffsetCommitResponse {
    let committed = committed.into_iter().flat_map(|reply| &reply.topics);
    let topics = outline.answered(partition_results(committed)).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, result)| {
            let error = result.err().unwrap_or(ErrorCode::NONE);
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.0)
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use crate::api::wire::text;
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;

    fn topic(name: &str, partitions: &[i32]) -> OffsetCommitRequestTopic {
        let partitions = partitions.iter().map(|index| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(9)
                .with_committed_leader_epoch(3)
                .with_committed_metadata(Some(text("m")))
        });
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions.collect())
    }

    fn codes(response: &OffsetCommitResponse) -> Vec<Vec<(i32, i16)>> {
        let partition = |p: &OffsetCommitResponsePartition| (p.partition_index, p.error_code);
        response.topics.iter().map(|topic| topic.partitions.iter().map(partition).collect()).collect()
    }

    #[test]
    fn what_does_not_exist_is_refused_and_the_rest_committed() {
        let fixture = Fixture::new();
        let request = OffsetCommitRequest::default().with_topics(vec![
            topic("none", &[0]),
            topic("orders", &[0, 9, 2]),
            topic("compacted", &[0]),
        ]);
        let (commit, plan) = plan(9, &request, &fixture.image);
        let mut answer = commit.unwrap().refuse(ErrorCode::NONE);
        answer.topics[0].partitions[1].1 = ErrorCode::OFFSET_METADATA_TOO_LARGE;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
        assert_eq!(
            codes(&reply(plan, Some(&answer))),
            [vec![(0, unknown)], vec![(0, 0), (9, unknown), (2, 12)], vec![(0, 0)]]
        );
    }

    #[test]
    fn nothing_to_commit_asks_nobody() {
        let fixture = Fixture::new();
        let request = OffsetCommitRequest::default().with_topics(vec![topic("none", &[0])]);
        let (commit, plan) = plan(9, &request, &fixture.image);
        assert!(commit.is_none());
        assert_eq!(codes(&reply(plan, None)), [[(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0)]]);
    }

    #[test]
    fn what_versions_say() {
        let fixture = Fixture::new();
        let request = OffsetCommitRequest::default()
            .with_retention_time_ms(77)
            .with_topics(vec![topic("orders", &[1])]);
        for version in 2..=9 {
            let commit = plan(version, &request, &fixture.image).0.unwrap();
            assert_eq!(commit.retention_ms, if version <= 4 { 77 } else { -1 });
            assert_eq!(commit.supports_group_id_not_found, version >= 9);
            let partition = &commit.topics[0].partitions[0];
            assert_eq!(partition.leader_epoch, if version >= 6 { 3 } else { -1 });
            assert_eq!((partition.offset, partition.metadata.as_deref()), (9, Some("m")));
        }
    }
}
