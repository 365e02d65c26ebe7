//! OffsetCommit, OffsetFetch, OffsetDelete, DeleteGroups, expiry and deleted topics.

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

const RETENTION_MS: u64 = 7 * 24 * 3_600_000;

fn tombstones(lab: &Lab) -> Vec<RecordKey> {
    lab.log
        .iter()
        .filter(|record| record.value.is_none())
        .map(|record| decode_key(&record.key).unwrap())
        .collect()
}

fn offset_key(topic: &str) -> RecordKey {
    RecordKey::Offset { group: GROUP.to_owned(), topic: topic.to_owned(), partition: 0 }
}

fn group_key() -> RecordKey {
    RecordKey::Group { group: GROUP.to_owned() }
}

/// Makes time pass in pieces short enough for every retention check.
fn pass_long(lab: &mut Lab, ms: u64) {
    lab.pass(ms);
    lab.append_all();
}

#[test]
fn an_offset_is_seen_once_durable() {
    let mut lab = Lab::new();
    let token = lab.commit(simple_commit("t", 42));
    assert!(lab.waits(token));
    assert_eq!(lab.offset("t"), -1);
    lab.append(Ok(()));
    assert_eq!(lab.committed(token), ErrorCode::NONE);
    assert_eq!(lab.offset("t"), 42);
    lab.restart();
    let all = lab.send(fetch_request(None, false));
    let topics = lab.fetched(all);
    assert_eq!((topics.len(), &*topics[0].name), (1, "t"));
    let expected =
        FetchedPartition { partition: 0, offset: 42, leader_epoch: 7, metadata: "text".to_owned() };
    assert_eq!(topics[0].partitions, [expected]);
    assert_eq!(lab.state(), "Empty");
    assert_eq!(lab.describe(GROUP).protocol_type, "");
}

#[test]
fn unknown_groups_and_partitions_have_offset_minus_one() {
    let mut lab = Lab::new();
    let topic = || FetchTopic { name: "t".to_owned(), topic_id: [0; 16], partitions: vec![0, 5] };
    for known in [false, true] {
        let token = lab.send(fetch_request(Some(vec![topic()]), false));
        let partitions = lab.fetched(token).remove(0).partitions;
        assert!(partitions.iter().all(|p| (p.offset, p.leader_epoch, &*p.metadata) == (-1, -1, "")));
        assert_eq!(partitions.iter().map(|p| p.partition).collect::<Vec<_>>(), [0, 5]);
        let token = lab.send(fetch_request(None, false));
        assert_eq!(lab.fetched(token).len(), usize::from(known));
        if !known {
            lab.commit(simple_commit("other", 1));
            lab.append_all();
        }
    }
}

#[test]
fn commits_are_refused_by_cause() {
    let mut lab = Lab::new();
    let old = CommitRequest { supports_group_id_not_found: false, ..member_commit("t", 1, "m", 1) };
    for (request, error) in [
        (member_commit("t", 1, "m", 1), ErrorCode::GROUP_ID_NOT_FOUND),
        (old, ErrorCode::ILLEGAL_GENERATION),
        (CommitRequest { group: "g".repeat(40_000), ..simple_commit("t", 1) }, ErrorCode::INVALID_GROUP_ID),
    ] {
        let token = lab.commit(request);
        assert_eq!(lab.committed(token), error);
    }
    let (members, _) = lab.completing(&["a"]);
    let id = &*members[0];
    let token = lab.commit(member_commit("t", 1, id, 1));
    assert_eq!(lab.committed(token), ErrorCode::REBALANCE_IN_PROGRESS, "CompletingRebalance");
    lab.sync(id, 1, &[]);
    lab.append_all();
    for (request, error) in [
        (member_commit("t", 1, "m", 1), ErrorCode::UNKNOWN_MEMBER_ID),
        (member_commit("t", 1, id, 0), ErrorCode::ILLEGAL_GENERATION),
        (member_commit("t", 1, id, -1), ErrorCode::ILLEGAL_GENERATION),
        (simple_commit("t", 1), ErrorCode::UNKNOWN_MEMBER_ID),
    ] {
        let token = lab.commit(request);
        assert_eq!(lab.committed(token), error);
    }
    lab.join(new_member("b"));
    let token = lab.commit(member_commit("t", 1, id, 1));
    lab.append_all();
    assert_eq!(
        lab.committed(token),
        ErrorCode::NONE,
        "PreparingRebalance: what was read may still be committed"
    );
}

