//! The decoder and the encoder of Fetch against those of `kafka-protocol`, for every version.

use super::*;
use crate::wire::{Cause, NodeEndpoint, TopicRef};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request as ask;
use kafka_protocol::messages::fetch_response as reply;
use kafka_protocol::messages::{self, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

fn text() -> impl Strategy<Value = StrBytes> {
    prop_oneof![".{0,12}", "[a-z]{100,200}"].prop_map(StrBytes::from_string)
}

fn tags(version: i16) -> impl Strategy<Value = BTreeMap<i32, Bytes>> {
    let value = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop::collection::btree_map(100..i32::MAX, value, 0..=if version >= FLEXIBLE_SINCE { 2 } else { 0 })
}

fn partition(version: i16) -> impl Strategy<Value = ask::FetchPartition> {
    (any::<[i32; 4]>(), any::<[i64; 3]>(), any::<bool>(), any::<u128>(), tags(version)).prop_map(
        move |(ints, longs, tagged, directory, tags)| {
            let mut partition = ask::FetchPartition::default()
                .with_partition(ints[0])
                .with_fetch_offset(longs[0])
                .with_partition_max_bytes(ints[1])
                .with_unknown_tagged_fields(tags);
            if version >= 5 {
                partition = partition.with_log_start_offset(longs[1]);
            }
            if version >= 9 {
                partition = partition.with_current_leader_epoch(ints[2]);
            }
            if version >= 12 {
                partition = partition.with_last_fetched_epoch(ints[3]);
            }
            if version >= 17 && tagged {
                partition = partition.with_replica_directory_id(Uuid::from_u128(directory));
            }
            if version >= 18 && tagged {
                partition = partition.with_high_watermark(longs[2]);
            }
            partition
        },
    )
}

fn topic(version: i16) -> impl Strategy<Value = ask::FetchTopic> {
    let partitions = prop::collection::vec(partition(version), 0..4);
    (text(), any::<u128>(), partitions, tags(version)).prop_map(move |(name, id, partitions, tags)| {
        let topic = ask::FetchTopic::default().with_partitions(partitions).with_unknown_tagged_fields(tags);
        if version >= TOPIC_IDS_SINCE {
            topic.with_topic_id(Uuid::from_u128(id))
        } else {
            topic.with_topic(TopicName(name))
        }
    })
}

fn forgotten(version: i16) -> impl Strategy<Value = ask::ForgottenTopic> {
    let partitions = prop::collection::vec(any::<i32>(), 0..4);
    (text(), any::<u128>(), partitions, tags(version)).prop_map(move |(name, id, partitions, tags)| {
        let topic =
            ask::ForgottenTopic::default().with_partitions(partitions).with_unknown_tagged_fields(tags);
        if version >= TOPIC_IDS_SINCE {
            topic.with_topic_id(Uuid::from_u128(id))
        } else {
            topic.with_topic(TopicName(name))
        }
    })
}

fn request() -> impl Strategy<Value = (i16, messages::FetchRequest)> {
    (VERSION_MIN..=VERSION_MAX).prop_flat_map(|version| {
        let topics = prop::collection::vec(topic(version), 0..4);
        let forgotten = prop::collection::vec(forgotten(version), 0..=if version >= 7 { 3 } else { 0 });
        let scalars = (any::<[i32; 6]>(), any::<i64>(), any::<i8>());
        (scalars, prop::option::of(text()), text(), topics, forgotten, tags(version)).prop_map(
            move |((ints, epoch, isolation), cluster, rack, topics, forgotten, tags)| {
                let mut request = messages::FetchRequest::default()
                    .with_max_wait_ms(ints[0])
                    .with_min_bytes(ints[1])
                    .with_max_bytes(ints[2])
                    .with_isolation_level(isolation)
                    .with_topics(topics)
                    .with_forgotten_topics_data(forgotten)
                    .with_unknown_tagged_fields(tags);
                if version < 15 {
                    request = request.with_replica_id(ints[3].into());
                } else {
                    let state = ask::ReplicaState::default()
                        .with_replica_id(ints[3].into())
                        .with_replica_epoch(epoch);
                    request = request.with_replica_state(state);
                }
                if version >= 7 {
                    request = request.with_session_id(ints[4]).with_session_epoch(ints[5]);
                }
                if version >= 11 {
                    request = request.with_rack_id(rack);
                }
                if version >= 12 {
                    request = request.with_cluster_id(cluster);
                }
                (version, request)
            },
        )
    })
}

fn encoded(version: i16, request: &messages::FetchRequest) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body, version).unwrap();
    body
}

