//! The operations that a client may do on a resource, as bit fields. Without an authorizer Kafka answers every
//! operation that the kind of resource has, where the client asks for it; where it does not, `i32::MIN`.

/// Kafka's `AclOperation` codes.
const READ: u32 = 3;
const WRITE: u32 = 4;
const CREATE: u32 = 5;
const DELETE: u32 = 6;
const ALTER: u32 = 7;
const DESCRIBE: u32 = 8;
const CLUSTER_ACTION: u32 = 9;
const DESCRIBE_CONFIGS: u32 = 10;
const ALTER_CONFIGS: u32 = 11;
const IDEMPOTENT_WRITE: u32 = 12;

/// The answer where the client did not ask.
pub(super) const NOT_ASKED: i32 = i32::MIN;

/// What can be done with a topic.
pub(super) const TOPIC: i32 =
    bits(&[READ, WRITE, CREATE, DESCRIBE, DELETE, ALTER, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

/// What can be done with a group.
pub(super) const GROUP: i32 = bits(&[READ, DESCRIBE, DELETE, DESCRIBE_CONFIGS, ALTER_CONFIGS]);

/// What can be done with the cluster.
pub(super) const CLUSTER: i32 =
    bits(&[CREATE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE, ALTER, DESCRIBE]);

/// The operations if asked for.
pub(super) const fn if_asked(asked: bool, operations: i32) -> i32 {
    if asked { operations } else { NOT_ASKED }
}

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut at = 0;
    while at < operations.len() {
        bits |= 1 << operations[at];
        at += 1;
    }
    bits
}

#[cfg(test)]
mod tests {
    /// The values that a Kafka 4 broker without an authorizer answers.
    #[test]
    fn bit_fields() {
        assert_eq!(super::TOPIC, 0b1101_1111_1000);
        assert_eq!(super::GROUP, 0b1101_0100_1000);
        assert_eq!(super::CLUSTER, 0b1_1111_1010_0000);
    }
}
