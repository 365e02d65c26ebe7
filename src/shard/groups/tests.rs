//! Group state is acknowledged once it is durable, and let go only when it is durably written again.

use super::OFFSETS_TOPIC;
use crate::machine::config::Durability;
use crate::shard::Shard;
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Perturbation, Step};
use crate::shard::tests::lab::{Lab, wait};
use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    IncrementalAlterConfigsRequest, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use ringlog_net::TopicRef;
use ringlog_tests::broker::folder;
use ringlog_tests::client::Client;
use ringlog_tests::requests::topic;
use std::collections::BTreeMap;
use std::rc::Rc;

const COMMIT: i16 = 7;
const FETCH: i16 = 6;
const LOADING: i16 = 14;
const GROUP: &str = "group";
/// Partitions whose offsets, with their metadata, are more than a coordinator's partition may grow by.
const MANY: i32 = 40;
/// One partition of `__consumer_offsets`, so that the group's is known.
const ONE: (&str, &str) = ("offsets.topic.num.partitions", "1");

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn commit(partitions: std::ops::Range<i32>, offset: i64) -> OffsetCommitRequest {
    let metadata = "m".repeat(1000);
    let part = |partition| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(&metadata)))
    };
    let named = OffsetCommitRequestTopic::default()
        .with_name(topic("t"))
        .with_partitions(partitions.map(part).collect());
    OffsetCommitRequest::default()
        .with_group_id(text(GROUP).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![named])
}

fn committed(client: &mut Client, id: i32) -> Vec<i16> {
    let answer = client.receive::<OffsetCommitRequest>(COMMIT, id);
    let mut errors: Vec<i16> = answer.topics[0].partitions.iter().map(|p| p.error_code).collect();
    errors.dedup();
    errors
}

fn fetch() -> OffsetFetchRequest {
    OffsetFetchRequest::default().with_group_id(text(GROUP).into()).with_topics(None)
}

/// All offsets of the group.
fn fetched(client: &mut Client, id: i32) -> BTreeMap<i32, i64> {
    let answer = client.receive::<OffsetFetchRequest>(FETCH, id);
    assert_eq!(answer.error_code, 0);
    answer
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| (p.partition_index, p.committed_offset))
        .collect()
}

/// The group's partition, on the one shard.
fn log(shard: &Shard) -> Rc<Partition> {
    let topic =
        shard.partitions.borrow().topic(&TopicRef::Name(OFFSETS_TOPIC)).cloned().expect("it was made");
    match &topic.partitions[0] {
        Place::Here(partition) => Rc::clone(partition),
        Place::Shard(_) => unreachable!("there is one shard"),
    }
}

/// Where the log of the group's state starts and ends.
fn span(lab: &Lab) -> (i64, i64) {
    lab.on(0, |shard| {
        let store = shard.store.borrow();
        (store.start_offset(log(shard).ix), store.end_offset(log(shard).ix))
    })
}

/// Requests that are held back; none if no state is about to be written.
fn held(lab: &Lab) -> Option<usize> {
    lab.on(0, |shard| shard.groups.borrow().hosts[&0].held.as_ref().map(Vec::len))
}

/// Requests that are not answered.
fn asked(lab: &Lab) -> usize {
    lab.on(0, |shard| shard.groups.borrow().hosts[&0].asked.len())
}

/// A broker whose coordinator has been asked for so much that its state is about to be written, which waits for
/// what is in flight: the commit that was sent, and its id.
fn about_to_compact(lab: &Lab, client: &mut Client) -> i32 {
    client.create_topic("t", MANY, &[]);
    client.find_coordinator(GROUP);
    lab.perturbation.hold(Step::Commit);
    let many = client.send(&commit(0..MANY, 7), COMMIT);
    wait("the commit is on its way", || lab.perturbation.standing(Step::Commit) > 0 && asked(lab) == 1);
    lab.on(0, Shard::compact_groups);
    assert_eq!(held(lab), Some(0));
    many
}

fn expected(first: i64) -> BTreeMap<i32, i64> {
    (0..MANY).map(|partition| (partition, if partition == 0 { first } else { 7 })).collect()
}

#[test]
fn state_is_let_go_when_it_is_durably_written_again() {
    let data = folder();
    let lab = Lab::over(data.path(), 1, &[ONE], Perturbation::default());
    let (mut client, mut other) = (lab.client(), lab.client());
    let many = about_to_compact(&lab, &mut client);
    // What comes meanwhile waits, in its order.
    let one = other.send(&commit(0..1, 8), COMMIT);
    let read = other.send(&fetch(), FETCH);
    wait("two requests are held back", || held(&lab) == Some(2));
    let (start, end) = span(&lab);
    assert_eq!((start, end), (0, i64::from(MANY)));
    // Commits of the log go step by step, until the state is in it and not yet durable.
    wait("the state is written again", || {
        let written = span(&lab).1 > end;
        if !written {
            lab.perturbation.pass(Step::Commit);
        }
        written
    });
    assert_eq!(committed(&mut client, many), [0]);
    assert_eq!((span(&lab).0, held(&lab)), (0, Some(2)));
    lab.perturbation.let_go(Step::Commit);
    assert_eq!(committed(&mut other, one), [0]);
    assert_eq!(fetched(&mut other, read), expected(8));
    assert_eq!(span(&lab).0, end, "what was written again is let go");
    drop((client, other, lab));
    let lab = Lab::over(data.path(), 1, &[ONE], Perturbation::default());
    let mut client = lab.client();
    wait("it is loaded", || client.call(&fetch(), FETCH).error_code != LOADING);
    let read = client.send(&fetch(), FETCH);
    assert_eq!(fetched(&mut client, read), expected(8));
}

