//! A partition as a survey follows it through the log: what its checkpoint says, and what frames add to and take from
//! that.

use crate::batch::{BatchInfo, peek};
use crate::checkpoint::{PartitionState, SegmentState};
use crate::wal::format::Frame;
use std::collections::BTreeSet;

/// A partition, as checkpoints and log together say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// What the checkpoints say; fresh where only the log knows it. Its segments are in their files.
    pub state: PartitionState,
    /// First offset that may be read.
    pub log_start: i64,
    /// Offset after the last record in the log.
    pub end: i64,
    /// Segments that only the log knows: their files may be there, in part.
    pub log_segments: BTreeSet<i64>,
    /// Segments that the log says are gone: their files may still be there.
    pub cut_segments: BTreeSet<i64>,
    /// The high watermark.
    pub high_watermark: i64,
    /// Byte in the last segment where the next append goes.
    position: u64,
    segment: i64,
}

impl Surveyed {
    pub(super) fn of(state: PartitionState) -> Surveyed {
        Surveyed {
            log_start: state.log_start,
            end: state.end(),
            log_segments: BTreeSet::new(),
            cut_segments: BTreeSet::new(),
            high_watermark: state.high_watermark,
            position: state.active().bytes,
            segment: state.active().base,
            state,
        }
    }

    /// Whether a frame goes on where the partition ends; if so, it is taken.
    pub(super) fn follow(&mut self, frame: &Frame<'_>) -> bool {
        match frame {
            Frame::Append { segment, position, batch } => {
                let info = peek(batch.0).ok().filter(|info| info.size == batch.0.len());
                return info.is_some_and(|info| self.follow_append(*segment, *position, &info));
            }
            Frame::Reference { segment, position, header, .. } => {
                return peek(header).is_ok_and(|info| self.follow_append(*segment, *position, &info));
            }
            Frame::LogStart { start } => {
                self.log_start = self.log_start.max(*start);
                self.high_watermark = self.high_watermark.max(*start);
            }
            Frame::Truncate { segment, position, end, .. } => {
                let is_known = self.log_segments.contains(segment)
                    || self.state.segments.iter().any(|s| s.base == *segment);
                if !is_known || *end > self.end || *end < self.log_start {
                    return false;
                }
                self.cut(*segment, *position, *end);
            }
            Frame::Restart { start } => {
                if *start < self.log_start {
                    return false;
                }
                self.cut(i64::MIN, 0, *start);
                self.log_start = *start;
                self.high_watermark = *start;
            }
            Frame::EpochStart { start, .. } => return *start == self.end,
            Frame::HighWatermark { offset } => {
                if *offset > self.end {
                    return false;
                }
                self.high_watermark = self.high_watermark.max(*offset);
            }
            Frame::Roll { segment } => {
                if *segment != self.end {
                    return false;
                }
                (self.segment, self.position) = (*segment, 0);
                self.log_segments.insert(*segment);
            }
            Frame::Delete | Frame::BlockImage { .. } => {}
        }
        true
    }

    fn follow_append(&mut self, segment: i64, position: u64, info: &BatchInfo) -> bool {
        let goes_on = if segment == self.segment {
            position == self.position
        } else {
            position == 0 && segment == self.end
        };
        if !goes_on || info.base_offset != self.end {
            return false;
        }
        if segment != self.segment {
            (self.segment, self.position) = (segment, 0);
            self.log_segments.insert(segment);
        }
        self.position += info.size as u64;
        self.end = info.last_offset() + 1;
        true
    }

    /// The log ends at `end`, at byte `position` of `segment`: what checkpoints say beyond it counts no more.
    fn cut(&mut self, segment: i64, position: u64, end: i64) {
        let goes = |base: i64| base > segment || (base == segment && position == 0);
        let known = self.state.segments.iter().map(|s| s.base).chain(self.log_segments.iter().copied());
        self.cut_segments.extend(known.filter(|base| goes(*base)));
        self.state.segments.retain(|s| !goes(s.base));
        self.log_segments.retain(|base| !goes(*base));
        if position == 0 {
            self.segment = end;
            self.log_segments.insert(end);
        } else {
            self.segment = segment;
        }
        if let Some(last) = self.state.segments.last_mut().filter(|s| s.base == segment && s.bytes > position)
        {
            (last.bytes, last.end) = (position, end);
        }
        if self.state.segments.is_empty() {
            self.state.segments.push(SegmentState { base: end, end, bytes: 0, max_timestamp: -1 });
        }
        (self.position, self.end) = (position, end);
        self.high_watermark = self.high_watermark.min(end);
    }
}
