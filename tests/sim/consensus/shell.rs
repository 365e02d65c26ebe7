//! The shell of a process: the machine's actions are carried out in order, over the simulated disk and network.

use super::app::App;
use super::check::logs::Logs;
use super::check::promises::Durable;
use super::world::{World, running};
use crate::disk::Survives;
use ringlog::machine::consensus::{Action, Committed, Part, Write};

impl World {
    /// Carries out what a node's machine asks for.
    pub fn act(&mut self, at: usize) {
        loop {
            let Some(process) = &mut self.nodes[at].process else { return };
            let actions = std::mem::take(&mut process.out);
            if actions.is_empty() {
                process.machine.check();
                break;
            }
            for action in actions {
                self.carry_out(at, action);
            }
        }
        self.begin_write(at);
    }

    fn carry_out(&mut self, at: usize, action: Action) {
        let now = self.now_us;
        let process = running(&mut self.nodes[at]);
        match action {
            Action::Persist(write) => process.writes.push_back(write),
            Action::SendBulk { to, frame } => {
                let me = process.me;
                self.trace.note("bulk", "", (frame.len() as u64) << 8 | at as u64);
                self.net.send_bulk(now, me, to, &frame);
            }
            Action::Send { to, frame } => {
                let (me, durable) = (process.me, process.durable);
                let is_member = process.machine.members().knows(me);
                self.promises.sends(me, is_member, &frame, &durable);
                self.trace.note("send", "", (frame.len() as u64) << 8 | at as u64);
                self.net.send(now, me, to, &frame);
            }
            Action::Install(snapshot) => {
                process.app = App::restore(snapshot.index, &snapshot.data);
                process.machine.applied(snapshot.index, &mut process.out);
                let is_leaders = snapshot.index > 1;
                self.counts.add("snapshots installed", u64::from(is_leaders));
                if is_leaders && !self.is_calm && self.rng.percent(10) {
                    // The moment at which a hard state that was forgotten would show.
                    let operations = self.rng.below(6);
                    self.nodes[at].disk.crash_in(Some(operations));
                }
            }
            Action::Apply(entries) => self.apply(at, &entries),
            Action::TakeSnapshot => {
                self.counts.note("snapshots asked for");
                self.take_snapshot(at);
            }
            Action::ReadReady { read, index } => {
                if let Some(before) = process.reads.remove(&read) {
                    process.ready.push((index, before));
                }
                self.answer_reads(at);
            }
            Action::ReadLost { read } => {
                process.reads.remove(&read);
                self.counts.note("reads lost");
            }
            Action::Role(role) => {
                let me = process.me;
                self.trace.note("role", "", role.term << 8 | role.part as u64);
                if role.part == Part::Leader {
                    Logs::leads(&process.machine, &self.history);
                    let is_new = self.elections.leads(role.term, me);
                    self.counts.add("elections won", u64::from(is_new));
                } else {
                    self.deposed(at, role.term);
                }
                self.say(|| format!("node {at}: {role:?}"));
            }
            Action::Members(members) => {
                self.counts.add("joint configurations", u64::from(members.is_joint()));
                self.say(|| format!("node {at}: {members:?}"));
            }
            Action::Refused(why) => {
                process.refused = true;
                self.say(|| format!("node {at}: refused: {why:?}"));
                self.counts.note("older copies refused");
                assert_eq!(self.replaced, Some(at as i32), "only an older copy is refused: {why:?}");
            }
        }
    }

    /// Whoever led does not any more: what it proposed may be committed or not.
    fn deposed(&mut self, at: usize, term: u64) {
        let process = running(&mut self.nodes[at]);
        let lost: Vec<u64> =
            process.pending.iter().filter(|(_, p)| p.term < term).map(|(at, _)| *at).collect();
        self.counts.add("leaders that stepped down", u64::from(!lost.is_empty()));
        for index in lost {
            let pending = process.pending.remove(&index).expect("it was just found");
            self.again.push(pending.id);
        }
    }

