//! FindCoordinator (10): which broker coordinates a group: the leader of the group's partition of
//! `__consumer_offsets`, which is created when it is first needed.
//!
//! There are no transactions yet, and a client that looks for their coordinator must fail at once rather than ask
//! forever. librdkafka (which asks in versions up to 2) gives up only on TRANSACTIONAL_ID_AUTHORIZATION_FAILED, and
//! shows the message that comes with it. Java gives up on that code too, but drops the message; on any other code
//! that is not retriable it gives up and shows the message. So versions from 4 on, which Java uses, get
//! INVALID_REQUEST, Kafka's own answer to a kind of coordinator that it does not have.

use crate::api::wire::text;
use crate::api::{OFFSETS_TOPIC, View, cluster};
use crate::machine::config::BrokerConfig;
use crate::machine::error::ErrorCode;
use crate::machine::group::partition_for;
use crate::machine::metadata::{ApiError, Image, NewTopic};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

/// Kafka's numbers for what is coordinated.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// The first version that asks for several keys.
const KEYS_SINCE: i16 = 4;

/// Where a coordinator is.
struct Found {
    id: i32,
    host: String,
    port: i32,
}

/// `__consumer_offsets` as it is created: Kafka's settings for it.
#[must_use]
pub fn offsets_topic(config: &BrokerConfig) -> NewTopic {
    let setting = |name: &str, value: String| (name.to_owned(), Some(value));
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: config.offsets_topic_partitions,
        replication_factor: config.offsets_topic_replication_factor,
        assignments: Vec::new(),
        settings: vec![
            setting("cleanup.policy", "compact".to_owned()),
            setting("ringlog.durability", "commit".to_owned()),
            setting("compression.type", "producer".to_owned()),
            setting("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
        ],
    }
}

/// The partition of `__consumer_offsets` that holds a group; none before the topic was created.
#[must_use]
pub fn offsets_partition(image: &Image, group: &str) -> Option<i32> {
    Some(partition_for(group, offsets_partitions(image)?))
}

/// How many partitions `__consumer_offsets` has; none before the topic was created.
#[must_use]
pub fn offsets_partitions(image: &Image) -> Option<i32> {
    let count = image.topic_named(OFFSETS_TOPIC)?.partitions.len();
    Some(i32::try_from(count).expect("bounded by the limit of a topic"))
}

/// The topic to create before the answer is made.
#[must_use]
pub fn to_create(request: &FindCoordinatorRequest, view: View<'_>) -> Option<NewTopic> {
    let missing = request.key_type == GROUP && view.image.topic_id(OFFSETS_TOPIC).is_none();
    missing.then(|| offsets_topic(&view.config()))
}

/// The response.
#[must_use]
pub fn reply(version: i16, request: &FindCoordinatorRequest, view: View<'_>) -> FindCoordinatorResponse {
    let find = |key: &str| find(version, request.key_type, key, view);
    if version >= KEYS_SINCE {
        let coordinators = request.coordinator_keys.iter().map(|key| {
            let (found, error) = parts(find(key));
            Coordinator::default()
                .with_key(key.clone())
                .with_node_id(BrokerId(found.id))
                .with_host(text(&found.host))
                .with_port(found.port)
                .with_error_code(error.as_ref().map_or(0, |error| error.code.0))
                .with_error_message(error.map(|error| text(&error.message)))
        });
        return FindCoordinatorResponse::default().with_coordinators(coordinators.collect());
    }
    let (found, error) = parts(find(&request.key));
    let code = error.as_ref().map_or(0, |error| error.code.0);
    let message = error.filter(|_| version >= 1).map(|error| text(&error.message));
    FindCoordinatorResponse::default()
        .with_error_code(code)
        .with_error_message(message)
        .with_node_id(BrokerId(found.id))
        .with_host(text(&found.host))
        .with_port(found.port)
}

