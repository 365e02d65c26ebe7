//! LeaveGroup (13): members leave their group, or an administrator removes them (from version 3 on, KIP-345).

use crate::api::wire::{owned, some_text, text};
use crate::machine::error::ErrorCode;
use crate::machine::group::{LeaveReply, LeaveRequest, LeavingMember};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

/// The first version that names several members.
const MEMBERS_SINCE: i16 = 3;

/// What the coordinator is asked.
#[must_use]
pub fn plan(version: i16, request: &LeaveGroupRequest) -> LeaveRequest {
    let members = if version < MEMBERS_SINCE {
        let member_id = request.member_id.to_string();
        vec![LeavingMember { member_id, instance_id: None, reason: None }]
    } else {
        let member = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| LeavingMember {
            member_id: member.member_id.to_string(),
            instance_id: owned(member.group_instance_id.as_ref()),
            reason: owned(member.reason.as_ref()),
        };
        request.members.iter().map(member).collect()
    };
    LeaveRequest { group: request.group_id.to_string(), members }
}

/// The response.
#[must_use]
pub fn reply(version: i16, reply: &LeaveReply) -> LeaveGroupResponse {
    if version < MEMBERS_SINCE {
        // Only one member was named: its error is the error.
        let member = reply.members.first().map_or(ErrorCode::NONE, |member| member.error);
        let error = if reply.error.is_error() { reply.error } else { member };
        return LeaveGroupResponse::default().with_error_code(error.0);
    }
    let members = reply.members.iter().map(|member| {
        MemberResponse::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(some_text(member.instance_id.as_deref()))
            .with_error_code(member.error.0)
    });
    LeaveGroupResponse::default().with_error_code(reply.error.0).with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::group::LeftMember;
    use kafka_protocol::messages::leave_group_request::MemberIdentity;

    #[test]
    fn one_member_until_2_and_several_from_3() {
        let identity = MemberIdentity::default().with_member_id(text("b")).with_reason(Some(text("bye")));
        let request = LeaveGroupRequest::default()
            .with_member_id(text("a"))
            .with_members(vec![identity.clone(), identity]);
        let members = |version| {
            let members = plan(version, &request).members.into_iter();
            members.map(|member| member.member_id).collect::<Vec<_>>()
        };
        assert_eq!(members(2), ["a"]);
        assert_eq!(members(3), ["b", "b"]);
        assert_eq!(plan(5, &request).members[0].reason.as_deref(), Some("bye"));
    }

    #[test]
    fn the_members_error_is_the_only_one_until_2() {
        let left =
            LeftMember { member_id: "a".into(), instance_id: None, error: ErrorCode::UNKNOWN_MEMBER_ID };
        let outcome = LeaveReply { error: ErrorCode::NONE, members: vec![left] };
        for version in 0..=5 {
            let response = reply(version, &outcome);
            assert_eq!(response.error_code, if version < 3 { 25 } else { 0 });
            assert_eq!(response.members.len(), usize::from(version >= 3));
        }
        let refused = LeaveReply { error: ErrorCode::NOT_COORDINATOR, members: vec![] };
        assert_eq!(reply(1, &refused).error_code, ErrorCode::NOT_COORDINATOR.0);
    }
}
