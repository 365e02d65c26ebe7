//! Heartbeat (12): a member says that it is alive, and learns whether its group rebalances.

use crate::api::wire::owned;
use crate::machine::error::ErrorCode;
use crate::machine::group::HeartbeatRequest as Asked;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

/// What the coordinator is asked.
#[must_use]
pub fn plan(request: &HeartbeatRequest) -> Asked {
    Asked {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: owned(request.group_instance_id.as_ref()),
    }
}

/// The response.
#[must_use]
pub fn reply(error: ErrorCode) -> HeartbeatResponse {
    HeartbeatResponse::default().with_error_code(error.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{group_id, text};

    #[test]
    fn there_and_back() {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id(4)
            .with_member_id(text("m"))
            .with_group_instance_id(Some(text("i")));
        let asked = plan(&request);
        assert_eq!((asked.group.as_str(), asked.generation, asked.member_id.as_str()), ("g", 4, "m"));
        assert_eq!(asked.instance_id.as_deref(), Some("i"));
        assert_eq!(reply(ErrorCode::REBALANCE_IN_PROGRESS).error_code, 27);
    }
}
