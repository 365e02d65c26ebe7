//! ListGroups (16): all groups of all coordinators of this broker, by state (KIP-518) and type (KIP-848).

use crate::api::wire::{group_id, text};
use crate::machine::error::ErrorCode;
use crate::machine::group::{ListReply, ListRequest};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

/// What each coordinator is asked.
#[must_use]
pub fn plan(request: &ListGroupsRequest) -> ListRequest {
    ListRequest {
        states: request.states_filter.iter().map(|state| state.to_string()).collect(),
        types: request.types_filter.iter().map(|kind| kind.to_string()).collect(),
    }
}

/// The response, made of what every coordinator answered. A coordinator that is another broker's has nothing to
/// say; any other error, such as loading, stands for the whole answer, as in Kafka: a list with holes would be taken
/// for complete.
#[must_use]
pub fn reply(version: i16, replies: &[ListReply]) -> ListGroupsResponse {
    let failed = replies.iter().map(|reply| reply.error);
    if let Some(error) =
        failed.into_iter().find(|error| error.is_error() && *error != ErrorCode::NOT_COORDINATOR)
    {
        return ListGroupsResponse::default().with_error_code(error.0);
    }
    let mut groups: Vec<_> = replies.iter().flat_map(|reply| &reply.groups).collect();
    groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    let groups = groups.into_iter().map(|group| {
        ListedGroup::default()
            .with_group_id(group_id(&group.group))
            .with_protocol_type(text(&group.protocol_type))
            .with_group_state(text(if version >= 4 { group.state } else { "" }))
            .with_group_type(text(if version >= 5 { group.group_type } else { "" }))
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::group::ListedGroup as Listed;

    fn list(error: ErrorCode, names: &[&str]) -> ListReply {
        let group = |name: &&str| Listed {
            group: (*name).into(),
            protocol_type: "consumer".into(),
            state: "Empty",
            group_type: "classic",
        };
        ListReply { error, groups: names.iter().map(group).collect() }
    }

    #[test]
    fn lists_are_joined() {
        let replies = [
            list(ErrorCode::NONE, &["b", "d"]),
            list(ErrorCode::NOT_COORDINATOR, &[]),
            list(ErrorCode::NONE, &["a"]),
        ];
        for version in 0..=5 {
            let response = reply(version, &replies);
            let names: Vec<_> = response.groups.iter().map(|group| group.group_id.to_string()).collect();
            assert_eq!((response.error_code, names), (0, vec!["a".into(), "b".into(), "d".into()]));
            assert_eq!(&*response.groups[0].group_state, if version >= 4 { "Empty" } else { "" });
            assert_eq!(&*response.groups[0].group_type, if version >= 5 { "classic" } else { "" });
        }
    }

    #[test]
    fn one_that_loads_makes_the_list_wait() {
        let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
        let response = reply(5, &[list(ErrorCode::NONE, &["a"]), list(loading, &[])]);
        assert_eq!((response.error_code, response.groups.len()), (loading.0, 0));
        assert_eq!(reply(5, &[]).error_code, 0);
    }
}
