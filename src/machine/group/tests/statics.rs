//! Static membership (KIP-345, KIP-814).

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

/// A Stable group of two static members; the leader's instance is `i0`.
fn stable() -> (Lab, Vec<String>) {
    let mut lab = Lab::new();
    let tokens = [lab.join(static_member("i0", "u")), lab.join(static_member("i1", "u"))];
    lab.pass(3_000);
    lab.pass(3_000);
    let members: Vec<String> = tokens.into_iter().map(|token| lab.joined(token).member_id).collect();
    assert_eq!(members, ["i0-u", "i1-u"]);
    let tokens = [
        lab.sync(&members[1], 1, &[]),
        lab.sync(&members[0], 1, &[("i0-u", "assigned 0"), ("i1-u", "assigned 1")]),
    ];
    lab.append_all();
    tokens.into_iter().for_each(|token| assert_eq!(lab.synced(token).error, ErrorCode::NONE));
    (lab, members)
}

#[test]
fn a_restarted_process_takes_its_place_without_a_rebalance() {
    let (mut lab, _) = stable();
    let token = lab.join(static_member("i1", "v"));
    assert!(lab.waits(token), "its new id is stored first");
    lab.append_all();
    let reply = lab.joined(token);
    assert_eq!((reply.error, reply.generation, &*reply.member_id), (ErrorCode::NONE, 1, "i1-v"));
    assert_eq!((&*reply.leader, reply.skip_assignment, reply.members.len()), ("i0-u", false, 0));
    let token = lab.sync("i1-v", 1, &[]);
    assert_eq!(&lab.synced(token).assignment[..], b"assigned 1");
    assert_eq!(lab.state(), "Stable");
    lab.restart();
    assert_eq!(lab.heartbeat_of("i1-v", Some("i1"), 1), ErrorCode::NONE);
}

#[test]
fn a_restarted_leader_is_told_to_leave_the_assignment_alone() {
    let (mut lab, _) = stable();
    let token = lab.join(static_member("i0", "v"));
    lab.append_all();
    let reply = lab.joined(token);
    assert_eq!((&*reply.leader, reply.skip_assignment, reply.members.len()), ("i0-v", true, 2));
    // A client that does not know of that must not take itself for the leader.
    let token = lab.join(JoinRequest { supports_skip_assignment: false, ..static_member("i0", "w") });
    lab.append_all();
    let reply = lab.joined(token);
    assert_eq!((&*reply.leader, reply.skip_assignment, reply.members.len()), ("i0-v", false, 0));
    assert_eq!(lab.state(), "Stable");
}

