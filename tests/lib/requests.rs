//! The requests that tests send most, and what they look at in the answers.

use crate::broker::PATIENCE;
use crate::client::Client;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, FetchRequest,
    FetchResponse, FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_storage::batch::BatchBuilder;
use ringlog_storage::compression::Codec;

/// Version of Produce that tests speak: the last one that names topics.
pub const PRODUCE: i16 = 12;
/// Version of Fetch that tests speak: the last one that names topics.
pub const FETCH: i16 = 12;
/// Where the leader epoch ends in a batch: what follows is stored as it was sent.
pub const KEPT_FROM: usize = 16;

/// A topic's name as messages have it.
#[must_use]
pub fn topic(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// One batch of these values, uncompressed; `producer` is id, epoch and first sequence number.
#[must_use]
pub fn batch(values: &[&[u8]], timestamp: i64, producer: Option<(i64, i16, i32)>) -> Bytes {
    let mut batch = BatchBuilder::new(Codec::None);
    if let Some((id, epoch, sequence)) = producer {
        batch = batch.producer(id, epoch, sequence);
    }
    values.iter().for_each(|value| batch.push(timestamp, None, Some(value), &[]));
    Bytes::from(batch.build(0, -1))
}

/// One batch of one value, stamped now.
#[must_use]
pub fn record(value: &[u8]) -> Bytes {
    batch(&[value], ringlog::clock::wall_ms(), None)
}

/// A produce request: each part is topic, partition, batch.
#[must_use]
pub fn produce(acks: i16, parts: &[(&str, i32, Bytes)]) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (name, partition, records) in parts {
        let name = topic(name);
        if topics.last().is_none_or(|last| last.name != name) {
            topics.push(TopicProduceData::default().with_name(name));
        }
        let data = PartitionProduceData::default().with_index(*partition).with_records(Some(records.clone()));
        topics.last_mut().expect("just made").partition_data.push(data);
    }
    ProduceRequest::default().with_acks(acks).with_timeout_ms(30_000).with_topic_data(topics)
}

/// What a produce response says of each partition, in order: error code and base offset.
#[must_use]
pub fn produced(response: &ProduceResponse) -> Vec<(i16, i64)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.map(|p| (p.error_code, p.base_offset)).collect()
}

/// A fetch that waits `wait_ms` for `min_bytes`: each part is topic, partition, offset.
#[must_use]
pub fn fetch(wait_ms: i32, min_bytes: i32, parts: &[(&str, i32, i64)]) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (name, partition, offset) in parts {
        let name = topic(name);
        if topics.last().is_none_or(|last| last.topic != name) {
            topics.push(FetchTopic::default().with_topic(name));
        }
        let part = FetchPartition::default()
            .with_partition(*partition)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20);
        topics.last_mut().expect("just made").partitions.push(part);
    }
    FetchRequest::default()
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(50 << 20)
        .with_session_epoch(-1)
        .with_topics(topics)
}

/// What a fetch response holds: topic, partition's data, in order.
pub fn fetched(response: &FetchResponse) -> impl Iterator<Item = (&str, &PartitionData)> {
    response.responses.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.as_str(), p)))
}

/// A batch as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Offset of its first record.
    pub base: i64,
    /// Offset after its last record.
    pub end: i64,
    /// All its bytes.
    pub bytes: Bytes,
}

