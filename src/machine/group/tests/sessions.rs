//! SyncGroup, Heartbeat, LeaveGroup and silence.

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

#[test]
fn assignments_wait_for_the_leader_and_for_the_log() {
    let mut lab = Lab::new();
    let (members, generation) = lab.completing(&["a", "b", "c"]);
    let follower = lab.sync(&members[1], generation, &[("ignored", "x")]);
    assert!(lab.waits(follower));
    let leader =
        lab.sync(&members[0], generation, &[(&members[0], "zero"), (&members[1], "one"), ("stranger", "x")]);
    assert!(lab.waits(leader) && lab.waits(follower), "the record is not durable yet");
    assert_eq!(lab.state(), "CompletingRebalance");
    lab.append(Ok(()));
    let (leader, follower) = (lab.synced(leader), lab.synced(follower));
    assert_eq!((&leader.assignment[..], &follower.assignment[..]), (&b"zero"[..], &b"one"[..]));
    assert_eq!(
        (leader.protocol_type.as_deref(), leader.protocol.as_deref()),
        (Some("consumer"), Some("range"))
    );
    let late = lab.sync(&members[2], generation, &[]);
    assert!(lab.synced(late).assignment.is_empty(), "the leader assigned nothing to c");
    let RecordKey::Group { group } = decode_key(&lab.log[0].key).unwrap() else { panic!("a group's record") };
    let value = decode_group_value(lab.log[0].value.as_ref().unwrap()).unwrap();
    assert_eq!((&*group, value.generation, value.members.len()), (GROUP, 1, 3));
    assert_eq!((value.leader.as_ref(), &value.members[1].assignment[..]), (Some(&members[0]), &b"one"[..]));
}

