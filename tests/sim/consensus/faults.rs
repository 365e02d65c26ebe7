//! Faults. Never more than the group is made for where that would be the end of it: one disk is lost at a time, and
//! the next only when its node is a member again.

use super::world::{World, running};
use crate::disk::{SimDisk, Survives};
use ringlog::machine::consensus::membership::Change;
use ringlog_storage::disk::{Disk, Open, make_dirs_durably, parent};

impl World {
    pub fn fault(&mut self) {
        // Half of all trouble is the leader's.
        let any = self.rng.index(self.nodes.len());
        let at = if self.rng.percent(50) { any } else { self.leader().unwrap_or(any) };
        match self.rng.below(100) {
            0..14 => self.crash_now(at),
            14..20 => self.partition(),
            20..26 => self.one_way(at),
            26..30 => self.stop_process(at),
            30..32 => {
                let to = self.rng.index(self.nodes.len());
                self.net.cut_link(at as i32, to as i32);
                self.counts.note("links cut");
            }
            32..46 => self.net.mend(),
            46..52 => {
                self.nodes[at].write_us = self.rng.pick(&[2_000, 20_000, 80_000]);
                self.counts.note("slow disks");
            }
            52..58 => {
                self.nodes[at].stalled_until_us = self.now_us + 500_000;
                self.counts.note("stalled disks");
            }
            58..62 => {
                self.nodes[at].disk.set_full(true);
                self.counts.note("full disks");
            }
            62..70 => self.nodes.iter().for_each(|node| node.disk.set_full(false)),
            70..74 => self.jump_clock(at),
            74..79 => (0..self.nodes.len()).for_each(|at| self.copy_disk(at)),
            79..86 => self.restore_disk(at),
            86..90 => self.replace_disk(at),
            90..93 => self.hand_over(),
            93..96 => self.prove_gone(),
            _ => self.remove_and_add(at),
        }
    }

    fn crash_now(&mut self, at: usize) {
        if self.nodes[at].process.is_none() {
            return;
        }
        if self.rng.percent(40) {
            // Within one of the next writes.
            let operations = self.rng.below(8);
            return self.nodes[at].disk.crash_in(Some(operations));
        }
        let survives = if self.rng.percent(30) {
            self.counts.note("process crashes");
            Survives::Written
        } else {
            self.counts.note("power losses");
            Survives::Percent(self.rng.pick(&[0, 50, 100]))
        };
        self.crash(at, survives);
    }

