//! A hash of everything that a simulation did, so that two runs of a seed can be compared.

/// FNV-1a over notes.
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Trace {
        Trace(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    /// Takes note of something done.
    pub fn note(&mut self, what: &str, path: &str, detail: u64) {
        what.bytes().chain(path.bytes()).chain(detail.to_le_bytes()).for_each(|b| self.byte(b));
    }

    /// The hash so far.
    pub fn value(&self) -> u64 {
        self.0
    }

    /// A short hash of a long buffer: its ends and its length. What Ringlog writes starts with a checksum.
    pub fn of(bytes: &[u8]) -> u64 {
        let mut trace = Trace::default();
        bytes.iter().take(32).chain(bytes.iter().rev().take(8)).for_each(|b| trace.byte(*b));
        trace.0
    }
}
