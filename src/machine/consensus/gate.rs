//! Durable before sent: messages wait here for the writes that they follow from.
//!
//! | a message | leaves once |
//! |---|---|
//! | of a leader | its term and vote are durable (entries travel while the leader's own disk still writes them) |
//! | the answer to a heartbeat | the term is durable: a slow disk must not cost the leader its majority |
//! | any other | everything asked to be written before it is durable |

use super::member::Peer;
use super::mutant::{self, Mutant};
use bytes::Bytes;
use std::collections::VecDeque;

/// Most messages that wait; beyond it the oldest is dropped, as a network might.
const HELD_MAX: usize = 4096;
/// Most writes that may be under way before entries of a leader are dropped (and sent again later).
pub(super) const WRITES_MAX: usize = 256;

struct Waiting {
    number: u64,
    ready: Option<u64>,
    term: u64,
    since_ms: u64,
}

struct Held {
    after: u64,
    /// The term that the message binds its sender to; 0 for none.
    term: u64,
    to: Peer,
    frame: Bytes,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Gate {
    issued: u64,
    durable: u64,
    /// The write that holds the current term and vote.
    term_write: u64,
    /// The term that is durable.
    durable_term: u64,
    waiting: VecDeque<Waiting>,
    held: VecDeque<Held>,
}

impl Gate {
    /// With nothing under way, in a term that is durable.
    pub(super) fn new(durable_term: u64) -> Gate {
        Gate { durable_term, ..Gate::default() }
    }

    /// A new write, after which `term` is durable. `promises` says whether it is the first to hold it, or a vote.
    pub(super) fn issue(&mut self, ready: Option<u64>, promises: bool, term: u64, now_ms: u64) -> u64 {
        self.issued += 1;
        self.waiting.push_back(Waiting { number: self.issued, ready, term, since_ms: now_ms });
        if promises {
            self.term_write = self.issued;
        }
        self.issued
    }

    /// A Ready that needs no write of its own is durable when those before it are.
    /// Returns it where they are.
    pub(super) fn attach(&mut self, ready: u64) -> Option<u64> {
        if self.waiting.is_empty() {
            return Some(ready);
        }
        let last = self.waiting.back().expect("one is under way");
        let (term, since_ms) = (last.term, last.since_ms);
        self.waiting.push_back(Waiting { number: self.issued, ready: Some(ready), term, since_ms });
        None
    }

    /// The number that a leader's messages and answers to heartbeats wait for.
    pub(super) fn term_write(&self) -> u64 {
        self.term_write
    }

    /// The number that everything else waits for.
    pub(super) fn last_write(&self) -> u64 {
        self.issued
    }

    /// Sends a frame as soon as a write is durable.
    pub(super) fn hold(&mut self, after: u64, term: u64, to: Peer, frame: Bytes) {
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { after, term, to, frame });
    }

    /// A write, and with it all before it, is durable. Returns the number of the last Ready that is durable with it.
    pub(super) fn complete(&mut self, number: u64) -> Option<u64> {
        if mutant::on(Mutant::PersistedOutOfOrder) && number <= self.durable {
            return None;
        }
        assert!(number > self.durable, "write {number} completes after {}", self.durable);
        assert!(number <= self.issued, "write {number} was never asked for");
        self.durable = if mutant::on(Mutant::PersistedOutOfOrder) { self.issued } else { number };
        let mut ready = None;
        while let Some(first) = self.waiting.front()
            && first.number <= self.durable
        {
            ready = first.ready.or(ready);
            self.durable_term = self.durable_term.max(first.term);
            self.waiting.pop_front();
        }
        ready
    }

    /// The frames that may leave now.
    pub(super) fn release(&mut self) -> Vec<(Peer, Bytes)> {
        let mut free = Vec::new();
        let (durable, durable_term) = (self.durable, self.durable_term);
        self.held.retain(|held| {
            if held.after <= durable {
                assert!(held.term <= durable_term, "a message of a term leaves when the term is durable");
                free.push((held.to, held.frame.clone()));
            }
            held.after > durable
        });
        free
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn writes(&self) -> usize {
        self.waiting.len()
    }

    /// Since when the oldest write is under way.
    pub(super) fn oldest_since_ms(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.since_ms)
    }

    pub(super) fn check(&self) {
        assert!(self.durable <= self.issued && self.term_write <= self.issued);
        assert!(self.waiting.iter().all(|waiting| waiting.number > self.durable));
        assert!(self.waiting.iter().zip(self.waiting.iter().skip(1)).all(|(a, b)| a.number <= b.number));
        assert!(self.held.iter().all(|held| held.after > self.durable && held.after <= self.issued));
        assert!(self.held.len() <= HELD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const PEER: Peer = Peer { node: 1, directory: Uuid::nil() };

    fn frame(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn released(gate: &mut Gate) -> Vec<Bytes> {
        gate.release().into_iter().map(|(_, frame)| frame).collect()
    }

    #[test]
    fn nothing_leaves_before_its_write() {
        let mut gate = Gate::default();
        let term = gate.issue(Some(1), true, 7, 0);
        let entries = gate.issue(Some(2), false, 7, 5);
        gate.hold(gate.term_write(), 7, PEER, frame("heartbeat answer"));
        gate.hold(gate.last_write(), 7, PEER, frame("entries taken"));
        assert_eq!((term, entries, gate.writes(), gate.oldest_since_ms()), (1, 2, 2, Some(0)));
        assert!(released(&mut gate).is_empty());
        assert_eq!(gate.complete(term), Some(1));
        assert_eq!(released(&mut gate), [frame("heartbeat answer")]);
        gate.check();
        assert_eq!(gate.complete(entries), Some(2));
        assert_eq!(released(&mut gate), [frame("entries taken")]);
        assert!(gate.is_idle());
    }

    #[test]
    fn a_ready_without_a_write_waits_for_those_before_it() {
        let mut gate = Gate::default();
        assert_eq!(gate.attach(1), Some(1), "nothing is under way");
        gate.issue(Some(2), false, 0, 0);
        assert_eq!(gate.attach(3), None);
        gate.issue(Some(4), false, 0, 0);
        assert_eq!(gate.complete(1), Some(3));
        assert_eq!(gate.complete(2), Some(4));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gate = Gate::default();
        gate.issue(None, false, 0, 0);
        (0..=HELD_MAX).for_each(|_| gate.hold(1, 0, PEER, frame("x")));
        gate.check();
    }

    #[test]
    #[should_panic(expected = "completes after")]
    fn completions_come_in_order() {
        let mut gate = Gate::default();
        gate.issue(None, false, 0, 0);
        gate.issue(None, false, 0, 0);
        gate.complete(2);
        gate.complete(1);
    }
}