/// The whole batches at the front of a partition's records.
///
/// # Panics
/// When a batch's CRC is wrong.
#[must_use]
pub fn batches(mut records: Bytes) -> Vec<Stored> {
    const LENGTH_AT: usize = 8;
    const HEAD: usize = 61;
    let number = |bytes: &[u8], at: usize| {
        i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let mut found = Vec::new();
    while records.len() >= HEAD {
        let size = LENGTH_AT + 4 + usize::try_from(number(&records, LENGTH_AT)).expect("a length");
        if size > records.len() {
            break;
        }
        let bytes = records.split_to(size);
        assert!(ringlog_storage::batch::crc_is_right(&bytes), "a batch with a wrong CRC was sent");
        let mut base = [0; 8];
        base.copy_from_slice(&bytes[..8]);
        let base = i64::from_be_bytes(base);
        found.push(Stored { base, end: base + i64::from(number(&bytes, 23)) + 1, bytes });
    }
    found
}

impl Client {
    /// Creates a topic.
    ///
    /// # Panics
    /// When it is refused.
    pub fn create_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let response = self.call(&create_topic(name, partitions, configs), 6);
        let outcome = &response.topics[0];
        assert_eq!(outcome.error_code, 0, "creating {name}: {:?}", outcome.error_message);
    }

    /// Deletes a topic and gives the error code.
    pub fn delete_topic(&mut self, name: &str) -> i16 {
        let request =
            DeleteTopicsRequest::default().with_topic_names(vec![topic(name)]).with_timeout_ms(30_000);
        self.call(&request, 5).responses[0].error_code
    }

    /// Sends one batch and waits: error code and base offset.
    pub fn produce(&mut self, name: &str, partition: i32, records: Bytes) -> (i16, i64) {
        produced(&self.call(&produce(-1, &[(name, partition, records)]), PRODUCE))[0]
    }

    /// Fetches one partition without waiting.
    ///
    /// # Panics
    /// When the request as a whole is refused.
    pub fn fetch(&mut self, name: &str, partition: i32, offset: i64) -> PartitionData {
        let mut response = self.call(&fetch(0, 0, &[(name, partition, offset)]), FETCH);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Everything in a partition from an offset up to its high watermark.
    ///
    /// # Panics
    /// When fetching fails or gets nowhere.
    pub fn read_all(&mut self, name: &str, partition: i32, from: i64) -> Vec<Stored> {
        let (mut all, mut next) = (Vec::new(), from);
        loop {
            let data = self.fetch(name, partition, next);
            assert_eq!(data.error_code, 0, "fetching {name}-{partition} at {next}");
            if next >= data.high_watermark {
                return all;
            }
            let got = batches(data.records.unwrap_or_default());
            let last = got.last().unwrap_or_else(|| panic!("{name}-{partition} has nothing at {next}"));
            next = last.end;
            all.extend(got);
        }
    }

    /// ListOffsets of one partition: error code, timestamp, offset.
    pub fn list_offset(&mut self, name: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let part = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let part = part.with_current_leader_epoch(-1);
        let topics = vec![ListOffsetsTopic::default().with_name(topic(name)).with_partitions(vec![part])];
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
        let response = self.call(&request, 7);
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.timestamp, found.offset)
    }

    /// Deletes what lies below an offset: error code and log start offset.
    pub fn delete_records(&mut self, name: &str, partition: i32, before: i64) -> (i16, i64) {
        let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
        let topics = vec![DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![part])];
        let request = DeleteRecordsRequest::default().with_topics(topics).with_timeout_ms(30_000);
        let response = self.call(&request, 2);
        let done = &response.topics[0].partitions[0];
        (done.error_code, done.low_watermark)
    }

    /// A new idempotent producer's id and epoch.
    ///
    /// # Panics
    /// When it is refused.
    pub fn producer_id(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = self.call(&request, 4);
        assert_eq!(response.error_code, 0);
        (response.producer_id.0, response.producer_epoch)
    }

    /// Waits until a group's coordinator is made and loaded.
    ///
    /// # Panics
    /// When that fails.
    pub fn find_coordinator(&mut self, group: &str) {
        let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
        let deadline =
            ringlog::clock::monotonic_ms() + u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX);
        while ringlog::clock::monotonic_ms() < deadline {
            let response = self.call(&request, 3);
            if response.error_code == 0 {
                return;
            }
            assert!(is_coordinator_coming(response.error_code), "error {}", response.error_code);
        }
        panic!("the coordinator of {group} does not come");
    }

    /// Shows that the broker answers on this connection.
    ///
    /// # Panics
    /// When it does not.
    pub fn ping(&mut self) {
        assert_eq!(self.call(&ApiVersionsRequest::default(), 0).error_code, 0);
    }
}

/// Whether a group's coordinator is still being made or loaded (Kafka's errors 14 and 15).
#[must_use]
pub fn is_coordinator_coming(error: i16) -> bool {
    (14..=15).contains(&error)
}

/// A CreateTopics request for one topic.
#[must_use]
pub fn create_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let creatable = CreatableTopic::default()
        .with_name(topic(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(30_000)
}
