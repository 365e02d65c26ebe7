//! The skeletons of all request APIs that Ringlog serves, by ascending key.
//!
//! Fields stand in the order and under the names of Kafka's schemas
//! (`clients/src/main/resources/common/message/*Request.json`), in which null is allowed from the same versions.
//! Versions end where those of `kafka-protocol` end; a test holds both together. Adding an API is one entry here and
//! one generator in the property tests, which fail without it.

use super::schema::{
    Api, Field, NEVER, bool, bytes, i8, i8s, i16, i32, i32s, i64, str, strs, structs, structure, uuid,
};

/// Memory for requests that name topics and partitions: 100,000 topics with a partition each, or far more partitions.
const LARGE: u32 = 16 << 20;
/// Memory for requests about one group, or about configurations.
const MEDIUM: u32 = 2 << 20;
/// Memory for requests without arrays, or with very short ones.
const SMALL: u32 = 16 << 10;

/// Topics in a request, and elements of what comes one a topic.
const TOPICS_MAX: u32 = 100_000;
/// Partitions of one topic in a request.
const PARTITIONS_MAX: u32 = 100_000;
/// Groups in a request.
const GROUPS_MAX: u32 = 10_000;
/// Members of one group.
const MEMBERS_MAX: u32 = 10_000;
/// Assignors that a group member offers.
const PROTOCOLS_MAX: u32 = 100;
/// Brokers named as replicas of one partition.
const REPLICAS_MAX: u32 = 1_000;
/// Topics or brokers whose configuration is asked for or changed in one request.
const RESOURCES_MAX: u32 = 10_000;
/// Configuration keys of one resource.
const CONFIGS_MAX: u32 = 1_000;
/// Group states, group types or kinds of resources to filter by.
const FILTERS_MAX: u32 = 100;

/// The skeletons, by ascending API key.
pub(super) static APIS: [Api; 30] = [
    api(0, "Produce", 3..=13, 9, LARGE, PRODUCE),
    api(1, "Fetch", 4..=18, 12, LARGE, FETCH),
    api(2, "ListOffsets", 1..=10, 6, LARGE, LIST_OFFSETS),
    api(3, "Metadata", 0..=13, 9, LARGE, METADATA),
    api(8, "OffsetCommit", 2..=9, 8, LARGE, OFFSET_COMMIT),
    api(9, "OffsetFetch", 1..=9, 6, LARGE, OFFSET_FETCH),
    api(10, "FindCoordinator", 0..=6, 3, MEDIUM, FIND_COORDINATOR),
    api(11, "JoinGroup", 0..=9, 6, SMALL, JOIN_GROUP),
    api(12, "Heartbeat", 0..=4, 4, SMALL, HEARTBEAT),
    api(13, "LeaveGroup", 0..=5, 4, MEDIUM, LEAVE_GROUP),
    api(14, "SyncGroup", 0..=5, 4, MEDIUM, SYNC_GROUP),
    api(15, "DescribeGroups", 0..=6, 5, MEDIUM, DESCRIBE_GROUPS),
    api(16, "ListGroups", 0..=5, 3, SMALL, LIST_GROUPS),
    api(18, "ApiVersions", 0..=4, 3, SMALL, API_VERSIONS),
    api(19, "CreateTopics", 2..=7, 5, LARGE, CREATE_TOPICS),
    api(20, "DeleteTopics", 1..=6, 4, LARGE, DELETE_TOPICS),
    api(21, "DeleteRecords", 0..=2, 2, LARGE, DELETE_RECORDS),
    api(22, "InitProducerId", 0..=5, 2, SMALL, INIT_PRODUCER_ID),
    api(23, "OffsetForLeaderEpoch", 2..=4, 4, LARGE, OFFSET_FOR_LEADER_EPOCH),
    api(32, "DescribeConfigs", 1..=4, 4, MEDIUM, DESCRIBE_CONFIGS),
    api(33, "AlterConfigs", 0..=2, 2, MEDIUM, ALTER_CONFIGS),
    api(35, "DescribeLogDirs", 1..=4, 2, LARGE, DESCRIBE_LOG_DIRS),
    api(37, "CreatePartitions", 0..=3, 2, LARGE, CREATE_PARTITIONS),
    api(42, "DeleteGroups", 0..=2, 2, MEDIUM, DELETE_GROUPS),
    api(44, "IncrementalAlterConfigs", 0..=1, 1, MEDIUM, INCREMENTAL_ALTER_CONFIGS),
    api(47, "OffsetDelete", 0..=0, NEVER, LARGE, OFFSET_DELETE),
    api(60, "DescribeCluster", 0..=2, 0, SMALL, DESCRIBE_CLUSTER),
    api(61, "DescribeProducers", 0..=0, 0, LARGE, DESCRIBE_PRODUCERS),
    api(74, "ListConfigResources", 0..=1, 0, SMALL, LIST_CONFIG_RESOURCES),
    api(75, "DescribeTopicPartitions", 0..=0, 0, LARGE, DESCRIBE_TOPIC_PARTITIONS),
];

