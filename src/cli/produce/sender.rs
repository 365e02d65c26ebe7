//! Batches records by partition, sends them to the leaders and sees to it that each is written once.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};

use super::ProduceArgs;
use crate::cli::client::codec::Codec;
use crate::cli::client::error::{ClientError, Result};
use crate::cli::client::records::{self, ProducerTag, Record};
use crate::cli::client::{Client, TopicPartition, caps, check, topic_name};
use crate::cli::failure::Failure;
use crate::cli::record_json::Line;
use crate::machine::error::ErrorCode;

/// What was written to one partition.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Written {
    /// Number of records.
    pub records: u64,
    /// Offset of the first one, where the broker told it.
    pub first_offset: Option<i64>,
    /// Offset of the last one, where the broker told it.
    pub last_offset: Option<i64>,
}

impl Written {
    fn add(&mut self, records: u64, base_offset: i64) {
        self.records += records;
        if base_offset >= 0 {
            self.first_offset.get_or_insert(base_offset);
            self.last_offset = Some(base_offset + records as i64 - 1);
        }
    }
}

/// A batch on its way.
struct Pending {
    partition: i32,
    records: u64,
    batch: Bytes,
}

/// Sends records to one topic, one request a leader at a time.
pub struct Sender {
    client: Client,
    topic: String,
    partitions: i32,
    acks: i16,
    codec: Codec,
    batch_bytes: usize,
    /// Producer id and epoch, when batches carry sequence numbers.
    producer: Option<(i64, i16)>,
    sequences: BTreeMap<i32, i32>,
    buffers: BTreeMap<i32, Vec<Record>>,
    buffered_bytes: usize,
    /// Partition of records without key; it changes with every flush.
    turn: i32,
    report: BTreeMap<i32, Written>,
}

impl Sender {
    /// Finds (or lets the broker create) the topic and takes a producer id where that is possible.
    pub fn open(mut client: Client, args: &ProduceArgs) -> std::result::Result<Sender, Failure> {
        let partitions = client.topic_made_by_use(&args.topic)?.partitions.len() as i32;
        let wanted = args.partition.unwrap_or(0);
        if wanted >= partitions {
            return Err(no_partition(&args.topic, partitions, wanted));
        }
        let acks = args.acks.code();
        let producer = if acks == -1 && !args.no_idempotence { producer_id(&mut client)? } else { None };
        Ok(Sender {
            client,
            topic: args.topic.clone(),
            partitions,
            acks,
            codec: args.compression,
            batch_bytes: args.batch_bytes as usize,
            producer,
            sequences: BTreeMap::new(),
            buffers: BTreeMap::new(),
            buffered_bytes: 0,
            turn: 0,
            report: BTreeMap::new(),
        })
    }

    /// Records acknowledged (or, with acks 0, sent) so far.
    pub fn written(&self) -> u64 {
        self.report.values().map(|written| written.records).sum()
    }

    /// The same by partition.
    pub fn report(&self) -> &BTreeMap<i32, Written> {
        &self.report
    }

    /// Takes a record; sends when a batch is full.
    pub fn add(&mut self, line: Line) -> std::result::Result<(), Failure> {
        let partition = match (line.partition, &line.record.key) {
            (Some(partition), _) if (0..self.partitions).contains(&partition) => partition,
            (Some(partition), _) => {
                return Err(no_partition(&self.topic, self.partitions, partition));
            }
            (None, Some(key)) => partition_of_key(key, self.partitions),
            (None, None) => self.turn,
        };
        let size = line.record.size();
        if self.buffered_bytes > 0 && self.buffered_bytes + size > self.batch_bytes {
            self.flush()?;
        }
        self.buffered_bytes += size;
        self.buffers.entry(partition).or_default().push(line.record);
        Ok(())
    }

    /// Sends everything and waits until it is acknowledged.
    pub fn flush(&mut self) -> Result<()> {
        if self.buffers.is_empty() {
            return Ok(());
        }
        self.buffered_bytes = 0;
        self.turn = (self.turn + 1) % self.partitions;
        let mut pending = Vec::new();
        for (partition, records) in std::mem::take(&mut self.buffers) {
            let tag = self.tag(partition, records.len());
            let batch = records::encode(&records, self.codec, tag);
            pending.push(Pending { partition, records: records.len() as u64, batch });
        }
        let (topic, acks, report) = (self.topic.clone(), self.acks, &mut self.report);
        // A batch keeps its bytes, and so its sequence numbers, over all tries: the broker knows it again.
        self.client.retry(|client| send_once(client, &topic, acks, &mut pending, report))
    }

    fn tag(&mut self, partition: i32, count: usize) -> ProducerTag {
        let Some((id, epoch)) = self.producer else { return ProducerTag::NONE };
        let next = self.sequences.entry(partition).or_insert(0);
        let tag = ProducerTag { id, epoch, base_sequence: *next };
        *next = next_sequence(*next, count);
        tag
    }
}

