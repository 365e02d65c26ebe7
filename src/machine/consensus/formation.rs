//! How a cluster begins, and which folders may take part in one that exists: decisions only, as tables.
//!
//! A voter is a node on a folder. A cluster begins once, when every listed voter has answered and all of them are
//! fresh; the lowest node id among them draws the cluster's id and writes the first entry, which names every
//! voter's folder. From then on a fresh folder never votes: it knows nothing of what its predecessor promised.
//!
//! | this folder | the others | then |
//! |---|---|---|
//! | formed | one is of another cluster | refuse: wrong cluster |
//! | formed | none is of another cluster | start |
//! | fresh | two clusters answer | refuse: two clusters |
//! | fresh | the cluster's first entry names this folder | adopt that entry: its founder was interrupted |
//! | fresh | a cluster exists and does not | join as learner |
//! | fresh, not listed | no cluster answers | wait for one |
//! | fresh, listed | a listed voter lists others | refuse: lists differ |
//! | fresh, listed | a listed voter is silent | wait for it |
//! | fresh, listed | all listed voters are fresh, a lower one founds | wait for the founder |
//! | fresh, listed | all listed voters are fresh, this is the lowest | found |
//!
//! A folder restored from an older copy has forgotten promises too, and does not look fresh. So every folder
//! counts its starts, and the minutes it runs, and its peers remember the highest count they heard, durably. A
//! folder takes part only after its peers were asked:
//!
//! | the peers | then |
//! |---|---|
//! | one remembers the same count or a higher one, of another run | refuse: an older copy, or a second process |
//! | all answered, none objects | take part |
//! | with this voter a majority answered and the grace has passed, none objects | take part |
//! | too few answered, or the grace has not passed | wait |
//!
//! The rule finds every copy that is older than the last count that some asked peer has heard.

use super::log::Remembered;
use super::member::{Members, Peer};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// Never part of a cluster.
    Fresh,
    /// Of this cluster.
    Formed {
        /// Its id.
        cluster: Uuid,
    },
}

/// What a node says when it is asked what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Fresh, on a folder whose id is durable.
    Fresh {
        /// The folder's id.
        directory: Uuid,
        /// The voters that this node was told, sorted.
        listed: BTreeSet<i32>,
    },
    /// Part of a cluster.
    Formed {
        /// The cluster's id.
        cluster: Uuid,
        /// The voters that its first entry names.
        founders: Vec<Peer>,
    },
}

/// What to do at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start with what the folder holds.
    Start,
    /// Write the first entry: a new cluster of these voters.
    Found(Vec<Peer>),
    /// Take over the first entry of a cluster that names this folder as voter.
    Adopt {
        /// The cluster's id.
        cluster: Uuid,
        /// The voters.
        founders: Vec<Peer>,
    },
    /// Ask to be added as learner.
    Join {
        /// The cluster's id.
        cluster: Uuid,
    },
    /// Ask again later.
    Wait(WaitFor),
    /// Stop with one line.
    Refuse(Refused),
}

/// What a start waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// Any member of a cluster.
    Cluster,
    /// Listed voters that are silent.
    Voters(BTreeSet<i32>),
    /// The node that writes the first entry.
    Founder(i32),
}

/// Why a start is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A peer is of another cluster.
    WrongCluster {
        /// The peer.
        peer: i32,
        /// Its cluster.
        theirs: Uuid,
        /// Ours.
        ours: Uuid,
    },
    /// Peers are of two clusters.
    TwoClusters {
        /// Two of them.
        peers: (i32, i32),
    },
    /// A listed voter was given another list.
    ListsDiffer {
        /// The voter.
        peer: i32,
    },
}

