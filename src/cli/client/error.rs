//! What can go wrong between a client and a broker, and which of it is worth another try.

use std::fmt;
use std::io;

use crate::cli::failure::Failure;
use crate::machine::error::ErrorCode;

/// Result of a client call.
pub type Result<T> = std::result::Result<T, ClientError>;

/// Why a client call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The connection could not be made, broke, or was closed by the broker.
    Io { peer: String, source: io::Error },
    /// No answer within the time given.
    Timeout { peer: String, ms: u64 },
    /// The broker answered with an error code; `what` says for which thing.
    Kafka { code: ErrorCode, what: String, message: Option<String> },
    /// The answer is not one that the protocol allows.
    Malformed { peer: String, what: String },
    /// The broker does not serve the API in a version that this program speaks.
    Unsupported { peer: String, api: String },
}

impl ClientError {
    /// An error code for a named thing, without the broker's own text.
    pub fn kafka(code: i16, what: impl Into<String>) -> ClientError {
        ClientError::Kafka { code: ErrorCode(code), what: what.into(), message: None }
    }

    /// The code of a broker's refusal.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Kafka { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same request may succeed a moment later, perhaps at another broker.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Io { .. } | ClientError::Timeout { .. } => true,
            ClientError::Kafka { code, .. } => is_retriable(*code),
            ClientError::Malformed { .. } | ClientError::Unsupported { .. } => false,
        }
    }

    /// Whether the connection it came from is of no further use.
    pub fn ends_connection(&self) -> bool {
        !matches!(self, ClientError::Kafka { .. } | ClientError::Unsupported { .. })
    }
}

/// The codes that Kafka's own clients try again.
fn is_retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::NOT_CONTROLLER
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::OFFSET_NOT_AVAILABLE
            | ErrorCode::UNSTABLE_OFFSET_COMMIT
            | ErrorCode::THROTTLING_QUOTA_EXCEEDED
    )
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Io { peer, source } => match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    write!(f, "nothing listens at {peer}; is the broker running? (--bootstrap HOST:PORT)")
                }
                io::ErrorKind::UnexpectedEof => {
                    write!(f, "{peer} closed the connection; its log may say why (is it a Kafka listener?)")
                }
                _ => write!(f, "{peer}: {source}"),
            },
            ClientError::Timeout { peer, ms } => {
                write!(f, "no answer from {peer} within {ms} ms; it may be overloaded (--timeout)")
            }
            ClientError::Kafka { code, what, message } => {
                write!(f, "{what}: {}", code.name())?;
                if code.name() == "UNKNOWN" {
                    write!(f, " error {}", code.0)?;
                }
                match message.as_deref().filter(|text| !text.is_empty()) {
                    Some(text) => write!(f, ": {text}"),
                    None => match advice(*code) {
                        Some(text) => write!(f, " ({text})"),
                        None => Ok(()),
                    },
                }
            }
            ClientError::Malformed { peer, what } => {
                write!(f, "{peer} sent an answer that is no Kafka: {what}")
            }
            ClientError::Unsupported { peer, api } => {
                write!(f, "{peer} does not serve {api} in a version that ringlog speaks")
            }
        }
    }
}

/// What to do about a code, where the broker sent no text of its own.
fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "there is none of that name; see `ringlog topic list`",
        ErrorCode::OFFSET_OUT_OF_RANGE => "the log does not hold that offset; see `ringlog topic describe`",
        ErrorCode::NON_EMPTY_GROUP => "stop the group's members first",
        ErrorCode::GROUP_ID_NOT_FOUND => "see `ringlog group list`",
        ErrorCode::NOT_ENOUGH_REPLICAS => "fewer replicas are in sync than min.insync.replicas asks for",
        ErrorCode::MESSAGE_TOO_LARGE => "raise the topic's max.message.bytes",
        ErrorCode::KAFKA_STORAGE_ERROR => "the broker cannot write; is its disk full?",
        ErrorCode::LEADER_NOT_AVAILABLE => "the partition has no leader at present",
        _ => return None,
    })
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_it_is_about_and_what_to_do() {
        let error = ClientError::kafka(3, "topic `t`");
        assert!(!error.is_retriable() && !error.ends_connection());
        let text = error.to_string();
        assert!(
            text.starts_with("topic `t`: UNKNOWN_TOPIC_OR_PARTITION (") && text.contains("topic list"),
            "{text}"
        );
    }

    #[test]
    fn the_brokers_own_text_wins_over_ours() {
        let error = ClientError::Kafka {
            code: ErrorCode::MESSAGE_TOO_LARGE,
            what: "t-0".into(),
            message: Some("limit is 5".into()),
        };
        assert_eq!(error.to_string(), "t-0: MESSAGE_TOO_LARGE: limit is 5");
    }

    #[test]
    fn a_broken_connection_is_tried_again_and_thrown_away() {
        let error = ClientError::Io { peer: "h:1".into(), source: io::ErrorKind::ConnectionReset.into() };
        assert!(error.is_retriable() && error.ends_connection());
        assert!(ClientError::kafka(6, "p").is_retriable());
        assert!(!ClientError::Malformed { peer: "h:1".into(), what: "x".into() }.is_retriable());
    }
}
