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
    /// Files are cut before the frame that says so is durable.
    TruncateEarly,
    /// A sealed segment's own file is cut.
    TruncateInPlace,
    /// Files are not cut at all: those of segments that are gone stay.
    CutFilesKept,
    /// Recovery does not replay truncations.
    TruncationForgotten,
    /// Batches that were cut stay remembered of their producers.
    ProducersNotCut,
    /// Segments have no producer snapshots.
    NoSnapshot,
    /// What cut batches had displaced does not come back.
    DisplacedForgotten,
    /// Leader epochs of what was cut stay.
    EpochsNotCut,
    /// The high watermark stays above the end of a log that was cut.
    WatermarkNotLowered,
    /// Checkpoints forget the high watermark.
    WatermarkNotInCheckpoint,
    /// The start of an epoch is not logged.
    UnloggedEpochStart,
    /// Reads go by what was known of a segment's file before it was cut.
    StaleIndex,
    /// A truncation does not wait for what is in flight.
    TruncateUnsettled,
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
