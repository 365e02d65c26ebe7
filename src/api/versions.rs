//! Every version of every response: what an API answers, filled, can be encoded, and what is decoded of it encodes to
//! the same bytes. So nothing is set that the version cannot say, apart from what Kafka's schemas call ignorable.

use crate::api::fixture::Fixture;
use crate::api::table::{APIS, Kind};
use crate::api::wire::{group_id, text, topic_name};
use crate::api::*;
use crate::machine::error::ErrorCode;
use crate::machine::group as g;
use crate::machine::metadata::{ApiError, CreatedTopic, DeletedTopic};
use bytes::Bytes;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use ringlog_net::{guard, response};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The APIs whose responses were tried.
#[derive(Default)]
struct Tried(BTreeSet<i16>);

impl Tried {
    fn every_version<T>(&mut self, kind: Kind, build: impl Fn(i16) -> T)
    where
        T: Encodable + Decodable + HeaderVersion,
    {
        let api = APIS.iter().find(|api| api.kind == kind).unwrap();
        for version in api.min..=api.max {
            let answer = build(version);
            let frame = response::encode(version, 7, &answer)
                .unwrap_or_else(|error| panic!("{} {version}: {error}", api.name));
            let header = if T::header_version(version) >= 1 { 5 } else { 4 };
            let mut body = frame.slice(4 + header..);
            let decoded = T::decode(&mut body, version).unwrap();
            assert!(body.is_empty());
            assert_eq!(response::encode(version, 7, &decoded).unwrap(), frame, "{} {version}", api.name);
        }
        self.0.insert(api.key);
    }
}

fn error() -> ApiError {
    ApiError::new(ErrorCode::INVALID_CONFIG, "why")
}

#[test]
fn every_version_of_every_response_encodes() {
    let mut tried = Tried::default();
    metadata_apis(&mut tried);
    partition_apis(&mut tried);
    member_apis(&mut tried);
    group_apis(&mut tried);
    topic_apis(&mut tried);
    config_apis(&mut tried);
    let hot = |kind| matches!(kind, Kind::Produce | Kind::Fetch);
    let all = APIS.iter().filter(|api| !hot(api.kind)).map(|api| api.key).collect();
    assert_eq!(tried.0, all, "every API with a handler is tried");
}

fn metadata_apis(tried: &mut Tried) {
    let fixture = Fixture::with_a_fenced_broker();
    let named = m::ApiVersionsRequest::default()
        .with_client_software_name(text("a"))
        .with_client_software_version(text("1"));
    tried.every_version(Kind::ApiVersions, |v| api_versions::reply(v, &named, fixture.view()));
    tried.every_version(Kind::ApiVersions, |_| api_versions::unsupported_version());
    let all = m::MetadataRequest::default()
        .with_topics(None)
        .with_include_topic_authorized_operations(true)
        .with_include_cluster_authorized_operations(true);
    let named = m::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("none")));
    let unknown = all.clone().with_topics(Some(vec![named]));
    for request in [&all, &unknown] {
        tried.every_version(Kind::Metadata, |v| {
            let wanted = metadata::plan(v, request).unwrap();
            metadata::reply(v, &wanted, request, &Ok(Vec::new()), fixture.view())
        });
    }
    let nameless =
        m::metadata_request::MetadataRequestTopic::default().with_name(None).with_topic_id(Uuid::nil());
    let nameless = all.with_topics(Some(vec![nameless]));
    tried.every_version(Kind::Metadata, |v| metadata::plan(v, &nameless).unwrap_err());
    for kind in [1, 2] {
        let cluster = m::DescribeClusterRequest::default()
            .with_endpoint_type(kind)
            .with_include_fenced_brokers(true)
            .with_include_cluster_authorized_operations(true);
        tried.every_version(Kind::DescribeCluster, |v| describe_cluster::reply(v, &cluster, fixture.view()));
    }
    let page = m::DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    tried.every_version(Kind::DescribeTopicPartitions, |_| {
        describe_topic_partitions::reply(&page, fixture.view())
    });
    for key_type in [0, 1] {
        let find = m::FindCoordinatorRequest::default().with_key(text("g")).with_key_type(key_type);
        let several = find.clone().with_coordinator_keys(vec![text("g")]);
        tried.every_version(Kind::FindCoordinator, |v| {
            find_coordinator::reply(v, if v >= 4 { &several } else { &find }, fixture.view())
        });
    }
}

