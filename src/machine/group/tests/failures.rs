//! Appends that fail, leadership that is lost, and what is read back.

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

const FULL: Result<(), ErrorCode> = Err(ErrorCode::KAFKA_STORAGE_ERROR);

#[test]
fn append_errors_are_told_as_kafka_tells_them() {
    for (error, told) in [
        (ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::COORDINATOR_NOT_AVAILABLE),
        (ErrorCode::KAFKA_STORAGE_ERROR, ErrorCode::NOT_COORDINATOR),
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::NOT_COORDINATOR),
        (ErrorCode::MESSAGE_TOO_LARGE, ErrorCode::UNKNOWN_SERVER_ERROR),
        (ErrorCode::CORRUPT_MESSAGE, ErrorCode::CORRUPT_MESSAGE),
    ] {
        let mut lab = Lab::new();
        let token = lab.commit(simple_commit("t", 1));
        lab.append(Err(error));
        assert_eq!(lab.committed(token), told);
        assert_eq!(lab.state(), "Dead", "nothing is left of the attempt");
    }
}

#[test]
fn a_failed_commit_leaves_the_offset_before() {
    let mut lab = Lab::new();
    lab.commit(simple_commit("t", 1));
    lab.append_all();
    let (second, third) = (lab.commit(simple_commit("t", 2)), lab.commit(simple_commit("t", 3)));
    lab.append(FULL);
    assert_eq!((lab.offset("t"), lab.waits(third)), (1, true));
    assert_eq!(lab.committed(second), ErrorCode::NOT_COORDINATOR);
    lab.append(Ok(()));
    assert_eq!((lab.offset("t"), lab.committed(third)), (3, ErrorCode::NONE));
}

#[test]
fn a_partly_refused_commit_keeps_its_own_errors() {
    let mut lab = Lab::new();
    let mut commit = simple_commit("t", 1);
    let large = CommitPartition {
        partition: 1,
        metadata: Some("m".repeat(5_000)),
        ..commit.topics[0].partitions[0].clone()
    };
    commit.topics[0].partitions.push(large);
    let token = lab.commit(commit);
    lab.append(FULL);
    let Reply::Commit(reply) = lab.reply(token) else { panic!("another reply") };
    let expected = [(0, ErrorCode::NOT_COORDINATOR), (1, ErrorCode::OFFSET_METADATA_TOO_LARGE)];
    assert_eq!(reply.topics[0].partitions, expected);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_taken_back() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a", "b"]);
    let leader = lab.sync(&members[0], 1, &[(&members[0], "x"), (&members[1], "y")]);
    let follower = lab.sync(&members[1], 1, &[]);
    lab.append(Err(ErrorCode::NOT_ENOUGH_REPLICAS));
    for token in [leader, follower] {
        let reply = lab.synced(token);
        assert_eq!((reply.error, reply.assignment.len()), (ErrorCode::COORDINATOR_NOT_AVAILABLE, 0));
    }
    assert_eq!(lab.state(), "PreparingRebalance");
    let tokens = [lab.join(known_member(&members[0])), lab.join(known_member(&members[1]))];
    assert_eq!(tokens.map(|token| lab.joined(token).generation), [2, 2]);
}

#[test]
fn an_assignment_stored_too_late_is_not_handed_out() {
    for result in [Ok(()), FULL] {
        let mut lab = Lab::new();
        let (members, _) = lab.completing(&["a"]);
        let parked = lab.sync(&members[0], 1, &[(&members[0], "x")]);
        lab.join(new_member("b"));
        assert_eq!(lab.synced(parked).error, ErrorCode::REBALANCE_IN_PROGRESS);
        lab.append(result);
        assert_eq!(lab.state(), "PreparingRebalance");
    }
}

