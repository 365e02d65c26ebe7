//! ListConfigResources (74): names of what has settings (KIP-1142). Version 0 is ListClientMetricsResources.

use crate::api::wire::text;
use crate::api::{View, resource};
use crate::machine::error::ErrorCode;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use std::collections::BTreeSet;

/// What an empty filter asks for.
const ALL: [i8; 5] =
    [resource::TOPIC, resource::BROKER, resource::BROKER_LOGGER, resource::CLIENT_METRICS, resource::GROUP];

/// The response.
#[must_use]
pub fn reply(
    version: i16,
    request: &ListConfigResourcesRequest,
    view: View<'_>,
) -> ListConfigResourcesResponse {
    let kinds: BTreeSet<i8> = match request.resource_types.as_slice() {
        _ if version == 0 => BTreeSet::from([resource::CLIENT_METRICS]),
        [] => ALL.into(),
        asked => asked.iter().copied().collect(),
    };
    let mut resources = Vec::new();
    for kind in kinds {
        let Some(names) = resource::names(view.image, kind) else {
            let code = ErrorCode::UNSUPPORTED_VERSION.0;
            return ListConfigResourcesResponse::default().with_error_code(code);
        };
        resources.extend(
            names.iter().map(|name| {
                ConfigResource::default().with_resource_name(text(name)).with_resource_type(kind)
            }),
        );
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;

    fn list(version: i16, kinds: &[i8]) -> ListConfigResourcesResponse {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        reply(version, &request, Fixture::new().view())
    }

    #[test]
    fn by_kind() {
        let names = |response: &ListConfigResourcesResponse| -> Vec<(i8, String)> {
            let name = |r: &ConfigResource| (r.resource_type, r.resource_name.to_string());
            response.config_resources.iter().map(name).collect()
        };
        assert!(names(&list(0, &[])).is_empty());
        let (t, b, l) = (resource::TOPIC, resource::BROKER, resource::BROKER_LOGGER);
        let topics = ["__consumer_offsets", "compacted", "orders"].map(|name| (t, name.to_owned()));
        assert_eq!(names(&list(1, &[t])), topics);
        let mut all = topics.to_vec();
        all.extend([(b, "1".to_owned()), (l, "1".to_owned())]);
        assert_eq!(names(&list(1, &[])), all);
        assert_eq!(list(1, &[t, 99]).error_code, ErrorCode::UNSUPPORTED_VERSION.0);
    }
}
