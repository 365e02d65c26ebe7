//! One connection's order: what was sent first takes effect first, wherever its partition lives and whatever it
//! waits for, and answers come in the order of the requests.

use kafka_protocol::messages::{ApiVersionsRequest, CreateTopicsRequest, ProduceRequest};
use ringlog_tests::broker::{Start, folder};
use ringlog_tests::requests::{KEPT_FROM, PRODUCE, create_topic, produce, produced, record};
use ringlog_tests::rng::Rng;

const PARTITIONS: usize = 8;

#[test]
fn acks_of_all_kinds_in_one_stream() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut rng = Rng::from_env("order");
    let mut client = broker.client();
    client.create_topic("t", PARTITIONS as i32, &[]);
    let mut sent = vec![Vec::new(); PARTITIONS];
    for _ in 0..20 {
        let mut due = Vec::new();
        for _ in 0..60 {
            let acks = [0, 1, -1][rng.below(3)];
            let mut parts = Vec::new();
            for _ in 0..1 + rng.below(3) {
                let partition = rng.below(PARTITIONS);
                if parts.iter().any(|(_, p, _)| *p == partition as i32) {
                    continue;
                }
                let size = [10, 200, 20_000][rng.below(3)];
                let batch = record(&rng.bytes(size));
                parts.push(("t", partition as i32, batch.clone()));
                sent[partition].push(batch);
            }
            let ends: Vec<_> = parts.iter().map(|(_, p, _)| sent[*p as usize].len() as i64 - 1).collect();
            let id = client.send(&produce(acks, &parts), PRODUCE);
            if acks != 0 {
                due.push((id, ends));
            }
        }
        for (id, offsets) in due {
            let response = client.receive::<ProduceRequest>(PRODUCE, id);
            let expected: Vec<_> = offsets.into_iter().map(|offset| (0, offset)).collect();
            assert_eq!(produced(&response), expected);
        }
    }
    for (partition, sent) in sent.iter().enumerate() {
        // An acks=0 request behind the last acknowledged one may still be on its way: a produce waits behind it.
        let (error, offset) = client.produce("t", partition as i32, record(b"last"));
        assert_eq!((error, offset), (0, sent.len() as i64));
        let stored = client.read_all("t", partition as i32, 0);
        let stored = stored.iter().map(|batch| &batch.bytes[KEPT_FROM..]);
        assert!(stored.take(sent.len()).eq(sent.iter().map(|batch| &batch[KEPT_FROM..])), "{partition}");
    }
    broker.stop();
}

#[test]
fn a_topic_made_and_used_without_waiting() {
    let data = folder();
    let broker = Start::new(data.path()).set("auto.create.topics.enable", false).ready();
    let mut client = broker.client();
    for round in 0..10 {
        let name = format!("made-{round}");
        let before = client.send(&produce(-1, &[(&name, 0, record(b"too early"))]), PRODUCE);
        let made = client.send(&create_topic(&name, 6, &[]), 6);
        let parts: Vec<_> = (0..6).map(|p| (name.as_str(), p, record(b"x"))).collect();
        let all = client.send(&produce(-1, &parts), PRODUCE);
        let silent = produce(0, &parts);
        client.send(&silent, PRODUCE);
        let again = client.send(&produce(1, &parts), PRODUCE);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, before)), [(3, -1)]);
        assert_eq!(client.receive::<CreateTopicsRequest>(6, made).topics[0].error_code, 0);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, all)), [(0, 0); 6]);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, again)), [(0, 2); 6]);
    }
    broker.stop();
}

#[test]
fn a_failed_silent_request_closes_the_connection() {
    let data = folder();
    let broker = Start::new(data.path()).set("auto.create.topics.enable", false).ready();
    let mut other = broker.client();
    other.create_topic("t", 1, &[]);
    let mut client = broker.client();
    let good = client.send(&produce(-1, &[("t", 0, record(b"first"))]), PRODUCE);
    client.receive::<ProduceRequest>(PRODUCE, good);
    client.send(&produce(0, &[("unknown", 0, record(b"lost"))]), PRODUCE);
    assert!(client.is_closed());
    other.ping();
    let mut damaged = record(b"damaged").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let mut client = broker.client();
    client.send(&produce(0, &[("t", 0, damaged.into())]), PRODUCE);
    assert!(client.is_closed());
    assert_eq!(other.read_all("t", 0, 0).len(), 1);
    broker.stop();
}

#[test]
fn what_is_asked_behind_a_produce_is_answered_behind_it() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut client = broker.client();
    client.create_topic("t", PARTITIONS as i32, &[]);
    for round in 0..20 {
        let mut due = Vec::new();
        for partition in 0..PARTITIONS as i32 {
            let produced = client.send(&produce(-1, &[("t", partition, record(&[7; 300]))]), PRODUCE);
            due.push((produced, client.send(&ApiVersionsRequest::default(), 0)));
        }
        for (id, versions) in due {
            assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, id)), [(0, round)]);
            assert_eq!(client.receive::<ApiVersionsRequest>(0, versions).error_code, 0);
        }
        for partition in 0..PARTITIONS as i32 {
            assert_eq!(client.list_offset("t", partition, -1), (0, -1, round + 1));
        }
    }
    broker.stop();
}
