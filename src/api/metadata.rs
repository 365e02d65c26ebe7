//! Metadata (3): brokers, topics and who leads their partitions. Creates topics that do not exist yet, where the
//! broker (`auto.create.topics.enable`) and the client allow it.
//!
//! Kafka answers UNKNOWN_TOPIC_OR_PARTITION for a topic that it has begun to create, and the client asks again. Here
//! a topic is created on every shard before the answer is made, so the answer has it at once.

use crate::api::find_coordinator::offsets_topic;
use crate::api::wire::{broker_ids, some_text, text, topic_name};
use crate::api::{OFFSETS_TOPIC, Outcomes, View, cluster, operations};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{
    ApiError, CreatedTopic, NewTopic, Partition, Topic, check_topic_name, id_text, is_internal,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The first version in which topics may be named by id.
const TOPIC_IDS_SINCE: i16 = 12;

/// Which topics a request asks for, each once, in the order asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All there are.
    All,
    /// By name.
    Names(Vec<String>),
    /// By id; names beside ids are not looked at, as in Kafka.
    Ids(Vec<Uuid>),
}

/// Reads which topics are asked for.
///
/// # Errors
/// The whole response where a topic has no name, or an id in a version that knows none.
pub fn plan(version: i16, request: &MetadataRequest) -> Result<Wanted, MetadataResponse> {
    let Some(topics) = &request.topics else { return Ok(Wanted::All) };
    if topics.is_empty() && version == 0 {
        // Version 0 has no null: an empty list asks for all, from version 1 on for none.
        return Ok(Wanted::All);
    }
    let wrong = topics.iter().any(|topic| {
        let named_by_id = version >= TOPIC_IDS_SINCE && !topic.topic_id.is_nil();
        (topic.name.is_none() && !named_by_id) || (version < TOPIC_IDS_SINCE && !topic.topic_id.is_nil())
    });
    if wrong {
        return Err(refuse(version, request, ErrorCode::INVALID_REQUEST));
    }
    let mut ids: Vec<Uuid> = Vec::new();
    let mut seen = HashSet::new();
    ids.extend(topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil() && seen.insert(*id)));
    if !ids.is_empty() {
        return Ok(Wanted::Ids(ids));
    }
    let mut seen = HashSet::new();
    let names = topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.as_str());
    Ok(Wanted::Names(names.filter(|name| seen.insert(*name)).map(str::to_owned).collect()))
}

/// The response that gives every topic of the request the same error.
fn refuse(version: i16, request: &MetadataRequest, error: ErrorCode) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(error.0)
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(if version >= 10 { topic.topic_id } else { Uuid::nil() })
            .with_topic_authorized_operations(operations::NOT_ASKED)
    });
    MetadataResponse::default()
        .with_controller_id(BrokerId(-1))
        .with_topics(topics.collect())
        .with_cluster_authorized_operations(operations::NOT_ASKED)
        .with_error_code(if version >= 13 { error.0 } else { 0 })
}

/// The topics to create before the answer is made.
#[must_use]
pub fn to_create(wanted: &Wanted, request: &MetadataRequest, view: View<'_>) -> Vec<NewTopic> {
    let Wanted::Names(names) = wanted else { return Vec::new() };
    if !request.allow_auto_topic_creation || names.iter().all(|name| view.image.topic_id(name).is_some()) {
        return Vec::new();
    }
    let config = view.config();
    if !config.auto_create_topics {
        return Vec::new();
    }
    names
        .iter()
        .filter(|name| view.image.topic_id(name).is_none() && check_topic_name(name).is_ok())
        .map(|name| match name.as_str() {
            OFFSETS_TOPIC => offsets_topic(&config),
            name => NewTopic {
                name: name.to_owned(),
                partitions: -1,
                replication_factor: -1,
                ..NewTopic::default()
            },
        })
        .collect()
}