fn partition_apis(tried: &mut Tried) {
    let fixture = Fixture::new();
    let image = &fixture.image;
    let topic = || topic_name("orders");
    let list = {
        use m::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let at = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![at(0), at(9)]);
        m::ListOffsetsRequest::default().with_topics(vec![topic])
    };
    tried.every_version(Kind::ListOffsets, |v| {
        let mut plan = list_offsets::plan(v, &list, image);
        plan.take_questions();
        let found = list_offsets::Found { offset: 1, timestamp: 2, leader_epoch: 3 };
        list_offsets::reply(v, plan, vec![Ok(found)])
    });
    let delete = {
        use m::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        let partitions = vec![DeleteRecordsPartition::default().with_offset(5)];
        let topic = DeleteRecordsTopic::default().with_name(topic()).with_partitions(partitions);
        m::DeleteRecordsRequest::default().with_topics(vec![topic])
    };
    tried.every_version(Kind::DeleteRecords, |_| {
        let mut plan = delete_records::plan(&delete, fixture.view());
        plan.take_questions();
        delete_records::reply(plan, vec![Ok(5)])
    });
    let epoch = {
        use m::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
        let partitions = vec![OffsetForLeaderPartition::default()];
        let topic = OffsetForLeaderTopic::default().with_topic(topic()).with_partitions(partitions);
        m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    tried.every_version(Kind::OffsetForLeaderEpoch, |_| {
        let mut plan = offset_for_leader_epoch::plan(&epoch, image);
        plan.take_questions();
        let end = offset_for_leader_epoch::EpochEnd { epoch: 4, end_offset: 9 };
        offset_for_leader_epoch::reply(plan, vec![Ok(end)])
    });
    let dirs = m::DescribeLogDirsRequest::default().with_topics(None);
    tried.every_version(Kind::DescribeLogDirs, |v| {
        let mut plan = describe_log_dirs::plan(&dirs, fixture.view());
        let sizes = plan.take_questions().iter().map(|_| Ok(5)).collect();
        let dir = describe_log_dirs::LogDir { path: "/d", total_bytes: Some(9), usable_bytes: Some(3) };
        describe_log_dirs::reply(v, plan, sizes, dir)
    });
    let producers = {
        let topic = m::describe_producers_request::TopicRequest::default().with_name(topic());
        m::DescribeProducersRequest::default().with_topics(vec![topic.with_partition_indexes(vec![0, 9])])
    };
    tried.every_version(Kind::DescribeProducers, |_| {
        let mut plan = describe_producers::plan(&producers, image);
        plan.take_questions();
        let producer = describe_producers::Producer { id: 1, epoch: 2, last_sequence: 3, last_timestamp: 4 };
        describe_producers::reply(plan, vec![Ok(vec![producer])])
    });
    for outcome in [Ok(5), Err(ErrorCode::REQUEST_TIMED_OUT)] {
        tried.every_version(Kind::InitProducerId, |_| init_producer_id::reply(outcome));
    }
}

