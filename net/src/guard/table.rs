//! The skeletons of all request APIs that Ringlog serves, by ascending key.
//!
//! Fields stand in the order and under the names of Kafka's schemas
//! (`clients/src/main/resources/common/message/*Request.json`), in which null is allowed from the same versions.
//! Versions end where those of `kafka-protocol` end; a test holds both together. Adding an API is one entry here and
//! one generator in the property tests, which fail without it.

use super::schema::{Api, Field, Kind, NEVER, array, bool, bytes, i8, i16, i32, i64, str, structure, uuid};

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

const STR: Kind = Kind::Str;
const I8: Kind = Kind::Fixed(1);
const I32: Kind = Kind::Fixed(4);

/// The skeletons, by ascending API key.
pub(super) static APIS: [Api; 30] = [
    api(0, "Produce", 3..=13, 9, LARGE, &PRODUCE),
    api(1, "Fetch", 4..=18, 12, LARGE, &FETCH),
    api(2, "ListOffsets", 1..=10, 6, LARGE, &LIST_OFFSETS),
    api(3, "Metadata", 0..=13, 9, LARGE, &METADATA),
    api(8, "OffsetCommit", 2..=9, 8, LARGE, &OFFSET_COMMIT),
    api(9, "OffsetFetch", 1..=9, 6, LARGE, &OFFSET_FETCH),
    api(10, "FindCoordinator", 0..=6, 3, MEDIUM, &FIND_COORDINATOR),
    api(11, "JoinGroup", 0..=9, 6, SMALL, &JOIN_GROUP),
    api(12, "Heartbeat", 0..=4, 4, SMALL, &HEARTBEAT),
    api(13, "LeaveGroup", 0..=5, 4, MEDIUM, &LEAVE_GROUP),
    api(14, "SyncGroup", 0..=5, 4, MEDIUM, &SYNC_GROUP),
    api(15, "DescribeGroups", 0..=6, 5, MEDIUM, &DESCRIBE_GROUPS),
    api(16, "ListGroups", 0..=5, 3, SMALL, &LIST_GROUPS),
    api(18, "ApiVersions", 0..=4, 3, SMALL, &API_VERSIONS),
    api(19, "CreateTopics", 2..=7, 5, LARGE, &CREATE_TOPICS),
    api(20, "DeleteTopics", 1..=6, 4, LARGE, &DELETE_TOPICS),
    api(21, "DeleteRecords", 0..=2, 2, LARGE, &DELETE_RECORDS),
    api(22, "InitProducerId", 0..=5, 2, SMALL, &INIT_PRODUCER_ID),
    api(23, "OffsetForLeaderEpoch", 2..=4, 4, LARGE, &OFFSET_FOR_LEADER_EPOCH),
    api(32, "DescribeConfigs", 1..=4, 4, MEDIUM, &DESCRIBE_CONFIGS),
    api(33, "AlterConfigs", 0..=2, 2, MEDIUM, &ALTER_CONFIGS),
    api(35, "DescribeLogDirs", 1..=4, 2, LARGE, &DESCRIBE_LOG_DIRS),
    api(37, "CreatePartitions", 0..=3, 2, LARGE, &CREATE_PARTITIONS),
    api(42, "DeleteGroups", 0..=2, 2, MEDIUM, &DELETE_GROUPS),
    api(44, "IncrementalAlterConfigs", 0..=1, 1, MEDIUM, &INCREMENTAL_ALTER_CONFIGS),
    api(47, "OffsetDelete", 0..=0, NEVER, LARGE, &OFFSET_DELETE),
    api(60, "DescribeCluster", 0..=2, 0, SMALL, &DESCRIBE_CLUSTER),
    api(61, "DescribeProducers", 0..=0, 0, LARGE, &DESCRIBE_PRODUCERS),
    api(74, "ListConfigResources", 0..=1, 0, SMALL, &LIST_CONFIG_RESOURCES),
    api(75, "DescribeTopicPartitions", 0..=0, 0, LARGE, &DESCRIBE_TOPIC_PARTITIONS),
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

static PRODUCE: [Field; 4] = [
    str("transactional_id").nullable(),
    i16("acks"),
    i32("timeout_ms"),
    array(
        "topic_data",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name").until(12),
            uuid("topic_id").since(13),
            array(
                "partition_data",
                PARTITIONS_MAX,
                &Kind::Struct(&[i32("index"), bytes("records").nullable()]),
            ),
        ]),
    ),
];

