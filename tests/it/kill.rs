//! kill -9 under load: what was acknowledged is there afterwards, in order, at its offset, byte for byte.
//!
//! A folder lives through several lives under different numbers of shards. In each life several connections pipeline
//! batches, plain and idempotent, small and large, over all partitions; after a random number of acknowledgements
//! the broker is killed. The next life reads everything back before it goes on.
//!
//! `RINGLOG_KILL_ROUNDS` kills (5 by default) are spread over folders of `LIVES` lives.

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest};
use kafka_protocol::protocol::StrBytes;
use ringlog_tests::broker::{Broker, Start, folder};
use ringlog_tests::client::{Client, decode, frame, read_frame};
use ringlog_tests::requests::{
    KEPT_FROM, PRODUCE, Stored, batch, is_coordinator_coming, produce, produced, topic,
};
use ringlog_tests::rng::Rng;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};

const LIVES: usize = 5;
const WRITERS: usize = 4;
/// Requests in flight on each connection.
const WINDOW: usize = 32;
const ACKS_BEFORE_KILL_MAX: usize = 1500;
/// Records are stamped with a fixed time in the past: time must not delete them.
/// A topic's name, its partitions and its settings.
type TopicPlan = (&'static str, i32, &'static [(&'static str, &'static str)]);

const TOPICS: &[TopicPlan] = &[
    ("plain", 6, &[("retention.ms", "-1")]),
    ("rolling", 3, &[("retention.ms", "-1"), ("segment.bytes", "1048576")]),
];
const GROUP: &str = "readers";

/// A partition.
type Place = (&'static str, i32);

/// Names a batch: its bytes follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Id {
    seed: u64,
    records: usize,
    value_bytes: usize,
    producer: Option<(i64, i16, i32)>,
}

impl Id {
    fn batch(&self) -> Bytes {
        let mut rng = Rng::new(self.seed);
        let values: Vec<Vec<u8>> = (0..self.records).map(|_| rng.bytes(self.value_bytes)).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        batch(&values, 1_700_000_000_000, self.producer)
    }

    /// What finds it again: the CRC and what follows in the header do not change on the way.
    fn mark(batch: &[u8]) -> [u8; 45] {
        batch[KEPT_FROM..KEPT_FROM + 45].try_into().unwrap()
    }
}

/// What one writer sent to one partition in one life, in order, and the offsets it was told.
#[derive(Default)]
struct Written {
    sent: Vec<Id>,
    acknowledged: Vec<i64>,
}

/// All writers of all lives.
type History = BTreeMap<Place, Vec<Written>>;

struct Writer {
    stream: std::net::TcpStream,
    rng: Rng,
    acks: i16,
    producer: Option<(i64, i16)>,
}

/// Sends until the connection breaks; tells `sent` before each request.
fn send_all(mut writer: Writer, sent: &SyncSender<(Place, Id)>) {
    let mut sequences: HashMap<Place, i32> = HashMap::new();
    for correlation_id in 0.. {
        let (name, partitions, _) = TOPICS[writer.rng.below(TOPICS.len())];
        let place = (name, i32::try_from(writer.rng.below(partitions as usize)).unwrap());
        let (records, value_bytes) = match writer.rng.below(10) {
            0 => (40, 5000),
            1 | 2 => (20, 300),
            _ => (1, 100),
        };
        let producer = writer.producer.map(|(id, epoch)| {
            let sequence = sequences.entry(place).or_insert(0);
            *sequence += records as i32;
            (id, epoch, *sequence - records as i32)
        });
        let id = Id { seed: writer.rng.next_u64(), records, value_bytes, producer };
        if sent.send((place, id)).is_err() {
            return;
        }
        let request = produce(writer.acks, &[(place.0, place.1, id.batch())]);
        if writer.stream.write_all(&frame(&request, PRODUCE, correlation_id)).is_err() {
            return;
        }
    }
}

/// Reads acknowledgements until the connection breaks.
fn receive_all(
    mut stream: std::net::TcpStream,
    sent: &Receiver<(Place, Id)>,
    told: &Sender<()>,
) -> HashMap<Place, Written> {
    let mut written: HashMap<Place, Written> = HashMap::new();
    let mut correlation_id = 0;
    while let Ok(answer) = read_frame(&mut stream) {
        let (id, response) = decode::<ProduceRequest>(answer, PRODUCE);
        assert_eq!(id, correlation_id, "responses come in the order of the requests");
        correlation_id += 1;
        let (place, batch) = sent.recv().expect("it was sent before it was answered");
        let (error, offset) = produced(&response)[0];
        assert_eq!(error, 0, "{place:?}");
        let entry = written.entry(place).or_default();
        entry.sent.push(batch);
        entry.acknowledged.push(offset);
        let _ = told.send(());
    }
    // The rest may or may not have arrived. Taking it lets the sender see that its connection is broken.
    while let Ok((place, batch)) = sent.recv() {
        written.entry(place).or_default().sent.push(batch);
    }
    written
}

/// Commits ascending offsets until the connection breaks: the last one acknowledged, and the last one sent.
fn commit_offsets(mut client: Client, from: i64) -> (i64, i64) {
    let mut acknowledged = from;
    for offset in from + 1.. {
        let part = OffsetCommitRequestPartition::default()
            .with_partition_index(0)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from_string(format!("at {offset}"))));
        let topics =
            vec![OffsetCommitRequestTopic::default().with_name(topic("plain")).with_partitions(vec![part])];
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(topics);
        let sent = client.send_raw(&frame(&request, 8, 1));
        let Some(answer) = sent.ok().and_then(|()| read_frame(&mut client.stream).ok()) else {
            return (acknowledged, offset);
        };
        let (_, response) = decode::<OffsetCommitRequest>(answer, 8);
        match response.topics[0].partitions[0].error_code {
            0 => acknowledged = offset,
            error if is_coordinator_coming(error) => {}
            error => panic!("committing {offset}: error {error}"),
        }
    }
    unreachable!("offsets do not end")
}

