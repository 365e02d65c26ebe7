//! The order of a Ready, kept in one place: messages of a leader, snapshot, committed entries, entries, hard state,
//! messages that wait for what was written, advance. What a Ready changes of term or vote is durable before
//! anything of it is said.

use super::action::{Action, Actions, Committed, Part, Persist, Role, Write};
use super::frame::Frame;
use super::log::{Body, HardState, whole};
use super::member::{Peer, node_of};
use super::membership::folders_of;
use super::mutant::{self, Mutant};
use super::node::Consensus;
use super::settings::Timing;
use super::timeouts;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, Message, MessageType};
use raft::{Ready, StateRole};
use std::sync::Arc;

impl Consensus {
    /// Hands out all that the last input led to.
    pub(super) fn settle(&mut self, out: &mut Actions) {
        loop {
            self.spread_timeout();
            if !self.raw.has_ready() {
                break;
            }
            self.note_role(out);
            self.take_ready(out);
        }
        self.note_role(out);
        let patience_ms = self.settings.timing.stream_ms;
        let may_ask = self.asked_snapshot_ms.is_none_or(|asked| self.now_ms >= asked + patience_ms);
        if self.view().take_lack() && may_ask {
            self.asked_snapshot_ms = Some(self.now_ms);
            out.push(Action::TakeSnapshot);
        }
        for (to, frame) in self.gate.release() {
            // A folder that was refused has nothing more to say.
            if !self.counting.is_refused() {
                out.push(Action::Send { to, frame });
            }
        }
    }

    /// raft-rs draws election timeouts from a source of its own, so that no run would repeat: ours replace them.
    fn spread_timeout(&mut self) {
        let role = match self.raw.raft.state {
            StateRole::Follower => 0,
            StateRole::PreCandidate => 1,
            StateRole::Candidate => 2,
            StateRole::Leader => 3,
        };
        let (seed, raft) = (self.settings.seed, &mut self.raw.raft);
        let election = Timing::ticks(self.settings.timing.election_ms);
        let timeout = timeouts::election(seed, raft.id, raft.term, role, election);
        raft.set_randomized_election_timeout(timeout);
    }

    fn note_role(&mut self, out: &mut Actions) {
        let raft = &self.raw.raft;
        let part = match raft.state {
            StateRole::Follower => Part::Follower,
            StateRole::PreCandidate => Part::PreCandidate,
            StateRole::Candidate => Part::Candidate,
            StateRole::Leader => Part::Leader,
        };
        let role = Role { part, term: raft.term, leader: node_of(raft.leader_id) };
        let before = std::mem::replace(&mut self.role, role);
        if before == role {
            return;
        }
        if (before.term, before.leader) != (role.term, role.leader) {
            self.reads.lose_all(out);
        }
        if role.part != Part::Leader {
            self.sending.clear();
            self.asked_snapshot_ms = None;
        }
        out.push(Action::Role(role));
    }

    fn take_ready(&mut self, out: &mut Actions) {
        let mut ready = self.raw.ready();
        let now = self.now_ms;
        for state in ready.take_read_states() {
            if let Some(read) = self.reads.ready(&state.request_ctx) {
                out.push(Action::ReadReady { read, index: state.index });
            }
        }
        let promises = self.note_hard_state(&ready);
        let has_snapshot = !ready.snapshot().is_empty();
        let writes = promises || has_snapshot || !ready.entries().is_empty();
        if writes {
            let number = self.gate.issue(Some(ready.number()), promises, self.hard.term, now);
            let messages = ready.take_messages();
            self.hold_all(messages, out);
            let write = self.write_of(&mut ready, number);
            self.hand_out(ready.take_committed_entries(), out);
            self.ask_for(number, write, out);
        } else {
            let messages = ready.take_messages();
            self.hold_all(messages, out);
            self.hand_out(ready.take_committed_entries(), out);
        }
        let messages = ready.take_persisted_messages();
        self.hold_all(messages, out);
        let number = ready.number();
        self.raw.advance_append_async(ready);
        if !writes && let Some(durable) = self.gate.attach(number) {
            self.raw.on_persist_ready(durable);
        }
    }

    /// Asks for a write.
    pub(super) fn ask_for(&self, number: u64, write: Write, out: &mut Actions) {
        out.push(Action::Persist(Persist { number, hard: self.hard, last: self.view().last(), write }));
    }

