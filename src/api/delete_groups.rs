//! DeleteGroups (42).

use crate::api::wire::group_id;
use crate::machine::error::ErrorCode;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use std::collections::HashSet;

/// The groups, each once, to be dealt out to their coordinators.
#[must_use]
pub fn groups(request: &DeleteGroupsRequest) -> Vec<String> {
    let mut seen = HashSet::new();
    let once = request.groups_names.iter().filter(|group| seen.insert(group.as_str()));
    once.map(|group| group.to_string()).collect()
}

/// The response.
#[must_use]
pub fn reply(results: &[(String, ErrorCode)]) -> DeleteGroupsResponse {
    let results = results.iter().map(|(group, error)| {
        DeletableGroupResult::default().with_group_id(group_id(group)).with_error_code(error.0)
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_once() {
        let names = ["a", "b", "a"].map(group_id).to_vec();
        assert_eq!(groups(&DeleteGroupsRequest::default().with_groups_names(names)), ["a", "b"]);
        let response = reply(&[("a".into(), ErrorCode::NON_EMPTY_GROUP)]);
        assert_eq!(
            (response.results[0].group_id.to_string(), response.results[0].error_code),
            ("a".into(), 68)
        );
    }
}