fn topic_ref<'a>(version: i16, name: &'a str, id: Uuid) -> TopicRef<'a> {
    if version >= TOPIC_IDS_SINCE { TopicRef::Id(id) } else { TopicRef::Name(name) }
}

fn assert_same(version: i16, ours: &FetchRequest<'_>, theirs: &messages::FetchRequest) {
    let state = &theirs.replica_state;
    let replica_id = if version >= 15 { state.replica_id } else { theirs.replica_id };
    assert_eq!((ours.replica_id, ours.replica_epoch), (replica_id.0, state.replica_epoch));
    assert_eq!(ours.cluster_id, theirs.cluster_id.as_deref());
    assert_eq!((ours.max_wait_ms, ours.min_bytes), (theirs.max_wait_ms, theirs.min_bytes));
    assert_eq!((ours.max_bytes, ours.isolation_level), (theirs.max_bytes, theirs.isolation_level));
    assert_eq!((ours.session_id, ours.session_epoch), (theirs.session_id, theirs.session_epoch));
    assert_eq!(ours.rack_id, theirs.rack_id.as_str());
    let partitions: usize = theirs.topics.iter().map(|topic| topic.partitions.len()).sum();
    assert_eq!(ours.partition_count as usize, partitions);
    assert_eq!(ours.topics().len(), theirs.topics.len());
    for (ours, theirs) in ours.topics().zip(&theirs.topics) {
        assert_eq!(ours.topic, topic_ref(version, &theirs.topic, theirs.topic_id));
        let theirs = theirs.partitions.iter().map(|partition| FetchPartition {
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            fetch_offset: partition.fetch_offset,
            last_fetched_epoch: partition.last_fetched_epoch,
            log_start_offset: partition.log_start_offset,
            partition_max_bytes: partition.partition_max_bytes,
            replica_directory_id: partition.replica_directory_id,
            high_watermark: partition.high_watermark,
        });
        assert_eq!(ours.partitions.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    }
    assert_eq!(ours.forgotten_topics().len(), theirs.forgotten_topics_data.len());
    for (ours, theirs) in ours.forgotten_topics().zip(&theirs.forgotten_topics_data) {
        assert_eq!(ours.topic, topic_ref(version, &theirs.topic, theirs.topic_id));
        assert_eq!(ours.partitions.collect::<Vec<_>>(), theirs.partitions);
    }
}

#[test]
fn versions_without_a_decoder_are_not_served() {
    for version in [-1, 3, 19] {
        assert_eq!(FetchRequest::decode(version, &[0; 64]).unwrap_err().cause, Cause::NotServed);
    }
}

#[test]
fn the_number_of_partitions_is_bounded() {
    let body = |fetched: u32, forgotten: u32| {
        let partitions = vec![ask::FetchPartition::default(); fetched as usize];
        let topic = ask::FetchTopic::default().with_partitions(partitions);
        let forgotten = ask::ForgottenTopic::default().with_partitions(vec![0; forgotten as usize]);
        let request = messages::FetchRequest::default().with_topics(vec![topic]);
        encoded(12, &request.with_forgotten_topics_data(vec![forgotten]))
    };
    let taken = body(PARTITIONS_MAX - 1, 1);
    assert_eq!(FetchRequest::decode(12, &taken).unwrap().partition_count, PARTITIONS_MAX - 1);
    for refused in [body(PARTITIONS_MAX + 1, 0), body(PARTITIONS_MAX, 1)] {
        let cause = Cause::TooMany { count: PARTITIONS_MAX + 1, max: PARTITIONS_MAX };
        assert_eq!(FetchRequest::decode(12, &refused).unwrap_err().cause, cause);
    }
}

fn data(version: i16) -> impl Strategy<Value = PartitionData<Bytes>> {
    let pair = || prop::option::of((any::<i32>(), any::<i32>()));
    let aborted = prop::option::of(prop::collection::vec((any::<i64>(), any::<i64>()), 0..3));
    let slice = prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let records = prop::collection::vec(slice, 0..3);
    (any::<[i64; 3]>(), any::<[i32; 2]>(), any::<i16>(), (pair(), pair()), aborted, records).prop_map(
        move |(offsets, ints, error_code, (diverging, leader), aborted, records)| PartitionData {
            index: ints[0],
            error_code,
            high_watermark: offsets[0],
            last_stable_offset: offsets[1],
            log_start_offset: offsets[2],
            // The library writes -1 and -1 as none.
            diverging_epoch: diverging
                .map(|(epoch, offset)| (epoch, i64::from(offset)))
                .filter(|pair| version >= 12 && *pair != (-1, -1)),
            current_leader: leader.filter(|pair| version >= 12 && *pair != (-1, -1)),
            aborted_transactions: aborted,
            preferred_read_replica: ints[1],
            records,
        },
    )
}

type Topics = Vec<(String, u128, Vec<PartitionData<Bytes>>)>;
type Endpoints = Vec<(i32, String, i32, Option<String>)>;

fn answer() -> impl Strategy<Value = (i16, FetchResponseHead, Topics, Endpoints)> {
    (VERSION_MIN..=VERSION_MAX).prop_flat_map(|version| {
        let topic = (".{0,20}", any::<u128>(), prop::collection::vec(data(version), 0..4));
        let endpoint = (any::<i32>(), ".{0,20}", any::<i32>(), prop::option::of(".{0,5}"));
        let head = (any::<[i32; 3]>(), any::<i16>()).prop_map(|(ints, error_code)| FetchResponseHead {
            correlation_id: ints[0],
            throttle_time_ms: ints[1],
            error_code,
            session_id: ints[2],
        });
        (Just(version), head, prop::collection::vec(topic, 0..4), prop::collection::vec(endpoint, 0..3))
    })
}

fn as_library(version: i16, data: &PartitionData<Bytes>) -> reply::PartitionData {
    let transaction = |(producer_id, first_offset): &(i64, i64)| {
        reply::AbortedTransaction::default()
            .with_producer_id((*producer_id).into())
            .with_first_offset(*first_offset)
    };
    let aborted = data.aborted_transactions.as_ref().map(|all| all.iter().map(transaction).collect());
    let mut partition = reply::PartitionData::default()
        .with_partition_index(data.index)
        .with_error_code(data.error_code)
        .with_high_watermark(data.high_watermark)
        .with_last_stable_offset(data.last_stable_offset)
        .with_aborted_transactions(aborted)
        .with_records(Some(data.records.concat().into()));
    if version >= 5 {
        partition = partition.with_log_start_offset(data.log_start_offset);
    }
    if version >= 11 {
        partition = partition.with_preferred_read_replica(data.preferred_read_replica.into());
    }
    if let Some((epoch, end_offset)) = data.diverging_epoch {
        let diverging = reply::EpochEndOffset::default().with_epoch(epoch).with_end_offset(end_offset);
        partition = partition.with_diverging_epoch(diverging);
    }
    if let Some((id, epoch)) = data.current_leader {
        let leader = reply::LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch);
        partition = partition.with_current_leader(leader);
    }
    partition
}