/// The response, made of the image after `created`.
#[must_use]
pub fn reply(
    version: i16,
    wanted: &Wanted,
    request: &MetadataRequest,
    created: &Outcomes<String, CreatedTopic>,
    view: View<'_>,
) -> MetadataResponse {
    let refused =
        |(name, result): &'_ (String, Result<_, ApiError>)| Some((name.clone(), result.as_ref().err()?.code));
    let failed: HashMap<String, ErrorCode> = created.iter().flatten().filter_map(refused).collect();
    let asked = request.include_topic_authorized_operations && version >= 8;
    let known = |topic: &Topic| known_topic(version, topic, view);
    let topics: Vec<MetadataResponseTopic> = match wanted {
        Wanted::All => view.image.topics_by_name().into_iter().map(|topic| known(topic)).collect(),
        Wanted::Names(names) => names
            .iter()
            .map(|name| match view.image.topic_named(name) {
                Some(topic) => known(topic),
                None => missing_name(name, failed.get(name).copied()),
            })
            .collect(),
        Wanted::Ids(ids) => ids
            .iter()
            .map(|id| match view.image.topic(*id) {
                Some(topic) => known(topic),
                None => MetadataResponseTopic::default()
                    .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
                    .with_name(None)
                    .with_topic_id(*id),
            })
            .collect(),
    };
    let allowed = |topic: MetadataResponseTopic| {
        // Kafka says nothing of what may be done with an id that it does not know.
        let asked = asked && topic.name.is_some();
        topic.with_topic_authorized_operations(operations::if_asked(asked, operations::TOPIC))
    };
    let asked_cluster = request.include_cluster_authorized_operations && (8..=10).contains(&version);
    MetadataResponse::default()
        .with_brokers(brokers(version, view))
        .with_cluster_id(view.image.cluster_id().map(|id| text(&id_text(id))))
        .with_controller_id(BrokerId(controller(view)))
        .with_topics(topics.into_iter().map(allowed).collect())
        .with_cluster_authorized_operations(operations::if_asked(asked_cluster, operations::CLUSTER))
}

fn brokers(version: i16, view: View<'_>) -> Vec<MetadataResponseBroker> {
    let broker = |(broker, endpoint): (&crate::machine::metadata::Broker, _)| {
        let endpoint: &crate::machine::metadata::Endpoint = endpoint;
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port))
            .with_rack(if version >= 1 { some_text(broker.rack.as_deref()) } else { None })
    };
    cluster::in_service(view.image).map(broker).collect()
}

/// Any broker takes requests that change metadata, so clients are told this one where they can reach it.
pub(super) fn controller(view: View<'_>) -> i32 {
    if cluster::is_reachable(view.image, view.node_id) {
        return view.node_id;
    }
    cluster::in_service(view.image).next().map_or(-1, |(broker, _)| broker.id)
}

fn known_topic(version: i16, topic: &Topic, view: View<'_>) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions);
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(if version >= 10 { topic.id } else { Uuid::nil() })
        .with_is_internal(version >= 1 && is_internal(&topic.name))
        .with_partitions(partitions.map(|(index, state)| partition(version, index, state, view)).collect())
}

