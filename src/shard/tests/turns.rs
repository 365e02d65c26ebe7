//! Requests that wait for their turn behind one that goes alone, and what each then finds.

use super::lab::{Lab, wait};
use crate::shard::perturb::{Perturbation, Step};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, FetchRequest, MetadataRequest, ProduceRequest,
};
use ringlog_tests::client::Client;
use ringlog_tests::requests::{
    FETCH, PRODUCE, create_topic, fetch, fetched, produce, produced, record, topic,
};

const DELETE_RECORDS: i16 = 2;
const OUT_OF_RANGE: i16 = 1;

fn delete_records(name: &str, partition: i32, before: i64) -> DeleteRecordsRequest {
    let part = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let named = DeleteRecordsTopic::default().with_name(topic(name)).with_partitions(vec![part]);
    DeleteRecordsRequest::default().with_topics(vec![named]).with_timeout_ms(30_000)
}

fn deleted(client: &mut Client, id: i32) -> (i16, i64) {
    let answer = client.receive::<DeleteRecordsRequest>(DELETE_RECORDS, id);
    let found = &answer.topics[0].partitions[0];
    (found.error_code, found.low_watermark)
}

/// Appends, a deletion that needs the last of them, an append behind it, and fetches that see both: wherever the
/// partition is, and whether the broker compresses.
fn delete_between_appends(client: &mut Client, name: &str, partition: i32, before: i64) {
    let appends: Vec<_> = [-1, 0, 1]
        .map(|acks| (acks, client.send(&produce(acks, &[(name, partition, record(b"goes"))]), PRODUCE)))
        .into_iter()
        .filter(|(acks, _)| *acks != 0)
        .collect();
    let all = client.send(&delete_records(name, partition, -1), DELETE_RECORDS);
    let again = client.send(&produce(0, &[(name, partition, record(b"goes"))]), PRODUCE);
    assert!(again > all);
    let one = client.send(&delete_records(name, partition, before + 4), DELETE_RECORDS);
    let last = client.send(&produce(-1, &[(name, partition, record(b"stays"))]), PRODUCE);
    let gone = client.send(&fetch(0, 0, &[(name, partition, before + 3)]), FETCH);
    let stays = client.send(&fetch(20_000, 1, &[(name, partition, before + 4)]), FETCH);
    for (acks, id) in appends {
        let offset = if acks == -1 { before } else { before + 2 };
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, id)), [(0, offset)]);
    }
    assert_eq!(deleted(client, all), (0, before + 3), "{name}-{partition}");
    assert_eq!(deleted(client, one), (0, before + 4), "{name}-{partition}");
    assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, last)), [(0, before + 4)]);
    let error = |client: &mut Client, id| {
        let answer = client.receive::<FetchRequest>(FETCH, id);
        let (_, data) = fetched(&answer).next().expect("one partition");
        (data.error_code, data.records.as_ref().is_some_and(|records| !records.is_empty()))
    };
    assert_eq!(error(client, gone), (OUT_OF_RANGE, false));
    assert_eq!(error(client, stays), (0, true));
}

#[test]
fn records_are_deleted_in_their_turn_between_appends_and_fetches() {
    let lab = Lab::start(3, &[], Perturbation::seeded(7, None));
    let mut client = lab.client();
    client.create_topic("t", 6, &[]);
    client.create_topic("gzip", 6, &[("compression.type", "gzip")]);
    client.create_topic("async", 6, &[("ringlog.durability", "async")]);
    for round in 0..3 {
        for partition in 0..6 {
            delete_between_appends(&mut client, "t", partition, 5 * round);
            delete_between_appends(&mut client, "gzip", partition, 5 * round);
            delete_between_appends(&mut client, "async", partition, 5 * round);
        }
    }
}

/// What waited behind a change of the metadata starts in its turn: the deletion does not find the log as it was
/// before the append in front of it.
#[test]
fn what_waited_together_takes_effect_one_after_the_other() {
    let lab = Lab::start(1, &[], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", 1, &[]);
    lab.perturbation.hold(Step::Proposal);
    let made = client.send(&create_topic("other", 1, &[]), 6);
    let append = client.send(&produce(1, &[("t", 0, record(b"goes"))]), PRODUCE);
    let delete = client.send(&delete_records("t", 0, 1), DELETE_RECORDS);
    wait("two requests wait", || lab.on(0, |shard| shard.waiting_requests()) == 2);
    lab.perturbation.let_go(Step::Proposal);
    assert_eq!(client.receive::<CreateTopicsRequest>(6, made).topics[0].error_code, 0);
    assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, append)), [(0, 0)]);
    assert_eq!(deleted(&mut client, delete), (0, 1));
}

/// As many as a connection may have, each of which lets the next one go: none of them on the stack of another.
#[test]
fn a_long_line_behind_one_request_goes_in_constant_stack() {
    const LINE: usize = 4000;
    let lab = Lab::start(1, &[("ringlog.connection.requests.max", "5000")], Perturbation::default());
    let mut client = lab.client();
    lab.perturbation.hold(Step::Proposal);
    let made = client.send(&create_topic("t", 1, &[]), 6);
    let metadata = MetadataRequest::default().with_topics(Some(Vec::new()));
    let line: Vec<i32> = (0..LINE).map(|_| client.send(&metadata, 8)).collect();
    wait("all of them wait", || lab.on(0, |shard| shard.waiting_requests()) == LINE);
    lab.perturbation.let_go(Step::Proposal);
    assert_eq!(client.receive::<CreateTopicsRequest>(6, made).topics[0].error_code, 0);
    for id in line {
        client.receive::<MetadataRequest>(8, id);
    }
}

/// A topic goes while its records are being deleted: an error, and the shard lives.
#[test]
fn a_topic_deleted_while_its_records_are_being_deleted() {
    let lab = Lab::start(1, &[], Perturbation::default());
    let (mut client, mut other) = (lab.client(), lab.client());
    client.create_topic("t", 1, &[]);
    assert_eq!(client.produce("t", 0, record(b"goes")), (0, 0));
    lab.perturbation.hold(Step::Commit);
    let append = other.send(&produce(0, &[("t", 0, record(b"goes too"))]), PRODUCE);
    let delete = other.send(&delete_records("t", 0, 1), DELETE_RECORDS);
    assert!(delete > append);
    wait("the deletion of records waits", || lab.on(0, |shard| !shard.durability.borrow().is_empty()));
    assert_eq!(client.delete_topic("t"), 0);
    lab.perturbation.let_go(Step::Commit);
    assert_eq!(deleted(&mut other, delete).0, 3);
    other.ping();
}