#[test]
fn a_generation_gets_its_own_assignment() {
    for result in [Ok(()), FULL] {
        let mut lab = Lab::new();
        let (members, _) = lab.completing(&["a"]);
        lab.sync(&members[0], 1, &[(&members[0], "of generation 1")]);
        let tokens = [lab.join(new_member("b")), lab.join(known_member(&members[0]))];
        assert_eq!(tokens.map(|token| lab.joined(token).generation), [2, 2]);
        let follower = lab.sync("b-uuid", 2, &[]);
        lab.append(result);
        assert!(lab.waits(follower), "what was stored is another generation's");
        let leader = lab.sync(&members[0], 2, &[("b-uuid", "of generation 2")]);
        lab.append_all();
        assert_eq!(&lab.synced(follower).assignment[..], b"of generation 2");
        assert!(lab.synced(leader).assignment.is_empty());
    }
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_keeps_its_old_one() {
    let mut lab = Lab::new();
    let token = lab.join(static_member("i", "u"));
    lab.pass(3_000);
    let id = lab.joined(token).member_id;
    let token = lab.sync(&id, 1, &[(&id, "x")]);
    lab.append_all();
    lab.synced(token);
    let token = lab.join(static_member("i", "v"));
    lab.append(FULL);
    let reply = lab.joined(token);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::NOT_COORDINATOR, ""));
    assert_eq!(lab.heartbeat_of("i-u", Some("i"), 1), ErrorCode::NONE);
    assert_eq!(lab.heartbeat_of("i-v", Some("i"), 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(&lab.describe(GROUP).members[0].assignment[..], b"x");
}

#[test]
fn a_group_whose_deletion_fails_is_empty_again() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.commit(member_commit("t", 5, &members[0], 1));
    let left = lab.leave(&[(&members[0], None)]);
    lab.append_all();
    lab.left(left);
    let token = lab.send(Request::Delete(vec![GROUP.to_owned()]));
    lab.append(FULL);
    assert_eq!(lab.reply(token), Reply::Delete(vec![(GROUP.to_owned(), ErrorCode::NOT_COORDINATOR)]));
    assert_eq!((lab.state(), lab.offset("t")), ("Empty", 5));
    let token = lab.join(new_member("b"));
    lab.pass(3_000);
    assert_eq!(lab.joined(token).generation, 3, "generations go on");
}

#[test]
fn an_empty_generation_that_cannot_be_stored_is_harmless() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    let token = lab.leave(&[(&members[0], None)]);
    lab.append(FULL);
    assert_eq!(lab.left(token).0, ErrorCode::NOT_COORDINATOR);
    assert_eq!(lab.state(), "Empty");
    lab.restart();
    assert_eq!(lab.state(), "Stable", "the log has the member still");
    lab.pass(SESSION_MS);
    lab.append_all();
    assert_eq!(lab.state(), "Empty");
    lab.restart();
    assert_eq!(lab.state(), "Empty");
}

#[test]
fn a_coordinator_that_resigns_answers_everyone() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a", "b"]);
    let commit = lab.commit(CommitRequest { group: "other".to_owned(), ..simple_commit("t", 1) });
    let fetch = lab.send(fetch_request(None, true));
    let leader = lab.sync(&members[0], 1, &[]);
    let mut other = new_member("c");
    other.group = "third".to_owned();
    let join = lab.join(other);
    lab.resign(ErrorCode::NOT_COORDINATOR);
    assert_eq!(lab.committed(commit), ErrorCode::NOT_COORDINATOR);
    assert_eq!(lab.synced(leader).error, ErrorCode::NOT_COORDINATOR);
    assert_eq!(lab.joined(join).error, ErrorCode::NOT_COORDINATOR);
    let Reply::Fetch(fetched) = lab.reply(fetch) else { panic!("another reply") };
    assert_eq!(fetched.groups[0].error, ErrorCode::NOT_COORDINATOR);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NOT_COORDINATOR);
    // The outcome of what was in flight comes too late.
    lab.append_all();
    lab.pass(100_000);
    assert_eq!(lab.coordinator.next_deadline_ms(), None);
    assert_eq!(lab.coordinator.live_state(lab.now), None);
}

#[test]
fn requests_are_put_off_while_loading() {
    let mut lab = Lab::new();
    lab.coordinator = Coordinator::new(GroupSettings::default());
    let token = lab.commit(simple_commit("t", 1));
    assert_eq!(lab.committed(token), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(lab.heartbeat("m", 1), ErrorCode::NONE, "members need not look elsewhere");
    let token = lab.send(Request::List(ListRequest::default()));
    let loading = ListReply { error: ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, groups: Vec::new() };
    assert_eq!(lab.reply(token), Reply::List(loading));
}

#[test]
fn a_generation_goes_on_after_a_restart() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    lab.commit(member_commit("t", 5, &members[0], 1));
    lab.append_all();
    let before = lab.describe(GROUP);
    lab.restart();
    assert_eq!(lab.describe(GROUP), before);
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE, "sessions begin anew");
    assert_eq!(lab.offset("t"), 5);
    lab.pass(1);
    assert_eq!(lab.state(), "PreparingRebalance", "b has not come back");
}

