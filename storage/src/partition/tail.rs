//! The tail of a partition's log in memory: the chunks that hold its newest bytes, and where each batch lies in
//! them. Readers at the tail are served from here, exactly and without a copy.

use crate::batch::BatchInfo;
use crate::chunk::{Chunk, ChunkSlice};
use crate::disk::{BLOCK, block_floor};
use std::collections::VecDeque;

/// Capacity of a partition's first chunk; doubles with each chunk that fills up, to [`CHUNK_BYTES_MAX`].
pub const CHUNK_BYTES_MIN: usize = 16 << 10;
/// Largest chunk.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

const _: () =
    assert!(CHUNK_BYTES_MIN.is_multiple_of(BLOCK) && CHUNK_BYTES_MAX.is_multiple_of(CHUNK_BYTES_MIN));

struct TailChunk {
    segment: i64,
    start: u64,
    chunk: Chunk,
}

impl TailChunk {
    fn end(&self) -> u64 {
        self.start + self.chunk.len() as u64
    }
}

/// Where a batch lies.
#[derive(Clone, Copy, Debug)]
struct BatchAt {
    base_offset: i64,
    end_offset: i64,
    segment: i64,
    position: u64,
    size: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Tail {
    chunks: VecDeque<TailChunk>,
    batches: VecDeque<BatchAt>,
    next_capacity: usize,
}

/// Records read from the tail.
#[derive(Default)]
pub struct TailRead {
    /// Their bytes: whole batches, in order, in as many slices as chunks hold them.
    pub slices: Vec<ChunkSlice>,
    /// Bytes of all slices.
    pub bytes: usize,
    /// Offset after the last record.
    pub end_offset: i64,
}

/// One piece of a range: bytes of one chunk.
pub(crate) struct Piece {
    pub position: u64,
    pub slice: ChunkSlice,
}

impl Tail {
    /// Bytes of memory that the chunks take.
    pub fn memory(&self) -> usize {
        self.chunks.iter().map(|c| c.chunk.capacity()).sum()
    }

    /// Whether the bytes just before `position` of `segment`, back to the start of their block, are here, so
    /// that appending can go on. Always so at a block boundary.
    pub fn can_append_at(&self, segment: i64, position: u64) -> bool {
        position.is_multiple_of(BLOCK as u64)
            || self.chunks.back().is_some_and(|c| c.segment == segment && c.end() == position)
    }

    /// Puts the first bytes of a partly filled block in place, read back from its file.
    pub fn load_block(&mut self, segment: i64, position: u64, bytes: &[u8]) {
        assert!(position.is_multiple_of(BLOCK as u64) && !bytes.is_empty() && bytes.len() < BLOCK);
        self.clear();
        let chunk = Chunk::new(CHUNK_BYTES_MIN);
        chunk.append(bytes);
        self.chunks.push_back(TailChunk { segment, start: position, chunk });
    }

    /// Copies a batch in. Returns the bytes of memory newly taken.
    pub fn append(&mut self, segment: i64, position: u64, info: &BatchInfo, parts: [&[u8]; 2]) -> usize {
        assert!(self.can_append_at(segment, position), "the block before an append is loaded");
        let mut taken = 0;
        let mut at = position;
        for mut bytes in parts {
            while !bytes.is_empty() {
                let fits = self
                    .chunks
                    .back()
                    .is_some_and(|c| c.segment == segment && c.end() == at && !c.chunk.is_full());
                if !fits {
                    taken += self.push_chunk(segment, at);
                }
                let chunk = &self.chunks.back().expect("just made sure of").chunk;
                let n = chunk.append(bytes);
                at += n as u64;
                bytes = &bytes[n..];
            }
        }
        self.batches.push_back(BatchAt {
            base_offset: info.base_offset,
            end_offset: info.last_offset() + 1,
            segment,
            position,
            size: at - position,
        });
        taken
    }

    fn push_chunk(&mut self, segment: i64, start: u64) -> usize {
        assert!(start.is_multiple_of(BLOCK as u64), "chunks start on a block");
        let capacity = self.next_capacity.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX);
        self.next_capacity = (capacity * 2).min(CHUNK_BYTES_MAX);
        self.chunks.push_back(TailChunk { segment, start, chunk: Chunk::new(capacity) });
        capacity
    }

    /// The bytes `from..to` of a segment, which are all here, piece by piece.
    pub fn pieces(&self, segment: i64, from: u64, to: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut at = from;
        let first = self.chunks.partition_point(|c| (c.segment, c.end()) <= (segment, from));
        for c in self.chunks.range(first..) {
            if at >= to || c.segment != segment {
                break;
            }
            assert!(c.start <= at, "the chunks of a segment have no gap");
            let until = to.min(c.end());
            let slice = c.chunk.slice((at - c.start) as usize, (until - c.start) as usize);
            pieces.push(Piece { position: at, slice });
            at = until;
        }
        assert!(at == to, "the range {from}..{to} of segment {segment} is in memory");
        pieces
    }

    /// End of the last full chunk of `segment` that ends at or below `limit`; 0 where there is none.
    pub fn full_until(&self, segment: i64, limit: u64) -> u64 {
        let full = |c: &&TailChunk| c.segment == segment && c.chunk.is_full() && c.end() <= limit;
        self.chunks.iter().rev().find(full).map_or(0, TailChunk::end)
    }

