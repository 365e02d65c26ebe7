//! The generator's frames, made by hand: Produce 8 and Fetch 4, the last versions without tagged fields that
//! brokers of all ages serve.
//!
//! ```text
//! frame:   0 length i32 | 4 API key i16 | 6 version i16 | 8 correlation id i32 | 12 client id | body
//! ```

use bytes::{BufMut, Bytes};
use ringlog_storage::random::SplitMix;

use crate::cli::client::codec::Codec;
use crate::cli::client::connection::CLIENT_ID;
use crate::cli::client::records::{self, ProducerTag, Record};
use crate::clock::wall_ms;

/// Version of Produce that is sent.
pub const PRODUCE_VERSION: i16 = 8;
/// Version of Fetch that is sent.
pub const FETCH_VERSION: i16 = 4;

const PRODUCE_KEY: i16 = 0;
const FETCH_KEY: i16 = 1;
/// Where the correlation id stands in a frame.
const CORRELATION_AT: usize = 8;
/// So long the broker may wait for its replicas.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
/// So long the broker may hold a fetch that finds nothing.
const FETCH_WAIT_MS: i32 = 500;

/// Sets the correlation id of a frame.
pub fn patch(frame: &mut [u8], correlation_id: i32) {
    frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&correlation_id.to_be_bytes());
}

fn head(api_key: i16, version: i16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(128);
    frame.put_i32(0);
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(0);
    put_string(&mut frame, CLIENT_ID);
    frame
}

fn put_string(frame: &mut Vec<u8>, text: &str) {
    frame.put_i16(i16::try_from(text.len()).expect("topic names and client ids are short"));
    frame.put_slice(text.as_bytes());
}

fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(frame.len() - 4).expect("a batch's size is checked by its option");
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A Produce frame with one batch for one partition.
pub fn produce(topic: &str, partition: i32, acks: i16, batch: &[u8]) -> Vec<u8> {
    let mut frame = head(PRODUCE_KEY, PRODUCE_VERSION);
    frame.put_i16(-1);
    frame.put_i16(acks);
    frame.put_i32(PRODUCE_TIMEOUT_MS);
    frame.put_i32(1);
    put_string(&mut frame, topic);
    frame.put_i32(1);
    frame.put_i32(partition);
    frame.put_i32(batch.len() as i32);
    frame.reserve_exact(batch.len());
    frame.put_slice(batch);
    finish(frame)
}

/// Where the error code stands in an answer to [`produce`], counted from behind the frame's length: behind
/// correlation id, count of topics, name, count of partitions and partition.
pub fn produce_error_at(topic: &str) -> usize {
    4 + 4 + 2 + topic.len() + 4 + 4
}

/// A Fetch frame for some partitions and their offsets.
pub fn fetch(topic: &str, at: &[(i32, i64)], max_bytes: i32, partition_max_bytes: i32) -> Vec<u8> {
    let mut frame = head(FETCH_KEY, FETCH_VERSION);
    frame.put_i32(-1);
    frame.put_i32(FETCH_WAIT_MS);
    frame.put_i32(1);
    frame.put_i32(max_bytes);
    frame.put_i8(0);
    frame.put_i32(1);
    put_string(&mut frame, topic);
    frame.put_i32(at.len() as i32);
    for (partition, offset) in at {
        frame.put_i32(*partition);
        frame.put_i64(*offset);
        frame.put_i32(partition_max_bytes);
    }
    finish(frame)
}

