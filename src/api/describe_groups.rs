//! DescribeGroups (15): state and members of groups.

use crate::api::operations;
use crate::api::wire::{group_id, some_text, text};
use crate::machine::group::{DescribeRequest, DescribedMember, GroupDescription};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

/// The groups, to be dealt out to their coordinators.
#[must_use]
pub fn groups(request: &DescribeGroupsRequest) -> Vec<String> {
    request.groups.iter().map(|group| group.to_string()).collect()
}

/// What one coordinator is asked.
#[must_use]
pub fn plan(version: i16, groups: Vec<String>) -> DescribeRequest {
    DescribeRequest { groups, not_found_is_error: version >= 6 }
}

/// The response; `groups` are in the order asked.
#[must_use]
pub fn reply(
    version: i16,
    request: &DescribeGroupsRequest,
    groups: &[GroupDescription],
) -> DescribeGroupsResponse {
    let asked = version >= 3 && request.include_authorized_operations;
    let groups = groups.iter().map(|group| {
        let message = some_text(group.error_message.as_deref()).filter(|_| version >= 6);
        let operations = operations::if_asked(asked && !group.error.is_error(), operations::GROUP);
        DescribedGroup::default()
            .with_error_code(group.error.0)
            .with_error_message(message)
            .with_group_id(group_id(&group.group))
            .with_group_state(text(group.state))
            .with_protocol_type(text(&group.protocol_type))
            .with_protocol_data(text(&group.protocol))
            .with_members(group.members.iter().map(|each| member(version, each)).collect())
            .with_authorized_operations(operations)
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn member(version: i16, member: &DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(text(&member.member_id))
        .with_group_instance_id(some_text(member.instance_id.as_deref()).filter(|_| version >= 4))
        .with_client_id(text(&member.client_id))
        .with_client_host(text(&member.client_host))
        .with_member_metadata(member.metadata.clone())
        .with_member_assignment(member.assignment.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::error::ErrorCode;

    #[test]
    fn an_unknown_group_is_an_error_since_version_6() {
        for version in 0..=6 {
            assert_eq!(plan(version, vec![]).not_found_is_error, version >= 6);
        }
    }

    #[test]
    fn operations_where_asked_and_no_error() {
        let group = |error| GroupDescription {
            error,
            error_message: Some("why".into()),
            group: "g".into(),
            state: "Stable",
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![],
        };
        let groups = [group(ErrorCode::NONE), group(ErrorCode::NOT_COORDINATOR)];
        let request = DescribeGroupsRequest::default().with_include_authorized_operations(true);
        for version in 0..=6 {
            let response = reply(version, &request, &groups);
            let operations: Vec<_> = response.groups.iter().map(|g| g.authorized_operations).collect();
            let asked = if version >= 3 { operations::GROUP } else { i32::MIN };
            assert_eq!(operations, [asked, i32::MIN]);
            assert_eq!(response.groups[0].error_message.is_some(), version >= 6);
        }
    }
}
