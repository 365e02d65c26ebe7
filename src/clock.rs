//! The one place that reads a clock. Everything else takes time as an argument.
#![allow(clippy::disallowed_methods)]

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since 1970 by the wall clock. May jump; used for record timestamps and retention only.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Microseconds since the process started, monotone.
pub fn monotonic_us() -> u64 {
    START.elapsed().as_micros() as u64
}

/// Milliseconds since the process started, monotone. Deadlines are in this clock.
pub fn monotonic_ms() -> u64 {
    START.elapsed().as_millis() as u64
}

/// Nanoseconds since the process started, monotone. For the load generator and histograms.
pub fn monotonic_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// Blocks the thread until [`monotonic_ns`] reaches `deadline_ns`; returns at once when it has.
pub fn sleep_until_ns(deadline_ns: u64) {
    let now = monotonic_ns();
    if deadline_ns > now {
        thread::sleep(Duration::from_nanos(deadline_ns - now));
    }
}
