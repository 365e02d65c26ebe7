//! Exponential backoff: 100 ms doubling to 30 s, each wait up to 20 % shorter or longer.

/// The first wait, before jitter, in milliseconds.
pub const FIRST_MS: u64 = 100;
/// The longest wait, in milliseconds.
pub const LONGEST_MS: u64 = 30_000;
/// How far a wait is moved at random, in percent of it.
pub const JITTER_PERCENT: u64 = 20;

const _: () = assert!(FIRST_MS < LONGEST_MS && JITTER_PERCENT < 100);

/// How long to wait between attempts that fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The next wait before jitter.
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next_ms: FIRST_MS }
    }
}

impl Backoff {
    /// The wait after one more failure, in milliseconds; at most [`LONGEST_MS`]. `random` is any number.
    #[must_use]
    pub fn next(&mut self, random: u64) -> u64 {
        let wait_ms = self.next_ms;
        self.next_ms = (wait_ms * 2).min(LONGEST_MS);
        let reach_ms = wait_ms * JITTER_PERCENT / 100;
        (wait_ms - reach_ms + random % (2 * reach_ms + 1)).min(LONGEST_MS)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.next_ms = FIRST_MS;
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        assert!((FIRST_MS..=LONGEST_MS).contains(&self.next_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EXACT: [u64; 11] = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000];

    proptest! {
        #[test]
        fn waits_double_within_their_jitter(randoms in prop::array::uniform11(any::<u64>())) {
            let mut backoff = Backoff::default();
            for (exact, random) in EXACT.into_iter().zip(randoms) {
                let wait = backoff.next(random);
                prop_assert!(wait >= exact * 80 / 100 && wait <= (exact * 120 / 100).min(LONGEST_MS));
                backoff.check();
            }
            backoff.reset();
            prop_assert_eq!(backoff, Backoff::default());
        }
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let waits: Vec<u64> = (0..1_000).map(|random| Backoff::default().next(random)).collect();
        assert_eq!((waits.iter().min(), waits.iter().max()), (Some(&80), Some(&120)));
    }
}
