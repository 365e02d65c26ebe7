//! What the threads of a benchmark count, and when they count it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// Due times of one connection's requests in an open loop. They are known before the run, so nobody needs to
/// tell the reader when a request was due.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// When the first request is due, in the monotonic clock.
    pub start_ns: u64,
    /// From one request to the next.
    pub interval_ns: f64,
}

impl Pace {
    /// When request `index` is due.
    pub fn due_ns(&self, index: u64) -> u64 {
        self.start_ns + (index as f64 * self.interval_ns) as u64
    }

    /// How many requests are due before `end_ns`.
    pub fn count_before(&self, end_ns: u64) -> u64 {
        let span = end_ns.saturating_sub(self.start_ns) as f64;
        let mut count = (span / self.interval_ns).ceil() as u64;
        // Rounding in the division may be off by one against `due_ns`, which decides.
        while count > 0 && self.due_ns(count - 1) >= end_ns {
            count -= 1;
        }
        while self.due_ns(count) < end_ns {
            count += 1;
        }
        count
    }
}

/// The time that is measured: what is due in it has its latency counted, what is answered in it counts for
/// throughput.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// First instant.
    pub from_ns: u64,
    /// First instant behind it.
    pub to_ns: u64,
}

impl Window {
    fn holds(&self, at_ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&at_ns)
    }
}

/// Counters of one thread, read by the main thread while it runs.
pub struct Stats {
    window: Window,
    latency: Mutex<Histogram<u64>>,
    requests: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    unanswered: AtomicU64,
    first_error: Mutex<Option<String>>,
}

/// Counts of one thread or of all.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Counts {
    /// Requests answered without error within the window.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of the batches in them.
    pub bytes: u64,
    /// Requests answered with an error, at any time.
    pub errors: u64,
    /// Requests due in the window that were never answered, at any time.
    pub unanswered: u64,
    /// What the first error was.
    pub first_error: Option<String>,
}

/// Latencies in nanoseconds, three digits, from 100 ns.
pub fn new_histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(100, 3_600_000_000_000, 3).expect("the bounds are valid");
    histogram.auto(true);
    histogram
}

impl Stats {
    /// Nothing counted yet.
    pub fn new(window: Window) -> Stats {
        Stats {
            window,
            latency: Mutex::new(new_histogram()),
            requests: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            first_error: Mutex::new(None),
        }
    }

    /// A request that was due at `due_ns` was answered well at `now_ns`.
    pub fn answered(&self, due_ns: u64, now_ns: u64, records: u64, bytes: u64) {
        if self.window.holds(now_ns) {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.records.fetch_add(records, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.latency(due_ns, now_ns);
    }

    /// A request failed.
    pub fn failed(&self, what: impl FnOnce() -> String) {
        if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
            *self.first_error.lock().expect("no thread panics with the lock") = Some(what());
        }
    }

    /// Nobody waits any longer for a request: it took at least until now.
    pub fn gave_up(&self, due_ns: u64, now_ns: u64) {
        if self.window.holds(due_ns) {
            self.unanswered.fetch_add(1, Ordering::Relaxed);
        }
        self.latency(due_ns, now_ns);
    }

    fn latency(&self, due_ns: u64, now_ns: u64) {
        if self.window.holds(due_ns) {
            let mut histogram = self.latency.lock().expect("no thread panics with the lock");
            histogram.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    /// What is counted by now.
    pub fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            first_error: self.first_error.lock().expect("no thread panics with the lock").clone(),
        }
    }

    /// Moves the latencies recorded since the last call into `into`.
    pub fn drain_latency(&self, into: &mut Histogram<u64>) {
        let mut histogram = self.latency.lock().expect("no thread panics with the lock");
        into.add(&*histogram).expect("both grow as needed");
        histogram.reset();
    }
}

impl Counts {
    /// The counts of all threads.
    pub fn sum(all: impl IntoIterator<Item = Counts>) -> Counts {
        all.into_iter().fold(Counts::default(), |sum, one| Counts {
            requests: sum.requests + one.requests,
            records: sum.records + one.records,
            bytes: sum.bytes + one.bytes,
            errors: sum.errors + one.errors,
            unanswered: sum.unanswered + one.unanswered,
            first_error: sum.first_error.or(one.first_error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Window = Window { from_ns: 1_000_000, to_ns: 2_000_000 };

    #[test]
    fn a_stall_counts_against_every_request_that_was_due_in_it() {
        // Ten requests a window, one every 100 us; the broker answers all of them at its end.
        let stats = Stats::new(WINDOW);
        let pace = Pace { start_ns: WINDOW.from_ns, interval_ns: 100_000.0 };
        for index in 0..pace.count_before(WINDOW.to_ns) {
            stats.answered(pace.due_ns(index), 1_999_999, 1, 1);
        }
        let mut histogram = new_histogram();
        stats.drain_latency(&mut histogram);
        assert_eq!(histogram.len(), 10);
        // A generator that waits for each answer would have seen one slow request; half of them are.
        assert!((490_000..=510_000).contains(&histogram.value_at_quantile(0.5)), "{histogram:?}");
        assert!(histogram.max() >= 999_000);
    }

    #[test]
    fn warm_up_and_drain_are_not_measured() {
        let stats = Stats::new(WINDOW);
        stats.answered(0, 999_999, 1, 1);
        stats.answered(999_999, 1_000_000, 1, 10);
        stats.answered(1_999_999, 5_000_000, 1, 100);
        stats.answered(2_000_000, 5_000_000, 1, 1_000);
        let counts = stats.counts();
        assert_eq!((counts.requests, counts.bytes), (1, 10), "throughput counts by the answer");
        let mut histogram = new_histogram();
        stats.drain_latency(&mut histogram);
        assert_eq!(histogram.len(), 1, "latency counts by the due time");
        assert!(histogram.max() >= 3_000_000);
    }

    #[test]
    fn what_was_never_answered_is_in_the_percentiles() {
        let stats = Stats::new(WINDOW);
        stats.gave_up(1_500_000, 31_500_000);
        stats.gave_up(2_500_000, 31_500_000);
        stats.failed(|| "first".into());
        stats.failed(|| "second".into());
        let counts = Counts::sum([stats.counts(), Counts::default()]);
        assert_eq!((counts.unanswered, counts.errors, counts.first_error.as_deref()), (1, 2, Some("first")));
        let mut histogram = new_histogram();
        stats.drain_latency(&mut histogram);
        assert!(histogram.len() == 1 && histogram.max() >= 29_000_000);
    }

    proptest! {
        #[test]
        fn the_count_agrees_with_the_due_times(start in 0u64..1 << 40, span in 0u64..10_000_000_000,
            interval in 500.0f64..1e9) {
            let pace = Pace { start_ns: start, interval_ns: interval };
            let count = pace.count_before(start + span);
            prop_assert!(count == 0 || pace.due_ns(count - 1) < start + span);
            prop_assert!(pace.due_ns(count) >= start + span);
        }
    }
}
