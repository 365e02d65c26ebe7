//! DeleteRecords (21): everything below an offset goes.

use crate::api::View;
use crate::api::partitions::{About, Plan, find};
use crate::api::wire::topic_name;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::is_internal;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

/// What to ask of each partition: the offset below which everything goes, -1 for the high watermark.
#[must_use]
pub fn plan(request: &DeleteRecordsRequest, view: View<'_>) -> Plan<i64> {
    let mut plan = Plan::default();
    for topic in &request.topics {
        let name = topic.name.as_str();
        plan.topic(name);
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let found = find(view.image, name, index).and_then(|(topic, key)| {
                let policy = view.image.topic_config(topic, view.node_id, view.file).cleanup_policy;
                if is_internal(name) {
                    Err(ErrorCode::INVALID_TOPIC_EXCEPTION)
                } else if policy.compact && !policy.delete {
                    // What is kept of a compacted topic is decided by keys, not by offsets.
                    Err(ErrorCode::POLICY_VIOLATION)
                } else {
                    Ok(key)
                }
            });
            let about = |key| About { key, leader_epoch: -1, question: partition.offset };
            plan.ask_or_refuse(index, found.map(about));
        }
    }
    plan
}

/// The response; `answers` are the new log start offsets in the order of the plan's questions.
#[must_use]
pub fn reply(plan: Plan<i64>, answers: Vec<Result<i64, ErrorCode>>) -> DeleteRecordsResponse {
    let partition = |(index, answer): (i32, Result<i64, ErrorCode>)| {
        DeleteRecordsPartitionResult::default()
            .with_partition_index(index)
            .with_low_watermark(answer.unwrap_or(-1))
            .with_error_code(answer.err().unwrap_or(ErrorCode::NONE).0)
    };
    let topics = plan.answered(answers).into_iter().map(|(name, partitions)| {
        DeleteRecordsTopicResult::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    #[test]
    fn only_what_is_there_and_not_only_compacted_is_asked() {
        let fixture = Fixture::new();
        let topic = |name: &str| {
            DeleteRecordsTopic::default().with_name(topic_name(name)).with_partitions(vec![
                DeleteRecordsPartition::default().with_partition_index(0).with_offset(7),
                DeleteRecordsPartition::default().with_partition_index(9).with_offset(-1),
            ])
        };
        let names = ["orders", "none", "compacted", "__consumer_offsets"];
        let request = DeleteRecordsRequest::default().with_topics(names.map(topic).to_vec());
        let mut plan = plan(&request, fixture.view());
        let questions = plan.take_questions();
        assert_eq!(questions.iter().map(|about| about.question).collect::<Vec<_>>(), [7]);
        let response = reply(plan, vec![Ok(7)]);
        let results: Vec<Vec<(i64, i16)>> = response
            .topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|p| (p.low_watermark, p.error_code)).collect())
            .collect();
        let unknown = (-1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
        assert_eq!(
            results,
            [
                [(7, 0), unknown],
                [unknown, unknown],
                [(-1, ErrorCode::POLICY_VIOLATION.0), unknown],
                [(-1, ErrorCode::INVALID_TOPIC_EXCEPTION.0), unknown],
            ]
        );
    }
}