    fn apply(&mut self, at: usize, entries: &[Committed]) {
        for entry in entries {
            let process = running(&mut self.nodes[at]);
            let is_first = self.history.applies(entry.index, entry.term, &entry.data);
            match process.app.apply(entry.index, &entry.data) {
                Some(id) => self.acknowledged.took_effect(id, entry.index),
                None => self
                    .counts
                    .add("commands doubled and taken once", u64::from(is_first && !entry.data.is_empty())),
            }
            self.trace.note("apply", "", entry.index << 8 | at as u64);
            if let Some(pending) = process.pending.remove(&entry.index) {
                if pending.term == entry.term {
                    self.counts
                        .add("commands acknowledged", u64::from(self.acknowledged.command(pending.id)));
                } else {
                    self.again.push(pending.id);
                }
            }
        }
        let process = running(&mut self.nodes[at]);
        let last = entries.last().map_or(0, |entry| entry.index);
        process.machine.applied(last, &mut process.out);
        self.answer_reads(at);
        let process = running(&mut self.nodes[at]);
        if process.log.bytes() > process.snapshot_after {
            self.take_snapshot(at);
        }
    }

    fn take_snapshot(&mut self, at: usize) {
        let process = running(&mut self.nodes[at]);
        if let Some(point) = process.machine.snapshot_point() {
            assert_eq!(point.index, process.app.index);
            process.machine.compact(point, process.app.snapshot(), &mut process.out);
            process.snapshot_after = u64::MAX;
            self.counts.note("snapshots taken");
        }
    }

    fn answer_reads(&mut self, at: usize) {
        let process = running(&mut self.nodes[at]);
        let applied = process.app.index;
        for (_, before) in process.ready.extract_if(.., |(index, _)| *index <= applied) {
            self.acknowledged.read(before, &process.app);
            self.counts.note("reads answered");
        }
    }

    /// The disk takes on all writes that wait.
    fn begin_write(&mut self, at: usize) {
        let now = self.now_us;
        let node = &mut self.nodes[at];
        let free_at = now.max(node.stalled_until_us);
        let delay = 1 + self.rng.below(node.write_us);
        let Some(process) = &mut node.process else { return };
        if process.disk_busy.is_none() && !process.writes.is_empty() {
            let most = self.rng.between(1, 4) as usize;
            process.disk_busy = Some((free_at + delay, process.writes.len().min(most)));
        }
    }

    pub fn disk_done(&mut self, at: usize) {
        let (now, is_calm) = (self.now_us, self.is_calm);
        let node = &mut self.nodes[at];
        if node.stalled_until_us > now {
            running(node).disk_busy =
                Some((node.stalled_until_us, running(node).disk_busy.map_or(1, |(_, n)| n)));
            return;
        }
        let process = running(node);
        let (_, number) = process.disk_busy.take().expect("the disk was busy");
        let writes: Vec<_> = process.writes.iter().take(number).cloned().collect();
        let done = match process.log.persist(&writes) {
            Ok(done) => done,
            Err(_) if node.disk.has_crashed() => {
                self.counts.note("crashes within a write");
                self.crash(at, Survives::Percent(50));
                return;
            }
            Err(e) => panic!("node {at} cannot write: {e}"),
        };
        for write in writes.iter().take(done) {
            process.writes.pop_front();
            process.durable = Durable { hard: write.hard, last: write.last };
            self.promises.holds(process.me, write.hard);
            if matches!(write.write, Write::Switch { .. }) {
                process.snapshot_after = process.log.bytes() + 4096 * self.rng.between(5, 60);
            }
        }
        let is_full = done < writes.len();
        assert!(!(is_full && is_calm), "there is room in calm times");
        if is_full != process.is_full {
            process.is_full = is_full;
            process.machine.set_room(!is_full);
        }
        if is_full {
            self.counts.note("writes refused for want of room");
            process.disk_busy = Some((now + 20_000, process.writes.len()));
        } else if process.writes.is_empty() && self.rng.percent(20) {
            match process.log.state_durable() {
                Err(_) if node.disk.has_crashed() => {
                    self.crash(at, Survives::Percent(50));
                    return;
                }
                other => drop(other.expect("only a crash fails a write")),
            }
        }
        let process = running(&mut self.nodes[at]);
        if let Some(last) = writes[..done].last() {
            process.machine.persisted(last.number, &mut process.out);
        }
        self.act(at);
    }

    /// The process ends, and starts again after a while.
    pub fn crash(&mut self, at: usize, survives: Survives) {
        self.say(|| format!("node {at} crashes: {survives:?}"));
        let lost = self.nodes[at].process.as_ref().is_some_and(|process| !process.writes.is_empty());
        self.counts.add("torn tails or lost writes", u64::from(lost));
        self.kill(at, survives);
        let after = self.rng.pick(&[10, 50, 300, 1_500]) * 1_000;
        self.nodes[at].start_at_us = Some(self.now_us + after);
    }
}
