//! How a wanted change of the members is reached: one step at a time, each its own entry, decided anew from the
//! members that are. Whoever wants a change asks until it is done, so that it survives a leader that does not.
//!
//! A voter is demoted before it is removed. A node that comes back on another folder is another member: the old
//! one is demoted and removed, the new one added as learner, and made a voter when it has caught up.

use super::member::{Members, Peer};
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use super::codec::{Put, Take};
use super::member::raft_id;

/// Most members of a group, learners included.
pub const MEMBERS_MAX: usize = 1_000;
/// Most voters: more only make every decision slower.
pub const VOTERS_MAX: usize = 9;

/// A wanted change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This node on this folder is a voter; a predecessor on another folder gives way.
    Voter(Peer),
    /// This node on this folder is a learner; a voter is demoted.
    Learner(Peer),
    /// The node is no member.
    Remove(i32),
}

/// What is known besides the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The node that leads and decides.
    pub leader: i32,
    /// Whether a change was proposed that is not applied yet.
    pub is_pending: bool,
    /// Whether the node in question has nearly all of the log.
    pub is_caught_up: bool,
}

/// The next step to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do.
    Done,
    /// Another change comes first.
    Wait,
    /// The two majorities become one first.
    LeaveJoint,
    /// The learner has to catch up first.
    CatchUp,
    /// Leadership goes to another voter first.
    HandOver,
    /// Add the node as learner.
    AddLearner(Peer),
    /// Make the learner a voter.
    Promote(i32),
    /// Make the voter a learner.
    Demote(i32),
    /// Remove the learner.
    RemoveLearner(i32),
    /// It is refused.
    Refuse(Refused),
}

/// Why a change of the members is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would leave no voter.
    LastVoter,
    /// The leader runs on another folder under the same node id.
    DuplicateNode,
    /// There are as many members or voters as there may be.
    TooMany,
}

/// How the node of a change stands in the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Absent,
    Learner { same_folder: bool },
    Voter { same_folder: bool },
}

/// The next step to a change.
#[must_use]
pub fn next_step(members: &Members, facts: Facts, change: Change) -> Step {
    if facts.is_pending {
        return Step::Wait;
    }
    if members.is_joint() {
        return Step::LeaveJoint;
    }
    let (node, directory) = match change {
        Change::Voter(peer) | Change::Learner(peer) => (peer.node, Some(peer.directory)),
        Change::Remove(node) => (node, None),
    };
    let same_folder = members.directories.get(&node).copied() == directory;
    let standing = if members.voters.contains(&node) {
        Standing::Voter { same_folder }
    } else if members.learners.contains(&node) {
        Standing::Learner { same_folder }
    } else {
        Standing::Absent
    };
    step_of(members, facts, change, standing)
}

fn step_of(members: &Members, facts: Facts, change: Change, standing: Standing) -> Step {
    match (change, standing) {
        (Change::Remove(_), Standing::Absent)
        | (Change::Voter(_), Standing::Voter { same_folder: true })
        | (Change::Learner(_), Standing::Learner { same_folder: true }) => Step::Done,
        (Change::Voter(peer) | Change::Learner(peer), Standing::Absent) => {
            if members.directories.len() >= MEMBERS_MAX {
                Step::Refuse(Refused::TooMany)
            } else {
                Step::AddLearner(peer)
            }
        }
        (Change::Voter(peer), Standing::Learner { same_folder: true }) => {
            if members.voters.len() >= VOTERS_MAX {
                Step::Refuse(Refused::TooMany)
            } else if facts.is_caught_up {
                Step::Promote(peer.node)
            } else {
                Step::CatchUp
            }
        }
        (Change::Voter(peer) | Change::Learner(peer), Standing::Learner { same_folder: false }) => {
            remove(facts, peer.node)
        }
        (Change::Remove(node), Standing::Learner { .. }) => remove(facts, node),
        (Change::Voter(peer), Standing::Voter { same_folder: false }) => {
            demote(members, facts, peer.node, true)
        }
        (Change::Learner(peer), Standing::Voter { same_folder }) => {
            demote(members, facts, peer.node, !same_folder)
        }
        (Change::Remove(node), Standing::Voter { .. }) => demote(members, facts, node, false),
    }
}

/// A leader may be a learner: it won its election before it knew of its own demotion.
fn remove(facts: Facts, node: i32) -> Step {
    if node == facts.leader { Step::HandOver } else { Step::RemoveLearner(node) }
}

