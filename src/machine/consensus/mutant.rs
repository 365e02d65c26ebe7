//! Deliberate bugs, for the simulator to catch: what a check cannot find it need not check. They exist only with
//! the feature `mutants`, which only the tests enable; without it `on` is `false` and the compiler drops them.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A Ready that changes term or vote sends before it is durable.
    SentBeforeDurable,
    /// A vote leaves before it is durable.
    VoteBeforeDurable,
    /// Heartbeats are answered before the term is durable.
    HeartbeatBeforeTerm,
    /// A completed write counts for all that are under way.
    PersistedOutOfOrder,
    /// The conflicting suffix stays, in memory and on disk.
    SuffixKept,
    /// After a restart the commit index is behind the snapshot.
    CommitBehind,
    /// A snapshot is installed without its hard state.
    SnapshotWithoutHardState,
    /// A folder that knows no member votes, and its votes count for its predecessor's.
    WipedVotes,
    /// Objections of peers that remember a higher count are not heard.
    RestoredAccepted,
    /// Reads are answered from what the leader believes to be committed, without asking a majority.
    ReadWithoutQuorum,
    /// A snapshot that failed is not reported.
    StreamNeverReported,
    /// Entries are acknowledged before they are durable.
    AnsweredBeforeDurable,
}

#[cfg(feature = "mutants")]
mod active {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Turns a deliberate bug on for this thread, or all off.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    /// Whether a deliberate bug is on: what a test must leave out of its own part of the shell asks too.
    #[must_use]
    pub fn on(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use active::{on, set};

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}
