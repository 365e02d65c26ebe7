//! The resolved options of a topic, as plain typed fields for the data path.

use super::layers::{Layers, Settings, TopicLayers};
use super::option::split_list;

/// What happens to old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Segments are dropped by time and size.
    pub delete: bool,
    /// The latest record of each key is kept; records need keys.
    pub compact: bool,
}

/// How batches are stored (`compression.type` with the level of its codec).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    /// Not compressed.
    Uncompressed,
    /// gzip with this level; none for the codec's default.
    Gzip(Option<u32>),
    /// snappy.
    Snappy,
    /// lz4 with this level.
    Lz4(i32),
    /// zstd with this level.
    Zstd(i32),
}

/// Whose time a record carries (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's, when it appends.
    LogAppendTime,
}

/// When a record is acknowledged (`ringlog.durability`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Once it is synced to the disk.
    Commit,
    /// From memory; synced within `flush_ms`.
    Async,
}

/// The options of one topic on one broker. Sizes are bytes, times milliseconds; none means no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup_policy: CleanupPolicy,
    /// `compression.type` and the level that goes with it
    pub compression: Compression,
    /// `max.message.bytes`
    pub max_message_bytes: u32,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `retention.ms`
    pub retention_ms: Option<u64>,
    /// `retention.bytes`
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`
    pub segment_bytes: u32,
    /// `segment.ms`
    pub segment_ms: u64,
    /// `segment.jitter.ms`
    pub segment_jitter_ms: u64,
    /// `segment.index.bytes`
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`
    pub index_interval_bytes: u32,
    /// `ringlog.durability`
    pub durability: Durability,
    /// `flush.ms`; none where it is Kafka's "never" (the largest number).
    pub flush_ms: Option<u64>,
    /// `min.insync.replicas` where it is set; see [`TopicConfig::min_insync`].
    pub min_insync_replicas: Option<u32>,
    /// `unclean.leader.election.enable`
    pub unclean_leader_election: bool,
}

impl TopicConfig {
    /// Resolves a topic's own settings over those of its broker.
    #[must_use]
    pub fn resolve(topic: &Settings, broker: Layers<'_>) -> TopicConfig {
        let layers = TopicLayers { topic, broker };
        let natural = |name| u64::try_from(layers.number(name)).expect("the option is at least 0");
        let small = |name| u32::try_from(layers.number(name)).expect("the option is an Int of at least 0");
        let limit = |name| u64::try_from(layers.number(name)).ok();
        let is = |name, word| split_list(layers.word(name)).any(|each| each == word);
        TopicConfig {
            cleanup_policy: CleanupPolicy {
                delete: is("cleanup.policy", "delete"),
                compact: is("cleanup.policy", "compact"),
            },
            compression: compression(&layers),
            max_message_bytes: small("max.message.bytes"),
            timestamp_type: match layers.word("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: layers.number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: layers.number("message.timestamp.after.max.ms"),
            retention_ms: limit("retention.ms"),
            retention_bytes: limit("retention.bytes"),
            segment_bytes: small("segment.bytes"),
            segment_ms: natural("segment.ms"),
            segment_jitter_ms: natural("segment.jitter.ms"),
            segment_index_bytes: small("segment.index.bytes"),
            index_interval_bytes: small("index.interval.bytes"),
            durability: match layers.word("ringlog.durability") {
                "async" => Durability::Async,
                _ => Durability::Commit,
            },
            flush_ms: Some(natural("flush.ms")).filter(|ms| *ms != i64::MAX as u64),
            min_insync_replicas: layers.set("min.insync.replicas").map(|_| small("min.insync.replicas")),
            unclean_leader_election: layers.boolean("unclean.leader.election.enable"),
        }
    }

    /// How many in-sync replicas `acks=all` needs, for a partition with this many replicas. Without a setting that
    /// is 2 for three and more, else 1.
    #[must_use]
    pub fn min_insync(&self, replicas: usize) -> usize {
        self.min_insync_replicas.map_or(if replicas >= 3 { 2 } else { 1 }, |set| set as usize)
    }
}

fn compression(layers: &TopicLayers<'_>) -> Compression {
    let level = |name| i32::try_from(layers.number(name)).expect("levels are Ints");
    match layers.word("compression.type") {
        "uncompressed" => Compression::Uncompressed,
        "gzip" => Compression::Gzip(u32::try_from(level("compression.gzip.level")).ok()),
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4(level("compression.lz4.level")),
        "zstd" => Compression::Zstd(level("compression.zstd.level")),
        _ => Compression::Producer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(topic: &[(&str, &str)], cluster: &[(&str, &str)], file: &[(&str, &str)]) -> TopicConfig {
        let settings = |pairs: &[(&str, &str)]| -> Settings {
            pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
        };
        let (cluster, file, none) = (settings(cluster), settings(file), Settings::new());
        TopicConfig::resolve(&settings(topic), Layers { broker: &none, cluster: &cluster, file: &file })
    }

    #[test]
    fn defaults_are_kafkas() {
        let config = resolve(&[], &[], &[]);
        let week = 7 * 24 * 3600 * 1000;
        assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
        assert_eq!(config.compression, Compression::Producer);
        assert_eq!((config.retention_ms, config.retention_bytes), (Some(week), None));
        assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, week));
        assert_eq!((config.max_message_bytes, config.index_interval_bytes), (1_048_588, 4096));
        assert_eq!((config.timestamp_before_max_ms, config.timestamp_after_max_ms), (i64::MAX, 3_600_000));
        assert_eq!((config.durability, config.flush_ms), (Durability::Commit, None));
    }

    #[test]
    fn the_topic_wins_over_the_cluster_over_the_file() {
        let file =
            [("log.retention.hours", "1"), ("log.segment.bytes", "2000000"), ("compression.type", "lz4")];
        let cluster = [("log.retention.ms", "5000")];
        let config = resolve(&[], &cluster, &file);
        assert_eq!(config.retention_ms, Some(5000));
        assert_eq!(config.segment_bytes, 2_000_000);
        assert_eq!(config.compression, Compression::Lz4(9));
        let config = resolve(&[("retention.ms", "-1"), ("compression.type", "gzip")], &cluster, &file);
        assert_eq!(config.retention_ms, None);
        assert_eq!(config.compression, Compression::Gzip(None));
    }

    #[test]
    fn min_insync_without_a_setting_follows_the_factor() {
        let config = resolve(&[], &[], &[]);
        assert_eq!([1, 2, 3, 5].map(|replicas| config.min_insync(replicas)), [1, 1, 2, 2]);
        let config = resolve(&[], &[("min.insync.replicas", "1")], &[]);
        assert_eq!(config.min_insync(3), 1, "a setting counts even where it equals the default");
        assert_eq!(resolve(&[("min.insync.replicas", "3")], &[], &[]).min_insync(3), 3);
    }

    #[test]
    fn a_topic_may_be_compacted_and_deleted_or_keep_everything() {
        let policy = |text| resolve(&[("cleanup.policy", text)], &[], &[]).cleanup_policy;
        assert_eq!(policy("compact, delete"), CleanupPolicy { delete: true, compact: true });
        assert_eq!(policy(""), CleanupPolicy { delete: false, compact: false });
    }

    #[test]
    fn negative_hours_mean_no_limit() {
        assert_eq!(resolve(&[], &[], &[("log.retention.hours", "-1")]).retention_ms, None);
    }
}