    fn partition(&mut self) {
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.percent(50)).collect();
        for from in 0..side.len() {
            for to in 0..side.len() {
                if side[from] != side[to] {
                    self.net.cut_link(from as i32, to as i32);
                }
            }
        }
        self.counts.note("partitions");
    }

    fn one_way(&mut self, at: usize) {
        let hears = self.rng.percent(50);
        for other in 0..self.nodes.len() {
            let (me, them) = (at as i32, other as i32);
            if hears { self.net.cut_link(me, them) } else { self.net.cut_link(them, me) }
        }
        self.counts.note("one-way partitions");
    }

    /// A process is stopped and goes on as if nothing had happened.
    fn stop_process(&mut self, at: usize) {
        let until = self.now_us + self.rng.between(100, 1_500) * 1_000;
        let Some(process) = &mut self.nodes[at].process else { return };
        process.stopped_until_us = until;
        self.counts.note("processes stopped");
    }

    fn jump_clock(&mut self, at: usize) {
        let jump_ms = self.rng.between(1, 5_000);
        let is_back = self.rng.percent(50);
        let Some(process) = &mut self.nodes[at].process else { return };
        let offset = process.offset_ms;
        process.offset_ms = if is_back { offset.saturating_sub(jump_ms) } else { offset + jump_ms };
        self.counts.note("clock jumps");
    }

    fn copy_disk(&mut self, at: usize) {
        let rng = self.rng.fork();
        let node = &mut self.nodes[at];
        let Some(process) = &node.process else { return };
        if node.disk.has_crashed() || process.refused || !process.machine.takes_part() {
            return;
        }
        let count = process.machine.count();
        node.copy = Some((copy_of(&node.disk, rng), count));
    }

    /// Whether a disk may be lost now.
    fn may_lose_a_disk(&self) -> bool {
        let one_voter = self.style.voters == 1 || self.listed.len() == 1;
        let all_up =
            self.nodes.iter().all(|node| node.process.as_ref().is_some_and(|p| p.machine.takes_part()));
        self.replaced.is_none() && self.wishes.is_empty() && !one_voter && all_up
    }

    /// A node comes back on an older copy of its folder. Its peers have heard a higher count.
    fn restore_disk(&mut self, at: usize) {
        if !self.may_lose_a_disk() {
            return;
        }
        let with_copy: Vec<usize> =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].copy.is_some()).collect();
        if with_copy.is_empty() {
            return;
        }
        let at = if self.nodes[at].copy.is_some() { at } else { self.rng.pick(&with_copy) };
        let me = running(&mut self.nodes[at]).me;
        let count = self.nodes[at].copy.as_ref().map_or(0, |(_, count)| *count);
        // A start counts one more: the copy's next count must be one that every voter has heard passed.
        let known = |other: &super::node::Process| other.machine.remembers(me);
        let mut others = self.nodes.iter().filter(|node| node.id != me.node && node.id < self.style.voters);
        let is_known =
            others.all(|node| node.process.as_ref().is_some_and(|process| known(process) > count + 1));
        if !is_known {
            return;
        }
        self.kill(at, Survives::Written);
        self.promises.restored(me);
        let (copy, _) = self.nodes[at].copy.take().expect("it was just looked at");
        self.nodes[at].disk = copy;
        self.nodes[at].start_at_us = Some(self.now_us + 20_000);
        self.replaced = Some(at as i32);
        self.counts.note("folders restored");
        self.say(|| format!("node {at} comes back on an older copy, of count {count}"));
    }

    fn replace_disk(&mut self, at: usize) {
        if self.may_lose_a_disk() {
            self.wipe(at);
        }
    }

    /// A node gets an empty disk.
    pub fn wipe(&mut self, at: usize) {
        self.say(|| format!("node {at} gets an empty disk"));
        self.kill(at, Survives::Written);
        let rng = self.rng.fork();
        let node = &mut self.nodes[at];
        (node.disk, node.copy) = (SimDisk::new(rng), None);
        node.start_at_us = Some(self.now_us + 20_000);
        self.replaced = Some(at as i32);
        self.counts.note("disks replaced");
        // The moment at which a vote that was forgotten would show.
        if !self.is_calm
            && self.rng.percent(50)
            && let Some(leader) = self.leader()
        {
            self.crash(leader, Survives::Written);
        }
    }

    fn hand_over(&mut self) {
        let Some(at) = self.leader() else { return };
        let process = running(&mut self.nodes[at]);
        if process.machine.transfer_leader(None, &mut process.out).is_ok() {
            self.counts.note("leadership handed over");
        }
        self.act(at);
    }

    /// The leader's process ends, and all the others see its port refuse.
    fn prove_gone(&mut self) {
        let Some(leader) = self.leader() else { return };
        self.crash(leader, Survives::Written);
        for at in 0..self.nodes.len() {
            let cut = self.net.is_cut(at as i32, leader as i32);
            if let Some(process) = &mut self.nodes[at].process
                && !process.refused
                && process.stopped_until_us <= self.now_us
                && !cut
            {
                process.machine.leader_process_gone(leader as i32, &mut process.out);
                self.counts.note("elections by proof");
                self.act(at);
            }
        }
    }

    /// A voter is removed and, as it is wanted after all, added again.
    fn remove_and_add(&mut self, at: usize) {
        if self.style.voters < 3 || !self.wishes.is_empty() {
            return;
        }
        let Some(process) = &self.nodes[at].process else { return };
        let me = process.me;
        if !process.machine.members().knows(me) {
            return;
        }
        self.wishes.push(Change::Remove(me.node));
        self.returns = Some(me);
    }

    /// The last fault is over: everything is repaired, and every node starts again.
    pub fn calm_down(&mut self) {
        self.say(|| "calm".to_owned());
        self.is_calm = true;
        self.net.calm();
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.disk.set_full(false);
            node.disk.crash_in(None);
            (node.write_us, node.stalled_until_us) = (2_000, 0);
            if let Some(process) = &mut node.process {
                process.stopped_until_us = 0;
            } else {
                node.start_at_us = Some(self.now_us + 1_000);
            }
        }
        // A removal that is still wanted is given up.
        self.wishes.retain(|wish| !matches!(wish, Change::Remove(_)));
        if let Some(peer) = self.returns.take() {
            self.wish_for(peer);
        }
    }
}

/// A disk that holds what a careful copy of another would.
fn copy_of(disk: &SimDisk, rng: crate::rng::Rng) -> SimDisk {
    let copy = SimDisk::new(rng);
    let root: Vec<String> = Disk::list(disk, "")
        .expect("the root is there")
        .into_iter()
        .flat_map(|entry| if entry.is_dir { disk.files(&entry.name) } else { vec![entry.name] })
        .collect();
    for path in root {
        make_dirs_durably(&copy, parent(&path)).expect("a new disk takes all");
        let file = copy.open(&path, Open::Replace).expect("a new disk takes all");
        file.write_at(0, &disk.contents(&path).expect("it was listed")).expect("a new disk takes all");
        file.sync().expect("a new disk takes all");
        copy.sync_dir(parent(&path)).expect("a new disk takes all");
    }
    copy
}
