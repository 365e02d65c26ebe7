//! A network that loses, delays, doubles and reorders, and whose links break one way or both.

use crate::rng::Rng;
use bytes::Bytes;
use ringlog::machine::consensus::Peer;
use std::collections::{BTreeMap, BTreeSet};

/// A frame that arrives.
pub struct Arrival {
    pub from: Peer,
    pub to: Peer,
    pub frame: Bytes,
}

/// See the module's documentation.
pub struct Net {
    rng: Rng,
    under_way: BTreeMap<(u64, u64), Arrival>,
    next: u64,
    /// When the last bulk frame of a link arrives.
    bulk_at: BTreeMap<(i32, i32), u64>,
    /// Links that are cut, by sender and receiver.
    cut: BTreeSet<(i32, i32)>,
    pub loss_percent: u64,
    pub double_percent: u64,
    /// Longest usual delay in microseconds.
    pub delay_us: u64,
    pub late_percent: u64,
}

impl Net {
    pub fn new(rng: Rng) -> Net {
        Net {
            rng,
            under_way: BTreeMap::new(),
            next: 0,
            bulk_at: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss_percent: 0,
            double_percent: 0,
            delay_us: 2_000,
            late_percent: 0,
        }
    }

    /// Sends on the connection for bulk, on which nothing overtakes: it may be lost when the connection breaks.
    pub fn send_bulk(&mut self, now_us: u64, from: Peer, to: Peer, frame: &Bytes) {
        if self.is_cut(from.node, to.node) || self.rng.percent(self.loss_percent) {
            return;
        }
        let last = self.bulk_at.entry((from.node, to.node)).or_default();
        *last = (now_us + 100 + self.rng.below(self.delay_us)).max(*last + 1);
        self.next += 1;
        self.under_way.insert((*last, self.next), Arrival { from, to, frame: frame.clone() });
    }

    pub fn send(&mut self, now_us: u64, from: Peer, to: Peer, frame: &Bytes) {
        if self.is_cut(from.node, to.node) || self.rng.percent(self.loss_percent) {
            return;
        }
        let times = 1 + u64::from(self.rng.percent(self.double_percent));
        for _ in 0..times {
            let late = if self.rng.percent(self.late_percent) { 200_000 } else { 0 };
            let at = now_us + 100 + self.rng.below(self.delay_us) + self.rng.below(late + 1);
            self.next += 1;
            self.under_way.insert((at, self.next), Arrival { from, to, frame: frame.clone() });
        }
    }

    /// When the next frame arrives.
    pub fn next_at(&self) -> Option<u64> {
        self.under_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn take(&mut self, now_us: u64) -> Option<Arrival> {
        let first = self.under_way.first_entry()?;
        if first.key().0 > now_us {
            return None;
        }
        let arrival = first.remove();
        (!self.is_cut(arrival.from.node, arrival.to.node)).then_some(arrival)
    }

    pub fn is_cut(&self, from: i32, to: i32) -> bool {
        self.cut.contains(&(from, to))
    }

    pub fn cut_link(&mut self, from: i32, to: i32) {
        self.cut.insert((from, to));
    }

    pub fn mend(&mut self) {
        self.cut.clear();
    }

    /// Everything works from now on.
    pub fn calm(&mut self) {
        self.mend();
        (self.loss_percent, self.double_percent, self.late_percent) = (0, 0, 0);
        self.delay_us = 2_000;
    }
}
