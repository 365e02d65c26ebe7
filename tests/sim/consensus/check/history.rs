//! State-machine agreement: whoever applies an entry applies the same; and what is applied stays.

use bytes::Bytes;
use std::collections::BTreeMap;

/// The committed entries as the first node that applied each saw them.
#[derive(Default)]
pub struct History {
    entries: BTreeMap<u64, (u64, Bytes)>,
}

impl History {
    /// A node applies an entry. Returns whether it is the first to.
    pub fn applies(&mut self, index: u64, term: u64, data: &Bytes) -> bool {
        if let Some((known_term, known)) = self.entries.get(&index) {
            assert_eq!(*known_term, term, "entry {index} is applied in two terms");
            assert!(known == data, "entry {index} is applied with two contents");
            return false;
        }
        self.entries.insert(index, (term, data.clone()));
        true
    }

    /// The last entry that any node applied.
    pub fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// The terms of committed entries after `base`.
    pub fn after(&self, base: u64) -> impl Iterator<Item = (u64, u64)> {
        self.entries.range(base + 1..).map(|(index, (term, _))| (*index, *term))
    }
}
