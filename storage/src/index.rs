//! The sparse index of a segment: from an offset, a position or a time to where reading starts.
//!
//! One entry for every `index.interval.bytes` of log, made at the start of a batch. It serves all three
//! questions: it tells the batch's first offset, its position in the file, and the greatest timestamp of all
//! batches before it. Whatever lies between two entries is found by reading batch headers from the first.
//!
//! The index is derived from the log and is never evidence: it is written, once, when its segment is sealed,
//! and what is missing or damaged is built again from the batches.
//!
//! ```text
//! offset  field                    little-endian
//!      0  magic "RINGIDX\0"         8
//!      8  version                   u32
//!     12  CRC-32 (ISO) of all that follows   u32
//!     16  base offset               i64
//!     24  end offset                i64   the last batch's last offset + 1
//!     32  bytes of the log file     u64   another length: an index of another log
//!     40  max timestamp             i64   of all batches, -1: none
//!     48  entries                   u32
//!     52  { first offset - base offset u32 | position u32 | max timestamp before i64 } ...
//! ```

use std::fmt;

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::batch::{BatchInfo, NO_TIMESTAMP};

const MAGIC: [u8; 8] = *b"RINGIDX\0";
const VERSION: u32 = 1;
/// Bytes between two entries where an index is made by reading a segment.
pub const SCAN_INTERVAL_BYTES: u32 = 4096;
/// Where the bytes under the CRC begin.
const CRC_START: usize = std::mem::offset_of!(Head, base_offset);

/// Where a batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of its first record.
    pub offset: i64,
    /// Its first byte in the segment file.
    pub position: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    relative_offset: u32,
    position: u32,
    /// Greatest timestamp of all batches before this one.
    max_timestamp_before: i64,
}

/// The index of one segment. Batches are taken note of in the log's order; 16 bytes for each entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentIndex {
    base_offset: i64,
    entries: Vec<Entry>,
    /// Offset behind the last batch.
    end_offset: i64,
    /// Bytes of the log that the index knows.
    log_bytes: u64,
    max_timestamp: i64,
    /// From where on `interval_bytes` count, `None` where the next batch gets an entry in any case.
    last_entry_position: Option<u64>,
}

impl SegmentIndex {
    /// The index of an empty segment.
    ///
    /// # Panics
    /// When the offset is negative.
    pub fn new(base_offset: i64) -> SegmentIndex {
        assert!(base_offset >= 0, "no log starts at {base_offset}");
        SegmentIndex {
            base_offset,
            entries: Vec::new(),
            end_offset: base_offset,
            log_bytes: 0,
            max_timestamp: NO_TIMESTAMP,
            last_entry_position: None,
        }
    }

    /// The index of what will be appended to a segment that has `log_bytes` bytes of earlier batches, up to
    /// `end_offset`, which it does not know: for places in those, the segment's start is all it can say.
    ///
    /// # Panics
    /// When the end lies before the base.
    pub fn resume(base_offset: i64, end_offset: i64, log_bytes: u64) -> SegmentIndex {
        assert!(base_offset <= end_offset, "a segment ends where it starts, or later");
        SegmentIndex { end_offset, log_bytes, ..SegmentIndex::new(base_offset) }
    }

    /// Whether a batch that ends with `last_offset` can be in a segment that starts at `base_offset`: offsets
    /// are kept as 32-bit distances. Where it cannot, the segment is rolled first.
    pub fn fits(base_offset: i64, last_offset: i64) -> bool {
        last_offset.checked_sub(base_offset).is_some_and(|distance| u32::try_from(distance).is_ok())
    }

