//! DescribeTopicPartitions (75): topics and partitions page by page (KIP-966).

use crate::api::wire::{broker_ids, topic_name};
use crate::api::{View, cluster, operations};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Partition, Topic, check_topic_name, is_internal};
use kafka_protocol::messages::describe_topic_partitions_request::Cursor as AskedCursor;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use std::collections::BTreeSet;

/// Most partitions in one answer (Kafka: `max.request.partition.size.limit`).
const PARTITIONS_MAX: i32 = 2000;

/// The response.
#[must_use]
pub fn reply(request: &DescribeTopicPartitionsRequest, view: View<'_>) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = if all {
        view.image
            .topics_by_name()
            .into_iter()
            .map(|topic| &*topic.name)
            .filter(|name| *name >= from)
            .collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).filter(|name| *name >= from).collect()
    };
    let lost = cursor.is_some_and(|cursor| !all && !names.contains(cursor.topic_name.as_str()));
    if lost || cursor.is_some_and(|cursor| cursor.partition_index < 0) {
        return refuse(request, ErrorCode::INVALID_REQUEST);
    }
    let limit = request.response_partition_limit.clamp(1, PARTITIONS_MAX);
    page(&names, cursor, limit as usize, all, view)
}

/// The response that gives every topic of the request the same error.
fn refuse(request: &DescribeTopicPartitionsRequest, error: ErrorCode) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(error.0)
            .with_name(Some(topic.name.clone()))
            .with_topic_authorized_operations(operations::NOT_ASKED)
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

/// The topics from the cursor on until `remaining` partitions are named.
fn page(
    names: &BTreeSet<&str>,
    cursor: Option<&AskedCursor>,
    mut remaining: usize,
    all: bool,
    view: View<'_>,
) -> DescribeTopicPartitionsResponse {
    let mut topics = Vec::new();
    for name in names {
        let topic_at = |index: usize| {
            let index = i32::try_from(index).expect("bounded by the limit of a topic");
            Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index)
        };
        if remaining == 0 {
            return finish(topics, Some(topic_at(0)));
        }
        let Some(topic) = view.image.topic_named(name) else {
            if !all {
                topics.push(missing(name));
            }
            continue;
        };
        let start = cursor.filter(|cursor| cursor.topic_name.as_str() == *name);
        let start = start.map_or(0, |cursor| cursor.partition_index as usize).min(topic.partitions.len());
        let end = topic.partitions.len().min(start + remaining);
        topics.push(known(topic, start, end, view));
        if end < topic.partitions.len() {
            return finish(topics, Some(topic_at(end)));
        }
        remaining -= end - start;
    }
    finish(topics, None)
}

fn finish(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
) -> DescribeTopicPartitionsResponse {
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(next)
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match check_topic_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
    };
    header(topic_name(name)).with_error_code(error.0)
}

fn header(name: TopicName) -> DescribeTopicPartitionsResponseTopic {
    let internal = is_internal(&name);
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(name))
        .with_is_internal(internal)
        .with_topic_authorized_operations(operations::TOPIC)
}

fn known(topic: &Topic, start: usize, end: usize, view: View<'_>) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (0..).zip(&topic.partitions).skip(start).take(end - start);
    header(topic_name(&topic.name))
        .with_topic_id(topic.id)
        .with_partitions(partitions.map(|(index, state)| partition(index, state, view)).collect())
}

fn partition(index: i32, state: &Partition, view: View<'_>) -> DescribeTopicPartitionsResponsePartition {
    let leader = cluster::leader(view.image, state, true);
    let last_known: Vec<i32> = state.last_known_leader.into_iter().collect();
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(leader.err().unwrap_or(ErrorCode::NONE).0)
        .with_partition_index(index)
        .with_leader_id(BrokerId(leader.unwrap_or(-1)))
        .with_leader_epoch(state.leader_epoch)
        .with_replica_nodes(broker_ids(&state.replicas))
        .with_isr_nodes(broker_ids(&state.isr))
        .with_eligible_leader_replicas(Some(broker_ids(&state.elr)))
        .with_last_known_elr(Some(broker_ids(&last_known)))
        .with_offline_replicas(broker_ids(&cluster::offline(view.image, state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;

    fn request(names: &[&str], limit: i32) -> DescribeTopicPartitionsRequest {
        let topic = |name: &&str| TopicRequest::default().with_name(topic_name(name));
        DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(topic).collect())
            .with_response_partition_limit(limit)
    }

    fn at(topic: &str, partition: i32) -> Option<AskedCursor> {
        Some(AskedCursor::default().with_topic_name(topic_name(topic)).with_partition_index(partition))
    }

    /// Topics with the indexes of their partitions, and where it goes on.
    type Page = (Vec<(String, Vec<i32>)>, Option<(String, i32)>);

    fn pages(response: &DescribeTopicPartitionsResponse) -> Page {
        let topics = response.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index).collect();
            (topic.name.as_ref().unwrap().to_string(), indexes)
        });
        let next = response.next_cursor.as_ref().map(|c| (c.topic_name.to_string(), c.partition_index));
        (topics.collect(), next)
    }

    #[test]
    fn pages_follow_one_another() {
        let fixture = Fixture::new();
        let mut cursor = None;
        let mut seen = Vec::new();
        loop {
            let request = request(&["orders", "compacted"], 2).with_cursor(cursor.take());
            let response = reply(&request, fixture.view());
            let (topics, next) = pages(&response);
            assert!(topics.iter().map(|(_, indexes)| indexes.len()).sum::<usize>() <= 2);
            seen.extend(topics.into_iter().flat_map(|(n, i)| i.into_iter().map(move |i| (n.clone(), i))));
            let Some((topic, partition)) = next else { break };
            cursor = at(&topic, partition);
        }
        let expected = [("compacted", 0), ("orders", 0), ("orders", 1), ("orders", 2)];
        assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));
    }

    #[test]
    fn a_full_page_ends_at_the_beginning_of_the_next_topic() {
        let fixture = Fixture::new();
        let response = reply(&request(&["compacted", "orders"], 1), fixture.view());
        assert_eq!(pages(&response), (vec![("compacted".into(), vec![0])], Some(("orders".into(), 0))));
    }

    #[test]
    fn all_topics_and_unknown_ones() {
        let fixture = Fixture::new();
        let response = reply(&request(&[], 0), fixture.view());
        assert_eq!(pages(&response).0.len(), 1, "at least one partition is answered");
        let response = reply(&request(&["none", "no good"], 10), fixture.view());
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        let illegal = ErrorCode::INVALID_TOPIC_EXCEPTION.0;
        assert_eq!(codes, [illegal, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]);
        let response = reply(&request(&[], 9999).with_cursor(at("p", 0)), fixture.view());
        assert_eq!(pages(&response), (vec![], None));
    }

    #[test]
    fn cursors_that_cannot_be() {
        let fixture = Fixture::new();
        for cursor in [at("other", 0), at("orders", -1)] {
            let response = reply(&request(&["orders"], 5).with_cursor(cursor), fixture.view());
            assert_eq!(response.topics[0].error_code, ErrorCode::INVALID_REQUEST.0);
        }
        let beyond = reply(&request(&["orders"], 5).with_cursor(at("orders", 99)), fixture.view());
        assert_eq!(pages(&beyond), (vec![("orders".into(), vec![])], None));
    }
}