#[test]
fn a_lowered_maximum_rebalances_after_a_restart() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    lab.settings.max_size = 1;
    lab.restart();
    assert_eq!(lab.state(), "PreparingRebalance");
    let tokens = [lab.join(known_member(&members[1])), lab.join(known_member(&members[0]))];
    let errors = tokens.map(|token| lab.joined(token).error);
    assert_eq!(errors, [ErrorCode::NONE, ErrorCode::GROUP_MAX_SIZE_REACHED]);
}

#[test]
fn records_that_cannot_be_read_are_reported_and_strange_ones_skipped() {
    let mut coordinator = Coordinator::new(GroupSettings::default());
    let key = encode_offset_key("g", "t", 0);
    assert_eq!(coordinator.load(b"\0", None, 0), Err(LoadError::Key(CodecError::Truncated)));
    let unknown = LoadError::Value(CodecError::UnknownVersion(9));
    assert_eq!(coordinator.load(&key, Some(b"\0\x09"), 0), Err(unknown));
    assert_eq!(coordinator.load(&encode_group_key("g"), Some(b"\0\x09"), 0), Err(unknown));
    assert_eq!(unknown.to_string(), "the value of a group record cannot be read: unknown version 9");
    let member = MemberValue {
        member_id: "m".to_owned(),
        instance_id: None,
        client_id: String::new(),
        client_host: String::new(),
        rebalance_timeout_ms: 1,
        session_timeout_ms: 1,
        subscription: Bytes::new(),
        assignment: Bytes::new(),
    };
    let value = GroupValue {
        protocol_type: "consumer".to_owned(),
        generation: 1,
        protocol: Some("range".to_owned()),
        leader: None,
        state_timestamp_ms: 1,
        members: vec![member.clone(), member.clone()],
    };
    let on = |instance: &str, id: &str| MemberValue {
        instance_id: Some(instance.to_owned()),
        member_id: id.to_owned(),
        ..member.clone()
    };
    for impossible in [
        value.clone(),
        GroupValue { members: vec![on("i", "a"), on("i", "b")], ..value.clone() },
        GroupValue { members: vec![member.clone()], protocol: None, ..value.clone() },
        GroupValue { members: vec![member.clone()], protocol_type: String::new(), ..value.clone() },
    ] {
        let bytes = encode_group_value(&impossible);
        assert_eq!(coordinator.load(&encode_group_key("g"), Some(&bytes), 0), Err(LoadError::Inconsistent));
    }
    for kind in 3..6 {
        assert_eq!(coordinator.load(&[0, kind, 1, 2, 3], Some(b"whatever"), 0), Ok(()));
    }
    assert_eq!(coordinator.load(&key, None, 0), Ok(()), "a tombstone for nothing");
    assert_eq!(coordinator.load(&encode_group_key("g"), None, 0), Ok(()));
    assert_eq!(coordinator.unknown_records(), 3);
    coordinator.loaded(Now { monotonic_ms: 0, wall_ms: 0 });
    coordinator.check();
    assert_eq!(coordinator.live_state(Now { monotonic_ms: 0, wall_ms: 0 }), Some(Vec::new()));
}

#[test]
fn the_live_state_is_all_that_a_restart_needs() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    for offset in 0..10 {
        lab.commit(member_commit("t", offset, &members[0], 1));
    }
    assert_eq!(lab.coordinator.live_state(lab.now), None, "appends are in flight");
    lab.append_all();
    // A rebalance under way is not in the log, and so not in its live state.
    lab.join(new_member("b"));
    lab.log = lab.coordinator.live_state(lab.now).unwrap();
    assert_eq!(lab.log.len(), 2);
    lab.restart();
    assert_eq!((lab.state(), lab.offset("t")), ("Stable", 9));
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE);
}
