//! Kafka's rules for topic names.

use crate::limits::TOPIC_NAME_BYTES_MAX;

/// Topics of Kafka that hold state of groups, transactions and share groups.
const INTERNAL: &[&str] = &["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// Whether a topic is the broker's own: listed as internal, not deleted by clients.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a topic name against Kafka's rules.
///
/// # Errors
/// Kafka's words for what is wrong with it; the code is INVALID_TOPIC_EXCEPTION.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    let why = if name.is_empty() {
        "the empty string is not allowed".to_owned()
    } else if name == "." || name == ".." {
        format!("'{name}' is not allowed")
    } else if name.len() > TOPIC_NAME_BYTES_MAX {
        format!("the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}")
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    } else {
        return Ok(());
    };
    Err(format!("Topic name is invalid: {why}"))
}

/// The name as metrics of Kafka would have it: two topics that agree in this collide.
pub(super) fn fold(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules() {
        for name in ["a", "A-b_c.9", "...", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(check_topic_name(name).unwrap_err().starts_with("Topic name is invalid: "), "{name}");
        }
        assert_eq!(fold("a.b_c"), fold("a_b.c"));
        assert!(is_internal("__consumer_offsets") && !is_internal("orders"));
    }
}
