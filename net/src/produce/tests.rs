//! The decoder and the encoder of Produce against those of `kafka-protocol`, for every version.

use super::*;
use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response as reply;
use kafka_protocol::messages::{self, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

type Tags = BTreeMap<i32, Bytes>;

fn text() -> impl Strategy<Value = StrBytes> {
    prop_oneof![".{0,12}", "[a-z]{100,200}"].prop_map(StrBytes::from_string)
}

fn tags(flexible: bool) -> impl Strategy<Value = Tags> {
    let value = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop::collection::btree_map(100..i32::MAX, value, 0..=if flexible { 2 } else { 0 })
}

fn partition(flexible: bool) -> impl Strategy<Value = PartitionProduceData> {
    let records = prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from));
    (any::<i32>(), records, tags(flexible)).prop_map(|(index, records, tags)| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(records)
            .with_unknown_tagged_fields(tags)
    })
}

fn topic(version: i16) -> impl Strategy<Value = TopicProduceData> {
    let flexible = version >= FLEXIBLE_SINCE;
    let partitions = prop::collection::vec(partition(flexible), 0..4);
    (text(), any::<u128>(), partitions, tags(flexible)).prop_map(move |(name, id, partitions, tags)| {
        let topic =
            TopicProduceData::default().with_partition_data(partitions).with_unknown_tagged_fields(tags);
        if version >= TOPIC_IDS_SINCE {
            topic.with_topic_id(Uuid::from_u128(id))
        } else {
            topic.with_name(TopicName(name))
        }
    })
}

fn request() -> impl Strategy<Value = (i16, messages::ProduceRequest)> {
    (VERSION_MIN..=VERSION_MAX).prop_flat_map(|version| {
        let topics = prop::collection::vec(topic(version), 0..4);
        (prop::option::of(text()), any::<i16>(), any::<i32>(), topics, tags(version >= FLEXIBLE_SINCE))
            .prop_map(move |(transactional_id, acks, timeout_ms, topics, tags)| {
                let request = messages::ProduceRequest::default()
                    .with_transactional_id(transactional_id.map(Into::into))
                    .with_acks(acks)
                    .with_timeout_ms(timeout_ms)
                    .with_topic_data(topics)
                    .with_unknown_tagged_fields(tags);
                (version, request)
            })
    })
}

fn encoded(version: i16, request: &messages::ProduceRequest) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body, version).unwrap();
    body
}

fn assert_same(version: i16, ours: &ProduceRequest<'_>, theirs: &messages::ProduceRequest) {
    assert_eq!(ours.transactional_id, theirs.transactional_id.as_ref().map(|id| id.as_str()));
    assert_eq!((ours.acks, ours.timeout_ms), (theirs.acks, theirs.timeout_ms));
    assert_eq!(ours.topics().len(), theirs.topic_data.len());
    let partitions: usize = theirs.topic_data.iter().map(|topic| topic.partition_data.len()).sum();
    assert_eq!(ours.partition_count as usize, partitions);
    for (ours, theirs) in ours.topics().zip(&theirs.topic_data) {
        let named = TopicRef::Name(theirs.name.as_str());
        let topic = if version >= TOPIC_IDS_SINCE { TopicRef::Id(theirs.topic_id) } else { named };
        assert_eq!(ours.topic, topic);
        assert_eq!(ours.partitions.len(), theirs.partition_data.len());
        for (ours, theirs) in ours.partitions.zip(&theirs.partition_data) {
            assert_eq!((ours.index, ours.records), (theirs.index, theirs.records.as_deref()));
        }
    }
}

#[test]
fn versions_that_kafka_closes_the_connection_on_are_not_served() {
    for version in [-1, 0, 1, 2, 14] {
        let error = ProduceRequest::decode(version, &[0; 64]).unwrap_err();
        assert_eq!(error, GuardError { field: "request_api_version", cause: Cause::NotServed });
    }
}

