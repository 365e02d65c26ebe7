//! What the simulations met. A run of the default size must have met everything.

use std::collections::BTreeMap;

/// Everything that a run of the default size meets.
pub const EXPECTED: &[&str] = &[
    "elections won",
    "elections by proof",
    "leaders that stepped down",
    "commands acknowledged",
    "commands proposed again",
    "commands doubled and taken once",
    "reads answered",
    "reads lost",
    "power losses",
    "process crashes",
    "crashes within a write",
    "restarts",
    "processes stopped",
    "links cut",
    "partitions",
    "one-way partitions",
    "slow disks",
    "stalled disks",
    "full disks",
    "writes refused for want of room",
    "clock jumps",
    "snapshots taken",
    "snapshots asked for",
    "snapshots installed",
    "disks replaced",
    "folders restored",
    "older copies refused",
    "members added",
    "voters promoted",
    "voters removed",
    "joint configurations",
    "grown from one",
    "leadership handed over",
    "founders followed",
    "torn tails or lost writes",
];

/// Counters by name.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, name: &'static str, n: u64) {
        assert!(EXPECTED.contains(&name), "{name} is not listed");
        if n > 0 {
            *self.0.entry(name).or_default() += n;
        }
    }

    pub fn note(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub fn merge(&mut self, other: &Counts) {
        for (name, n) in &other.0 {
            *self.0.entry(name).or_default() += n;
        }
    }

    fn get(&self, name: &'static str) -> u64 {
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