fn parts(result: Result<Found, ApiError>) -> (Found, Option<ApiError>) {
    match result {
        Ok(found) => (found, None),
        Err(error) => (Found { id: -1, host: String::new(), port: -1 }, Some(error)),
    }
}

fn find(version: i16, kind: i8, key: &str, view: View<'_>) -> Result<Found, ApiError> {
    match kind {
        GROUP => group_coordinator(key, view.image).ok_or_else(|| {
            ApiError::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "The coordinator is not available.")
        }),
        TRANSACTION => {
            let code = if version < KEYS_SINCE {
                ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            } else {
                ErrorCode::INVALID_REQUEST
            };
            Err(ApiError::new(code, "Ringlog does not support transactions yet; unset transactional.id."))
        }
        other => Err(ApiError::new(
            ErrorCode::INVALID_REQUEST,
            format!("Ringlog has no coordinator of the type {other}."),
        )),
    }
}

fn group_coordinator(group: &str, image: &Image) -> Option<Found> {
    let topic = image.topic_named(OFFSETS_TOPIC)?;
    let partition = image.partition(topic.id, offsets_partition(image, group)?)?;
    let leader = cluster::leader(image, partition, false).ok()?;
    let endpoint = cluster::endpoint(image.broker(leader)?)?;
    Some(Found { id: leader, host: endpoint.host.clone(), port: i32::from(endpoint.port) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;

    fn single(key_type: i8) -> FindCoordinatorRequest {
        FindCoordinatorRequest::default().with_key(text("g")).with_key_type(key_type)
    }

    fn several(key_type: i8, keys: &[&str]) -> FindCoordinatorRequest {
        let keys = keys.iter().map(|key| text(key)).collect();
        FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(keys)
    }

    #[test]
    fn this_broker_once_the_topic_is_there() {
        let fixture = Fixture::new();
        for version in 0..=3 {
            let response = reply(version, &single(GROUP), fixture.view());
            assert_eq!((response.error_code, response.node_id.0, response.port), (0, 1, 9092));
            assert_eq!(&*response.host, "127.0.0.1");
        }
        let response = reply(4, &several(GROUP, &["a", "b"]), fixture.view());
        let found: Vec<_> = response.coordinators.iter().map(|c| (&*c.key, c.node_id.0)).collect();
        assert_eq!(found, [("a", 1), ("b", 1)]);
        assert!(to_create(&single(GROUP), fixture.view()).is_none());
    }

    #[test]
    fn before_that_it_is_not_available_and_to_be_created() {
        let fixture = Fixture::empty();
        let topic = to_create(&single(GROUP), fixture.view()).unwrap();
        assert_eq!((topic.name.as_str(), topic.partitions), (OFFSETS_TOPIC, 50));
        assert!(topic.settings.contains(&("cleanup.policy".into(), Some("compact".into()))));
        let response = reply(1, &single(GROUP), fixture.view());
        assert_eq!(response.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE.0);
        assert_eq!((response.node_id.0, response.port), (-1, -1));
        assert!(to_create(&single(TRANSACTION), fixture.view()).is_none());
    }

    #[test]
    fn no_transactions_in_words_that_each_client_shows() {
        let fixture = Fixture::new();
        for version in 1..=3 {
            let response = reply(version, &single(TRANSACTION), fixture.view());
            assert_eq!(response.error_code, ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED.0);
            assert!(response.error_message.unwrap().contains("transactions"));
        }
        for version in 4..=6 {
            let response = reply(version, &several(TRANSACTION, &["t"]), fixture.view());
            assert_eq!(response.coordinators[0].error_code, ErrorCode::INVALID_REQUEST.0);
            assert!(response.coordinators[0].error_message.as_ref().unwrap().contains("transactions"));
        }
        let share = reply(6, &several(2, &["s"]), fixture.view());
        assert_eq!(share.coordinators[0].error_code, ErrorCode::INVALID_REQUEST.0);
    }
}
