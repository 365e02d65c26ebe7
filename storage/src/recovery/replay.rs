//! Applies the frames of a shard's log to its partitions and writes the records to their segments.

use crate::PartitionKey;
use crate::batch::{BatchInfo, HEADER_BYTES, peek};
use crate::checkpoint::{PartitionState, SegmentState};
use crate::chunk::AlignedBuffer;
use crate::disk::{BLOCK, Disk, Open, block_ceil, block_floor};
use crate::epochs::Epochs;
use crate::job::{remove_if_there, remove_partition};
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::producer::Producers;
use crate::wal::Lsn;
use crate::wal::format::Frame;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Bytes gathered for a partition before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// The part of a segment that is not written yet.
#[derive(Default)]
struct Unwritten {
    /// Position of `bytes` in the segment: a block boundary.
    start: u64,
    bytes: Vec<u8>,
}

struct Partition {
    state: PartitionState,
    epochs: Epochs,
    producers: Producers,
    unwritten: Unwritten,
    /// The partition changed: it is written and synced at the end.
    changed: bool,
    /// Segments of it that were written to.
    touched: BTreeSet<i64>,
}

/// See the module's documentation.
pub(super) struct Replay<'a> {
    disk: &'a dyn Disk,
    partitions: BTreeMap<PartitionKey, Partition>,
    /// Deleted partitions, with the frame that says so.
    deleted: BTreeMap<PartitionKey, Lsn>,
    covered: Lsn,
    frames: u64,
    bytes: u64,
}

impl Partition {
    fn new(state: PartitionState) -> Partition {
        let (epochs, producers) = (state.decode_epochs(), state.decode_producers());
        let unwritten = Unwritten { start: state.active().bytes, bytes: Vec::new() };
        Partition { epochs, producers, unwritten, changed: false, touched: BTreeSet::new(), state }
    }

    fn active(&mut self) -> &mut SegmentState {
        self.state.segments.last_mut().expect("a partition has a segment")
    }

    /// A batch of `size` bytes stands at `position` of `segment`.
    fn append(&mut self, disk: &dyn Disk, segment: i64, position: u64, batch: &[u8]) -> io::Result<()> {
        let info = peek(batch).expect("a commit with a right checksum holds whole batches");
        assert_eq!(info.base_offset, self.state.end(), "{}: batches follow one another", self.state.key);
        if segment != self.active().base {
            self.roll(disk, segment)?;
        }
        assert_eq!(
            position,
            self.state.active().bytes,
            "{}: batches lie one behind the other",
            self.state.key
        );
        let at = self.unwritten.start + self.unwritten.bytes.len() as u64;
        assert_eq!(at, position, "{}: the block before an append is known", self.state.key);
        self.unwritten.bytes.extend_from_slice(batch);
        self.note(&info, batch.len() as u64);
        if self.unwritten.bytes.len() >= WRITE_BYTES { self.write(disk) } else { Ok(()) }
    }

    /// A new segment begins.
    fn roll(&mut self, disk: &dyn Disk, segment: i64) -> io::Result<()> {
        assert_eq!(segment, self.state.end(), "{}: a new segment starts at the end", self.state.key);
        assert!(self.active().bytes > 0, "{}: an empty segment is not rolled", self.state.key);
        self.write(disk)?;
        let rolled = self.active().base;
        self.touched.insert(rolled);
        let next = SegmentState { base: segment, end: segment, bytes: 0, max_timestamp: -1 };
        self.state.segments.push(next);
        self.unwritten = Unwritten::default();
        Ok(())
    }

    fn note(&mut self, info: &BatchInfo, size: u64) {
        self.epochs.assign(info.leader_epoch, info.base_offset);
        self.producers.apply(info, info.base_offset);
        let active = self.active();
        active.bytes += size;
        active.end = info.last_offset() + 1;
        active.max_timestamp = active.max_timestamp.max(info.max_timestamp);
        let base = active.base;
        self.touched.insert(base);
    }