fn member_apis(tried: &mut Tried) {
    let member = g::JoinMember {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        metadata: Bytes::from_static(b"x"),
    };
    let join = g::JoinReply {
        error: ErrorCode::NONE,
        generation: 3,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        leader: "m".into(),
        skip_assignment: true,
        member_id: "m".into(),
        members: vec![member],
    };
    tried.every_version(Kind::JoinGroup, |v| join_group::reply(v, &join));
    let sync = g::SyncReply {
        error: ErrorCode::REBALANCE_IN_PROGRESS,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        assignment: Bytes::from_static(b"x"),
    };
    tried.every_version(Kind::SyncGroup, |v| sync_group::reply(v, &sync));
    tried.every_version(Kind::SyncGroup, |_| sync_group::refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
    tried.every_version(Kind::Heartbeat, |_| heartbeat::reply(ErrorCode::ILLEGAL_GENERATION));
    let left = g::LeftMember {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        error: ErrorCode::UNKNOWN_MEMBER_ID,
    };
    let leave = g::LeaveReply { error: ErrorCode::NONE, members: vec![left] };
    tried.every_version(Kind::LeaveGroup, |v| leave_group::reply(v, &leave));
}

fn group_apis(tried: &mut Tried) {
    let member = g::DescribedMember {
        member_id: "m".into(),
        instance_id: Some("i".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        metadata: Bytes::from_static(b"x"),
        assignment: Bytes::from_static(b"y"),
    };
    let group = g::GroupDescription {
        error: ErrorCode::NONE,
        error_message: Some("why".into()),
        group: "g".into(),
        state: "Stable",
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        members: vec![member],
    };
    let describe = m::DescribeGroupsRequest::default().with_include_authorized_operations(true);
    tried.every_version(Kind::DescribeGroups, |v| {
        describe_groups::reply(v, &describe, std::slice::from_ref(&group))
    });
    let listed = g::ListedGroup {
        group: "g".into(),
        protocol_type: "consumer".into(),
        state: "Stable",
        group_type: "classic",
    };
    let list = [g::ListReply { error: ErrorCode::NONE, groups: vec![listed] }];
    tried.every_version(Kind::ListGroups, |v| list_groups::reply(v, &list));
    let deleted = [("g".to_owned(), ErrorCode::NON_EMPTY_GROUP)];
    tried.every_version(Kind::DeleteGroups, |_| delete_groups::reply(&deleted));
    offset_apis(tried);
}

fn offset_apis(tried: &mut Tried) {
    let fixture = Fixture::new();
    let partition =
        g::FetchedPartition { partition: 2, offset: 7, leader_epoch: 3, metadata: "m".to_owned() };
    let topic = g::FetchedTopic { name: "t".into(), topic_id: [9; 16], partitions: vec![partition] };
    let fetched = |error| g::FetchedGroup { group: "g".into(), error, topics: vec![topic.clone()] };
    let asked = m::offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![2]);
    let request = m::OffsetFetchRequest::default().with_topics(Some(vec![asked]));
    for error in [ErrorCode::NONE, ErrorCode::NOT_COORDINATOR] {
        tried.every_version(Kind::OffsetFetch, |v| offset_fetch::reply(v, &request, &[fetched(error)]));
    }
    let commit = {
        use m::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let partitions = vec![OffsetCommitRequestPartition::default()];
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name("orders")).with_partitions(partitions);
        m::OffsetCommitRequest::default().with_topics(vec![topic])
    };
    tried.every_version(Kind::OffsetCommit, |v| {
        let (commit, plan) = offset_commit::plan(v, &commit, &fixture.image);
        offset_commit::reply(plan, Some(&commit.unwrap().refuse(ErrorCode::ILLEGAL_GENERATION)))
    });
    let delete = m::OffsetDeleteRequest::default().with_group_id(group_id("g"));
    tried.every_version(Kind::OffsetDelete, |_| {
        let refused = g::OffsetDeleteReply { error: ErrorCode::NON_EMPTY_GROUP, topics: vec![] };
        offset_delete::reply(offset_delete::plan(&delete, &fixture.image).1, Some(&refused))
    });
}