static FETCH: [Field; 12] = [
    str("cluster_id").nullable().since(12).tagged(0),
    i32("replica_id").until(14),
    structure("replica_state", &[i32("replica_id"), i64("replica_epoch")]).since(15).tagged(1),
    i32("max_wait_ms"),
    i32("min_bytes"),
    i32("max_bytes"),
    i8("isolation_level"),
    i32("session_id").since(7),
    i32("session_epoch").since(7),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("topic").until(12),
            uuid("topic_id").since(13),
            array(
                "partitions",
                PARTITIONS_MAX,
                &Kind::Struct(&[
                    i32("partition"),
                    i32("current_leader_epoch").since(9),
                    i64("fetch_offset"),
                    i32("last_fetched_epoch").since(12),
                    i64("log_start_offset").since(5),
                    i32("partition_max_bytes"),
                    uuid("replica_directory_id").since(17).tagged(0),
                    i64("high_watermark").since(18).tagged(1),
                ]),
            ),
        ]),
    ),
    array(
        "forgotten_topics_data",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("topic").until(12),
            uuid("topic_id").since(13),
            array("partitions", PARTITIONS_MAX, &I32),
        ]),
    )
    .since(7),
    str("rack_id").since(11),
];

static LIST_OFFSETS: [Field; 4] = [
    i32("replica_id"),
    i8("isolation_level").since(2),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name"),
            array(
                "partitions",
                PARTITIONS_MAX,
                &Kind::Struct(&[
                    i32("partition_index"),
                    i32("current_leader_epoch").since(4),
                    i64("timestamp"),
                ]),
            ),
        ]),
    ),
    i32("timeout_ms").since(10),
];

static METADATA: [Field; 4] = [
    array("topics", TOPICS_MAX, &Kind::Struct(&[uuid("topic_id").since(10), str("name").nullable_since(10)]))
        .nullable_since(1),
    bool("allow_auto_topic_creation").since(4),
    bool("include_cluster_authorized_operations").since(8).until(10),
    bool("include_topic_authorized_operations").since(8),
];

static OFFSET_COMMIT: [Field; 6] = [
    str("group_id"),
    i32("generation_id_or_member_epoch"),
    str("member_id"),
    str("group_instance_id").nullable().since(7),
    i64("retention_time_ms").until(4),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name").until(9),
            uuid("topic_id").since(10),
            array(
                "partitions",
                PARTITIONS_MAX,
                &Kind::Struct(&[
                    i32("partition_index"),
                    i64("committed_offset"),
                    i32("committed_leader_epoch").since(6),
                    str("committed_metadata").nullable(),
                ]),
            ),
        ]),
    ),
];

static OFFSET_FETCH: [Field; 4] = [
    str("group_id").until(7),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[str("name"), array("partition_indexes", PARTITIONS_MAX, &I32)]),
    )
    .nullable_since(2)
    .until(7),
    array(
        "groups",
        GROUPS_MAX,
        &Kind::Struct(&[
            str("group_id"),
            str("member_id").nullable().since(9),
            i32("member_epoch").since(9),
            array(
                "topics",
                TOPICS_MAX,
                &Kind::Struct(&[
                    str("name").until(9),
                    uuid("topic_id").since(10),
                    array("partition_indexes", PARTITIONS_MAX, &I32),
                ]),
            )
            .nullable(),
        ]),
    )
    .since(8),
    bool("require_stable").since(7),
];

static FIND_COORDINATOR: [Field; 3] =
    [str("key").until(3), i8("key_type").since(1), array("coordinator_keys", GROUPS_MAX, &STR).since(4)];

static JOIN_GROUP: [Field; 8] = [
    str("group_id"),
    i32("session_timeout_ms"),
    i32("rebalance_timeout_ms").since(1),
    str("member_id"),
    str("group_instance_id").nullable().since(5),
    str("protocol_type"),
    array("protocols", PROTOCOLS_MAX, &Kind::Struct(&[str("name"), bytes("metadata")])),
    str("reason").nullable().since(8),
];

static HEARTBEAT: [Field; 4] =
    [str("group_id"), i32("generation_id"), str("member_id"), str("group_instance_id").nullable().since(3)];

static LEAVE_GROUP: [Field; 3] = [
    str("group_id"),
    str("member_id").until(2),
    array(
        "members",
        MEMBERS_MAX,
        &Kind::Struct(&[
            str("member_id"),
            str("group_instance_id").nullable(),
            str("reason").nullable().since(5),
        ]),
    )
    .since(3),
];

static SYNC_GROUP: [Field; 7] = [
    str("group_id"),
    i32("generation_id"),
    str("member_id"),
    str("group_instance_id").nullable().since(3),
    str("protocol_type").nullable().since(5),
    str("protocol_name").nullable().since(5),
    array("assignments", MEMBERS_MAX, &Kind::Struct(&[str("member_id"), bytes("assignment")])),
];

static DESCRIBE_GROUPS: [Field; 2] =
    [array("groups", GROUPS_MAX, &STR), bool("include_authorized_operations").since(3)];

static LIST_GROUPS: [Field; 2] =
    [array("states_filter", FILTERS_MAX, &STR).since(4), array("types_filter", FILTERS_MAX, &STR).since(5)];

