//! What one connection sends takes effect in the order sent, over shards, acks and APIs, while each step that is
//! done off the shard is paused and reordered; and the test finds it when a rule that this rests on is undone.
//!
//! `RINGLOG_SEED` runs one seed, `RINGLOG_SEEDS` a number of them.

use super::lab::{Lab, wait};
use super::peer::{Peer, Record, TOPICS};
use crate::machine::budget::Class;
use crate::shard::perturb::{Perturbation, Rule};
use ringlog_storage::batch::{peek, records_of};
use ringlog_tests::client::Client;
use ringlog_tests::rng::Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds of an ordinary run.
const SEEDS: u64 = 8;
/// Seeds within which a rule that is undone must be found.
const SEEDS_TO_FIND: u64 = 12;
const PEERS: u16 = 5;
const BURSTS: usize = 3;
/// Requests of a burst, below what a connection may have in flight or above it.
const REQUESTS: [usize; 2] = [100, 300];
const DECOMPRESSED_MAX: usize = 1 << 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a run made happen.
#[derive(Default)]
struct Happened {
    paused: u64,
    overtaken: u64,
    forwarded: u64,
    waited: u64,
}

/// Runs one seed. Panics where something is out of order.
fn run(seed: u64, undone: Option<Rule>) -> Happened {
    println!("RINGLOG_SEED={seed}");
    let mut rng = Rng::new(seed);
    let shards = 2 + rng.below(3);
    let mut settings =
        vec![("group.initial.rebalance.delay.ms", "0"), ("auto.create.topics.enable", "false")];
    // Every other seed has little memory and much to put there.
    let is_tight = seed.is_multiple_of(2);
    let value_bytes_max = if is_tight {
        settings.extend([
            ("ringlog.budget.produce.bytes", "1048576"),
            ("ringlog.budget.request.bytes", "1048576"),
        ]);
        60_000
    } else {
        5000
    };
    let requests = if is_tight { REQUESTS[1] } else { REQUESTS[rng.below(2)] };
    let lab = Lab::start(shards, &settings, Perturbation::seeded(seed, undone));
    let mut client = lab.client();
    TOPICS.iter().for_each(|(name, partitions, configs)| client.create_topic(name, *partitions, configs));
    let peers: Vec<_> = (0..PEERS)
        .map(|number| {
            let client = lab.client();
            std::thread::spawn(move || Peer::new(number, client, seed, value_bytes_max).run(BURSTS, requests))
        })
        .collect();
    let outcomes: Vec<_> = peers.into_iter().map(std::thread::JoinHandle::join).collect();
    let records: Vec<Record> = outcomes.into_iter().map(|o| o.expect("a peer found something")).collect();
    for (name, partitions, _) in TOPICS {
        (0..partitions).for_each(|partition| check_log(&mut client, name, partition, &records));
    }
    drop(client);
    for class in Class::ALL {
        wait("all memory goes back", || lab.used(class) == 0);
    }
    let (paused, overtaken) = lab.perturbation.counts();
    let counters = &lab.node().counters;
    Happened {
        paused,
        overtaken,
        forwarded: counters.iter().map(|c| c.requests_forwarded.get()).sum(),
        waited: counters.iter().map(|c| c.budget_waits.get()).sum(),
    }
}

/// The log holds each peer's records in the order sent, all of them and each once, and where the answers said.
fn check_log(client: &mut Client, name: &str, partition: i32, records: &[Record]) {
    let mut next: BTreeMap<u16, u32> = BTreeMap::new();
    let mut offsets: BTreeMap<(u16, u32), i64> = BTreeMap::new();
    for stored in client.read_all(name, partition, 0) {
        let base = peek(&stored.bytes).expect("a batch").base_offset;
        for record in records_of(&stored.bytes, DECOMPRESSED_MAX).expect("records").iter() {
            let record = record.expect("a record");
            let value = record.value.expect("peers send values");
            let peer = u16::from_be_bytes([value[0], value[1]]);
            let at = u32::from_be_bytes([value[2], value[3], value[4], value[5]]);
            let due = next.entry(peer).or_insert(0);
            assert_eq!(
                at, *due,
                "{name} {partition}: records of peer {peer} are out of order, lost or there twice"
            );
            *due += 1;
            offsets.insert((peer, at), base + i64::from(record.offset_delta));
        }
    }
    let place = (name.to_owned(), partition);
    for record in records {
        let sent = record.sent.get(&place).copied().unwrap_or(0);
        assert_eq!(
            next.get(&record.peer).copied().unwrap_or(0),
            sent,
            "{name} {partition}: records are missing"
        );
        for (_, at, offset) in record.placed.iter().filter(|(other, _, _)| *other == place) {
            assert_eq!(
                offsets[&(record.peer, *at)],
                *offset,
                "{name} {partition}: an answer names another offset"
            );
        }
    }
}

#[test]
fn requests_take_effect_in_the_order_sent_whatever_overtakes_what() {
    if let Some(seed) = number("RINGLOG_SEED") {
        run(seed, None);
        return;
    }
    let first = Rng::from_env("order of shards").next_u64();
    let mut all = Happened::default();
    for n in 0..number("RINGLOG_SEEDS").unwrap_or(SEEDS) {
        let happened = run(first.wrapping_add(n), None);
        all.paused += happened.paused;
        all.overtaken += happened.overtaken;
        all.forwarded += happened.forwarded;
        all.waited += happened.waited;
    }
    assert!(all.paused > 0 && all.overtaken > 0, "nothing was perturbed");
    assert!(all.forwarded > 0, "nothing was forwarded");
    assert!(all.waited > 0, "no budget was filled");
}

/// A rule that is undone is found within a few seeds.
fn is_found(rule: Rule) {
    let found =
        (0..SEEDS_TO_FIND).any(|seed| catch_unwind(AssertUnwindSafe(|| run(seed, Some(rule)))).is_err());
    assert!(found, "{rule:?} is undone and nothing shows it");
}

#[test]
fn mail_out_of_its_senders_order_is_found() {
    is_found(Rule::MailOfOneSender);
}

#[test]
fn an_append_that_jumps_the_queue_is_found() {
    is_found(Rule::AppendsQueue);
}

#[test]
fn a_change_of_metadata_that_is_not_waited_for_is_found() {
    is_found(Rule::MetadataAlone);
}

#[test]
fn handlers_that_start_in_any_order_are_found() {
    is_found(Rule::HandlersInOrder);
}

#[test]
fn a_silent_failure_that_closes_nothing_is_found() {
    is_found(Rule::SilentFailureCloses);
}

#[test]
fn an_image_that_overtakes_what_was_sent_before_is_found() {
    is_found(Rule::ImagesWait);
}
