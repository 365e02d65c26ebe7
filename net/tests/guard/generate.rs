//! Random requests of every API and version that the guard knows, made and encoded with `kafka-protocol`.

use super::source::Gen;
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message, VersionRange};
use std::collections::BTreeMap;

/// Sets fields of a message: always, or only in versions that have them.
macro_rules! build {
    ($g:ident, $v:ident, $ty:ty, { $($set:ident $(if $when:expr)? => $value:expr;)* }) => {{
        let message = <$ty>::default();
        $(let message = build!(@set $g, message, $set, $value $(, $when)?);)*
        message
    }};
    (@set $g:ident, $message:ident, $set:ident, $value:expr) => { $message.$set($value) };
    (@set $g:ident, $message:ident, $set:ident, $value:expr, $when:expr) => {
        if $when { $message.$set($value) } else { $message }
    };
}

macro_rules! requests {
    ($($key:literal $ty:ident |$g:ident, $v:ident| $make:expr;)*) => {
        /// An encoded body of a random request.
        pub fn encoded(api_key: i16, version: i16, source: &mut Gen) -> Vec<u8> {
            let mut body = BytesMut::new();
            match api_key {
                $($key => {
                    let ($g, $v) = (source, version);
                    // Some APIs have the same fields in all versions.
                    let _ = $v;
                    let message: $ty = $make;
                    message.encode(&mut body, version).expect("the generator keeps to the version");
                })*
                _ => panic!("no generator for API key {api_key}"),
            }
            body.to_vec()
        }

        /// What the library makes of a body: the bytes it would encode it to, and what it left unread.
        pub fn decoded(api_key: i16, version: i16, mut body: Bytes) -> Result<(Vec<u8>, usize), String> {
            match api_key {
                $($key => {
                    let message = $ty::decode(&mut body, version).map_err(|error| error.to_string())?;
                    let mut again = BytesMut::new();
                    message.encode(&mut again, version).map_err(|error| error.to_string())?;
                    Ok((again.to_vec(), body.len()))
                })*
                _ => panic!("no generator for API key {api_key}"),
            }
        }

        /// Decodes through the guard and drops the result.
        pub fn guarded(api_key: i16, version: i16, body: Bytes) -> Result<(), ringlog_net::GuardError> {
            match api_key {
                $($key => ringlog_net::guard::decode::<$ty>(version, body).map(drop),)*
                _ => panic!("no generator for API key {api_key}"),
            }
        }

        /// The versions that the library knows.
        pub fn library_versions(api_key: i16) -> VersionRange {
            match api_key {
                $($key => $ty::VERSIONS,)*
                _ => panic!("no generator for API key {api_key}"),
            }
        }
    };
}

