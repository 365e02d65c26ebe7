//! IncrementalAlterConfigs (44): single settings are set, deleted, appended to or subtracted from (KIP-339).

use crate::api::Outcomes;
use crate::api::resource::{self, Changes};
use crate::api::wire::{outcome, owned};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{AlterOp, ApiError, Command, ConfigResource, SettingChange};
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

/// What to decide, and what is refused at once.
#[must_use]
pub fn plan(request: &IncrementalAlterConfigsRequest) -> Changes<Vec<SettingChange>> {
    let mut changes = Changes::default();
    for asked in &request.resources {
        changes.add(asked.resource_type, &asked.resource_name, change(asked));
    }
    changes
}

fn change(asked: &AlterConfigsResource) -> Result<(ConfigResource, Vec<SettingChange>), ApiError> {
    if asked.resource_type == resource::BROKER_LOGGER
        && let Some(first) = asked.configs.first()
    {
        let message = format!("Logger {} does not exist!", first.name);
        return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
    }
    let resource = resource::to_change(asked.resource_type, &asked.resource_name)?;
    let changes = asked.configs.iter().map(|config| {
        let op = match config.config_operation {
            0 => AlterOp::Set,
            1 => AlterOp::Delete,
            2 => AlterOp::Append,
            3 => AlterOp::Subtract,
            other => return Err(resource::invalid(format!("Unknown config operation type {other}."))),
        };
        Ok(SettingChange { name: config.name.to_string(), op, value: owned(config.value.as_ref()) })
    });
    Ok((resource, changes.collect::<Result<_, _>>()?))
}

/// The command; none if everything was refused.
#[must_use]
pub fn command(
    request: &IncrementalAlterConfigsRequest,
    changes: &mut Changes<Vec<SettingChange>>,
) -> Option<Command> {
    let resources = std::mem::take(&mut changes.commands);
    (!resources.is_empty())
        .then_some(Command::IncrementalAlterConfigs { resources, validate_only: request.validate_only })
}

/// The response; `results` are in the order of the command's resources.
#[must_use]
pub fn reply(
    changes: Changes<Vec<SettingChange>>,
    results: Outcomes<ConfigResource, ()>,
) -> IncrementalAlterConfigsResponse {
    let responses = changes.outcomes(results).into_iter().map(|(kind, name, result)| {
        let (code, message) = outcome(&result);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(kind)
            .with_resource_name(name)
    });
    IncrementalAlterConfigsResponse::default().with_responses(responses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::text;
    use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;

    #[test]
    fn operations_and_refusals() {
        let resource = |kind, name, op| {
            let config = AlterableConfig::default().with_name(text("k")).with_config_operation(op);
            AlterConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configs(vec![config.with_value(Some(text("v")))])
        };
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
            resource(resource::TOPIC, "a", 0),
            resource(resource::TOPIC, "b", 9),
            resource(resource::BROKER_LOGGER, "1", 0),
            resource(resource::TOPIC, "c", 3),
        ]);
        let mut changes = plan(&request);
        let Some(Command::IncrementalAlterConfigs { resources, .. }) = command(&request, &mut changes) else {
            panic!("two resources can be changed")
        };
        assert_eq!(resources[0].1[0].op, AlterOp::Set);
        assert_eq!(resources[1].1[0].op, AlterOp::Subtract);
        let results = resources.into_iter().map(|(resource, _)| (resource, Ok(()))).collect();
        let response = reply(changes, Ok(results));
        let codes: Vec<i16> = response.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, ErrorCode::INVALID_REQUEST.0, ErrorCode::INVALID_CONFIG.0, 0]);
        let message = response.responses[2].error_message.as_ref().unwrap();
        assert_eq!(&**message, "Logger k does not exist!");
    }
}