/// A batch of `count` records of `size` random bytes each, without keys.
pub fn random_batch(count: usize, size: usize, seed: u64) -> Bytes {
    let mut random = SplitMix::new(seed);
    let timestamp_ms = wall_ms();
    let record = || {
        let mut value = vec![0; size];
        for chunk in value.chunks_mut(8) {
            let bytes = random.draw().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Record { timestamp_ms, value: Some(Bytes::from(value)), ..Record::default() }
    };
    let all: Vec<Record> = std::iter::repeat_with(record).take(count).collect();
    records::encode(&all, Codec::None, ProducerTag::NONE)
}

/// How many records of `size` bytes fit a batch of `batch_bytes`, at least one.
pub fn records_that_fit(size: usize, batch_bytes: usize) -> usize {
    let mut total = records::HEADER_BYTES;
    for index in 0.. {
        // Attributes, timestamp delta, null key and count of headers are one byte each.
        let body = 4 + varint_bytes(index) + varint_bytes(size) + size;
        total += varint_bytes(body) + body;
        if total > batch_bytes {
            return index.max(1);
        }
    }
    unreachable!("every record takes some bytes")
}

/// Bytes of a zigzag varint.
fn varint_bytes(value: usize) -> usize {
    ((usize::BITS - (value << 1 | 1).leading_zeros()) as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Buf, BytesMut};
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{FetchRequest, ProduceRequest, ProduceResponse, RequestHeader};
    use kafka_protocol::protocol::{Decodable, Encodable};
    use proptest::prelude::*;

    fn header_of(frame: &[u8]) -> (RequestHeader, Bytes) {
        let mut bytes = Bytes::copy_from_slice(frame);
        assert_eq!(bytes.get_i32() as usize, bytes.len());
        let header = RequestHeader::decode(&mut bytes, 1).unwrap();
        (header, bytes)
    }

    #[test]
    fn a_produce_frame_is_what_the_library_reads() {
        let batch = random_batch(3, 10, 1);
        let mut frame = produce("some-topic", 5, -1, &batch);
        patch(&mut frame, 77);
        let (header, mut body) = header_of(&frame);
        assert_eq!((header.request_api_key, header.request_api_version, header.correlation_id), (0, 8, 77));
        let request = ProduceRequest::decode(&mut body, PRODUCE_VERSION).unwrap();
        assert!(body.is_empty());
        assert_eq!(request.acks, -1);
        let data = &request.topic_data[0].partition_data[0];
        assert_eq!((data.index, data.records.as_ref()), (5, Some(&batch)));
    }

    #[test]
    fn patching_changes_the_correlation_id_alone() {
        let before = produce("t", 0, -1, &random_batch(1, 1, 1));
        let mut after = before.clone();
        patch(&mut after, i32::MIN);
        let changed: Vec<usize> = (0..before.len()).filter(|at| before[*at] != after[*at]).collect();
        assert!(changed.iter().all(|at| (8..12).contains(at)), "{changed:?}");
        patch(&mut after, 0);
        assert_eq!(before, after);
    }

    #[test]
    fn a_fetch_frame_is_what_the_library_reads() {
        let (header, mut body) = header_of(&fetch("t", &[(3, 9), (4, 1 << 40)], 100, 50));
        assert_eq!((header.request_api_key, header.request_api_version), (1, 4));
        let request = FetchRequest::decode(&mut body, FETCH_VERSION).unwrap();
        assert!(body.is_empty());
        assert_eq!((request.max_bytes, request.min_bytes, request.replica_id.0), (100, 1, -1));
        let list: Vec<(i32, i64, i32)> = request.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition, p.fetch_offset, p.partition_max_bytes))
            .collect();
        assert_eq!(list, [(3, 9, 50), (4, 1 << 40, 50)]);
    }

    #[test]
    fn the_error_code_is_where_it_is_looked_for() {
        let partition = PartitionProduceResponse::default().with_index(3).with_error_code(87);
        let topic = TopicProduceResponse::default()
            .with_name(crate::cli::client::topic_name("some-topic"))
            .with_partition_responses(vec![partition]);
        let mut answer = BytesMut::new();
        answer.put_i32(1);
        ProduceResponse::default().with_responses(vec![topic]).encode(&mut answer, PRODUCE_VERSION).unwrap();
        let at = produce_error_at("some-topic");
        assert_eq!(answer[at..at + 2], 87i16.to_be_bytes());
    }

    proptest! {
        #[test]
        fn a_batch_fills_its_size_and_no_more(size in 1usize..3_000, batch_bytes in 100usize..70_000) {
            let count = records_that_fit(size, batch_bytes);
            let len = random_batch(count, size, 7).len();
            prop_assert!(len <= batch_bytes || count == 1, "{count} records, {len} bytes");
            prop_assert!(random_batch(count + 1, size, 7).len() > batch_bytes);
        }
    }
}