    /// The bytes of the block that the next append shares with what is already there.
    fn block_image(&mut self, segment: i64, position: u64, bytes: &[u8]) {
        if segment != self.active().base {
            return;
        }
        assert_eq!(position + bytes.len() as u64, self.active().bytes, "an image ends where the log does");
        let known = self.unwritten.start + self.unwritten.bytes.len() as u64 == self.active().bytes
            && self.unwritten.start <= position;
        if known {
            let at = (position - self.unwritten.start) as usize;
            assert_eq!(&self.unwritten.bytes[at..], bytes, "an image shows what was appended");
        } else {
            self.unwritten = Unwritten { start: position, bytes: bytes.to_vec() };
        }
    }

    /// Writes what is gathered, the last block padded with zeros, and keeps that block's bytes.
    fn write(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if self.unwritten.bytes.is_empty() {
            return Ok(());
        }
        let start = self.unwritten.start;
        assert_eq!(start % BLOCK as u64, 0, "{}: writing starts on a block", self.state.key);
        let base = self.active().base;
        let path = layout::segment_file(&self.state.key, base);
        disk.make_dirs(&layout::partition_dir(&self.state.key))?;
        let mut buffer = AlignedBuffer::zeroed(block_ceil(self.unwritten.bytes.len() as u64) as usize);
        buffer[..self.unwritten.bytes.len()].copy_from_slice(&self.unwritten.bytes);
        disk.open(&path, Open::Direct)?.write_at(start, &buffer)?;
        let end = start + self.unwritten.bytes.len() as u64;
        let kept = (end - block_floor(end)) as usize;
        let keep_from = self.unwritten.bytes.len() - kept;
        self.unwritten.bytes.drain(..keep_from);
        self.unwritten.start = block_floor(end);
        Ok(())
    }

    /// Writes and syncs everything, seals what was rolled, and removes what lies below the log start.
    fn finish(mut self, disk: &dyn Disk, dirs: &mut BTreeSet<String>) -> io::Result<PartitionState> {
        self.write(disk)?;
        let key = self.state.key;
        let active = self.active().base;
        for base in &self.touched {
            let bytes = self.state.segments.iter().find(|s| s.base == *base).map_or(0, |s| s.bytes);
            let file = disk.open(&layout::segment_file(&key, *base), Open::Direct)?;
            if *base != active {
                file.set_len(bytes)?;
            }
            if !mutant::on(Mutant::UnsyncedReplay) {
                file.sync()?;
            }
        }
        if !self.touched.is_empty() {
            dirs.extend([
                layout::partition_dir(&key),
                layout::topic_dir(key.topic),
                layout::TOPICS.to_owned(),
            ]);
        }
        let start = self.state.log_start;
        self.epochs.truncate_from_start(start);
        self.state.epochs.clear();
        self.epochs.encode(&mut self.state.epochs);
        self.state.producers.clear();
        self.producers.snapshot(&mut self.state.producers);
        Ok(self.state)
    }
}

/// Removes the segments below the log start, which a former process dropped and had not removed yet, or which
/// the replay has passed.
fn remove_dropped(
    disk: &dyn Disk,
    state: &mut PartitionState,
    dirs: &mut BTreeSet<String>,
) -> io::Result<()> {
    while state.segments.len() > 1 && state.segments[0].end <= state.log_start {
        let base = state.segments.remove(0).base;
        remove_if_there(disk, &layout::segment_file(&state.key, base))?;
        remove_if_there(disk, &layout::index_file(&state.key, base))?;
        dirs.insert(layout::partition_dir(&state.key));
    }
    Ok(())
}

impl<'a> Replay<'a> {
    /// Of partitions that are neither in `states` nor in `deleted` everything up to `covered` is known to be
    /// nothing.
    pub fn new(
        disk: &'a dyn Disk,
        states: BTreeMap<PartitionKey, PartitionState>,
        deleted: BTreeMap<PartitionKey, Lsn>,
        covered: Lsn,
    ) -> Replay<'a> {
        let partitions = states.into_iter().map(|(key, state)| (key, Partition::new(state))).collect();
        Replay { disk, partitions, deleted, covered, frames: 0, bytes: 0 }
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
            Frame::LogStart { start } => partition.state.log_start = start.max(partition.state.log_start),
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
