//! The deterministic simulator: storage over a disk that loses what a crash may lose, from a seed.
//!
//! `RINGLOG_SIM_SEEDS` says how many seeds to run, `RINGLOG_SIM_SEED` with which to start. A failure names its
//! seed and the command that repeats it.

mod consensus;
mod counts;
mod damage;
mod damage_tests;
mod disk;
mod inode;
mod model;
mod mutants;
mod reference_tests;
mod rng;
mod shard;
mod survey;
mod trace;
mod traffic;
mod world;

use counts::Counts;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use world::World;

/// Seeds of a run without `RINGLOG_SIM_SEEDS`.
const SEEDS: u64 = 300;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

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
            "  RINGLOG_SIM_SEED={seed} RINGLOG_SIM_SEEDS=1 cargo test -p ringlog-tests --test sim seeds"
        );
        resume_unwind(panic);
    }
}

#[test]
fn seeds() {
    let first = env("RINGLOG_SIM_SEED").unwrap_or(1);
    let number = env("RINGLOG_SIM_SEEDS").unwrap_or(SEEDS);
    let mut counts = Counts::default();
    for seed in first..first + number {
        run_seed(seed, &mut counts);
    }
    println!("{number} seeds, each twice:\n{counts}");
    if number >= SEEDS {
        assert_eq!(counts.missing(), Vec::<&str>::new(), "every fault and every interesting path was met");
    }
}
