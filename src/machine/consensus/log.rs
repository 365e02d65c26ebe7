//! What is on disk of the log, and what a start makes of it.
//!
//! The files are the shell's: one snapshot, and one log of commits (in the WAL's framing) whose bodies are made and
//! read here. A body is a list of records; a body is on the disk whole or not at all.
//!
//! ```text
//! record      kind u8 | length u32 | payload
//!   1 base        index u64 | term u64             the entry before the first; all before this record is void
//!   2 hard state  term u64 | vote u64 | commit u64
//!   3 entry       protobuf of an entry
//!   4 truncate    index u64                        entries from here on are void
//!   5 own count   u64
//!   6 peer count  node i32 | directory 16 | count u64 | run u64
//!
//! snapshot    index u64 | term u64 | members | data
//! ```
//!
//! Replay is a table. Let L be the index of the last entry so far and B that of the base:
//!
//! | the next record is | and | then |
//! |---|---|---|
//! | base | – | begin anew from it |
//! | hard state | its term and commit are not behind | take it |
//! | hard state | it is behind | **damage** |
//! | entry | its index is L + 1 and its term not behind | take it |
//! | entry | any other | **damage** |
//! | truncate | its index is in B+1 ..= L | cut |
//! | truncate | any other | **damage** |
//! | own or peer count | – | take the highest |
//!
//! At the end the log must reach the commit index and the snapshot, and the base must not lie beyond the snapshot.

use super::codec::{Put, Take};
use super::member::{Members, Peer};
use super::mutant::{self, Mutant};
use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Entry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Raft's promises: what must be on disk before anything that follows from it is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: u64,
    /// The raft id voted for in it, 0 for none.
    pub vote: u64,
    /// Every entry up to this index is committed.
    pub commit: u64,
}

/// The replicated state after some entry, as the state machine gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Index of the entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// The members after it.
    pub members: Members,
    /// The state machine's own bytes.
    pub data: Bytes,
}

impl Snapshot {
    /// The snapshot as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.data.len() + 256);
        out.put_u64(self.index);
        out.put_u64(self.term);
        self.members.encode(&mut out);
        out.extend_from_slice(&self.data);
        out
    }

    /// Reads a snapshot; none where the bytes are none.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Snapshot> {
        let mut take = Take(bytes);
        let (index, term) = (take.u64()?, take.u64()?);
        let members = Members::decode(&mut take)?;
        let data = bytes.slice(bytes.len() - take.0.len()..);
        (index > 0 && term > 0).then_some(Snapshot { index, term, members, data })
    }
}

/// What a peer remembers of a member's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The highest count heard.
    pub count: u64,
    /// The run that said it.
    pub run: u64,
}

/// The folder says what cannot be: committed metadata are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage(pub &'static str);

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the log of the cluster's metadata is damaged: {}", self.0)
    }
}

/// All that a folder holds: what was read at a start, or what begins a new log file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    pub(super) snapshot: Option<Arc<Snapshot>>,
    pub(super) base: (u64, u64),
    pub(super) entries: Vec<Entry>,
    pub(super) hard: HardState,
    pub(super) count: u64,
    pub(super) remembered: BTreeMap<Peer, Remembered>,
}

const BASE: u8 = 1;
const HARD_STATE: u8 = 2;
const ENTRY: u8 = 3;
const TRUNCATE: u8 = 4;
const COUNT: u8 = 5;
const PEER_COUNT: u8 = 6;

