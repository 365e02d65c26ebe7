//! Who belongs to the group: node ids, the folders they run on, and their part in it.
//!
//! Raft's ids begin at 1 and Kafka's nodes at 0, so a node's raft id is its node id and one. A node is known by its
//! folder too: the same node id with another folder is another member, which knows nothing of what its predecessor
//! voted for or acknowledged.

use super::codec::{Put, Take};
use raft::eraftpb::ConfState;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A node on a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Kafka's node id, from 0.
    pub node: i32,
    /// The id of its data folder.
    pub directory: Uuid,
}

/// The raft id of a node.
pub(super) fn raft_id(node: i32) -> u64 {
    u64::try_from(node).expect("node ids are not negative: checked where they come from") + 1
}

/// The node of a raft id; none for raft's "nobody".
pub(super) fn node_of(raft_id: u64) -> Option<i32> {
    raft_id.checked_sub(1).map(|node| i32::try_from(node).expect("made from a node id"))
}

/// The members of the group after some entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// The cluster's id, from the first entry; nil where the folder is fresh.
    pub cluster: Uuid,
    /// The voters that the first entry names.
    pub founders: Vec<Peer>,
    /// Nodes that vote; of a joint configuration, those that will vote afterwards.
    pub voters: BTreeSet<i32>,
    /// In a joint configuration the nodes that voted before it; else empty.
    pub outgoing: BTreeSet<i32>,
    /// Nodes that follow and do not vote.
    pub learners: BTreeSet<i32>,
    /// In a joint configuration those of `outgoing` that will be learners.
    pub learners_next: BTreeSet<i32>,
    /// The folder of every member.
    pub directories: BTreeMap<i32, Uuid>,
}

impl Members {
    /// The members of a cluster that begins.
    #[must_use]
    pub fn founding(cluster: Uuid, voters: &[Peer]) -> Members {
        Members {
            cluster,
            founders: voters.to_vec(),
            voters: voters.iter().map(|peer| peer.node).collect(),
            directories: voters.iter().map(|peer| (peer.node, peer.directory)).collect(),
            ..Members::default()
        }
    }

    /// Whether two majorities must agree to anything.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the node votes, in either half of a joint configuration.
    #[must_use]
    pub fn is_voter(&self, node: i32) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }

    /// Whether the node is a member on just this folder.
    #[must_use]
    pub fn knows(&self, peer: Peer) -> bool {
        self.directories.get(&peer.node) == Some(&peer.directory)
    }

    /// All members.
    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.directories.iter().map(|(node, directory)| Peer { node: *node, directory: *directory })
    }

    /// All that vote, in either half of a joint configuration.
    pub fn voting(&self) -> impl Iterator<Item = Peer> {
        self.peers().filter(|peer| self.is_voter(peer.node))
    }

    pub(super) fn conf_state(&self) -> ConfState {
        let ids = |nodes: &BTreeSet<i32>| nodes.iter().map(|node| raft_id(*node)).collect::<Vec<_>>();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_voters_outgoing(ids(&self.outgoing));
        state.set_learners(ids(&self.learners));
        state.set_learners_next(ids(&self.learners_next));
        state
    }

    /// Takes over the parts that raft computed, and the folders of members that it added.
    pub(super) fn take_over(&mut self, state: &ConfState, added: &[Peer]) {
        let nodes = |ids: &[u64]| ids.iter().filter_map(|id| node_of(*id)).collect::<BTreeSet<i32>>();
        self.voters = nodes(state.get_voters());
        self.outgoing = nodes(state.get_voters_outgoing());
        self.learners = nodes(state.get_learners());
        self.learners_next = nodes(state.get_learners_next());
        for peer in added {
            self.directories.insert(peer.node, peer.directory);
        }
        let (voters, outgoing, learners) = (&self.voters, &self.outgoing, &self.learners);
        self.directories
            .retain(|node, _| voters.contains(node) || outgoing.contains(node) || learners.contains(node));
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_uuid(self.cluster);
        out.put_list(self.founders.iter(), |out, peer| out.put_peer(*peer));
        for nodes in [&self.voters, &self.outgoing, &self.learners, &self.learners_next] {
            out.put_list(nodes.iter(), |out, node| out.put_i32(*node));
        }
        out.put_list(self.directories.iter(), |out, (node, directory)| {
            out.put_peer(Peer { node: *node, directory: *directory });
        });
    }

    pub(super) fn decode(take: &mut Take<'_>) -> Option<Members> {
        let (cluster, founders) = (take.uuid()?, take.list(Take::peer)?);
        let mut nodes = || Some(take.list(Take::i32)?.into_iter().collect::<BTreeSet<i32>>());
        let (voters, outgoing, learners, learners_next) = (nodes()?, nodes()?, nodes()?, nodes()?);
        let directories =
            take.list(Take::peer)?.into_iter().map(|peer| (peer.node, peer.directory)).collect();
        let members = Members { cluster, founders, voters, outgoing, learners, learners_next, directories };
        members.is_sound().then_some(members)
    }

    /// Whether every member has a folder and every folder a member, and no node is negative.
    pub(super) fn is_sound(&self) -> bool {
        let all: BTreeSet<i32> =
            self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied().collect();
        all.iter().all(|node| *node >= 0) && all.iter().eq(self.directories.keys())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_travel_whole() {
        let peer = |node| Peer { node, directory: Uuid::from_u128(node as u128 + 7) };
        let mut members = Members::founding(Uuid::from_u128(1), &[peer(0), peer(1), peer(2)]);
        members.outgoing = [0, 1].into();
        members.learners = [5].into();
        members.directories.insert(5, Uuid::from_u128(12));
        let mut bytes = Vec::new();
        members.encode(&mut bytes);
        let mut take = Take(&bytes);
        assert_eq!(Members::decode(&mut take), Some(members.clone()));
        assert!(take.is_done());
        members.directories.remove(&5);
        bytes.clear();
        members.encode(&mut bytes);
        assert_eq!(Members::decode(&mut Take(&bytes)), None, "a member without a folder");
    }

    #[test]
    fn node_0_is_somebody_for_raft() {
        assert_eq!((raft_id(0), node_of(1), node_of(0)), (1, Some(0), None));
    }
}
