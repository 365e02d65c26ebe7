//! The topic options: Kafka 4's, under Kafka's names and with Kafka's defaults, and Ringlog's own.

use super::option::{Check, Kind, OptionDef, Unit};
use crate::limits::MESSAGE_BYTES_MAX;
use Kind::{Boolean, Double, Int, List, Long, String};
use Unit::{Bytes, Milliseconds};

pub(super) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const DURABILITIES: &[&str] = &["commit", "async"];

const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> OptionDef {
    OptionDef::new(name, kind, default, doc).dynamic()
}

/// Every topic option, by name.
pub const TOPIC_OPTIONS: &[OptionDef] = &[
    new(
        "cleanup.policy",
        List,
        "delete",
        "What happens to old records: \"delete\" drops whole segments by time and size, \"compact\" keeps the \
         latest record of every key. Both may be given; none keeps everything. Until log compaction exists a \
         compacted topic keeps every record.",
    )
    .check(Check::EachOf(CLEANUP_POLICIES))
    .synonym("log.cleanup.policy"),
    new(
        "compression.gzip.level",
        Int,
        "-1",
        "Level used when the broker compresses with gzip; -1 is the codec's own default.",
    )
    .check(Check::GzipLevel)
    .synonym("compression.gzip.level"),
    new("compression.lz4.level", Int, "9", "Level used when the broker compresses with lz4.")
        .check(Check::Between(1, 17))
        .synonym("compression.lz4.level"),
    new(
        "compression.type",
        String,
        "producer",
        "Codec that batches are stored with. \"producer\" keeps them as the producer sent them and is the fast \
         path; any other value recompresses batches that came with another codec.",
    )
    .one_of(COMPRESSION_TYPES)
    .synonym("compression.type"),
    new("compression.zstd.level", Int, "3", "Level used when the broker compresses with zstd.")
        .check(Check::Between(-131_072, 22))
        .synonym("compression.zstd.level"),
    new(
        "delete.retention.ms",
        Long,
        "86400000",
        "How long a compacted topic keeps the marker of a deleted key, so that readers from the start see it.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .synonym("log.cleaner.delete.retention.ms"),
    new(
        "file.delete.delay.ms",
        Long,
        "60000",
        "How long Kafka keeps a file on the disk after it was taken out of the log, for those who still read it. \
         Accepted for compatibility: Ringlog removes it at once, and who reads it keeps it until they are done.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .synonym("log.segment.delete.delay.ms"),
    new(
        "flush.messages",
        Long,
        "9223372036854775807",
        "Records after which Kafka would sync the log. Accepted for compatibility: with \
         ringlog.durability=commit every record is synced before it is acknowledged.",
    )
    .at_least(1)
    .synonym("log.flush.interval.messages"),
    new(
        "flush.ms",
        Long,
        "9223372036854775807",
        "With ringlog.durability=async: by how much the disk may be behind. Records are written at once; while one \
         of the partition that is this old is not synced, further ones are acknowledged only once they are. 0 is as \
         ringlog.durability=commit for producers. With ringlog.durability=commit it has no effect.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .synonym("log.flush.interval.ms"),
    new(
        "follower.replication.throttled.replicas",
        List,
        "",
        "Replicas whose replication is throttled on the follower: partition:broker pairs, or * for all.",
    )
    .check(Check::ThrottledReplicas),
    new("index.interval.bytes", Int, "4096", "Bytes of log between two entries of the offset index.")
        .unit(Bytes)
        .at_least(0)
        .synonym("log.index.interval.bytes"),
    new(
        "leader.replication.throttled.replicas",
        List,
        "",
        "Replicas whose replication is throttled on the leader: partition:broker pairs, or * for all.",
    )
    .check(Check::ThrottledReplicas),
    new(
        "local.retention.bytes",
        Long,
        "-2",
        "Bytes kept locally when a topic uses remote storage, which Ringlog does not have; -2 follows \
         retention.bytes.",
    )
    .unit(Bytes)
    .check(Check::OnlyDefault),
    new(
        "local.retention.ms",
        Long,
        "-2",
        "Time kept locally when a topic uses remote storage, which Ringlog does not have; -2 follows \
         retention.ms.",
    )
    .unit(Milliseconds)
    .check(Check::OnlyDefault),
    new("max.compaction.lag.ms", Long, "9223372036854775807", "Longest time a record may stay uncompacted.")
        .unit(Milliseconds)
        .at_least(1)
        .synonym("log.cleaner.max.compaction.lag.ms"),
    new(
        "max.message.bytes",
        Int,
        "1048588",
        "Largest record batch that the topic accepts, after compression and with its header.",
    )
    .unit(Bytes)
    .between(0, MESSAGE_BYTES_MAX)
    .synonym("message.max.bytes"),
    new(
        "message.timestamp.after.max.ms",
        Long,
        "3600000",
        "How far a record's timestamp may lie ahead of the broker's clock. Not looked at with LogAppendTime.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .synonym("log.message.timestamp.after.max.ms"),
    new(
        "message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "How far a record's timestamp may lie behind the broker's clock. Not looked at with LogAppendTime.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .synonym("log.message.timestamp.before.max.ms"),
    new(
        "message.timestamp.type",
        String,
        "CreateTime",
        "Whether a record carries the producer's time (CreateTime) or the broker's (LogAppendTime).",
    )
    .one_of(TIMESTAMP_TYPES)
    .synonym("log.message.timestamp.type"),
    new(
        "min.cleanable.dirty.ratio",
        Double,
        "0.5",
        "Share of uncompacted bytes at which a compacted log is worth cleaning.",
    )
    .check(Check::Between(0, 1))
    .synonym("log.cleaner.min.cleanable.ratio"),
    new("min.compaction.lag.ms", Long, "0", "Shortest time a record stays uncompacted.")
        .unit(Milliseconds)
        .at_least(0)
        .synonym("log.cleaner.min.compaction.lag.ms"),
    new(
        "min.insync.replicas",
        Int,
        "1",
        "Replicas that must hold a record before acks=all is answered. Without a setting it is 2 for three and \
         more replicas, else 1.",
    )
    .at_least(1)
    .synonym("min.insync.replicas"),
    new(
        "preallocate",
        Boolean,
        "false",
        "Accepted for compatibility: Ringlog preallocates segments in steps that grow with the rate.",
    )
    .synonym("log.preallocate"),
    new(
        "remote.storage.enable",
        Boolean,
        "false",
        "Whether segments are moved to remote storage, which Ringlog does not have.",
    )
    .check(Check::OnlyDefault),
    new("retention.bytes", Long, "-1", "Bytes that a partition keeps; -1 for no limit.")
        .unit(Bytes)
        .synonym("log.retention.bytes"),
    new("retention.ms", Long, "604800000", "How long a partition keeps records; -1 for no limit.")
        .unit(Milliseconds)
        .at_least(-1)
        .synonym("log.retention.ms"),
    new(
        "ringlog.durability",
        String,
        "commit",
        "When a record is acknowledged: \"commit\" once it is synced to the disk, \"async\" from memory, to be \
         synced soon after (flush.ms bounds it). With async a crash of the broker may take back acknowledged \
         records.",
    )
    .one_of(DURABILITIES)
    .synonym("ringlog.durability"),
    new("segment.bytes", Int, "1073741824", "Size at which a segment is closed and a new one begun.")
        .unit(Bytes)
        .at_least(1024 * 1024)
        .synonym("log.segment.bytes"),
    new(
        "segment.index.bytes",
        Int,
        "10485760",
        "Largest size of a segment's index; the segment is closed before it is larger. An entry takes 16 bytes.",
    )
        .unit(Bytes)
        .at_least(4)
        .synonym("log.index.size.max.bytes"),
    new("segment.jitter.ms", Long, "0", "Random time taken off segment.ms, so that segments do not all close at once.")
        .unit(Milliseconds)
        .at_least(0)
        .synonym("log.roll.jitter.ms"),
    new("segment.ms", Long, "604800000", "Age at which a segment is closed although it is not full.")
        .unit(Milliseconds)
        .at_least(1)
        .synonym("log.roll.ms"),
    new(
        "unclean.leader.election.enable",
        Boolean,
        "false",
        "Whether a replica that misses acknowledged records may become leader when no other is left.",
    )
    .synonym("unclean.leader.election.enable"),
];
