//! All links of a broker: a peer is up or away as a whole.
//!
//! Of a peer's streams one *leads*: it alone dials a peer that is away, speaks in the log and gives hints. The others
//! are dialled while the lead is up and closed when it goes. So a peer that restarts costs the attempts of one link,
//! however many streams it has. What all links together attempt is bounded by the [`Limiter`], urgent ones first.
//!
//! Inputs are methods with the time in milliseconds; outputs are appended to the caller's list of [`Action`]s.
//! [`Table::set_plan`] says who is wanted; what became of a connection is reported with the [`Route`] that its
//! [`action::Action::Connect`] came with.

use super::action;
use super::admit::{Refusal, judge_answer};
use super::limiter::Limiter;
use super::line::Failure;
use super::link::{Link, Purpose};
use super::{Identity, Stream};
use core::net::SocketAddr;
use ringlog_storage::random::SplitMix;
use std::collections::BTreeMap;

/// Peers of a broker at most; a plan names no more.
pub const PEERS_MAX: usize = 1_024;
/// No broker was connected for so long: this one is on its own and looks for others anywhere.
pub const ALONE_MS: u64 = 5_000;

/// Whom a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// The broker with this node id, wherever it is.
    Node(i32),
    /// Whoever is at this address.
    Seed(SocketAddr),
}

impl Peer {
    /// The node that is expected to answer.
    #[must_use]
    pub fn expected(self) -> Option<i32> {
        match self {
            Peer::Node(id) => Some(id),
            Peer::Seed(_) => None,
        }
    }
}

/// A peer that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whom.
    pub peer: Peer,
    /// What for; at least one, ascending.
    pub streams: Vec<Stream>,
    /// Much depends on it: both are voters, or it leads what this broker follows.
    pub urgent: bool,
    /// The addresses are those that it registered.
    pub registered: bool,
    /// Where it may be, most likely first.
    pub addresses: Vec<SocketAddr>,
}

/// Names a connection or an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// To whom.
    pub peer: Peer,
    /// What for.
    pub stream: Stream,
    /// Its number, never used twice.
    pub connection: u64,
}

/// What the shell is to do for one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// For whom.
    pub peer: Peer,
    /// Which stream.
    pub stream: Stream,
    /// What.
    pub what: action::Action,
}

#[derive(Clone, Debug)]
struct Entry {
    lead: Stream,
    links: BTreeMap<Stream, Link>,
}