    /// Takes the Ready's hard state over. Returns whether term or vote are new.
    fn note_hard_state(&mut self, ready: &Ready) -> bool {
        let Some(next) = ready.hs() else { return false };
        let next = HardState { term: next.term, vote: next.vote, commit: next.commit };
        assert!(next.term >= self.hard.term, "terms do not go back");
        assert!(next.commit >= self.hard.commit, "nor does the commit index");
        let promises = (next.term, next.vote) != (self.hard.term, self.hard.vote);
        self.hard = next;
        promises
    }

    /// What the Ready changes on the disk, after taking it over into the view: entries must be readable before they
    /// are synced. Every write carries the hard state, so that the commit index on disk is never behind a snapshot.
    fn write_of(&mut self, ready: &mut Ready, number: u64) -> Write {
        let entries = ready.take_entries();
        if ready.snapshot().is_empty() {
            let conflict = self.raw.raft.mut_store().append(&entries);
            let mut body = Body::default();
            conflict.into_iter().for_each(|index| body.truncate(index));
            body.entries(&entries);
            body.hard_state(&self.hard);
            return Write::Append(body.finish());
        }
        let snapshot = self.arrived.take().expect("raft takes snapshots only as they arrive");
        assert_eq!(snapshot.index, ready.snapshot().get_metadata().index, "it is the one that arrived");
        let store = self.raw.raft.mut_store();
        store.install(Arc::clone(&snapshot));
        store.append(&entries);
        // Raft has the snapshot's members already; entries handed out before it must not change them any more.
        self.changes.clear();
        self.installs.push_back((number, Arc::clone(&snapshot)));
        let hard = (!mutant::on(Mutant::SnapshotWithoutHardState)).then_some(&self.hard);
        let (count, remembered) = (self.counting.count(), self.counting.memory());
        let body = whole(self.view().base(), hard, self.view().entries_held(), count, remembered);
        Write::Switch { snapshot, body }
    }

    fn hand_out(&mut self, entries: Vec<Entry>, out: &mut Actions) {
        let Some(last) = entries.last() else { return };
        self.handed = last.index;
        let committed = entries.into_iter().map(|entry| {
            let (index, term) = (entry.index, entry.term);
            match entry.get_entry_type() {
                EntryType::EntryNormal => {
                    return Committed { index, term, data: entry.data, context: entry.context };
                }
                EntryType::EntryConfChangeV2 => {
                    let change = ConfChangeV2::parse_from_bytes(&entry.data);
                    if let Some((change, added)) = change.ok().zip(folders_of(&entry.context)) {
                        self.changes.push_back((index, change, added));
                    }
                }
                EntryType::EntryConfChange => {}
            }
            Committed { index, term, data: bytes::Bytes::new(), context: bytes::Bytes::new() }
        });
        let committed = committed.collect();
        out.push(Action::Apply(committed));
    }

    fn hold_all(&mut self, messages: Vec<Message>, out: &mut Actions) {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.begin_stream(&message, out);
            } else if let Some(to) = self.address(&message) {
                let (after, term) = self.binds(&message);
                self.gate.hold(after, term, to, Frame::Raft(Box::new(message)).encode());
            }
        }
    }

    /// Which write a message waits for, and the term it binds its sender to.
    fn binds(&self, message: &Message) -> (u64, u64) {
        let kind = message.get_msg_type();
        let is_question = matches!(
            kind,
            MessageType::MsgRequestPreVote
                | MessageType::MsgRequestPreVoteResponse
                | MessageType::MsgReadIndex
        );
        let term = if is_question { 0 } else { message.term };
        let early = match kind {
            MessageType::MsgHeartbeatResponse => mutant::on(Mutant::HeartbeatBeforeTerm),
            MessageType::MsgRequestVoteResponse => mutant::on(Mutant::VoteBeforeDurable),
            MessageType::MsgAppendResponse => mutant::on(Mutant::AnsweredBeforeDurable),
            _ => mutant::on(Mutant::SentBeforeDurable),
        };
        if early {
            return (0, 0);
        }
        let of_leader = self.is_leader() && message.term == self.raw.raft.term;
        let after = if of_leader || kind == MessageType::MsgHeartbeatResponse {
            self.gate.term_write()
        } else {
            self.gate.last_write()
        };
        (after, term)
    }

    /// To which folder a message goes: an answer to where the question came from, all else to the member's.
    fn address(&self, message: &Message) -> Option<Peer> {
        let node = node_of(message.to)?;
        let member =
            self.members.directories.get(&node).map(|directory| Peer { node, directory: *directory });
        let spoke = self.spoke.get(&node).copied();
        match message.get_msg_type() {
            MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgReadIndexResp
            | MessageType::MsgReadIndex => spoke.or(member),
            _ => member,
        }
    }
}
