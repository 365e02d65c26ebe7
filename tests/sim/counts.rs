//! What the simulations met. A run of the default size must have met everything.

use std::collections::BTreeMap;

/// Everything that a run of the default size meets.
pub const EXPECTED: &[&str] = &[
    "appends",
    "large appends",
    "batches larger than a commit",
    "duplicates",
    "out of order",
    "stale epochs",
    "spoofed commits",
    "tail reads",
    "cold reads of open segments",
    "sealed reads",
    "late cold reads",
    "rolls",
    "log start moved",
    "truncations",
    "truncations into sealed segments",
    "truncations of what is in flight",
    "truncations beside a checkpoint",
    "truncations beside jobs",
    "truncations undone by a crash",
    "unacknowledged truncations kept",
    "reads across a truncation",
    "restarts",
    "epochs begun",
    "high watermarks noted",
    "partitions deleted",
    "deletions undone by a crash",
    "checkpoints begun",
    "commits completed out of order",
    "WAL stalled",
    "WAL files recycled",
    "WAL files beyond the limit",
    "WAL files given back",
    "blocks read back",
    "full disk",
    "lives",
    "clean restarts",
    "process crashes",
    "power losses",
    "crashes at an operation",
    "crashes with commits in flight",
    "crashes in recovery",
    "shard count changes",
    "torn tails cut",
    "commits discarded",
    "unacknowledged records lost",
    "unacknowledged records kept",
    "frames replayed",
    "partitions opened late",
    "damage reported",
];

/// Counters by name.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    /// Adds to a counter.
    pub fn add(&mut self, name: &'static str, n: u64) {
        debug_assert!(EXPECTED.contains(&name), "{name} is not listed");
        if n > 0 {
            *self.0.entry(name).or_default() += n;
        }
    }

    /// One more.
    pub fn note(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Counts) {
        for (name, n) in &other.0 {
            *self.0.entry(name).or_default() += n;
        }
    }

    /// The value of a counter.
    pub fn get(&self, name: &'static str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Counters of what was expected and not met.
    pub fn missing(&self) -> Vec<&'static str> {
        EXPECTED.iter().copied().filter(|name| self.get(name) == 0).collect()
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        EXPECTED.iter().try_for_each(|name| writeln!(f, "{:>12}  {name}", self.get(name)))
    }
}
