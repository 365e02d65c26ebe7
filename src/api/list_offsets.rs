//! ListOffsets (2): the first, last or timestamped offset of partitions.

use crate::api::partitions::{About, Plan, find};
use crate::api::wire::topic_name;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::Image;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use std::collections::HashSet;

/// What a partition answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The offset; -1 if no record fits.
    pub offset: i64,
    /// The record's timestamp, ms since 1970; -1 for none.
    pub timestamp: i64,
    /// The record's leader epoch; -1 if unknown.
    pub leader_epoch: i32,
}

/// What to ask of each partition: a timestamp in ms since 1970, or one of Kafka's special values. The replica id is
/// not looked at: whoever asks learns what a consumer may see.
#[must_use]
pub fn plan(version: i16, request: &ListOffsetsRequest, image: &Image) -> Plan<i64> {
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let at = (topic.name.as_str(), partition.partition_index);
            if !seen.insert(at) {
                twice.insert(at);
            }
        }
    }
    let mut plan = Plan::default();
    for topic in &request.topics {
        let name = topic.name.as_str();
        plan.topic(name);
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let found = find(image, name, index).and_then(|(_, key)| {
                if twice.contains(&(name, index)) {
                    Err(ErrorCode::INVALID_REQUEST)
                } else if partition.timestamp < 0 && !knows(version, partition.timestamp) {
                    Err(ErrorCode::UNSUPPORTED_VERSION)
                } else {
                    Ok(key)
                }
            });
            let (leader_epoch, question) = (partition.current_leader_epoch, partition.timestamp);
            plan.ask_or_refuse(index, found.map(|key| About { key, leader_epoch, question }));
        }
    }
    plan
}

/// Whether a version knows a special timestamp: latest and earliest always, max timestamp (KIP-734), earliest local
/// (KIP-405), latest tiered (KIP-1005), earliest pending upload (KIP-1023).
fn knows(version: i16, timestamp: i64) -> bool {
    match timestamp {
        -1 | -2 => true,
        -3 => version >= 7,
        -4 => version >= 8,
        -5 => version >= 9,
        -6 => version >= 11,
        _ => false,
    }
}

/// The response; `answers` are in the order of the plan's questions.
#[must_use]
pub fn reply(version: i16, plan: Plan<i64>, answers: Vec<Result<Found, ErrorCode>>) -> ListOffsetsResponse {
    let partition = |(index, answer): (i32, Result<Found, ErrorCode>)| {
        let none = Found { offset: -1, timestamp: -1, leader_epoch: -1 };
        let (error, found) = match answer {
            Ok(found) => (ErrorCode::NONE, found),
            Err(error) => (error, none),
        };
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(error.0)
            .with_offset(found.offset)
            .with_timestamp(found.timestamp)
            .with_leader_epoch(if version >= 4 { found.leader_epoch } else { -1 })
    };
    let topics = plan.answered(answers).into_iter().map(|(name, partitions)| {
        ListOffsetsTopicResponse::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

    fn request(partitions: &[(i32, i64)]) -> ListOffsetsRequest {
        let partitions = partitions.iter().map(|(index, timestamp)| {
            ListOffsetsPartition::default()
                .with_partition_index(*index)
                .with_current_leader_epoch(3)
                .with_timestamp(*timestamp)
        });
        ListOffsetsRequest::default().with_topics(vec![
            ListOffsetsTopic::default().with_name(topic_name("orders")).with_partitions(partitions.collect()),
        ])
    }

    fn codes(version: i16, request: &ListOffsetsRequest) -> Vec<i16> {
        let fixture = Fixture::new();
        let mut plan = plan(version, request, &fixture.image);
        let found = Found { offset: 5, timestamp: 6, leader_epoch: 7 };
        let answers = plan.take_questions().iter().map(|_| Ok(found)).collect();
        let response = reply(version, plan, answers);
        response.topics[0].partitions.iter().map(|partition| partition.error_code).collect()
    }

    #[test]
    fn special_timestamps_by_version() {
        for (timestamp, since) in [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11), (-7, 99), (0, 1)] {
            for version in 1..=10 {
                let code = if version >= since { ErrorCode::NONE } else { ErrorCode::UNSUPPORTED_VERSION };
                assert_eq!(codes(version, &request(&[(0, timestamp)])), [code.0], "{timestamp} {version}");
            }
        }
    }

    #[test]
    fn unknown_and_repeated_partitions_are_refused_at_once() {
        let (unknown, invalid) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, ErrorCode::INVALID_REQUEST.0);
        assert_eq!(codes(5, &request(&[(0, 9), (3, 9), (-1, 9)])), [0, unknown, unknown]);
        assert_eq!(codes(5, &request(&[(0, 9), (1, 9), (0, 8)])), [invalid, 0, invalid]);
    }

    #[test]
    fn the_clients_epoch_is_passed_on_and_the_records_comes_back_since_version_4() {
        let fixture = Fixture::new();
        for version in [3, 4] {
            let mut plan = plan(version, &request(&[(1, 9)]), &fixture.image);
            let questions = plan.take_questions();
            assert_eq!((questions[0].leader_epoch, questions[0].question), (3, 9));
            let response = reply(version, plan, vec![Ok(Found { offset: 5, timestamp: 6, leader_epoch: 7 })]);
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.offset, partition.timestamp), (5, 6));
            assert_eq!(partition.leader_epoch, if version >= 4 { 7 } else { -1 });
        }
    }
}
