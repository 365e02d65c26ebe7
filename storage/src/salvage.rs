//! Reading a segment's file batch by batch, going on behind what is damaged. For tools that look at the files of a
//! stopped broker: a broker never does this, its recovery knows from the checkpoint where everything lies.
//!
//! The file is read around the page cache, so that what the disk holds is seen and not what was once read from it,
//! a piece at a time, so that a segment of any size takes a bounded amount of memory.

use crate::batch::{BatchInfo, HEADER_BYTES, MAGIC, crc_is_right, peek};
use crate::chunk::AlignedBuffer;
use crate::disk::{BLOCK, Disk, File, Open, block_floor};
use std::io;
use std::sync::Arc;

/// A batch that announces more bytes is taken for damage: no request that a broker takes is as large.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Where a batch's magic byte stands.
const MAGIC_AT: usize = 16;

/// A part of a segment's file, in the order of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A batch with a right checksum. Whether its offsets follow those before it is for the caller to say.
    Batch {
        /// Its first byte in the file.
        position: u64,
        /// Its header.
        info: BatchInfo,
        /// All of it.
        bytes: &'a [u8],
    },
    /// Bytes that are no batch.
    Damage(Damage),
}

/// Bytes of a segment that are no batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first of them.
    pub from: u64,
    /// The byte after them: the next batch's first, or the end of what is read.
    pub to: u64,
    /// All of them are zero, as where a file was extended and never written, or an open segment's last block is
    /// padded.
    pub is_zero: bool,
    /// What is wrong at `from`.
    pub what: String,
}

/// Walks a segment's file. What it finds behind damage was found by searching: it tells a person what is left, and
/// is no ground to keep it, as bytes inside a damaged batch's records may look like a batch.
pub struct SegmentWalk {
    file: Arc<dyn File>,
    end: u64,
    at: u64,
    next_offset: i64,
    /// Bytes of the file from `window_start` on; `at` lies in it or at its end.
    window: Vec<u8>,
    window_start: u64,
    buffer: AlignedBuffer,
    unreadable: Vec<u64>,
}

impl SegmentWalk {
    /// Walks the first `limit` bytes of a segment with base offset `base`, or all of them.
    ///
    /// # Errors
    /// What the disk says to opening it.
    pub fn open(disk: &dyn Disk, path: &str, base: i64, limit: Option<u64>) -> io::Result<SegmentWalk> {
        let file = disk.open(path, Open::ReadDirect)?;
        let size = file.size()?;
        Ok(SegmentWalk {
            file,
            end: limit.map_or(size, |limit| limit.min(size)),
            at: 0,
            next_offset: base,
            window: Vec::new(),
            window_start: 0,
            buffer: AlignedBuffer::zeroed(READ_BYTES),
            unreadable: Vec::new(),
        })
    }

    /// Byte up to which it reads: the limit, or the file's length where that is less.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Byte up to which it has come.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Positions of the blocks that the disk could not read. They are taken for zeros.
    #[must_use]
    pub fn unreadable(&self) -> &[u64] {
        &self.unreadable
    }