fn demote(members: &Members, facts: Facts, node: i32, is_other_folder: bool) -> Step {
    if node == facts.leader && is_other_folder {
        Step::Refuse(Refused::DuplicateNode)
    } else if members.voters.len() == 1 {
        Step::Refuse(Refused::LastVoter)
    } else if node == facts.leader {
        Step::HandOver
    } else {
        Step::Demote(node)
    }
}

/// The entry of a step, with the folders of those it adds; none where a step is no entry.
pub(super) fn entry_of(step: Step) -> Option<(ConfChangeV2, Vec<u8>)> {
    let single = |node: i32, kind| {
        let mut single = ConfChangeSingle { node_id: raft_id(node), ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        single
    };
    let mut change = ConfChangeV2::default();
    let mut folders = Vec::new();
    let mut added: &[Peer] = &[];
    match &step {
        Step::AddLearner(peer) => {
            change.set_changes(vec![single(peer.node, ConfChangeType::AddLearnerNode)].into());
            added = std::slice::from_ref(peer);
        }
        Step::RemoveLearner(node) => {
            change.set_changes(vec![single(*node, ConfChangeType::RemoveNode)].into());
        }
        // Changes of voters go by joint consensus, left by an entry of its own: raft-rs' automatic leaving is
        // forgotten when the leader steps down at the wrong moment.
        Step::Promote(node) => {
            change.set_transition(ConfChangeTransition::Explicit);
            change.set_changes(vec![single(*node, ConfChangeType::AddNode)].into());
        }
        Step::Demote(node) => {
            change.set_transition(ConfChangeTransition::Explicit);
            change.set_changes(vec![single(*node, ConfChangeType::AddLearnerNode)].into());
        }
        Step::LeaveJoint => {}
        Step::Done | Step::Wait | Step::CatchUp | Step::HandOver | Step::Refuse(_) => return None,
    }
    folders.put_list(added.iter(), |out: &mut Vec<u8>, peer| out.put_peer(*peer));
    Some((change, folders))
}

/// The folders of those that an entry adds.
pub(super) fn folders_of(context: &[u8]) -> Option<Vec<Peer>> {
    let mut take = Take(context);
    let folders = take.list(Take::peer)?;
    take.is_done().then_some(folders)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn peer(node: i32, folder: u128) -> Peer {
        Peer { node, directory: Uuid::from_u128(folder) }
    }

    fn members() -> Members {
        let mut members = Members::founding(Uuid::from_u128(9), &[peer(0, 100), peer(1, 101), peer(2, 102)]);
        members.learners = [3].into();
        members.directories.insert(3, Uuid::from_u128(103));
        members
    }

    const FACTS: Facts = Facts { leader: 0, is_pending: false, is_caught_up: false };

    #[test]
    fn every_change_has_one_next_step() {
        let caught_up = Facts { is_caught_up: true, ..FACTS };
        let cases = [
            ("a voter already", FACTS, Change::Voter(peer(1, 101)), Step::Done),
            ("a learner already", FACTS, Change::Learner(peer(3, 103)), Step::Done),
            ("no member already", FACTS, Change::Remove(7), Step::Done),
            ("new, to vote", FACTS, Change::Voter(peer(7, 107)), Step::AddLearner(peer(7, 107))),
            ("new, to follow", FACTS, Change::Learner(peer(7, 107)), Step::AddLearner(peer(7, 107))),
            ("a learner behind", FACTS, Change::Voter(peer(3, 103)), Step::CatchUp),
            ("a learner that has caught up", caught_up, Change::Voter(peer(3, 103)), Step::Promote(3)),
            ("a learner on a new disk", caught_up, Change::Voter(peer(3, 5)), Step::RemoveLearner(3)),
            ("the same, to follow", FACTS, Change::Learner(peer(3, 5)), Step::RemoveLearner(3)),
            ("a learner goes", FACTS, Change::Remove(3), Step::RemoveLearner(3)),
            ("a voter on a new disk", caught_up, Change::Voter(peer(1, 5)), Step::Demote(1)),
            ("the same, to follow", FACTS, Change::Learner(peer(1, 5)), Step::Demote(1)),
            ("a voter becomes learner", FACTS, Change::Learner(peer(1, 101)), Step::Demote(1)),
            ("a voter goes", FACTS, Change::Remove(1), Step::Demote(1)),
            ("the leader becomes learner", FACTS, Change::Learner(peer(0, 100)), Step::HandOver),
            ("the leader goes", FACTS, Change::Remove(0), Step::HandOver),
            (
                "another folder with the leader's id",
                FACTS,
                Change::Voter(peer(0, 5)),
                Step::Refuse(Refused::DuplicateNode),
            ),
        ];
        for (label, facts, change, step) in cases {
            assert_eq!(next_step(&members(), facts, change), step, "{label}");
            let pending = Facts { is_pending: true, ..facts };
            assert_eq!(next_step(&members(), pending, change), Step::Wait, "{label}, pending");
            let mut joint = members();
            joint.outgoing = [0, 1].into();
            assert_eq!(next_step(&joint, facts, change), Step::LeaveJoint, "{label}, joint");
        }
    }

    #[test]
    fn a_leader_that_was_demoted_hands_over() {
        let facts = Facts { leader: 3, ..FACTS };
        assert_eq!(next_step(&members(), facts, Change::Remove(3)), Step::HandOver);
        assert_eq!(next_step(&members(), facts, Change::Voter(peer(3, 5))), Step::HandOver);
    }

    #[test]
    fn bounds_are_kept() {
        let mut one = Members::founding(Uuid::nil(), &[peer(0, 100)]);
        assert_eq!(next_step(&one, FACTS, Change::Remove(0)), Step::Refuse(Refused::LastVoter));
        let many: Vec<Peer> = (0..VOTERS_MAX as i32).map(|node| peer(node, 1)).collect();
        one = Members::founding(Uuid::nil(), &many);
        one.learners = [50].into();
        one.directories.insert(50, Uuid::from_u128(1));
        let caught_up = Facts { is_caught_up: true, ..FACTS };
        let refused = Step::Refuse(Refused::TooMany);
        assert_eq!(next_step(&one, caught_up, Change::Voter(peer(50, 1))), refused);
        for node in 100..100 + MEMBERS_MAX as i32 {
            one.learners.insert(node);
            one.directories.insert(node, Uuid::nil());
        }
        assert_eq!(next_step(&one, FACTS, Change::Learner(peer(60, 1))), refused);
    }

    /// Whatever the members are, asking again and again ends: with the change done, or refused.
    #[test]
    fn every_change_ends() {
        for leader in 0..3 {
            for node in 0..5 {
                for folder in [100 + node as u128, 5] {
                    let wanted = peer(node, folder);
                    for change in [Change::Voter(wanted), Change::Learner(wanted), Change::Remove(node)] {
                        let ended = follow(members(), leader, change);
                        assert!(ended < 8, "{change:?} under {leader} took {ended} steps");
                    }
                }
            }
        }
    }

    fn follow(mut members: Members, leader: i32, change: Change) -> usize {
        let facts = Facts { leader, is_pending: false, is_caught_up: true };
        let mut taken = 0;
        loop {
            let step = next_step(&members, facts, change);
            match step {
                Step::Done | Step::Refuse(_) | Step::HandOver => return taken,
                Step::AddLearner(peer) => {
                    members.learners.insert(peer.node);
                    members.directories.insert(peer.node, peer.directory);
                }
                Step::Promote(node) => {
                    assert!(members.learners.remove(&node));
                    members.voters.insert(node);
                }
                Step::Demote(node) => {
                    assert!(members.voters.remove(&node) && node != leader);
                    members.learners.insert(node);
                }
                Step::RemoveLearner(node) => {
                    assert!(members.learners.remove(&node), "only learners are removed");
                    members.directories.remove(&node);
                }
                Step::Wait | Step::CatchUp | Step::LeaveJoint => unreachable!("{step:?}"),
            }
            assert!(!members.voters.is_empty());
            taken += 1;
        }
    }

    #[test]
    fn folders_travel_in_the_entry() {
        let (change, context) = entry_of(Step::AddLearner(peer(0, 3))).unwrap();
        assert_eq!(change.changes[0].node_id, 1);
        assert_eq!(folders_of(&context), Some(vec![peer(0, 3)]));
        let (change, context) = entry_of(Step::LeaveJoint).unwrap();
        assert!(change.changes.is_empty());
        assert_eq!(folders_of(&context), Some(Vec::new()));
        assert_eq!(entry_of(Step::Done), None);
        assert_eq!(folders_of(b"x"), None);
    }
}
