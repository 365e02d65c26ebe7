//! One partition while the log is replayed: its state, and what of its records is not in the segments yet.

use crate::batch::{BatchInfo, peek};
use crate::checkpoint::{PRODUCERS_MAX, PartitionState, SegmentState};
use crate::chunk::AlignedBuffer;
use crate::disk::{BLOCK, Disk, Open, beside, block_ceil, block_floor, replace_file};
use crate::epochs::Epochs;
use crate::job::remove_if_there;
use crate::layout;
use crate::mutant::{self, Mutant};
use crate::producer::Producers;
use crate::snapshot;
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

/// See the module's documentation.
pub(super) struct Partition {
    pub state: PartitionState,
    epochs: Epochs,
    producers: Producers,
    unwritten: Unwritten,
    /// The partition changed: it is written and synced at the end.
    pub changed: bool,
    /// Segments of it that were written to.
    touched: BTreeSet<i64>,
    /// Producers before the first record of segments that begin here, encoded.
    snapshots: BTreeMap<i64, Vec<u8>>,
    /// The log was cut: files may be gone or longer than what counts.
    is_cut: bool,
}

impl Partition {
    pub fn new(state: PartitionState) -> Partition {
        let (epochs, producers) = (state.decode_epochs(), state.decode_producers());
        let unwritten = Unwritten { start: state.active().bytes, bytes: Vec::new() };
        let mut partition = Partition {
            epochs,
            producers,
            unwritten,
            changed: false,
            touched: BTreeSet::new(),
            snapshots: BTreeMap::new(),
            is_cut: false,
            state,
        };
        if partition.active().bytes == 0 {
            partition.keep_snapshot();
        }
        partition
    }

    /// Remembers the producers for the snapshot of the segment that begins.
    fn keep_snapshot(&mut self) {
        let base = self.active().base;
        if !self.producers.is_empty() {
            let mut encoded = Vec::new();
            self.producers.snapshot(&mut encoded);
            self.snapshots.insert(base, encoded);
        }
    }

    fn active(&mut self) -> &mut SegmentState {
        self.state.segments.last_mut().expect("a partition has a segment")
    }