/// Decides what a start does.
#[must_use]
pub fn decide(me: Peer, folder: &Folder, listed: &BTreeSet<i32>, answers: &BTreeMap<i32, Answer>) -> Verdict {
    let formed: Vec<(i32, Uuid, &Vec<Peer>)> = answers
        .iter()
        .filter_map(|(node, answer)| match answer {
            Answer::Formed { cluster, founders } => Some((*node, *cluster, founders)),
            Answer::Fresh { .. } => None,
        })
        .collect();
    if let Folder::Formed { cluster: ours } = folder {
        let foreign = formed.iter().find(|(_, theirs, _)| theirs != ours);
        return foreign.map_or(Verdict::Start, |(peer, theirs, _)| {
            Verdict::Refuse(Refused::WrongCluster { peer: *peer, theirs: *theirs, ours: *ours })
        });
    }
    if let Some((first, cluster, _)) = formed.first() {
        if let Some((other, ..)) = formed.iter().find(|(_, other, _)| other != cluster) {
            return Verdict::Refuse(Refused::TwoClusters { peers: (*first, *other) });
        }
        let cluster = *cluster;
        let named = formed.iter().find(|(_, _, founders)| founders.contains(&me));
        return match named {
            Some((_, _, founders)) => Verdict::Adopt { cluster, founders: (*founders).clone() },
            None => Verdict::Join { cluster },
        };
    }
    if !listed.contains(&me.node) {
        return Verdict::Wait(WaitFor::Cluster);
    }
    decide_fresh(me, listed, answers)
}

/// This node is a fresh listed voter, and no cluster has answered.
fn decide_fresh(me: Peer, listed: &BTreeSet<i32>, answers: &BTreeMap<i32, Answer>) -> Verdict {
    let mut voters = vec![me];
    let mut silent = BTreeSet::new();
    for node in listed.iter().filter(|node| **node != me.node) {
        match answers.get(node) {
            Some(Answer::Fresh { listed: theirs, .. }) if theirs != listed => {
                return Verdict::Refuse(Refused::ListsDiffer { peer: *node });
            }
            Some(Answer::Fresh { directory, .. }) => voters.push(Peer { node: *node, directory: *directory }),
            Some(Answer::Formed { .. }) => unreachable!("a cluster has answered: decided before"),
            None => drop(silent.insert(*node)),
        }
    }
    let lowest = *listed.first().expect("this node is listed");
    if !silent.is_empty() {
        Verdict::Wait(WaitFor::Voters(silent))
    } else if lowest == me.node {
        voters.sort();
        Verdict::Found(voters)
    } else {
        Verdict::Wait(WaitFor::Founder(lowest))
    }
}

/// Whether a folder takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesPart {
    /// It does.
    Yes,
    /// More peers have to answer first, or the grace to pass.
    Wait,
    /// It is an older copy, or not the only process on it.
    No {
        /// Who remembers.
        peer: i32,
        /// What.
        known: Remembered,
    },
}

/// Whether what a peer remembers of a folder contradicts what the folder says of itself. A late word of the same run
/// never does.
#[must_use]
pub fn objects(known: Remembered, count: u64, run: u64) -> bool {
    known.run != run && known.count >= count
}

/// Decides whether a folder takes part. `answers` are those of voters but this one; a peer that never heard of the
/// folder remembers the count 0.
#[must_use]
pub fn decide_part(
    me: Peer,
    members: &Members,
    (count, run): (u64, u64),
    answers: &BTreeMap<i32, Remembered>,
    grace_has_passed: bool,
) -> TakesPart {
    if let Some((peer, known)) = answers.iter().find(|(_, known)| objects(**known, count, run)) {
        return TakesPart::No { peer: *peer, known: *known };
    }
    let majority_of = |voters: &BTreeSet<i32>| {
        let answered = voters.iter().filter(|node| **node == me.node || answers.contains_key(node)).count();
        voters.is_empty() || answered > voters.len() / 2
    };
    let all = members.voting().all(|voter| voter.node == me.node || answers.contains_key(&voter.node));
    let enough = majority_of(&members.voters) && majority_of(&members.outgoing);
    if all || (enough && grace_has_passed) { TakesPart::Yes } else { TakesPart::Wait }
}

/// How a list of voters differs from the log's, for one warning: the list counts at the first formation only.
/// Returns nodes that only the list and that only the log has; none where they agree.
#[must_use]
pub fn difference(listed: &BTreeSet<i32>, members: &Members) -> Option<(Vec<i32>, Vec<i32>)> {
    let only = |a: &BTreeSet<i32>, b: &BTreeSet<i32>| a.difference(b).copied().collect::<Vec<_>>();
    let (added, missing) = (only(listed, &members.voters), only(&members.voters, listed));
    let agrees = listed.is_empty() || (added.is_empty() && missing.is_empty());
    (!agrees).then_some((added, missing))
}

#[cfg(test)]
#[path = "formation_tests.rs"]
mod tests;
