//! Applies the frames of a shard's log to its partitions and writes the records to their segments.

use super::Checkpoints;
use super::partition::{Partition, remove_dropped};
use super::references::{self, References};
use crate::PartitionKey;
use crate::batch::HEADER_BYTES;
use crate::checkpoint::PartitionState;
use crate::disk::Disk;
use crate::job::remove_partition;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::wal::Lsn;
use crate::wal::format::Frame;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// See the module's documentation.
pub(super) struct Replay<'a> {
    disk: &'a dyn Disk,
    partitions: BTreeMap<PartitionKey, Partition>,
    /// Deleted partitions, with the frame that says so.
    deleted: BTreeMap<PartitionKey, Lsn>,
    covered: Lsn,
    references: &'a References,
    frames: u64,
    bytes: u64,
}

impl<'a> Replay<'a> {
    /// Of partitions that the checkpoints do not name everything up to their covered LSN is known to be nothing.
    pub fn new(disk: &'a dyn Disk, checkpoints: Checkpoints, references: &'a References) -> Replay<'a> {
        let Checkpoints { states, deleted, covered, .. } = checkpoints;
        let partitions = states.into_iter().map(|(key, state)| (key, Partition::new(state))).collect();
        Replay { disk, partitions, deleted, covered, references, frames: 0, bytes: 0 }
    }

    /// Frames applied.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes of records applied.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Applies a frame, unless the checkpoint already holds it.
    pub fn apply(&mut self, lsn: Lsn, key: PartitionKey, frame: &Frame<'_>) -> io::Result<()> {
        let applied = match self.partitions.get(&key) {
            Some(partition) => partition.state.applied,
            None => self.deleted.get(&key).copied().unwrap_or(self.covered),
        };
        if lsn <= applied {
            return Ok(());
        }
        let partition =
            self.partitions.entry(key).or_insert_with(|| Partition::new(PartitionState::fresh(key)));
        partition.state.applied = lsn;
        partition.changed = true;
        self.frames += 1;
        match *frame {
            Frame::Append { segment, position, batch } => {
                assert!(batch.1.is_empty() && batch.0.len() >= HEADER_BYTES, "a frame holds a batch");
                self.bytes += batch.0.len() as u64;
                partition.append(self.disk, segment, position, batch.0)?;
            }
            Frame::BlockImage { segment, position, bytes } => partition.block_image(segment, position, bytes),
            Frame::Roll { segment } => partition.roll(self.disk, segment)?,
            Frame::LogStart { start } => partition.move_start(start),
            Frame::Truncate { .. } | Frame::Restart { .. } if mutant::on(Mutant::TruncationForgotten) => {}
            Frame::Truncate { segment, position, end, max_timestamp, producers } => {
                partition.truncate(self.disk, (segment, position), end, max_timestamp, producers)?;
            }
            Frame::Restart { start } => partition.restart(self.disk, start)?,
            Frame::EpochStart { epoch, start } => partition.start_epoch(epoch, start),
            Frame::HighWatermark { offset } => partition.move_watermark(offset),
            Frame::Reference { segment, position, header, .. } => {
                let batch =
                    references::bytes(self.disk, self.references, lsn, &key, (segment, position), header)?;
                self.bytes += batch.len() as u64;
                partition.append(self.disk, segment, position, &batch)?;
            }
            Frame::Delete => {
                self.partitions.remove(&key);
                self.deleted.insert(key, lsn);
                remove_partition(self.disk, &layout::partition_dir(&key))?;
            }
        }
        Ok(())
    }

    /// Brings everything to the disk and returns the partitions.
    pub fn finish(self) -> io::Result<Vec<PartitionState>> {
        let mut states = Vec::with_capacity(self.partitions.len());
        let mut dirs = BTreeSet::new();
        for (_, partition) in self.partitions {
            let mut state =
                if partition.changed { partition.finish(self.disk, &mut dirs)? } else { partition.state };
            remove_dropped(self.disk, &mut state, &mut dirs)?;
            states.push(state);
        }
        // The deepest first: what a synced folder names is then whole.
        dirs.iter().rev().try_for_each(|dir| self.disk.sync_dir(dir))?;
        Ok(states)
    }
}
