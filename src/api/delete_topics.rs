//! DeleteTopics (20): by name, from version 6 on also by id.

use crate::api::wire::{bare, outcome, topic_name};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Command, DeletedTopic, TopicRef};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

/// The topics to delete.
#[must_use]
pub fn topics(version: i16, request: &DeleteTopicsRequest) -> Vec<TopicRef> {
    if version < 6 {
        let by_name = |name: &kafka_protocol::messages::TopicName| Some(name.to_string());
        return request.topic_names.iter().map(|name| TopicRef { name: by_name(name), id: None }).collect();
    }
    let by_either = request.topics.iter().map(|topic| TopicRef {
        name: topic.name.as_ref().map(|name| name.to_string()),
        id: Some(topic.topic_id).filter(|id| !id.is_nil()),
    });
    by_either.collect()
}

/// The command.
#[must_use]
pub fn plan(version: i16, request: &DeleteTopicsRequest) -> Command {
    Command::DeleteTopics { topics: topics(version, request) }
}

/// The response. A name that the request repeats is answered once.
#[must_use]
pub fn reply(
    version: i16,
    request: &DeleteTopicsRequest,
    deleted: Result<Vec<DeletedTopic>, ErrorCode>,
) -> DeleteTopicsResponse {
    let deleted = deleted.unwrap_or_else(|code| {
        let failed =
            |topic: TopicRef| DeletedTopic { name: topic.name, id: topic.id, result: Err(bare(code)) };
        topics(version, request).into_iter().map(failed).collect()
    });
    let mut seen = std::collections::HashSet::new();
    let once =
        deleted.iter().filter(|topic| seen.insert((topic.name.clone(), topic.id, topic.result.is_ok())));
    let responses = once.map(|topic| {
        let (code, message) = outcome(&topic.result);
        // Versions below 6 have no null for the name; their topics always have one.
        let name = topic.name.as_deref().map(topic_name);
        DeletableTopicResult::default()
            .with_name(name)
            .with_topic_id(topic.id.filter(|_| version >= 6).unwrap_or_default())
            .with_error_code(code)
            .with_error_message(message.filter(|_| version >= 5))
    });
    DeleteTopicsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::ApiError;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use uuid::Uuid;

    #[test]
    fn names_until_5_and_either_from_6() {
        let names = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a")]);
        let by_name = TopicRef { name: Some("a".into()), id: None };
        assert_eq!(topics(5, &names), std::slice::from_ref(&by_name));
        let id = Uuid::from_u128(5);
        let either = DeleteTopicsRequest::default().with_topics(vec![
            DeleteTopicState::default().with_name(Some(topic_name("a"))),
            DeleteTopicState::default().with_name(None).with_topic_id(id),
        ]);
        assert_eq!(topics(6, &either), [by_name, TopicRef { name: None, id: Some(id) }]);
    }

    #[test]
    fn each_with_name_id_and_reason() {
        let request = DeleteTopicsRequest::default();
        let gone = DeletedTopic { name: Some("a".into()), id: Some(Uuid::from_u128(5)), result: Ok(()) };
        let error = ApiError::new(ErrorCode::UNKNOWN_TOPIC_ID, "no");
        let unknown = DeletedTopic { name: None, id: Some(Uuid::from_u128(6)), result: Err(error) };
        for version in 1..=6 {
            let results =
                if version >= 6 { vec![gone.clone(), unknown.clone()] } else { vec![gone.clone(); 2] };
            let response = reply(version, &request, Ok(results));
            assert_eq!(response.responses[0].topic_id.is_nil(), version < 6);
            if version >= 6 {
                let missing = &response.responses[1];
                assert_eq!((missing.error_code, &missing.name), (ErrorCode::UNKNOWN_TOPIC_ID.0, &None));
                assert!(missing.error_message.is_some());
            } else {
                assert_eq!(response.responses.len(), 1);
            }
        }
    }
}