#[test]
fn the_number_of_partitions_is_bounded() {
    let body = |count: u32| {
        let partitions = vec![PartitionProduceData::default().with_records(None); count as usize];
        let topic = TopicProduceData::default().with_partition_data(partitions);
        encoded(9, &messages::ProduceRequest::default().with_topic_data(vec![topic]))
    };
    let taken = body(PARTITIONS_MAX);
    assert_eq!(ProduceRequest::decode(9, &taken).unwrap().partition_count, PARTITIONS_MAX);
    let error = ProduceRequest::decode(9, &body(PARTITIONS_MAX + 1)).unwrap_err();
    assert_eq!(error.cause, Cause::TooMany { count: PARTITIONS_MAX + 1, max: PARTITIONS_MAX });
}

#[test]
fn records_lie_in_the_frame() {
    let partition = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"batch")));
    let topic = TopicProduceData::default().with_partition_data(vec![partition]);
    let body = Bytes::from(encoded(9, &messages::ProduceRequest::default().with_topic_data(vec![topic])));
    let request = ProduceRequest::decode(9, &body).unwrap();
    let records = request.topics().next().unwrap().partitions.next().unwrap().records.unwrap();
    assert_eq!(body.slice_ref(records), "batch");
}

fn result(version: i16) -> impl Strategy<Value = PartitionResult> {
    let message = || prop::option::of(".{0,30}");
    let errors = prop::collection::vec((any::<i32>(), message()), 0..3);
    let leader = prop::option::of((any::<i32>(), any::<i32>()));
    (any::<[i64; 3]>(), any::<i32>(), any::<i16>(), errors, message(), leader).prop_map(
        move |(offsets, index, error_code, record_errors, error_message, leader)| PartitionResult {
            index,
            error_code,
            base_offset: offsets[0],
            log_append_time_ms: offsets[1],
            log_start_offset: offsets[2],
            record_errors,
            error_message,
            // The library writes a leader of -1 as none.
            current_leader: leader.filter(|leader| version >= 10 && *leader != (-1, -1)),
        },
    )
}

type Results = Vec<(String, u128, Vec<PartitionResult>)>;
type Endpoints = Vec<(i32, String, i32, Option<String>)>;

fn answer() -> impl Strategy<Value = (i16, Results, Endpoints)> {
    (VERSION_MIN..=VERSION_MAX).prop_flat_map(|version| {
        let topic = (".{0,20}", any::<u128>(), prop::collection::vec(result(version), 0..4));
        let endpoint = (any::<i32>(), ".{0,20}", any::<i32>(), prop::option::of(".{0,5}"));
        (Just(version), prop::collection::vec(topic, 0..4), prop::collection::vec(endpoint, 0..3))
    })
}

fn topic_ref<'a>(version: i16, name: &'a str, id: u128) -> TopicRef<'a> {
    if version >= TOPIC_IDS_SINCE { TopicRef::Id(Uuid::from_u128(id)) } else { TopicRef::Name(name) }
}

fn as_library(version: i16, result: &PartitionResult) -> reply::PartitionProduceResponse {
    let str_bytes = |text: &String| StrBytes::from_string(text.clone());
    let mut partition = reply::PartitionProduceResponse::default()
        .with_index(result.index)
        .with_error_code(result.error_code)
        .with_base_offset(result.base_offset)
        .with_log_append_time_ms(result.log_append_time_ms);
    if version >= 5 {
        partition = partition.with_log_start_offset(result.log_start_offset);
    }
    if version >= 8 {
        let error = |(index, message): &(i32, Option<String>)| {
            reply::BatchIndexAndErrorMessage::default()
                .with_batch_index(*index)
                .with_batch_index_error_message(message.as_ref().map(str_bytes))
        };
        partition = partition
            .with_record_errors(result.record_errors.iter().map(error).collect())
            .with_error_message(result.error_message.as_ref().map(str_bytes));
    }
    if let Some((id, epoch)) = result.current_leader {
        let leader = reply::LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch);
        partition = partition.with_current_leader(leader);
    }
    partition
}