impl Entry {
    fn lead(&self) -> &Link {
        self.links.get(&self.lead).expect("the lead is one of the streams")
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Table {
    own: Identity,
    peers: BTreeMap<Peer, Entry>,
    limiter: Limiter,
    random: SplitMix,
    connections: u64,
    /// When a broker was last seen connected.
    company_ms: Option<u64>,
    /// Scratch of [`Table::step`].
    done: Vec<action::Action>,
}

impl Table {
    /// A broker's table, without peers. What it does follows from its inputs and the seed.
    #[must_use]
    pub fn new(own: Identity, seed: u64) -> Table {
        Table {
            own,
            peers: BTreeMap::new(),
            limiter: Limiter::default(),
            random: SplitMix::new(seed),
            connections: 0,
            company_ms: None,
            done: Vec::new(),
        }
    }

    /// The broker learnt its cluster id or its epoch.
    pub fn set_own(&mut self, own: Identity) {
        self.own = own;
    }

    /// Takes a new plan: drops who is not in it, adds who is new, and lets what stands stand.
    ///
    /// # Panics
    /// If the plan names a peer twice, this broker itself, a peer without streams, or more than [`PEERS_MAX`].
    pub fn set_plan(&mut self, now_ms: u64, plan: &[Wanted], out: &mut Vec<Action>) {
        assert!(plan.len() <= PEERS_MAX, "a plan of {} peers", plan.len());
        let wanted: BTreeMap<Peer, &Wanted> = plan.iter().map(|wanted| (wanted.peer, wanted)).collect();
        assert_eq!(wanted.len(), plan.len(), "a plan names a peer once");
        assert!(!wanted.contains_key(&Peer::Node(self.own.node_id)), "nobody is its own peer");
        let gone: Vec<Peer> = self.peers.keys().filter(|peer| !wanted.contains_key(peer)).copied().collect();
        for peer in gone {
            self.keep_streams(peer, &[], out);
            self.peers.remove(&peer);
        }
        for wanted in plan {
            self.set_wanted(now_ms, wanted, out);
        }
        self.note_company(now_ms);
    }

    fn set_wanted(&mut self, now_ms: u64, wanted: &Wanted, out: &mut Vec<Action>) {
        let Wanted { peer, streams, urgent, registered, addresses } = wanted;
        let first = *streams.first().expect("a peer is wanted for something");
        assert!(streams.is_sorted_by(|a, b| a < b), "streams ascend");
        self.keep_streams(*peer, streams, out);
        let purpose = Purpose { expected: peer.expected(), urgent: *urgent, registered: *registered };
        let entry = self.peers.entry(*peer).or_insert_with(|| Entry { lead: first, links: BTreeMap::new() });
        if !streams.contains(&entry.lead) {
            // Whoever is up goes on leading, so that nothing has to be closed.
            let up = streams.iter().find(|stream| entry.links.get(stream).is_some_and(Link::is_up));
            entry.lead = *up.unwrap_or(&first);
        }
        for stream in streams {
            let random = &mut self.random;
            let new = || Link::new(purpose, true, SplitMix::new(random.draw()));
            let link = entry.links.entry(*stream).or_insert_with(new);
            link.set_quiet(*stream != entry.lead);
            link.set_purpose(now_ms, purpose);
            link.set_addresses(now_ms, addresses);
        }
        self.follow_the_lead(now_ms, *peer, out);
    }

    /// Closes the streams of a peer that are not among these.
    fn keep_streams(&mut self, peer: Peer, streams: &[Stream], out: &mut Vec<Action>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        for (stream, link) in entry.links.iter_mut().filter(|(stream, _)| !streams.contains(stream)) {
            link.unwant(&mut self.done);
            out.extend(self.done.drain(..).map(|what| Action { peer, stream: *stream, what }));
        }
        entry.links.retain(|stream, _| streams.contains(stream));
    }

    /// Dials the other streams while the lead is up, and closes them while it is not.
    fn follow_the_lead(&mut self, now_ms: u64, peer: Peer, out: &mut Vec<Action>) {
        let Some(entry) = self.peers.get_mut(&peer) else { return };
        let up = entry.lead().is_up();
        for (stream, link) in &mut entry.links {
            if up || *stream == entry.lead {
                link.want(now_ms);
            } else {
                link.unwant(&mut self.done);
            }
            out.extend(self.done.drain(..).map(|what| Action { peer, stream: *stream, what }));
        }
    }

    /// Gives one link an input and takes its outputs.
    fn step(
        &mut self,
        now_ms: u64,
        (peer, stream): (Peer, Stream),
        out: &mut Vec<Action>,
        input: impl FnOnce(&mut Link, &mut Vec<action::Action>),
    ) {
        let Some(link) = self.peers.get_mut(&peer).and_then(|entry| entry.links.get_mut(&stream)) else {
            return;
        };
        input(link, &mut self.done);
        out.extend(self.done.drain(..).map(|what| Action { peer, stream, what }));
        self.follow_the_lead(now_ms, peer, out);
        self.note_company(now_ms);
    }

    /// The connection was made: a hello is to be sent.
    pub fn connected(&mut self, now_ms: u64, route: Route, out: &mut Vec<Action>) {
        self.step(now_ms, (route.peer, route.stream), out, |link, _| {
            link.connected(now_ms, route.connection)
        });
    }

    /// The other side accepted. Closes the connection if it is not whom this broker looks for.
    pub fn accepted(&mut self, now_ms: u64, route: Route, identity: Identity, out: &mut Vec<Action>) {
        let judged = judge_answer(&self.own, route.peer.expected(), &identity);
        self.step(now_ms, (route.peer, route.stream), out, |link, done| match judged {
            Ok(()) => link.accepted(now_ms, route.connection, identity, done),
            Err(refusal) => link.rejected(now_ms, route.connection, refusal, done),
        });
        let Some(entry) = self.peers.get(&route.peer) else { return };
        if judged.is_ok() && entry.lead != route.stream && entry.lead().is_up() {
            // If another process answered than the lead is connected to, the lead leads nowhere.
            let lead = entry.lead;
            self.step(now_ms, (route.peer, lead), out, |link, done| link.inbound(now_ms, &identity, done));
        }
    }

    /// The other side refused, or ended a connection that stood with a refusal.
    pub fn denied(
        &mut self,
        now_ms: u64,
        route: Route,
        identity: Identity,
        refusal: Refusal,
        out: &mut Vec<Action>,
    ) {
        self.step(now_ms, (route.peer, route.stream), out, |link, done| {
            link.denied(now_ms, route.connection, identity, refusal, done);
        });
    }

    /// The attempt failed or the connection broke; it is closed.
    pub fn failed(&mut self, now_ms: u64, route: Route, failure: Failure, out: &mut Vec<Action>) {
        self.step(now_ms, (route.peer, route.stream), out, |link, done| {
            link.failed(now_ms, route.connection, failure, done);
        });
    }

    /// Bytes came.
    pub fn received(&mut self, now_ms: u64, route: Route) {
        let entry = self.peers.get_mut(&route.peer);
        if let Some(link) = entry.and_then(|entry| entry.links.get_mut(&route.stream)) {
            link.received(now_ms, route.connection);
        }
    }

    /// A broker's handshake was admitted: it is there, as this process.
    pub fn inbound(&mut self, now_ms: u64, identity: &Identity, out: &mut Vec<Action>) {
        let peer = Peer::Node(identity.node_id);
        if let Some(lead) = self.peers.get(&peer).map(|entry| entry.lead) {
            self.step(now_ms, (peer, lead), out, |link, done| link.inbound(now_ms, identity, done));
        }
    }

    /// A broker registered or was unfenced: it is there.
    pub fn contact(&mut self, now_ms: u64, node_id: i32, out: &mut Vec<Action>) {
        let peer = Peer::Node(node_id);
        if let Some(lead) = self.peers.get(&peer).map(|entry| entry.lead) {
            self.step(now_ms, (peer, lead), out, |link, _| link.contact(now_ms));
        }
    }

    /// When [`Table::on_time`] must be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let links = || self.peers.values().flat_map(|entry| entry.links.values());
        let attempt = links().filter_map(Link::due_ms).min().map(|due| due.max(self.limiter.next_at_ms()));
        links().filter_map(Link::next_deadline).chain(attempt).min()
    }

    /// Does what time asks for, and starts the attempts that are due and allowed.
    pub fn on_time(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let expired = self.routes(|link| link.next_deadline().is_some_and(|at| at <= now_ms));
        for at in expired {
            self.step(now_ms, at, out, |link, done| link.on_time(now_ms, done));
        }
        let mut due: Vec<(bool, u64, Peer, Stream)> = Vec::new();
        for (peer, entry) in &self.peers {
            for (stream, link) in &entry.links {
                if let Some(at) = link.due_ms().filter(|at| *at <= now_ms) {
                    due.push((!link.is_urgent(), at, *peer, *stream));
                }
            }
        }
        due.sort_unstable();
        for (_, _, peer, stream) in due {
            if !self.limiter.take(now_ms) {
                break;
            }
            self.connections += 1;
            let connection = self.connections;
            self.step(now_ms, (peer, stream), out, |link, done| link.attempt(now_ms, connection, done));
        }
        self.note_company(now_ms);
    }

    fn routes(&self, which: impl Fn(&Link) -> bool) -> Vec<(Peer, Stream)> {
        let links = self.peers.iter().flat_map(|(peer, entry)| entry.links.iter().map(|at| (*peer, at)));
        links.filter(|(_, (_, link))| which(link)).map(|(peer, (stream, _))| (peer, *stream)).collect()
    }

    fn note_company(&mut self, now_ms: u64) {
        let up = |(peer, entry): (&Peer, &Entry)| matches!(peer, Peer::Node(_)) && entry.lead().is_up();
        if self.peers.iter().any(up) {
            self.company_ms = Some(now_ms);
        }
    }

    /// Whether no broker has been connected for [`ALONE_MS`], or ever.
    #[must_use]
    pub fn is_alone(&self, now_ms: u64) -> bool {
        self.company_ms.is_none_or(|last| now_ms >= last + ALONE_MS)
    }

    /// Whether a stream may be used, and on which connection.
    #[must_use]
    pub fn up(&self, peer: Peer, stream: Stream) -> Option<u64> {
        let link = self.peers.get(&peer)?.links.get(&stream)?;
        link.connection().filter(|_| link.is_up())
    }

    /// Whether a peer's breaker is open: whoever would wait for it should not.
    #[must_use]
    pub fn is_given_up(&self, peer: Peer) -> bool {
        self.peers.get(&peer).is_some_and(|entry| entry.lead().is_given_up())
    }

    /// Who answered last there.
    #[must_use]
    pub fn met(&self, peer: Peer) -> Option<&Identity> {
        self.peers.get(&peer)?.lead().met()
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        assert!(self.peers.len() <= PEERS_MAX && self.done.is_empty());
        let mut numbers = Vec::new();
        for entry in self.peers.values() {
            let lead_up = entry.lead().is_up();
            for (stream, link) in &entry.links {
                link.check();
                numbers.extend(link.connection());
                assert_eq!(link.is_wanted(), lead_up || *stream == entry.lead, "streams follow their lead");
            }
        }
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "connections have numbers of their own");
        assert!(numbers.last().is_none_or(|last| *last <= self.connections));
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
