//! Small conversions between the machines' types and those of `kafka-protocol`.

use crate::machine::error::ErrorCode;
use crate::machine::group::TopicErrors;
use crate::machine::metadata::ApiError;
use kafka_protocol::messages::{BrokerId, GroupId, TopicName};
use kafka_protocol::protocol::StrBytes;

/// Text on the wire.
pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Optional text on the wire.
pub(super) fn some_text(value: Option<&str>) -> Option<StrBytes> {
    value.map(text)
}

/// Optional text from the wire.
pub(super) fn owned(value: Option<&StrBytes>) -> Option<String> {
    value.map(|text| text.as_str().to_owned())
}

/// A topic's name on the wire.
pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// A group's id on the wire.
pub(super) fn group_id(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Node ids on the wire.
pub(super) fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

/// Code and message of an outcome.
pub(super) fn outcome<T>(result: &Result<T, ApiError>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (ErrorCode::NONE.0, None),
        Err(error) => (error.code.0, Some(text(&error.message))),
    }
}

/// The error that stands for a code without a message of its own, for instance because the command was not
/// committed in time.
pub(super) fn bare(code: ErrorCode) -> ApiError {
    let message = match code {
        ErrorCode::REQUEST_TIMED_OUT => "The request timed out.",
        ErrorCode::NOT_CONTROLLER => "This is not the correct controller for this cluster.",
        ErrorCode::KAFKA_STORAGE_ERROR => "Disk error when trying to access log file on the disk.",
        other => other.name(),
    };
    ApiError::new(code, message)
}

/// What a group's coordinator says of each partition, in its order.
pub(super) fn partition_results<'a>(
    topics: impl Iterator<Item = &'a TopicErrors>,
) -> impl Iterator<Item = Result<(), ErrorCode>> {
    let codes = topics.flat_map(|topic| topic.partitions.iter().map(|(_, code)| *code));
    codes.map(|code| if code.is_error() { Err(code) } else { Ok(()) })
}
