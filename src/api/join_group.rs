//! JoinGroup (11): a client becomes, or stays, a member of a group.

use crate::api::Client;
use crate::api::wire::{owned, some_text, text};
use crate::machine::group::{JoinReply, JoinRequest};
use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use uuid::Uuid;

/// What the coordinator is asked. `uuid` is fresh and random: a member id is made of it if one is needed.
#[must_use]
pub fn plan(version: i16, request: &JoinGroupRequest, client: Client<'_>, uuid: Uuid) -> JoinRequest {
    // Copied: the member keeps it, and a slice would keep the whole frame.
    let metadata = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let protocols = request.protocols.iter().map(|p| (p.name.to_string(), metadata(&p.metadata)));
    JoinRequest {
        group: request.group_id.to_string(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 { request.rebalance_timeout_ms } else { -1 },
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        client_id: client.id.unwrap_or_default().to_owned(),
        client_host: client.host.to_owned(),
        uuid: uuid.to_string(),
        require_known_member_id: version >= 4,
        supports_skip_assignment: version >= 9,
        reason: owned(request.reason.as_ref()),
    }
}

/// The response.
#[must_use]
pub fn reply(version: i16, reply: &JoinReply) -> JoinGroupResponse {
    let members = reply.members.iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(some_text(member.instance_id.as_deref()).filter(|_| version >= 5))
            .with_metadata(member.metadata.clone())
    });
    // Versions below 7 have no null for the protocol.
    let protocol = match reply.protocol.as_deref() {
        None if version < 7 => Some(""),
        protocol => protocol,
    };
    JoinGroupResponse::default()
        .with_error_code(reply.error.0)
        .with_generation_id(reply.generation)
        .with_protocol_type(some_text(reply.protocol_type.as_deref()).filter(|_| version >= 7))
        .with_protocol_name(some_text(protocol))
        .with_leader(text(&reply.leader))
        .with_skip_assignment(version >= 9 && reply.skip_assignment)
        .with_member_id(text(&reply.member_id))
        .with_members(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::error::ErrorCode;
    use crate::machine::group::Request;

    #[test]
    fn what_a_version_can_do() {
        let request = JoinGroupRequest::default().with_rebalance_timeout_ms(7).with_reason(Some(text("r")));
        let client = Client { id: None, host: "/10.0.0.1" };
        for version in 0..=9 {
            let plan = plan(version, &request, client, Uuid::from_u128(1));
            assert_eq!(plan.rebalance_timeout_ms, if version >= 1 { 7 } else { -1 });
            assert_eq!(plan.require_known_member_id, version >= 4);
            assert_eq!(plan.supports_skip_assignment, version >= 9);
            assert_eq!((plan.client_id.as_str(), plan.client_host.as_str()), ("", "/10.0.0.1"));
            assert_eq!(plan.uuid, "00000000-0000-0000-0000-000000000001");
        }
    }

    #[test]
    fn a_refusal_has_an_empty_protocol_before_version_7() {
        let client = Client { id: Some("c"), host: "/" };
        let join = plan(4, &JoinGroupRequest::default(), client, Uuid::nil());
        let crate::machine::group::Reply::Join(refused) =
            Request::Join(join).refuse(ErrorCode::NOT_COORDINATOR)
        else {
            panic!()
        };
        for version in 0..=9 {
            let response = reply(version, &refused);
            assert_eq!(response.error_code, ErrorCode::NOT_COORDINATOR.0);
            assert_eq!(response.protocol_name.as_deref(), if version < 7 { Some("") } else { None });
            assert_eq!(response.generation_id, -1);
        }
    }
}
