//! A cluster from one seed: nodes, network, disks, clients, an operator, and faults; then calm, in which everything
//! must come right.

use super::check::acknowledged::Acknowledged;
use super::check::election::Elections;
use super::check::history::History;
use super::check::logs::Logs;
use super::check::promises::Promises;
use super::counts::Counts;
use super::net::Net;
use super::node::{Node, Process, Started, Surroundings, timing, traces};
use crate::disk::Survives;
use crate::rng::Rng;
use crate::trace::Trace;
use ringlog::machine::consensus::membership::Change;
use ringlog::machine::consensus::mutant::{self, Mutant};
use ringlog::machine::consensus::{Part, Peer};
use std::collections::BTreeSet;

/// Time that the cluster has, after the last fault, to do all that it should.
const CALM_US: u64 = 20_000_000;
const CLIENT_US: u64 = 12_000;
const OPERATOR_US: u64 = 50_000;

/// What a seed decides once.
pub struct Style {
    pub voters: i32,
    pub learners: i32,
    /// The cluster begins with one voter and grows to `voters`.
    pub grows: bool,
    pub faults_us: u64,
    pub fault_every_us: u64,
    pub loss_percent: u64,
    pub double_percent: u64,
    pub late_percent: u64,
    pub delay_us: u64,
    pub idle_percent: u64,
}

impl Style {
    fn random(rng: &mut Rng) -> Style {
        let voters = rng.pick(&[1, 3, 3, 3, 3, 3, 5, 5, 7]);
        Style {
            voters,
            learners: rng.pick(&[0, 0, 1, 2]),
            grows: voters == 3 && rng.percent(25),
            faults_us: rng.between(800, 3_000) * 1_000,
            fault_every_us: rng.pick(&[60, 150, 400]) * 1_000,
            loss_percent: rng.pick(&[0, 0, 2, 10]),
            double_percent: rng.pick(&[0, 2, 10]),
            late_percent: rng.pick(&[0, 0, 1, 5]),
            delay_us: rng.pick(&[1_000, 4_000, 15_000]),
            idle_percent: rng.pick(&[0, 30, 70]),
        }
    }
}

