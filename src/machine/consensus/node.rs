//! The machine itself: what goes in.

use super::action::{Action, Actions, BadFrame, Part, RefusedFolder, Role};
use super::counting::Counting;
use super::frame::Frame;
use super::gate::{Gate, WRITES_MAX};
use super::log::{HardState, Snapshot, Stored};
use super::member::{Members, Peer, node_of, raft_id};
use super::mutant::{self, Mutant};
use super::reads::Reads;
use super::settings::{Settings, Timing};
use super::stream::{Receiving, Sending};
use super::timeouts;
use super::view::View;
use bytes::Bytes;
use raft::eraftpb::{ConfChangeV2, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, StateRole};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// One node of the group.
///
/// Contract: every method takes what has happened and appends to the caller's queue what is to be done, in order.
/// The caller calls [`tick`](Consensus::tick) every [`TICK_MS`](super::TICK_MS) of its own clock (late ticks are
/// not made up for: a process that was stopped must not campaign for it), carries out the actions, and says so:
/// [`persisted`](Consensus::persisted) in the order of the writes, [`applied`](Consensus::applied) in the order of
/// the entries. Whatever is in the queue may be sent at once. Nothing here waits, reads a clock or touches a file.
/// [`check`](Consensus::check) asserts every invariant.
pub struct Consensus {
    pub(super) settings: Settings,
    pub(super) raw: RawNode<View>,
    pub(super) gate: Gate,
    pub(super) reads: Reads,
    pub(super) counting: Counting,
    /// After the last entry that was applied.
    pub(super) members: Members,
    pub(super) role: Role,
    /// The last term and vote, and the commit index, that a write was asked for.
    pub(super) hard: HardState,
    /// Changes of members that were handed out and are not applied.
    pub(super) changes: VecDeque<(u64, ConfChangeV2, Vec<Peer>)>,
    /// Everything up to here was handed out.
    pub(super) handed: u64,
    pub(super) applied: u64,
    /// Snapshots that are handed out once their write is durable.
    pub(super) installs: VecDeque<(u64, Arc<Snapshot>)>,
    /// A snapshot that came in whole, until raft has taken it or not.
    pub(super) arrived: Option<Arc<Snapshot>>,
    pub(super) sending: BTreeMap<i32, Sending>,
    pub(super) receiving: Option<Receiving>,
    pub(super) streams: u64,
    /// When the state machine was asked for a snapshot that it has not given.
    pub(super) asked_snapshot_ms: Option<u64>,
    /// From which folder a node last spoke.
    pub(super) spoke: BTreeMap<i32, Peer>,
    pub(super) has_room: bool,
    pub(super) now_ms: u64,
    /// When to campaign, in this term, on proof that the leader is gone.
    pub(super) campaign: Option<(u64, u64)>,
    /// To whom leadership was last offered for want of room or a disk that answers.
    pub(super) offered: Option<i32>,
}

/// How a peer stands, seen from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: i32,
    /// It holds the log up to here, durably.
    pub matched: u64,
    /// Whether it spoke lately.
    pub is_active: bool,
    /// Whether a snapshot is on its way to it.
    pub takes_snapshot: bool,
}

/// How the node stands, for metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Role, term, leader.
    pub role: Role,
    /// Everything up to here is committed.
    pub commit: u64,
    /// Everything up to here is applied.
    pub applied: u64,
    /// Index of the last entry, durable or not.
    pub last: u64,
    /// Index of the last snapshot.
    pub snapshot: u64,
    /// Writes under way.
    pub writes: usize,
    /// The peers, where this node leads.
    pub peers: Vec<PeerStatus>,
}

fn config(settings: &Settings, applied: u64) -> Config {
    let (timing, limits) = (&settings.timing, &settings.limits);
    let election = Timing::ticks(timing.election_ms);
    // Every value is set: raft-rs' defaults have neither check-quorum nor pre-vote, and no bounds.
    Config {
        id: raft_id(settings.me.node),
        election_tick: election,
        heartbeat_tick: Timing::ticks(timing.heartbeat_ms),
        applied,
        max_size_per_msg: limits.message_bytes,
        max_inflight_msgs: limits.messages_in_flight,
        check_quorum: true,
        pre_vote: true,
        min_election_tick: election,
        max_election_tick: 2 * election,
        read_only_option: ReadOnlyOption::Safe,
        skip_bcast_commit: false,
        batch_append: false,
        priority: 0,
        max_uncommitted_size: limits.uncommitted_bytes,
        max_committed_size_per_ready: limits.committed_bytes,
    }
}

