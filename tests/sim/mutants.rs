//! Deliberate bugs in storage, each of which the simulator must catch within a bounded number of seeds.

use crate::counts::Counts;
use crate::world::World;
use ringlog_storage::mutant::{self, Mutant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds until a bug must have been caught.
const SEEDS_MAX: u64 = 600;

/// The first seed that fails with the bug, and what it says.
fn caught_by(bug: Mutant) -> Option<(u64, String)> {
    mutant::set(Some(bug));
    let caught = (1..=SEEDS_MAX).find_map(|seed| {
        let outcome = catch_unwind(AssertUnwindSafe(|| World::run(seed, &mut Counts::default())));
        let panic = outcome.err()?;
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Some((seed, text.unwrap_or_default()))
    });
    mutant::set(None);
    caught
}

macro_rules! bugs {
    ($($name:ident: $bug:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let (seed, says) = caught_by(Mutant::$bug).expect("the simulator catches the bug");
                println!("{:?} caught by seed {seed}: {says}", Mutant::$bug);
            }
        )*
    };
}

bugs! {
    no_generation: SameGeneration;
    no_use_id: SameUseId;
    acknowledged_out_of_order: DurableOutOfOrder;
    cut_below_the_durable_lsn: CutBelowDurable;
    recycled_early: RecycleEarly;
    segment_before_wal: SegmentBeforeWal;
    reply_before_durable: AcknowledgeAtAppend;
    no_block_image: NoBlockImage;
    checkpoint_before_sync: CheckpointBeforeSync;
    rename_without_folder_sync: NoDirSync;
    removed_before_durable: RemoveEarly;
    segment_folder_not_synced: NoSegmentDirSync;
    wal_head_not_synced: UnsyncedHead;
    sealed_segment_not_synced: UnsyncedSeal;
    old_generation_removed_early: OldGenerationRemovedEarly;
    replayed_segments_not_synced: UnsyncedReplay;
    roll_not_logged: UnloggedRoll;
    dropped_segments_forgotten: DroppedForgotten;
    durable_lsn_never_stated: NeverStatesDurable;
    truncated_before_durable: TruncateEarly;
    sealed_segment_truncated_in_place: TruncateInPlace;
    files_of_what_was_cut_kept: CutFilesKept;
    truncation_not_replayed: TruncationForgotten;
    producers_not_cut: ProducersNotCut;
    no_producer_snapshots: NoSnapshot;
    displaced_batches_forgotten: DisplacedForgotten;
    epochs_not_cut: EpochsNotCut;
    high_watermark_not_lowered: WatermarkNotLowered;
    high_watermark_not_in_the_checkpoint: WatermarkNotInCheckpoint;
    epoch_start_not_logged: UnloggedEpochStart;
    stale_index_after_a_truncation: StaleIndex;
    truncated_while_in_flight: TruncateUnsettled;
}
