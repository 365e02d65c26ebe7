//! One client of the order test: it sends bursts of requests of all kinds without waiting, knows what each must be
//! answered with, and remembers what it appended.

use crate::clock::wall_ms;
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, JoinGroupRequest, LeaveGroupRequest,
    ListOffsetsRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use ringlog_storage::batch::BatchBuilder;
use ringlog_storage::compression::Codec;
use ringlog_tests::client::{Client, frame};
use ringlog_tests::requests::{PRODUCE, create_topic, produce, produced, topic};
use ringlog_tests::rng::Rng;
use std::collections::BTreeMap;

/// A topic's name, partitions and settings.
type Topic = (&'static str, i32, &'static [(&'static str, &'static str)]);

/// Topics of the test with their partitions: as they come, compressed by the broker, answered from memory.
pub const TOPICS: [Topic; 3] = [
    ("plain", 5, &[]),
    ("gzip", 4, &[("compression.type", "gzip")]),
    ("async", 2, &[("ringlog.durability", "async")]),
];
const CREATE: i16 = 5;
const DELETE: i16 = 5;
const COMMIT: i16 = 7;
const FETCH_OFFSETS: i16 = 5;
const JOIN: i16 = 5;
const LEAVE: i16 = 3;
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_MEMBER: i16 = 25;

type Place = (String, i32);

/// What a request must be answered with.
enum Due {
    /// These batches were appended; the number of each one's first record.
    Appended(Vec<(Place, u32)>),
    /// Refused, or appended, in each partition.
    Either(Vec<i16>),
    Versions,
    Listed,
    Created,
    Deleted,
    Committed,
    Offset(i64),
    Joined,
    Left,
}

/// See the module's documentation.
pub struct Peer {
    number: u16,
    client: Client,
    rng: Rng,
    producer: Option<(i64, i16)>,
    /// Records sent to each partition so far.
    sent: BTreeMap<Place, u32>,
    /// The last idempotent batch to each partition: its first record, its bytes.
    last: BTreeMap<Place, (u32, Bytes)>,
    /// Where answers said that a record is.
    placed: Vec<(Place, u32, i64)>,
    committed: i64,
    made: u32,
    value_bytes_max: usize,
    burst: Vec<u8>,
    due: Vec<(i32, Due)>,
    next_id: i32,
}

/// What a peer sent and was told.
pub struct Record {
    /// Who.
    pub peer: u16,
    /// Records sent to each partition.
    pub sent: BTreeMap<Place, u32>,
    /// Where answers said that a record is.
    pub placed: Vec<(Place, u32, i64)>,
}

fn text(text: String) -> StrBytes {
    StrBytes::from_string(text)
}

impl Peer {
    /// Number `number`, over a connection of its own.
    pub fn new(number: u16, mut client: Client, seed: u64, value_bytes_max: usize) -> Peer {
        let rng = Rng::new(seed ^ (u64::from(number) << 32));
        let producer = (number % 2 == 1).then(|| client.producer_id());
        client.find_coordinator(&format!("commits-{number}"));
        // The client numbers its own requests from 1.
        Peer {
            number,
            client,
            rng,
            producer,
            sent: BTreeMap::new(),
            last: BTreeMap::new(),
            placed: Vec::new(),
            committed: 0,
            made: 0,
            value_bytes_max,
            burst: Vec::new(),
            due: Vec::new(),
            next_id: 1 << 20,
        }
    }

    /// Sends `bursts` bursts of about `requests` requests each and checks all answers. At last every partition gets
    /// an append that is waited for: what was sent before without an answer is durable then.
    pub fn run(mut self, bursts: usize, requests: usize) -> Record {
        for _ in 0..bursts {
            while self.due.len() < requests {
                self.add_something();
            }
            self.client.send_raw(&std::mem::take(&mut self.burst)).expect("the broker reads");
            self.check_answers();
        }
        for (name, partitions, _) in TOPICS {
            for partition in 0..partitions {
                self.add_produce(-1, &[(name.to_owned(), partition)]);
            }
        }
        self.client.send_raw(&std::mem::take(&mut self.burst)).expect("the broker reads");
        self.check_answers();
        self.fail_in_silence();
        Record { peer: self.number, sent: self.sent, placed: self.placed }
    }

    fn add<R: Request>(&mut self, request: &R, version: i16, due: Option<Due>) {
        self.next_id += 1;
        self.burst.extend_from_slice(&frame(request, version, self.next_id));
        self.due.extend(due.map(|due| (self.next_id, due)));
    }

