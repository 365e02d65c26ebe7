//! OffsetFetch (9): the offsets that groups have committed. An unknown group, topic or partition is no error: its
//! offset is -1.

use crate::api::wire::{group_id, text, topic_name};
use crate::machine::error::ErrorCode;
use crate::machine::group::{
    FetchGroup, FetchRequest, FetchTopic, FetchedGroup, FetchedPartition, FetchedTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

/// The first version with an error for the group as a whole.
const GROUP_ERROR_SINCE: i16 = 2;
/// The first version that asks for several groups.
const GROUPS_SINCE: i16 = 8;

/// Topics in requests up to version 9 have no id.
const NO_TOPIC_ID: [u8; 16] = [0; 16];

/// The groups, to be dealt out to their coordinators.
#[must_use]
pub fn groups(version: i16, request: &OffsetFetchRequest) -> Vec<FetchGroup> {
    let topic = |name: &str, partitions: &[i32]| FetchTopic {
        name: name.to_owned(),
        topic_id: NO_TOPIC_ID,
        partitions: partitions.to_vec(),
    };
    if version < GROUPS_SINCE {
        let topics = request.topics.as_ref();
        return vec![FetchGroup {
            group: request.group_id.to_string(),
            topics: topics
                .map(|topics| topics.iter().map(|t| topic(&t.name, &t.partition_indexes)).collect()),
        }];
    }
    let groups = request.groups.iter().map(|group| FetchGroup {
        group: group.group_id.to_string(),
        topics: group
            .topics
            .as_ref()
            .map(|topics| topics.iter().map(|t| topic(&t.name, &t.partition_indexes)).collect()),
    });
    groups.collect()
}

/// What one coordinator is asked.
#[must_use]
pub fn plan(version: i16, request: &OffsetFetchRequest, groups: Vec<FetchGroup>) -> FetchRequest {
    FetchRequest { groups, require_stable: version >= 7 && request.require_stable }
}

/// The response; `groups` are in the order asked.
#[must_use]
pub fn reply(version: i16, request: &OffsetFetchRequest, groups: &[FetchedGroup]) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        let groups = groups.iter().map(|group| {
            OffsetFetchResponseGroup::default()
                .with_group_id(group_id(&group.group))
                .with_error_code(group.error.0)
                .with_topics(group.topics.iter().map(grouped_topic).collect())
        });
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let [group] = groups else { panic!("versions below 8 ask for one group") };
    if group.error.is_error() && version < GROUP_ERROR_SINCE {
        return OffsetFetchResponse::default().with_topics(refused_topics(request, group.error));
    }
    OffsetFetchResponse::default()
        .with_error_code(group.error.0)
        .with_topics(group.topics.iter().map(|topic| single_topic(version, topic)).collect())
}

fn grouped_topic(topic: &FetchedTopic) -> OffsetFetchResponseTopics {
    let partition = |partition: &FetchedPartition| {
        OffsetFetchResponsePartitions::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset)
            .with_committed_leader_epoch(partition.leader_epoch)
            .with_metadata(Some(text(&partition.metadata)))
    };
    OffsetFetchResponseTopics::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(topic.partitions.iter().map(partition).collect())
}

fn single_topic(version: i16, topic: &FetchedTopic) -> OffsetFetchResponseTopic {
    let partition = |partition: &FetchedPartition| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(partition.offset)
            .with_committed_leader_epoch(if version >= 5 { partition.leader_epoch } else { -1 })
            .with_metadata(Some(text(&partition.metadata)))
    };
    OffsetFetchResponseTopic::default()
        .with_name(topic_name(&topic.name))
        .with_partitions(topic.partitions.iter().map(partition).collect())
}

/// Version 1 has no error for the group: each partition carries it.
fn refused_topics(request: &OffsetFetchRequest, error: ErrorCode) -> Vec<OffsetFetchResponseTopic> {
    let partition = |index: &i32| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(*index)
            .with_committed_offset(-1)
            .with_metadata(Some(text("")))
            .with_error_code(error.0)
    };
    let topics = request.topics.iter().flatten().map(|topic| {
        OffsetFetchResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(partition).collect())
    });
    topics.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };

    fn single() -> OffsetFetchRequest {
        let topic =
            OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0, 2]);
        OffsetFetchRequest::default()
            .with_group_id(group_id("g"))
            .with_topics(Some(vec![topic]))
            .with_require_stable(true)
    }

    fn fetched(group: &str, error: ErrorCode) -> FetchedGroup {
        let partition =
            FetchedPartition { partition: 2, offset: 7, leader_epoch: 3, metadata: "m".to_owned() };
        let topic = FetchedTopic { name: "t".to_owned(), topic_id: NO_TOPIC_ID, partitions: vec![partition] };
        let topics = if error.is_error() { vec![] } else { vec![topic] };
        FetchedGroup { group: group.to_owned(), error, topics }
    }

    #[test]
    fn one_group_until_7_and_several_from_8() {
        let groups_of = |version, request: &OffsetFetchRequest| -> Vec<(String, Option<usize>)> {
            let groups = groups(version, request).into_iter();
            groups.map(|group| (group.group, group.topics.map(|topics| topics.len()))).collect()
        };
        assert_eq!(groups_of(7, &single()), [("g".to_owned(), Some(1))]);
        assert_eq!(groups_of(2, &single().with_topics(None)), [("g".to_owned(), None)]);
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t"));
        let group = |name: &str| OffsetFetchRequestGroup::default().with_group_id(group_id(name));
        let several = OffsetFetchRequest::default()
            .with_groups(vec![group("a").with_topics(Some(vec![topic])), group("b").with_topics(None)]);
        assert_eq!(groups_of(8, &several), [("a".to_owned(), Some(1)), ("b".to_owned(), None)]);
        for version in 1..=9 {
            assert_eq!(plan(version, &single(), vec![]).require_stable, version >= 7);
        }
    }

    #[test]
    fn offsets_with_metadata_and_epoch() {
        for version in 1..=7 {
            let response = reply(version, &single(), &[fetched("g", ErrorCode::NONE)]);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.committed_offset, partition.metadata.as_deref()), (7, Some("m")));
            assert_eq!(partition.committed_leader_epoch, if version >= 5 { 3 } else { -1 });
        }
        for version in 8..=9 {
            let groups = [fetched("a", ErrorCode::NONE), fetched("b", ErrorCode::NOT_COORDINATOR)];
            let response = reply(version, &single(), &groups);
            let codes: Vec<_> = response.groups.iter().map(|g| (g.error_code, g.topics.len())).collect();
            assert_eq!(codes, [(0, 1), (ErrorCode::NOT_COORDINATOR.0, 0)]);
        }
    }

    #[test]
    fn an_error_is_the_groups_since_version_2_and_each_partitions_before() {
        let error = ErrorCode::NOT_COORDINATOR;
        let response = reply(1, &single(), &[fetched("g", error)]);
        let codes: Vec<_> =
            response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
        assert_eq!((response.error_code, codes), (0, vec![(0, error.0), (2, error.0)]));
        let response = reply(2, &single(), &[fetched("g", error)]);
        assert_eq!((response.error_code, response.topics.len()), (error.0, 0));
    }
}
