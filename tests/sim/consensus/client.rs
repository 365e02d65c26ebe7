//! Who uses the cluster: clients that propose and read, and an operator that changes its members.

use super::app::command;
use super::node::{Node, Pending};
use super::world::{World, running};
use ringlog::machine::consensus::membership::{Change, Step};
use ringlog::machine::consensus::{Peer, Refusal};

const PENDING_MAX: usize = 40;

impl World {
    pub fn client(&mut self) {
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|at| self.nodes[*at].process.as_ref().is_some_and(|process| self.serves(process)))
            .collect();
        if up.is_empty() || (!self.is_calm && self.rng.percent(self.style.idle_percent)) {
            return;
        }
        if self.rng.percent(15) {
            let at = self.rng.pick(&up);
            return self.read(at);
        }
        // Clients ask whoever says that it leads, and now and then somebody else.
        let leaders: Vec<usize> = up.iter().copied().filter(|at| self.leads(*at)).collect();
        let at = if leaders.is_empty() || self.rng.percent(5) {
            self.rng.pick(&up)
        } else {
            self.rng.pick(&leaders)
        };
        for _ in 0..self.rng.between(1, 3) {
            self.propose(at);
        }
        self.act(at);
    }

    /// Begins a read that must see all that is acknowledged by now.
    pub fn read(&mut self, at: usize) {
        let before = self.acknowledged.number();
        let process = running(&mut self.nodes[at]);
        if let Ok(read) = process.machine.read(&mut process.out) {
            process.reads.insert(read, before);
        }
        self.act(at);
    }

    fn propose(&mut self, at: usize) {
        let is_again = !self.again.is_empty() && self.rng.percent(60);
        let id = if is_again {
            let which = self.rng.index(self.again.len());
            self.again.swap_remove(which)
        } else {
            self.next_id += 1;
            self.next_id
        };
        let data = command(id, self.rng.below(200) as usize);
        let process = running(&mut self.nodes[at]);
        if process.pending.len() >= PENDING_MAX {
            return self.again.push(id);
        }
        match process.machine.propose(data, bytes::Bytes::new(), &mut process.out) {
            Ok(proposed) => {
                let pending = Pending { id, term: proposed.term };
                if let Some(lost) = process.pending.insert(proposed.index, pending) {
                    self.again.push(lost.id);
                }
                self.counts.add("commands proposed again", u64::from(is_again));
            }
            Err(_) => self.again.push(id),
        }
    }

    /// The operator asks the leader for the next step of every wish.
    /// A node whose folder is refused gets an empty disk, sooner or later.
    pub fn operator(&mut self) {
        let is_refused = |node: &Node| node.process.as_ref().is_some_and(|process| process.refused);
        if let Some(at) = self.nodes.iter().position(is_refused)
            && (self.is_calm || self.rng.percent(20))
        {
            self.wipe(at);
        }
        let Some(at) = self.leader() else { return };
        let Some(wish) = self.wishes.first().copied() else { return };
        let process = running(&mut self.nodes[at]);
        let answer = process.machine.change(wish, &mut process.out);
        self.say(|| format!("operator at node {at}: {wish:?}: {answer:?}"));
        match answer {
            Ok(Step::Done) => {
                self.wishes.remove(0);
                if let Change::Voter(Peer { node, .. }) | Change::Learner(Peer { node, .. }) = wish
                    && self.replaced == Some(node)
                {
                    self.replaced = None;
                }
                if matches!(wish, Change::Remove(_))
                    && let Some(peer) = self.returns.take()
                {
                    self.wish_for(peer);
                }
            }
            Ok(Step::AddLearner(_)) => self.counts.note("members added"),
            Ok(Step::Promote(_)) => self.counts.note("voters promoted"),
            Ok(Step::Demote(_)) => self.counts.note("voters removed"),
            Ok(Step::Refuse(why)) => panic!("the wish {wish:?} is refused: {why:?}"),
            Ok(_) | Err(Refusal::NotLeader { .. } | Refusal::HandingOver | Refusal::Busy) => {
                // Another wish may be nearer: a learner that is down catches up with nobody.
                self.wishes.rotate_left(1);
            }
            Err(other) => panic!("the wish {wish:?}: {other:?}"),
        }
        self.act(at);
    }
}
