//! One partition's log: offsets, segments, tail, producers, epochs. Pure; the shard's [`Store`](crate::store::Store)
//! drives it.

mod flush;
mod segment;
mod tail;
mod truncate;

use crate::PartitionKey;
use crate::batch::{Checked, HEADER_BYTES};
use crate::checkpoint::{PartitionState, SegmentState};
use crate::disk::block_floor;
use crate::epochs::Epochs;
use crate::index::SegmentIndex;
use crate::mutant::{self, Mutant};
use crate::producer::Producers;
use crate::random::SplitMix;
use crate::wal::Lsn;
use crate::wal::format::Frame;
use crate::wal::writer::{CommitBuffer, WalWriter};
use std::collections::VecDeque;

pub(crate) use flush::{FlushStep, Piece};
pub(crate) use segment::OpenSegment;
pub(crate) use tail::Tail;
pub use tail::{CHUNK_BYTES_MIN, TailRead};
pub(crate) use truncate::{Target, Truncation};

/// What a topic's configuration says about its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
        }
    }
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// Frame that holds it: acknowledged once the WAL is durable up to here.
    pub lsn: Lsn,
}

/// What a checkpoint will say of a partition once the bytes it names are synced.
pub(crate) struct Capture {
    pub lsn: Lsn,
    pub log_start: i64,
    pub high_watermark: i64,
    pub active: SegmentState,
    pub epochs: Vec<u8>,
    pub producers: Vec<u8>,
}

/// See the module's documentation.
pub(crate) struct PartitionLog {
    pub key: PartitionKey,
    pub settings: LogSettings,
    pub log_start: i64,
    /// Offset after the last record whose commit is durable.
    pub durable_end: i64,
    /// The high watermark last noted; never below the log start, nor beyond the log's end.
    pub high_watermark: i64,
    /// A truncation that is under way.
    pub truncation: Option<Truncation>,
    /// Truncations since the start of the process: what was known of files before one is not true after it.
    pub cuts: u64,
    /// Segments below the log start whose files are not removed yet. Checkpoints name them, so that a crash
    /// neither loses them before the frame that moved the log start is durable nor leaves their files behind.
    pub dropped: Vec<SegmentState>,
    pub sealed: VecDeque<SegmentState>,
    pub rolled: VecDeque<OpenSegment>,
    pub active: OpenSegment,
    pub tail: Tail,
    pub epochs: Epochs,
    pub producers: Producers,
    /// For each segment's share of `segment.jitter.ms`.
    random: SplitMix,
    /// First frame that no checkpoint covers.
    pub dirty: Option<Lsn>,
    pub last_lsn: Lsn,
    pub capture: Option<Capture>,
    /// First frame after the capture.
    pub after_capture: Option<Lsn>,
    /// Whether a write or seal of this partition is out.
    pub flushing: bool,
    /// Whether it stands in the flush queue.
    pub queued: bool,
    /// Whether it stands in the list of those that changed since the last checkpoint.
    pub listed: bool,
    /// Whether it stands in the eviction queue.
    pub evictable: bool,
    /// Whether its folder is known to exist.
    pub has_folder: bool,
    /// Whether its folder's entries in the folders above are known to be synced.
    pub folder_synced: bool,
    /// Whether a file was made in its folder since that was synced.
    pub new_files: bool,
    /// Deleted: nothing more is appended, its files go once the frame that says so is durable.
    pub deleted: Option<Lsn>,
}

