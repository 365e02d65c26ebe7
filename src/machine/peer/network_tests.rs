//! Brokers that dial each other over a network with faults: processes that end and restart, hosts that lose their
//! power and leave connections half open, links that are cut both ways or one way. After every step every table is
//! checked; 6 s after the last fault every connection that is wanted stands, and leads to the process that runs now.

use super::Stream;
use super::action;
use super::line::{Failure, Level};
use super::table::{Action, Peer, Route, Table, Wanted};
use super::{Identity, keepalive};
use core::net::SocketAddr;
use proptest::prelude::*;
use ringlog_storage::random::SplitMix;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What is needed stands so long after the last fault, in milliseconds.
const HEALED_MS: u64 = 6_000;
const VOTERS: i32 = 3;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A connection attempt reaches the other host, or does not.
    Syn {
        from: i32,
        route: Route,
        process: u64,
    },
    /// The result of the attempt is known to the one that dialled.
    Connected {
        from: i32,
        route: Route,
        process: u64,
    },
    /// The handshake is answered.
    Answered {
        from: i32,
        route: Route,
        process: u64,
        by: Identity,
    },
    Failed {
        from: i32,
        route: Route,
        process: u64,
        failure: Failure,
    },
    Pong {
        from: i32,
        route: Route,
        process: u64,
    },
    Fault(Fault),
    Start(i32),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The process ends; its host resets connections and refuses new ones.
    Kill { node: i32, for_ms: u64 },
    /// The host goes dark: nobody is told.
    PowerLoss { node: i32, for_ms: u64 },
    /// Nothing gets from one node to the other for a while.
    Cut { from: i32, to: i32, for_ms: u64 },
    /// Every connection between the two is reset.
    Reset { a: i32, b: i32 },
}

impl Fault {
    fn lasts_ms(self) -> u64 {
        match self {
            Fault::Kill { for_ms, .. } | Fault::PowerLoss { for_ms, .. } | Fault::Cut { for_ms, .. } => {
                for_ms
            }
            Fault::Reset { .. } => 0,
        }
    }
}

struct Node {
    table: Table,
    identity: Identity,
    /// Counts starts: what was scheduled for an earlier process is dropped.
    process: u64,
    running: bool,
    /// Its host answers, if only to refuse.
    powered: bool,
    /// Connections that this node dialled, with the process of the other side.
    open: BTreeMap<(Peer, Stream), (u64, u64)>,
}

struct Network {
    now_ms: u64,
    nodes: Vec<Node>,
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
    cut_until: BTreeMap<(i32, i32), u64>,
    random: SplitMix,
    warnings: usize,
}

fn address(node: i32) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 9093))
}

fn node_of(address: SocketAddr) -> i32 {
    match address {
        SocketAddr::V4(v4) => i32::from(v4.ip().octets()[3]),
        SocketAddr::V6(_) => unreachable!("the lab has none"),
    }
}

impl Network {
    fn new(count: i32, seed: u64) -> Network {
        let mut random = SplitMix::new(seed);
        let nodes = (0..count).map(|id| Network::node(id, 1, &mut random)).collect();
        let mut network = Network {
            now_ms: 1_000_000,
            nodes,
            events: BTreeMap::new(),
            scheduled: 0,
            cut_until: BTreeMap::new(),
            random,
            warnings: 0,
        };
        for id in 0..count {
            network.nodes[id as usize].running = false;
            network.after(0, Event::Start(id));
        }
        network
    }

    fn node(id: i32, process: u64, random: &mut SplitMix) -> Node {
        let identity = Identity {
            node_id: id,
            cluster_id: Some(Uuid::from_u128(1)),
            directory: Uuid::from_u128(50 + id as u128),
            incarnation: Uuid::from_u128((u128::from(process) << 32) + id as u128),
            broker_epoch: None,
        };
        let table = Table::new(identity, random.draw());
        Node { table, identity, process, running: true, powered: true, open: BTreeMap::new() }
    }

    /// Voters want everybody, everybody wants the voters, and is urgent about it.
    fn plan(&self, me: i32) -> Vec<Wanted> {
        let others = (0..self.nodes.len() as i32).filter(|id| *id != me && (me < VOTERS || *id < VOTERS));
        let wanted = |id: i32| Wanted {
            peer: Peer::Node(id),
            streams: vec![Stream::Raft, Stream::Requests],
            urgent: id < VOTERS,
            registered: true,
            addresses: vec![address(id)],
        };
        others.map(wanted).collect()
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((self.now_ms + ms, self.scheduled), event);
    }

    fn latency(&mut self) -> u64 {
        1 + self.random.draw() % 20
    }

    fn passes(&self, from: i32, to: i32) -> bool {
        self.cut_until.get(&(from, to)).is_none_or(|until| *until <= self.now_ms)
    }

