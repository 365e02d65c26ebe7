//! OffsetForLeaderEpoch (23): where a leader epoch ends, so that a consumer finds out what it read of a log that was
//! truncated (KIP-320).

use crate::api::partitions::{About, Plan, find};
use crate::api::wire::topic_name;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::Image;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

/// The largest epoch not above the one asked about, and the offset after its last record; -1 in both if unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: i32,
    /// The offset.
    pub end_offset: i64,
}

/// What to ask of each partition: an epoch.
#[must_use]
pub fn plan(request: &OffsetForLeaderEpochRequest, image: &Image) -> Plan<i32> {
    let mut plan = Plan::default();
    for topic in &request.topics {
        let name = topic.topic.as_str();
        plan.topic(name);
        for partition in &topic.partitions {
            let (leader_epoch, question) = (partition.current_leader_epoch, partition.leader_epoch);
            let found = find(image, name, partition.partition);
            let about = found.map(|(_, key)| About { key, leader_epoch, question });
            plan.ask_or_refuse(partition.partition, about);
        }
    }
    plan
}

/// The response; `answers` are in the order of the plan's questions.
#[must_use]
pub fn reply(plan: Plan<i32>, answers: Vec<Result<EpochEnd, ErrorCode>>) -> OffsetForLeaderEpochResponse {
    let partition = |(index, answer): (i32, Result<EpochEnd, ErrorCode>)| {
        let end = answer.unwrap_or(EpochEnd { epoch: -1, end_offset: -1 });
        EpochEndOffset::default()
            .with_partition(index)
            .with_error_code(answer.err().unwrap_or(ErrorCode::NONE).0)
            .with_leader_epoch(end.epoch)
            .with_end_offset(end.end_offset)
    };
    let topics = plan.answered(answers).into_iter().map(|(name, partitions)| {
        OffsetForLeaderTopicResult::default()
            .with_topic(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::offset_for_leader_epoch_request::{
        OffsetForLeaderPartition, OffsetForLeaderTopic,
    };

    #[test]
    fn epochs_are_passed_on_and_errors_have_no_offset() {
        let fixture = Fixture::new();
        let partition = |index| {
            OffsetForLeaderPartition::default()
                .with_partition(index)
                .with_current_leader_epoch(4)
                .with_leader_epoch(2)
        };
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![
            OffsetForLeaderTopic::default().with_topic(topic_name("orders")).with_partitions(vec![
                partition(0),
                partition(1),
                partition(5),
            ]),
        ]);
        let mut plan = plan(&request, &fixture.image);
        let questions = plan.take_questions();
        assert!(questions.iter().all(|about| (about.leader_epoch, about.question) == (4, 2)));
        let answers = vec![Ok(EpochEnd { epoch: 1, end_offset: 9 }), Err(ErrorCode::FENCED_LEADER_EPOCH)];
        let response = reply(plan, answers);
        let results: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition, p.error_code, p.leader_epoch, p.end_offset))
            .collect();
        let (fenced, unknown) = (ErrorCode::FENCED_LEADER_EPOCH.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        assert_eq!(results, [(0, 0, 1, 9), (1, fenced, -1, -1), (5, unknown, -1, -1)]);
    }
}
