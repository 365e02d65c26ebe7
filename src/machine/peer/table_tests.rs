//! One table by hand; the bounds on its attempts. A network of many tables is in `network_tests.rs`.

use super::super::admit::Refusal;
use super::super::limiter::{BURST, PER_SECOND};
use super::super::line::{Level, Line};
use super::super::link::STABLE_MS;
use super::*;
use proptest::prelude::*;
use uuid::Uuid;

fn identity(node_id: i32, process: u128) -> Identity {
    Identity {
        node_id,
        cluster_id: Some(Uuid::from_u128(1)),
        directory: Uuid::from_u128(100 + node_id as u128),
        incarnation: Uuid::from_u128(process),
        broker_epoch: None,
    }
}

fn address(node_id: i32) -> SocketAddr {
    SocketAddr::from(([10, 0, (node_id >> 8) as u8, node_id as u8], 9093))
}

fn wanted(node_id: i32, streams: &[Stream], urgent: bool) -> Wanted {
    let addresses = vec![address(node_id)];
    Wanted { peer: Peer::Node(node_id), streams: streams.to_vec(), urgent, registered: true, addresses }
}

const CONTROL: &[Stream] = &[Stream::Raft, Stream::Requests];
const THREE: &[Stream] = &[Stream::Raft, Stream::Requests, Stream::Bulk];

/// A table whose attempts succeed or fail as the lab says, at once.
struct Lab {
    table: Table,
    now_ms: u64,
    /// What attempts meet: none for a success.
    meets: Option<Failure>,
    attempts: Vec<(u64, Peer, Stream)>,
    up: BTreeMap<(Peer, Stream), u64>,
    log: Vec<(Peer, Line)>,
    closed: Vec<Route>,
}

impl Lab {
    fn new(plan: &[Wanted]) -> Lab {
        let mut lab = Lab {
            table: Table::new(identity(0, 1_000), 42),
            now_ms: 1_000_000,
            meets: None,
            attempts: Vec::new(),
            up: BTreeMap::new(),
            log: Vec::new(),
            closed: Vec::new(),
        };
        lab.plan(plan);
        lab
    }

    fn plan(&mut self, plan: &[Wanted]) {
        self.act(|table, now, out| table.set_plan(now, plan, out));
    }

    fn act(&mut self, input: impl FnOnce(&mut Table, u64, &mut Vec<Action>)) {
        let mut out = Vec::new();
        input(&mut self.table, self.now_ms, &mut out);
        self.table.check();
        for Action { peer, stream, what } in out {
            match what {
                action::Action::Connect { connection, .. } => {
                    self.attempts.push((self.now_ms, peer, stream));
                    self.answer(Route { peer, stream, connection });
                }
                action::Action::Up { connection, .. } => {
                    assert_eq!(self.up.insert((peer, stream), connection), None);
                }
                action::Action::Close { connection } => {
                    self.closed.push(Route { peer, stream, connection });
                    self.up.remove(&(peer, stream));
                }
                action::Action::Ping { connection } => {
                    self.table.received(self.now_ms, Route { peer, stream, connection });
                }
                action::Action::Log(line) => self.log.push((peer, line)),
                action::Action::LookUp | action::Action::Hint(_) => {}
            }
        }
    }

    fn answer(&mut self, route: Route) {
        let identity = match route.peer {
            Peer::Node(id) => identity(id, id as u128),
            Peer::Seed(_) => identity(77, 77),
        };
        match self.meets {
            Some(failure) => self.act(|table, now, out| table.failed(now, route, failure, out)),
            None => {
                self.act(|table, now, out| table.connected(now, route, out));
                self.act(|table, now, out| table.accepted(now, route, identity, out));
            }
        }
    }

    fn run_until(&mut self, until_ms: u64) {
        while let Some(at) = self.table.next_deadline().filter(|at| *at <= until_ms) {
            self.now_ms = self.now_ms.max(at);
            let attempts = self.attempts.len();
            self.act(Table::on_time);
            let later = self.table.next_deadline().is_none_or(|next| next > self.now_ms);
            assert!(later || self.attempts.len() > attempts, "stuck at {}", self.now_ms);
        }
        self.now_ms = until_ms;
    }

    fn run(&mut self, ms: u64) {
        self.run_until(self.now_ms + ms);
    }

    /// Breaks everything that is up.
    fn break_all(&mut self) {
        for ((peer, stream), connection) in std::mem::take(&mut self.up) {
            let route = Route { peer, stream, connection };
            self.act(|table, now, out| table.failed(now, route, Failure::Reset, out));
        }
    }

    fn streams_up(&self, peer: Peer) -> Vec<Stream> {
        self.up.keys().filter(|(of, _)| *of == peer).map(|(_, stream)| *stream).collect()
    }
}