fn expected(version: i16, results: &Results, endpoints: &Endpoints) -> messages::ProduceResponse {
    let topics = results.iter().map(|(name, id, partitions)| {
        let partitions = partitions.iter().map(|result| as_library(version, result)).collect();
        let topic = reply::TopicProduceResponse::default().with_partition_responses(partitions);
        match topic_ref(version, name, *id) {
            TopicRef::Name(name) => topic.with_name(TopicName(StrBytes::from_string(name.to_owned()))),
            TopicRef::Id(id) => topic.with_topic_id(id),
        }
    });
    let endpoints = endpoints.iter().filter(|_| version >= 10).map(|(id, host, port, rack)| {
        reply::NodeEndpoint::default()
            .with_node_id((*id).into())
            .with_host(StrBytes::from_string(host.clone()))
            .with_port(*port)
            .with_rack(rack.clone().map(StrBytes::from_string))
    });
    messages::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(77)
        .with_node_endpoints(endpoints.collect())
}

fn write(buf: &mut BytesMut, version: i16, results: &Results, endpoints: &Endpoints) {
    let mut writer = ProduceResponseWriter::new(buf, version, -5, results.len());
    for (name, id, partitions) in results {
        writer.topic(topic_ref(version, name, *id), partitions.len());
        partitions.iter().for_each(|result| writer.partition(result));
    }
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(node_id, host, port, rack)| NodeEndpoint {
            node_id: *node_id,
            host,
            port: *port,
            rack: rack.as_deref(),
        })
        .collect();
    writer.finish(77, &endpoints);
}

#[test]
#[should_panic(expected = "topics or partitions are missing")]
fn a_response_without_all_its_partitions_is_a_bug() {
    let mut buf = BytesMut::new();
    let mut writer = ProduceResponseWriter::new(&mut buf, 9, 1, 1);
    writer.topic(TopicRef::Name("t"), 2);
    writer.partition(&PartitionResult::error(0, 3, None));
    writer.finish(0, &[]);
}

proptest! {
    #[test]
    fn requests_are_read_as_the_library_writes_them(
        (version, request) in request(), behind in prop::collection::vec(any::<u8>(), 0..3)
    ) {
        let mut body = encoded(version, &request);
        body.extend(behind);
        assert_same(version, &ProduceRequest::decode(version, &body).unwrap(), &request);
    }

    #[test]
    fn a_request_that_is_cut_is_refused((version, request) in request(), cut: prop::sample::Index) {
        let body = encoded(version, &request);
        let cut = cut.index(body.len());
        prop_assert!(ProduceRequest::decode(version, &body[..cut]).is_err());
    }

    #[test]
    fn mutated_requests_are_read_as_the_library_reads_them(
        (version, request) in request(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = encoded(version, &request);
        for (at, value) in changes {
            let at = at.index(body.len());
            body[at] = value;
        }
        if let Ok(ours) = ProduceRequest::decode(version, &body) {
            let theirs = messages::ProduceRequest::decode(&mut Bytes::from(body.clone()), version).unwrap();
            assert_same(version, &ours, &theirs);
        }
    }

    #[test]
    fn responses_are_written_as_the_library_writes_them((version, results, endpoints) in answer()) {
        let mut buf = BytesMut::from(&b"another frame"[..]);
        write(&mut buf, version, &results, &endpoints);
        let mut theirs = BytesMut::new();
        let header_version = i16::from(version >= FLEXIBLE_SINCE);
        ResponseHeader::default().with_correlation_id(-5).encode(&mut theirs, header_version).unwrap();
        expected(version, &results, &endpoints).encode(&mut theirs, version).unwrap();
        prop_assert_eq!(&buf[13..17], (theirs.len() as i32).to_be_bytes());
        prop_assert_eq!(&buf[17..], &theirs[..]);
    }
}