    fn add_something(&mut self) {
        match self.rng.below(40) {
            0 => self.add_topic(),
            1..3 => self.add_commit(),
            3 => self.add_membership(),
            4 => self.add(&ApiVersionsRequest::default(), 0, Some(Due::Versions)),
            5 => {
                let request = ListOffsetsRequest::default().with_replica_id((-1).into());
                self.add(&request, 7, Some(Due::Listed));
            }
            6 if self.producer.is_some() => self.add_again(),
            _ => {
                let mut places: Vec<Place> = Vec::new();
                for _ in 0..1 + self.rng.below(3) {
                    let (name, partitions, _) = TOPICS[self.rng.below(TOPICS.len())];
                    let place = (name.to_owned(), self.rng.below(partitions as usize) as i32);
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
                places.sort_unstable();
                let acks = [0, 1, -1][self.rng.below(3)];
                self.add_produce(acks, &places);
            }
        }
    }

    fn batch(&mut self, place: &Place) -> (u32, Bytes) {
        let codec = [Codec::None, Codec::None, Codec::Gzip, Codec::Lz4, Codec::Snappy][self.rng.below(5)];
        let sent = self.sent.entry(place.clone()).or_insert(0);
        let first = *sent;
        let mut batch = BatchBuilder::new(codec);
        if let Some((id, epoch)) = self.producer {
            batch = batch.producer(id, epoch, first as i32);
        }
        for _ in 0..1 + self.rng.below(3) {
            let mut value = self.number.to_be_bytes().to_vec();
            value.extend_from_slice(&sent.to_be_bytes());
            let size = if self.rng.below(20) == 0 { self.value_bytes_max } else { 100 };
            let filler = self.rng.below(size);
            value.extend(self.rng.bytes(filler));
            batch.push(wall_ms(), None, Some(&value), &[]);
            *sent += 1;
        }
        (first, Bytes::from(batch.build(0, -1)))
    }

    fn add_produce(&mut self, acks: i16, places: &[Place]) {
        let batches: Vec<(u32, Bytes)> = places.iter().map(|place| self.batch(place)).collect();
        let parts = places.iter().zip(&batches);
        let parts: Vec<_> = parts.map(|((name, p), (_, batch))| (name.as_str(), *p, batch.clone())).collect();
        let due = places.iter().cloned().zip(batches.iter().map(|(first, _)| *first)).collect();
        self.add(&produce(acks, &parts), PRODUCE, (acks != 0).then_some(Due::Appended(due)));
        self.last.extend(places.iter().cloned().zip(batches));
    }

    /// The last batch of a partition once more: a duplicate is answered like its original.
    fn add_again(&mut self) {
        if self.last.is_empty() {
            return;
        }
        let at = self.rng.below(self.last.len());
        let (place, (first, batch)) = self.last.iter().nth(at).expect("it is below the number of them");
        let (place, first, parts) = (place.clone(), *first, [(place.0.as_str(), place.1, batch.clone())]);
        let request = produce(-1, &parts);
        self.add(&request, PRODUCE, Some(Due::Appended(vec![(place, first)])));
    }

    /// A topic is made, used, deleted, missed, and made again, without waiting for any of it.
    fn add_topic(&mut self) {
        self.made += 1;
        let name = format!("made-{}-{}", self.number, self.made);
        let batch = |n: u8| {
            let mut batch = BatchBuilder::new(Codec::None);
            batch.push(wall_ms(), None, Some(&[n]), &[]);
            Bytes::from(batch.build(0, -1))
        };
        let everywhere =
            |acks| produce(acks, &[(&name, 0, batch(1)), (&name, 1, batch(2)), (&name, 2, batch(3))]);
        let places = (0..3).map(|p| ((name.clone(), p), 0)).collect();
        self.add(&create_topic(&name, 3, &[]), CREATE, Some(Due::Created));
        self.add(&everywhere(1), PRODUCE, Some(Due::Either(vec![0, UNKNOWN_TOPIC])));
        self.add(&everywhere(0), PRODUCE, None);
        let delete =
            DeleteTopicsRequest::default().with_topic_names(vec![topic(&name)]).with_timeout_ms(30_000);
        self.add(&delete, DELETE, Some(Due::Deleted));
        self.add(&everywhere(-1), PRODUCE, Some(Due::Either(vec![UNKNOWN_TOPIC])));
        self.add(&create_topic(&name, 3, &[]), CREATE, Some(Due::Created));
        self.add(&everywhere(-1), PRODUCE, Some(Due::Appended(places)));
    }

    /// Offsets are committed and fetched, twice: each fetch tells what the commit before it said.
    fn add_commit(&mut self) {
        let group = || text(format!("commits-{}", self.number)).into();
        let (mut commits, number) = (Vec::new(), self.rng.below(3) as i32);
        for _ in 0..2 {
            self.committed += 1;
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(number)
                .with_committed_offset(self.committed);
            let named = OffsetCommitRequestTopic::default()
                .with_name(topic("plain"))
                .with_partitions(vec![partition]);
            let commit = OffsetCommitRequest::default()
                .with_group_id(group())
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![named]);
            commits.push((commit, self.committed));
        }
        let named =
            OffsetFetchRequestTopic::default().with_name(topic("plain")).with_partition_indexes(vec![number]);
        let fetch = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![named]));
        for (commit, offset) in commits {
            self.add(&commit, COMMIT, Some(Due::Committed));
            self.add(&fetch, FETCH_OFFSETS, Some(Due::Offset(offset)));
        }
    }

    /// A member joins and leaves: it can only leave when it has joined.
    fn add_membership(&mut self) {
        let (group, instance) = (format!("members-{}", self.number), text("instance".to_owned()));
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range".to_owned()));
        let join = JoinGroupRequest::default()
            .with_group_id(text(group.clone()).into())
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_group_instance_id(Some(instance.clone()))
            .with_protocol_type(text("consumer".to_owned()))
            .with_protocols(vec![protocol]);
        let member = MemberIdentity::default().with_group_instance_id(Some(instance));
        let leave = LeaveGroupRequest::default().with_group_id(text(group).into()).with_members(vec![member]);
        self.add(&join, JOIN, Some(Due::Joined));
        self.add(&leave, LEAVE, Some(Due::Left));
    }

    fn check_answers(&mut self) {
        for (id, due) in std::mem::take(&mut self.due) {
            let client = &mut self.client;
            match due {
                Due::Appended(batches) => {
                    let found = produced(&client.receive::<ProduceRequest>(PRODUCE, id));
                    assert_eq!(found.len(), batches.len());
                    for ((place, first), (error, base)) in batches.into_iter().zip(found) {
                        assert_eq!(error, 0, "an append to {place:?}");
                        self.placed.push((place, first, base));
                    }
                }
                Due::Either(codes) => {
                    let found = produced(&client.receive::<ProduceRequest>(PRODUCE, id));
                    assert!(found.iter().all(|(error, _)| codes.contains(error)), "{found:?}, not {codes:?}");
                }
                Due::Versions => assert_eq!(client.receive::<ApiVersionsRequest>(0, id).error_code, 0),
                Due::Listed => assert!(client.receive::<ListOffsetsRequest>(7, id).topics.is_empty()),
                Due::Created => {
                    assert_eq!(client.receive::<CreateTopicsRequest>(CREATE, id).topics[0].error_code, 0);
                }
                Due::Deleted => {
                    assert_eq!(client.receive::<DeleteTopicsRequest>(DELETE, id).responses[0].error_code, 0);
                }
                Due::Committed => {
                    let answer = client.receive::<OffsetCommitRequest>(COMMIT, id);
                    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
                }
                Due::Offset(offset) => {
                    let answer = client.receive::<OffsetFetchRequest>(FETCH_OFFSETS, id);
                    let found = &answer.topics[0].partitions[0];
                    assert_eq!((found.error_code, found.committed_offset), (0, offset));
                }
                Due::Joined => {
                    let error = client.receive::<JoinGroupRequest>(JOIN, id).error_code;
                    assert!([0, UNKNOWN_MEMBER].contains(&error), "joining: {error}");
                }
                Due::Left => {
                    let answer = client.receive::<LeaveGroupRequest>(LEAVE, id);
                    assert_eq!((answer.error_code, answer.members[0].error_code), (0, 0), "leaving");
                }
            }
        }
    }

    /// An append without an answer that fails closes the connection; one behind it is not answered.
    fn fail_in_silence(&mut self) {
        let place = ("plain".to_owned(), 0);
        let before = self.sent[&place];
        let mut damaged = self.batch(&place).1.to_vec();
        self.sent.insert(place, before);
        *damaged.last_mut().expect("a batch has bytes") ^= 1;
        let damaged = Bytes::from(damaged);
        self.add(&produce(0, &[("plain", 0, damaged.clone())]), PRODUCE, None);
        self.add(&produce(-1, &[("plain", 0, damaged)]), PRODUCE, None);
        self.client.send_raw(&std::mem::take(&mut self.burst)).expect("the broker reads");
        assert!(self.client.is_closed(), "a silent append failed and the connection goes on");
    }
}