/// The frame that the library would send, without its length.
fn expected(version: i16, head: &FetchResponseHead, topics: &Topics, endpoints: &Endpoints) -> BytesMut {
    let topics = topics.iter().map(|(name, id, partitions)| {
        let partitions = partitions.iter().map(|data| as_library(version, data)).collect();
        let topic = reply::FetchableTopicResponse::default().with_partitions(partitions);
        match topic_ref(version, name, Uuid::from_u128(*id)) {
            TopicRef::Name(name) => topic.with_topic(TopicName(StrBytes::from_string(name.to_owned()))),
            TopicRef::Id(id) => topic.with_topic_id(id),
        }
    });
    let endpoints = endpoints.iter().filter(|_| version >= 16).map(|(id, host, port, rack)| {
        reply::NodeEndpoint::default()
            .with_node_id((*id).into())
            .with_host(StrBytes::from_string(host.clone()))
            .with_port(*port)
            .with_rack(rack.clone().map(StrBytes::from_string))
    });
    let mut response = messages::FetchResponse::default()
        .with_throttle_time_ms(head.throttle_time_ms)
        .with_responses(topics.collect())
        .with_node_endpoints(endpoints.collect());
    if version >= 7 {
        response = response.with_error_code(head.error_code).with_session_id(head.session_id);
    }
    let mut frame = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(head.correlation_id);
    header.encode(&mut frame, i16::from(version >= FLEXIBLE_SINCE)).unwrap();
    response.encode(&mut frame, version).unwrap();
    frame
}

