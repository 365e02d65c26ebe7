//! Watches a running benchmark: CPU time at the edges of the window, latencies every second into the HDR
//! log, a progress line.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use indicatif::ProgressBar;

use super::cpu;
use super::stats::{Counts, Stats, Window, new_histogram};
use crate::cli::failure::Failure;
use crate::cli::stop::Stop;
use crate::clock::{monotonic_ns, sleep_until_ns, wall_ms};

/// How often the threads are looked at.
const LOOK_NS: u64 = 20_000_000;
/// Length of an interval of the HDR log.
const INTERVAL_NS: u64 = 1_000_000_000;

/// What the watch found.
pub struct Measured {
    /// Latencies of all threads, in nanoseconds.
    pub latency: Histogram<u64>,
    /// CPU time of the broker's processes within the window, in milliseconds; none if none were named.
    pub broker_cpu_ms: Option<u64>,
    /// The same of this process.
    pub client_cpu_ms: u64,
    /// Length of the window, shorter than planned only after Ctrl-C.
    pub window_ns: u64,
}

/// What is measured, and where to.
pub struct Watch<'a> {
    /// The counters, one a thread.
    pub stats: &'a [Stats],
    /// The time that counts.
    pub window: Window,
    /// The broker's processes.
    pub broker_pids: &'a [u32],
    /// File of the HDR log.
    pub hdr: Option<&'a Path>,
    /// Asks for an early end.
    pub stop: &'a Stop,
    /// Moved along with the counts.
    pub bar: &'a ProgressBar,
}

impl Watch<'_> {
    /// Blocks until all threads have ended.
    pub fn run<T>(&self, threads: &[ScopedJoinHandle<'_, T>]) -> Result<Measured, Failure> {
        let failed = |error: io::Error| Failure::failed(format!("cannot write the HDR log: {error}"));
        let mut out: Box<dyn Write> = match self.hdr {
            Some(path) => Box::new(BufWriter::new(File::create(path).map_err(failed)?)),
            None => Box::new(io::sink()),
        };
        let mut serializer = V2DeflateSerializer::new();
        let began = UNIX_EPOCH + Duration::from_millis(wall_ms().unsigned_abs());
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("ringlog bench: nanoseconds from due to answered; the divisor gives milliseconds")
            .with_start_time(began)
            .with_base_time(began)
            .with_max_value_divisor(1e6)
            .begin_log_with(&mut out, &mut serializer)
            .map_err(failed)?;
        sleep_until_ns(self.window.from_ns);
        let before = self.cpu()?;
        let mut after = None;
        let (mut all, mut interval) = (new_histogram(), new_histogram());
        let mut interval_from = self.window.from_ns;
        loop {
            let now = monotonic_ns();
            // An open loop is done a little before its window: the rate is that of the whole window.
            let may_end = now >= self.window.to_ns || self.window.to_ns == u64::MAX || self.stop.asked();
            let ended = may_end && threads.iter().all(ScopedJoinHandle::is_finished);
            if after.is_none() && (ended || now >= self.window.to_ns) {
                after = Some((self.cpu()?, now.min(self.window.to_ns)));
            }
            if ended || now >= interval_from + INTERVAL_NS {
                self.stats.iter().for_each(|stats| stats.drain_latency(&mut interval));
                let start = Duration::from_nanos(interval_from - self.window.from_ns);
                let length = Duration::from_nanos(now.saturating_sub(interval_from));
                log.write_histogram(&interval, start, length, None)
                    .map_err(|error| Failure::failed(format!("cannot write the HDR log: {error}")))?;
                all.add(&interval).expect("both grow as needed");
                interval.reset();
                interval_from = now;
                self.show(now);
            }
            if ended {
                break;
            }
            let edge = if now < self.window.to_ns { self.window.to_ns } else { u64::MAX };
            sleep_until_ns(edge.min(now + LOOK_NS));
        }
        drop(log);
        out.flush().map_err(failed)?;
        let (after, to_ns) = after.expect("the loop ends behind the window");
        Ok(Measured {
            latency: all,
            broker_cpu_ms: after.0.zip(before.0).map(|(after, before)| after.saturating_sub(before)),
            client_cpu_ms: after.1.saturating_sub(before.1),
            window_ns: to_ns.saturating_sub(self.window.from_ns),
        })
    }

    /// CPU time of the broker and of this process.
    fn cpu(&self) -> Result<(Option<u64>, u64), Failure> {
        let broker = match self.broker_pids {
            [] => None,
            pids => Some(cpu::of_processes(pids)?),
        };
        Ok((broker, cpu::of_self()?))
    }

    fn show(&self, now_ns: u64) {
        let counts = Counts::sum(self.stats.iter().map(Stats::counts));
        let seconds = now_ns.min(self.window.to_ns).saturating_sub(self.window.from_ns) as f64 / 1e9;
        self.bar.set_position(seconds as u64);
        let mb_per_s = counts.bytes as f64 / 1e6 / seconds.max(1e-9);
        self.bar.set_message(format!("{mb_per_s:.1} MB/s, {} errors", counts.errors));
    }
}

/// Lets sleeps end within a microsecond of their time, not within the default 50: otherwise the generator's
/// own lateness would be in every open-loop latency. Threads started later inherit it.
pub fn sharpen_sleep() {
    // Where it is not permitted the latencies are up to 50 us longer, which is no reason to fail.
    let _ = fs::write("/proc/self/timerslack_ns", "1000");
}