fn topic_apis(tried: &mut Tried) {
    let fixture = Fixture::new();
    let created = CreatedTopic {
        id: Uuid::from_u128(9),
        partitions: 4,
        replication_factor: 1,
        settings: [("retention.ms".to_owned(), "5".to_owned())].into(),
    };
    let results = vec![("a".to_owned(), Ok(created)), ("b".to_owned(), Err(error()))];
    let create = m::CreateTopicsRequest::default();
    tried.every_version(Kind::CreateTopics, |v| {
        create_topics::reply(v, &create, Ok(results.clone()), fixture.view())
    });
    let delete = m::DeleteTopicsRequest::default();
    let id = Some(Uuid::from_u128(9));
    let by_name = DeletedTopic { name: Some("a".into()), id, result: Err(error()) };
    let by_id = DeletedTopic { name: None, ..by_name.clone() };
    tried.every_version(Kind::DeleteTopics, |v| {
        let mut results = vec![by_name.clone()];
        results.extend((v >= 6).then(|| by_id.clone()));
        delete_topics::reply(v, &delete, Ok(results))
    });
    let more = m::CreatePartitionsRequest::default();
    tried.every_version(Kind::CreatePartitions, |_| {
        create_partitions::reply(&more, Ok(vec![("a".to_owned(), Err(error()))]))
    });
}

fn config_apis(tried: &mut Tried) {
    let fixture = Fixture::new();
    let describe = {
        let resource = |kind, name| {
            m::describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        m::DescribeConfigsRequest::default()
            .with_include_synonyms(true)
            .with_include_documentation(true)
            .with_resources(vec![resource(2, "compacted"), resource(4, "1"), resource(32, "g")])
    };
    tried.every_version(Kind::DescribeConfigs, |v| describe_configs::reply(v, &describe, fixture.view()));
    let alter = {
        let resource = m::alter_configs_request::AlterConfigsResource::default().with_resource_type(9);
        m::AlterConfigsRequest::default().with_resources(vec![resource])
    };
    tried
        .every_version(Kind::AlterConfigs, |_| alter_configs::reply(alter_configs::plan(&alter), Ok(vec![])));
    let incremental = {
        let resource = m::incremental_alter_configs_request::AlterConfigsResource::default();
        m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_resource_type(9)])
    };
    tried.every_version(Kind::IncrementalAlterConfigs, |_| {
        incremental_alter_configs::reply(incremental_alter_configs::plan(&incremental), Ok(vec![]))
    });
    let list = m::ListConfigResourcesRequest::default();
    tried
        .every_version(Kind::ListConfigResources, |v| list_config_resources::reply(v, &list, fixture.view()));
}

/// What a handler gets of a request of this version.
fn received<T: Request>(version: i16, request: &T) -> T {
    let mut body = bytes::BytesMut::new();
    request.encode(&mut body, version).unwrap();
    guard::decode(version, body.freeze()).unwrap()
}

/// Fields that a version does not have are read as the plans expect them.
#[test]
fn what_old_versions_leave_out() {
    for version in 0..=3 {
        let topics = (version > 0).then(Vec::new);
        let request = m::MetadataRequest::default().with_topics(topics.or(Some(vec![])));
        assert!(received(version, &request).allow_auto_topic_creation, "Metadata {version} creates topics");
    }
    for version in 0..=2 {
        let request = received(version, &m::InitProducerIdRequest::default().with_transactional_id(None));
        assert_eq!(init_producer_id::plan(&request), Ok(()), "InitProducerId {version}");
    }
    let fixture = Fixture::new();
    let request = received(0, &m::DescribeClusterRequest::default());
    assert_eq!(describe_cluster::reply(0, &request, fixture.view()).error_code, 0);
    let request = received(0, &m::FindCoordinatorRequest::default().with_key(text("g")));
    assert_eq!(find_coordinator::reply(0, &request, fixture.view()).error_code, 0);
    for version in 5..=9 {
        let request = received(version, &m::OffsetCommitRequest::default());
        assert_eq!(request.retention_time_ms, -1, "OffsetCommit {version}");
    }
    let request = m::OffsetFetchRequest::default().with_topics(None);
    let groups = offset_fetch::groups(2, &received(2, &request));
    assert!(groups[0].topics.is_none(), "null asks for every topic");
}