const fn api(
    key: i16,
    name: &'static str,
    versions: std::ops::RangeInclusive<i16>,
    flexible_since: i16,
    heap_bytes_max: u32,
    fields: &'static [Field],
) -> Api {
    let (min, max) = (*versions.start(), *versions.end());
    Api { key, name, min, max, flexible_since, heap_bytes_max, fields }
}

const PRODUCE: &[Field] = &[
    str("transactional_id").nullable(),
    i16("acks"),
    i32("timeout_ms"),
    structs("topic_data", TOPICS_MAX, PRODUCE_TOPIC),
];
const PRODUCE_TOPIC: &[Field] = &[
    str("name").until(12),
    uuid("topic_id").since(13),
    structs("partition_data", PARTITIONS_MAX, PRODUCE_PARTITION),
];
const PRODUCE_PARTITION: &[Field] = &[i32("index"), bytes("records").nullable()];

const FETCH: &[Field] = &[
    str("cluster_id").nullable().since(12).tagged(0),
    i32("replica_id").until(14),
    structure("replica_state", &[i32("replica_id"), i64("replica_epoch")]).since(15).tagged(1),
    i32("max_wait_ms"),
    i32("min_bytes"),
    i32("max_bytes"),
    i8("isolation_level"),
    i32("session_id").since(7),
    i32("session_epoch").since(7),
    structs("topics", TOPICS_MAX, FETCH_TOPIC),
    structs("forgotten_topics_data", TOPICS_MAX, FETCH_FORGOTTEN_TOPIC).since(7),
    str("rack_id").since(11),
];
const FETCH_TOPIC: &[Field] = &[
    str("topic").until(12),
    uuid("topic_id").since(13),
    structs("partitions", PARTITIONS_MAX, FETCH_PARTITION),
];
const FETCH_PARTITION: &[Field] = &[
    i32("partition"),
    i32("current_leader_epoch").since(9),
    i64("fetch_offset"),
    i32("last_fetched_epoch").since(12),
    i64("log_start_offset").since(5),
    i32("partition_max_bytes"),
    uuid("replica_directory_id").since(17).tagged(0),
    i64("high_watermark").since(18).tagged(1),
];
const FETCH_FORGOTTEN_TOPIC: &[Field] =
    &[str("topic").until(12), uuid("topic_id").since(13), i32s("partitions", PARTITIONS_MAX)];

const LIST_OFFSETS: &[Field] = &[
    i32("replica_id"),
    i8("isolation_level").since(2),
    structs("topics", TOPICS_MAX, LIST_OFFSETS_TOPIC),
    i32("timeout_ms").since(10),
];
const LIST_OFFSETS_TOPIC: &[Field] =
    &[str("name"), structs("partitions", PARTITIONS_MAX, LIST_OFFSETS_PARTITION)];
const LIST_OFFSETS_PARTITION: &[Field] =
    &[i32("partition_index"), i32("current_leader_epoch").since(4), i64("timestamp")];

const METADATA: &[Field] = &[
    structs("topics", TOPICS_MAX, METADATA_TOPIC).nullable_since(1),
    bool("allow_auto_topic_creation").since(4),
    bool("include_cluster_authorized_operations").since(8).until(10),
    bool("include_topic_authorized_operations").since(8),
];
const METADATA_TOPIC: &[Field] = &[uuid("topic_id").since(10), str("name").nullable_since(10)];

