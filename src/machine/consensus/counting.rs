//! Counts: how peers know a folder that was restored from an older copy. The decision is in `formation`.

use super::action::{Action, Actions, RefusedFolder, Write};
use super::formation::{TakesPart, decide_part, objects};
use super::frame::Frame;
use super::log::{Body, Remembered, Stored};
use super::member::{Members, Peer};
use super::mutant::{self, Mutant};
use super::node::Consensus;
use super::settings::Settings;
use bytes::Bytes;
use std::collections::BTreeMap;

enum Stage {
    /// The folder is fresh: there is nothing that it could have forgotten, and nothing that it may vote on.
    Outside,
    Asking {
        since_ms: u64,
        answers: BTreeMap<i32, Remembered>,
    },
    Inside,
    Refused,
}

/// A folder's own count and what it remembers of others'.
pub(super) struct Counting {
    stage: Stage,
    count: u64,
    run: u64,
    remembered: BTreeMap<Peer, Remembered>,
    asked_ms: Option<u64>,
    counted_ms: u64,
}

/// Announcements between two counts, for peers that missed one.
const ANNOUNCEMENTS: u64 = 6;

impl Counting {
    pub(super) fn new(settings: &Settings, stored: &Stored, members: &Members, now_ms: u64) -> Counting {
        let is_outside = members.directories.is_empty();
        let asking = Stage::Asking { since_ms: now_ms, answers: BTreeMap::new() };
        Counting {
            stage: if is_outside { Stage::Outside } else { asking },
            count: stored.count,
            run: settings.incarnation,
            remembered: stored.remembered.clone(),
            asked_ms: None,
            counted_ms: now_ms,
        }
    }

    pub(super) fn takes_part(&self) -> bool {
        matches!(self.stage, Stage::Inside | Stage::Outside)
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The highest count heard of a peer's folder.
    pub(super) fn known(&self, peer: Peer) -> u64 {
        self.remembered.get(&peer).map_or(0, |known| known.count)
    }

    pub(super) fn memory(&self) -> &BTreeMap<Peer, Remembered> {
        &self.remembered
    }

    /// The folder has become a member's.
    pub(super) fn joined(&mut self, now_ms: u64) {
        if matches!(self.stage, Stage::Outside) {
            self.stage = Stage::Inside;
            self.counted_ms = now_ms;
        }
    }

    /// Returns whether that is new.
    pub(super) fn refuse(&mut self) -> bool {
        let is_new = !matches!(self.stage, Stage::Refused);
        self.stage = Stage::Refused;
        is_new
    }
}

impl Consensus {
    /// Asks peers before the folder takes part; afterwards counts, and tells them.
    pub(super) fn tick_counting(&mut self, out: &mut Actions) {
        let (now, timing) = (self.now_ms, self.settings.timing);
        let interval = match self.counting.stage {
            Stage::Asking { .. } => timing.heartbeat_ms,
            Stage::Inside => (timing.count_ms / ANNOUNCEMENTS).max(timing.heartbeat_ms),
            Stage::Outside | Stage::Refused => return,
        };
        let is_inside = matches!(self.counting.stage, Stage::Inside);
        if is_inside && now >= self.counting.counted_ms + timing.count_ms && self.can_take_entries() {
            self.counting.count += 1;
            self.counting.counted_ms = now;
            let mut body = Body::default();
            body.count(self.counting.count);
            self.write(body, out);
            self.counting.asked_ms = None;
        }
        if self.counting.asked_ms.is_none_or(|asked| now >= asked + interval) {
            self.counting.asked_ms = Some(now);
            let (count, run) = (self.counting.count, self.counting.run);
            let frame = Frame::Announce { count, run }.encode();
            for to in self.members.voting().filter(|peer| peer.node != self.settings.me.node) {
                self.gate.hold(self.gate.last_write(), 0, to, frame.clone());
            }
        }
        self.decide_part(out);
    }

    /// Asks for a write that is not a Ready's. Like every write it carries the hard state.
    pub(super) fn write(&mut self, mut body: Body, out: &mut Actions) {
        body.hard_state(&self.hard);
        let number = self.gate.issue(None, false, self.hard.term, self.now_ms);
        self.ask_for(number, Write::Append(body.finish()), out);
    }

    fn decide_part(&mut self, out: &mut Actions) {
        let Stage::Asking { since_ms, answers } = &self.counting.stage else { return };
        let (count, run) = (self.counting.count, self.counting.run);
        let grace_has_passed = self.now_ms >= since_ms + self.settings.timing.grace_ms;
        let me = self.settings.me;
        match decide_part(me, &self.members, (count, run), answers, grace_has_passed) {
            TakesPart::Yes => {
                self.counting.stage = Stage::Inside;
                self.counting.counted_ms = self.now_ms;
            }
            TakesPart::Wait => {}
            TakesPart::No { peer, known } => {
                self.refuse(RefusedFolder::OlderCopy { peer, remembered: known.count, count }, out);
            }
        }
    }

    /// A peer says how far its folder has counted. The answer waits until it is remembered durably.
    pub(super) fn announced(&mut self, from: Peer, count: u64, run: u64, out: &mut Actions) {
        let known = self.counting.remembered.get(&from).copied();
        let known = known.unwrap_or(Remembered { count: 0, run: 0 });
        let next = Remembered { count, run };
        let is_news = known.run != run || known.count < count;
        if !objects(known, count, run) && is_news {
            if !self.can_take_entries() {
                return;
            }
            self.counting.remembered.insert(from, next);
            // What a node counted on folders that it no longer runs on is of no use to anyone.
            let members = &self.members;
            self.counting.remembered.retain(|peer, _| *peer == from || members.knows(*peer));
            let mut body = Body::default();
            body.peer_count(from, next);
            self.write(body, out);
        }
        let answer = Frame::Remember { count, run, known }.encode();
        self.gate.hold(self.gate.last_write(), 0, from, answer);
    }

    /// A peer has answered what it remembered of this folder.
    pub(super) fn remembered(
        &mut self,
        from: Peer,
        count: u64,
        run: u64,
        known: Remembered,
        out: &mut Actions,
    ) {
        if run != self.counting.run || !self.members.knows(from) {
            return;
        }
        let is_ignored = mutant::on(Mutant::RestoredAccepted);
        if objects(known, count, run) && !is_ignored {
            self.refuse(RefusedFolder::OlderCopy { peer: from.node, remembered: known.count, count }, out);
        } else if let Stage::Asking { answers, .. } = &mut self.counting.stage {
            let known = if is_ignored { Remembered { count: 0, run: 0 } } else { known };
            answers.insert(from.node, known);
            self.decide_part(out);
        }
    }
}

/// A frame on its way that binds nobody.
pub(super) fn unbound(to: Peer, frame: Bytes) -> Action {
    Action::Send { to, frame }
}
