//! Counters and gauges of a shard, and their text form for Prometheus (OpenMetrics 1.0).
//!
//! Each shard owns one [`ShardCounters`] and is its only writer; the HTTP threads read it at any time. So an
//! increment is a plain load and store, without a locked instruction, and no two shards share a cache line.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Media type of what [`Metrics::encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number that only grows while the process lives. One thread writes it, any may read it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard's thread may call this: two writers would lose counts.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one; see [`Counter::add`].
    pub fn increment(&self) {
        self.add(1);
    }

    /// Takes over a total that is counted elsewhere (by the kernel, or by a machine); see [`Counter::add`].
    pub fn set_total(&self, total: u64) {
        self.0.store(total, Ordering::Relaxed);
    }

    /// The count.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down. One thread writes it, any may read it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value last set.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl EncodeMetric for Counter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let no_exemplar: Option<&Exemplar<NoLabelSet, u64>> = None;
        encoder.encode_counter(&self.get(), no_exemplar)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl EncodeMetric for Gauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.get())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

macro_rules! shard_counters {
    ($($name:ident: $kind:ident = $help:literal,)*) => {
        /// What one shard counts. In Prometheus `ringlog_<field>` with the label `shard`, counters ending in
        /// `_total`.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardCounters {
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl ShardCounters {
            fn encode_all(shards: &[Arc<ShardCounters>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
                $(encode_family(encoder, stringify!($name), $help, shards, |shard| &shard.$name)?;)*
                Ok(())
            }
        }
    };
}

shard_counters! {
    connections: Gauge = "Client connections open.",
    connections_accepted: Counter = "Client connections accepted.",
    malformed_frames: Counter = "Client connections closed because of a frame that is no valid request.",
    requests: Counter = "Requests of clients, of every kind.",
    requests_forwarded: Counter = "Requests, or parts of one, sent to another shard.",
    produce_requests: Counter = "Produce requests.",
    produce_bytes: Counter = "Bytes of record batches accepted.",
    produce_records: Counter = "Records accepted.",
    fetch_requests: Counter = "Fetch requests.",
    fetch_bytes: Counter = "Bytes of records answered to fetch requests.",
    fetch_sessions: Gauge = "Incremental fetch sessions held.",
    fetch_sessions_evicted: Counter = "Incremental fetch sessions evicted to make room for others.",
    budget_produce_bytes: Gauge = "Memory held for produce requests.",
    budget_responses_bytes: Gauge = "Memory held for responses.",
    budget_requests_bytes: Gauge = "Memory held for other requests.",
    budget_waits: Counter = "Times that a connection waited for memory.",
    partitions: Gauge = "Partitions owned.",
    wal_commits: Counter = "Commits of the write-ahead log.",
    wal_bytes: Counter = "Bytes written to the write-ahead log.",
    wal_used_bytes: Gauge = "Bytes of the write-ahead log that no checkpoint covers.",
    tail_memory_bytes: Gauge = "Memory held by tail chunks.",
    interruptions_useful: Counter = "Interruptions by the watchdog that found the executor asleep with work to do.",
    major_faults: Counter = "Major page faults of the thread; each stopped all of its partitions.",
}

fn encode_family<'a, M: EncodeMetric + 'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    shards: &'a [Arc<ShardCounters>],
    field: impl Fn(&'a ShardCounters) -> &'a M,
) -> fmt::Result {
    let Some(first) = shards.first() else { return Ok(()) };
    // The encoder adds the full stop itself.
    let help = help.trim_end_matches('.');
    let mut family =
        encoder.encode_descriptor(name, &format!("{help}."), None, field(first).metric_type())?;
    for (index, shard) in shards.iter().enumerate() {
        field(shard).encode(family.encode_family(&[("shard", index.to_string())])?)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Shards(Vec<Arc<ShardCounters>>);

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        ShardCounters::encode_all(&self.0, &mut encoder)
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// Metrics over the counters of all shards, in the order of the shards.
    #[must_use]
    pub fn new(shards: Vec<Arc<ShardCounters>>) -> Self {
        let mut registry = Registry::with_prefix("ringlog");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "What this is", build);
        registry.register_collector(Box::new(Shards(shards)));
        Self { registry }
    }

    /// The text of `/metrics`, see [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_help_type_and_a_line_for_each_shard() {
        let shards = [Arc::new(ShardCounters::default()), Arc::new(ShardCounters::default())];
        let metrics = Metrics::new(shards.to_vec());
        shards[0].produce_requests.increment();
        shards[1].produce_requests.add(41);
        shards[1].connections.set(3);
        let text = metrics.encode();
        for line in [
            "# HELP ringlog_produce_requests Produce requests.",
            "# TYPE ringlog_produce_requests counter",
            "ringlog_produce_requests_total{shard=\"0\"} 1",
            "ringlog_produce_requests_total{shard=\"1\"} 41",
            "# TYPE ringlog_connections gauge",
            "ringlog_connections{shard=\"1\"} 3",
            concat!("ringlog_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_family_is_named_once() {
        let text = Metrics::new(vec![Arc::new(ShardCounters::default())]).encode();
        let mut names: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(all > 20);
        assert_eq!(names.len(), all);
    }

    #[test]
    fn counters_of_shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardCounters>(), 128);
        assert_eq!(size_of::<ShardCounters>() % 128, 0);
    }

    #[test]
    fn totals_counted_elsewhere_are_taken_over() {
        let counter = Counter::default();
        counter.set_total(7);
        counter.increment();
        assert_eq!(counter.get(), 8);
    }
}
