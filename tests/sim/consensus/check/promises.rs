//! Durable before sent: no frame leaves that binds its sender to a term, a vote or an entry that its disk does not
//! hold yet; and no folder votes for two candidates in one term, whatever crashes lie between.

use bytes::Bytes;
use ringlog::machine::consensus::log::HardState;
use ringlog::machine::consensus::{Peer, peek};
use std::collections::BTreeMap;

/// What a process' disk holds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Durable {
    pub hard: HardState,
    pub last: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Promises {
    votes: BTreeMap<(Peer, u64), i32>,
    /// The hard state that each folder had last.
    held: BTreeMap<Peer, HardState>,
    /// A folder that was restored from an older copy: it may promise nothing any more.
    restored: Option<Peer>,
}

impl Promises {
    /// A write of a folder is durable.
    pub fn holds(&mut self, folder: Peer, hard: HardState) {
        self.held.insert(folder, hard);
    }

    /// A process starts with what its folder holds.
    pub fn starts(&self, folder: Peer, hard: HardState) {
        if self.restored == Some(folder) {
            return;
        }
        let before = self.held.get(&folder).copied().unwrap_or_default();
        assert!(
            hard.term >= before.term,
            "the folder of {} forgot a term: {hard:?} after {before:?}",
            folder.node
        );
        let is_same = hard.term > before.term || before.vote == 0 || hard.vote == before.vote;
        assert!(is_same, "the folder of {} forgot a vote: {hard:?} after {before:?}", folder.node);
        assert!(hard.commit >= before.commit, "the folder of {} forgot what is committed", folder.node);
    }

    /// A folder is restored from an older copy.
    pub fn restored(&mut self, folder: Peer) {
        self.restored = Some(folder);
    }

    pub fn sends(&mut self, from: Peer, is_member: bool, frame: &Bytes, durable: &Durable) {
        let Some(peek) = peek(frame) else { return };
        assert_ne!(self.restored, Some(from), "a folder that was restored from an older copy takes part");
        if let Some(term) = peek.term {
            assert!(
                term <= durable.hard.term,
                "{} speaks in term {term}, and its disk knows term {}",
                from.node,
                durable.hard.term
            );
        }
        if let Some(candidate) = peek.votes_for {
            assert!(is_member, "{} votes on a folder that is no member's", from.node);
            let term = peek.term.expect("a vote names its term");
            let vote = *self.votes.entry((from, term)).or_insert(candidate);
            assert_eq!(vote, candidate, "{} votes twice in term {term}", from.node);
        }
        if let Some(index) = peek.holds {
            let last = durable.last;
            assert!(
                index <= last,
                "{} says that it holds entry {index}, and its disk ends at {last}",
                from.node
            );
        }
    }
}
