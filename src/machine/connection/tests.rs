//! Orders in and out of a connection, by example and at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LIMITS: Limits =
    Limits { in_flight_max: 4, unsent_bytes_max: 100, stalled_ms_max: 10, idle_ms_max: 1000 };

type Conn = Connection<&'static str, u32>;

fn connection() -> Conn {
    Connection::new(0, LIMITS)
}

/// Opens an answered request that settles at once.
fn quick(connection: &mut Conn) -> RequestId {
    let opened = connection.open(0, Response::InTurn, []);
    assert!(opened.ready, "a request that touches nothing waits for nothing");
    connection.settle(opened.id, &mut Vec::new());
    opened.id
}

#[test]
fn responses_leave_in_the_order_of_requests() {
    let mut connection = connection();
    let ids = [quick(&mut connection), quick(&mut connection), quick(&mut connection)];
    connection.complete(ids[2], 2, 1);
    connection.complete(ids[1], 1, 1);
    assert_eq!(connection.pop_ready(0), None, "the first is not complete");
    connection.complete(ids[0], 0, 1);
    assert_eq!([0, 1, 2].map(Some), [(); 3].map(|()| connection.pop_ready(0)));
    assert_eq!(connection.pop_ready(0), None);
    connection.check();
}

#[test]
fn a_silent_request_takes_no_slot_but_counts_in_flight() {
    let mut connection = connection();
    let silent = connection.open(0, Response::Never, [("p", Access::Exclusive)]);
    let behind = connection.open(0, Response::InTurn, [("p", Access::Exclusive)]);
    assert_eq!((silent.ready, behind.ready, connection.in_flight()), (true, false, 2));
    let mut ready = Vec::new();
    connection.settle(silent.id, &mut ready);
    assert_eq!(ready, [behind.id]);
    connection.settle(behind.id, &mut ready);
    connection.complete(behind.id, 1, 1);
    assert_eq!(connection.pop_ready(0), Some(1), "the silent one holds no response up");
    connection.complete_silent(silent.id);
    assert_eq!(connection.in_flight(), 0);
}

#[test]
fn reading_stops_at_each_cap_and_resumes() {
    let mut connection = connection();
    let ids: Vec<_> = (0..LIMITS.in_flight_max).map(|_| quick(&mut connection)).collect();
    assert!(!connection.can_read(), "in flight");
    connection.complete(ids[0], 0, 99);
    connection.complete(ids[1], 1, 1);
    connection.pop_ready(0).expect("complete");
    connection.pop_ready(0).expect("complete");
    assert_eq!((connection.in_flight(), connection.unsent_bytes()), (2, 100));
    assert!(!connection.can_read(), "unsent bytes");
    connection.sent(0, 1);
    assert!(connection.can_read());
    connection.check();
}

#[test]
fn shared_access_goes_together_and_exclusive_alone() {
    let mut connection = connection();
    let read = |connection: &mut Conn| connection.open(0, Response::InTurn, [("m", Access::Shared)]);
    let first = read(&mut connection);
    let second = read(&mut connection);
    let write = connection.open(0, Response::InTurn, [("m", Access::Shared), ("m", Access::Exclusive)]);
    let third = read(&mut connection);
    assert_eq!([first, second, write, third].map(|opened| opened.ready), [true, true, false, false]);
    let mut ready = Vec::new();
    connection.settle(second.id, &mut ready);
    assert_eq!(ready, [], "the first read goes on");
    connection.settle(first.id, &mut ready);
    assert_eq!(ready, [write.id]);
    connection.settle(write.id, &mut ready);
    assert_eq!(ready, [write.id, third.id]);
    connection.check();
}

#[test]
fn requests_on_other_keys_are_not_held_back() {
    let mut connection = connection();
    let slow = connection.open(0, Response::InTurn, [("a", Access::Exclusive)]);
    let other = connection.open(0, Response::InTurn, [("b", Access::Exclusive)]);
    let both = connection.open(0, Response::InTurn, [("b", Access::Exclusive), ("a", Access::Exclusive)]);
    assert_eq!([slow, other, both].map(|opened| opened.ready), [true, true, false]);
    assert!(!connection.all_settled());
    let mut ready = Vec::new();
    connection.settle(other.id, &mut ready);
    assert_eq!(ready, []);
    connection.settle(slow.id, &mut ready);
    assert_eq!(ready, [both.id]);
    connection.settle(both.id, &mut ready);
    assert!(connection.all_settled());
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let mut connection = connection();
    let id = quick(&mut connection);
    connection.complete(id, 1, 20);
    assert_eq!(connection.next_deadline(), None, "the client waits for us");
    connection.pop_ready(5).expect("complete");
    assert_eq!(connection.next_deadline(), Some(15));
    connection.sent(12, 0);
    assert_eq!(connection.next_deadline(), Some(15), "no byte is no progress");
    connection.sent(12, 19);
    assert_eq!(connection.on_time(21), None);
    assert_eq!(connection.on_time(22), Some(CloseReason::NotReading));
    assert_eq!((connection.closed(), connection.next_deadline()), (Some(CloseReason::NotReading), None));
}

#[test]
fn an_idle_connection_is_closed() {
    let mut connection = connection();
    assert_eq!(connection.next_deadline(), Some(1000));
    let opened = connection.open(500, Response::Never, []);
    connection.settle(opened.id, &mut Vec::new());
    assert_eq!(connection.next_deadline(), None, "a request in flight is not idle");
    connection.complete_silent(opened.id);
    connection.received(600);
    assert_eq!(connection.on_time(1599), None);
    assert_eq!(connection.on_time(1600), Some(CloseReason::Idle));
}