fn write(
    version: i16,
    head: FetchResponseHead,
    topics: &Topics,
    endpoints: &Endpoints,
) -> FetchResponse<Bytes> {
    let mut writer = FetchResponseWriter::new(version, head, topics.len());
    for (name, id, partitions) in topics {
        writer.topic(topic_ref(version, name, Uuid::from_u128(*id)), partitions.len());
        partitions.iter().for_each(|data| writer.partition(data.clone()));
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
    writer.finish(&endpoints)
}

#[test]
fn records_are_parts_of_their_own() {
    let head = FetchResponseHead { correlation_id: 1, throttle_time_ms: 0, error_code: 0, session_id: 0 };
    let mut writer = FetchResponseWriter::new(13, head, 1);
    writer.topic(TopicRef::Id(Uuid::from_u128(7)), 2);
    let records = vec![Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"two")];
    writer.partition(PartitionData { error_code: 0, records, ..PartitionData::error(0, 0) });
    writer.partition(PartitionData::error(1, 3));
    let response = writer.finish(&[]);
    let [Part::Bytes(_), Part::Records(one), Part::Records(two), Part::Bytes(_)] = response.parts() else {
        panic!("{response:?}");
    };
    assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
}

#[test]
#[should_panic(expected = "no more partitions than were announced")]
fn more_partitions_than_announced_are_a_bug() {
    let head = FetchResponseHead { correlation_id: 1, throttle_time_ms: 0, error_code: 0, session_id: 0 };
    let mut writer = FetchResponseWriter::<Bytes>::new(4, head, 1);
    writer.topic(TopicRef::Name("t"), 0);
    writer.partition(PartitionData::error(0, 3));
}

proptest! {
    #[test]
    fn requests_are_read_as_the_library_writes_them(
        (version, request) in request(), behind in prop::collection::vec(any::<u8>(), 0..3)
    ) {
        let mut body = encoded(version, &request);
        body.extend(behind);
        assert_same(version, &FetchRequest::decode(version, &body).unwrap(), &request);
    }

    #[test]
    fn a_request_that_is_cut_is_refused((version, request) in request(), cut: prop::sample::Index) {
        let body = encoded(version, &request);
        let cut = cut.index(body.len());
        prop_assert!(FetchRequest::decode(version, &body[..cut]).is_err());
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
        if let Ok(ours) = FetchRequest::decode(version, &body) {
            let theirs = messages::FetchRequest::decode(&mut Bytes::from(body.clone()), version).unwrap();
            assert_same(version, &ours, &theirs);
        }
    }

    #[test]
    fn responses_are_written_as_the_library_writes_them((version, head, topics, endpoints) in answer()) {
        let response = write(version, head, &topics, &endpoints);
        let mut ours = BytesMut::new();
        for part in response.parts() {
            let (Part::Bytes(bytes) | Part::Records(bytes)) = part;
            prop_assert!(!bytes.is_empty());
            ours.extend_from_slice(bytes);
        }
        let theirs = expected(version, &head, &topics, &endpoints);
        prop_assert_eq!(response.size(), ours.len());
        prop_assert_eq!(&ours[..4], (theirs.len() as i32).to_be_bytes());
        prop_assert_eq!(&ours[4..], &theirs[..]);
    }
}
