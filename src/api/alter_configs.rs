//! AlterConfigs (33): what is set on a resource becomes exactly what is given. Kafka prefers IncrementalAlterConfigs.

use crate::api::Outcomes;
use crate::api::resource::{self, Changes};
use crate::api::wire::outcome;
use crate::machine::metadata::{Command, ConfigResource};
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

/// The settings that a resource is to have.
pub type Settings = Vec<(String, Option<String>)>;

/// What to decide, and what is refused at once.
#[must_use]
pub fn plan(request: &AlterConfigsRequest) -> Changes<Settings> {
    let mut changes = Changes::default();
    for asked in &request.resources {
        let settings =
            asked.configs.iter().map(|c| (c.name.to_string(), c.value.as_ref().map(|v| v.to_string())));
        let change = resource::to_change(asked.resource_type, &asked.resource_name)
            .map(|resource| (resource, settings.collect()));
        changes.add(asked.resource_type, &asked.resource_name, change);
    }
    changes
}

/// The command; none if everything was refused.
#[must_use]
pub fn command(request: &AlterConfigsRequest, changes: &mut Changes<Settings>) -> Option<Command> {
    let resources = std::mem::take(&mut changes.commands);
    (!resources.is_empty())
        .then_some(Command::AlterConfigs { resources, validate_only: request.validate_only })
}

/// The response; `results` are in the order of the command's resources.
#[must_use]
pub fn reply(changes: Changes<Settings>, results: Outcomes<ConfigResource, ()>) -> AlterConfigsResponse {
    let responses = changes.outcomes(results).into_iter().map(|(kind, name, result)| {
        let (code, message) = outcome(&result);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(name)
    });
    AlterConfigsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::text;
    use crate::machine::error::ErrorCode;
    use crate::machine::metadata::ApiError;
    use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};

    #[test]
    fn results_meet_their_resources() {
        let resource = |kind, name| {
            let config =
                AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("5")));
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(vec![config])
        };
        let request = AlterConfigsRequest::default().with_validate_only(true).with_resources(vec![
            resource(resource::TOPIC, "a"),
            resource(resource::BROKER_LOGGER, "1"),
            resource(resource::BROKER, "x"),
            resource(resource::BROKER, ""),
            resource(resource::BROKER, "2"),
        ]);
        let mut changes = plan(&request);
        let Some(Command::AlterConfigs { resources, validate_only: true }) = command(&request, &mut changes)
        else {
            panic!("three resources can be changed")
        };
        let wanted = [ConfigResource::Topic("a".into()), ConfigResource::Cluster, ConfigResource::Broker(2)];
        assert_eq!(resources.iter().map(|(resource, _)| resource.clone()).collect::<Vec<_>>(), wanted);
        assert_eq!(resources[0].1, [("retention.ms".to_owned(), Some("5".to_owned()))]);
        let error = ApiError::new(ErrorCode::INVALID_CONFIG, "no");
        let results = wanted.into_iter().zip([Ok(()), Err(error), Ok(())]).collect();
        let response = reply(changes, Ok(results));
        let codes: Vec<_> =
            response.responses.iter().map(|r| (r.error_code, r.error_message.is_some())).collect();
        let invalid = ErrorCode::INVALID_REQUEST.0;
        let config = ErrorCode::INVALID_CONFIG.0;
        assert_eq!(codes, [(0, false), (invalid, true), (invalid, true), (config, true), (0, false)]);
        let response = reply(plan(&request), Err(ErrorCode::REQUEST_TIMED_OUT));
        assert_eq!(response.responses[0].error_code, ErrorCode::REQUEST_TIMED_OUT.0);
        assert_eq!(response.responses[1].error_code, invalid, "what was refused keeps its reason");
    }
}