    /// Takes note of a batch of `size` bytes behind all others. It gets an entry when it is the first, or
    /// when at least `interval_bytes` were written since the start of the last one that has one.
    ///
    /// # Panics
    /// When the batch does not lie directly behind the last one in the file, or not above it in offsets, or
    /// does not [fit](SegmentIndex::fits), or starts beyond 4 GiB (`segment.bytes` is at most 2 GiB).
    pub fn append(
        &mut self,
        first_offset: i64,
        last_offset: i64,
        position: u64,
        max_timestamp: i64,
        size: usize,
        interval_bytes: u32,
    ) {
        assert!(self.end_offset <= first_offset && first_offset <= last_offset, "offsets go up");
        assert!(SegmentIndex::fits(self.base_offset, last_offset), "the segment is rolled before that");
        assert_eq!(position, self.log_bytes, "batches lie one behind the other");
        if self.is_due(position, interval_bytes) {
            let distance = first_offset - self.base_offset;
            self.entries.push(Entry {
                relative_offset: u32::try_from(distance).expect("it fits, as asserted"),
                position: u32::try_from(position).expect("a segment is below 4 GiB"),
                max_timestamp_before: self.max_timestamp,
            });
            self.last_entry_position = Some(position);
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.end_offset = last_offset + 1;
        self.log_bytes = position + u64::try_from(size).expect("a size in memory");
    }

    /// Builds the index of a segment from its batches, each with its position, in the order of the file.
    pub fn rebuild(
        base_offset: i64,
        interval_bytes: u32,
        batches: impl IntoIterator<Item = (BatchInfo, u64)>,
    ) -> SegmentIndex {
        let mut index = SegmentIndex::new(base_offset);
        for (batch, position) in batches {
            index.append(
                batch.base_offset,
                batch.last_offset(),
                position,
                batch.max_timestamp,
                batch.size,
                interval_bytes,
            );
        }
        index
    }

    /// Offset at which the segment starts.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Offset behind the last batch.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Bytes of the log that the index knows.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// The greatest timestamp of all batches, -1 where none has one. The first batch that has it is found by
    /// reading from [`time_floor`](SegmentIndex::time_floor) of it.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Bytes of the encoded index.
    pub fn encoded_bytes(&self) -> usize {
        size_of::<Head>() + self.entries.len() * size_of::<EncodedEntry>()
    }

    /// Bytes of the encoded index once the next batch is in it, for `segment.index.bytes`.
    pub fn encoded_bytes_with_next(&self, interval_bytes: u32) -> usize {
        let gets_entry = self.is_due(self.log_bytes, interval_bytes);
        self.encoded_bytes() + usize::from(gets_entry) * size_of::<EncodedEntry>()
    }

    /// Most bytes of the encoded index of a log of `log_bytes`, and one batch more.
    pub fn encoded_bytes_of(log_bytes: u64, interval_bytes: u32) -> u64 {
        let entries = 1 + log_bytes / u64::from(interval_bytes.max(1));
        size_of::<Head>() as u64 + entries * size_of::<EncodedEntry>() as u64
    }

    fn is_due(&self, position: u64, interval_bytes: u32) -> bool {
        self.last_entry_position.is_none_or(|last| position - last >= u64::from(interval_bytes))
    }

    /// Where to start reading for the batch that holds `offset`, or the first one above it: the last entry at
    /// or below it, the segment's start where there is none.
    pub fn floor(&self, offset: i64) -> Place {
        self.place_before(self.entries.partition_point(|entry| self.offset_of(entry) <= offset))
    }

    /// Position of the first entry above `offset`: the batch that holds `offset` ends there or before. `None`
    /// where only the end of the log bounds it.
    pub fn ceiling_position(&self, offset: i64) -> Option<u64> {
        let above = self.entries.partition_point(|entry| self.offset_of(entry) <= offset);
        self.entries.get(above).map(|entry| u64::from(entry.position))
    }

    /// The last entry at or below a position in the file, the segment's start where there is none.
    pub fn position_floor(&self, position: u64) -> Place {
        self.place_before(self.entries.partition_point(|entry| u64::from(entry.position) <= position))
    }

    /// Where to start reading for the first record with a timestamp of `timestamp` or later: no batch before
    /// that place has one. Is worth the reading only up to [`max_timestamp`](SegmentIndex::max_timestamp).
    pub fn time_floor(&self, timestamp: i64) -> Place {
        self.place_before(self.entries.partition_point(|entry| entry.max_timestamp_before < timestamp))
    }

    /// The log was cut at `position`. Forgets every batch from the last entry before that on and returns that
    /// entry's place: the batches between the two are to be appended to the index again. (What the greatest
    /// timestamp and the last offset were at `position`, only they can tell.)
    pub fn truncate(&mut self, position: u64) -> Place {
        if position >= self.log_bytes {
            return Place { offset: self.end_offset, position: self.log_bytes };
        }
        let kept = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        let Some(first_gone) = kept.checked_sub(1) else {
            *self = SegmentIndex::new(self.base_offset);
            return Place { offset: self.base_offset, position: 0 };
        };
        let place = self.place_before(kept);
        self.max_timestamp = self.entries[first_gone].max_timestamp_before;
        self.entries.truncate(first_gone);
        (self.end_offset, self.log_bytes) = (place.offset, place.position);
        self.last_entry_position = None;
        place
    }

    /// Appends the encoded index to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.reserve(self.encoded_bytes());
        let head = Head {
            magic: MAGIC,
            version: U32::new(VERSION),
            crc: U32::new(0),
            base_offset: I64::new(self.base_offset),
            end_offset: I64::new(self.end_offset),
            log_bytes: U64::new(self.log_bytes),
            max_timestamp: I64::new(self.max_timestamp),
            entries: U32::new(u32::try_from(self.entries.len()).expect("one for each position, a u32")),
        };
        out.extend_from_slice(head.as_bytes());
        for entry in &self.entries {
            let entry = EncodedEntry {
                relative_offset: U32::new(entry.relative_offset),
                position: U32::new(entry.position),
                max_timestamp_before: I64::new(entry.max_timestamp_before),
            };
            out.extend_from_slice(entry.as_bytes());
        }
        let crc = crc32fast::hash(&out[start + CRC_START..]);
        let (head, _) = Head::mut_from_prefix(&mut out[start..]).expect("it was just written");
        head.crc = U32::new(crc);
    }