#[test]
fn a_peer_with_three_streams_costs_the_attempts_of_one() {
    for seed in 0..50 {
        let mut lab = Lab::new(&[wanted(1, THREE, true)]);
        lab.table.random = SplitMix::new(seed);
        lab.run(60_000);
        assert_eq!(lab.streams_up(Peer::Node(1)), THREE);
        lab.meets = Some(Failure::Refused);
        lab.attempts.clear();
        lab.log.clear();
        lab.break_all();
        lab.run(10_000);
        assert!(lab.table.is_given_up(Peer::Node(1)));
        assert!(lab.attempts.iter().all(|(_, _, stream)| *stream == Stream::Raft), "only the lead dials");
        assert!(lab.attempts.len() <= 6, "{:?}", lab.attempts);
        lab.meets = None;
        lab.run(6_000);
        assert_eq!(lab.streams_up(Peer::Node(1)), THREE);
        assert!(lab.attempts.len() <= 7 + 2, "7, and one for each of the other streams: {:?}", lab.attempts);
        let loud = lab.log.iter().filter(|(_, line)| line.level() != Level::Debug);
        assert_eq!(loud.count(), 2, "one line when it goes, one when it is back: {:?}", lab.log);
    }
}

fn most_in_a_second(attempts: &[(u64, Peer, Stream)]) -> usize {
    let times: Vec<u64> = attempts.iter().map(|(at, _, _)| *at).collect();
    (0..times.len())
        .map(|from| times[from..].iter().take_while(|at| **at < times[from] + 1_000).count())
        .max()
        .unwrap_or(0)
}

#[test]
fn a_hundred_peers_that_break_together_make_no_storm() {
    for (failure, urgent) in [(Failure::Refused, true), (Failure::Refused, false), (Failure::TimedOut, true)]
    {
        let plan: Vec<Wanted> = (1..=99).map(|id| wanted(id, CONTROL, urgent)).collect();
        let mut lab = Lab::new(&plan);
        lab.run(30_000);
        assert_eq!(lab.up.len(), 198);
        assert!(most_in_a_second(&lab.attempts) as u64 <= BURST + PER_SECOND);
        lab.attempts.clear();
        lab.meets = Some(failure);
        lab.break_all();
        lab.run(60_000);
        assert!(most_in_a_second(&lab.attempts) as u64 <= BURST + PER_SECOND);
        let of_one = lab.attempts.iter().filter(|(_, peer, _)| *peer == Peer::Node(50)).count();
        assert!(of_one <= if urgent { 5 + 14 } else { 5 + 3 }, "{of_one} attempts in a minute");
        // Back again: everything stands in time, though all probes share the bound.
        lab.meets = None;
        lab.attempts.clear();
        lab.run(if urgent { 6_000 } else { 31_000 });
        assert_eq!(lab.up.len(), 198);
        assert!(most_in_a_second(&lab.attempts) as u64 <= BURST + PER_SECOND);
    }
}

#[test]
fn urgent_peers_are_tried_first() {
    let mut plan: Vec<Wanted> = (1..=99).map(|id| wanted(id, CONTROL, false)).collect();
    for id in [97, 98] {
        plan[id - 1].urgent = true;
    }
    let mut lab = Lab::new(&plan);
    lab.run(0);
    let first: Vec<Peer> = lab.attempts.iter().take(2).map(|(_, peer, _)| *peer).collect();
    assert_eq!(first, [Peer::Node(97), Peer::Node(98)]);
}

#[test]
fn streams_follow_their_lead() {
    let node = Peer::Node(1);
    let mut lab = Lab::new(&[wanted(1, CONTROL, true)]);
    lab.run(2 * STABLE_MS);
    assert_eq!(lab.streams_up(node), CONTROL);
    // One of the others breaks: it alone comes back.
    let connection = lab.up.remove(&(node, Stream::Requests)).unwrap();
    let route = Route { peer: node, stream: Stream::Requests, connection };
    lab.act(|table, now, out| table.failed(now, route, Failure::Reset, out));
    assert!(lab.closed.is_empty());
    lab.run(1_000);
    assert_eq!(lab.streams_up(node), CONTROL);
    // The lead breaks: the others are closed, whatever TCP thinks of them.
    lab.meets = Some(Failure::TimedOut);
    let connection = lab.up.remove(&(node, Stream::Raft)).unwrap();
    let route = Route { peer: node, stream: Stream::Raft, connection };
    lab.act(|table, now, out| table.failed(now, route, Failure::Reset, out));
    assert_eq!(lab.closed.len(), 1);
    assert_eq!((lab.table.up(node, Stream::Requests), lab.streams_up(node)), (None, vec![]));
}

