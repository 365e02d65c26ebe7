//! What a replica does to a log besides appending: cutting it, beginning epochs, noting high watermarks.

use super::World;
use crate::model::{Change, Cutting};
use ringlog_storage::PartitionKey;

impl World {
    /// Cuts a log somewhere, most often near its end, or drops all of it.
    pub(super) fn truncate(&mut self, at: usize, key: PartitionKey) {
        let shard = &mut self.shards[at];
        let (ix, partition) = (shard.parts[&key], self.model.get(&key));
        if shard.store.is_truncating(ix) {
            return;
        }
        let (start, end) = (partition.start(), partition.end());
        if self.rng.percent(10) {
            let restart = self.rng.pick(&[start, end, end + 100]);
            shard.store.restart_at(ix, restart);
            partition.cutting = Some(Cutting { below: None, restart, lsn: None });
            self.counts.note("restarts");
            return;
        }
        let back =
            if self.rng.percent(70) { self.rng.below(20) } else { self.rng.below((end - start + 1) as u64) };
        let to = (end - back as i64).max(start);
        let holder = shard.store.segments_since(ix, to, i64::MIN).into_iter().next();
        if shard.store.truncate(ix, to) {
            partition.cutting = Some(Cutting { below: Some(to), restart: start, lsn: None });
            self.counts.note("truncations");
            self.counts.add("truncations into sealed segments", u64::from(holder.is_some_and(|s| s.sealed)));
            self.counts.add("truncations of what is in flight", u64::from(end > partition.acknowledged));
            let (is_checkpointing, is_busy) = (shard.store.is_checkpointing(), shard.store.has_jobs_out());
            self.counts.add("truncations beside a checkpoint", u64::from(is_checkpointing));
            self.counts.add("truncations beside jobs", u64::from(is_busy));
        } else {
            assert_eq!(to, end, "{key}: something lies beyond {to}");
        }
    }

    /// Begins a leader epoch, or notes a high watermark.
    pub(super) fn note(&mut self, at: usize, key: PartitionKey) {
        let shard = &mut self.shards[at];
        let (ix, partition) = (shard.parts[&key], self.model.get(&key));
        if self.rng.percent(50) && !shard.store.is_truncating(ix) {
            partition.epoch += 1;
            let lsn = shard.store.start_epoch(ix, partition.epoch).expect("an epoch that never was");
            partition.change(lsn, Change::Epoch(partition.epoch));
            self.counts.note("epochs begun");
            return;
        }
        let offset = self.rng.pick(&[partition.acknowledged, partition.end()]);
        let lsn = shard.store.note_high_watermark(ix, offset);
        assert_eq!(lsn.is_some(), offset > partition.log.watermark, "{key}: the high watermark only rises");
        if let Some(lsn) = lsn {
            partition.change(lsn, Change::Watermark(offset));
            self.counts.note("high watermarks noted");
        }
    }
}