    /// The index from its file, whose bytes `bytes` must be exactly. `base_offset` and `log_bytes` are those
    /// of the segment that it is to serve.
    ///
    /// # Errors
    /// When the bytes are no such index: it is to be [built again](SegmentIndex::rebuild).
    pub fn decode(bytes: &[u8], base_offset: i64, log_bytes: u64) -> Result<SegmentIndex, IndexError> {
        let (head, rest) = Head::ref_from_prefix(bytes).map_err(|_| IndexError::Length)?;
        if head.magic != MAGIC {
            return Err(IndexError::Magic);
        }
        if head.version.get() != VERSION {
            return Err(IndexError::Version(head.version.get()));
        }
        if crc32fast::hash(&bytes[CRC_START..]) != head.crc.get() {
            return Err(IndexError::Checksum);
        }
        if (head.base_offset.get(), head.log_bytes.get()) != (base_offset, log_bytes) {
            return Err(IndexError::OtherLog {
                base_offset: head.base_offset.get(),
                log_bytes: head.log_bytes.get(),
            });
        }
        let encoded = <[EncodedEntry]>::ref_from_bytes(rest).map_err(|_| IndexError::Length)?;
        if u32::try_from(encoded.len()) != Ok(head.entries.get()) {
            return Err(IndexError::Length);
        }
        let entries: Vec<Entry> = encoded.iter().map(EncodedEntry::entry).collect();
        let index = SegmentIndex {
            base_offset,
            last_entry_position: entries.last().map(|entry| u64::from(entry.position)),
            entries,
            end_offset: head.end_offset.get(),
            log_bytes,
            max_timestamp: head.max_timestamp.get(),
        };
        if index.is_consistent() { Ok(index) } else { Err(IndexError::Content) }
    }

    /// Its entries in order: where a batch starts, and the greatest timestamp of all batches before it (-1: none).
    pub fn entries(&self) -> impl Iterator<Item = (Place, i64)> + '_ {
        self.entries.iter().map(|entry| {
            let place = Place { offset: self.offset_of(entry), position: u64::from(entry.position) };
            (place, entry.max_timestamp_before)
        })
    }

    /// Asserts what always holds; for tests and simulation.
    pub fn assert_invariants(&self) {
        assert!(self.is_consistent(), "{self:?}");
    }

    /// Whether the entries are in order and within the log.
    fn is_consistent(&self) -> bool {
        let ordered = self.entries.is_sorted_by(|a, b| {
            a.relative_offset < b.relative_offset
                && a.position < b.position
                && a.max_timestamp_before <= b.max_timestamp_before
        });
        let first = self.entries.first().is_none_or(|first| first.position == 0);
        let last = self.entries.last().is_none_or(|last| {
            self.offset_of(last) < self.end_offset
                && u64::from(last.position) < self.log_bytes
                && last.max_timestamp_before <= self.max_timestamp
        });
        let empty = self.entries.is_empty() == (self.log_bytes == 0);
        self.base_offset >= 0 && self.end_offset >= self.base_offset && ordered && first && last && empty
    }

    fn offset_of(&self, entry: &Entry) -> i64 {
        self.base_offset.saturating_add(i64::from(entry.relative_offset))
    }

    /// The place of the entry before the one with this number, the segment's start where there is none.
    fn place_before(&self, entry: usize) -> Place {
        match entry.checked_sub(1).map(|at| &self.entries[at]) {
            Some(entry) => Place { offset: self.offset_of(entry), position: u64::from(entry.position) },
            None => Place { offset: self.base_offset, position: 0 },
        }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    version: U32,
    crc: U32,
    base_offset: I64,
    end_offset: I64,
    log_bytes: U64,
    max_timestamp: I64,
    entries: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EncodedEntry {
    relative_offset: U32,
    position: U32,
    max_timestamp_before: I64,
}

impl EncodedEntry {
    fn entry(&self) -> Entry {
        Entry {
            relative_offset: self.relative_offset.get(),
            position: self.position.get(),
            max_timestamp_before: self.max_timestamp_before.get(),
        }
    }
}

/// Why the bytes of an index file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexError {
    /// More or fewer bytes than announced.
    Length,
    /// Not an index file.
    Magic,
    /// A version that is not known here.
    Version(u32),
    /// The bytes were damaged.
    Checksum,
    /// It belongs to another log, or to a log of another length.
    OtherLog {
        /// Where that log starts.
        base_offset: i64,
        /// How long it is.
        log_bytes: u64,
    },
    /// Values that no index has.
    Content,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IndexError::Length => write!(f, "the index has another length than announced"),
            IndexError::Magic => write!(f, "not an index file"),
            IndexError::Version(version) => write!(f, "version {version} of an index is unknown"),
            IndexError::Checksum => write!(f, "the index's checksum is wrong"),
            IndexError::OtherLog { base_offset, log_bytes } => {
                write!(f, "the index belongs to a log of {log_bytes} bytes from offset {base_offset}")
            }
            IndexError::Content => write!(f, "the index has impossible values"),
        }
    }
}

impl std::error::Error for IndexError {}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
