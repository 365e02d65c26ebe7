//! CreateTopics (19).

use crate::api::wire::{bare, outcome, owned, text, topic_name};
use crate::api::{Outcomes, View};
use crate::machine::config::describe;
use crate::machine::metadata::{ApiError, Command, CreatedTopic, NewTopic};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use std::collections::HashSet;
use uuid::Uuid;

/// The command.
#[must_use]
pub fn plan(request: &CreateTopicsRequest) -> Command {
    Command::CreateTopics {
        topics: request.topics.iter().map(new_topic).collect(),
        validate_only: request.validate_only,
    }
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let brokers = |ids: &[kafka_protocol::messages::BrokerId]| ids.iter().map(|id| id.0).collect();
    NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic.assignments.iter().map(|a| (a.partition_index, brokers(&a.broker_ids))).collect(),
        settings: topic.configs.iter().map(|c| (c.name.to_string(), owned(c.value.as_ref()))).collect(),
    }
}

/// The response. A name that the request repeats is answered once.
#[must_use]
pub fn reply(
    version: i16,
    request: &CreateTopicsRequest,
    created: Outcomes<String, CreatedTopic>,
    view: View<'_>,
) -> CreateTopicsResponse {
    let created = created.unwrap_or_else(|code| {
        request.topics.iter().map(|topic| (topic.name.to_string(), Err(bare(code)))).collect()
    });
    let mut seen = HashSet::new();
    let once = created.iter().filter(|(name, _)| seen.insert(name.as_str()));
    CreateTopicsResponse::default()
        .with_topics(once.map(|(name, result)| topic(version, name, result, view)).collect())
}

fn topic(
    version: i16,
    name: &str,
    result: &Result<CreatedTopic, ApiError>,
    view: View<'_>,
) -> CreatableTopicResult {
    let (code, message) = outcome(result);
    let response = CreatableTopicResult::default()
        .with_name(topic_name(name))
        .with_error_code(code)
        .with_error_message(message);
    let Ok(created) = result else {
        return response.with_num_partitions(-1).with_replication_factor(-1).with_configs(None);
    };
    if version < 5 {
        return response;
    }
    let layers = view.image.layers(view.node_id, view.file);
    let replicas = usize::try_from(created.replication_factor).expect("a topic has replicas");
    let configs = describe::topic(&created.settings, layers, replicas, None);
    let configs = configs.iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.name))
            .with_value(entry.value.as_deref().map(text))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source as i8)
    });
    response
        .with_topic_id(if version >= 7 { created.id } else { Uuid::nil() })
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use crate::machine::config::Settings;
    use crate::machine::error::ErrorCode;
    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};

    fn request(names: &[&str]) -> CreateTopicsRequest {
        let topic = |name: &&str| {
            let replicas = CreatableReplicaAssignment::default()
                .with_partition_index(3)
                .with_broker_ids(vec![BrokerId(1)]);
            let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(None);
            CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(vec![replicas])
                .with_configs(vec![config])
        };
        CreateTopicsRequest::default().with_topics(names.iter().map(topic).collect()).with_validate_only(true)
    }

    #[test]
    fn everything_reaches_the_command() {
        let Command::CreateTopics { topics, validate_only: true } = plan(&request(&["a"])) else {
            panic!("validate_only is passed on")
        };
        let expected = NewTopic {
            name: "a".into(),
            partitions: -1,
            replication_factor: -1,
            assignments: vec![(3, vec![1])],
            settings: vec![("retention.ms".into(), None)],
        };
        assert_eq!(topics, [expected]);
    }

    #[test]
    fn what_versions_tell() {
        let fixture = Fixture::new();
        let created = CreatedTopic {
            id: Uuid::from_u128(9),
            partitions: 4,
            replication_factor: 1,
            settings: Settings::from([("retention.ms".into(), "5".into())]),
        };
        for version in 2..=7 {
            let results = vec![("a".to_owned(), Ok(created.clone()))];
            let response = reply(version, &request(&["a"]), Ok(results), fixture.view());
            let topic = &response.topics[0];
            assert_eq!(topic.topic_id.is_nil(), version < 7);
            if version < 5 {
                continue;
            }
            assert_eq!((topic.num_partitions, topic.replication_factor), (4, 1));
            let configs = topic.configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
            assert!(configs.iter().any(|config| config.config_source == 5), "defaults are told too");
        }
    }

    #[test]
    fn a_repeated_name_is_answered_once_and_a_failed_command_for_all() {
        let fixture = Fixture::new();
        let twice = || ("a".to_owned(), Err(ApiError::new(ErrorCode::INVALID_REQUEST, "twice")));
        let request = request(&["a", "a", "b"]);
        let response = reply(7, &request, Ok(vec![twice(), twice()]), fixture.view());
        assert_eq!(response.topics.len(), 1);
        assert_eq!((response.topics[0].num_partitions, &response.topics[0].configs), (-1, &None));
        let response = reply(7, &request, Err(ErrorCode::REQUEST_TIMED_OUT), fixture.view());
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [ErrorCode::REQUEST_TIMED_OUT.0; 2]);
    }
}
