//! Circuit breaker of a peer: after 5 failures in a row nobody tries it any more but for a probe now and then.

/// Failures in a row that open it.
pub const FAILURES: u32 = 5;
/// Between two probes while it is open, at most, in milliseconds.
pub const PROBE_MS: u64 = 30_000;
/// The same where much depends on the peer: between voters, and from a follower (of a partition, or of the metadata)
/// to a leader it must fetch from.
pub const URGENT_PROBE_MS: u64 = 5_000;
/// Probes come up to so many percent earlier, at random, so that those of many brokers do not fall together.
const EARLIER_PERCENT: u64 = 10;

const _: () = assert!(URGENT_PROBE_MS < PROBE_MS);

/// Counts failures in a row. What it is about (inbound contact, a registration, an unfencing) its owner knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    failures: u32,
}

impl Breaker {
    /// Counts a failure, and says whether it opened the breaker.
    pub fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures == FAILURES
    }

    /// Closes it: an attempt succeeded, or the peer was heard of in another way. Says whether it was open.
    pub fn close(&mut self) -> bool {
        std::mem::take(&mut self.failures) >= FAILURES
    }

    /// Whether the peer is given up for the moment.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.failures >= FAILURES
    }
}

/// The longest that an attempt follows the one before, in milliseconds, whatever failed.
#[must_use]
pub fn probe_ms(urgent: bool) -> u64 {
    if urgent { URGENT_PROBE_MS } else { PROBE_MS }
}

/// When the next probe follows the start of the last attempt, in milliseconds. `random` is any number.
#[must_use]
pub fn probe_after_ms(urgent: bool, random: u64) -> u64 {
    let longest_ms = probe_ms(urgent);
    longest_ms - random % (longest_ms * EARLIER_PERCENT / 100 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES - 1 {
            assert!(!breaker.failed() && !breaker.is_open());
        }
        assert!(!breaker.close(), "it was not open");
        for _ in 0..FAILURES - 1 {
            assert!(!breaker.failed() && !breaker.is_open());
        }
        assert!(breaker.failed() && breaker.is_open());
        assert!(!breaker.failed() && breaker.is_open(), "it opens once");
        assert!(breaker.close() && !breaker.is_open());
    }

    #[test]
    fn probes_come_in_time_and_not_together() {
        for (urgent, longest) in [(true, 5_000), (false, 30_000)] {
            let waits: Vec<u64> = (0..longest).map(|random| probe_after_ms(urgent, random)).collect();
            assert_eq!(waits.iter().max(), Some(&longest));
            assert_eq!(waits.iter().min(), Some(&(longest * 9 / 10)));
        }
    }
}