fn committed_offset(client: &mut Client) -> i64 {
    let parts = OffsetFetchRequestTopic::default().with_name(topic("plain")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str(GROUP)))
        .with_topics(Some(vec![parts]));
    loop {
        let response = client.call(&request, 7);
        if is_coordinator_coming(response.error_code) {
            continue;
        }
        assert_eq!(response.error_code, 0);
        let found = &response.topics[0].partitions[0];
        if found.committed_offset >= 0 {
            let metadata = found.metadata.as_ref().map(|text| text.to_string());
            assert_eq!(metadata, Some(format!("at {}", found.committed_offset)));
        }
        return found.committed_offset;
    }
}

/// One life: load until so many acknowledgements came, then the kill. Gives what was written and the bounds of the
/// committed offset.
fn live(broker: Broker, rng: &mut Rng, history: &mut History, offset: i64) -> (i64, i64) {
    let (tell, told) = mpsc::channel();
    let mut threads = Vec::new();
    for number in 0..WRITERS {
        let mut client = broker.client();
        let producer = (number % 2 == 0).then(|| client.producer_id());
        let (sent, was_sent) = mpsc::sync_channel(WINDOW);
        let reader = client.stream.try_clone().unwrap();
        let acks = if number < 2 { -1 } else { 1 };
        let writer = Writer { stream: client.stream, rng: Rng::new(rng.next_u64()), acks, producer };
        let told = tell.clone();
        threads.push(std::thread::spawn(move || receive_all(reader, &was_sent, &told)));
        std::thread::spawn(move || send_all(writer, &sent));
    }
    let committer = broker.client();
    let offsets = std::thread::spawn(move || commit_offsets(committer, offset));
    drop(tell);
    for _ in 0..1 + rng.below(ACKS_BEFORE_KILL_MAX) {
        told.recv().expect("writers write until the kill");
    }
    broker.kill();
    for thread in threads {
        for (place, written) in thread.join().unwrap() {
            history.entry(place).or_default().push(written);
        }
    }
    offsets.join().unwrap()
}

/// Reads a partition back and checks it against everything that was ever sent to it.
fn check(client: &mut Client, place: Place, written: &[Written]) -> usize {
    let stored = client.read_all(place.0, place.1, 0);
    let by_mark: HashMap<[u8; 45], (usize, &Stored)> =
        stored.iter().enumerate().map(|(at, batch)| (Id::mark(&batch.bytes), (at, batch))).collect();
    assert_eq!(by_mark.len(), stored.len(), "{place:?} holds a batch twice");
    let mut next = 0;
    for batch in &stored {
        assert_eq!(batch.base, next, "{place:?} has a gap");
        next = batch.end;
    }
    let mut known = 0;
    for writer in written {
        let mut last = None;
        for (number, id) in writer.sent.iter().enumerate() {
            let sent = id.batch();
            let acknowledged = writer.acknowledged.get(number);
            let Some((at, found)) = by_mark.get(&Id::mark(&sent)) else {
                assert!(acknowledged.is_none(), "{place:?} lost {id:?}, acknowledged at {acknowledged:?}");
                last = Some(usize::MAX);
                continue;
            };
            assert_eq!(sent[KEPT_FROM..], found.bytes[KEPT_FROM..], "{place:?} {id:?} came back changed");
            assert!(acknowledged.is_none_or(|offset| *offset == found.base), "{place:?} {id:?} moved");
            assert!(last.is_none_or(|last| last < *at), "{place:?} {id:?} is out of order");
            last = Some(*at);
            known += 1;
        }
    }
    assert_eq!(known, stored.len(), "{place:?} holds what nobody sent");
    known
}

fn check_all(client: &mut Client, history: &History) -> usize {
    history.iter().map(|(place, written)| check(client, *place, written)).sum()
}

fn folder_of_lives(data: &Path, lives: usize, rng: &mut Rng) {
    let mut history = History::new();
    let (mut low, mut high) = (-1, -1);
    for life in 0..=lives {
        let shards = 1 + rng.below(4);
        // A small log and small caches bring rolling, checkpoints and evicted tails into a short life.
        let start = Start::new(data).shards(shards).set("wal.max.bytes", 16 << 20);
        let broker = start.set("ringlog.memory.bytes", 16 << 20).ready();
        let mut client = broker.client();
        client.find_coordinator(GROUP);
        if life == 0 {
            TOPICS
                .iter()
                .for_each(|(name, partitions, configs)| client.create_topic(name, *partitions, configs));
        } else {
            let found = check_all(&mut client, &history);
            let offset = committed_offset(&mut client);
            assert!((low..=high).contains(&offset), "committed offset {offset}, {low} to {high} was due");
            println!("life {life}: {shards} shards, {found} batches, committed offset {offset}");
            low = offset;
        }
        if life == lives {
            broker.stop();
        } else {
            (low, high) = live(broker, rng, &mut history, low);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let mut rng = Rng::from_env("kill");
    let mut rounds: usize = std::env::var("RINGLOG_KILL_ROUNDS")
        .map_or(5, |text| text.parse().expect("RINGLOG_KILL_ROUNDS is a number"));
    while rounds > 0 {
        let lives = rounds.min(LIVES);
        folder_of_lives(folder().path(), lives, &mut rng);
        rounds -= lives;
    }
}