/// See the module's documentation.
pub struct World {
    pub rng: Rng,
    pub style: Style,
    pub net: Net,
    pub nodes: Vec<Node>,
    pub now_us: u64,
    pub counts: Counts,
    pub trace: Trace,
    pub listed: BTreeSet<i32>,
    /// Changes that the operator wants, in order.
    pub wishes: Vec<Change>,
    /// A node that is to be a member again once it is removed.
    pub returns: Option<Peer>,
    /// The faults are over.
    pub is_calm: bool,
    pub next_id: u64,
    /// Commands whose fate is unknown, to be proposed again.
    pub again: Vec<u64>,
    /// A node whose disk was lost or refused, until it is a member again.
    pub replaced: Option<i32>,
    pub elections: Elections,
    pub history: History,
    pub logs: Logs,
    pub promises: Promises,
    pub acknowledged: Acknowledged,
    fault_at_us: u64,
    client_at_us: u64,
    operator_at_us: u64,
    logs_at_us: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let style = Style::random(&mut rng);
        let mut net = Net::new(rng.fork());
        (net.loss_percent, net.double_percent) = (style.loss_percent, style.double_percent);
        (net.late_percent, net.delay_us) = (style.late_percent, style.delay_us);
        let nodes = (0..style.voters + style.learners).map(|id| Node::new(id, &mut rng)).collect();
        let first = if style.grows { 1 } else { style.voters };
        World {
            net,
            nodes,
            now_us: 0,
            counts: Counts::default(),
            trace: Trace::default(),
            listed: (0..first).collect(),
            wishes: Vec::new(),
            returns: None,
            is_calm: false,
            next_id: 1,
            again: Vec::new(),
            replaced: None,
            elections: Elections::default(),
            history: History::default(),
            logs: Logs::default(),
            promises: Promises::default(),
            acknowledged: Acknowledged::default(),
            fault_at_us: 300_000,
            client_at_us: 1,
            operator_at_us: 2,
            logs_at_us: 3,
            style,
            rng,
        }
    }

    /// Runs a seed. Returns the hash of all that happened.
    pub fn run(seed: u64, counts: &mut Counts) -> u64 {
        let mut world = World::new(seed);
        let faults_end = world.style.faults_us;
        world.until(faults_end, |_| false);
        world.calm_down();
        let before = world.acknowledged.number();
        let deadline = world.now_us + CALM_US;
        let is_well = world.until(deadline, |world| world.is_well(before));
        assert!(is_well, "20 s after the last fault the cluster is not well: {}", world.complaint(before));
        world.final_checks();
        if world.style.grows {
            world.counts.note("grown from one");
        }
        counts.merge(&world.counts);
        for node in &world.nodes {
            world.trace.note("disk", "", node.disk.trace());
        }
        world.trace.value()
    }

    pub fn say(&self, line: impl FnOnce() -> String) {
        if traces() {
            println!("{:>9.3} {}", self.now_us as f64 / 1000.0, line());
        }
    }

    /// Lets time pass until something holds or the deadline comes.
    fn until(&mut self, deadline_us: u64, holds: impl Fn(&World) -> bool) -> bool {
        let mut looked_us = self.now_us;
        while self.now_us < deadline_us {
            self.step();
            if self.now_us >= looked_us + 20_000 {
                looked_us = self.now_us;
                if holds(self) {
                    return true;
                }
            }
        }
        false
    }

    /// Goes to the next moment at which anything happens, and lets it.
    fn step(&mut self) {
        let mut next = self.client_at_us.min(self.operator_at_us).min(self.logs_at_us);
        if !self.is_calm {
            next = next.min(self.fault_at_us);
        }
        for node in &self.nodes {
            next = next.min(node.start_at_us.unwrap_or(u64::MAX));
            if let Some(process) = &node.process {
                let due = process.next_tick_us.min(process.disk_busy.map_or(u64::MAX, |(at, _)| at));
                next = next.min(due.max(process.stopped_until_us));
            }
        }
        next = next.min(self.net.next_at().unwrap_or(u64::MAX));
        self.now_us = self.now_us.max(next);
        while self.net.next_at().is_some_and(|at| at <= self.now_us) {
            self.deliver();
        }
        for at in 0..self.nodes.len() {
            self.serve(at);
        }
        if self.now_us >= self.client_at_us {
            self.client_at_us = self.now_us + CLIENT_US;
            self.client();
        }
        if self.now_us >= self.operator_at_us {
            self.operator_at_us = self.now_us + OPERATOR_US;
            self.operator();
        }
        if self.now_us >= self.logs_at_us {
            self.logs_at_us = self.now_us + 100_000;
            self.check_logs();
        }
        if !self.is_calm && self.now_us >= self.fault_at_us {
            self.fault_at_us = self.now_us + 1 + self.rng.below(2 * self.style.fault_every_us);
            self.fault();
        }
    }

    fn deliver(&mut self) {
        let Some(arrival) = self.net.take(self.now_us) else { return };
        let at = arrival.to.node as usize;
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.stopped_until_us > self.now_us {
            return;
        }
        // A connection is to a folder, as its handshake proved.
        if process.refused || (process.me != arrival.to && !mutant::on(Mutant::WipedVotes)) {
            return;
        }
        let mut out = std::mem::take(&mut process.out);
        process.machine.step(arrival.from, &arrival.frame, &mut out).expect("nodes send what nodes take");
        process.out = out;
        self.act(at);
    }

    /// What is due at a node: a start, a tick, a write that ends.
    fn serve(&mut self, at: usize) {
        let now = self.now_us;
        if self.nodes[at].start_at_us.is_some_and(|start| start <= now) {
            self.start(at);
        }
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.stopped_until_us > now {
            return;
        }
        if process.next_tick_us <= now {
            let was_stopped = process.stopped_until_us > 0;
            (process.next_tick_us, process.stopped_until_us) = (now + 10_000_000 / process.rate, 0);
            if was_stopped && !process.refused {
                // Who was stopped does not know what it missed: the moment for a read that sees too little.
                self.read(at);
            }
            let Some(process) = &mut self.nodes[at].process else { return };
            if !process.refused {
                let clock_ms = process.clock_ms(now);
                let mut out = std::mem::take(&mut process.out);
                process.machine.tick(clock_ms, &mut out);
                process.out = out;
                self.act(at);
            }
        }
        if let Some(process) = &self.nodes[at].process
            && process.disk_busy.is_some_and(|(end, _)| end <= now)
        {
            self.disk_done(at);
        }
    }

    fn start(&mut self, at: usize) {
        let mut answers = std::collections::BTreeMap::new();
        for other in 0..self.nodes.len() {
            let (me, them) = (at as i32, other as i32);
            if other == at || self.net.is_cut(me, them) || self.net.is_cut(them, me) {
                continue;
            }
            if let Some(answer) = self.nodes[other].answer(&self.listed) {
                answers.insert(them, answer);
            }
        }
        let mut rng = self.rng.fork();
        let mut around =
            Surroundings { listed: &self.listed, answers: &answers, now_us: self.now_us, rng: &mut rng };
        let is_again = self.nodes[at].runs > 0;
        let (process, is_outside) = match self.nodes[at].start(&mut around) {
            Started::Process(process) => (process, false),
            Started::Outside(process) => (process, true),
            Started::Later => {
                self.nodes[at].start_at_us = Some(self.now_us + 30_000);
                return;
            }
            Started::Crashed => {
                self.nodes[at].disk.power_on(Survives::Percent(50));
                self.nodes[at].start_at_us = Some(self.now_us + 30_000);
                return;
            }
        };
        self.say(|| format!("node {at} starts, outside: {is_outside}, {:?}", process.machine.role()));
        self.trace.note("start", "", at as u64);
        self.promises.starts(process.me, process.durable.hard);
        self.counts.add("restarts", u64::from(is_again));
        if is_outside {
            self.wish_for(process.me);
        } else if self.nodes[at].runs == 1 && !is_again && process.machine.members().founders.len() > 1 {
            let is_founder = process.machine.members().founders[0] == process.me;
            self.counts.add("founders followed", u64::from(!is_founder));
        }
        let node = &mut self.nodes[at];
        (node.process, node.start_at_us) = (Some(process).map(|process| *process), None);
        self.act(at);
    }

    /// The operator wants a fresh folder's node to be what its node is to be.
    pub fn wish_for(&mut self, peer: Peer) {
        let is_voter = peer.node < self.style.voters;
        let wish = if is_voter { Change::Voter(peer) } else { Change::Learner(peer) };
        self.wishes
            .retain(|other| !matches!(other, Change::Voter(p) | Change::Learner(p) if p.node == peer.node));
        self.wishes.push(wish);
    }

    /// The process of a node ends. `survives` says what is left on the disk.
    pub fn kill(&mut self, at: usize, survives: Survives) {
        let node = &mut self.nodes[at];
        let Some(process) = node.process.take() else { return };
        for pending in process.pending.into_values() {
            self.again.push(pending.id);
        }
        node.disk.power_on(survives);
    }

    /// Whether the node leads, in its own eyes.
    pub fn leads(&self, at: usize) -> bool {
        let process = self.nodes[at].process.as_ref();
        process.is_some_and(|process| self.serves(process) && process.machine.role().part == Part::Leader)
    }

    /// Whether clients get an answer from a process.
    pub fn serves(&self, process: &Process) -> bool {
        !process.refused && process.stopped_until_us <= self.now_us
    }

    /// The leader of the highest term.
    pub fn leader(&self) -> Option<usize> {
        (0..self.nodes.len())
            .filter(|at| self.leads(*at))
            .max_by_key(|at| self.nodes[*at].process.as_ref().map(|process| process.machine.role().term))
    }

    fn check_logs(&mut self) {
        for node in &self.nodes {
            if let Some(process) = &node.process {
                self.logs.check(&process.machine, process.durable.hard.term);
            }
        }
    }

    /// Whether all that should be is: one leader that all follow, every wish fulfilled, new commands acknowledged,
    /// every member at the same state.
    fn is_well(&self, acknowledged_before: usize) -> bool {
        self.complaint(acknowledged_before).is_empty()
    }

    fn complaint(&self, acknowledged_before: usize) -> String {
        let Some(leader) = self.leader() else { return "no leader".to_owned() };
        if !self.wishes.is_empty() {
            let leader =
                self.nodes[leader].process.as_ref().map(|p| (p.me, p.machine.status(), p.machine.members()));
            return format!("wishes {:?} under {leader:?}", self.wishes);
        }
        if self.acknowledged.number() < acknowledged_before + 5 {
            return "no new commands are acknowledged".to_owned();
        }
        let Some(first) = &self.nodes[leader].process else { return "the leader is gone".to_owned() };
        let role = first.machine.role();
        let members = first.machine.members();
        if members.is_joint() || members.voters != (0..self.style.voters).collect() {
            return format!("the voters are {:?}", members.voters);
        }
        for node in &self.nodes {
            let Some(process) = &node.process else { return format!("node {} is down", node.id) };
            let their = process.machine.role();
            if (their.term, their.leader) != (role.term, role.leader) {
                return format!("node {} is at {their:?}, the leader at {role:?}", node.id);
            }
            if process.app.index + 30 < first.app.index || !members.knows(process.me) {
                let status = process.machine.status();
                return format!("node {} lags: {status:?}; {:?}", node.id, first.machine.status());
            }
        }
        String::new()
    }

    fn final_checks(&mut self) {
        self.check_logs();
        let timing = timing();
        assert!(timing.check().is_ok());
        let leader = self.leader().expect("the cluster is well");
        let process = self.nodes[leader].process.as_ref().expect("it leads");
        self.acknowledged.all_in(&process.app);
        for node in &self.nodes {
            let other = node.process.as_ref().expect("all are up");
            let common = other.app.order.len().min(process.app.order.len());
            assert_eq!(other.app.order[..common], process.app.order[..common], "states agree");
        }
    }
}

/// A process that the caller knows to run.
pub fn running(node: &mut Node) -> &mut Process {
    node.process.as_mut().expect("the process runs")
}
