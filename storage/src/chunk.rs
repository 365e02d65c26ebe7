//! Tail chunks: memory that one owner appends to while slices of what is already there are read, also on
//! other shards. The one place where written and read memory meet.
//!
//! ```text
//!  aligned to a block                    published
//!  |                                     |
//!  [ batch ][ batch ][ batch ][ batch    ]                      ] capacity
//!    ^ slices: handles of any part below `published`   ^ only the owner writes here
//! ```
//!
//! The owner writes only beyond `published` and then moves it; a slice never reaches beyond the `published`
//! that its maker saw. So no byte is ever written while anyone may read it.

use crate::disk::BLOCK;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

/// Block-aligned memory of a fixed size.
struct Memory {
    bytes: NonNull<u8>,
    capacity: usize,
}

// SAFETY: plain memory; who may touch which bytes is the business of the types below.
unsafe impl Send for Memory {}
// SAFETY: as above; `Memory` itself hands out no reference.
unsafe impl Sync for Memory {}

impl Memory {
    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK).expect("a chunk's capacity is far below isize::MAX")
    }

    fn new(capacity: usize) -> Memory {
        assert!(capacity > 0 && capacity.is_multiple_of(BLOCK), "memory comes in whole blocks");
        // SAFETY: the layout's size is not zero.
        let bytes = unsafe { alloc(Self::layout(capacity)) };
        let Some(bytes) = NonNull::new(bytes) else { handle_alloc_error(Self::layout(capacity)) };
        Memory { bytes, capacity }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout in `new`, and freed once.
        unsafe { dealloc(self.bytes.as_ptr(), Self::layout(self.capacity)) };
    }
}

/// A chunk, held by its owner. Neither `Clone` nor `Sync`: there is one writer.
pub struct Chunk {
    memory: Arc<Memory>,
    published: Cell<usize>,
}

impl Chunk {
    /// An empty chunk of `capacity` bytes, whole blocks.
    #[must_use]
    pub fn new(capacity: usize) -> Chunk {
        Chunk { memory: Arc::new(Memory::new(capacity)), published: Cell::new(0) }
    }

    /// Bytes that it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.published.get()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more fits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Appends as much of `bytes` as fits and returns how much that was.
    pub fn append(&self, bytes: &[u8]) -> usize {
        let at = self.published.get();
        let n = bytes.len().min(self.capacity() - at);
        // SAFETY: `at + n` is within the capacity. The target lies beyond `published`, so no slice covers it,
        // and `Chunk` is not `Sync`, so nobody else appends. `bytes` cannot overlap it: no safe reference to
        // memory beyond `published` exists.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.bytes.as_ptr().add(at), n);
        }
        self.published.set(at + n);
        n
    }

    /// A handle of the bytes `from..to`, which are published.
    #[must_use]
    pub fn slice(&self, from: usize, to: usize) -> ChunkSlice {
        assert!(from <= to && to <= self.len(), "a slice covers published bytes only");
        ChunkSlice { memory: Arc::clone(&self.memory), from, to }
    }
}

/// A read-only part of a chunk's published bytes. May be sent to other threads and outlive the chunk.
#[derive(Clone)]
pub struct ChunkSlice {
    memory: Arc<Memory>,
    from: usize,
    to: usize,
}

impl ChunkSlice {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: `from..to` was published when the slice was made: written, within the capacity, and never
        // written again. The memory lives as long as `self`. The hand-over to another thread (channel, queue)
        // orders the writes before these reads.
        unsafe { std::slice::from_raw_parts(self.memory.bytes.as_ptr().add(self.from), self.to - self.from) }
    }

    /// A part of it.
    #[must_use]
    pub fn part(&self, from: usize, to: usize) -> ChunkSlice {
        assert!(from <= to && to <= self.len(), "a part lies within its slice");
        ChunkSlice { memory: Arc::clone(&self.memory), from: self.from + from, to: self.from + to }
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether it covers nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }
}

/// A block-aligned buffer with one owner, for direct reads and writes.
pub struct AlignedBuffer {
    memory: Memory,
}

impl AlignedBuffer {
    /// A zeroed buffer of `len` bytes, whole blocks.
    #[must_use]
    pub fn zeroed(len: usize) -> AlignedBuffer {
        let memory = Memory::new(len);
        // SAFETY: the whole allocation belongs to this buffer.
        unsafe { std::ptr::write_bytes(memory.bytes.as_ptr(), 0, len) };
        AlignedBuffer { memory }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: zeroed at birth, owned alone, lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.memory.bytes.as_ptr(), self.memory.capacity) }
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.memory.bytes.as_ptr(), self.memory.capacity) }
    }
}

impl AsRef<[u8]> for ChunkSlice {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_stay_what_they_were_while_the_owner_appends() {
        let chunk = Chunk::new(2 * BLOCK);
        assert_eq!(chunk.append(b"hello"), 5);
        let hello = chunk.slice(0, 5);
        let reader = {
            let hello = hello.clone();
            std::thread::spawn(move || (0..10_000).all(|_| hello.as_bytes() == b"hello"))
        };
        let filler = vec![7u8; BLOCK];
        assert_eq!(chunk.append(&filler), BLOCK);
        assert_eq!(chunk.append(&filler), BLOCK - 5, "only what fits is taken");
        assert!(chunk.is_full());
        drop(chunk);
        assert!(reader.join().unwrap());
        assert_eq!(hello.as_bytes(), b"hello", "a slice outlives its chunk");
    }

    #[test]
    #[should_panic(expected = "published bytes only")]
    fn a_slice_beyond_what_is_published_is_refused() {
        let chunk = Chunk::new(BLOCK);
        chunk.append(b"abc");
        let _ = chunk.slice(0, 4);
    }

    #[test]
    fn aligned_buffers_are_zeroed_and_aligned() {
        let mut buffer = AlignedBuffer::zeroed(3 * BLOCK);
        assert_eq!(buffer.as_ptr() as usize % BLOCK, 0);
        assert!(buffer.iter().all(|b| *b == 0));
        buffer[17] = 1;
        assert_eq!(buffer[17], 1);
    }
}