    /// A batch of `size` bytes stands at `position` of `segment`.
    pub fn append(&mut self, disk: &dyn Disk, segment: i64, position: u64, batch: &[u8]) -> io::Result<()> {
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
    pub fn roll(&mut self, disk: &dyn Disk, segment: i64) -> io::Result<()> {
        assert_eq!(segment, self.state.end(), "{}: a new segment starts at the end", self.state.key);
        assert!(self.active().bytes > 0, "{}: an empty segment is not rolled", self.state.key);
        self.write(disk)?;
        let rolled = self.active().base;
        self.touched.insert(rolled);
        let next = SegmentState { base: segment, end: segment, bytes: 0, max_timestamp: -1 };
        self.state.segments.push(next);
        self.unwritten = Unwritten::default();
        self.keep_snapshot();
        Ok(())
    }

    /// The log start moved.
    pub fn move_start(&mut self, start: i64) {
        self.state.log_start = start.max(self.state.log_start);
        self.state.high_watermark = self.state.high_watermark.max(start);
        self.epochs.truncate_from_start(start);
    }

    /// A leader epoch begins.
    pub fn start_epoch(&mut self, epoch: i32, start: i64) {
        assert_eq!(start, self.state.end(), "{}: an epoch begins at the log's end", self.state.key);
        self.epochs.assign(epoch, start);
    }

    /// The high watermark moved.
    pub fn move_watermark(&mut self, offset: i64) {
        assert!(offset <= self.state.end(), "{}: the high watermark lies in the log", self.state.key);
        self.state.high_watermark = offset.max(self.state.high_watermark);
    }

    /// The log was cut. What this replay, or the former process, has in files beyond the place goes.
    pub fn truncate(
        &mut self,
        disk: &dyn Disk,
        (segment, position): (i64, u64),
        end: i64,
        max_timestamp: i64,
        producers: &[u8],
    ) -> io::Result<()> {
        let key = self.state.key;
        assert!(end <= self.state.end() && end >= self.state.log_start, "{key}: a cut is within the log");
        let was_active = self.active().base;
        let goes = |base: i64| base > segment || (base == segment && position == 0);
        self.remove_segments(disk, goes)?;
        self.producers.cut(end, producers);
        self.epochs.truncate_from_end(end);
        self.state.high_watermark = self.state.high_watermark.min(end);
        if position == 0 {
            assert_eq!(segment, end, "{key}: an empty segment starts at the log's end");
            self.state.segments.push(SegmentState { base: end, end, bytes: 0, max_timestamp: -1 });
            self.unwritten = Unwritten::default();
            self.keep_snapshot();
            return Ok(());
        }
        // The index tells of batches that are no more; the copy of a sealed segment may never have been put in place.
        remove_if_there(disk, &layout::index_file(&key, segment))?;
        remove_if_there(disk, &beside(&layout::segment_file(&key, segment)))?;
        let active = self.active();
        assert!(active.base == segment && active.bytes >= position, "{key}: a cut is within the log");
        (active.bytes, active.end, active.max_timestamp) = (position, end, max_timestamp);
        if segment == was_active && position > self.unwritten.start {
            self.unwritten.bytes.truncate((position - self.unwritten.start) as usize);
        } else {
            // The next append shows the bytes of the block that it shares with what is left.
            self.unwritten = Unwritten { start: position, bytes: Vec::new() };
        }
        Ok(())
    }

    /// Everything is gone: the log goes on at `start`.
    pub fn restart(&mut self, disk: &dyn Disk, start: i64) -> io::Result<()> {
        assert!(start >= self.state.log_start, "{}: the log start never goes back", self.state.key);
        self.remove_segments(disk, |_| true)?;
        self.state.segments.push(SegmentState { base: start, end: start, bytes: 0, max_timestamp: -1 });
        (self.state.log_start, self.state.high_watermark) = (start, start);
        (self.epochs, self.producers) = (Epochs::new(), Producers::new(PRODUCERS_MAX));
        self.unwritten = Unwritten::default();
        Ok(())
    }

    fn remove_segments(&mut self, disk: &dyn Disk, goes: impl Fn(i64) -> bool) -> io::Result<()> {
        for segment in self.state.segments.iter().filter(|s| goes(s.base)) {
            for path in layout::segment_files(&self.state.key, segment.base) {
                remove_if_there(disk, &path)?;
            }
        }
        self.state.segments.retain(|s| !goes(s.base));
        self.touched.retain(|base| !goes(*base));
        self.snapshots.retain(|base, _| !goes(*base));
        self.is_cut = true;
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
    pub fn block_image(&mut self, segment: i64, position: u64, bytes: &[u8]) {
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
    pub fn finish(mut self, disk: &dyn Disk, dirs: &mut BTreeSet<String>) -> io::Result<PartitionState> {
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
        if self.is_cut {
            self.shorten(disk)?;
            // There is no folder before the first write to a segment.
            let dir = layout::partition_dir(&key);
            match disk.list(&dir) {
                Ok(_) => dirs.extend([dir]),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        for (base, producers) in &self.snapshots {
            if self.touched.contains(base)
                && self.state.segments.iter().any(|s| s.base == *base && s.bytes > 0)
            {
                replace_file(disk, &layout::snapshot_file(&key, *base), &snapshot::encode(*base, producers))?;
            }
        }
        if !self.touched.is_empty() {
            dirs.extend([
                layout::partition_dir(&key),
                layout::topic_dir(key.topic),
                layout::TOPICS.to_owned(),
            ]);
        }
        self.state.epochs.clear();
        self.epochs.encode(&mut self.state.epochs);
        self.state.producers.clear();
        self.producers.snapshot(&mut self.state.producers);
        Ok(self.state)
    }

    /// Cuts what a former process wrote behind the place where the last segment was cut. Nothing would ever read it,
    /// but it takes room.
    fn shorten(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let SegmentState { base, bytes, .. } = *self.active();
        let path = layout::segment_file(&self.state.key, base);
        let size = match disk.open(&path, Open::ReadDirect) {
            Ok(file) => file.size()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        if size > block_ceil(bytes) {
            let file = disk.open(&path, Open::Direct)?;
            file.set_len(block_ceil(bytes))?;
            file.sync()?;
        }
        Ok(())
    }
}

/// Removes the segments below the log start, which a former process dropped and had not removed yet, or which
/// the replay has passed.
pub(super) fn remove_dropped(
    disk: &dyn Disk,
    state: &mut PartitionState,
    dirs: &mut BTreeSet<String>,
) -> io::Result<()> {
    while state.segments.len() > 1 && state.segments[0].end <= state.log_start {
        let base = state.segments.remove(0).base;
        for path in layout::segment_files(&state.key, base) {
            remove_if_there(disk, &path)?;
        }
        dirs.insert(layout::partition_dir(&state.key));
    }
    Ok(())
}