    /// Whole batches from the one that holds `offset`, up to `limit` and at least one, in at most `max_bytes`
    /// unless the first is larger. `None` where `offset` is no longer in memory.
    pub fn read(&self, offset: i64, limit: i64, max_bytes: usize) -> Option<TailRead> {
        let first = self.batches.partition_point(|b| b.end_offset <= offset);
        let start = self.batches.get(first).filter(|b| b.base_offset <= offset)?;
        let mut read = TailRead { slices: Vec::new(), bytes: 0, end_offset: offset };
        let (mut segment, mut from, mut to) = (start.segment, start.position, start.position);
        for batch in self.batches.range(first..) {
            let size = batch.size as usize;
            if batch.end_offset > limit || (read.bytes > 0 && read.bytes + size > max_bytes) {
                break;
            }
            if batch.segment != segment {
                read.slices.extend(self.pieces(segment, from, to).into_iter().map(|p| p.slice));
                (segment, from) = (batch.segment, batch.position);
            }
            to = batch.position + batch.size;
            read.bytes += size;
            read.end_offset = batch.end_offset;
        }
        if to > from {
            read.slices.extend(self.pieces(segment, from, to).into_iter().map(|p| p.slice));
        }
        Some(read)
    }

    /// The bytes of all batches from the one that holds `offset`, or the first one in memory, up to `limit`.
    pub fn span(&self, offset: i64, limit: i64) -> Vec<ChunkSlice> {
        let first = self.batches.partition_point(|b| b.end_offset <= offset);
        let after = self.batches.partition_point(|b| b.end_offset <= limit);
        if first >= after {
            return Vec::new();
        }
        let (start, last) = (self.batches[first], self.batches[after - 1]);
        let (from, to) = ((start.segment, start.position), (last.segment, last.position + last.size));
        let chunks = self.chunks.range(self.chunks.partition_point(|c| (c.segment, c.end()) <= from)..);
        let chunks = chunks.take_while(|c| (c.segment, c.start) < to);
        let slice = |c: &TailChunk| {
            let begin = if c.segment == from.0 { from.1.max(c.start) } else { c.start };
            let end = if c.segment == to.0 { to.1.min(c.end()) } else { c.end() };
            c.chunk.slice((begin - c.start) as usize, (end - c.start) as usize)
        };
        chunks.map(slice).collect()
    }

    /// First offset that is in memory from its batch's start, if any.
    pub fn first_offset(&self) -> Option<i64> {
        self.batches.front().map(|b| b.base_offset)
    }

    /// Segment of the oldest chunk, if that is full or of a segment no longer appended to, and how far the
    /// segment must be written before the chunk may be forgotten: to the end of the last batch that begins in
    /// it, for a batch is read from memory or from the file, never from both.
    pub fn oldest(&self, active: i64) -> Option<(i64, u64)> {
        let oldest = self.chunks.front()?;
        if !oldest.chunk.is_full() && oldest.segment == active {
            return None;
        }
        let end = (oldest.segment, oldest.end());
        let after = self.batches.partition_point(|b| (b.segment, b.position) < end);
        let last = after.checked_sub(1).map(|at| &self.batches[at]).filter(|b| b.segment == oldest.segment);
        Some((oldest.segment, oldest.end().max(last.map_or(0, |b| b.position + b.size))))
    }

    /// Forgets the oldest chunk. Returns the bytes of memory given back.
    pub fn evict_oldest(&mut self) -> usize {
        let Some(chunk) = self.chunks.pop_front() else { return 0 };
        let gone = (chunk.segment, chunk.end());
        while self.batches.front().is_some_and(|b| (b.segment, b.position) < gone) {
            self.batches.pop_front();
        }
        chunk.chunk.capacity()
    }

    /// Forgets everything. Returns the bytes of memory given back.
    pub fn clear(&mut self) -> usize {
        let memory = self.memory();
        self.chunks = VecDeque::new();
        self.batches = VecDeque::new();
        self.next_capacity = CHUNK_BYTES_MIN;
        memory
    }

    /// Forgets everything from byte `position` of a segment on. Returns the bytes of memory given back.
    ///
    /// The chunk that holds the place is replaced by a copy of what is left of it: readers may have slices of the rest,
    /// and what is published is never written again.
    pub fn cut(&mut self, segment: i64, position: u64) -> usize {
        let before = self.memory();
        while self.batches.back().is_some_and(|b| (b.segment, b.position) >= (segment, position)) {
            self.batches.pop_back();
        }
        while self.chunks.back().is_some_and(|c| (c.segment, c.start) >= (segment, position)) {
            self.chunks.pop_back();
        }
        if let Some(last) = self.chunks.back_mut()
            && last.segment == segment
            && last.end() > position
        {
            let left = last.chunk.slice(0, (position - last.start) as usize);
            let chunk = Chunk::new(last.chunk.capacity());
            chunk.append(left.as_bytes());
            last.chunk = chunk;
        }
        before - self.memory()
    }

    /// Forgets what lies before a segment. Returns the bytes of memory given back.
    pub fn forget_before(&mut self, segment: i64) -> usize {
        let mut freed = 0;
        while self.chunks.front().is_some_and(|c| c.segment < segment) {
            freed += self.evict_oldest();
        }
        while self.batches.front().is_some_and(|b| b.segment < segment) {
            self.batches.pop_front();
        }
        freed
    }

    /// The bytes of the partly filled block before `position`.
    pub fn block_before(&self, segment: i64, position: u64) -> Vec<u8> {
        let start = block_floor(position);
        let pieces = self.pieces(segment, start, position);
        pieces.iter().flat_map(|p| p.slice.as_bytes().iter().copied()).collect()
    }
}