    fn reaches(&self, a: i32, b: i32) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    fn act(&mut self, id: i32, input: impl FnOnce(&mut Table, u64, &mut Vec<Action>)) {
        let node = &mut self.nodes[id as usize];
        let mut out = Vec::new();
        input(&mut node.table, self.now_ms, &mut out);
        node.table.check();
        for Action { peer, stream, what } in out {
            let process = self.nodes[id as usize].process;
            match what {
                action::Action::Connect { connection, .. } => {
                    let latency = self.latency();
                    self.after(
                        latency,
                        Event::Syn { from: id, route: Route { peer, stream, connection }, process },
                    );
                }
                action::Action::Close { .. } => {
                    self.nodes[id as usize].open.remove(&(peer, stream));
                }
                action::Action::Ping { connection } => {
                    let latency = self.latency();
                    self.after(
                        latency,
                        Event::Pong { from: id, route: Route { peer, stream, connection }, process },
                    );
                }
                action::Action::Log(line) => self.warnings += usize::from(line.level() == Level::Warn),
                action::Action::Up { .. } | action::Action::LookUp | action::Action::Hint(_) => {}
            }
        }
    }

    fn is_present(&self, from: i32, process: u64) -> bool {
        let node = &self.nodes[from as usize];
        node.running && node.process == process
    }

    fn happen(&mut self, event: Event) {
        let latency = self.latency();
        match event {
            Event::Start(id) => self.start(id),
            Event::Fault(fault) => self.fault(fault),
            Event::Syn { from, route, process } => {
                let to = self.target(route);
                let node = &self.nodes[to as usize];
                // What gets no answer at all ends by the link's own deadline.
                if self.reaches(from, to) && node.powered {
                    let failure = Failure::Refused;
                    let refused = Event::Failed { from, route, process, failure };
                    let event =
                        if node.running { Event::Connected { from, route, process } } else { refused };
                    self.after(latency, event);
                }
            }
            Event::Connected { from, route, process } if self.is_present(from, process) => {
                self.act(from, |table, now, out| table.connected(now, route, out));
                let to = self.target(route);
                if self.reaches(from, to) && self.nodes[to as usize].running {
                    let dialled = self.nodes[from as usize].identity;
                    self.act(to, |table, now, out| table.inbound(now, &dialled, out));
                    let by = self.nodes[to as usize].identity;
                    self.after(latency, Event::Answered { from, route, process, by });
                }
            }
            Event::Answered { from, route, process, by } if self.is_present(from, process) => {
                let to = self.target(route);
                if self.reaches(from, to) && self.nodes[to as usize].identity == by {
                    let other = self.nodes[to as usize].process;
                    self.nodes[from as usize]
                        .open
                        .insert((route.peer, route.stream), (route.connection, other));
                    self.act(from, |table, now, out| table.accepted(now, route, by, out));
                }
            }
            Event::Failed { from, route, process, failure } if self.is_present(from, process) => {
                let open = &mut self.nodes[from as usize].open;
                if open
                    .get(&(route.peer, route.stream))
                    .is_some_and(|(number, _)| *number == route.connection)
                {
                    open.remove(&(route.peer, route.stream));
                }
                self.act(from, |table, now, out| table.failed(now, route, failure, out));
            }
            Event::Pong { from, route, process } if self.is_present(from, process) => {
                self.pong(from, route, process)
            }
            _ => {}
        }
    }

    fn target(&self, route: Route) -> i32 {
        match route.peer {
            Peer::Node(id) => id,
            Peer::Seed(address) => node_of(address),
        }
    }

    /// A ping reaches the process that the connection was made with, or its successor's host, which resets it.
    fn pong(&mut self, from: i32, route: Route, process: u64) {
        let to = self.target(route);
        let open = self.nodes[from as usize].open.get(&(route.peer, route.stream)).copied();
        let Some((_, other)) = open.filter(|(number, _)| *number == route.connection) else { return };
        if !self.reaches(from, to) || !self.nodes[to as usize].powered {
            return;
        }
        if self.is_present(to, other) {
            self.act(from, |table, now, _| table.received(now, route));
        } else {
            self.after(1, Event::Failed { from, route, process, failure: Failure::Reset });
        }
    }

    fn start(&mut self, id: i32) {
        let process = self.nodes[id as usize].process + 1;
        self.nodes[id as usize] = Network::node(id, process, &mut self.random);
        let plan = self.plan(id);
        self.act(id, |table, now, out| table.set_plan(now, &plan, out));
    }

    fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill { node, for_ms } if self.nodes[node as usize].running => {
                self.nodes[node as usize].running = false;
                self.reset_all(|from, to| from == node || to == node);
                self.after(for_ms, Event::Start(node));
            }
            Fault::PowerLoss { node, for_ms } if self.nodes[node as usize].running => {
                self.nodes[node as usize].running = false;
                self.nodes[node as usize].powered = false;
                self.after(for_ms, Event::Start(node));
            }
            Fault::Cut { from, to, for_ms } => {
                let until = self.cut_until.entry((from, to)).or_default();
                *until = (*until).max(self.now_ms + for_ms);
            }
            Fault::Reset { a, b } => self.reset_all(|from, to| (from, to) == (a, b) || (from, to) == (b, a)),
            Fault::Kill { .. } | Fault::PowerLoss { .. } => {}
        }
    }

    /// Resets connections that were dialled from one node to another. A cut loses the news of it.
    fn reset_all(&mut self, which: impl Fn(i32, i32) -> bool) {
        for from in 0..self.nodes.len() as i32 {
            let process = self.nodes[from as usize].process;
            let open: Vec<_> =
                self.nodes[from as usize].open.iter().map(|(at, number)| (*at, *number)).collect();
            for ((peer, stream), (connection, _)) in open {
                let route = Route { peer, stream, connection };
                let to = self.target(route);
                if which(from, to) && self.reaches(from, to) {
                    let latency = self.latency();
                    self.after(latency, Event::Failed { from, route, process, failure: Failure::Reset });
                }
            }
        }
    }

    fn run_until(&mut self, until_ms: u64) {
        loop {
            let running = self.nodes.iter().filter(|node| node.running);
            let timer =
                running.filter_map(|node| node.table.next_deadline()).min().map(|at| at.max(self.now_ms));
            let event = self.events.keys().next().map(|(at, _)| *at);
            let Some(at) = timer.into_iter().chain(event).min().filter(|at| *at <= until_ms) else { break };
            self.now_ms = at;
            if event == Some(at) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
            } else {
                for id in 0..self.nodes.len() as i32 {
                    let node = &self.nodes[id as usize];
                    if node.running && node.table.next_deadline().is_some_and(|due| due <= at) {
                        self.act(id, Table::on_time);
                    }
                }
            }
        }
        self.now_ms = until_ms;
    }

    /// Connections that are wanted and do not stand, or lead to a process that is gone.
    fn missing(&self) -> BTreeSet<(i32, Peer, Stream)> {
        let mut missing = BTreeSet::new();
        for (id, node) in self.nodes.iter().enumerate() {
            for wanted in self.plan(id as i32) {
                for stream in wanted.streams {
                    let Peer::Node(to) = wanted.peer else { unreachable!() };
                    let up = node.table.up(wanted.peer, stream);
                    let open = node.open.get(&(wanted.peer, stream)).copied();
                    let present = self.nodes[to as usize].process;
                    if up.is_none() || open != up.map(|connection| (connection, present)) {
                        missing.insert((id as i32, wanted.peer, stream));
                    }
                }
            }
        }
        missing
    }
}

fn fault(count: i32) -> impl Strategy<Value = Fault> {
    let node = 0..count;
    let long = prop_oneof![0u64..300, 0u64..5_000, 0u64..40_000];
    prop_oneof![
        (node.clone(), long.clone()).prop_map(|(node, for_ms)| Fault::Kill { node, for_ms }),
        (node.clone(), long.clone()).prop_map(|(node, for_ms)| Fault::PowerLoss { node, for_ms }),
        (node.clone(), node.clone(), long).prop_map(|(from, to, for_ms)| Fault::Cut { from, to, for_ms }),
        (node.clone(), node).prop_map(|(a, b)| Fault::Reset { a, b }),
    ]
}

proptest! {
    #[test]
    fn what_is_needed_stands_six_seconds_after_the_last_fault(
        seed: u64,
        count in 2i32..6,
        faults in prop::collection::vec((0u64..20_000, fault(5)), 0..12),
    ) {
        let mut network = Network::new(count, seed);
        network.run_until(network.now_ms + 2_000);
        prop_assert_eq!(network.missing(), BTreeSet::new(), "at the start");
        let mut last_ms = network.now_ms;
        for (wait_ms, fault) in faults {
            let in_range = match fault {
                Fault::Kill { node, .. } | Fault::PowerLoss { node, .. } => node < count,
                Fault::Cut { from, to, .. } => from < count && to < count,
                Fault::Reset { a, b } => a < count && b < count,
            };
            if in_range {
                network.run_until(network.now_ms + wait_ms);
                last_ms = last_ms.max(network.now_ms + fault.lasts_ms());
                network.happen(Event::Fault(fault));
            }
        }
        network.run_until(last_ms + HEALED_MS);
        prop_assert_eq!(network.missing(), BTreeSet::new(), "{} ms after the last fault", HEALED_MS);
    }
}

#[test]
fn a_quiet_network_stays_as_it_is() {
    let mut network = Network::new(5, 3);
    network.run_until(network.now_ms + 2_000);
    let open = |network: &Network| network.nodes.iter().map(|node| node.open.clone()).collect::<Vec<_>>();
    let before = open(&network);
    network.run_until(network.now_ms + 20 * keepalive::GONE_MS);
    assert_eq!((open(&network), network.warnings), (before, 0));
}