#[test]
#[should_panic(expected = "ends in silence")]
fn a_request_with_a_slot_does_not_end_in_silence() {
    let mut connection = connection();
    let id = quick(&mut connection);
    connection.complete_silent(id);
}

#[test]
fn after_the_close_everything_late_is_dropped() {
    let mut connection = connection();
    let first = connection.open(0, Response::InTurn, [("a", Access::Exclusive)]);
    let waiting = connection.open(0, Response::Never, [("a", Access::Exclusive)]);
    connection.close(CloseReason::SilentRequestFailed);
    connection.close(CloseReason::Client);
    assert_eq!(connection.closed(), Some(CloseReason::SilentRequestFailed), "the first reason stays");
    let mut ready = Vec::new();
    connection.settle(first.id, &mut ready);
    connection.complete(first.id, 1, 10);
    connection.complete_silent(waiting.id);
    connection.sent(0, 10);
    assert_eq!((ready.len(), connection.pop_ready(0), connection.can_read()), (0, None, false));
    connection.check();
}

#[test]
fn a_drained_connection_answers_what_is_in_flight() {
    let mut connection = connection();
    let id = quick(&mut connection);
    connection.drain();
    assert!(!connection.can_read() && !connection.is_drained());
    connection.complete(id, 1, 3);
    connection.pop_ready(0).expect("complete");
    assert!(!connection.is_drained());
    connection.sent(0, 3);
    assert!(connection.is_drained());
}

#[test]
#[should_panic(expected = "settled before it is answered")]
fn an_answer_before_the_effect_is_a_bug() {
    let mut connection = connection();
    let opened = connection.open(0, Response::InTurn, [("a", Access::Exclusive)]);
    connection.complete(opened.id, 1, 1);
}

#[derive(Clone, Debug)]
struct Request {
    answered: bool,
    keys: Vec<(u8, bool)>,
    bytes: usize,
}

fn request() -> impl Strategy<Value = Request> {
    let keys = prop::collection::vec((0..4u8, any::<bool>()), 0..4);
    (any::<bool>(), keys, 0..60usize).prop_map(|(answered, keys, bytes)| Request { answered, keys, bytes })
}

/// What is known of the requests that were opened.
#[derive(Default)]
struct World {
    /// Ready, in no particular order: any of them may settle next.
    ready: Vec<usize>,
    settled: Vec<usize>,
    /// Indexes of requests in the order in which their effect was fixed.
    effects: Vec<usize>,
    answers: Vec<usize>,
    ids: BTreeMap<RequestId, usize>,
}

proptest! {
    /// Whatever the order in which work is done: responses leave in order, conflicting effects happen in
    /// order, caps hold, and everything finishes.
    #[test]
    fn order_holds_whatever_finishes_first(
        requests in prop::collection::vec(request(), 1..40),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 400),
    ) {
        let mut connection: Connection<u8, usize> = Connection::new(0, LIMITS);
        let mut world = World::default();
        let mut opened = 0;
        let mut choices = choices.into_iter().cycle();
        while world.effects.len() < requests.len() || connection.in_flight() > 0 || connection.unsent_bytes() > 0 {
            let mut moves = vec![];
            if opened < requests.len() && connection.can_read() { moves.push('o') }
            if !world.ready.is_empty() { moves.push('s') }
            if !world.settled.is_empty() { moves.push('c') }
            if connection.unsent_bytes() > 0 || connection.in_flight() > 0 { moves.push('w') }
            let choice = choices.next().expect("it cycles");
            match moves[choice.index(moves.len())] {
                'o' => {
                    let request = &requests[opened];
                    let keys = request.keys.iter().map(|(key, exclusive)| {
                        (*key, if *exclusive { Access::Exclusive } else { Access::Shared })
                    });
                    let response = if request.answered { Response::InTurn } else { Response::Never };
                    let new = connection.open(0, response, keys);
                    world.ids.insert(new.id, opened);
                    if new.ready { world.ready.push(opened) }
                    opened += 1;
                }
                's' => {
                    let index = world.ready.swap_remove(choice.index(world.ready.len()));
                    let mut ready = Vec::new();
                    connection.settle(id_of(&world, index), &mut ready);
                    world.ready.extend(ready.iter().map(|id| world.ids[id]));
                    world.effects.push(index);
                    world.settled.push(index);
                }
                'c' => {
                    let index = world.settled.swap_remove(choice.index(world.settled.len()));
                    let id = id_of(&world, index);
                    if requests[index].answered {
                        connection.complete(id, index, requests[index].bytes);
                    } else {
                        connection.complete_silent(id);
                    }
                }
                _ => while let Some(index) = connection.pop_ready(0) {
                    world.answers.push(index);
                    connection.sent(0, requests[index].bytes);
                },
            }
            connection.check();
        }
        let answered: Vec<usize> = (0..requests.len()).filter(|index| requests[*index].answered).collect();
        prop_assert_eq!(world.answers, answered);
        for (at, later) in world.effects.iter().enumerate() {
            for earlier in world.effects[at + 1..].iter().filter(|earlier| *earlier < later) {
                prop_assert!(!conflict(&requests[*earlier], &requests[*later]), "{earlier} after {later}");
            }
        }
    }
}

fn id_of(world: &World, index: usize) -> RequestId {
    *world.ids.iter().find(|(_, other)| **other == index).expect("it was opened").0
}

fn conflict(a: &Request, b: &Request) -> bool {
    let keys = |request: &Request| request.keys.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>();
    keys(a).intersection(&keys(b)).any(|key| {
        let exclusive = |request: &Request| request.keys.contains(&(*key, true));
        exclusive(a) || exclusive(b)
    })
}
