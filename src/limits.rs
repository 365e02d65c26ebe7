//! Named limits of the broker. Every queue, map, batch and in-flight count has its maximum here, and the
//! limits prove each other with `const` asserts.

/// Largest number of partitions that one CreateTopics or CreatePartitions command may make.
pub const PARTITIONS_PER_COMMAND_MAX: usize = 100_000;
/// Largest number of partitions of one topic.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;
/// Longest topic name (Kafka: 249, so that the folder name fits 255 bytes).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Longest metadata text with an offset commit by default (`offset.metadata.max.bytes`).
pub const OFFSET_METADATA_BYTES_MAX: usize = 4096;
/// Largest `max.message.bytes`: a batch is one frame of the write-ahead log.
pub const MESSAGE_BYTES_MAX: i64 = 32 << 20;
/// Producer ids handed out in one durable block (Kafka: 1,000).
pub const PRODUCER_ID_BLOCK: i64 = 1000;

const _: () = assert!(PARTITIONS_PER_TOPIC_MAX as usize <= PARTITIONS_PER_COMMAND_MAX);
const _: () = assert!(MESSAGE_BYTES_MAX + 4096 <= ringlog_storage::wal::writer::FRAME_BYTES_MAX as i64);