impl Consensus {
    /// A node that starts on what its folder holds; its count was raised durably before. The snapshot, if there is
    /// one, is in the queue to be installed.
    ///
    /// # Panics
    /// Timing or limits are wrong: the caller checks them first.
    pub fn new(settings: Settings, stored: Stored, now_ms: u64, out: &mut Actions) -> Consensus {
        settings.timing.check().expect("the caller checks the timing");
        settings.limits.check().expect("the caller checks the limits");
        let view = View::new(&stored);
        let applied = stored.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let members = stored.snapshot.as_ref().map(|snapshot| snapshot.members.clone()).unwrap_or_default();
        let raw = RawNode::new(&config(&settings, applied), view, &settings.journal.logger())
            .expect("recovery has checked what raft-rs is given");
        out.extend(stored.snapshot.clone().map(Action::Install));
        let counting = Counting::new(&settings, &stored, &members, now_ms);
        let role = Role { part: Part::Follower, term: stored.hard.term, leader: None };
        let mut node = Consensus {
            reads: Reads::new(settings.me.node, settings.incarnation),
            settings,
            raw,
            gate: Gate::new(stored.hard.term),
            counting,
            members,
            role,
            hard: stored.hard,
            changes: VecDeque::new(),
            handed: applied,
            applied,
            installs: VecDeque::new(),
            arrived: None,
            sending: BTreeMap::new(),
            receiving: None,
            streams: 0,
            asked_snapshot_ms: None,
            spoke: BTreeMap::new(),
            has_room: true,
            now_ms,
            campaign: None,
            offered: None,
        };
        node.settle(out);
        node
    }

    pub(super) fn view(&self) -> &View {
        self.raw.raft.store()
    }

    pub(super) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// Whether this folder may bind itself by a vote.
    fn may_vote(&self) -> bool {
        if mutant::on(Mutant::WipedVotes) {
            return true;
        }
        self.counting.takes_part() && self.has_room && self.members.knows(self.settings.me)
    }

    /// Whether it may campaign: besides voting, nothing may be on its way to the disk or to the state machine.
    /// raft-rs makes a single voter leader at once and takes for granted that its log is durable, and looks for
    /// changes of members among entries that a snapshot under way has replaced.
    fn may_campaign(&self) -> bool {
        let installed = self.view().snapshot_taken().is_none_or(|snapshot| self.applied >= snapshot.index);
        self.may_vote() && self.gate.is_idle() && installed && self.members.is_voter(self.settings.me.node)
    }

    /// The caller's clock has moved on by a tick. `now_ms` may jump; it never counts backwards here.
    pub fn tick(&mut self, now_ms: u64, out: &mut Actions) {
        self.now_ms = self.now_ms.max(now_ms);
        self.tick_counting(out);
        if self.counting.takes_part() {
            let raft = &self.raw.raft;
            let would_campaign =
                !self.is_leader() && raft.election_elapsed + 1 >= raft.randomized_election_timeout();
            if !would_campaign || self.may_campaign() || !raft.promotable() {
                self.raw.tick();
            }
            self.campaign_on_proof();
            self.lead(out);
        }
        self.tick_streams(out);
        self.settle(out);
    }

    fn campaign_on_proof(&mut self) {
        let Some((at_ms, term)) = self.campaign else { return };
        let raft = &self.raw.raft;
        if raft.term != term || raft.leader_id != 0 || raft.state != StateRole::Follower {
            self.campaign = None;
        } else if self.now_ms >= at_ms && self.may_campaign() {
            self.campaign = None;
            // Pre-vote asks the others first, whose own leases still stand.
            let _ = self.raw.campaign();
        }
    }

    /// The process of that node is gone, by proof (its port refuses): if it leads, its lease ends at once, and this
    /// voter campaigns after a short random wait.
    pub fn leader_process_gone(&mut self, node: i32, out: &mut Actions) {
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower || raft.leader_id != raft_id(node) {
            return;
        }
        raft.leader_id = 0;
        let (seed, id, term) = (self.settings.seed, raft.id, raft.term);
        let delay = timeouts::proof_delay(seed, id, term, self.settings.timing.proof_delay_ms_max);
        self.campaign = Some((self.now_ms + delay, term));
        self.settle(out);
    }

