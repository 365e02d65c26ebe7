//! Random numbers from a seed that a failing test names, so that it can be run again.

use std::sync::atomic::{AtomicU64, Ordering};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The seed in `RINGLOG_SEED`, or a new one. Prints it, for the test that fails.
    #[must_use]
    pub fn from_env(what: &str) -> Rng {
        static TURN: AtomicU64 = AtomicU64::new(0);
        let given = std::env::var("RINGLOG_SEED").ok().and_then(|text| text.parse().ok());
        let drawn = || {
            let now = ringlog::clock::wall_ms().unsigned_abs();
            let mix = now << 20 ^ u64::from(std::process::id()) << 4 ^ TURN.fetch_add(1, Ordering::Relaxed);
            Rng(mix).next_u64()
        };
        let seed = given.unwrap_or_else(drawn);
        println!("{what}: RINGLOG_SEED={seed}");
        Rng(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// When `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "nothing is below 0");
        usize::try_from(self.next_u64() % end as u64).expect("it is below a usize")
    }

    /// This many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