fn missing_name(name: &str, creation: Option<ErrorCode>) -> MetadataResponseTopic {
    let error = match creation {
        _ if check_topic_name(name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
        // What asking again cannot cure.
        Some(code @ (ErrorCode::INVALID_TOPIC_EXCEPTION | ErrorCode::INVALID_REPLICATION_FACTOR)) => code,
        _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    MetadataResponseTopic::default().with_error_code(error.0).with_name(Some(topic_name(name)))
}

fn partition(version: i16, index: i32, state: &Partition, view: View<'_>) -> MetadataResponsePartition {
    let offline = cluster::offline(view.image, state);
    let leader = cluster::leader(view.image, state, version >= 6);
    let reachable = |ids: &[i32]| -> Vec<i32> {
        // Version 0 names only brokers that it also lists.
        ids.iter().copied().filter(|id| version > 0 || !offline.contains(id)).collect()
    };
    let error = match leader {
        Err(error) => error,
        Ok(_) if version == 0 && !offline.is_empty() => ErrorCode::REPLICA_NOT_AVAILABLE,
        Ok(_) => ErrorCode::NONE,
    };
    let response = MetadataResponsePartition::default()
        .with_error_code(error.0)
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.unwrap_or(-1)))
        .with_replica_nodes(broker_ids(&reachable(&state.replicas)))
        .with_isr_nodes(broker_ids(&reachable(&state.isr)));
    let response = if version >= 5 { response.with_offline_replicas(broker_ids(&offline)) } else { response };
    if version >= 7 { response.with_leader_epoch(state.leader_epoch) } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;

    fn named(names: &[&str]) -> MetadataRequest {
        let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default().with_topics(Some(names.iter().map(topic).collect()))
    }

    fn answer(version: i16, request: &MetadataRequest, fixture: &Fixture) -> MetadataResponse {
        let wanted = plan(version, request).unwrap();
        reply(version, &wanted, request, &Ok(Vec::new()), fixture.view())
    }

    fn names(response: &MetadataResponse) -> Vec<(&str, i16)> {
        let name = |topic: &'_ MetadataResponseTopic| topic.error_code;
        response.topics.iter().map(|t| (t.name.as_ref().map_or("", |n| n.as_str()), name(t))).collect()
    }

    #[test]
    fn null_and_empty() {
        let null = MetadataRequest::default().with_topics(None);
        assert_eq!(plan(0, &named(&[])).unwrap(), Wanted::All);
        assert_eq!(plan(1, &named(&[])).unwrap(), Wanted::Names(vec![]));
        assert_eq!(plan(1, &null).unwrap(), Wanted::All);
        let fixture = Fixture::new();
        let all = answer(13, &null, &fixture);
        let listed: Vec<&str> = names(&all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, ["__consumer_offsets", "compacted", "orders"]);
        assert_eq!(all.topics.iter().map(|t| t.is_internal).collect::<Vec<_>>(), [true, false, false]);
        assert!(answer(1, &named(&[]), &fixture).topics.is_empty());
        assert!(to_create(&Wanted::All, &null, fixture.view()).is_empty());
    }

    #[test]
    fn names_once_each_unknown_and_illegal() {
        let fixture = Fixture::new();
        let response = answer(9, &named(&["orders", "none", "orders", "no good"]), &fixture);
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
        let illegal = ErrorCode::INVALID_TOPIC_EXCEPTION.0;
        assert_eq!(names(&response), [("orders", 0), ("none", unknown), ("no good", illegal)]);
    }

    #[test]
    fn ids_since_version_12() {
        let fixture = Fixture::new();
        let id = fixture.image.topic_id("orders").unwrap();
        let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
        let request =
            MetadataRequest::default().with_topics(Some(vec![by_id(id), by_id(Uuid::from_u128(99))]));
        let response = answer(12, &request, &fixture);
        assert_eq!(names(&response), [("orders", 0), ("", ErrorCode::UNKNOWN_TOPIC_ID.0)]);
        assert_eq!(response.topics[0].topic_id, id);
        assert!(to_create(&plan(12, &request).unwrap(), &request, fixture.view()).is_empty());
        let refused = plan(11, &request).unwrap_err();
        assert_eq!(names(&refused), [("", ErrorCode::INVALID_REQUEST.0); 2]);
        let nameless = MetadataRequest::default().with_topics(Some(vec![by_id(Uuid::nil())]));
        for version in [10, 12, 13] {
            let refused = plan(version, &nameless).unwrap_err();
            assert_eq!(refused.topics[0].error_code, ErrorCode::INVALID_REQUEST.0);
            assert_eq!(refused.error_code != 0, version == 13);
        }
        assert_eq!(answer(9, &named(&["orders"]), &fixture).topics[0].topic_id, Uuid::nil());
        assert_eq!(answer(10, &named(&["orders"]), &fixture).topics[0].topic_id, id);
    }

    #[test]
    fn creation_where_broker_and_client_allow_it() {
        let request = named(&["orders", "new", "no good", "__transaction_state"]);
        let wanted = plan(4, &request).unwrap();
        let created = |request: &MetadataRequest, fixture: &Fixture| -> Vec<String> {
            to_create(&wanted, request, fixture.view()).into_iter().map(|topic| topic.name).collect()
        };
        let fixture = Fixture::new();
        assert_eq!(created(&request, &fixture), ["new", "__transaction_state"]);
        assert!(created(&request.clone().with_allow_auto_topic_creation(false), &fixture).is_empty());
        assert!(created(&request, &Fixture::new().set("auto.create.topics.enable", "false")).is_empty());
        let offsets = named(&[OFFSETS_TOPIC]);
        let bare = Fixture::empty();
        let topics = to_create(&plan(4, &offsets).unwrap(), &offsets, bare.view());
        assert_eq!((topics[0].partitions, topics[0].replication_factor), (50, 1));
    }

    #[test]
    fn why_a_topic_was_not_created() {
        let fixture = Fixture::new();
        let request = named(&["x"]);
        let wanted = plan(4, &request).unwrap();
        for (code, answered) in [
            (ErrorCode::INVALID_REPLICATION_FACTOR, ErrorCode::INVALID_REPLICATION_FACTOR),
            (ErrorCode::INVALID_TOPIC_EXCEPTION, ErrorCode::INVALID_TOPIC_EXCEPTION),
            (ErrorCode::REQUEST_TIMED_OUT, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let created = Ok(vec![("x".to_owned(), Err(ApiError::new(code, "why")))]);
            let response = reply(4, &wanted, &request, &created, fixture.view());
            assert_eq!(names(&response), [("x", answered.0)]);
        }
    }

    #[test]
    fn leaders_replicas_and_epochs() {
        let fixture = Fixture::new();
        let request = named(&["orders"]);
        let response = answer(13, &request, &fixture);
        assert_eq!(response.brokers.len(), 1);
        assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("127.0.0.1", 9092));
        assert_eq!((response.controller_id.0, response.cluster_id.as_ref().unwrap().len()), (1, 22));
        let partition = &response.topics[0].partitions[1];
        assert_eq!((partition.partition_index, partition.leader_id.0, partition.leader_epoch), (1, 1, 0));
        assert_eq!(
            (&partition.replica_nodes, &partition.isr_nodes),
            (&vec![BrokerId(1)], &vec![BrokerId(1)])
        );
        assert!(partition.offline_replicas.is_empty());
    }

    #[test]
    fn a_leader_that_is_out_of_service() {
        let fixture = Fixture::with_a_fenced_broker();
        let request = named(&["shared"]);
        for version in 0..=13 {
            let response = answer(version, &request, &fixture);
            let partition = &response.topics[0].partitions[0];
            let (error, replicas) = if version == 0 {
                (ErrorCode::REPLICA_NOT_AVAILABLE, vec![BrokerId(1)])
            } else {
                (ErrorCode::NONE, vec![BrokerId(1), BrokerId(2)])
            };
            assert_eq!((partition.error_code, &partition.replica_nodes), (error.0, &replicas), "{version}");
            assert_eq!(partition.offline_replicas == [BrokerId(2)], version >= 5, "{version}");
        }
    }

    #[test]
    fn authorized_operations_where_asked() {
        let fixture = Fixture::new();
        let asking = named(&["orders"])
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        for version in 8..=13 {
            let silent = answer(version, &named(&["orders"]), &fixture);
            assert_eq!(silent.topics[0].topic_authorized_operations, i32::MIN);
            assert_eq!(silent.cluster_authorized_operations, i32::MIN);
            let response = answer(version, &asking, &fixture);
            assert_eq!(response.topics[0].topic_authorized_operations, operations::TOPIC);
            let cluster = if version <= 10 { operations::CLUSTER } else { i32::MIN };
            assert_eq!(response.cluster_authorized_operations, cluster);
        }
    }
}