#[test]
fn the_process_before_is_fenced() {
    let (mut lab, _) = stable();
    lab.join(static_member("i1", "v"));
    lab.append_all();
    let old = || Some("i1".to_owned());
    assert_eq!(lab.heartbeat_of("i1-u", Some("i1"), 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(lab.heartbeat_of("i1-u", None, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(lab.heartbeat_of("i1-v", Some("i9"), 1), ErrorCode::UNKNOWN_MEMBER_ID);
    let token = lab.send(Request::Sync(SyncRequest { instance_id: old(), ..sync("i1-u", 1, &[]) }));
    assert_eq!(lab.synced(token).error, ErrorCode::FENCED_INSTANCE_ID);
    let token = lab.join(JoinRequest { instance_id: old(), ..known_member("i1-u") });
    assert_eq!(lab.joined(token).error, ErrorCode::FENCED_INSTANCE_ID);
    let token = lab.commit(CommitRequest { instance_id: old(), ..member_commit("t", 1, "i1-u", 1) });
    assert_eq!(lab.committed(token), ErrorCode::FENCED_INSTANCE_ID);
    let token = lab.leave(&[("i1-u", Some("i1"))]);
    assert_eq!(lab.left(token), (ErrorCode::NONE, vec![ErrorCode::FENCED_INSTANCE_ID]));
}

#[test]
fn parked_requests_of_the_process_before_are_fenced() {
    let mut lab = Lab::new();
    let before = lab.join(static_member("i", "u"));
    let after = lab.join(static_member("i", "v"));
    assert_eq!(lab.joined(before).error, ErrorCode::FENCED_INSTANCE_ID);
    lab.join(new_member("a"));
    lab.pass(3_000);
    lab.pass(3_000);
    let reply = lab.joined(after);
    assert_eq!((reply.generation, &*reply.member_id, &*reply.leader), (1, "i-v", "i-v"));
    let parked = lab.sync("i-v", 1, &[]);
    let again = lab.join(static_member("i", "w"));
    assert_eq!(lab.synced(parked).error, ErrorCode::FENCED_INSTANCE_ID);
    assert!(lab.waits(again), "an assignment for the old id may be on its way: rebalance");
    assert_eq!(lab.state(), "PreparingRebalance");
}

#[test]
fn another_protocol_rebalances() {
    let mut lab = Lab::new();
    let with = |join: JoinRequest, names: &[&str]| JoinRequest { protocols: protocols(names), ..join };
    let tokens = [
        lab.join(with(static_member("i0", "u"), &["range", "sticky"])),
        lab.join(with(static_member("i1", "u"), &["range", "sticky"])),
    ];
    lab.pass(3_000);
    lab.pass(3_000);
    tokens.into_iter().for_each(|token| assert_eq!(lab.joined(token).protocol.as_deref(), Some("range")));
    let token = lab.sync("i0-u", 1, &[]);
    lab.append_all();
    lab.synced(token);
    let token = lab.join(with(static_member("i1", "v"), &["sticky"]));
    assert!(lab.waits(token) && lab.appends.is_empty());
    assert_eq!(lab.state(), "PreparingRebalance");
}

#[test]
fn a_rebalance_keeps_absent_static_members_until_their_session_ends() {
    let (mut lab, members) = stable();
    let token = lab.join(JoinRequest { instance_id: Some("i0".to_owned()), ..known_member(&members[0]) });
    for _ in 0..2 {
        lab.pass(SESSION_MS - 1);
        assert_eq!(lab.heartbeat_of("i1-u", Some("i1"), 1), ErrorCode::REBALANCE_IN_PROGRESS);
    }
    assert!(lab.waits(token));
    lab.pass(2);
    let reply = lab.joined(token);
    assert_eq!((reply.generation, reply.members.len()), (2, 2), "i1 is late but still a member");
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.heartbeat_of("i0-u", Some("i0"), 2), ErrorCode::NONE);
    lab.pass(1);
    assert_eq!(lab.state(), "PreparingRebalance", "now its session has ended");
    assert_eq!(lab.describe(GROUP).members.len(), 1);
}

#[test]
fn a_failed_append_does_not_touch_the_rebalance_that_came_after_it() {
    let (mut lab, members) = stable();
    let token = lab.join(static_member("i1", "v"));
    let new = lab.join(new_member("z"));
    lab.append(Err(ErrorCode::KAFKA_STORAGE_ERROR));
    assert!(lab.waits(token), "the rebalance answers it");
    lab.join(JoinRequest { instance_id: Some("i0".to_owned()), ..known_member(&members[0]) });
    assert_eq!((lab.joined(token).generation, lab.joined(new).generation), (2, 2));
    assert_eq!(lab.heartbeat_of("i1-v", Some("i1"), 2), ErrorCode::NONE);
}

#[test]
fn an_absent_static_leader_is_replaced_by_one_who_came() {
    let (mut lab, _) = stable();
    let dynamic = lab.join(new_member("z"));
    for _ in 0..2 {
        lab.pass(SESSION_MS - 1);
        lab.heartbeat_of("i0-u", Some("i0"), 1);
        lab.heartbeat_of("i1-u", Some("i1"), 1);
    }
    lab.pass(2);
    let reply = lab.joined(dynamic);
    assert_eq!((reply.generation, &*reply.leader, reply.members.len()), (2, "z-uuid", 3));
}

#[test]
fn a_rebalance_that_nobody_joins_goes_on() {
    let (mut lab, members) = stable();
    let token = lab.join(new_member("z"));
    lab.leave(&[("z-uuid", None)]);
    assert_eq!(lab.joined(token).error, ErrorCode::UNKNOWN_MEMBER_ID);
    for _ in 0..5 {
        lab.pass(SESSION_MS - 1);
        for (member, instance) in members.iter().zip(["i0", "i1"]) {
            let error = lab.heartbeat_of(member, Some(instance), 1);
            assert_eq!(error, ErrorCode::REBALANCE_IN_PROGRESS, "still members, still called to join");
        }
    }
    let rejoin =
        |id: &str, instance: &str| JoinRequest { instance_id: Some(instance.to_owned()), ..known_member(id) };
    let tokens = [lab.join(rejoin(&members[0], "i0")), lab.join(rejoin(&members[1], "i1"))];
    assert_eq!(tokens.map(|token| lab.joined(token).generation), [2, 2]);
}

#[test]
fn an_administrator_removes_by_instance() {
    let (mut lab, members) = stable();
    let token = lab.leave(&[("", Some("i1")), ("", Some("i9")), ("", None), (&members[0], Some("i1"))]);
    let (unknown, fenced) = (ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(lab.left(token), (ErrorCode::NONE, vec![ErrorCode::NONE, unknown, unknown, fenced]));
    assert_eq!(lab.state(), "PreparingRebalance");
    assert_eq!(lab.describe(GROUP).members.len(), 1);
}

#[test]
fn a_rebalance_during_the_append_answers_the_join() {
    let (mut lab, members) = stable();
    let token = lab.join(static_member("i1", "v"));
    let leader = lab.join(JoinRequest { instance_id: Some("i0".to_owned()), ..known_member(&members[0]) });
    assert_eq!((lab.joined(token).generation, lab.joined(leader).generation), (2, 2));
    lab.append_all();
    assert_eq!(lab.state(), "CompletingRebalance");
}