const OFFSET_COMMIT: &[Field] = &[
    str("group_id"),
    i32("generation_id_or_member_epoch"),
    str("member_id"),
    str("group_instance_id").nullable().since(7),
    i64("retention_time_ms").until(4),
    structs("topics", TOPICS_MAX, OFFSET_COMMIT_TOPIC),
];
const OFFSET_COMMIT_TOPIC: &[Field] = &[
    str("name").until(9),
    uuid("topic_id").since(10),
    structs("partitions", PARTITIONS_MAX, OFFSET_COMMIT_PARTITION),
];
const OFFSET_COMMIT_PARTITION: &[Field] = &[
    i32("partition_index"),
    i64("committed_offset"),
    i32("committed_leader_epoch").since(6),
    str("committed_metadata").nullable(),
];

const OFFSET_FETCH: &[Field] = &[
    str("group_id").until(7),
    structs("topics", TOPICS_MAX, OFFSET_FETCH_TOPIC).nullable_since(2).until(7),
    structs("groups", GROUPS_MAX, OFFSET_FETCH_GROUP).since(8),
    bool("require_stable").since(7),
];
const OFFSET_FETCH_GROUP: &[Field] = &[
    str("group_id"),
    str("member_id").nullable().since(9),
    i32("member_epoch").since(9),
    structs("topics", TOPICS_MAX, OFFSET_FETCH_TOPIC).nullable(),
];
const OFFSET_FETCH_TOPIC: &[Field] =
    &[str("name").until(9), uuid("topic_id").since(10), i32s("partition_indexes", PARTITIONS_MAX)];

const FIND_COORDINATOR: &[Field] =
    &[str("key").until(3), i8("key_type").since(1), strs("coordinator_keys", GROUPS_MAX).since(4)];

const JOIN_GROUP: &[Field] = &[
    str("group_id"),
    i32("session_timeout_ms"),
    i32("rebalance_timeout_ms").since(1),
    str("member_id"),
    str("group_instance_id").nullable().since(5),
    str("protocol_type"),
    structs("protocols", PROTOCOLS_MAX, &[str("name"), bytes("metadata")]),
    str("reason").nullable().since(8),
];

const HEARTBEAT: &[Field] =
    &[str("group_id"), i32("generation_id"), str("member_id"), str("group_instance_id").nullable().since(3)];

const LEAVE_GROUP: &[Field] = &[
    str("group_id"),
    str("member_id").until(2),
    structs("members", MEMBERS_MAX, LEAVE_GROUP_MEMBER).since(3),
];
const LEAVE_GROUP_MEMBER: &[Field] =
    &[str("member_id"), str("group_instance_id").nullable(), str("reason").nullable().since(5)];

const SYNC_GROUP: &[Field] = &[
    str("group_id"),
    i32("generation_id"),
    str("member_id"),
    str("group_instance_id").nullable().since(3),
    str("protocol_type").nullable().since(5),
    str("protocol_name").nullable().since(5),
    structs("assignments", MEMBERS_MAX, &[str("member_id"), bytes("assignment")]),
];

const DESCRIBE_GROUPS: &[Field] =
    &[strs("groups", GROUPS_MAX), bool("include_authorized_operations").since(3)];

const LIST_GROUPS: &[Field] =
    &[strs("states_filter", FILTERS_MAX).since(4), strs("types_filter", FILTERS_MAX).since(5)];

const API_VERSIONS: &[Field] =
    &[str("client_software_name").since(3), str("client_software_version").since(3)];

const CREATE_TOPICS: &[Field] =
    &[structs("topics", TOPICS_MAX, CREATE_TOPICS_TOPIC), i32("timeout_ms"), bool("validate_only")];
const CREATE_TOPICS_TOPIC: &[Field] = &[
    str("name"),
    i32("num_partitions"),
    i16("replication_factor"),
    structs("assignments", PARTITIONS_MAX, &[i32("partition_index"), i32s("broker_ids", REPLICAS_MAX)]),
    structs("configs", CONFIGS_MAX, &[str("name"), str("value").nullable()]),
];

const DELETE_TOPICS: &[Field] = &[
    structs("topics", TOPICS_MAX, &[str("name").nullable(), uuid("topic_id")]).since(6),
    strs("topic_names", TOPICS_MAX).until(5),
    i32("timeout_ms"),
];