/// A body under construction.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn record(&mut self, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
        self.0.put_u8(kind);
        let at = self.0.len();
        self.0.put_u32(0);
        payload(&mut self.0);
        let len = u32::try_from(self.0.len() - at - 4).expect("entries are bounded far below 4 GiB");
        self.0[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn base(&mut self, (index, term): (u64, u64)) {
        self.record(BASE, |out| {
            out.put_u64(index);
            out.put_u64(term);
        });
    }

    pub(super) fn hard_state(&mut self, hard: &HardState) {
        self.record(HARD_STATE, |out| {
            out.put_u64(hard.term);
            out.put_u64(hard.vote);
            out.put_u64(hard.commit);
        });
    }

    pub(super) fn truncate(&mut self, index: u64) {
        self.record(TRUNCATE, |out| out.put_u64(index));
    }

    pub(super) fn entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            let written = |out: &mut Vec<u8>| entry.write_to_vec(out);
            self.record(ENTRY, |out| written(out).expect("writing to memory cannot fail"));
        }
    }

    pub(super) fn count(&mut self, count: u64) {
        self.record(COUNT, |out| out.put_u64(count));
    }

    pub(super) fn peer_count(&mut self, peer: Peer, remembered: Remembered) {
        self.record(PEER_COUNT, |out| {
            out.put_peer(peer);
            out.put_u64(remembered.count);
            out.put_u64(remembered.run);
        });
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

impl Stored {
    /// A folder whose snapshot is this and whose log is to be replayed.
    #[must_use]
    pub fn new(snapshot: Option<Snapshot>) -> Stored {
        let base = snapshot.as_ref().map_or((0, 0), |snapshot| (snapshot.index, snapshot.term));
        Stored { snapshot: snapshot.map(Arc::new), base, ..Stored::default() }
    }

    /// A member of a cluster that begins: every founding voter has just these bytes, so that all their logs begin
    /// with the same first entry, which holds the cluster's id and the voters' folders.
    #[must_use]
    pub fn founding(members: Members, data: Bytes) -> Stored {
        let mut stored = Stored::new(Some(Snapshot { index: 1, term: 1, members, data }));
        stored.hard = HardState { term: 1, vote: 0, commit: 1 };
        stored
    }

    /// Whether there was never anything in the folder that belongs to a cluster.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.snapshot.is_none() && self.entries.is_empty() && self.hard == HardState::default()
    }

    /// The snapshot, if there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.snapshot.as_ref()
    }

    /// The hard state.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard
    }

    /// The index of the last entry.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.last().0
    }

    /// The count by which peers tell the folder from an older copy of it.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// One more: done durably at each start, before anything is said to a peer.
    pub fn count_up(&mut self) {
        self.count += 1;
    }

    fn last(&self) -> (u64, u64) {
        self.entries.last().map_or(self.base, |entry| (entry.index, entry.term))
    }

    /// Takes over one body of the log.
    ///
    /// # Errors
    /// The body, which its checksum says is whole, does not follow from those before it.
    pub fn replay(&mut self, body: &[u8]) -> Result<(), Damage> {
        let mut take = Take(body);
        while !take.is_done() {
            let record = take.u8().zip(take.bytes());
            let (kind, payload) = record.ok_or(Damage("a record is cut off"))?;
            self.take(kind, payload)?;
        }
        Ok(())
    }

    fn take(&mut self, kind: u8, payload: &[u8]) -> Result<(), Damage> {
        let short = Damage("a record is too short");
        let mut take = Take(payload);
        let (last, last_term) = self.last();
        match kind {
            BASE => {
                self.base = take.u64().zip(take.u64()).ok_or(short)?;
                self.entries.clear();
            }
            HARD_STATE => {
                let next = take.u64().zip(take.u64()).zip(take.u64()).ok_or(short)?;
                let next = HardState { term: next.0.0, vote: next.0.1, commit: next.1 };
                if next.term < self.hard.term || next.commit < self.hard.commit {
                    return Err(Damage("the hard state goes back"));
                }
                self.hard = next;
            }
            ENTRY => {
                let entry = Entry::parse_from_bytes(payload).map_err(|_| Damage("an entry is none"))?;
                if mutant::on(Mutant::SuffixKept) && entry.index <= last && entry.index > self.base.0 {
                    let at = (entry.index - self.base.0 - 1) as usize;
                    self.entries[at] = entry;
                    return Ok(());
                }
                if entry.index != last + 1 || entry.term < last_term {
                    return Err(Damage("an entry does not follow the one before it"));
                }
                self.entries.push(entry);
            }
            TRUNCATE => {
                let index = take.u64().ok_or(short)?;
                if index <= self.base.0 || index > last {
                    return Err(Damage("a truncation lies outside the log"));
                }
                self.entries.truncate((index - self.base.0 - 1) as usize);
            }
            COUNT => self.count = self.count.max(take.u64().ok_or(short)?),
            PEER_COUNT => {
                let peer = take.peer().ok_or(short.clone())?;
                let (count, run) = take.u64().zip(take.u64()).ok_or(short)?;
                if self.remembered.get(&peer).is_none_or(|known| known.count <= count) {
                    self.remembered.insert(peer, Remembered { count, run });
                }
            }
            _ => return Err(Damage("a record of an unknown kind, perhaps of a newer version")),
        }
        Ok(())
    }

    /// After the last body: whether snapshot, log and hard state belong together.
    ///
    /// # Errors
    /// They do not: acknowledged entries or promises are missing.
    pub fn finish(mut self) -> Result<Stored, Damage> {
        let snapshot = self.snapshot.as_ref().map_or((0, 0), |snapshot| (snapshot.index, snapshot.term));
        // A snapshot is of committed entries, whatever the hard state that was written before it says.
        if !mutant::on(Mutant::CommitBehind) {
            self.hard.commit = self.hard.commit.max(snapshot.0);
        }
        if !mutant::on(Mutant::SnapshotWithoutHardState) {
            self.hard.raise_term(snapshot.1);
        }
        let (last, last_term) = self.last();
        if self.base.0 > snapshot.0 {
            return Err(Damage("the entries between the snapshot and the log are missing"));
        }
        if last < snapshot.0 || last < self.hard.commit {
            return Err(Damage("the log ends before what is committed"));
        }
        if self.hard.term < last_term && !mutant::on(Mutant::SnapshotWithoutHardState) {
            return Err(Damage("the hard state is behind the log"));
        }
        Ok(self)
    }

    /// All of it but the snapshot as one body, with which a new log file begins.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        whole(self.base, Some(&self.hard), &self.entries, self.count, &self.remembered)
    }
}

/// The body with which a new log file begins: it holds everything that the log says.
pub(super) fn whole(
    base: (u64, u64),
    hard: Option<&HardState>,
    entries: &[Entry],
    count: u64,
    remembered: &BTreeMap<Peer, Remembered>,
) -> Vec<u8> {
    let mut body = Body::default();
    body.base(base);
    hard.into_iter().for_each(|hard| body.hard_state(hard));
    body.entries(entries);
    body.count(count);
    for (peer, remembered) in remembered {
        body.peer_count(*peer, *remembered);
    }
    body.finish()
}

impl HardState {
    /// Whoever holds an entry of a term has known that term.
    fn raise_term(&mut self, term: u64) {
        if self.term < term {
            (self.term, self.vote) = (term, 0);
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
