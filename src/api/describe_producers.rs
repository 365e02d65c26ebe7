//! DescribeProducers (61): the idempotent producers that partitions know (KIP-664).

use crate::api::partitions::{About, Plan, find};
use crate::api::wire::topic_name;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::Image;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

/// A producer of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Its last sequence number.
    pub last_sequence: i32,
    /// Timestamp of its last batch, ms since 1970.
    pub last_timestamp: i64,
}

/// Which partitions to ask.
#[must_use]
pub fn plan(request: &DescribeProducersRequest, image: &Image) -> Plan<()> {
    let mut plan = Plan::default();
    for topic in &request.topics {
        plan.topic(topic.name.as_str());
        for &index in &topic.partition_indexes {
            let found = find(image, topic.name.as_str(), index);
            plan.ask_or_refuse(index, found.map(|(_, key)| About { key, leader_epoch: -1, question: () }));
        }
    }
    plan
}

/// The response; `answers` are in the order of the plan's questions.
#[must_use]
pub fn reply(plan: Plan<()>, answers: Vec<Result<Vec<Producer>, ErrorCode>>) -> DescribeProducersResponse {
    let partition = |(index, answer): (i32, Result<Vec<Producer>, ErrorCode>)| {
        let response = PartitionResponse::default().with_partition_index(index);
        match answer {
            Ok(producers) => response.with_active_producers(producers.iter().map(state).collect()),
            Err(error) => response.with_error_code(error.0),
        }
    };
    let topics = plan.answered(answers).into_iter().map(|(name, partitions)| {
        TopicResponse::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.into_iter().map(partition).collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn state(producer: &Producer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::describe_producers_request::TopicRequest;

    #[test]
    fn producers_of_known_partitions() {
        let fixture = Fixture::new();
        let request = DescribeProducersRequest::default().with_topics(vec![
            TopicRequest::default().with_name(topic_name("orders")).with_partition_indexes(vec![0, 8]),
        ]);
        let mut plan = plan(&request, &fixture.image);
        assert_eq!(plan.take_questions().len(), 1);
        let producer = Producer { id: 4, epoch: 1, last_sequence: 9, last_timestamp: 77 };
        let response = reply(plan, vec![Ok(vec![producer])]);
        let partitions = &response.topics[0].partitions;
        let state = &partitions[0].active_producers[0];
        assert_eq!((state.producer_id.0, state.producer_epoch, state.last_sequence), (4, 1, 9));
        assert_eq!((state.coordinator_epoch, state.current_txn_start_offset), (-1, -1));
        assert_eq!(partitions[1].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0);
    }
}
