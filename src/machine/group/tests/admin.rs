//! DescribeGroups and ListGroups.

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::super::*;
use super::lab::*;

#[test]
fn groups_are_described_as_far_as_they_have_come() {
    let mut lab = Lab::new();
    let (members, _) = lab.completing(&["a"]);
    let group = lab.describe(GROUP);
    assert_eq!(
        (group.state, &*group.protocol_type, &*group.protocol),
        ("CompletingRebalance", "consumer", "")
    );
    let expected = DescribedMember {
        member_id: members[0].clone(),
        instance_id: None,
        client_id: "a".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        metadata: Bytes::new(),
        assignment: Bytes::new(),
    };
    assert_eq!(group.members, std::slice::from_ref(&expected));
    lab.sync(&members[0], 1, &[(&members[0], "x")]);
    lab.append_all();
    let group = lab.describe(GROUP);
    assert_eq!((group.state, &*group.protocol), ("Stable", "range"));
    let metadata = protocols(&["range"]).remove(0).1;
    assert_eq!(
        group.members,
        [DescribedMember { metadata, assignment: Bytes::from_static(b"x"), ..expected }]
    );
}

#[test]
fn an_unknown_group_is_dead_or_an_error() {
    let mut lab = Lab::new();
    let old = lab.describe("unknown");
    assert_eq!((old.error, old.error_message, old.state), (ErrorCode::NONE, None, "Dead"));
    let groups = vec!["unknown".to_owned()];
    let token = lab.send(Request::Describe(DescribeRequest { groups, not_found_is_error: true }));
    let Reply::Describe(new) = lab.reply(token) else { panic!("another reply") };
    assert_eq!((new[0].error, new[0].state), (ErrorCode::GROUP_ID_NOT_FOUND, "Dead"));
    assert_eq!(new[0].error_message.as_deref(), Some("Group unknown not found."));
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut lab = Lab::new();
    lab.stable(&["a"]);
    lab.commit(CommitRequest { group: "simple".to_owned(), ..simple_commit("t", 1) });
    lab.append_all();
    let mut list = |states: &[&str], types: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let token = lab.send(Request::List(ListRequest { states: owned(states), types: owned(types) }));
        let Reply::List(reply) = lab.reply(token) else { panic!("another reply") };
        assert_eq!(reply.error, ErrorCode::NONE);
        assert!(reply.groups.iter().all(|group| group.group_type == "classic"));
        let short = |group: ListedGroup| (group.group, group.protocol_type, group.state);
        reply.groups.into_iter().map(short).collect::<Vec<_>>()
    };
    let stable = (GROUP.to_owned(), "consumer".to_owned(), "Stable");
    let empty = ("simple".to_owned(), String::new(), "Empty");
    assert_eq!(list(&[], &[]), [stable.clone(), empty.clone()]);
    assert_eq!(list(&["stable"], &[]), [stable]);
    assert_eq!(list(&["Empty", "Dead"], &["CLASSIC", "consumer"]), [empty]);
    assert_eq!(list(&[], &["consumer"]), []);
    assert_eq!(list(&["Assigning"], &[]), []);
}
