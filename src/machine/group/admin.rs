//! DescribeGroups and ListGroups.

use crate::machine::error::ErrorCode;

use super::reply::{DescribedMember, GroupDescription, ListedGroup};
use super::request::ListRequest;
use super::state::{Group, GroupState};

/// The type of all groups here, as ListGroups names it; the others are KIP-848's and later ones'.
const GROUP_TYPE: &str = "classic";

impl Group {
    /// The group as DescribeGroups shows it. Protocol and metadata are those of a finished rebalance only.
    pub(super) fn describe(&self) -> GroupDescription {
        let stable = self.state == GroupState::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable).unwrap_or_default();
        let members = self.members.values().map(|member| DescribedMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(protocol) } else { bytes::Bytes::new() },
            assignment: member.assignment.clone(),
        });
        GroupDescription {
            error: ErrorCode::NONE,
            error_message: None,
            group: self.id.to_string(),
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        }
    }

    /// The group as ListGroups shows it, if it passes the filters.
    pub(super) fn list(&self, list: &ListRequest) -> Option<ListedGroup> {
        let passes = |filter: &[String], name: &str| {
            filter.is_empty() || filter.iter().any(|f| f.eq_ignore_ascii_case(name))
        };
        let listed = passes(&list.states, self.state.name()) && passes(&list.types, GROUP_TYPE);
        listed.then(|| ListedGroup {
            group: self.id.to_string(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state.name(),
            group_type: GROUP_TYPE,
        })
    }
}

/// An unknown group as DescribeGroups shows it: an error since KIP-1043, a Dead group before.
pub(super) fn describe_unknown(group: &str, not_found_is_error: bool) -> GroupDescription {
    let error = if not_found_is_error { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE };
    GroupDescription {
        error_message: not_found_is_error.then(|| format!("Group {group} not found.")),
        state: GroupState::Dead.name(),
        ..GroupDescription::refused(group, error)
    }
}