fn no_partition(topic: &str, partitions: i32, wanted: i32) -> Failure {
    Failure::failed(format!("topic `{topic}` has {partitions} partitions, there is no partition {wanted}"))
}

/// Sequence numbers go from the highest i32 on to zero.
fn next_sequence(sequence: i32, count: usize) -> i32 {
    ((i64::from(sequence) + count as i64) % (i64::from(i32::MAX) + 1)) as i32
}

/// `None` where the broker has no idempotent producers.
fn producer_id(client: &mut Client) -> Result<Option<(i64, i16)>> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    let answered = client.retry(|client| {
        let response = client.call_any(&request, 5)?;
        check(response.error_code, || "a producer id".to_owned(), None)?;
        Ok((response.producer_id.0, response.producer_epoch))
    });
    match answered {
        Ok(producer) => Ok(Some(producer)),
        Err(ClientError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One try: sends each leader its batches and takes those out of `pending` that are acknowledged.
fn send_once(
    client: &mut Client,
    topic: &str,
    acks: i16,
    pending: &mut Vec<Pending>,
    report: &mut BTreeMap<i32, Written>,
) -> Result<()> {
    let partitions: Vec<TopicPartition> =
        pending.iter().map(|batch| TopicPartition::new(topic, batch.partition)).collect();
    let mut failed = None;
    for (leader, partitions) in client.by_leader(&partitions)? {
        let of_leader = |p: &&Pending| partitions.iter().any(|at| at.partition == p.partition);
        let data = pending.iter().filter(of_leader).map(|batch| {
            PartitionProduceData::default()
                .with_index(batch.partition)
                .with_records(Some(batch.batch.clone()))
        });
        let data =
            TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(data.collect());
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(client.timeout_i32())
            .with_topic_data(vec![data]);
        if acks == 0 {
            let (peer, timeout_ms) = (client.peer_of(leader)?, client.timeout_ms());
            let sent = client.connection(&peer)?.send(&request, caps::PRODUCE, timeout_ms);
            sent.inspect_err(|error| client.drop_if_broken(&peer, error))?;
            for at in &partitions {
                acknowledge(pending, report, at.partition, -1);
            }
            continue;
        }
        let response = client.call_node(leader, &request, caps::PRODUCE)?;
        for answer in response.responses.into_iter().flat_map(|topic| topic.partition_responses) {
            match outcome(topic, &answer) {
                Ok(()) => acknowledge(pending, report, answer.index, answer.base_offset),
                Err(error) => {
                    client.forget_topic(topic);
                    failed = Some(error);
                }
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None if pending.is_empty() => Ok(()),
        None => {
            Err(ClientError::Malformed { peer: "the leader".into(), what: "a partition left out".into() })
        }
    }
}

fn outcome(topic: &str, answer: &PartitionProduceResponse) -> Result<()> {
    // Written by an earlier try whose answer was lost, too long ago for the broker to know the offset.
    if answer.error_code == ErrorCode::DUPLICATE_SEQUENCE_NUMBER.0 {
        return Ok(());
    }
    let record = answer.record_errors.first().and_then(|error| error.batch_index_error_message.as_ref());
    let what = || format!("{topic}-{}", answer.index);
    check(answer.error_code, what, record.or(answer.error_message.as_ref()))
}

fn acknowledge(pending: &mut Vec<Pending>, report: &mut BTreeMap<i32, Written>, partition: i32, base: i64) {
    if let Some(index) = pending.iter().position(|batch| batch.partition == partition) {
        let batch = pending.swap_remove(index);
        report.entry(partition).or_default().add(batch.records, base);
    }
}

/// Java's default: positive murmur2 of the key, modulo the number of partitions.
fn partition_of_key(key: &[u8], partitions: i32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions as u32) as i32
}

/// The variant of MurmurHash2 that Kafka's clients use (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("chunks of four")).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_in_java() {
        // From Kafka's own UtilsTest.testMurmur2.
        for (key, expected) in [
            ("21", -973932308i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(next_sequence(5, 3), 8);
        assert_eq!(next_sequence(i32::MAX, 1), 0);
        assert_eq!(next_sequence(i32::MAX - 1, 3), 1);
    }

    #[test]
    fn offsets_of_several_batches_are_one_range() {
        let mut written = Written::default();
        written.add(3, 10);
        written.add(2, 13);
        assert_eq!(written, Written { records: 5, first_offset: Some(10), last_offset: Some(14) });
        let mut unknown = Written::default();
        unknown.add(4, -1);
        assert_eq!(unknown, Written { records: 4, first_offset: None, last_offset: None });
    }

    #[test]
    fn a_duplicate_is_written_already() {
        let answer = |code: i16| PartitionProduceResponse::default().with_error_code(code);
        assert!(outcome("t", &answer(0)).is_ok() && outcome("t", &answer(46)).is_ok());
        assert!(outcome("t", &answer(6)).unwrap_err().is_retriable());
    }
}
