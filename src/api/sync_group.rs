//! SyncGroup (14): the leader hands out the assignments, each member gets its own.

use crate::api::wire::{owned, some_text};
use crate::machine::error::ErrorCode;
use crate::machine::group::{SyncReply, SyncRequest};
use bytes::Bytes;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

/// What the coordinator is asked.
///
/// # Errors
/// INCONSISTENT_GROUP_PROTOCOL without protocol type and name, which are mandatory from version 5 on (KIP-559).
pub fn plan(version: i16, request: &SyncGroupRequest) -> Result<SyncRequest, ErrorCode> {
    if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    // Copied: members keep them, and a slice would keep the whole frame.
    let assignment = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let assignments = request.assignments.iter();
    let assignments = assignments.map(|a| (a.member_id.to_string(), assignment(&a.assignment)));
    Ok(SyncRequest {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
        protocol_type: owned(request.protocol_type.as_ref()),
        protocol: owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    })
}

/// The response.
#[must_use]
pub fn reply(version: i16, reply: &SyncReply) -> SyncGroupResponse {
    let names_protocol = version >= 5;
    SyncGroupResponse::default()
        .with_error_code(reply.error.0)
        .with_protocol_type(some_text(reply.protocol_type.as_deref()).filter(|_| names_protocol))
        .with_protocol_name(some_text(reply.protocol.as_deref()).filter(|_| names_protocol))
        .with_assignment(reply.assignment.clone())
}

/// The response that refuses the request.
#[must_use]
pub fn refuse(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse::default().with_error_code(error.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::text;

    #[test]
    fn the_protocol_is_mandatory_since_version_5() {
        let without = SyncGroupRequest::default().with_protocol_type(Some(text("consumer")));
        assert!(plan(4, &without).is_ok());
        assert_eq!(plan(5, &without).unwrap_err(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        let with = without.with_protocol_name(Some(text("range")));
        assert_eq!(plan(5, &with).unwrap().protocol.as_deref(), Some("range"));
    }
}