#[test]
fn syncs_are_refused_by_cause() {
    let mut lab = Lab::new();
    let token = lab.sync("nobody", 1, &[]);
    assert_eq!(lab.synced(token).error, ErrorCode::UNKNOWN_MEMBER_ID, "no such group");
    let (members, _) = lab.completing(&["a", "b"]);
    let id = &*members[1];
    let says = |kind: &str, protocol: &str| SyncRequest {
        protocol_type: Some(kind.to_owned()),
        protocol: Some(protocol.to_owned()),
        ..sync(id, 1, &[])
    };
    let cases = [
        (sync("nobody", 1, &[]), ErrorCode::UNKNOWN_MEMBER_ID),
        (sync(id, 0, &[]), ErrorCode::ILLEGAL_GENERATION),
        (sync(id, 2, &[]), ErrorCode::ILLEGAL_GENERATION),
        (says("connect", "range"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (says("consumer", "sticky"), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
    ];
    for (request, error) in cases {
        let token = lab.send(Request::Sync(request));
        assert_eq!(lab.synced(token).error, error);
    }
    let token = lab.send(Request::Sync(says("consumer", "range")));
    assert!(lab.waits(token));
    lab.join(new_member("c"));
    assert_eq!(lab.synced(token).error, ErrorCode::REBALANCE_IN_PROGRESS);
    let token = lab.sync(id, 1, &[]);
    assert_eq!(lab.synced(token).error, ErrorCode::REBALANCE_IN_PROGRESS, "PreparingRebalance");
}

#[test]
fn who_does_not_sync_is_out() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a", "b"]);
    let leader = lab.sync(&members[0], 1, &[]);
    lab.append_all();
    lab.synced(leader);
    for _ in 0..3 {
        lab.pass(REBALANCE_MS / 4);
        assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE);
        assert_eq!(lab.heartbeat(&members[1], 1), ErrorCode::NONE);
    }
    lab.pass(REBALANCE_MS / 4);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(lab.heartbeat(&members[1], 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_sync_repeated_over_a_new_connection_takes_over() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a"]);
    let before = lab.sync(&members[0], 1, &[(&members[0], "first")]);
    let after = lab.sync(&members[0], 1, &[(&members[0], "second")]);
    assert_eq!(lab.synced(before).error, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(lab.appends.len(), 1, "the assignment is stored once");
    lab.append_all();
    assert_eq!(&lab.synced(after).assignment[..], b"first");
}

#[test]
fn heartbeats_in_each_state() {
    let mut lab = Lab::new();
    assert_eq!(lab.heartbeat("nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let (members, _) = lab.completing(&["a", "b"]);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE, "CompletingRebalance");
    assert_eq!(lab.heartbeat(&members[0], 0), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(lab.heartbeat("nobody", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    lab.sync(&members[0], 1, &[]);
    lab.append_all();
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE, "Stable");
    lab.join(new_member("c"));
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::REBALANCE_IN_PROGRESS, "PreparingRebalance");
    let token = lab.leave(&[(&members[0], None), (&members[1], None), ("c-uuid", None)]);
    lab.append_all();
    assert_eq!(lab.left(token).1, [ErrorCode::NONE; 3]);
    assert_eq!((lab.state(), lab.heartbeat(&members[0], 1)), ("Empty", ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn silence_ends_a_session() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE);
    lab.pass(1);
    assert_eq!(lab.state(), "PreparingRebalance");
    assert_eq!(lab.heartbeat(&members[1], 1), ErrorCode::UNKNOWN_MEMBER_ID);
    // With its only other member parked in JoinGroup, nobody is silent any more.
    let token = lab.join(known_member(&members[0]));
    assert_eq!(lab.joined(token).generation, 2);
}

#[test]
fn a_member_may_be_silent_while_its_request_is_parked() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a", "b"]);
    let parked = lab.sync(&members[1], 1, &[]);
    for _ in 0..3 {
        lab.pass(SESSION_MS / 2);
        assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::NONE);
    }
    assert!(lab.waits(parked), "b waited longer than its session");
    lab.sync(&members[0], 1, &[]);
    lab.append_all();
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.heartbeat(&members[1], 1), ErrorCode::NONE, "its session began anew with the answer");
}

#[test]
fn commits_are_signs_of_life() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.pass(SESSION_MS - 1);
    lab.commit(member_commit("t", 1, &members[0], 1));
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.state(), "Stable");
    lab.pass(1);
    assert_eq!(lab.state(), "Empty");
}

#[test]
fn the_last_one_to_leave_leaves_an_empty_group() {
    let mut lab = Lab::new();
    let token = lab.leave(&[("nobody", None)]);
    assert_eq!(lab.left(token), (ErrorCode::NONE, vec![ErrorCode::UNKNOWN_MEMBER_ID]), "no such group");
    let members = lab.stable(&["a", "b"]);
    let token = lab.leave(&[(&members[0], None), ("nobody", None)]);
    assert_eq!(lab.left(token).1, [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!((lab.state(), lab.describe(GROUP).members.len()), ("PreparingRebalance", 1));
    let token = lab.leave(&[(&members[1], None)]);
    assert!(lab.waits(token), "the empty generation is not durable yet");
    lab.append_all();
    assert_eq!(lab.left(token).1, [ErrorCode::NONE]);
    let value = decode_group_value(lab.log.last().unwrap().value.as_ref().unwrap()).unwrap();
    assert_eq!((value.generation, value.protocol, value.members.len()), (2, None, 0));
    assert_eq!(&*value.protocol_type, "consumer");
    lab.restart();
    assert_eq!(lab.state(), "Empty");
}

#[test]
fn leaving_with_a_parked_request_answers_it() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a", "b"]);
    let parked = lab.sync(&members[1], 1, &[]);
    let token = lab.leave(&[(&members[1], None)]);
    assert_eq!(lab.synced(parked).error, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(lab.left(token).1, [ErrorCode::NONE]);
    let parked = lab.join(known_member(&members[0]));
    assert_eq!(lab.joined(parked).generation, 2);
    let token = lab.join(JoinRequest { require_known_member_id: true, ..new_member("c") });
    let pending = lab.joined(token).member_id;
    let token = lab.leave(&[(&pending, None)]);
    assert_eq!(lab.left(token).1, [ErrorCode::NONE], "an id that was handed out may leave, too");
}
