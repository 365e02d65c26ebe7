//! The simulator of the consensus machine: clusters of 1 to 9 nodes from a seed, over a network and disks that fail.
//!
//! `RINGLOG_SIM_SEEDS` says how many seeds to run, `RINGLOG_SIM_SEED` with which to start; with `RINGLOG_SIM_TRACE`
//! set, everything that happens is printed.

mod app;
mod check;
mod client;
mod counts;
mod faults;
mod files;
mod mutants;
mod net;
mod node;
mod shell;
mod world;

use counts::Counts;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use world::World;

/// Seeds of a run without `RINGLOG_SIM_SEEDS`.
const SEEDS: u64 = 300;

/// Runs a seed twice, and compares.
fn run_seed(seed: u64, counts: &mut Counts) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let first = World::run(seed, counts);
        let second = World::run(seed, &mut Counts::default());
        assert_eq!(first, second, "a seed does the same each time");
    }));
    if let Err(panic) = outcome {
        eprintln!("seed {seed} failed. To repeat it:");
        eprintln!(
            "  RINGLOG_SIM_SEED={seed} RINGLOG_SIM_SEEDS=1 RINGLOG_SIM_TRACE=1 \
             cargo test -p ringlog-tests --test sim consensus::seeds"
        );
        resume_unwind(panic);
    }
}

#[test]
fn seeds() {
    let first = crate::env("RINGLOG_SIM_SEED").unwrap_or(1);
    let number = crate::env("RINGLOG_SIM_SEEDS").unwrap_or(SEEDS);
    let mut counts = Counts::default();
    for seed in first..first + number {
        run_seed(seed, &mut counts);
    }
    println!("{number} seeds, each twice:\n{counts}");
    if number >= SEEDS {
        assert_eq!(counts.missing(), Vec::<&str>::new(), "every fault and every interesting path was met");
    }
}
