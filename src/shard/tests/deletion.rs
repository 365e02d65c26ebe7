//! Topics that go while their segments are being written, synced, sealed and removed, and that are made again at
//! once.

use super::lab::{Lab, wait};
use crate::shard::Shard;
use crate::shard::perturb::{Perturbation, Step};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, ProduceRequest,
};
use ringlog_tests::client::Client;
use ringlog_tests::requests::{PRODUCE, create_topic, produce, produced, record, topic};
use ringlog_tests::rng::Rng;
use std::rc::Rc;

const PARTITIONS: i32 = 4;
const BATCHES: i64 = 3;
const CREATE: i16 = 5;
const DELETE: i16 = 5;
const DELETE_RECORDS: i16 = 2;
const CONFIGS: [(&str, &str); 2] = [("segment.bytes", "1048576"), ("retention.bytes", "1048576")];

/// Waits until something is so while work stands still, or until the log has no room left for the work that stands
/// still to be done: then it goes on.
fn wait_while_held(lab: &Lab, what: &str, is_so: impl Fn() -> bool) {
    let stalled = || lab.on_all(|shard| shard.store.borrow().wal().is_stalled()).contains(&true);
    wait(what, || is_so() || stalled());
    if stalled() {
        lab.perturbation.let_go(Step::Job);
    }
}

fn all_durable(shard: &Rc<Shard>) -> bool {
    let store = shard.store.borrow();
    shard.partitions.borrow().all().iter().all(|partition| store.durable_offset(partition.ix) == BATCHES)
}

/// Three batches to each partition: two segments are full. Work stands still from the first one on, or not.
fn fill(lab: &Lab, client: &mut Client, held: bool) {
    let batch = record(&[1; 600_000]);
    let parts: Vec<_> = (0..PARTITIONS).map(|partition| ("t", partition, batch.clone())).collect();
    let ids: Vec<i32> = (0..BATCHES).map(|_| client.send(&produce(-1, &parts), PRODUCE)).collect();
    if held {
        lab.perturbation.hold(Step::Job);
        wait_while_held(lab, "the appends are durable", || lab.on_all(all_durable).iter().all(|all| *all));
    }
    for (offset, id) in (0..).zip(ids) {
        let found = produced(&client.receive::<ProduceRequest>(PRODUCE, id));
        assert!(found.iter().all(|found| *found == (0, offset)), "{found:?}");
    }
}

/// Deletes records, then the topic, and makes it again, without waiting between. Work that stands still goes on, all
/// of it together, once the deletion is among it. The new topic is empty and takes records.
fn delete_and_make_again(lab: &Lab, client: &mut Client, before: i64) {
    let records = DeleteRecordsTopic::default().with_name(topic("t")).with_partitions(
        (0..PARTITIONS)
            .map(|p| DeleteRecordsPartition::default().with_partition_index(p).with_offset(before))
            .collect(),
    );
    let records = DeleteRecordsRequest::default().with_topics(vec![records]).with_timeout_ms(30_000);
    let named = DeleteTopicsRequest::default().with_topic_names(vec![topic("t")]).with_timeout_ms(30_000);
    let parts: Vec<_> = (0..PARTITIONS).map(|partition| ("t", partition, record(b"new"))).collect();
    let cut = client.send(&records, DELETE_RECORDS);
    let deleted = client.send(&named, DELETE);
    wait_while_held(lab, "the topic is gone", || {
        lab.on_all(|shard| shard.image().topic_count() == 0 && shard.store.borrow().wal().is_idle())
            .iter()
            .all(|gone| *gone)
    });
    let made = client.send(&create_topic("t", PARTITIONS, &CONFIGS), CREATE);
    let new = client.send(&produce(-1, &parts), PRODUCE);
    lab.perturbation.let_go(Step::Job);
    for found in &client.receive::<DeleteRecordsRequest>(DELETE_RECORDS, cut).topics[0].partitions {
        assert_eq!((found.error_code, found.low_watermark), (0, before));
    }
    assert_eq!(client.receive::<DeleteTopicsRequest>(DELETE, deleted).responses[0].error_code, 0);
    assert_eq!(client.receive::<CreateTopicsRequest>(CREATE, made).topics[0].error_code, 0);
    assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, new)), [(0, 0); PARTITIONS as usize]);
    for partition in 0..PARTITIONS {
        assert_eq!(client.read_all("t", partition, 0).len(), 1);
    }
    assert_eq!(client.delete_topic("t"), 0);
}

fn topic_folders(lab: &Lab) -> usize {
    std::fs::read_dir(lab.node().data_dir.join("topics")).map_or(0, Iterator::count)
}

/// A job that fails ends the process.
#[test]
fn a_topic_deleted_while_its_segments_are_at_work_and_made_again_is_empty() {
    const ROUNDS: usize = 24;
    let mut rng = Rng::from_env("deletion");
    let lab = Lab::start(2, &[], Perturbation::seeded(rng.next_u64(), None));
    let mut client = lab.client();
    for round in 0..ROUNDS {
        client.create_topic("t", PARTITIONS, &CONFIGS);
        let from = rng.below(3);
        fill(&lab, &mut client, from == 0);
        if from == 1 {
            lab.perturbation.hold(Step::Job);
        }
        if round % 2 == 0 {
            lab.on_all(|shard| {
                shard.store.borrow_mut().begin_checkpoint();
                shard.pump();
            });
        }
        if from == 2 {
            lab.perturbation.hold(Step::Job);
        }
        delete_and_make_again(&lab, &mut client, rng.below(BATCHES as usize + 1) as i64);
    }
    wait("no folder is left", || topic_folders(&lab) == 0);
}