    /// The next part; none at the end.
    pub fn next_part(&mut self) -> Option<Part<'_>> {
        if self.at >= self.end {
            return None;
        }
        let position = self.at;
        match self.batch_at(position) {
            Ok(info) => {
                self.at = position + info.size as u64;
                // The base offset is not under the checksum: one that cannot be is not followed.
                let first = if self.may_follow(&info) { info.base_offset } else { self.next_offset };
                self.next_offset = first + i64::from(info.last_offset_delta) + 1;
                let start = (position - self.window_start) as usize;
                Some(Part::Batch { position, info, bytes: &self.window[start..start + info.size] })
            }
            Err(what) => Some(Part::Damage(self.skip_damage(position, what))),
        }
    }

    /// A whole batch at `position`, which is then in the window.
    fn batch_at(&mut self, position: u64) -> Result<BatchInfo, String> {
        let info = peek(self.bytes(position, HEADER_BYTES)).map_err(|e| format!("no record batch: {e}"))?;
        let left = self.end - position;
        if info.size as u64 > left {
            return Err(format!("the batch announces {} bytes, {left} are left", info.size));
        }
        if info.size > BATCH_BYTES_MAX {
            return Err(format!("the batch announces {} bytes, no batch is as large", info.size));
        }
        if crc_is_right(self.bytes(position, info.size)) {
            Ok(info)
        } else {
            Err(format!(
                "the checksum (CRC-32C) of the batch with offsets {} to {} is wrong",
                info.base_offset,
                info.last_offset()
            ))
        }
    }

    /// Finds where the next batch starts.
    fn skip_damage(&mut self, from: u64, what: String) -> Damage {
        // Where only the records are damaged, the header still says where the batch ends.
        let announced =
            peek(self.bytes(from, HEADER_BYTES)).ok().filter(|i| i.base_offset == self.next_offset);
        let behind = announced.map(|info| (from + info.size as u64, info.last_offset() + 1));
        if let Some((to, next_offset)) = behind
            && to <= self.end
            && to - from <= BATCH_BYTES_MAX as u64
            && (to == self.end || self.batch_at(to).is_ok_and(|next| next.base_offset == next_offset))
        {
            (self.at, self.next_offset) = (to, next_offset);
            return Damage { from, to, is_zero: false, what };
        }
        let mut is_zero = true;
        let mut at = from;
        let end = self.end;
        while at < end {
            self.at = at;
            // At least a header, so that a batch across two pieces is seen.
            let piece = self.bytes(at, READ_BYTES);
            let (len, last) = (piece.len(), at + piece.len() as u64 >= end);
            let looked_at = if last { len } else { len - HEADER_BYTES + 1 };
            is_zero &= piece[..looked_at].iter().all(|byte| *byte == 0);
            let candidates: Vec<u64> = (usize::from(at == from)..looked_at)
                .filter(|i| piece.get(i + MAGIC_AT) == Some(&MAGIC))
                .map(|i| at + i as u64)
                .collect();
            for candidate in candidates {
                if self.looks_like_next(candidate) && self.batch_at(candidate).is_ok() {
                    self.at = candidate;
                    return Damage { from, to: candidate, is_zero: false, what };
                }
            }
            at += looked_at as u64;
        }
        self.at = self.end;
        Damage { from, to: self.end, is_zero, what }
    }

    fn looks_like_next(&mut self, position: u64) -> bool {
        peek(self.bytes(position, HEADER_BYTES)).is_ok_and(|info| self.may_follow(&info))
    }

    fn may_follow(&self, info: &BatchInfo) -> bool {
        u32::try_from(info.base_offset - self.next_offset).is_ok()
    }

    /// The bytes from `position` on, `len` of them or as many as there are.
    fn bytes(&mut self, position: u64, len: usize) -> &[u8] {
        let to = (position + len as u64).min(self.end);
        if position < self.window_start || position > self.window_start + self.window.len() as u64 {
            self.window.clear();
            self.window_start = block_floor(position);
        }
        while self.window_start + (self.window.len() as u64) < to {
            // What lies before the walk's place is not looked at again.
            let keep_from = block_floor(self.at.min(position)).max(self.window_start);
            self.window.drain(..(keep_from - self.window_start) as usize);
            self.window_start = keep_from;
            self.read_on();
        }
        let start = (position - self.window_start) as usize;
        &self.window[start..(to - self.window_start) as usize]
    }

    /// Appends the next piece of the file to the window.
    fn read_on(&mut self) {
        let from = self.window_start + self.window.len() as u64;
        assert_eq!(from % BLOCK as u64, 0, "pieces are whole blocks until the file ends");
        let wanted = usize::try_from(self.end - from).unwrap_or(usize::MAX).min(READ_BYTES);
        if let Ok(read) = self.file.read_at(from, &mut self.buffer)
            && read >= wanted
        {
            self.window.extend_from_slice(&self.buffer[..read.min(wanted)]);
            return;
        }
        for start in (0..wanted).step_by(BLOCK) {
            let len = (wanted - start).min(BLOCK);
            let block = &mut self.buffer[..BLOCK];
            block.fill(0);
            let read = self.file.read_at(from + start as u64, block).unwrap_or(0);
            if read < len {
                self.unreadable.push(from + start as u64);
                block.fill(0);
            }
            self.window.extend_from_slice(&self.buffer[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::compression::Codec;
    use crate::disk::RealDisk;
    use proptest::prelude::*;

    fn batch(base: i64, records: usize, value: &[u8]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..records {
            builder.push(5, Some(b"key"), Some(value), &[]);
        }
        builder.build(base, 0)
    }

    /// What a walk finds: batches as (position, base offset), damage as it is.
    fn walk(bytes: &[u8], limit: Option<u64>) -> (Vec<(u64, i64)>, Vec<Damage>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s"), bytes).unwrap();
        let mut walk = SegmentWalk::open(&RealDisk::new(dir.path()), "s", 0, limit).unwrap();
        let (mut batches, mut damage) = (Vec::new(), Vec::new());
        while let Some(part) = walk.next_part() {
            match part {
                Part::Batch { position, info, bytes } => {
                    assert_eq!(bytes.len(), info.size);
                    batches.push((position, info.base_offset));
                }
                Part::Damage(found) => damage.push(found),
            }
        }
        assert_eq!(walk.position(), walk.end());
        (batches, damage)
    }

    #[test]
    fn a_segment_larger_than_a_piece_is_walked_whole() {
        let batches: Vec<_> = (0..40).map(|i| batch(i * 3, 3, &vec![7; 50_000])).collect();
        let bytes = batches.concat();
        let (found, damage) = walk(&bytes, None);
        assert!(bytes.len() > 3 * READ_BYTES && damage.is_empty());
        assert_eq!(found.iter().map(|b| b.1).collect::<Vec<_>>(), (0..40).map(|i| i * 3).collect::<Vec<_>>());
        assert_eq!(found[1].0, batches[0].len() as u64);
    }

    #[test]
    fn damaged_records_and_damaged_headers_are_skipped() {
        let parts = [batch(0, 2, b"a"), batch(2, 1, b"b"), batch(3, 4, b"c")];
        let start = parts[0].len();
        for at in [start + 61, start + 9, start + 16] {
            let mut bytes = parts.concat();
            bytes[at] ^= 0x55;
            let (found, damage) = walk(&bytes, None);
            assert_eq!(found.iter().map(|b| b.1).collect::<Vec<_>>(), [0, 3], "damaged at {at}");
            assert_eq!((damage[0].from, damage[0].to), (start as u64, (start + parts[1].len()) as u64));
        }
    }

    #[test]
    fn a_base_offset_that_cannot_be_does_not_mislead_what_follows() {
        let parts = [batch(0, 2, b"a"), batch(2, 1, b"b"), batch(3, 1, b"c"), batch(4, 1, b"d")];
        let mut bytes = parts.concat();
        bytes[parts[0].len() + 1] ^= 0x55;
        bytes[parts[0].len() + parts[1].len() + 9] ^= 0x55;
        let (found, damage) = walk(&bytes, None);
        assert_eq!((found.len(), found[2].1, damage.len()), (3, 4, 1));
    }

    #[test]
    fn a_batch_inside_a_damaged_batch_is_not_taken_for_the_next() {
        let inner = batch(1, 1, b"evil");
        let mut outer = batch(0, 1, &inner);
        *outer.last_mut().unwrap() ^= 1;
        let bytes = [outer.clone(), batch(1, 1, b"good")].concat();
        let (found, _) = walk(&bytes, None);
        assert_eq!(found, [(outer.len() as u64, 1)]);
    }

    #[test]
    fn padding_is_told_from_damage_and_the_limit_holds() {
        let first = batch(0, 1, b"x");
        let mut bytes = first.clone();
        bytes.resize(8192, 0);
        let (found, damage) = walk(&bytes, None);
        assert_eq!((found.len(), damage[0].is_zero, damage[0].to), (1, true, 8192));
        assert_eq!(walk(&bytes, Some(first.len() as u64)).1, []);
        let (found, damage) = walk(&first, Some(first.len() as u64 - 1));
        assert!(found.is_empty() && !damage[0].is_zero && damage[0].what.contains("are left"));
    }

    proptest! {
        /// Whatever byte is damaged, batches before and behind the damaged one are found.
        #[test]
        fn one_damaged_byte_costs_one_batch(
            sizes in prop::collection::vec(0usize..3000, 1..8), at in any::<prop::sample::Index>(), bit in 0u8..8,
        ) {
            let parts: Vec<_> = sizes.iter().enumerate().map(|(i, n)| batch(i as i64, 1, &vec![1; *n])).collect();
            let mut bytes = parts.concat();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (mut start, mut hit) = (0, 0);
            while start + parts[hit].len() <= at {
                start += parts[hit].len();
                hit += 1;
            }
            let (found, damage) = walk(&bytes, None);
            // Base offset and leader epoch are not under the checksum.
            let silent = at - start < 8 || (12..16).contains(&(at - start));
            if !silent {
                let expected: Vec<_> = (0..parts.len() as i64).filter(|i| *i != hit as i64).collect();
                prop_assert_eq!(found.iter().map(|b| b.1).collect::<Vec<_>>(), expected);
                prop_assert_eq!(damage.len(), 1);
            }
        }

        #[test]
        fn garbage_ends(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
            let (_, damage) = walk(&bytes, None);
            prop_assert!(damage.len() <= bytes.len());
        }
    }
}
