//! Election safety: at most one leader in a term.

use ringlog::machine::consensus::Peer;
use std::collections::BTreeMap;

/// Who led in each term.
#[derive(Default)]
pub struct Elections(BTreeMap<u64, Peer>);

impl Elections {
    /// A node leads. Returns whether it is the first word of it.
    pub fn leads(&mut self, term: u64, who: Peer) -> bool {
        let is_new = !self.0.contains_key(&term);
        let leader = *self.0.entry(term).or_insert(who);
        assert_eq!(leader, who, "two leaders in term {term}");
        is_new
    }
}
