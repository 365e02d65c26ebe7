//! Raft's view of the log: entries in memory from the base on, whether they are durable yet or not. Raft takes
//! over entries before they are synced (asynchronous append), so that it must be able to read them here at once.

use super::log::{Snapshot, Stored};
use super::member::node_of;
use super::mutant::{self, Mutant};
use raft::eraftpb::{Entry, HardState};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};
use std::cell::Cell;
use std::sync::Arc;

/// See the module's documentation.
pub(super) struct View {
    /// Index and term of the entry before the first.
    base: (u64, u64),
    entries: Vec<Entry>,
    snapshot: Option<Arc<Snapshot>>,
    initial: HardState,
    /// Raft was told that there is no snapshot that would do.
    lacks_snapshot: Cell<bool>,
}

impl View {
    pub(super) fn new(stored: &Stored) -> View {
        let mut initial = HardState::default();
        (initial.term, initial.vote, initial.commit) =
            (stored.hard.term, stored.hard.vote, stored.hard.commit);
        View {
            base: stored.base,
            entries: stored.entries.clone(),
            snapshot: stored.snapshot.clone(),
            initial,
            lacks_snapshot: Cell::new(false),
        }
    }

    pub(super) fn base(&self) -> (u64, u64) {
        self.base
    }

    pub(super) fn last(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    pub(super) fn snapshot_taken(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// Whether raft asked in vain for a snapshot since the last call.
    pub(super) fn take_lack(&self) -> bool {
        self.lacks_snapshot.take()
    }

    pub(super) fn entries_held(&self) -> &[Entry] {
        &self.entries
    }

    fn at(&self, index: u64) -> usize {
        assert!(index > self.base.0, "entry {index} lies behind the log's base {}", self.base.0);
        usize::try_from(index - self.base.0 - 1).expect("the log is in memory")
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        if index < self.base.0 {
            return None;
        }
        self.entries.get(self.at(index)).map(|entry| entry.term)
    }

    /// Appends. Returns the index from which on older entries gave way, if any did.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Option<u64> {
        let first = entries.first()?.index;
        assert!(first <= self.last() + 1, "entry {first} leaves a gap after {}", self.last());
        let conflict = (first <= self.last()).then_some(first);
        let at = self.at(first);
        if mutant::on(Mutant::SuffixKept) && at + entries.len() < self.entries.len() {
            self.entries[at..at + entries.len()].clone_from_slice(entries);
            return None;
        }
        self.entries.truncate(at);
        self.entries.extend_from_slice(entries);
        conflict
    }

    /// The log is what this snapshot of a leader says; all else is void.
    pub(super) fn install(&mut self, snapshot: Arc<Snapshot>) {
        self.base = (snapshot.index, snapshot.term);
        self.entries.clear();
        self.snapshot = Some(snapshot);
    }

    /// Takes a snapshot of our own over, and forgets entries up to `base`.
    pub(super) fn compact(&mut self, snapshot: Arc<Snapshot>, base: u64) {
        assert!(base <= snapshot.index, "entries after a snapshot stay");
        assert!(snapshot.index <= self.last(), "a snapshot is of entries in the log");
        if base > self.base.0 {
            let term = self.term_of(base).expect("the new base is in the log");
            self.entries.drain(..=self.at(base));
            self.base = (base, term);
        }
        self.snapshot = Some(snapshot);
    }

    pub(super) fn check(&self) {
        let mut before = self.base;
        for entry in &self.entries {
            assert_eq!(entry.index, before.0 + 1, "the log has no gap");
            assert!(entry.term >= before.1, "terms do not go back in a log");
            before = (entry.index, entry.term);
        }
        let snapshot = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        assert!(self.base.0 <= snapshot, "what is forgotten is in the snapshot");
        assert!(snapshot <= self.last(), "the log reaches the snapshot");
    }
}

impl Storage for View {
    fn initial_state(&self) -> Result<RaftState> {
        let members = self.snapshot.as_ref().map(|snapshot| snapshot.members.conf_state());
        Ok(RaftState { hard_state: self.initial.clone(), conf_state: members.unwrap_or_default() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} of a log that ends at {}", self.last());
        let mut entries = self.entries[self.at(low)..self.at(high)].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        let missing = if index < self.base.0 { StorageError::Compacted } else { StorageError::Unavailable };
        self.term_of(index).ok_or(Error::Store(missing))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    /// Only what it is of: the bytes travel in a stream of their own. A node takes no snapshot of before it became a
    /// member: it would be offered the same one for ever.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<raft::eraftpb::Snapshot> {
        let fits = |snapshot: &&Arc<Snapshot>| {
            let node = node_of(to);
            let is_member = node.is_some_and(|node| snapshot.members.directories.contains_key(&node));
            is_member && snapshot.index >= request_index
        };
        match self.snapshot.as_ref().filter(fits) {
            Some(snapshot) => Ok(bare(snapshot)),
            None => {
                self.lacks_snapshot.set(true);
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

/// A snapshot as raft knows it, without its bytes.
pub(super) fn bare(snapshot: &Snapshot) -> raft::eraftpb::Snapshot {
    let mut bare = raft::eraftpb::Snapshot::default();
    let metadata = bare.mut_metadata();
    metadata.index = snapshot.index;
    metadata.term = snapshot.term;
    metadata.set_conf_state(snapshot.members.conf_state());
    bare
}