#[test]
fn metadata_has_its_limit() {
    let mut lab = Lab::with(GroupSettings { offset_metadata_max: 4, ..GroupSettings::default() });
    for (text, error) in [
        ("four", ErrorCode::NONE),
        ("fives", ErrorCode::OFFSET_METADATA_TOO_LARGE),
        ("éééé", ErrorCode::NONE),
    ] {
        let mut commit = simple_commit("t", 1);
        commit.topics[0].partitions[0].metadata = Some(text.to_owned());
        let token = lab.commit(commit);
        lab.append_all();
        assert_eq!(lab.committed(token), error, "{text}");
    }
    let mut lab = Lab::with(GroupSettings { offset_metadata_max: usize::MAX, ..GroupSettings::default() });
    let mut commit = simple_commit("t", 1);
    commit.topics[0].partitions[0].metadata = Some("m".repeat(40_000));
    let token = lab.commit(commit);
    assert_eq!(lab.committed(token), ErrorCode::OFFSET_METADATA_TOO_LARGE, "no record could hold it");
    assert_eq!(lab.state(), "Dead", "a commit of nothing makes no group");
}

#[test]
fn offsets_belong_to_a_topic_id() {
    let mut lab = Lab::new();
    let mut commit = simple_commit("t", 5);
    commit.topics[0].topic_id = [1; 16];
    lab.commit(commit);
    lab.append_all();
    for (id, offset) in [([1; 16], 5), ([2; 16], -1), ([0; 16], 5)] {
        let topic = FetchTopic { name: "t".to_owned(), topic_id: id, partitions: vec![0] };
        let token = lab.send(fetch_request(Some(vec![topic]), false));
        let topics = lab.fetched(token);
        assert_eq!((topics[0].topic_id, topics[0].partitions[0].offset), (id, offset));
    }
}

#[test]
fn a_stable_fetch_waits_for_what_is_in_flight() {
    let mut lab = Lab::new();
    let topic = || Some(vec![FetchTopic { name: "t".to_owned(), topic_id: [0; 16], partitions: vec![0] }]);
    let token = lab.send(fetch_request(topic(), true));
    assert_eq!(lab.fetched(token)[0].partitions[0].offset, -1, "nothing is in flight");
    lab.commit(simple_commit("t", 1));
    lab.commit(simple_commit("t", 2));
    let token = lab.send(fetch_request(topic(), true));
    lab.commit(simple_commit("t", 3));
    lab.append(Ok(()));
    assert!(lab.waits(token));
    lab.append(Ok(()));
    assert_eq!(lab.fetched(token)[0].partitions[0].offset, 2);
}