const DELETE_RECORDS: &[Field] = &[structs("topics", TOPICS_MAX, DELETE_RECORDS_TOPIC), i32("timeout_ms")];
const DELETE_RECORDS_TOPIC: &[Field] =
    &[str("name"), structs("partitions", PARTITIONS_MAX, &[i32("partition_index"), i64("offset")])];

const INIT_PRODUCER_ID: &[Field] = &[
    str("transactional_id").nullable(),
    i32("transaction_timeout_ms"),
    i64("producer_id").since(3),
    i16("producer_epoch").since(3),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] =
    &[i32("replica_id").since(3), structs("topics", TOPICS_MAX, OFFSET_FOR_LEADER_EPOCH_TOPIC)];
const OFFSET_FOR_LEADER_EPOCH_TOPIC: &[Field] =
    &[str("topic"), structs("partitions", PARTITIONS_MAX, OFFSET_FOR_LEADER_EPOCH_PARTITION)];
const OFFSET_FOR_LEADER_EPOCH_PARTITION: &[Field] =
    &[i32("partition"), i32("current_leader_epoch"), i32("leader_epoch")];

const DESCRIBE_CONFIGS: &[Field] = &[
    structs("resources", RESOURCES_MAX, DESCRIBE_CONFIGS_RESOURCE),
    bool("include_synonyms"),
    bool("include_documentation").since(3),
];
const DESCRIBE_CONFIGS_RESOURCE: &[Field] =
    &[i8("resource_type"), str("resource_name"), strs("configuration_keys", CONFIGS_MAX).nullable()];

const ALTER_CONFIGS: &[Field] =
    &[structs("resources", RESOURCES_MAX, ALTER_CONFIGS_RESOURCE), bool("validate_only")];
const ALTER_CONFIGS_RESOURCE: &[Field] = &[
    i8("resource_type"),
    str("resource_name"),
    structs("configs", CONFIGS_MAX, &[str("name"), str("value").nullable()]),
];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[structs("topics", TOPICS_MAX, &[str("topic"), i32s("partitions", PARTITIONS_MAX)]).nullable()];

const CREATE_PARTITIONS: &[Field] =
    &[structs("topics", TOPICS_MAX, CREATE_PARTITIONS_TOPIC), i32("timeout_ms"), bool("validate_only")];
const CREATE_PARTITIONS_TOPIC: &[Field] = &[
    str("name"),
    i32("count"),
    structs("assignments", PARTITIONS_MAX, &[i32s("broker_ids", REPLICAS_MAX)]).nullable(),
];

const DELETE_GROUPS: &[Field] = &[strs("groups_names", GROUPS_MAX)];

const INCREMENTAL_ALTER_CONFIGS: &[Field] =
    &[structs("resources", RESOURCES_MAX, INCREMENTAL_ALTER_CONFIGS_RESOURCE), bool("validate_only")];
const INCREMENTAL_ALTER_CONFIGS_RESOURCE: &[Field] = &[
    i8("resource_type"),
    str("resource_name"),
    structs("configs", CONFIGS_MAX, &[str("name"), i8("config_operation"), str("value").nullable()]),
];

const OFFSET_DELETE: &[Field] = &[str("group_id"), structs("topics", TOPICS_MAX, OFFSET_DELETE_TOPIC)];
const OFFSET_DELETE_TOPIC: &[Field] =
    &[str("name"), structs("partitions", PARTITIONS_MAX, &[i32("partition_index")])];

const DESCRIBE_CLUSTER: &[Field] = &[
    bool("include_cluster_authorized_operations"),
    i8("endpoint_type").since(1),
    bool("include_fenced_brokers").since(2),
];

const DESCRIBE_PRODUCERS: &[Field] =
    &[structs("topics", TOPICS_MAX, &[str("name"), i32s("partition_indexes", PARTITIONS_MAX)])];

const LIST_CONFIG_RESOURCES: &[Field] = &[i8s("resource_types", FILTERS_MAX).since(1)];

const DESCRIBE_TOPIC_PARTITIONS: &[Field] = &[
    structs("topics", TOPICS_MAX, &[str("name")]),
    i32("response_partition_limit"),
    structure("cursor", &[str("topic_name"), i32("partition_index")]).nullable(),
];
