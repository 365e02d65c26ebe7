//! CreatePartitions (37): topics get more partitions.

use crate::api::Outcomes;
use crate::api::wire::{bare, outcome, topic_name};
use crate::machine::metadata::{Command, MorePartitions};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use std::collections::HashSet;

/// The command.
#[must_use]
pub fn plan(request: &CreatePartitionsRequest) -> Command {
    let topics = request.topics.iter().map(|topic| MorePartitions {
        name: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|assignments| {
            assignments.iter().map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect()
        }),
    });
    Command::CreatePartitions { topics: topics.collect(), validate_only: request.validate_only }
}

/// The response. A name that the request repeats is answered once.
#[must_use]
pub fn reply(request: &CreatePartitionsRequest, results: Outcomes<String, ()>) -> CreatePartitionsResponse {
    let results = results.unwrap_or_else(|code| {
        request.topics.iter().map(|topic| (topic.name.to_string(), Err(bare(code)))).collect()
    });
    let mut seen = HashSet::new();
    let once = results.iter().filter(|(name, _)| seen.insert(name.as_str())).map(|(name, result)| {
        let (code, message) = outcome(result);
        CreatePartitionsTopicResult::default()
            .with_name(topic_name(name))
            .with_error_code(code)
            .with_error_message(message)
    });
    CreatePartitionsResponse::default().with_results(once.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::error::ErrorCode;
    use crate::machine::metadata::ApiError;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsTopic,
    };

    #[test]
    fn there_and_back() {
        let assignment =
            CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let topic = |name, assignments| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(4)
                .with_assignments(assignments)
        };
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic("a", Some(vec![assignment])), topic("b", None)]);
        let Command::CreatePartitions { topics, validate_only: false } = plan(&request) else { panic!() };
        assert_eq!(topics[0].assignments, Some(vec![vec![1, 2]]));
        assert_eq!((topics[1].count, &topics[1].assignments), (4, &None));
        let error = ApiError::new(ErrorCode::INVALID_PARTITIONS, "why");
        let response = reply(&request, Ok(vec![("a".into(), Ok(())), ("b".into(), Err(error))]));
        assert_eq!((response.results[0].error_code, &response.results[0].error_message), (0, &None));
        assert_eq!(response.results[1].error_code, ErrorCode::INVALID_PARTITIONS.0);
        assert_eq!(response.results[1].error_message.as_deref(), Some("why"));
        assert_eq!(reply(&request, Err(ErrorCode::REQUEST_TIMED_OUT)).results[1].error_code, 7);
    }
}