requests! {
    0 ProduceRequest |g, v| build!(g, v, ProduceRequest, {
        with_transactional_id => g.opt(Gen::str);
        with_acks => g.i16();
        with_timeout_ms => g.i32();
        with_topic_data => g.vec(|g| build!(g, v, produce_request::TopicProduceData, {
            with_name if v <= 12 => g.str();
            with_topic_id if v >= 13 => g.uuid();
            with_partition_data => g.vec(|g| build!(g, v, produce_request::PartitionProduceData, {
                with_index => g.i32();
                with_records => g.opt(Gen::bytes);
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    1 FetchRequest |g, v| build!(g, v, FetchRequest, {
        with_cluster_id if v >= 12 => g.opt(Gen::str);
        with_replica_id if v <= 14 => g.i32().into();
        with_replica_state if v >= 15 => build!(g, v, fetch_request::ReplicaState, {
            with_replica_id => g.i32().into();
            with_replica_epoch => g.i64();
            with_unknown_tagged_fields => g.tags();
        });
        with_max_wait_ms => g.i32();
        with_min_bytes => g.i32();
        with_max_bytes => g.i32();
        with_isolation_level => g.i8();
        with_session_id if v >= 7 => g.i32();
        with_session_epoch if v >= 7 => g.i32();
        with_topics => g.vec(|g| build!(g, v, fetch_request::FetchTopic, {
            with_topic if v <= 12 => g.str();
            with_topic_id if v >= 13 => g.uuid();
            with_partitions => g.vec(|g| build!(g, v, fetch_request::FetchPartition, {
                with_partition => g.i32();
                with_current_leader_epoch if v >= 9 => g.i32();
                with_fetch_offset => g.i64();
                with_last_fetched_epoch if v >= 12 => g.i32();
                with_log_start_offset if v >= 5 => g.i64();
                with_partition_max_bytes => g.i32();
                with_replica_directory_id if v >= 17 => g.uuid();
                with_high_watermark if v >= 18 => g.i64();
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_forgotten_topics_data if v >= 7 => g.vec(|g| build!(g, v, fetch_request::ForgottenTopic, {
            with_topic if v <= 12 => g.str();
            with_topic_id if v >= 13 => g.uuid();
            with_partitions => g.vec(Gen::i32);
            with_unknown_tagged_fields => g.tags();
        }));
        with_rack_id if v >= 11 => g.str();
        with_unknown_tagged_fields => g.tags();
    });
    2 ListOffsetsRequest |g, v| build!(g, v, ListOffsetsRequest, {
        with_replica_id => g.i32().into();
        with_isolation_level if v >= 2 => g.i8();
        with_topics => g.vec(|g| build!(g, v, list_offsets_request::ListOffsetsTopic, {
            with_name => g.str();
            with_partitions => g.vec(|g| build!(g, v, list_offsets_request::ListOffsetsPartition, {
                with_partition_index => g.i32();
                with_current_leader_epoch if v >= 4 => g.i32();
                with_timestamp => g.i64();
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_timeout_ms if v >= 10 => g.i32();
        with_unknown_tagged_fields => g.tags();
    });
    3 MetadataRequest |g, v| build!(g, v, MetadataRequest, {
        with_topics => {
            let topics = g.vec(|g| build!(g, v, metadata_request::MetadataRequestTopic, {
                with_topic_id if v >= 10 => g.uuid();
                with_name => if v >= 10 { g.opt(Gen::str) } else { Some(g.str()) };
                with_unknown_tagged_fields => g.tags();
            }));
            if v >= 1 && g.below(4) == 0 { None } else { Some(topics) }
        };
        with_allow_auto_topic_creation if v >= 4 => g.bool();
        with_include_cluster_authorized_operations if (8..=10).contains(&v) => g.bool();
        with_include_topic_authorized_operations if v >= 8 => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    8 OffsetCommitRequest |g, v| build!(g, v, OffsetCommitRequest, {
        with_group_id => g.str();
        with_generation_id_or_member_epoch => g.i32();
        with_member_id => g.str();
        with_group_instance_id if v >= 7 => g.opt(Gen::str);
        with_retention_time_ms if v <= 4 => g.i64();
        with_topics => g.vec(|g| build!(g, v, offset_commit_request::OffsetCommitRequestTopic, {
            with_name => g.str();
            with_partitions => g.vec(|g| build!(g, v, offset_commit_request::OffsetCommitRequestPartition, {
                with_partition_index => g.i32();
                with_committed_offset => g.i64();
                with_committed_leader_epoch if v >= 6 => g.i32();
                with_committed_metadata => g.opt(Gen::str);
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    9 OffsetFetchRequest |g, v| build!(g, v, OffsetFetchRequest, {
        with_group_id if v <= 7 => g.str();
        with_topics if v <= 7 => {
            let topics = g.vec(|g| build!(g, v, offset_fetch_request::OffsetFetchRequestTopic, {
                with_name => g.str();
                with_partition_indexes => g.vec(Gen::i32);
                with_unknown_tagged_fields => g.tags();
            }));
            if v >= 2 && g.below(4) == 0 { None } else { Some(topics) }
        };
        with_groups if v >= 8 => g.vec(|g| build!(g, v, offset_fetch_request::OffsetFetchRequestGroup, {
            with_group_id => g.str();
            with_member_id if v >= 9 => g.opt(Gen::str);
            with_member_epoch if v >= 9 => g.i32();
            with_topics => g.opt(|g| g.vec(|g| build!(g, v, offset_fetch_request::OffsetFetchRequestTopics, {
                with_name => g.str();
                with_partition_indexes => g.vec(Gen::i32);
                with_unknown_tagged_fields => g.tags();
            })));
            with_unknown_tagged_fields => g.tags();
        }));
        with_require_stable if v >= 7 => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    10 FindCoordinatorRequest |g, v| build!(g, v, FindCoordinatorRequest, {
        with_key if v <= 3 => g.str();
        with_key_type if v >= 1 => g.i8();
        with_coordinator_keys if v >= 4 => g.vec(Gen::str);
        with_unknown_tagged_fields => g.tags();
    });
    11 JoinGroupRequest |g, v| build!(g, v, JoinGroupRequest, {
        with_group_id => g.str();
        with_session_timeout_ms => g.i32();
        with_rebalance_timeout_ms if v >= 1 => g.i32();
        with_member_id => g.str();
        with_group_instance_id if v >= 5 => g.opt(Gen::str);
        with_protocol_type => g.str();
        with_protocols => {
            let mut protocols = g.vec(|g| build!(g, v, join_group_request::JoinGroupRequestProtocol, {
                with_name => g.str();
                with_metadata => g.bytes();
                with_unknown_tagged_fields => BTreeMap::new();
            }));
            protocols.truncate(100);
            protocols
        };
        with_reason if v >= 8 => g.opt(Gen::str);
        with_unknown_tagged_fields => g.tags();
    });
    12 HeartbeatRequest |g, v| build!(g, v, HeartbeatRequest, {
        with_group_id => g.str();
        with_generation_id => g.i32();
        with_member_id => g.str();
        with_group_instance_id if v >= 3 => g.opt(Gen::str);
        with_unknown_tagged_fields => g.tags();
    });
    13 LeaveGroupRequest |g, v| build!(g, v, LeaveGroupRequest, {
        with_group_id => g.str();
        with_member_id if v <= 2 => g.str();
        with_members if v >= 3 => g.vec(|g| build!(g, v, leave_group_request::MemberIdentity, {
            with_member_id => g.str();
            with_group_instance_id => g.opt(Gen::str);
            with_reason if v >= 5 => g.opt(Gen::str);
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    14 SyncGroupRequest |g, v| build!(g, v, SyncGroupRequest, {
        with_group_id => g.str();
        with_generation_id => g.i32();
        with_member_id => g.str();
        with_group_instance_id if v >= 3 => g.opt(Gen::str);
        with_protocol_type if v >= 5 => g.opt(Gen::str);
        with_protocol_name if v >= 5 => g.opt(Gen::str);
        with_assignments => g.vec(|g| build!(g, v, sync_group_request::SyncGroupRequestAssignment, {
            with_member_id => g.str();
            with_assignment => g.bytes();
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    15 DescribeGroupsRequest |g, v| build!(g, v, DescribeGroupsRequest, {
        with_groups => g.vec(Gen::str);
        with_include_authorized_operations if v >= 3 => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    16 ListGroupsRequest |g, v| build!(g, v, ListGroupsRequest, {
        with_states_filter if v >= 4 => { let mut all = g.vec(Gen::str); all.truncate(100); all };
        with_types_filter if v >= 5 => { let mut all = g.vec(Gen::str); all.truncate(100); all };
        with_unknown_tagged_fields => g.tags();
    });
    18 ApiVersionsRequest |g, v| build!(g, v, ApiVersionsRequest, {
        with_client_software_name if v >= 3 => g.str();
        with_client_software_version if v >= 3 => g.str();
        with_unknown_tagged_fields => g.tags();
    });
    19 CreateTopicsRequest |g, v| build!(g, v, CreateTopicsRequest, {
        with_topics => g.vec(|g| build!(g, v, create_topics_request::CreatableTopic, {
            with_name => g.str();
            with_num_partitions => g.i32();
            with_replication_factor => g.i16();
            with_assignments => g.vec(|g| build!(g, v, create_topics_request::CreatableReplicaAssignment, {
                with_partition_index => g.i32();
                with_broker_ids => g.vec(|g| g.i32().into());
                with_unknown_tagged_fields => g.tags();
            }));
            with_configs => g.vec(|g| build!(g, v, create_topics_request::CreatableTopicConfig, {
                with_name => g.str();
                with_value => g.opt(Gen::str);
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_timeout_ms => g.i32();
        with_validate_only => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    20 DeleteTopicsRequest |g, v| build!(g, v, DeleteTopicsRequest, {
        with_topics if v >= 6 => g.vec(|g| build!(g, v, delete_topics_request::DeleteTopicState, {
            with_name => g.opt(Gen::str);
            with_topic_id => g.uuid();
            with_unknown_tagged_fields => g.tags();
        }));
        with_topic_names if v <= 5 => g.vec(Gen::str);
        with_timeout_ms => g.i32();
        with_unknown_tagged_fields => g.tags();
    });
    21 DeleteRecordsRequest |g, v| build!(g, v, DeleteRecordsRequest, {
        with_topics => g.vec(|g| build!(g, v, delete_records_request::DeleteRecordsTopic, {
            with_name => g.str();
            with_partitions => g.vec(|g| build!(g, v, delete_records_request::DeleteRecordsPartition, {
                with_partition_index => g.i32();
                with_offset => g.i64();
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_timeout_ms => g.i32();
        with_unknown_tagged_fields => g.tags();
    });
    22 InitProducerIdRequest |g, v| build!(g, v, InitProducerIdRequest, {
        with_transactional_id => g.opt(Gen::str);
        with_transaction_timeout_ms => g.i32();
        with_producer_id if v >= 3 => g.i64().into();
        with_producer_epoch if v >= 3 => g.i16();
        with_unknown_tagged_fields => g.tags();
    });
    23 OffsetForLeaderEpochRequest |g, v| build!(g, v, OffsetForLeaderEpochRequest, {
        with_replica_id if v >= 3 => g.i32().into();
        with_topics => g.vec(|g| build!(g, v, offset_for_leader_epoch_request::OffsetForLeaderTopic, {
            with_topic => g.str();
            with_partitions => g.vec(|g| build!(g, v, offset_for_leader_epoch_request::OffsetForLeaderPartition, {
                with_partition => g.i32();
                with_current_leader_epoch => g.i32();
                with_leader_epoch => g.i32();
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    32 DescribeConfigsRequest |g, v| build!(g, v, DescribeConfigsRequest, {
        with_resources => g.vec(|g| build!(g, v, describe_configs_request::DescribeConfigsResource, {
            with_resource_type => g.i8();
            with_resource_name => g.str();
            with_configuration_keys => g.opt(|g| g.vec(Gen::str));
            with_unknown_tagged_fields => g.tags();
        }));
        with_include_synonyms => g.bool();
        with_include_documentation if v >= 3 => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    33 AlterConfigsRequest |g, v| build!(g, v, AlterConfigsRequest, {
        with_resources => g.vec(|g| build!(g, v, alter_configs_request::AlterConfigsResource, {
            with_resource_type => g.i8();
            with_resource_name => g.str();
            with_configs => g.vec(|g| build!(g, v, alter_configs_request::AlterableConfig, {
                with_name => g.str();
                with_value => g.opt(Gen::str);
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_validate_only => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    35 DescribeLogDirsRequest |g, v| build!(g, v, DescribeLogDirsRequest, {
        with_topics => g.opt(|g| g.vec(|g| build!(g, v, describe_log_dirs_request::DescribableLogDirTopic, {
            with_topic => g.str();
            with_partitions => g.vec(Gen::i32);
            with_unknown_tagged_fields => g.tags();
        })));
        with_unknown_tagged_fields => g.tags();
    });
    37 CreatePartitionsRequest |g, v| build!(g, v, CreatePartitionsRequest, {
        with_topics => g.vec(|g| build!(g, v, create_partitions_request::CreatePartitionsTopic, {
            with_name => g.str();
            with_count => g.i32();
            with_assignments => g.opt(|g| g.vec(|g| {
                build!(g, v, create_partitions_request::CreatePartitionsAssignment, {
                    with_broker_ids => g.vec(|g| g.i32().into());
                    with_unknown_tagged_fields => g.tags();
                })
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_timeout_ms => g.i32();
        with_validate_only => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    42 DeleteGroupsRequest |g, v| build!(g, v, DeleteGroupsRequest, {
        with_groups_names => g.vec(Gen::str);
        with_unknown_tagged_fields => g.tags();
    });
    44 IncrementalAlterConfigsRequest |g, v| build!(g, v, IncrementalAlterConfigsRequest, {
        with_resources => g.vec(|g| build!(g, v, incremental_alter_configs_request::AlterConfigsResource, {
            with_resource_type => g.i8();
            with_resource_name => g.str();
            with_configs => g.vec(|g| build!(g, v, incremental_alter_configs_request::AlterableConfig, {
                with_name => g.str();
                with_config_operation => g.i8();
                with_value => g.opt(Gen::str);
                with_unknown_tagged_fields => g.tags();
            }));
            with_unknown_tagged_fields => g.tags();
        }));
        with_validate_only => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    47 OffsetDeleteRequest |g, v| build!(g, v, OffsetDeleteRequest, {
        with_group_id => g.str();
        with_topics => g.vec(|g| build!(g, v, offset_delete_request::OffsetDeleteRequestTopic, {
            with_name => g.str();
            with_partitions => g.vec(|g| build!(g, v, offset_delete_request::OffsetDeleteRequestPartition, {
                with_partition_index => g.i32();
            }));
        }));
    });
    60 DescribeClusterRequest |g, v| build!(g, v, DescribeClusterRequest, {
        with_include_cluster_authorized_operations => g.bool();
        with_endpoint_type if v >= 1 => g.i8();
        with_include_fenced_brokers if v >= 2 => g.bool();
        with_unknown_tagged_fields => g.tags();
    });
    61 DescribeProducersRequest |g, v| build!(g, v, DescribeProducersRequest, {
        with_topics => g.vec(|g| build!(g, v, describe_producers_request::TopicRequest, {
            with_name => g.str();
            with_partition_indexes => g.vec(Gen::i32);
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
    74 ListConfigResourcesRequest |g, v| build!(g, v, ListConfigResourcesRequest, {
        with_resource_types if v >= 1 => { let mut all = g.vec(Gen::i8); all.truncate(100); all };
        with_unknown_tagged_fields => g.tags();
    });
    75 DescribeTopicPartitionsRequest |g, v| build!(g, v, DescribeTopicPartitionsRequest, {
        with_topics => g.vec(|g| build!(g, v, describe_topic_partitions_request::TopicRequest, {
            with_name => g.str();
            with_unknown_tagged_fields => g.tags();
        }));
        with_response_partition_limit => g.i32();
        with_cursor => g.opt(|g| build!(g, v, describe_topic_partitions_request::Cursor, {
            with_topic_name => g.str();
            with_partition_index => g.i32();
            with_unknown_tagged_fields => g.tags();
        }));
        with_unknown_tagged_fields => g.tags();
    });
}
