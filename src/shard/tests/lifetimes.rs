//! What a connection holds goes back when it is done or closed: memory, turns, watchers, and the right to be read.

use super::lab::{Lab, wait};
use crate::machine::budget::Class;
use crate::shard::perturb::{Perturbation, Step};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use ringlog_tests::client::{Client, frame};
use ringlog_tests::requests::{FETCH, PRODUCE, create_topic, fetch, produce, produced, record};

/// Longer than any test waits.
const LONG_MS: i32 = 1_000_000;
const PARTITIONS: i32 = 8;

fn parts() -> Vec<(&'static str, i32, i64)> {
    (0..PARTITIONS).map(|partition| ("t", partition, 0)).collect()
}

fn gone(lab: &Lab) -> bool {
    lab.on_all(|shard| shard.connections.borrow().is_empty()).into_iter().all(|empty| empty)
}

/// More than a connection may have in flight, none of which is answered: the one behind them is read once they are
/// durable.
#[test]
fn silent_requests_that_end_have_the_next_ones_read() {
    let lab = Lab::start(2, &[], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        let one = |acks, id| frame(&produce(acks, &[("t", partition, record(b"x"))]), PRODUCE, id);
        let mut all: Vec<u8> = (0..300).flat_map(|_| one(0, 1)).collect();
        all.extend(one(-1, 2));
        lab.perturbation.hold(Step::Commit);
        client.send_raw(&all).unwrap();
        wait("the connection is full", || {
            lab.on_all(|shard| {
                let connections = shard.connections.borrow();
                connections.values().any(|conn| !conn.machine.borrow().can_read())
            })
            .contains(&true)
        });
        lab.perturbation.let_go(Step::Commit);
        assert_eq!(produced(&client.receive::<ProduceRequest>(PRODUCE, 2)), [(0, 300)]);
    }
}