#[test]
fn state_that_cannot_be_written_again_stays() {
    let data = folder();
    let lab = Lab::over(data.path(), 1, &[ONE], Perturbation::default());
    let (mut client, mut other) = (lab.client(), lab.client());
    let many = about_to_compact(&lab, &mut client);
    let one = other.send(&commit(0..1, 8), COMMIT);
    let read = other.send(&fetch(), FETCH);
    wait("two requests are held back", || held(&lab) == Some(2));
    lab.perturbation.fill_disk(true);
    lab.perturbation.let_go(Step::Commit);
    // What was in flight is durable; what was held back is answered, the commit with a refusal.
    assert_eq!(committed(&mut client, many), [0]);
    let refused = committed(&mut other, one);
    assert!(refused.len() == 1 && refused[0] != 0, "{refused:?}");
    assert_eq!(fetched(&mut other, read), expected(7));
    assert_eq!((span(&lab).0, held(&lab)), (0, None), "nothing was written again, nothing is let go");
    drop((client, other, lab));
    let lab = Lab::over(data.path(), 1, &[ONE], Perturbation::default());
    let mut client = lab.client();
    wait("it is loaded", || client.call(&fetch(), FETCH).error_code != LOADING);
    let one = client.send(&commit(0..1, 9), COMMIT);
    let read = client.send(&fetch(), FETCH);
    assert_eq!((committed(&mut client, one), fetched(&mut client, read)), (vec![0], expected(9)));
}

fn durability(lab: &Lab) -> Durability {
    lab.on(0, |shard| log(shard).config.borrow().durability)
}

/// Sends a request and gives how many are unanswered once what it appended is on its way to the disk.
fn unanswered(lab: &Lab, send: impl FnOnce()) -> usize {
    lab.perturbation.hold(Step::Commit);
    send();
    wait("it is on its way to the disk", || lab.perturbation.standing(Step::Commit) > 0);
    let asked = asked(lab);
    lab.perturbation.let_go(Step::Commit);
    asked
}

#[test]
fn group_state_is_acknowledged_once_durable_whatever_topics_do() {
    let lab = Lab::start(1, &[ONE, ("ringlog.durability", "async")], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", 1, &[]);
    client.find_coordinator(GROUP);
    assert_eq!(durability(&lab), Durability::Commit);
    for round in 0..2 {
        let mut id = 0;
        assert_eq!(unanswered(&lab, || id = client.send(&commit(0..1, round), COMMIT)), 1);
        assert_eq!(committed(&mut client, id), [0]);
        let (generation, member) = join(&mut client, &format!("members-{round}"));
        let sync = sync(&format!("members-{round}"), generation, &member);
        assert_eq!(unanswered(&lab, || id = client.send(&sync, 3)), 1);
        assert_eq!(client.receive::<SyncGroupRequest>(3, id).error_code, 0);
        // The same where an operator says otherwise of this topic.
        let config =
            AlterableConfig::default().with_name(text("ringlog.durability")).with_value(Some(text("async")));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(OFFSETS_TOPIC))
            .with_configs(vec![config]);
        let alter = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(&alter, 1).responses[0].error_code, 0);
        assert_eq!(durability(&lab), Durability::Async);
    }
}

/// Joins a group as its only member.
fn join(client: &mut Client, group: &str) -> (i32, StrBytes) {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(text(group).into())
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_group_instance_id(Some(text("instance")))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = client.call(&join, 5);
    assert_eq!(joined.error_code, 0);
    (joined.generation_id, joined.member_id)
}

fn sync(group: &str, generation: i32, member: &StrBytes) -> SyncGroupRequest {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(member.clone())
        .with_assignment(Bytes::from_static(b"all of it"));
    SyncGroupRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_group_instance_id(Some(text("instance")))
        .with_assignments(vec![assignment])
}

/// A partition that has grown in an earlier life is loaded, which takes a while, before its state is written again.
#[test]
fn state_is_not_written_again_before_it_is_loaded() {
    let data = folder();
    let lab = Lab::over(data.path(), 1, &[ONE], Perturbation::default());
    let mut client = lab.client();
    client.create_topic("t", MANY, &[]);
    client.find_coordinator(GROUP);
    for offset in [6, 7] {
        let many = client.send(&commit(0..MANY, offset), COMMIT);
        assert_eq!(committed(&mut client, many), [0]);
    }
    drop((client, lab));
    let reading = Perturbation::default();
    reading.hold(Step::Read);
    let lab = Lab::over(data.path(), 1, &[ONE], reading);
    let mut client = lab.client();
    wait("it is being read", || lab.perturbation.standing(Step::Read) == 1);
    lab.on(0, Shard::compact_groups);
    assert_eq!(held(&lab), None);
    let early = client.call(&fetch(), FETCH);
    assert_eq!(early.error_code, LOADING);
    lab.perturbation.let_go(Step::Read);
    client.find_coordinator(GROUP);
    wait("it is loaded", || client.call(&fetch(), FETCH).error_code != LOADING);
    let read = client.send(&fetch(), FETCH);
    assert_eq!(fetched(&mut client, read), expected(7));
    wait("what it grew by before is let go", || {
        lab.on(0, Shard::compact_groups);
        span(&lab).0 > 0
    });
    let read = client.send(&fetch(), FETCH);
    assert_eq!(fetched(&mut client, read), expected(7));
}
