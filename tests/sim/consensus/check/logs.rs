//! Log matching: an entry of one index and term has one content and one predecessor, wherever it is seen. Leader
//! completeness: who leads holds every entry that was ever applied.

use super::history::History;
use bytes::Bytes;
use ringlog::machine::consensus::Consensus;
use std::collections::BTreeMap;

/// Every entry ever seen in a log, by index and term: its content, and the term before it.
#[derive(Default)]
pub struct Logs {
    seen: BTreeMap<(u64, u64), (Bytes, Option<u64>)>,
}

impl Logs {
    /// Entries of a term that is not durable yet have never left the node, and may be lost with it: only a single
    /// voter leads so early.
    pub fn check(&mut self, node: &Consensus, durable_term: u64) {
        let mut before = None;
        for (index, term, data) in node.entries().take_while(|(_, term, _)| *term <= durable_term) {
            let (content, known_before) =
                self.seen.entry((index, term)).or_insert_with(|| (data.clone(), before));
            assert!(content == data, "entry {index} of term {term} has two contents");
            if known_before.is_some() && before.is_some() {
                assert_eq!(*known_before, before, "entry {index} of term {term} follows two entries");
            }
            *known_before = known_before.or(before);
            before = Some(term);
        }
    }

    /// Who leads holds all that was applied.
    pub fn leads(node: &Consensus, history: &History) {
        let held: BTreeMap<u64, u64> = node.entries().map(|(index, term, _)| (index, term)).collect();
        let base = held.first_key_value().map_or(node.status().last, |(index, _)| index - 1);
        assert!(node.status().last >= history.last(), "a leader's log ends before what is committed");
        for (index, term) in history.after(base) {
            assert_eq!(held.get(&index), Some(&term), "a leader lacks the committed entry {index}");
        }
    }
}