static API_VERSIONS: [Field; 2] =
    [str("client_software_name").since(3), str("client_software_version").since(3)];

static CREATE_TOPICS: [Field; 3] = [
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name"),
            i32("num_partitions"),
            i16("replication_factor"),
            array(
                "assignments",
                PARTITIONS_MAX,
                &Kind::Struct(&[i32("partition_index"), array("broker_ids", REPLICAS_MAX, &I32)]),
            ),
            array("configs", CONFIGS_MAX, &Kind::Struct(&[str("name"), str("value").nullable()])),
        ]),
    ),
    i32("timeout_ms"),
    bool("validate_only"),
];

static DELETE_TOPICS: [Field; 3] = [
    array("topics", TOPICS_MAX, &Kind::Struct(&[str("name").nullable(), uuid("topic_id")])).since(6),
    array("topic_names", TOPICS_MAX, &STR).until(5),
    i32("timeout_ms"),
];

static DELETE_RECORDS: [Field; 2] = [
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name"),
            array("partitions", PARTITIONS_MAX, &Kind::Struct(&[i32("partition_index"), i64("offset")])),
        ]),
    ),
    i32("timeout_ms"),
];

static INIT_PRODUCER_ID: [Field; 4] = [
    str("transactional_id").nullable(),
    i32("transaction_timeout_ms"),
    i64("producer_id").since(3),
    i16("producer_epoch").since(3),
];

static OFFSET_FOR_LEADER_EPOCH: [Field; 2] = [
    i32("replica_id").since(3),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("topic"),
            array(
                "partitions",
                PARTITIONS_MAX,
                &Kind::Struct(&[i32("partition"), i32("current_leader_epoch"), i32("leader_epoch")]),
            ),
        ]),
    ),
];

static DESCRIBE_CONFIGS: [Field; 3] = [
    array(
        "resources",
        RESOURCES_MAX,
        &Kind::Struct(&[
            i8("resource_type"),
            str("resource_name"),
            array("configuration_keys", CONFIGS_MAX, &STR).nullable(),
        ]),
    ),
    bool("include_synonyms"),
    bool("include_documentation").since(3),
];

static ALTER_CONFIGS: [Field; 2] = [
    array(
        "resources",
        RESOURCES_MAX,
        &Kind::Struct(&[
            i8("resource_type"),
            str("resource_name"),
            array("configs", CONFIGS_MAX, &Kind::Struct(&[str("name"), str("value").nullable()])),
        ]),
    ),
    bool("validate_only"),
];

static DESCRIBE_LOG_DIRS: [Field; 1] =
    [array("topics", TOPICS_MAX, &Kind::Struct(&[str("topic"), array("partitions", PARTITIONS_MAX, &I32)]))
        .nullable()];

static CREATE_PARTITIONS: [Field; 3] = [
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name"),
            i32("count"),
            array("assignments", PARTITIONS_MAX, &Kind::Struct(&[array("broker_ids", REPLICAS_MAX, &I32)]))
                .nullable(),
        ]),
    ),
    i32("timeout_ms"),
    bool("validate_only"),
];

static DELETE_GROUPS: [Field; 1] = [array("groups_names", GROUPS_MAX, &STR)];

static INCREMENTAL_ALTER_CONFIGS: [Field; 2] = [
    array(
        "resources",
        RESOURCES_MAX,
        &Kind::Struct(&[
            i8("resource_type"),
            str("resource_name"),
            array(
                "configs",
                CONFIGS_MAX,
                &Kind::Struct(&[str("name"), i8("config_operation"), str("value").nullable()]),
            ),
        ]),
    ),
    bool("validate_only"),
];

static OFFSET_DELETE: [Field; 2] = [
    str("group_id"),
    array(
        "topics",
        TOPICS_MAX,
        &Kind::Struct(&[
            str("name"),
            array("partitions", PARTITIONS_MAX, &Kind::Struct(&[i32("partition_index")])),
        ]),
    ),
];

static DESCRIBE_CLUSTER: [Field; 3] = [
    bool("include_cluster_authorized_operations"),
    i8("endpoint_type").since(1),
    bool("include_fenced_brokers").since(2),
];

static DESCRIBE_PRODUCERS: [Field; 1] = [array(
    "topics",
    TOPICS_MAX,
    &Kind::Struct(&[str("name"), array("partition_indexes", PARTITIONS_MAX, &I32)]),
)];

static LIST_CONFIG_RESOURCES: [Field; 1] = [array("resource_types", FILTERS_MAX, &I8).since(1)];

static DESCRIBE_TOPIC_PARTITIONS: [Field; 3] = [
    array("topics", TOPICS_MAX, &Kind::Struct(&[str("name")])),
    i32("response_partition_limit"),
    structure("cursor", &[str("topic_name"), i32("partition_index")]).nullable(),
];