#[test]
fn offsets_of_unsubscribed_topics_can_be_deleted() {
    let mut lab = Lab::new();
    let delete = |lab: &mut Lab, topic: &str| {
        let topics = vec![(topic.to_owned(), vec![0, 9])];
        let token = lab.send(Request::OffsetDelete(OffsetDeleteRequest { group: GROUP.to_owned(), topics }));
        lab.append_all();
        let Reply::OffsetDelete(reply) = lab.reply(token) else { panic!("another reply") };
        (reply.error, reply.topics.first().map(|topic| topic.partitions.clone()))
    };
    assert_eq!(delete(&mut lab, "t"), (ErrorCode::GROUP_ID_NOT_FOUND, None));
    let members = lab.stable(&["a"]);
    for topic in ["subscribed", "t"] {
        lab.commit(member_commit(topic, 1, &members[0], 1));
    }
    lab.append_all();
    let (none, subscribed) = (ErrorCode::NONE, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
    assert_eq!(delete(&mut lab, "subscribed"), (none, Some(vec![(0, subscribed), (9, subscribed)])));
    assert_eq!(delete(&mut lab, "t"), (none, Some(vec![(0, none), (9, none)])));
    assert_eq!((lab.offset("subscribed"), lab.offset("t")), (1, -1));
    assert_eq!(tombstones(&lab), [offset_key("t")], "only what there was");
    lab.leave(&[(&members[0], None)]);
    lab.append_all();
    assert_eq!(delete(&mut lab, "subscribed"), (none, Some(vec![(0, none), (9, none)])));

    let mut lab = Lab::new();
    let join = JoinRequest { protocol_type: "connect".to_owned(), ..new_member("a") };
    lab.join(join);
    assert_eq!(delete(&mut lab, "t"), (ErrorCode::NON_EMPTY_GROUP, None));
}

#[test]
fn a_consumer_with_an_illegible_subscription_may_use_any_topic() {
    let mut lab = Lab::new();
    let protocols = vec![("range".to_owned(), bytes::Bytes::from_static(b"\xff"))];
    lab.join(JoinRequest { protocols, ..new_member("a") });
    lab.pass(3_000);
    let topics = vec![("t".to_owned(), vec![0])];
    let token = lab.send(Request::OffsetDelete(OffsetDeleteRequest { group: GROUP.to_owned(), topics }));
    let Reply::OffsetDelete(reply) = lab.reply(token) else { panic!("another reply") };
    assert_eq!(reply.topics[0].partitions, [(0, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)]);
}

fn delete_groups(lab: &mut Lab, groups: &[&str]) -> u64 {
    lab.send(Request::Delete(groups.iter().map(|group| (*group).to_owned()).collect()))
}

fn deleted(lab: &mut Lab, token: u64) -> Vec<ErrorCode> {
    let Reply::Delete(outcomes) = lab.reply(token) else { panic!("another reply") };
    outcomes.into_iter().map(|(_, error)| error).collect()
}

#[test]
fn empty_groups_can_be_deleted() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.commit(member_commit("t", 1, &members[0], 1));
    lab.append_all();
    let token = delete_groups(&mut lab, &[GROUP, "unknown"]);
    assert_eq!(deleted(&mut lab, token), [ErrorCode::NON_EMPTY_GROUP, ErrorCode::GROUP_ID_NOT_FOUND]);
    lab.leave(&[(&members[0], None)]);
    lab.append_all();
    let token = delete_groups(&mut lab, &[GROUP, "unknown"]);
    assert!(lab.waits(token));
    assert_eq!(lab.state(), "Dead");
    // Until the tombstones are durable the group is neither there nor gone: try again.
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    for request in [Request::Join(new_member("b")), Request::Sync(sync("m", 1, &[]))] {
        let token = lab.send(request.clone());
        assert_eq!(lab.reply(token), request.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    }
    let again = delete_groups(&mut lab, &[GROUP]);
    assert_eq!(deleted(&mut lab, again), [ErrorCode::COORDINATOR_NOT_AVAILABLE]);
    assert_eq!(lab.offset("t"), 1);
    lab.append_all();
    assert_eq!(deleted(&mut lab, token), [ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    assert_eq!(tombstones(&lab), [offset_key("t"), group_key()]);
    assert_eq!(lab.offset("t"), -1);
    lab.restart();
    let token = delete_groups(&mut lab, &[GROUP]);
    assert_eq!(deleted(&mut lab, token), [ErrorCode::GROUP_ID_NOT_FOUND]);
}

#[test]
fn a_group_without_offsets_has_a_tombstone_too() {
    for stored in [true, false] {
        let mut lab = Lab::new();
        let members = lab.stable(&["a"]);
        lab.leave(&[(&members[0], None)]);
        if stored {
            lab.append_all();
        }
        // The record of the empty generation may still be on its way.
        let token = delete_groups(&mut lab, &[GROUP]);
        lab.append_all();
        assert_eq!(deleted(&mut lab, token), [ErrorCode::NONE]);
        assert_eq!(tombstones(&lab), [group_key()]);
        assert_eq!(lab.state(), "Dead");
        lab.restart();
        assert_eq!(lab.state(), "Dead");
    }
}

#[test]
fn many_tombstones_go_in_pieces() {
    let mut lab = Lab::new();
    for partitions in [0..600, 600..1_200] {
        let mut commit = simple_commit("t", 1);
        let partition = commit.topics[0].partitions[0].clone();
        let with = |index| CommitPartition { partition: index, ..partition.clone() };
        commit.topics[0].partitions = partitions.map(with).collect();
        lab.commit(commit);
    }
    lab.append_all();
    let token = delete_groups(&mut lab, &[GROUP]);
    let pieces: Vec<usize> = lab.appends.iter().map(|(_, records)| records.len()).collect();
    assert_eq!(pieces, [500, 500, 201]);
    lab.append(Ok(()));
    lab.append(Err(ErrorCode::KAFKA_STORAGE_ERROR));
    lab.append(Ok(()));
    assert_eq!(deleted(&mut lab, token), [ErrorCode::NOT_COORDINATOR]);
    let token = lab.send(fetch_request(None, false));
    assert_eq!(lab.fetched(token)[0].partitions.len(), 500, "what failed to be deleted is still there");
}

#[test]
fn a_group_expires_as_a_whole_after_it_was_empty_for_the_retention() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.commit(member_commit("t", 1, &members[0], 1));
    lab.append_all();
    for _ in 0..9 {
        lab.pass(SESSION_MS - 1);
        lab.heartbeat(&members[0], 1);
    }
    lab.leave(&[(&members[0], None)]);
    pass_long(&mut lab, RETENTION_MS - 1);
    assert_eq!(
        (lab.state(), lab.offset("t")),
        ("Empty", 1),
        "the commit is older than that, the emptiness not"
    );
    pass_long(&mut lab, 600_000);
    assert_eq!((lab.state(), lab.offset("t")), ("Dead", -1));
    assert_eq!(tombstones(&lab), [offset_key("t"), group_key()]);
    lab.restart();
    assert_eq!(lab.state(), "Dead");
}

#[test]
fn an_offset_is_not_expired_while_it_is_committed_again() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.leave(&[(&members[0], None)]);
    lab.commit(simple_commit("t", 1));
    lab.append_all();
    lab.now.wall_ms += RETENTION_MS as i64;
    let token = lab.commit(simple_commit("t", 2));
    lab.pass(600_000);
    lab.append_all();
    assert_eq!((lab.committed(token), lab.offset("t")), (ErrorCode::NONE, 2));
}

#[test]
fn offsets_without_a_group_expire_each_by_its_age() {
    let mut lab = Lab::new();
    lab.commit(simple_commit("old", 1));
    pass_long(&mut lab, 3_600_000);
    lab.commit(simple_commit("new", 1));
    lab.append_all();
    pass_long(&mut lab, RETENTION_MS - 3_600_000);
    pass_long(&mut lab, 600_000);
    assert_eq!((lab.offset("old"), lab.offset("new")), (-1, 1));
    pass_long(&mut lab, 3_600_000);
    assert_eq!((lab.offset("new"), lab.state()), (-1, "Dead"));
}

#[test]
fn a_stable_group_keeps_what_it_subscribes_to() {
    let mut lab = Lab::new();
    let session_ms = 30 * 60_000;
    let token = lab.join(JoinRequest { session_timeout_ms: session_ms, ..new_member("a") });
    lab.pass(3_000);
    let id = lab.joined(token).member_id;
    let token = lab.sync(&id, 1, &[]);
    lab.append_all();
    lab.synced(token);
    for topic in ["subscribed", "t"] {
        lab.commit(member_commit(topic, 1, &id, 1));
    }
    lab.append_all();
    for _ in 0..RETENTION_MS / 1_700_000 + 2 {
        pass_long(&mut lab, 1_700_000);
        assert_eq!(lab.heartbeat(&id, 1), ErrorCode::NONE);
    }
    assert_eq!((lab.offset("subscribed"), lab.offset("t"), lab.state()), (1, -1, "Stable"));
}

#[test]
fn a_client_may_set_its_own_expiry() {
    let mut lab = Lab::new();
    lab.commit(CommitRequest { retention_ms: 1_000, ..simple_commit("short", 1) });
    lab.commit(CommitRequest { retention_ms: 10 * RETENTION_MS as i64, ..simple_commit("long", 1) });
    lab.append_all();
    lab.restart();
    pass_long(&mut lab, 600_000);
    assert_eq!((lab.offset("short"), lab.offset("long")), (-1, 1));
    pass_long(&mut lab, 2 * RETENTION_MS);
    assert_eq!(lab.offset("long"), 1);
}

#[test]
fn expiry_goes_through_many_groups_in_pieces() {
    let mut lab = Lab::new();
    for n in 0..600 {
        lab.commit(CommitRequest { group: format!("g{n:03}"), ..simple_commit("t", 1) });
    }
    lab.append_all();
    lab.now.wall_ms += RETENTION_MS as i64;
    let mut seen = Vec::new();
    for ms in [600_000, 1, 1, 1] {
        lab.pass(ms);
        seen.push(lab.appends.len());
        lab.append_all();
    }
    assert_eq!(seen, [256, 256, 88, 0]);
}

#[test]
fn offsets_go_with_their_topic() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    for topic in ["subscribed", "t", "u"] {
        lab.commit(member_commit(topic, 1, &members[0], 1));
    }
    lab.append_all();
    lab.topics_deleted(&["subscribed", "u", "x"]);
    lab.append_all();
    assert_eq!(tombstones(&lab), [offset_key("subscribed"), offset_key("u")]);
    assert_eq!((lab.offset("subscribed"), lab.offset("t"), lab.offset("u")), (-1, 1, -1));
    // A commit in flight is deleted with the rest.
    lab.commit(member_commit("t", 2, &members[0], 1));
    lab.topics_deleted(&["t"]);
    lab.append_all();
    assert_eq!(lab.offset("t"), -1);
}