impl PartitionLog {
    /// The partition as recovery or a checkpoint left it.
    pub fn new(state: &PartitionState, settings: LogSettings, mut random: SplitMix) -> PartitionLog {
        let at = state.active();
        let mut active = OpenSegment::new(at.base, random.draw());
        active.end = at.end;
        (active.bytes, active.durable) = (at.bytes, at.bytes);
        (active.written, active.synced) = (at.bytes, at.bytes);
        active.allocated = crate::disk::block_ceil(at.bytes);
        active.indexed_from = at.bytes;
        active.index = SegmentIndex::resume(at.base, at.end, at.bytes);
        (active.max_timestamp, active.durable_max_timestamp) = (at.max_timestamp, at.max_timestamp);
        active.wants_image = block_floor(at.bytes) != at.bytes;
        let producers = state.decode_producers();
        if at.bytes == 0 {
            active.snapshot = truncate::encoded_producers(&producers);
        }
        let sealed = state.segments[..state.segments.len() - 1].iter().copied().collect();
        PartitionLog {
            key: state.key,
            settings,
            log_start: state.log_start,
            durable_end: at.end,
            high_watermark: state.high_watermark,
            truncation: None,
            cuts: 0,
            has_folder: at.bytes > 0 || state.segments.len() > 1,
            folder_synced: at.bytes > 0 || state.segments.len() > 1,
            dropped: Vec::new(),
            sealed,
            rolled: VecDeque::new(),
            active,
            tail: Tail::default(),
            epochs: state.decode_epochs(),
            producers,
            random,
            dirty: None,
            last_lsn: 0,
            capture: None,
            after_capture: None,
            flushing: false,
            queued: false,
            listed: false,
            evictable: false,
            new_files: false,
            deleted: None,
        }
    }

    /// Offset after the last record.
    pub fn end(&self) -> i64 {
        self.active.end
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.sealed.iter().map(|s| s.bytes).sum::<u64>()
            + self.rolled.iter().map(|s| s.bytes).sum::<u64>()
            + self.active.bytes
    }

    /// Whether the next append needs the last block read back first.
    pub fn needs_block(&self) -> bool {
        !self.tail.can_append_at(self.active.base, self.active.bytes)
    }

    /// Notes that frame `lsn` is not covered by any checkpoint.
    pub fn touch(&mut self, lsn: Lsn) {
        assert!(lsn > self.last_lsn, "LSNs of a partition ascend");
        self.dirty.get_or_insert(lsn);
        if self.capture.is_some() {
            self.after_capture.get_or_insert(lsn);
        }
        self.last_lsn = lsn;
    }

    fn must_roll(&self, size: u64, last_offset: i64, now_ms: i64) -> bool {
        if self.active.bytes == 0 {
            return false;
        }
        let LogSettings { segment_bytes, segment_index_bytes, index_interval_bytes, .. } = self.settings;
        let age_max = self.active.age_max(self.settings.segment_ms, self.settings.segment_jitter_ms);
        let aged = self.active.first_append_ms.is_some_and(|first| now_ms - first >= age_max);
        self.active.bytes + size > segment_bytes
            || aged
            || self.active.index_bytes_with_next(index_interval_bytes) > u64::from(segment_index_bytes)
            || !SegmentIndex::fits(self.active.base, last_offset)
    }

    /// Starts a new segment at the log's end. The old one is written out, cut, synced and sealed in its turn.
    fn roll(&mut self) {
        assert!(self.active.bytes > 0, "an empty segment is not rolled");
        let mut next = OpenSegment::new(self.active.end, self.random.draw());
        next.snapshot = truncate::encoded_producers(&self.producers);
        self.rolled.push_back(std::mem::replace(&mut self.active, next));
    }

    /// Starts a new segment without an append that would tell of it: a frame of its own does.
    pub fn roll_now<B: CommitBuffer>(&mut self, wal: &mut WalWriter<B>) {
        self.roll();
        if mutant::on(Mutant::UnloggedRoll) {
            return;
        }
        let lsn = wal.append(&self.key, &Frame::Roll { segment: self.active.base });
        self.touch(lsn);
    }

