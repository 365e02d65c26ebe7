//! DescribeConfigs (32): settings of topics and brokers, with where each comes from.

use crate::api::wire::text;
use crate::api::{View, resource};
use crate::machine::config::describe::{self, Entry};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{ApiError, check_topic_name};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

/// The response.
#[must_use]
pub fn reply(version: i16, request: &DescribeConfigsRequest, view: View<'_>) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|asked| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(asked.resource_type)
            .with_resource_name(asked.resource_name.clone());
        match entries(asked, view) {
            Ok(entries) => {
                result.with_configs(entries.iter().map(|entry| config(version, request, entry)).collect())
            }
            Err(error) => result.with_error_code(error.code.0).with_error_message(Some(text(&error.message))),
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn entries(asked: &DescribeConfigsResource, view: View<'_>) -> Result<Vec<Entry>, ApiError> {
    let name = asked.resource_name.as_str();
    let keys: Option<Vec<String>> = asked
        .configuration_keys
        .as_ref()
        // An empty list asks for all, as null does.
        .filter(|keys| !keys.is_empty())
        .map(|keys| keys.iter().map(|key| key.to_string()).collect());
    let keys = keys.as_deref();
    let layers = view.image.layers(view.node_id, view.file);
    match asked.resource_type {
        resource::TOPIC => {
            check_topic_name(name)
                .map_err(|message| ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message))?;
            let topic = view.image.topic_named(name).ok_or_else(|| {
                let message = "This server does not host this topic-partition.";
                ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
            })?;
            Ok(describe::topic(&topic.settings, layers, topic.replication_factor(), keys))
        }
        resource::BROKER if name.is_empty() => Ok(describe::cluster(view.image.cluster_settings(), keys)),
        resource::BROKER => {
            this_broker(name, view, " or empty string")?;
            Ok(describe::broker(layers, keys))
        }
        resource::BROKER_LOGGER => {
            if name.is_empty() {
                return Err(resource::invalid("Broker id must not be empty"));
            }
            this_broker(name, view, "")?;
            // Log levels are set by a filter at start, not by logger: there is none to show.
            Ok(Vec::new())
        }
        other => Err(resource::unsupported(other)),
    }
}

/// Refuses another broker than this one: only it knows its file and command line.
fn this_broker(name: &str, view: View<'_>, or: &str) -> Result<(), ApiError> {
    if resource::broker_id(name)? == view.node_id {
        return Ok(());
    }
    let message = format!("Unexpected broker id, expected {}{or}, but received {name}", view.node_id);
    Err(resource::invalid(message))
}

fn config(version: i16, request: &DescribeConfigsRequest, entry: &Entry) -> DescribeConfigsResourceResult {
    let synonym = |synonym: &describe::Synonym| {
        DescribeConfigsSynonym::default()
            .with_name(text(synonym.name))
            .with_value(Some(text(&synonym.value)))
            .with_source(synonym.source as i8)
    };
    let synonyms = if request.include_synonyms { entry.synonyms.as_slice() } else { &[] };
    let result = DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(entry.value.as_deref().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_synonyms(synonyms.iter().map(synonym).collect());
    if version < 3 {
        return result;
    }
    result
        .with_config_type(entry.kind.id())
        .with_documentation(request.include_documentation.then(|| text(entry.doc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;

    fn describe(version: i16, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
        let keys = keys.map(|keys| keys.iter().map(|key| text(key)).collect());
        let request = DescribeConfigsRequest::default()
            .with_include_synonyms(true)
            .with_include_documentation(true)
            .with_resources(vec![
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(keys),
            ]);
        reply(version, &request, Fixture::new().view()).results.remove(0)
    }

    #[test]
    fn topics_and_brokers_with_source_type_and_words() {
        let result = describe(4, resource::TOPIC, "compacted", Some(&["cleanup.policy", "no.such"]));
        assert_eq!(result.configs.len(), 1);
        let config = &result.configs[0];
        assert_eq!((&*config.name, config.value.as_deref()), ("cleanup.policy", Some("compact")));
        assert_eq!((config.config_source, config.config_type), (1, 7));
        assert!(!config.synonyms.is_empty() && config.documentation.is_some());
        let old = describe(2, resource::TOPIC, "compacted", Some(&["cleanup.policy"]));
        assert_eq!((old.configs[0].config_type, old.configs[0].documentation.as_deref()), (0, Some("")));
        assert!(describe(4, resource::BROKER, "1", Some(&[])).configs.len() > 20, "empty asks for all");
        assert!(describe(4, resource::BROKER, "", None).configs.is_empty(), "nothing is set for all brokers");
    }

    #[test]
    fn refusals_in_kafkas_words() {
        let invalid = ErrorCode::INVALID_REQUEST;
        for (kind, name, code, message) in [
            (resource::TOPIC, "none", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "does not host"),
            (resource::TOPIC, "no good", ErrorCode::INVALID_TOPIC_EXCEPTION, "invalid"),
            (resource::BROKER, "7", invalid, "expected 1 or empty string, but received 7"),
            (resource::BROKER, "x", invalid, "Broker id must be an integer, but it is: x"),
            (resource::BROKER_LOGGER, "", invalid, "Broker id must not be empty"),
            (resource::BROKER_LOGGER, "7", invalid, "expected 1, but received 7"),
            (resource::GROUP, "g", invalid, "Unsupported resource type: GROUP"),
            (0, "", invalid, "Unsupported resource type: 0"),
        ] {
            let result = describe(4, kind, name, None);
            assert_eq!(result.error_code, code.0, "{kind} {name}");
            assert!(result.error_message.as_ref().unwrap().contains(message), "{:?}", result.error_message);
        }
        assert_eq!(describe(4, resource::BROKER_LOGGER, "1", None).error_code, 0);
    }
}
