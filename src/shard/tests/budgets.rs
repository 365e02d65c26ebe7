//! Each class of memory filled: what needs it waits, all else goes on, and what waited goes on when there is room.
//! Nothing uses the class of peers yet; what the machine does with it is tested there.

use super::lab::{Lab, wait};
use crate::machine::budget::Class;
use crate::shard::memory::Held;
use crate::shard::perturb::{Perturbation, Step};
use kafka_protocol::messages::{ApiVersionsRequest, CreateTopicsRequest, FetchRequest, ProduceRequest};
use ringlog_tests::requests::{FETCH, PRODUCE, create_topic, fetch, fetched, produce, produced, record};
use std::cell::RefCell;

const INVALID_CONFIG: i16 = 40;
const CREATE: i16 = 6;

fn lab() -> Lab {
    let small = ["produce", "response", "request"].map(|class| format!("ringlog.budget.{class}.bytes"));
    let settings: Vec<(&str, &str)> = small.iter().map(|name| (name.as_str(), "1048576")).collect();
    Lab::start(1, &settings, Perturbation::default())
}

fn in_line(lab: &Lab, class: Class) -> usize {
    lab.on(0, move |shard| shard.budget.borrow().waiting(class))
}

#[test]
fn produce_that_fills_its_memory_holds_up_produce_alone() {
    let lab = lab();
    let (mut first, mut second, mut other) = (lab.client(), lab.client(), lab.client());
    other.create_topic("t", 1, &[]);
    assert_eq!(other.produce("t", 0, record(b"there")), (0, 0));
    lab.perturbation.hold(Step::Commit);
    let large = produce(-1, &[("t", 0, record(&[1; 700_000]))]);
    let held = first.send(&large, PRODUCE);
    wait("the memory is held", || lab.used(Class::Produce) > 700_000);
    let waits = second.send(&large, PRODUCE);
    wait("one waits", || in_line(&lab, Class::Produce) == 1);
    other.ping();
    assert_eq!(other.list_offset("t", 0, -1), (0, -1, 1));
    assert_eq!(other.fetch("t", 0, 0).high_watermark, 1);
    lab.perturbation.let_go(Step::Commit);
    assert_eq!(produced(&first.receive::<ProduceRequest>(PRODUCE, held)), [(0, 1)]);
    assert_eq!(produced(&second.receive::<ProduceRequest>(PRODUCE, waits)), [(0, 2)]);
    wait("all of it is back", || lab.used(Class::Produce) == 0);
}

#[test]
fn requests_that_fill_their_memory_hold_up_neither_produce_nor_fetches_under_way() {
    let lab = lab();
    let (mut first, mut second, mut producer, mut consumer) =
        (lab.client(), lab.client(), lab.client(), lab.client());
    producer.create_topic("t", 1, &[]);
    let poll = consumer.send(&fetch(1_000_000, 1, &[("t", 0, 0)]), FETCH);
    wait("a fetch waits", || lab.on(0, |shard| shard.fetches.borrow().len()) == 1);
    lab.perturbation.hold(Step::Proposal);
    // Nothing has such options; the answer says so once it is let go.
    let names: Vec<String> = (0..40).map(|n| format!("option-{n}")).collect();
    let value = "x".repeat(20_000);
    let configs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), value.as_str())).collect();
    let large = create_topic("other", 1, &configs);
    let held = first.send(&large, CREATE);
    wait("the memory is held", || lab.used(Class::Requests) > 800_000);
    let waits = second.send(&large, CREATE);
    wait("one waits", || in_line(&lab, Class::Requests) == 1);
    assert_eq!(producer.produce("t", 0, record(b"meanwhile")), (0, 0));
    let answer = consumer.receive::<FetchRequest>(FETCH, poll);
    assert_eq!(fetched(&answer).next().map(|(_, data)| data.high_watermark), Some(1));
    let behind = producer.send(&ApiVersionsRequest::default(), 0);
    wait("two wait", || in_line(&lab, Class::Requests) == 2);
    lab.perturbation.let_go(Step::Proposal);
    for (client, id) in [(&mut first, held), (&mut second, waits)] {
        let answer = client.receive::<CreateTopicsRequest>(CREATE, id);
        assert_eq!(answer.topics[0].error_code, INVALID_CONFIG);
    }
    assert_eq!(producer.receive::<ApiVersionsRequest>(0, behind).error_code, 0);
    wait("all of it is back", || lab.used(Class::Requests) == 0);
}

thread_local! {
    /// Memory that the test holds on the shard's thread.
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

#[test]
fn responses_that_fill_their_memory_hold_up_fetches_alone() {
    let lab = lab();
    let (mut consumer, mut other) = (lab.client(), lab.client());
    other.create_topic("t", 1, &[]);
    assert_eq!(other.produce("t", 0, record(&[1; 1000])), (0, 0));
    lab.on(0, |shard| HELD.set(shard.response_memory(1 << 20).ok()));
    let poll = consumer.send(&fetch(0, 1, &[("t", 0, 0)]), FETCH);
    wait("a response waits for memory", || in_line(&lab, Class::Responses) == 1);
    other.ping();
    assert_eq!(other.produce("t", 0, record(b"meanwhile")), (0, 1));
    assert_eq!(other.list_offset("t", 0, -1), (0, -1, 2));
    // Nothing to return needs no memory.
    assert_eq!(other.fetch("t", 0, 2).error_code, 0);
    lab.on(0, |_| drop(HELD.take()));
    let answer = consumer.receive::<FetchRequest>(FETCH, poll);
    assert_eq!(fetched(&answer).next().map(|(_, data)| data.high_watermark), Some(2));
    wait("all of it is back", || lab.used(Class::Responses) == 0);
}
