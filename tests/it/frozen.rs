//! A disk that takes nothing for a while: a file system that is frozen and thawed. What waits for it is told in time, and
//! what was asked for happens when it goes on.

use crate::disk_full::{SmallDisk, run, with_small_disk};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{CreateTopicsRequest, DeleteRecordsRequest, ProduceRequest};
use ringlog_tests::broker::{Broker, Start};
use ringlog_tests::client::Client;
use ringlog_tests::requests::{PRODUCE, create_topic, produce, produced, record, topic};

const TIMED_OUT: i16 = 7;
/// What a request gives the broker: short, as the test waits for it.
const SOON_MS: i32 = 200;

/// A frozen file system, thawed with the value. A process that writes to it cannot even be killed: it is to be declared
/// after the broker.
struct Frozen(String);

impl Frozen {
    fn new(disk: &SmallDisk) -> Frozen {
        let point = disk.mount_point().display().to_string();
        run("fsfreeze", &["--freeze", &point]).unwrap();
        Frozen(point)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        run("fsfreeze", &["--unfreeze", &self.0]).unwrap();
    }
}

/// One shard with what it takes to write without making files.
fn start(disk: &SmallDisk) -> Broker {
    let broker = Start::new(&disk.data()).shards(1).set("wal.max.bytes", 16 << 20);
    broker.set("ringlog.memory.bytes", 16 << 20).ready()
}

fn end(client: &mut Client, name: &str) -> i64 {
    let (error, _, offset) = client.list_offset(name, 0, -1);
    assert_eq!(error, 0);
    offset
}

/// Asks for the end of a partition until it is there.
fn wait_end(client: &mut Client, name: &str, offset: i64) {
    let deadline = ringlog::clock::monotonic_ms() + 20_000;
    while end(client, name) < offset {
        assert!(ringlog::clock::monotonic_ms() < deadline, "{name} does not reach {offset}");
    }
}

#[test]
fn a_request_that_outlives_its_timeout_is_told_and_may_take_effect() {
    with_small_disk(|disk| {
        let broker = start(disk);
        let mut client = broker.client();
        client.create_topic("t", 1, &[]);
        assert_eq!(client.produce("t", 0, record(b"0")), (0, 0));
        assert_eq!(client.produce("t", 0, record(b"1")), (0, 1));
        let frozen = Frozen::new(disk);
        for acks in [-1, 1] {
            let request = produce(acks, &[("t", 0, record(b"late"))]).with_timeout_ms(SOON_MS);
            assert_eq!(produced(&client.call(&request, PRODUCE)), [(TIMED_OUT, -1)], "acks {acks}");
        }
        // One that is refused at once says why, beside one that is late.
        let parts = [("t", 0, record(b"late")), ("none", 0, record(b"x"))];
        let request = produce(-1, &parts).with_timeout_ms(SOON_MS);
        let mut errors: Vec<_> = produced(&client.call(&request, PRODUCE)).iter().map(|p| p.0).collect();
        errors.sort_unstable();
        assert_eq!(errors, [3, TIMED_OUT]);
        assert_eq!(end(&mut client, "t"), 2, "nothing of it is durable");
        let (error, _, newest) = client.list_offset("t", 0, -3);
        assert!(error == 0 && (0..2).contains(&newest), "{newest}: the newest record of those that are");
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(1);
        let topics = DeleteRecordsTopic::default().with_name(topic("t")).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topics]).with_timeout_ms(SOON_MS);
        let response = client.call(&request, 2);
        assert_eq!(response.topics[0].partitions[0].error_code, TIMED_OUT);
        let request: CreateTopicsRequest = create_topic("late", 1, &[]).with_timeout_ms(SOON_MS);
        assert_eq!(client.call(&request, 5).topics[0].error_code, TIMED_OUT);
        // One that has time gets its answer when the disk goes on.
        let patient = client.send(&produce(-1, &[("t", 0, record(b"patient"))]), PRODUCE);
        let mut other = broker.client();
        other.ping();
        drop(frozen);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, patient)), [(0, 5)]);
        wait_end(&mut client, "t", 6);
        assert_eq!(client.list_offset("t", 0, -2).2, 1, "deleted all the same");
        let again = client.call(&create_topic("late", 1, &[]), 5);
        assert_eq!(again.topics[0].error_code, 36, "made all the same");
        broker.stop();
    });
}

/// Whether an answer has come, once the broker has answered this many others.
fn is_answered(waiting: &Client, other: &mut Client, others: usize) -> bool {
    (0..others).any(|_| {
        other.ping();
        waiting.stream.set_nonblocking(true).unwrap();
        let came = waiting.stream.peek(&mut [0]).is_ok();
        waiting.stream.set_nonblocking(false).unwrap();
        came
    })
}

/// Enough for an answer that was given already to be there.
const OTHERS: usize = 50;

#[test]
fn async_topics_run_ahead_of_the_disk_by_flush_ms_at_most() {
    with_small_disk(|disk| {
        let broker = start(disk);
        let (mut client, mut other) = (broker.client(), broker.client());
        for (name, flush_ms) in [("free", None), ("never", Some("0")), ("bounded", Some("300"))] {
            let flush_ms = flush_ms.map(|flush_ms| ("flush.ms", flush_ms));
            let configs: Vec<_> = [("ringlog.durability", "async")].into_iter().chain(flush_ms).collect();
            client.create_topic(name, 1, &configs);
        }
        let frozen = Frozen::new(disk);
        // None of them is durable; the first of those with a bound are answered too.
        for offset in 0..20 {
            assert_eq!(client.produce("free", 0, record(b"x")), (0, offset));
        }
        assert_eq!(client.produce("bounded", 0, record(b"x")), (0, 0));
        // It is not answered before it is durable: not while the disk is frozen.
        let mut at_once = broker.client();
        let never = at_once.send(&produce(-1, &[("never", 0, record(b"x"))]), PRODUCE);
        wait_end(&mut other, "never", 1);
        assert!(!is_answered(&at_once, &mut other, OTHERS), "it was answered before it was durable");
        // In 300 ms the next one is no longer answered.
        let deadline = ringlog::clock::monotonic_ms() + 20_000;
        let mut offset = 0;
        let waiting = loop {
            assert!(ringlog::clock::monotonic_ms() < deadline, "{offset} records ahead of the disk");
            offset += 1;
            let id = client.send(&produce(-1, &[("bounded", 0, record(b"x"))]), PRODUCE);
            wait_end(&mut other, "bounded", offset + 1);
            if !is_answered(&client, &mut other, OTHERS) {
                break id;
            }
            assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, id)), [(0, offset)]);
        };
        assert_eq!(other.produce("free", 0, record(b"x")), (0, 20), "another topic's bound is its own");
        assert!(!is_answered(&client, &mut other, OTHERS));
        drop(frozen);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, waiting)), [(0, offset)]);
        assert_eq!(produced(&at_once.receive::<ProduceRequest>(PRODUCE, never)), [(0, 0)]);
        assert_eq!(client.produce("bounded", 0, record(b"x")), (0, offset + 1), "and it goes on");
        broker.stop();
    });
}
