//! Block-aligned buffers that are used again: a direct read of a mebibyte costs less than making and clearing
//! the memory for it (measured: a fifth of what serving a consumer from an open segment cost).

use crate::chunk::AlignedBuffer;
use crate::disk::block_ceil;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Larger sizes are multiples of this, so that nearly equal reads share their buffers.
const STEP: usize = 64 << 10;
/// Bytes that are kept for the next reads; what comes back beyond is freed.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// A pool of buffers.
#[derive(Clone, Default)]
pub(crate) struct Buffers {
    free: Arc<Mutex<Free>>,
}

#[derive(Default)]
struct Free {
    /// The last one that came back is at the end: its memory is the warmest.
    buffers: Vec<AlignedBuffer>,
    bytes: usize,
}

impl Free {
    fn take(&mut self, len: usize) -> Option<AlignedBuffer> {
        let at = self.buffers.iter().rposition(|buffer| buffer.len() == len)?;
        let buffer = self.buffers.remove(at);
        self.bytes -= buffer.len();
        Some(buffer)
    }

    fn keep(&mut self, buffer: AlignedBuffer) {
        self.bytes += buffer.len();
        self.buffers.push(buffer);
        while self.bytes > KEPT_BYTES_MAX {
            // Of a size that is asked for no more, or at least not lately.
            let oldest = self.buffers.remove(0);
            self.bytes -= oldest.len();
        }
    }
}

/// Bytes of memory that a buffer for `len` bytes takes.
pub(crate) fn size_for(len: usize) -> usize {
    let blocks = block_ceil(len.max(1) as u64) as usize;
    if blocks < STEP { blocks } else { blocks.next_multiple_of(STEP) }
}

impl Buffers {
    /// A buffer of `len` bytes, rounded up to whole blocks. What it holds is left from former uses.
    pub fn get(&self, len: usize) -> Buffer {
        let used = block_ceil(len.max(1) as u64) as usize;
        let size = size_for(len);
        let known = self.lock().take(size);
        let memory = known.unwrap_or_else(|| AlignedBuffer::zeroed(size));
        Buffer { memory: Some(memory), used, pool: self.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of the pool; it goes back when it is dropped.
pub struct Buffer {
    /// `None` only while it is being dropped.
    memory: Option<AlignedBuffer>,
    used: usize,
    pool: Buffers,
}

impl Buffer {
    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.len())
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory.as_ref().expect("it is there until it is dropped")[..self.used]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory.as_mut().expect("it is there until it is dropped")[..self.used]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.lock().keep(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::BLOCK;

    #[test]
    fn buffers_are_whole_aligned_blocks() {
        let buffer = Buffers::default().get(BLOCK + 1);
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % BLOCK), (2 * BLOCK, 0));
    }

    #[test]
    fn what_comes_back_is_used_again_for_reads_of_about_its_size() {
        let pool = Buffers::default();
        let address = pool.get(2 * STEP).as_ptr();
        let again = pool.get(2 * STEP - 5);
        assert_eq!(again.as_ptr(), address);
        let other = pool.get(2 * STEP);
        assert_ne!(other.as_ptr(), address, "it is in use");
        drop((again, other));
        let large = pool.get(3 * STEP);
        assert_eq!((pool.lock().buffers.len(), large.memory()), (2, 3 * STEP), "both are too small for that");
    }

    #[test]
    fn a_small_read_takes_little_memory() {
        assert_eq!([size_for(1), size_for(BLOCK), size_for(BLOCK + 1)], [BLOCK, BLOCK, 2 * BLOCK]);
        assert_eq!([size_for(STEP), size_for(STEP + 1)], [STEP, 2 * STEP]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let pool = Buffers::default();
        let many: Vec<Buffer> = (0..40).map(|_| pool.get(1 << 20)).collect();
        drop(many);
        assert_eq!(pool.lock().bytes, KEPT_BYTES_MAX);
        assert_eq!(pool.lock().buffers.len(), 32);
        drop(pool.get(2 << 20));
        assert_eq!(pool.lock().bytes, KEPT_BYTES_MAX, "the oldest make room for what is asked for now");
    }
}
