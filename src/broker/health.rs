//! What HTTP clients are told: metrics, and whether the broker lives and can serve.

use crate::node::Node;
use crate::telemetry::http::Source;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long a shard may be seen without a turn before the process counts as dead, ms. A turn takes a quarter of a second
/// at most where nothing is wrong.
const STUCK_MS: u64 = 10_000;

/// See the module's documentation.
pub(super) struct Health {
    pub node: Arc<Node>,
    pub metrics: Metrics,
}

impl Source for Health {
    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn ready(&self) -> Result<(), String> {
        let full = self.node.stores_full.iter().map(|full| full.load(Ordering::Relaxed));
        ready(self.node.is_disk_low(), full)
    }

    fn live(&self) -> Result<(), String> {
        live(self.node.pulses[..self.node.shards].iter().map(|pulse| pulse.still_ms()))
    }
}

fn ready(disk_is_low: bool, mut stores_full: impl Iterator<Item = bool>) -> Result<(), String> {
    if disk_is_low {
        return Err("the disk is full: produce is refused".to_owned());
    }
    match stores_full.position(|full| full) {
        Some(shard) => Err(format!("shard {shard} found no room on the disk: produce is refused there")),
        None => Ok(()),
    }
}

fn live(shards_still_ms: impl Iterator<Item = u64>) -> Result<(), String> {
    let mut shards = shards_still_ms.enumerate();
    match shards.find(|(_, still_ms)| *still_ms > STUCK_MS) {
        Some((shard, still_ms)) => Err(format!("shard {shard} has made no turn for {} s", still_ms / 1000)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_or_store_is_not_ready_and_says_which() {
        assert_eq!(ready(false, [false, false].into_iter()), Ok(()));
        assert!(ready(true, [false].into_iter()).unwrap_err().contains("the disk is full"));
        let why = ready(false, [false, true].into_iter()).unwrap_err();
        assert!(why.starts_with("shard 1 found no room"), "{why}");
    }

    #[test]
    fn a_shard_that_makes_no_turn_is_not_live() {
        assert_eq!(live([0, 250, STUCK_MS].into_iter()), Ok(()));
        let why = live([0, STUCK_MS + 2500].into_iter()).unwrap_err();
        assert_eq!(why, "shard 1 has made no turn for 12 s");
    }
}
