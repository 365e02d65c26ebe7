//! JoinGroup: who gets in, when a rebalance completes, who leads and which protocol wins.

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

#[test]
fn refusals_whatever_the_group() {
    type Change = fn(&mut JoinRequest);
    let cases: [(Change, ErrorCode); 6] = [
        (|join| join.group.clear(), ErrorCode::INVALID_GROUP_ID),
        (|join| join.session_timeout_ms = 5_999, ErrorCode::INVALID_SESSION_TIMEOUT),
        (|join| join.session_timeout_ms = 1_800_001, ErrorCode::INVALID_SESSION_TIMEOUT),
        (|join| join.member_id = "nobody".to_owned(), ErrorCode::UNKNOWN_MEMBER_ID),
        (|join| join.protocols.clear(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL),
        (|join| join.client_id = "c".repeat(40_000), ErrorCode::INVALID_REQUEST),
    ];
    for (change, error) in cases {
        let mut lab = Lab::new();
        let mut join = new_member("a");
        change(&mut join);
        let token = lab.join(join);
        assert_eq!(lab.joined(token).error, error);
        assert_eq!(lab.describe(GROUP).state, "Dead", "nothing is left of the attempt");
    }
}

#[test]
fn the_first_rebalance_waits_while_members_arrive() {
    let mut lab = Lab::new();
    let first = lab.join(new_member("a"));
    lab.pass(2_999);
    let second = lab.join(new_member("b"));
    lab.pass(1);
    assert!(lab.waits(first), "b arrived during the delay, which extends it");
    lab.pass(2_999);
    assert!(lab.waits(first) && lab.waits(second));
    lab.pass(1);
    let (first, second) = (lab.joined(first), lab.joined(second));
    assert_eq!(
        (first.error, first.generation, first.protocol.as_deref()),
        (ErrorCode::NONE, 1, Some("range"))
    );
    assert_eq!((&*first.member_id, &*second.member_id), ("a-uuid", "b-uuid"));
    assert_eq!((&*first.leader, first.leader == second.leader), ("a-uuid", true));
    let seen: Vec<&str> = first.members.iter().map(|member| &*member.member_id).collect();
    assert_eq!(seen, ["a-uuid", "b-uuid"], "the leader sees everyone");
    assert_eq!(first.members[1].metadata, protocols(&["range"])[0].1);
    assert!(second.members.is_empty());
}

#[test]
fn the_first_rebalance_waits_no_longer_than_the_rebalance_timeout() {
    let mut lab = Lab::new();
    let first = lab.join(JoinRequest { rebalance_timeout_ms: 7_000, ..new_member("a") });
    for (client, ms) in [("b", 3_000), ("c", 3_000), ("d", 999)] {
        lab.join(JoinRequest { rebalance_timeout_ms: 7_000, ..new_member(client) });
        assert!(lab.waits(first));
        lab.pass(ms);
    }
    assert!(lab.waits(first));
    lab.pass(1);
    assert_eq!(lab.joined(first).members.len(), 4);
}

#[test]
fn a_new_member_comes_back_with_the_id_it_is_given() {
    let mut lab = Lab::new();
    let token = lab.join(JoinRequest { require_known_member_id: true, ..new_member("a") });
    let reply = lab.joined(token);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::MEMBER_ID_REQUIRED, "a-uuid"));
    assert_eq!(lab.state(), "Empty");
    let token = lab.join(known_member("a-uuid"));
    lab.pass(3_000);
    assert_eq!(lab.joined(token).error, ErrorCode::NONE);
    let token = lab.join(JoinRequest { instance_id: Some("i".to_owned()), ..known_member("other-uuid") });
    assert_eq!(lab.joined(token).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_id_that_is_not_used_expires() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    lab.join(JoinRequest { require_known_member_id: true, uuid: "late".to_owned(), ..new_member("b") });
    let leader = lab.join(known_member(&members[0]));
    assert!(lab.waits(leader), "the rebalance waits for the member that is expected");
    lab.pass(SESSION_MS);
    assert_eq!(lab.joined(leader).generation, 2);
    let token = lab.join(known_member("b-late"));
    assert_eq!(lab.joined(token).error, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_group_of_expired_ids_is_forgotten() {
    let mut lab = Lab::new();
    lab.join(JoinRequest { require_known_member_id: true, ..new_member("a") });
    lab.pass(SESSION_MS);
    assert_eq!(lab.state(), "Dead");
    assert!(lab.appends.is_empty());
}

#[test]
fn protocols_are_elected() {
    let votes: [(&[&[&str]], &str); 4] = [
        (&[&["a", "b"], &["b", "a"], &["b", "a"]], "b"),
        (&[&["a", "b", "c"], &["c", "b"], &["b", "c"]], "b"),
        (&[&["a", "b"], &["b"]], "b"),
        (&[&["b", "a"], &["a", "b"]], "a"),
    ];
    for (members, winner) in votes {
        let mut lab = Lab::new();
        let mut tokens = Vec::new();
        for (n, names) in members.iter().enumerate() {
            tokens.push(lab.join(JoinRequest { protocols: protocols(names), ..new_member(&n.to_string()) }));
        }
        lab.pass(3_000);
        lab.pass(3_000);
        assert_eq!(lab.joined(tokens[0]).protocol.as_deref(), Some(winner));
    }
}

#[test]
fn members_agree_on_type_and_protocol() {
    let mut lab = Lab::new();
    lab.stable(&["a"]);
    let token = lab.join(JoinRequest { protocol_type: "connect".to_owned(), ..new_member("b") });
    assert_eq!(lab.joined(token).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let token = lab.join(JoinRequest { protocols: protocols(&["sticky"]), ..new_member("b") });
    assert_eq!(lab.joined(token).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(lab.state(), "Stable");
}

#[test]
fn a_group_has_its_size() {
    let mut lab = Lab::with(GroupSettings { max_size: 2, ..GroupSettings::default() });
    let members = lab.stable(&["a", "b"]);
    let token = lab.join(new_member("c"));
    let reply = lab.joined(token);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
    assert_eq!(lab.state(), "Stable");
    // While the group rebalances, the places belong to those who come first.
    let leader = lab.join(known_member(&members[0]));
    let third = lab.join(new_member("c"));
    let late = lab.join(known_member(&members[1]));
    assert_eq!(lab.joined(late).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(lab.joined(leader).generation, 2);
    assert_eq!(lab.joined(third).generation, 2);
}

#[test]
fn rejoining_says_the_same_again_or_rebalances() {
    let mut lab = Lab::new();
    let (members, generation) = lab.completing(&["a", "b"]);
    let token = lab.join(known_member(&members[0]));
    let reply = lab.joined(token);
    assert_eq!((reply.generation, reply.members.len()), (generation, 2), "the leader missed its answer");
    let token = lab.join(known_member(&members[1]));
    assert_eq!((lab.joined(token).generation, lab.state()), (generation, "CompletingRebalance"));

    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    let token = lab.join(known_member(&members[1]));
    assert_eq!((lab.joined(token).generation, lab.state()), (1, "Stable"));
    let token = lab.join(JoinRequest { protocols: protocols(&["range", "x"]), ..known_member(&members[1]) });
    assert!(lab.waits(token), "changed metadata needs a rebalance");
    assert_eq!(lab.state(), "PreparingRebalance");
    let leader = lab.join(known_member(&members[0]));
    assert_eq!((lab.joined(token).generation, lab.joined(leader).generation), (2, 2));
    let parked = lab.sync(&members[1], 2, &[]);
    let token = lab.join(JoinRequest { protocols: protocols(&["range"]), ..known_member(&members[1]) });
    assert_eq!(lab.synced(parked).error, ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(lab.waits(token));

    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    let token = lab.join(known_member(&members[0]));
    assert!(lab.waits(token), "the leader wants a new assignment");
}

#[test]
fn who_does_not_rejoin_is_out() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b", "c"]);
    let token = lab.join(new_member("d"));
    let rejoined = lab.join(known_member(&members[2]));
    // The others are alive but do not hear that they are to rejoin.
    for _ in 0..4 {
        lab.pass(REBALANCE_MS / 4);
        lab.heartbeat(&members[0], 1);
        lab.heartbeat(&members[1], 1);
    }
    let reply = lab.joined(rejoined);
    assert_eq!(
        (reply.generation, &reply.leader),
        (2, &reply.member_id),
        "the leader is one of those who came"
    );
    assert_eq!(reply.members.len(), 2);
    assert_eq!(lab.joined(token).error, ErrorCode::NONE);
    assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_join_repeated_over_a_new_connection_takes_over() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    let before = lab.join(known_member(&members[0]));
    let after = lab.join(known_member(&members[0]));
    assert_eq!(lab.joined(before).error, ErrorCode::REBALANCE_IN_PROGRESS);
    lab.join(known_member(&members[1]));
    assert_eq!(lab.joined(after).generation, 2);
}

#[test]
fn a_new_member_does_not_wait_for_ever() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a"]);
    let token = lab.join(JoinRequest { rebalance_timeout_ms: 1_000_000, ..new_member("b") });
    for _ in 0..59 {
        lab.pass(5_000);
        assert_eq!(lab.heartbeat(&members[0], 1), ErrorCode::REBALANCE_IN_PROGRESS);
    }
    assert!(lab.waits(token));
    lab.pass(5_000);
    let reply = lab.joined(token);
    assert_eq!((reply.error, &*reply.member_id), (ErrorCode::UNKNOWN_MEMBER_ID, ""));
}

#[test]
fn version_0_has_one_timeout() {
    let mut lab = Lab::new();
    let members = lab.stable(&["a", "b"]);
    let token = lab.join(JoinRequest { rebalance_timeout_ms: -1, ..new_member("c") });
    lab.join(JoinRequest { rebalance_timeout_ms: -1, ..known_member(&members[0]) });
    lab.join(JoinRequest { rebalance_timeout_ms: -1, ..known_member(&members[1]) });
    lab.joined(token);
    let group = lab.describe(GROUP);
    assert_eq!(group.members.len(), 3);
    lab.pass(SESSION_MS - 1);
    assert_eq!(lab.state(), "CompletingRebalance");
}