#[test]
fn a_plan_that_changes_leaves_alone_what_stays() {
    let node = Peer::Node(1);
    let mut lab = Lab::new(&[wanted(1, CONTROL, true), wanted(2, CONTROL, true)]);
    lab.run(2 * STABLE_MS);
    let before = lab.up.clone();
    lab.plan(&[wanted(1, THREE, false), wanted(2, CONTROL, true)]);
    lab.run(1_000);
    assert!(before.iter().all(|(at, connection)| lab.up.get(at) == Some(connection)));
    assert_eq!(lab.streams_up(node), THREE);
    // The lead is not wanted any more: another stream that is up leads on.
    lab.plan(&[wanted(1, &[Stream::Requests, Stream::Bulk], false), wanted(2, CONTROL, true)]);
    assert_eq!(lab.streams_up(node), [Stream::Requests, Stream::Bulk]);
    assert_eq!(lab.closed.len(), 1);
    // One that is up leads before one that is yet to be dialled.
    let bulk = lab.up[&(node, Stream::Bulk)];
    lab.plan(&[wanted(1, &[Stream::Raft, Stream::Bulk], false), wanted(2, CONTROL, true)]);
    lab.run(1_000);
    assert_eq!(lab.table.up(node, Stream::Bulk), Some(bulk));
    assert_eq!(lab.streams_up(node), [Stream::Raft, Stream::Bulk]);
    // Nobody is wanted any more.
    lab.plan(&[]);
    assert_eq!((lab.up.len(), lab.table.next_deadline()), (0, None));
}

#[test]
fn an_answer_by_another_process_on_any_stream_ends_the_lead() {
    let node = Peer::Node(1);
    let mut lab = Lab::new(&[wanted(1, &[Stream::Raft], true)]);
    lab.run(2 * STABLE_MS);
    lab.plan(&[wanted(1, CONTROL, true)]);
    // The attempt for requests is answered by a restarted process, while the raft connection hangs.
    let mut out = Vec::new();
    lab.table.on_time(lab.now_ms, &mut out);
    let connect = out.iter().find_map(|action| match action.what {
        action::Action::Connect { connection, .. } => {
            Some(Route { peer: node, stream: action.stream, connection })
        }
        _ => None,
    });
    let route = connect.expect("requests are dialled");
    lab.act(|table, now, out| table.connected(now, route, out));
    let raft = lab.up[&(node, Stream::Raft)];
    lab.act(|table, now, out| table.accepted(now, route, identity(1, 555), out));
    assert!(lab.closed.contains(&Route { peer: node, stream: Stream::Raft, connection: raft }));
    assert_eq!(lab.table.up(node, Stream::Requests), None, "streams follow their lead");
}

#[test]
fn whoever_is_not_looked_for_is_rejected() {
    let seed = Peer::Seed(address(9));
    let plan = [Wanted { peer: seed, addresses: vec![address(9)], ..wanted(9, &[Stream::Requests], true) }];
    let mut lab = Lab::new(&plan);
    lab.run(2 * STABLE_MS);
    assert_eq!(lab.table.met(seed).map(|met| met.node_id), Some(77), "a seed is whoever is there");
    assert!(lab.table.is_alone(lab.now_ms), "a seed is no company");
    for (answer, refusal) in [
        (identity(0, 1_000), Refusal::Myself),
        (identity(0, 5), Refusal::DuplicateNodeId),
        (identity(3, 5), Refusal::NotTheNode),
        (Identity { cluster_id: Some(Uuid::from_u128(8)), ..identity(1, 5) }, Refusal::WrongCluster),
    ] {
        let mut table = Table::new(identity(0, 1_000), 1);
        let mut out = Vec::new();
        table.set_plan(0, &[wanted(1, CONTROL, true)], &mut out);
        table.on_time(0, &mut out);
        let route = Route { peer: Peer::Node(1), stream: Stream::Raft, connection: 1 };
        table.connected(0, route, &mut out);
        out.clear();
        table.accepted(0, route, answer, &mut out);
        let what: Vec<action::Action> = out.iter().map(|action| action.what).collect();
        assert!(what.contains(&action::Action::Close { connection: 1 }));
        assert!(what.contains(&action::Action::Log(Line::Unwanted(Failure::Rejected(refusal)))), "{what:?}");
    }
}

#[test]
fn a_broker_knows_when_it_is_alone() {
    let mut lab = Lab::new(&[wanted(1, CONTROL, true)]);
    assert!(lab.table.is_alone(lab.now_ms), "nobody was ever there");
    lab.run(20_000);
    assert!(!lab.table.is_alone(lab.now_ms));
    lab.meets = Some(Failure::TimedOut);
    lab.break_all();
    lab.run(ALONE_MS - 1);
    assert!(!lab.table.is_alone(lab.now_ms));
    lab.run(1);
    assert!(lab.table.is_alone(lab.now_ms));
}

proptest! {
    /// Contact of a peer, however often, does not make it be tried more than ten times a second.
    #[test]
    fn contact_is_no_way_to_make_a_broker_dial(times in prop::collection::vec(0u64..50, 100..300)) {
        let mut lab = Lab::new(&[wanted(1, CONTROL, false)]);
        lab.meets = Some(Failure::Refused);
        let start = lab.now_ms;
        for wait in times {
            lab.run(wait);
            lab.act(|table, now, out| table.contact(now, 1, out));
            lab.act(|table, now, out| table.contact(now, 2, out));
        }
        let seconds = (lab.now_ms - start) / 1_000 + 1;
        prop_assert!(lab.attempts.len() as u64 <= 1 + 10 * seconds);
    }
}