    /// Appends a batch. Returns it and the bytes of memory newly taken.
    pub fn append<B: CommitBuffer>(
        &mut self,
        wal: &mut WalWriter<B>,
        batch: &Checked<'_>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> (Appended, usize) {
        assert!(self.deleted.is_none(), "nothing is appended to a deleted partition");
        assert!(self.truncation.is_none(), "nothing is appended while the log is being cut");
        let base_offset = self.end();
        let info = batch.info.placed_at(base_offset, leader_epoch);
        let (header, body) = (batch.header(base_offset, leader_epoch), batch.body());
        let size = (HEADER_BYTES + body.len()) as u64;
        assert_eq!(size, info.size as u64, "a batch is as long as its header says");
        if self.must_roll(size, info.last_offset(), now_ms) {
            self.roll();
        }
        let position = self.active.bytes;
        if std::mem::take(&mut self.active.wants_image) && !mutant::on(Mutant::NoBlockImage) {
            self.log_block_image(wal);
        }
        let frame = Frame::Append { segment: self.active.base, position, batch: (&header, body) };
        let lsn = wal.append(&self.key, &frame);
        self.touch(lsn);
        let taken = self.tail.append(self.active.base, position, &info, [&header, body]);
        let active = &mut self.active;
        active.index.append(
            base_offset,
            info.last_offset(),
            position,
            info.max_timestamp,
            info.size,
            self.settings.index_interval_bytes,
        );
        active.bytes += size;
        if mutant::on(Mutant::SegmentBeforeWal) {
            active.durable = active.bytes;
        }
        active.end = info.last_offset() + 1;
        active.max_timestamp = active.max_timestamp.max(info.max_timestamp);
        active.first_append_ms.get_or_insert(now_ms);
        self.epochs.assign(leader_epoch, base_offset);
        if info.has_producer_id() {
            self.producers.apply(&info, base_offset);
        }
        (Appended { base_offset, last_offset: info.last_offset(), lsn }, taken)
    }

    /// Logs the bytes of the block that the coming append will cause to be written again.
    fn log_block_image<B: CommitBuffer>(&mut self, wal: &mut WalWriter<B>) {
        let (segment, end) = (self.active.base, self.active.bytes);
        let bytes = self.tail.block_before(segment, end);
        let frame = Frame::BlockImage { segment, position: block_floor(end), bytes: &bytes };
        let lsn = wal.append(&self.key, &frame);
        self.touch(lsn);
    }

    /// The commit of an append that ends at `end` and at byte `position` of `segment` is durable.
    pub fn made_durable(&mut self, segment: i64, position: u64, end: i64, max_timestamp: i64) {
        if !mutant::on(Mutant::AcknowledgeAtAppend) {
            assert!(end >= self.durable_end, "durability moves forward");
        }
        self.durable_end = end.max(self.durable_end);
        let mut open = self.rolled.iter_mut().chain([&mut self.active]);
        let segment = open.find(|s| s.base == segment).expect("not sealed before it was durable");
        segment.durable_max_timestamp = segment.durable_max_timestamp.max(max_timestamp);
        if !mutant::on(Mutant::SegmentBeforeWal) {
            assert!(position >= segment.durable && position <= segment.bytes);
        }
        if !mutant::on(Mutant::SegmentBeforeWal) {
            segment.durable = position;
        }
    }

    /// Moves the log start and drops the segments that lie wholly below it. Returns the frame's LSN, the base
    /// offsets of sealed segments whose files may go once that frame is durable, and the memory given back.
    pub fn advance_start<B: CommitBuffer>(
        &mut self,
        wal: &mut WalWriter<B>,
        start: i64,
    ) -> (Lsn, Vec<i64>, usize) {
        assert!(start > self.log_start && start <= self.end(), "the log start moves forward, within the log");
        self.log_start = start;
        let lsn = wal.append(&self.key, &Frame::LogStart { start });
        self.touch(lsn);
        let gone = self.drop_below_start();
        self.epochs.truncate_from_start(start);
        self.high_watermark = self.high_watermark.max(start);
        let first = self.first_segment();
        let freed = self.tail.forget_before(first);
        (lsn, gone, freed)
    }

    /// Drops the sealed segments that lie wholly below the log start. Returns their base offsets.
    pub fn drop_below_start(&mut self) -> Vec<i64> {
        let start = self.log_start;
        let mut gone = Vec::new();
        let below = self.sealed.partition_point(|s| s.end <= start);
        for segment in self.sealed.drain(..below) {
            gone.push(segment.base);
            if !mutant::on(Mutant::DroppedForgotten) {
                self.dropped.push(segment);
            }
        }
        gone
    }

