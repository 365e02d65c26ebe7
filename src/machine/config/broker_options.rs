//! The broker options: those of Kafka's that Ringlog heeds, under Kafka's names and with Kafka's defaults unless
//! the documentation says otherwise, and Ringlog's own.

use super::option::{Check, Kind, OptionDef, Unit};
use super::topic_options::{CLEANUP_POLICIES, COMPRESSION_TYPES, DURABILITIES, TIMESTAMP_TYPES};
use crate::limits::MESSAGE_BYTES_MAX;
use Kind::{Boolean, Double, Int, List, Long, String};
use Unit::{Bytes, Hours, Milliseconds, Minutes};

const fn new(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> OptionDef {
    OptionDef::new(name, kind, default, doc)
}

/// Every broker option, by subject.
pub const BROKER_OPTIONS: &[OptionDef] = &[
    // Who this broker is.
    new("node.id", Int, "1", "Number of this broker in its cluster.").at_least(0),
    new("broker.id", Int, "1", "The same as node.id, for tools that ask for the older name.").at_least(0),
    new("broker.rack", String, "", "Rack of this broker: replicas are spread over racks.").null(),
    new("process.roles", List, "broker,controller", "What this process does.")
        .check(Check::EachOf(&["broker", "controller"])),
    new("listeners", List, "PLAINTEXT://127.0.0.1:9092", "Where clients connect."),
    new("advertised.listeners", List, "", "What clients are told to connect to; without it, the listeners.").null(),
    new("log.dirs", List, "./ringlog-data", "The data folder."),
    // Topics.
    new("auto.create.topics.enable", Boolean, "true", "Whether asking for a topic that does not exist creates it."),
    new("delete.topic.enable", Boolean, "true", "Whether topics can be deleted."),
    new("num.partitions", Int, "1", "Partitions of a topic that is created without saying how many.").at_least(1),
    new(
        "default.replication.factor",
        Int,
        "1",
        "Replicas of a topic that is created without saying how many.",
    )
    .check(Check::Between(1, 32_767)),
    new("min.insync.replicas", Int, "1", "Default of the topic option of this name.").at_least(1).dynamic(),
    new("unclean.leader.election.enable", Boolean, "false", "Default of the topic option of this name.").dynamic(),
    // The log: defaults of topic options.
    new("compression.type", String, "producer", "Default of the topic option of this name.")
        .one_of(COMPRESSION_TYPES)
        .dynamic(),
    new("compression.gzip.level", Int, "-1", "Default of the topic option of this name.")
        .check(Check::GzipLevel)
        .dynamic(),
    new("compression.lz4.level", Int, "9", "Default of the topic option of this name.")
        .check(Check::Between(1, 17))
        .dynamic(),
    new("compression.zstd.level", Int, "3", "Default of the topic option of this name.")
        .check(Check::Between(-131_072, 22))
        .dynamic(),
    new("log.cleaner.delete.retention.ms", Long, "86400000", "Default of delete.retention.ms.")
        .unit(Milliseconds)
        .at_least(0)
        .dynamic(),
    new("log.cleaner.max.compaction.lag.ms", Long, "9223372036854775807", "Default of max.compaction.lag.ms.")
        .unit(Milliseconds)
        .at_least(1)
        .dynamic(),
    new("log.cleaner.min.cleanable.ratio", Double, "0.5", "Default of min.cleanable.dirty.ratio.")
        .check(Check::Between(0, 1))
        .dynamic(),
    new("log.cleaner.min.compaction.lag.ms", Long, "0", "Default of min.compaction.lag.ms.")
        .unit(Milliseconds)
        .at_least(0)
        .dynamic(),
    new("log.cleanup.policy", List, "delete", "Default of cleanup.policy.")
        .check(Check::EachOf(CLEANUP_POLICIES))
        .dynamic(),
    new("log.flush.interval.messages", Long, "9223372036854775807", "Default of flush.messages.")
        .at_least(1)
        .dynamic(),
    new("log.flush.interval.ms", Long, "", "Default of flush.ms.").null().unit(Milliseconds).at_least(0).dynamic(),
    new(
        "log.flush.scheduler.interval.ms",
        Long,
        "9223372036854775807",
        "Default of flush.ms where log.flush.interval.ms is not set.",
    )
    .unit(Milliseconds)
    .at_least(0),
    new("log.index.interval.bytes", Int, "4096", "Default of index.interval.bytes.")
        .unit(Bytes)
        .at_least(0)
        .dynamic(),
    new("log.index.size.max.bytes", Int, "10485760", "Default of segment.index.bytes.")
        .unit(Bytes)
        .at_least(4)
        .dynamic(),
    new(
        "log.message.timestamp.after.max.ms",
        Long,
        "3600000",
        "Default of message.timestamp.after.max.ms.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .dynamic(),
    new(
        "log.message.timestamp.before.max.ms",
        Long,
        "9223372036854775807",
        "Default of message.timestamp.before.max.ms.",
    )
    .unit(Milliseconds)
    .at_least(0)
    .dynamic(),
    new("log.message.timestamp.type", String, "CreateTime", "Default of message.timestamp.type.")
        .one_of(TIMESTAMP_TYPES)
        .dynamic(),
    new("log.preallocate", Boolean, "false", "Default of preallocate.").dynamic(),
    new("log.retention.bytes", Long, "-1", "Default of retention.bytes.").unit(Bytes).dynamic(),
    new("log.retention.check.interval.ms", Long, "300000", "Time between two looks for segments to delete.")
        .unit(Milliseconds)
        .at_least(1),
    new("log.retention.hours", Int, "168", "Default of retention.ms, in hours.").unit(Hours),
    new("log.retention.minutes", Int, "", "Default of retention.ms, in minutes; before the hours.")
        .null()
        .unit(Minutes),
    new("log.retention.ms", Long, "", "Default of retention.ms; before the minutes and hours.")
        .null()
        .unit(Milliseconds)
        .dynamic(),
    new("log.roll.hours", Int, "168", "Default of segment.ms, in hours.").unit(Hours).at_least(1),
    new("log.roll.jitter.hours", Int, "0", "Default of segment.jitter.ms, in hours.").unit(Hours).at_least(0),
    new("log.roll.jitter.ms", Long, "", "Default of segment.jitter.ms; before the hours.")
        .null()
        .unit(Milliseconds)
        .at_least(0)
        .dynamic(),
    new("log.roll.ms", Long, "", "Default of segment.ms; before the hours.")
        .null()
        .unit(Milliseconds)
        .at_least(1)
        .dynamic(),
    new("log.segment.bytes", Int, "1073741824", "Default of segment.bytes.")
        .unit(Bytes)
        .at_least(1024 * 1024)
        .dynamic(),
    new("log.segment.delete.delay.ms", Long, "60000", "Default of file.delete.delay.ms.")
        .unit(Milliseconds)
        .at_least(0)
        .dynamic(),
    new("message.max.bytes", Int, "1048588", "Default of max.message.bytes.").unit(Bytes).between(0, MESSAGE_BYTES_MAX).dynamic(),
    new("ringlog.durability", String, "commit", "Default of the topic option of this name.")
        .one_of(DURABILITIES)
        .dynamic(),
    // Connections and requests.
    new("socket.request.max.bytes", Int, "104857600", "Largest request; a larger one closes the connection.")
        .unit(Bytes)
        .at_least(1),
    new(
        "ringlog.request.max.bytes",
        Int,
        "8388608",
        "Largest request of the kinds that carry no records; a larger one closes the connection.",
    )
    .unit(Bytes)
    .at_least(65_536),
    new("max.connections", Int, "2147483647", "Most connections of clients; a further one is closed at once.")
        .at_least(0)
        .dynamic(),
    new("max.connections.per.ip", Int, "2147483647", "Most connections of clients from one address.")
        .at_least(0)
        .dynamic(),
    new("connections.max.idle.ms", Long, "600000", "A connection without a request for this long is closed.")
        .unit(Milliseconds),
    new(
        "ringlog.client.write.timeout.ms",
        Long,
        "30000",
        "A client that reads nothing of its answers for this long is closed.",
    )
    .unit(Milliseconds)
    .at_least(1),
    new(
        "ringlog.connection.requests.max",
        Int,
        "256",
        "Requests of one connection in work; beyond it, no more is read from it.",
    )
    .check(Check::Between(1, 65_536)),
    new(
        "ringlog.connection.response.bytes.max",
        Int,
        "67108864",
        "Bytes of answers that one connection has not taken yet; beyond it, no more requests are read from it.",
    )
    .unit(Bytes)
    .at_least(65_536),
    new(
        "max.incremental.fetch.session.cache.slots",
        Int,
        "1000",
        "Fetch sessions kept; beyond it, the oldest unused one makes room.",
    )
    .at_least(0),
    new("fetch.max.bytes", Int, "57671680", "Most bytes that one Fetch answer carries, whatever the client allows.")
        .unit(Bytes)
        .at_least(1024),
    // Memory and the write-ahead log of each shard.
    new(
        "ringlog.memory.bytes",
        Long,
        "268435456",
        "Memory of each shard for recent records: what consumers read without touching the disk.",
    )
    .unit(Bytes)
    .at_least(16 * 1024 * 1024),
    new(
        "ringlog.budget.produce.bytes",
        Long,
        "134217728",
        "Bytes of produce requests in work on each shard; beyond it, producers' sockets are not read.",
    )
    .unit(Bytes)
    .at_least(1024 * 1024),
    new(
        "ringlog.budget.response.bytes",
        Long,
        "134217728",
        "Bytes of answers not yet sent on each shard; beyond it, fetches wait.",
    )
    .unit(Bytes)
    .at_least(1024 * 1024),
    new(
        "ringlog.budget.peer.bytes",
        Long,
        "67108864",
        "Bytes of requests between brokers in work on each shard, kept apart from what producers may take.",
    )
    .unit(Bytes)
    .at_least(1024 * 1024),
    new(
        "ringlog.budget.request.bytes",
        Long,
        "33554432",
        "Bytes of group and metadata requests in work on each shard, kept apart from what producers may take.",
    )
    .unit(Bytes)
    .at_least(1024 * 1024),
    new(
        "wal.max.bytes",
        Long,
        "1073741824",
        "Largest write-ahead log of each shard. It bounds the time of recovery; produce waits when it is full.",
    )
    .unit(Bytes)
    .at_least(16 * 1024 * 1024),
    new("wal.commits.in.flight", Int, "4", "Commits of a shard's write-ahead log that may be on their way at once.")
        .check(Check::Between(1, 64)),
    // Idempotent producers.
    new(
        "producer.id.expiration.ms",
        Int,
        "86400000",
        "A producer's sequence state is forgotten when its last record, by the record's timestamp, is this old.",
    )
    .unit(Milliseconds)
    .at_least(1)
    .dynamic(),
    // Groups and their offsets.
    new(
        "group.initial.rebalance.delay.ms",
        Int,
        "3000",
        "How long the first rebalance of an empty group waits for more members.",
    )
    .unit(Milliseconds)
    .at_least(0),
    new("group.min.session.timeout.ms", Int, "6000", "Shortest session timeout that a member may ask for.")
        .unit(Milliseconds)
        .at_least(0),
    new("group.max.session.timeout.ms", Int, "1800000", "Longest session timeout that a member may ask for.")
        .unit(Milliseconds)
        .at_least(0),
    new("group.max.size", Int, "2147483647", "Most members of a group.").at_least(1),
    new("offset.metadata.max.bytes", Int, "4096", "Longest metadata text with an offset commit.")
        .unit(Bytes)
        .at_least(0),
    new("offsets.commit.timeout.ms", Int, "5000", "An offset commit that is not durable by then is refused.")
        .unit(Milliseconds)
        .at_least(1),
    new(
        "offsets.retention.check.interval.ms",
        Long,
        "600000",
        "Time between two looks for expired offsets.",
    )
    .unit(Milliseconds)
    .at_least(1),
    new("offsets.retention.minutes", Int, "10080", "How long the offsets of an empty group are kept.")
        .unit(Minutes)
        .at_least(1),
    new("offsets.topic.num.partitions", Int, "50", "Partitions of __consumer_offsets; never change it later.")
        .at_least(1),
    new(
        "offsets.topic.replication.factor",
        Int,
        "1",
        "Replicas of __consumer_offsets. Kafka's default is 3, which a single broker cannot give.",
    )
    .check(Check::Between(1, 32_767)),
    new("offsets.topic.segment.bytes", Int, "104857600", "segment.bytes of __consumer_offsets.")
        .unit(Bytes)
        .at_least(1024 * 1024),
];
