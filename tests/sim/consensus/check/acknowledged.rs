//! Every acknowledged command takes effect exactly once and stays; a read sees all that was acknowledged before it.

use super::super::app::App;
use std::collections::{BTreeMap, BTreeSet};

/// See the module's documentation.
#[derive(Default)]
pub struct Acknowledged {
    acknowledged: BTreeSet<u64>,
    /// For a read under way, how many commands had been acknowledged when it began.
    order: Vec<u64>,
    effects: BTreeMap<u64, u64>,
}

impl Acknowledged {
    pub fn command(&mut self, id: u64) -> bool {
        let is_new = self.acknowledged.insert(id);
        if is_new {
            self.order.push(id);
        }
        is_new
    }

    /// A command took effect at an entry: always the same one.
    pub fn took_effect(&mut self, id: u64, index: u64) {
        let at = *self.effects.entry(id).or_insert(index);
        assert_eq!(at, index, "command {id} took effect twice");
    }

    pub fn number(&self) -> usize {
        self.order.len()
    }

    /// A read that began when `before` commands were acknowledged is answered from this state.
    pub fn read(&self, before: usize, app: &App) {
        for id in &self.order[..before] {
            assert!(app.holds(*id), "a read at entry {} misses the acknowledged command {id}", app.index);
        }
    }

    /// At the end, everything is in the state.
    pub fn all_in(&self, app: &App) {
        for id in &self.order {
            assert!(app.holds(*id), "the acknowledged command {id} is lost");
        }
    }
}
