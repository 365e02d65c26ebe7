//! Config resources: Kafka's numbers for their kinds, and which of them can be changed here.

use crate::api::Outcomes;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{ApiError, ConfigResource, Image};
use kafka_protocol::protocol::StrBytes;

/// A topic, by name.
pub(super) const TOPIC: i8 = 2;
/// A broker, by id; with an empty name all of them.
pub(super) const BROKER: i8 = 4;
/// The loggers of a broker.
pub(super) const BROKER_LOGGER: i8 = 8;
/// A subscription to clients' metrics.
pub(super) const CLIENT_METRICS: i8 = 16;
/// A group, by id.
pub(super) const GROUP: i8 = 32;

/// An error of INVALID_REQUEST.
pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, message)
}

/// The error for a kind of resource that has no settings here.
pub(super) fn unsupported(kind: i8) -> ApiError {
    let name = match kind {
        BROKER_LOGGER => "BROKER_LOGGER",
        CLIENT_METRICS => "CLIENT_METRICS",
        GROUP => "GROUP",
        _ => return invalid(format!("Unsupported resource type: {kind}")),
    };
    invalid(format!("Unsupported resource type: {name}"))
}

/// The broker that a resource names.
pub(super) fn broker_id(name: &str) -> Result<i32, ApiError> {
    name.parse().map_err(|_| invalid(format!("Broker id must be an integer, but it is: {name}")))
}

/// The resource whose settings are to change.
pub(super) fn to_change(kind: i8, name: &str) -> Result<ConfigResource, ApiError> {
    match kind {
        TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        BROKER => broker_id(name).map(ConfigResource::Broker),
        other => Err(unsupported(other)),
    }
}

/// Names of all resources of a kind, sorted. None for a kind that Kafka does not know.
pub(super) fn names(image: &Image, kind: i8) -> Option<Vec<String>> {
    match kind {
        TOPIC => Some(image.topics_by_name().iter().map(|topic| topic.name.to_string()).collect()),
        BROKER | BROKER_LOGGER => Some(image.brokers().map(|broker| broker.id.to_string()).collect()),
        CLIENT_METRICS | GROUP => Some(Vec::new()),
        _ => None,
    }
}

/// The changes of a request that the metadata machine is to decide, and every resource in the order asked, refused
/// or not.
#[derive(Debug)]
pub struct Changes<C> {
    /// What to decide.
    pub commands: Vec<(ConfigResource, C)>,
    /// Kind and name of each resource, with the error if it is refused.
    resources: Vec<(i8, StrBytes, Option<ApiError>)>,
}

/// The outcome for one resource, as both ways of changing settings answer it.
pub(super) type Outcome = (i8, StrBytes, Result<(), ApiError>);

impl<C> Default for Changes<C> {
    fn default() -> Self {
        Changes { commands: Vec::new(), resources: Vec::new() }
    }
}

impl<C> Changes<C> {
    pub(super) fn add(&mut self, kind: i8, name: &StrBytes, change: Result<(ConfigResource, C), ApiError>) {
        let refused = match change {
            Ok(command) => {
                self.commands.push(command);
                None
            }
            Err(error) => Some(error),
        };
        self.resources.push((kind, name.clone(), refused));
    }

    /// Puts the machine's results, which are in the order of the commands, to their resources.
    pub(super) fn outcomes(self, results: Outcomes<ConfigResource, ()>) -> Vec<Outcome> {
        let mut results = results.map(Vec::into_iter);
        let mut next = || match &mut results {
            Ok(results) => results.next().expect("each command has its result").1,
            Err(code) => Err(super::wire::bare(*code)),
        };
        self.resources
            .into_iter()
            .map(|(kind, name, refused)| (kind, name, refused.map_or_else(&mut next, Err)))
            .collect()
    }
}