    /// Notes that `epoch` begins at the log's end. Returns the frame that says so; none where that is known.
    pub fn start_epoch<B: CommitBuffer>(&mut self, wal: &mut WalWriter<B>, epoch: i32) -> Option<Lsn> {
        let latest = self.epochs.latest().map_or(-1, |latest| latest.epoch);
        assert!(epoch >= latest, "epoch {epoch} begins after {latest} has");
        let start = self.end();
        if !self.epochs.assign(epoch, start) {
            return None;
        }
        if mutant::on(Mutant::UnloggedEpochStart) {
            return Some(self.last_lsn);
        }
        let lsn = wal.append(&self.key, &Frame::EpochStart { epoch, start });
        self.touch(lsn);
        Some(lsn)
    }

    /// Notes the high watermark. Returns the frame that says so; none where it is not above the one noted before.
    pub fn note_high_watermark<B: CommitBuffer>(
        &mut self,
        wal: &mut WalWriter<B>,
        offset: i64,
    ) -> Option<Lsn> {
        assert!(offset <= self.end(), "the high watermark lies in the log");
        if offset <= self.high_watermark {
            return None;
        }
        self.high_watermark = offset;
        let lsn = wal.append(&self.key, &Frame::HighWatermark { offset });
        self.touch(lsn);
        Some(lsn)
    }

    /// Base offset of the oldest segment.
    pub fn first_segment(&self) -> i64 {
        self.sealed
            .front()
            .map(|s| s.base)
            .or_else(|| self.rolled.front().map(|s| s.base))
            .unwrap_or(self.active.base)
    }

    /// Remembers what the next checkpoint says of this partition.
    pub fn take_capture(&mut self) {
        assert!(self.capture.is_none(), "one checkpoint at a time");
        self.after_capture = None;
        self.active.wants_image = block_floor(self.active.bytes) != self.active.bytes;
        self.capture = Some(Capture {
            lsn: self.last_lsn,
            log_start: self.log_start,
            high_watermark: if mutant::on(Mutant::WatermarkNotInCheckpoint) {
                self.log_start
            } else {
                self.high_watermark
            },
            active: SegmentState {
                base: self.active.base,
                end: self.active.end,
                bytes: self.active.bytes,
                max_timestamp: self.active.max_timestamp,
            },
            epochs: encoded(|out| self.epochs.encode(out)),
            producers: encoded(|out| self.producers.snapshot(out)),
        });
    }

    /// The checkpoint's entry, once the captured bytes are synced.
    pub fn captured_state(&self) -> Option<PartitionState> {
        let capture = self.capture.as_ref()?;
        let sealed = self.dropped.iter().chain(&self.sealed);
        let mut segments: Vec<_> = sealed.filter(|s| s.base < capture.active.base).copied().collect();
        segments.push(capture.active);
        Some(PartitionState {
            key: self.key,
            applied: capture.lsn,
            log_start: capture.log_start,
            high_watermark: capture.high_watermark,
            segments,
            epochs: capture.epochs.clone(),
            producers: capture.producers.clone(),
        })
    }

    /// The checkpoint with the captured state is on the disk.
    pub fn capture_is_safe(&mut self) {
        self.capture = None;
        self.dirty = self.after_capture.take();
    }

    /// Asserts what must always hold.
    pub fn check(&self) {
        assert!(self.log_start <= self.end() && self.durable_end <= self.end());
        if !mutant::on(Mutant::WatermarkNotLowered) {
            assert!(self.log_start <= self.high_watermark && self.high_watermark <= self.end());
        }
        let mut end = None;
        let open = self.rolled.iter().chain([&self.active]).map(|s| (s.base, s.end, s.bytes));
        for (base, segment_end, bytes) in self.sealed.iter().map(|s| (s.base, s.end, s.bytes)).chain(open) {
            assert!(end.is_none_or(|end| end == base), "segments have no gap and no overlap");
            assert!(segment_end >= base && (bytes > 0 || segment_end == base));
            end = Some(segment_end);
        }
        for segment in self.rolled.iter().chain([&self.active]) {
            assert!(
                segment.written <= segment.durable,
                "no byte reaches a segment before its commit is durable"
            );
            assert!(segment.durable <= segment.bytes);
        }
        assert!(self.dirty.is_none_or(|lsn| lsn <= self.last_lsn));
    }
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
