//! Which peers a broker wants, from the metadata image and the static list.
//!
//! | to whom | streams |
//! |---|---|
//! | every registered broker and voter, where one of the two is a voter | raft, requests |
//! | a leader that this broker follows | data |
//! | who is being sent a snapshot | bulk |
//! | before there is a cluster: every node that the static list names | raft, requests |
//! | while this broker is alone: every other address of the static list | requests |
//!
//! The static list counts for *who* is there only until the cluster is formed; for *where* somebody is, always.

use super::Stream;
use super::discovery::{Discovery, Host, Place, Source};
use super::table::{PEERS_MAX, Peer, Wanted};
use crate::machine::metadata::Image;
use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

/// The listener under which brokers reach each other.
pub const LISTENER: &str = "PEER";

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// This broker's node id.
    pub me: i32,
    /// The metadata as this broker knows it.
    pub image: &'a Image,
    /// The voters of the metadata log; none before there is a cluster.
    pub voters: &'a BTreeSet<i32>,
    /// Leaders that this broker must fetch from.
    pub leaders: &'a BTreeSet<i32>,
    /// Brokers that it sends a snapshot to.
    pub snapshots: &'a BTreeSet<i32>,
    /// No broker is connected ([`super::table::Table::is_alone`]).
    pub alone: bool,
}

/// The places that discovery looks up: those of the static list, then those that other brokers registered.
#[must_use]
pub fn places(me: i32, image: &Image, listed: &[Place]) -> Vec<Place> {
    let mut places: Vec<Place> =
        listed.iter().filter(|place| place.source != Source::Listed(me)).cloned().collect();
    for broker in image.brokers().filter(|broker| broker.id != me) {
        let endpoints = broker.endpoints.iter().filter(|endpoint| endpoint.listener == LISTENER);
        let source = Source::Registered(broker.id);
        places.extend(endpoints.map(|at| Place { source, host: Host::of(&at.host), port: at.port }));
    }
    places
}

/// Makes the plan. At most [`PEERS_MAX`] peers are in it, voters before others, nodes before addresses.
#[must_use]
pub fn plan(situation: &Situation<'_>, discovery: &Discovery) -> Vec<Wanted> {
    let nodes = nodes(situation, discovery);
    let mut plan: Vec<Wanted> = Vec::new();
    for (id, (streams, urgent)) in nodes {
        plan.push(Wanted {
            peer: Peer::Node(id),
            streams: streams.into_iter().collect(),
            urgent,
            registered: situation.image.broker(id).is_some() && discovery.has_registered(id),
            addresses: discovery.addresses_of(id),
        });
    }
    plan.sort_by_key(|wanted| !wanted.urgent);
    if situation.alone {
        let known: BTreeSet<SocketAddr> = plan.iter().flat_map(|wanted| &wanted.addresses).copied().collect();
        let others = discovery.candidates().into_iter().filter(|address| !known.contains(address));
        plan.extend(others.map(|address| Wanted {
            peer: Peer::Seed(address),
            streams: vec![Stream::Requests],
            urgent: true,
            registered: false,
            addresses: vec![address],
        }));
    }
    plan.truncate(PEERS_MAX);
    plan
}

/// The nodes that are wanted, each with its streams and whether much depends on it.
fn nodes(situation: &Situation<'_>, discovery: &Discovery) -> BTreeMap<i32, (BTreeSet<Stream>, bool)> {
    let Situation { me, image, voters, leaders, snapshots, .. } = *situation;
    let mut nodes: BTreeMap<i32, (BTreeSet<Stream>, bool)> = BTreeMap::new();
    let mut want = |id: i32, streams: &[Stream], urgent: bool| {
        if id != me {
            let wanted = nodes.entry(id).or_default();
            wanted.0.extend(streams);
            wanted.1 |= urgent;
        }
    };
    let control = [Stream::Raft, Stream::Requests];
    if image.cluster_id().is_none() {
        discovery.listed().into_iter().for_each(|id| want(id, &control, true));
    }
    // Everybody follows one of the voters. A voter hears of the others by their contact, which closes its breaker.
    voters.iter().for_each(|id| want(*id, &control, true));
    if voters.contains(&me) {
        image.brokers().for_each(|broker| want(broker.id, &control, false));
    }
    leaders.iter().for_each(|id| want(*id, &[Stream::Data], true));
    snapshots.iter().for_each(|id| want(*id, &[Stream::Bulk], false));
    nodes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