    /// Whether there is room on the disk. A voter without room neither votes nor campaigns nor takes entries; a
    /// leader without room hands over at the next tick.
    pub fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// A peer's frame, whose size was bounded and whose origin was proved by its connection.
    ///
    /// # Errors
    /// It is none that a peer sends. The connection is to be closed.
    pub fn step(&mut self, from: Peer, frame: &Bytes, out: &mut Actions) -> Result<(), BadFrame> {
        match Frame::decode(frame).ok_or(BadFrame::Malformed)? {
            Frame::Announce { count, run } => self.announced(from, count, run, out),
            Frame::Remember { count, run, known } => self.remembered(from, count, run, known, out),
            _ if !self.counting.takes_part() => {}
            Frame::Raft(message) => self.step_raft(from, *message, out)?,
            Frame::Chunk(chunk) => self.take_chunk(from, &chunk, out),
            Frame::Taken { stream, verdict, bytes } => self.chunk_taken(from, stream, verdict, bytes, out),
        }
        self.settle(out);
        Ok(())
    }

    fn step_raft(&mut self, from: Peer, message: Message, out: &mut Actions) -> Result<(), BadFrame> {
        let kind = message.get_msg_type();
        if message.from != raft_id(from.node) || message.to != self.raw.raft.id {
            return Err(BadFrame::Misdirected);
        }
        check_shape(&message)?;
        self.spoke.insert(from.node, from);
        let is_answer = matches!(
            kind,
            MessageType::MsgAppendResponse
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVoteResponse
        );
        // What a node says on one folder does not count for what it promised on another. What a leader says on a
        // folder not heard of yet does: this node may be behind.
        if is_answer && !self.members.knows(from) && !mutant::on(Mutant::WipedVotes) {
            return Ok(());
        }
        match kind {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote if !self.may_vote() => return Ok(()),
            MessageType::MsgTimeoutNow if !self.may_campaign() => return Ok(()),
            MessageType::MsgAppend if !message.entries.is_empty() && !self.can_take_entries() => {
                return Ok(());
            }
            // raft-rs would pass it on in the asker's name; the asker asks again, whoever leads then.
            MessageType::MsgReadIndex if !self.is_leader() => return Ok(()),
            MessageType::MsgHeartbeat if self.has_lost(&message, out) => return Ok(()),
            _ => {}
        }
        // A peer that raft does not know, or a message that it drops: lost, as on a network.
        let _ = self.raw.step(message);
        Ok(())
    }

    pub(super) fn can_take_entries(&self) -> bool {
        self.has_room && self.gate.writes() < WRITES_MAX
    }

    /// Whether the leader knows more of this folder than the folder does: raft-rs would panic.
    fn has_lost(&mut self, heartbeat: &Message, out: &mut Actions) -> bool {
        let last = self.raw.raft.raft_log.last_index();
        let is_older = heartbeat.term < self.raw.raft.term;
        if is_older || heartbeat.commit <= last || mutant::on(Mutant::RestoredAccepted) {
            return false;
        }
        let leader = node_of(heartbeat.from).unwrap_or(-1);
        self.refuse(RefusedFolder::LostEntries { leader, held: heartbeat.commit, last }, out);
        true
    }

    pub(super) fn refuse(&mut self, why: RefusedFolder, out: &mut Actions) {
        if self.counting.refuse() {
            out.push(Action::Refused(why));
        }
    }

    /// A write, and all before it, is durable.
    pub fn persisted(&mut self, number: u64, out: &mut Actions) {
        if let Some(ready) = self.gate.complete(number) {
            self.raw.on_persist_ready(ready);
        }
        while let Some((_, snapshot)) = self.installs.pop_front_if(|(write, _)| *write <= number) {
            self.handed = self.handed.max(snapshot.index);
            self.members = snapshot.members.clone();
            self.counting.joined(self.now_ms);
            out.push(Action::Install(snapshot));
            out.push(Action::Members(self.members.clone()));
        }
        self.settle(out);
    }

