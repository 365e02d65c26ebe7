//! ApiVersions (18): what this broker speaks (KIP-35, KIP-511) and which features it has (KIP-584).
//!
//! Features come from the image: finalized levels as they are, supported ranges from this broker's registration. A
//! feature that is not finalized is absent, and Java then does without: no `transaction.version` means the first
//! transaction protocol, no `group.version` classic groups, no `share.version` no share groups. `metadata.version`
//! and `kraft.version` speak of Kafka's own metadata log; no client asks for them.

use crate::api::View;
use crate::api::table::APIS;
use crate::api::wire::text;
use crate::machine::error::ErrorCode;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// The first version that may name features whose lowest level is 0 (KIP-1022): earlier clients fail on them.
const FEATURE_LEVEL_ZERO_SINCE: i16 = 4;

/// The answer to a version that is served.
#[must_use]
pub fn reply(version: i16, request: &ApiVersionsRequest, view: View<'_>) -> ApiVersionsResponse {
    let named =
        is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version);
    if version >= 3 && !named {
        return ApiVersionsResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0);
    }
    let response = ApiVersionsResponse::default().with_api_keys(APIS.iter().map(range).collect());
    if version < 3 {
        return response;
    }
    let supported = view.image.broker(view.node_id).into_iter().flat_map(|broker| &broker.features);
    let supported = supported.filter(|(_, (min, _))| *min > 0 || version >= FEATURE_LEVEL_ZERO_SINCE).map(
        |(name, (min, max))| {
            SupportedFeatureKey::default().with_name(text(name)).with_min_version(*min).with_max_version(*max)
        },
    );
    let finalized = view.image.features().iter().map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(text(name))
            .with_min_version_level(*level)
            .with_max_version_level(*level)
    });
    response
        .with_supported_features(supported.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(view.image.offset().unwrap_or(-1))
}

/// The answer to a version that is not served, to be encoded as version 0, which every client can read: the error
/// and the versions of ApiVersions alone (KIP-511).
#[must_use]
pub fn unsupported_version() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.kind == crate::api::table::Kind::ApiVersions);
    ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(own.map(range).collect())
}

fn range(api: &crate::api::table::Api) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(api.advertised_min())
        .with_max_version(api.max)
}

/// Kafka's rule for the name and version of a client's software: letters, digits, dots and dashes, beginning and
/// ending with a letter or digit.
fn is_software_name(name: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;

    fn request() -> ApiVersionsRequest {
        ApiVersionsRequest::default()
            .with_client_software_name(text("apache-kafka-java"))
            .with_client_software_version(text("4.1.0"))
    }

    #[test]
    fn every_api_of_the_table_with_produce_from_zero() {
        let fixture = Fixture::new();
        for version in 0..=4 {
            let response = reply(version, &request(), fixture.view());
            assert_eq!((response.error_code, response.api_keys.len()), (0, APIS.len()));
            let produce = &response.api_keys[0];
            assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13));
            let join = response.api_keys.iter().find(|api| api.api_key == 11).unwrap();
            assert_eq!(join.min_version, 0);
            assert!(response.api_keys.iter().all(|api| api.api_key != 17 && api.api_key != 28));
            assert_eq!(response.supported_features.is_empty(), version < 4);
            assert_eq!(response.finalized_features_epoch >= 0, version >= 3);
        }
    }

    #[test]
    fn features_are_those_of_the_image() {
        let fixture = Fixture::new();
        let response = reply(4, &request(), fixture.view());
        let supported = &response.supported_features[0];
        assert_eq!((&*supported.name, supported.min_version, supported.max_version), ("group.version", 0, 1));
        assert!(response.finalized_features.is_empty());
        assert_eq!(Some(response.finalized_features_epoch), fixture.image.offset());
    }

    #[test]
    fn software_names() {
        let fixture = Fixture::new();
        for (name, ok) in [("librdkafka", true), ("a", true), ("", false), ("-a", false), ("a b", false)] {
            let request = request().with_client_software_name(text(name));
            let code = if ok { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
            assert_eq!(reply(3, &request, fixture.view()).error_code, code.0, "{name:?}");
            assert_eq!(reply(2, &request, fixture.view()).error_code, 0, "version 2 has no names");
        }
    }

    #[test]
    fn an_unknown_version_is_told_the_known_ones() {
        let response = unsupported_version();
        let keys: Vec<_> =
            response.api_keys.iter().map(|api| (api.api_key, api.min_version, api.max_version)).collect();
        assert_eq!((response.error_code, keys), (35, vec![(18, 0, 4)]));
    }
}
