//! Bounds the connection attempts of a broker: 20 at once, 100 a second.
//!
//! When a switch dies and comes back, every link of a broker breaks at the same moment. Without a bound a broker of a
//! large cluster would answer with a burst that its own network, or the peers' backlogs, drop, and start over.

/// Attempts at one moment.
pub const BURST: u64 = 20;
/// Attempts a second in the long run.
pub const PER_SECOND: u64 = 100;

const ATTEMPT_MS: u64 = 1_000 / PER_SECOND;
const _: () = assert!(1_000 % PER_SECOND == 0, "whole milliseconds for each attempt");

/// A bucket of attempts.
#[derive(Clone, Debug, Default)]
pub struct Limiter {
    /// When the bucket is full again.
    full_at_ms: u64,
}

impl Limiter {
    /// When the next attempt may be made: now, or a time to come.
    #[must_use]
    pub fn next_at_ms(&self) -> u64 {
        self.full_at_ms.saturating_sub((BURST - 1) * ATTEMPT_MS)
    }

    /// Takes one attempt, if there is one now.
    pub fn take(&mut self, now_ms: u64) -> bool {
        if now_ms < self.next_at_ms() {
            return false;
        }
        self.full_at_ms = self.full_at_ms.max(now_ms) + ATTEMPT_MS;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let mut limiter = Limiter::default();
        let mut taken = Vec::new();
        for now in 5_000..7_000 {
            while limiter.take(now) {
                taken.push(now);
            }
        }
        assert_eq!(taken[..20], [5_000; 20]);
        assert_eq!((taken[20], taken[21]), (5_010, 5_020));
        assert_eq!(taken.len(), 219);
        assert!(taken.windows(121).all(|window| window[120] - window[0] >= 1_000));
        // Quiet fills it again, and no further.
        assert_eq!((0..100).filter(|_| limiter.take(60_000)).count(), 20);
        assert_eq!(limiter.next_at_ms(), 60_010);
    }
}
