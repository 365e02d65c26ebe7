//! What is asked of the group: proposals, reads, changes of the members, leadership, snapshots.

use super::action::{Action, Actions, Proposed, ReadId, Refusal, Write};
use super::log::{Snapshot, whole};
use super::member::{Members, node_of, raft_id};
use super::membership::{Change, Facts, Step, entry_of, next_step};
use super::mutant::{self, Mutant};
use super::node::Consensus;
use super::stream::Sending;
use bytes::Bytes;
use raft::ProgressState;
use std::sync::Arc;

/// A learner that lacks no more entries than this has caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// An entry after which the state machine takes a snapshot, with what the machine knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPoint {
    /// Its index.
    pub index: u64,
    term: u64,
    members: Members,
}

impl Consensus {
    fn refusal(&self) -> Option<Refusal> {
        if !self.counting.takes_part() {
            return Some(Refusal::NoPart);
        }
        if !self.is_leader() {
            return Some(Refusal::NotLeader { leader: node_of(self.raw.raft.leader_id) });
        }
        if self.raw.raft.lead_transferee.is_some() {
            return Some(Refusal::HandingOver);
        }
        None
    }

    /// Proposes an entry. `context` comes back with it.
    ///
    /// # Errors
    /// Nothing was proposed; try again until the caller's own deadline, at the leader.
    pub fn propose(&mut self, data: Bytes, context: Bytes, out: &mut Actions) -> Result<Proposed, Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if data.is_empty() || data.len() + context.len() > self.settings.limits.proposal_bytes {
            return Err(Refusal::Size);
        }
        if !self.has_room {
            return Err(Refusal::NoRoom);
        }
        if !self.can_take_entries() {
            return Err(Refusal::Busy);
        }
        self.raw.propose(context.to_vec(), data.to_vec()).map_err(|_| Refusal::Busy)?;
        let log = &self.raw.raft.raft_log;
        let proposed = Proposed { index: log.last_index(), term: self.raw.raft.term };
        self.settle(out);
        Ok(proposed)
    }

    /// Asks for an index such that a state machine that has applied it answers this read linearizably. It may never
    /// come: the caller asks again until its own deadline.
    ///
    /// # Errors
    /// There is no leader to ask, or too much is asked already.
    pub fn read(&mut self, out: &mut Actions) -> Result<ReadId, Refusal> {
        let raft = &self.raw.raft;
        if !self.counting.takes_part() {
            return Err(Refusal::NoPart);
        }
        if raft.leader_id == 0 {
            return Err(Refusal::NotLeader { leader: None });
        }
        // A leader does not know what is committed before an entry of its own term is.
        if self.reads.is_full() || (self.is_leader() && !raft.commit_to_current_term()) {
            return Err(Refusal::Busy);
        }
        let (read, context) = self.reads.begin();
        if mutant::on(Mutant::ReadWithoutQuorum) && self.is_leader() {
            let index = raft.raft_log.committed;
            self.reads.forget(read);
            out.push(Action::ReadReady { read, index });
            return Ok(read);
        }
        self.raw.read_index(context);
        self.settle(out);
        Ok(read)
    }

    /// The read's deadline has passed.
    pub fn forget_read(&mut self, read: ReadId) {
        self.reads.forget(read);
    }

    /// Takes the next step to a change of the members. Ask again until it is [`Step::Done`].
    ///
    /// # Errors
    /// This node does not lead, or hands over.
    pub fn change(&mut self, change: Change, out: &mut Actions) -> Result<Step, Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let node = match change {
            Change::Voter(peer) | Change::Learner(peer) => peer.node,
            Change::Remove(node) => node,
        };
        if node < 0 {
            return Err(Refusal::Size);
        }
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let is_caught_up = raft.prs().get(raft_id(node)).is_some_and(|progress| {
            progress.state == ProgressState::Replicate && progress.matched + CAUGHT_UP_ENTRIES >= last
        });
        let is_pending = raft.has_pending_conf() || !raft.commit_to_current_term();
        let facts = Facts { leader: self.settings.me.node, is_pending, is_caught_up };
        let step = next_step(&self.members, facts, change);
        if step == Step::HandOver {
            self.offer();
        }
        if let Some((entry, folders)) = entry_of(step) {
            self.raw.propose_conf_change(folders, entry).map_err(|_| Refusal::Busy)?;
        }
        self.settle(out);
        Ok(step)
    }

    /// Hands leadership to a voter, or to the one that holds the most. It may fail: the role tells.
    ///
    /// # Errors
    /// This node does not lead, or hands over already.
    pub fn transfer_leader(&mut self, to: Option<i32>, out: &mut Actions) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        match to {
            Some(node) if node >= 0 && self.members.voters.contains(&node) => {
                self.raw.transfer_leader(raft_id(node));
            }
            Some(_) => return Err(Refusal::NotLeader { leader: None }),
            None => self.offer(),
        }
        self.settle(out);
        Ok(())
    }

    /// Offers leadership to the active voter that holds the most, but not twice in a row to the same if there is
    /// another: it may have no room either.
    fn offer(&mut self) {
        let raft = &self.raw.raft;
        let me = self.settings.me.node;
        let candidates = raft.prs().iter().filter_map(|(id, progress)| {
            let node = node_of(*id)?;
            let can = node != me && self.members.voters.contains(&node) && progress.recent_active;
            can.then_some((self.offered != Some(node), progress.matched, std::cmp::Reverse(node)))
        });
        if let Some((_, _, std::cmp::Reverse(node))) = candidates.max() {
            self.offered = Some(node);
            self.raw.transfer_leader(raft_id(node));
        }
    }

    /// What a leader does besides Raft, at every tick: leave a joint configuration, and hand over where its disk is
    /// full or does not answer, or where it is no voter any more (raft-rs' leader does not step down for that).
    pub(super) fn lead(&mut self, out: &mut Actions) {
        if self.refusal().is_some() {
            return;
        }
        let stalled_ms = self.gate.oldest_since_ms().map_or(0, |since| self.now_ms - since);
        let is_voter = self.members.is_voter(self.settings.me.node);
        if !self.has_room || !is_voter || stalled_ms >= self.settings.timing.stall_ms {
            self.offer();
        } else if self.members.is_joint() && !self.raw.raft.has_pending_conf() {
            let (entry, folders) = entry_of(Step::LeaveJoint).expect("leaving is an entry");
            // Dropped for want of room among the uncommitted: the next tick asks again.
            let _ = self.raw.propose_conf_change(folders, entry);
        }
        self.settle(out);
    }

    /// Where the state machine stands: it may take a snapshot of just this state, at leisure.
    #[must_use]
    pub fn snapshot_point(&self) -> Option<SnapshotPoint> {
        let term = self.view().term_of(self.applied)?;
        let is_new = self.view().snapshot_taken().is_none_or(|snapshot| snapshot.index < self.applied);
        let is_whole = self.installs.is_empty() && self.raw.raft.snap().is_none();
        (is_new && is_whole).then(|| SnapshotPoint {
            index: self.applied,
            term,
            members: self.members.clone(),
        })
    }

    /// Up to where entries are forgotten with a snapshot.
    fn base_for(&self, index: u64) -> u64 {
        let limits = &self.settings.limits;
        let mut base = index.saturating_sub(limits.trailing_entries);
        if self.is_leader() {
            for (id, progress) in self.raw.raft.prs().iter().filter(|(id, _)| **id != self.raw.raft.id) {
                let sent = node_of(*id).and_then(|node| self.sending.get(&node)).map(Sending::index);
                let held = sent.unwrap_or(progress.matched.max(progress.next_idx - 1));
                base = base.min(held.max(index.saturating_sub(limits.late_entries)));
            }
        }
        base.max(self.view().base().0)
    }

    /// The state machine's snapshot is made: entries that it covers, but for the last ones, are forgotten.
    pub fn compact(&mut self, point: SnapshotPoint, data: Bytes, out: &mut Actions) {
        self.asked_snapshot_ms = None;
        let newest = self.view().snapshot_taken().map_or(0, |snapshot| snapshot.index);
        if point.index <= newest || !self.can_take_entries() {
            // A leader's snapshot came first, or this one can wait.
            return;
        }
        let SnapshotPoint { index, term, members } = point;
        let snapshot = Arc::new(Snapshot { index, term, members, data });
        let base = self.base_for(index);
        self.raw.raft.mut_store().compact(Arc::clone(&snapshot), base);
        self.hard.commit = self.hard.commit.max(index);
        let mut hard = self.hard;
        if mutant::on(Mutant::CommitBehind) {
            hard.commit = 0;
        }
        let (count, remembered) = (self.counting.count(), self.counting.memory());
        let body = whole(self.view().base(), Some(&hard), self.view().entries_held(), count, remembered);
        let number = self.gate.issue(None, false, self.hard.term, self.now_ms);
        self.ask_for(number, Write::Switch { snapshot, body }, out);
    }
}
