//! Files and folders of the simulated disk: what is seen now, what is durable, and what lies between.

use crate::rng::Rng;
use std::collections::BTreeMap;

/// What a disk writes as one: a crash leaves each piece old or new.
pub const PIECE: usize = 512;

/// Cuts or extends with zeros. `Vec::resize` goes byte by byte in a build without optimisation.
fn set_len(bytes: &mut Vec<u8>, len: usize) {
    if len <= bytes.len() {
        return bytes.truncate(len);
    }
    let mut longer = vec![0; len];
    longer[..bytes.len()].copy_from_slice(bytes);
    *bytes = longer;
}

/// A file or a folder.
pub enum Node {
    File(File),
    Dir(Dir),
}

impl Node {
    pub fn file(&mut self) -> Option<&mut File> {
        if let Node::File(file) = self { Some(file) } else { None }
    }

    pub fn dir(&mut self) -> Option<&mut Dir> {
        if let Node::Dir(dir) = self { Some(dir) } else { None }
    }
}

/// A folder: names of nodes.
#[derive(Default)]
pub struct Dir {
    pub now: BTreeMap<String, usize>,
    pub durable: BTreeMap<String, usize>,
}

/// A write that is not synced.
struct Unsynced {
    position: usize,
    bytes: Vec<u8>,
}

/// A file's bytes.
#[derive(Default)]
pub struct File {
    pub now: Vec<u8>,
    pub durable: Vec<u8>,
    pub allocated: u64,
    /// Mapped: it must not change any more.
    pub is_shared: bool,
    /// Since the last sync, as the three below it.
    writes: Vec<Unsynced>,
    lengths: Vec<usize>,
    was_cut: bool,
}

impl File {
    fn note_length(&mut self) {
        if self.lengths.last() != Some(&self.now.len()) {
            self.lengths.push(self.now.len());
        }
    }

    pub fn write(&mut self, position: u64, bytes: &[u8]) {
        assert!(!self.is_shared, "a mapped file is never written");
        let at = position as usize;
        if self.now.len() < at + bytes.len() {
            set_len(&mut self.now, at + bytes.len());
        }
        self.now[at..at + bytes.len()].copy_from_slice(bytes);
        self.allocated = self.allocated.max(self.now.len() as u64);
        self.note_length();
        self.writes.push(Unsynced { position: at, bytes: bytes.to_vec() });
    }

    pub fn set_len(&mut self, len: usize) {
        assert!(!self.is_shared, "a mapped file is never cut");
        self.was_cut |= len < self.now.len();
        set_len(&mut self.now, len);
        self.allocated = self.allocated.min((len as u64).next_multiple_of(4096));
        self.note_length();
    }

    pub fn sync(&mut self) {
        set_len(&mut self.durable, self.now.len());
        if self.was_cut {
            self.durable.copy_from_slice(&self.now);
        } else {
            for write in &self.writes {
                let range = write.position..write.position + write.bytes.len();
                self.durable[range.clone()].copy_from_slice(&self.now[range]);
            }
        }
        self.writes.clear();
        self.lengths.clear();
        self.was_cut = false;
    }

    /// Pieces of a direct write reach the disk, each if `reaches` says so.
    pub fn land(&mut self, position: u64, bytes: &[u8], mut reaches: impl FnMut() -> bool) {
        let end = position as usize + bytes.len();
        assert!(end <= self.durable.len(), "a commit lies within its file, whose zeros are synced");
        for (i, piece) in bytes.chunks(PIECE).enumerate() {
            if reaches() {
                let at = position as usize + i * PIECE;
                self.now[at..at + piece.len()].copy_from_slice(piece);
                self.durable[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }

    /// Keeps what is durable and any of the rest.
    pub fn crash(&mut self, rng: &mut Rng, percent: u64) {
        if self.writes.is_empty() && self.lengths.is_empty() {
            return;
        }
        let mut lengths = vec![self.durable.len()];
        lengths.append(&mut self.lengths);
        let mut kept = std::mem::take(&mut self.durable);
        for write in self.writes.drain(..) {
            let end = write.position + write.bytes.len();
            if kept.len() < end {
                set_len(&mut kept, end);
            }
            for (i, piece) in write.bytes.chunks(PIECE).enumerate() {
                if rng.percent(percent) {
                    let at = write.position + i * PIECE;
                    kept[at..at + piece.len()].copy_from_slice(piece);
                }
            }
        }
        let last = lengths.len() - 1;
        let chosen = if rng.percent(percent) { last } else { rng.index(lengths.len()) };
        set_len(&mut kept, lengths[chosen]);
        self.was_cut = false;
        self.allocated = (kept.len() as u64).next_multiple_of(4096);
        self.durable = kept;
        self.now = self.durable.clone();
    }
}