#[test]
fn memory_of_requests_that_wait_for_their_turn_goes_back_with_their_connection() {
    let lab = Lab::start(2, &[], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", PARTITIONS, &[]);
    lab.perturbation.hold(Step::Proposal);
    client.send(&create_topic("other", 1, &[]), 6);
    for partition in 0..PARTITIONS {
        client.send(&produce(1, &[("t", partition, record(&[1; 1000]))]), PRODUCE);
    }
    let waiting = || lab.on_all(|shard| shard.waiting_requests()).into_iter().sum::<usize>();
    wait("all of them wait", || waiting() == PARTITIONS as usize);
    assert!(lab.used(Class::Produce) > 8 * 1000);
    drop(client);
    wait("the connection is gone", || gone(&lab));
    assert_eq!(lab.used(Class::Produce), 0);
    lab.perturbation.let_go(Step::Proposal);
    wait("the change of metadata ends", || lab.used(Class::Requests) == 0);
}

#[test]
fn a_place_in_line_for_memory_goes_with_its_connection() {
    let lab = Lab::start(1, &[("ringlog.budget.produce.bytes", "1048576")], Perturbation::default());
    let (mut holding, mut waiting, mut behind) = (lab.client(), lab.client(), lab.client());
    holding.create_topic("t", 1, &[]);
    holding.create_topic("gzip", 1, &[("compression.type", "gzip")]);
    lab.perturbation.hold(Step::Commit);
    lab.perturbation.hold(Step::Check);
    let in_line = || lab.on(0, |shard| shard.budget.borrow().waiting(Class::Produce));
    let large = produce(-1, &[("t", 0, record(&[1; 800_000]))]);
    let first = holding.send(&large, PRODUCE);
    wait("it holds the memory", || lab.used(Class::Produce) > 800_000);
    // Its first request will fail in silence, while its second one waits for memory.
    let mut damaged = record(b"damaged").to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    waiting.send(&produce(0, &[("gzip", 0, damaged.into())]), PRODUCE);
    wait("it is being checked", || lab.perturbation.standing(Step::Check) == 1);
    waiting.send(&large, PRODUCE);
    wait("one waits for memory", || in_line() == 1);
    let small = behind.send(&produce(-1, &[("t", 0, record(b"small"))]), PRODUCE);
    wait("two wait for memory", || in_line() == 2);
    lab.perturbation.let_go(Step::Check);
    assert!(waiting.is_closed());
    // Who stood behind it has room at once.
    wait("nobody waits for memory", || in_line() == 0);
    lab.perturbation.let_go(Step::Commit);
    assert_eq!(produced(&holding.receive::<ProduceRequest>(PRODUCE, first)), [(0, 0)]);
    assert_eq!(produced(&behind.receive::<ProduceRequest>(PRODUCE, small)), [(0, 1)]);
    wait("all memory is back", || lab.used(Class::Produce) == 0);
    lab.on(0, |shard| shard.budget.borrow().check());
}

/// The shards' watchers, the fetches that wait on them, and which shard the one connection is on.
fn watching(lab: &Lab) -> (Vec<usize>, usize, usize) {
    let fetches = lab.on_all(|shard| (shard.fetches.borrow().len(), shard.connections.borrow().len()));
    let home = fetches.iter().position(|(_, connections)| *connections > 0).unwrap_or(0);
    (lab.on_all(|shard| shard.watchers()), fetches.iter().map(|(n, _)| *n).sum(), home)
}

#[test]
fn long_polls_that_end_leave_no_watchers_behind() {
    let lab = Lab::start(2, &[], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", PARTITIONS, &[]);
    for _ in 0..30 {
        client.call(&fetch(5, 1, &parts()), FETCH);
    }
    wait("watchers on the other shard are taken back", || {
        let (watchers, fetches, home) = watching(&lab);
        fetches == 0 && watchers[1 - home] == 0
    });
    // Those of this shard are dead, and go when the next one comes.
    let (watchers, _, home) = watching(&lab);
    assert!(watchers[home] <= PARTITIONS as usize, "{watchers:?} watchers gathered");
    assert!(watchers[home] > 0, "no partition is on the connection's shard: nothing was tested");
}

#[test]
fn a_long_poll_ends_when_its_connection_closes() {
    let lab = Lab::start(2, &[], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", PARTITIONS, &[]);
    let mut others: Vec<Client> = (0..3).map(|_| lab.client()).collect();
    for client in &mut others {
        client.send(&fetch(LONG_MS, 1, &parts()), FETCH);
    }
    wait("three fetches wait on all partitions", || {
        let (watchers, fetches, _) = watching(&lab);
        fetches == 3 && watchers.iter().sum::<usize>() == 3 * PARTITIONS as usize
    });
    drop(others);
    wait("no fetch waits", || watching(&lab).1 == 0);
    // Nothing but dead watchers of fetches of the partition's own shard is left, and the next fetch takes those away.
    client.call(&fetch(1, 1, &parts()), FETCH);
    wait("their watchers are gone", || watching(&lab).0.iter().sum::<usize>() <= PARTITIONS as usize * 2);
    for class in Class::ALL {
        wait("all memory is back", || lab.used(class) == 0);
    }
}

#[test]
fn memory_of_responses_that_nobody_reads_goes_back_with_their_connection() {
    let lab = Lab::start(2, &[("ringlog.budget.response.bytes", "8388608")], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        assert_eq!(client.produce("t", partition, record(&[1; 900_000])), (0, 0));
    }
    // They get more than the kernel takes and more than the budget has: some responses stand, others wait for memory.
    let mut readers: Vec<Client> = (0..4).map(|_| lab.client()).collect();
    for reader in &mut readers {
        for _ in 0..6 {
            reader.send(&fetch(LONG_MS, 1, &parts()), FETCH);
        }
    }
    let waiting = |shard: &std::rc::Rc<crate::shard::Shard>| shard.memory_waits.borrow().len();
    wait("responses wait for memory", || lab.on_all(waiting).into_iter().all(|n| n > 0));
    drop(readers);
    wait("nothing is held for them", || lab.used(Class::Responses) == 0);
    wait("nobody waits", || lab.on_all(waiting).into_iter().all(|n| n == 0));
    let id = client.send(&fetch(LONG_MS, 1, &parts()), FETCH);
    assert_eq!(client.receive::<FetchRequest>(FETCH, id).error_code, 0);
}
