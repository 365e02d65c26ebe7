//! Snapshots on their way: the streams' ends in the machine.

use super::action::{Action, Actions};
use super::counting::unbound;
use super::frame::{Chunk, Frame, Verdict};
use super::member::{Peer, node_of, raft_id};
use super::mutant::{self, Mutant};
use super::node::Consensus;
use super::stream::{Outcome, Received, Receiving, Sending};
use super::view::bare;
use raft::eraftpb::{Message, MessageType};
use raft::{ProgressState, SnapshotStatus};
use std::sync::Arc;

impl Consensus {
    /// Raft wants a peer to have the snapshot. Where that cannot begin, raft hears of it at the next tick.
    pub(super) fn begin_stream(&mut self, message: &Message, out: &mut Actions) {
        let wanted = message.get_snapshot().get_metadata().index;
        let snapshot = self.view().snapshot_taken().filter(|snapshot| snapshot.index == wanted).cloned();
        let snapshot = snapshot.expect("raft names the snapshot that the view has");
        let node = node_of(message.to).expect("raft sends to members");
        let Some(directory) = self.members.directories.get(&node) else { return };
        let to = Peer { node, directory: *directory };
        self.streams += 1;
        let stream = self.settings.incarnation.wrapping_add(self.streams);
        let mut sending = Sending::new(to, stream, self.raw.raft.term, &snapshot, self.now_ms);
        send(&mut sending, self.settings.limits.chunk_bytes, self.now_ms, out);
        self.sending.insert(node, sending);
    }

    pub(super) fn tick_streams(&mut self, out: &mut Actions) {
        let (now, timing, limits) = (self.now_ms, self.settings.timing, self.settings.limits);
        let mut ended = Vec::new();
        for (node, sending) in &mut self.sending {
            let progress = self.raw.raft.prs().get(raft_id(*node));
            let waits = progress.is_some_and(|progress| progress.state == ProgressState::Snapshot);
            if !waits {
                ended.push((*node, None));
            } else if sending.has_failed(now, timing.stream_ms) {
                ended.push((*node, Some(SnapshotStatus::Failure)));
            } else {
                send(sending, limits.chunk_bytes, now, out);
            }
        }
        for (node, status) in ended {
            self.end_stream(node, status);
        }
        // A peer that raft waits for without a stream (its folder was not known) would wait for ever.
        if self.is_leader() {
            let waits: Vec<u64> = self
                .raw
                .raft
                .prs()
                .iter()
                .filter_map(|(id, progress)| {
                    let node = node_of(*id)?;
                    let is_stuck =
                        progress.state == ProgressState::Snapshot && !self.sending.contains_key(&node);
                    is_stuck.then_some(*id)
                })
                .collect();
            waits.into_iter().for_each(|id| self.report(id, SnapshotStatus::Failure));
        }
    }

    fn end_stream(&mut self, node: i32, status: Option<SnapshotStatus>) {
        self.sending.remove(&node);
        if let Some(status) = status {
            self.report(raft_id(node), status);
        }
    }

    fn report(&mut self, id: u64, status: SnapshotStatus) {
        if !mutant::on(Mutant::StreamNeverReported) {
            self.raw.report_snapshot(id, status);
        }
    }

    /// A peer says how far it has taken a stream.
    pub(super) fn chunk_taken(
        &mut self,
        from: Peer,
        stream: u64,
        verdict: Verdict,
        bytes: u64,
        out: &mut Actions,
    ) {
        let (now, chunk_bytes) = (self.now_ms, self.settings.limits.chunk_bytes);
        let Some(sending) = self.sending.get_mut(&from.node) else { return };
        if sending.stream != stream || sending.to != from {
            return;
        }
        match sending.heard(verdict, bytes, now) {
            Outcome::UnderWay => send(sending, chunk_bytes, now, out),
            Outcome::Finished => self.end_stream(from.node, Some(SnapshotStatus::Finish)),
            Outcome::Failed => self.end_stream(from.node, Some(SnapshotStatus::Failure)),
        }
    }

    /// A chunk of a leader's snapshot. When it is whole, raft decides whether to take it; log, snapshot and hard
    /// state then change in one write.
    pub(super) fn take_chunk(&mut self, from: Peer, chunk: &Chunk, out: &mut Actions) {
        let (stream, term) = (chunk.stream, chunk.term);
        let say = |verdict, bytes| unbound(from, Frame::Taken { stream, verdict, bytes }.encode());
        if !self.can_take_entries() || term < self.raw.raft.term || !self.installs.is_empty() {
            return out.push(say(Verdict::Refused, 0));
        }
        let bytes_max = self.settings.limits.snapshot_bytes;
        let snapshot = match Receiving::take(&mut self.receiving, from, chunk, bytes_max) {
            Received::Answer(frame) => return out.push(unbound(from, frame.encode())),
            Received::Whole(snapshot) => Arc::new(snapshot),
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        (message.from, message.to, message.term) = (raft_id(from.node), self.raw.raft.id, term);
        message.set_snapshot(bare(&snapshot));
        self.spoke.insert(from.node, from);
        self.arrived = Some(snapshot);
        let _ = self.raw.step(message);
        self.settle(out);
        self.arrived = None;
        out.push(say(Verdict::Done, chunk.whole));
    }
}

fn send(sending: &mut Sending, chunk_bytes: usize, now_ms: u64, out: &mut Actions) {
    let to = sending.to;
    out.extend(sending.chunks(chunk_bytes, now_ms).into_iter().map(|frame| Action::SendBulk { to, frame }));
}
