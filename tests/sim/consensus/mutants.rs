//! Deliberate bugs in the consensus machine, each of which the simulator must catch within a bounded number of seeds.

use super::counts::Counts;
use super::world::World;
use ringlog::machine::consensus::mutant::{self, Mutant};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds until a bug must have been caught.
const SEEDS_MAX: u64 = 300;

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
    ready_sent_before_durable: SentBeforeDurable;
    vote_before_durable: VoteBeforeDurable;
    heartbeat_answered_before_term: HeartbeatBeforeTerm;
    entries_acknowledged_before_durable: AnsweredBeforeDurable;
    persisted_out_of_order: PersistedOutOfOrder;
    conflicting_suffix_kept: SuffixKept;
    commit_index_behind_snapshot: CommitBehind;
    snapshot_without_hard_state: SnapshotWithoutHardState;
    wiped_voter_votes: WipedVotes;
    restored_folder_accepted: RestoredAccepted;
    read_without_quorum: ReadWithoutQuorum;
    failed_stream_not_reported: StreamNeverReported;
}