    /// The state machine has applied all entries up to here.
    pub fn applied(&mut self, index: u64, out: &mut Actions) {
        assert!(index <= self.handed, "entry {index} was never handed out, only up to {}", self.handed);
        if index <= self.applied {
            return;
        }
        while let Some((_, change, added)) = self.changes.pop_front_if(|(at, ..)| *at <= index) {
            // What raft-rs refuses, it refuses on every node alike: the entry then changes nothing.
            if let Ok(state) = self.raw.apply_conf_change(&change) {
                self.members.take_over(&state, &added);
                let members = &self.members.directories;
                self.spoke.retain(|node, _| members.contains_key(node));
                self.leave_if_removed();
                out.push(Action::Members(self.members.clone()));
            }
        }
        self.applied = index;
        self.raw.advance_apply_to(index);
        self.settle(out);
    }

    /// A node that won its election before it knew of its own removal: raft-rs would go on leading without a progress
    /// of its own, and panic.
    fn leave_if_removed(&mut self) {
        if self.is_leader() && !self.members.directories.contains_key(&self.settings.me.node) {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, 0);
        }
    }

    /// The node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The members after the last applied entry.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Whether the folder takes part: it has asked its peers, and none objects.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.counting.takes_part()
    }

    /// The highest count that was heard of a peer's folder, 0 for none.
    #[must_use]
    pub fn remembers(&self, peer: Peer) -> u64 {
        self.counting.known(peer)
    }

    /// How far this folder has counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counting.count()
    }

    /// How the node stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.raw.raft;
        let mut peers = Vec::new();
        if self.is_leader() {
            for (id, progress) in raft.prs().iter() {
                let node = node_of(*id).expect("members are nodes");
                let takes_snapshot = self.sending.contains_key(&node);
                let (matched, is_active) = (progress.matched, progress.recent_active);
                peers.push(PeerStatus { node, matched, is_active, takes_snapshot });
            }
            peers.sort_by_key(|peer| peer.node);
        }
        Status {
            role: self.role,
            commit: raft.raft_log.committed,
            applied: self.applied,
            last: raft.raft_log.last_index(),
            snapshot: self.view().snapshot_taken().map_or(0, |snapshot| snapshot.index),
            writes: self.gate.writes(),
            peers,
        }
    }

    /// Index, term and bytes of the entries in memory, for checks from outside.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64, &Bytes)> {
        let log = &self.raw.raft.raft_log;
        let unstable = log.unstable_entries();
        let held = self.view().entries_held();
        held.iter().chain(unstable).map(|entry| (entry.index, entry.term, &entry.data))
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        self.view().check();
        self.gate.check();
        let raft = &self.raw.raft;
        let log = &raft.raft_log;
        assert!(self.applied <= self.handed, "only what was handed out is applied");
        assert!(self.handed <= log.committed, "only what is committed is handed out");
        assert!(!self.raw.has_ready(), "every method ends with nothing left to hand out");
        assert!(self.members.is_sound(), "every member has a folder");
        assert!(self.sending.is_empty() || self.is_leader(), "only a leader sends snapshots");
        assert!(self.role.term == raft.term && self.role.leader == node_of(raft.leader_id));
        assert_eq!(self.hard.term, raft.term, "a write was asked for every term");
        assert_eq!(self.hard.vote, raft.vote, "and for every vote");
        if self.is_leader() {
            assert!(self.members.knows(self.settings.me), "a leader is a member");
        }
        if self.installs.is_empty() && raft.snap().is_none() {
            let state = raft.prs().conf().to_conf_state();
            let ids = |ids: &[u64]| {
                ids.iter().filter_map(|id| node_of(*id)).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(ids(state.get_voters()), self.members.voters, "raft's voters are the members'");
            assert_eq!(ids(state.get_learners()), self.members.learners, "and so are its learners");
        }
    }
}

/// What raft-rs takes for granted of a message from outside.
fn check_shape(message: &Message) -> Result<(), BadFrame> {
    let may_be_without_term = match message.get_msg_type() {
        MessageType::MsgReadIndex if message.entries.len() == 1 => true,
        MessageType::MsgAppend
        | MessageType::MsgAppendResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgReadIndexResp
        | MessageType::MsgTimeoutNow => false,
        _ => return Err(BadFrame::Malformed),
    };
    let follows = |(i, entry): (usize, &raft::eraftpb::Entry)| entry.index == message.index + 1 + i as u64;
    let is_append = message.get_msg_type() == MessageType::MsgAppend;
    if (message.term == 0 && !may_be_without_term)
        || (is_append && !message.entries.iter().enumerate().all(follows))
    {
        return Err(BadFrame::Malformed);
    }
    Ok(())
}
