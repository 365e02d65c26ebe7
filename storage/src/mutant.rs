//! Deliberate bugs, for the simulator to catch: what a check cannot find it need not check. They exist only with
//! the feature `mutants`, which only the tests enable; without it `on` is `false` and the compiler drops them.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Recovery goes on in the old WAL generation instead of beginning a new one.
    SameGeneration,
    /// All uses of WAL files have the same use id.
    SameUseId,
    /// The durable LSN moves with any commit that completes.
    DurableOutOfOrder,
    /// A hole below the durable LSN is taken for a torn tail.
    CutBelowDurable,
    /// WAL files are used again before the checkpoint that covers them is durable.
    RecycleEarly,
    /// Segments are written before the WAL is durable.
    SegmentBeforeWal,
    /// Appends are acknowledged at once.
    AcknowledgeAtAppend,
    /// The last block is written again without its former bytes in the WAL.
    NoBlockImage,
    /// The checkpoint is written before what it names is synced.
    CheckpointBeforeSync,
    /// Files are put in place without syncing their folder.
    NoDirSync,
    /// Segments and partitions are removed before the frame that says so is durable.
    RemoveEarly,
    /// New segment files' folders are not synced.
    NoSegmentDirSync,
    /// A WAL file is used before its head is synced.
    UnsyncedHead,
    /// A sealed segment is not synced.
    UnsyncedSeal,
    /// The old generation is removed before the new one is current.
    OldGenerationRemovedEarly,
    /// Recovery does not sync the segments that it wrote.
    UnsyncedReplay,
    /// Rolls are not logged.
    UnloggedRoll,
    /// Checkpoints forget segments as soon as they are dropped.
    DroppedForgotten,
    /// Commits never state the durable LSN.
    NeverStatesDurable,
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

    pub(crate) fn on(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use active::on;
#[cfg(feature = "mutants")]
pub use active::set;

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn on(_: Mutant) -> bool {
    false
}
