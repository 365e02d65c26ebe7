//! The records of `__consumer_offsets`, byte for byte in Kafka's own schemas, and which partition holds a group.
//!
//! ```text
//! key    version 0, 1   OffsetCommitKey    group, topic, partition
//!        version 2      GroupMetadataKey   group
//! value  OffsetCommitValue    0..4   written: 3, or 1 with an expire timestamp
//!        GroupMetadataValue   0..4   written: 3
//! ```
//!
//! A record without value is a tombstone. Versions 4 are flexible (KIP-915); Kafka 4 reads them and, like
//! Ringlog, still writes the last version that is not. Other key versions belong to other kinds of groups.

use std::collections::BTreeSet;

use bytes::Bytes;

pub use super::codec::CodecError;
use super::codec::{Reader, Writer};
use super::offsets::CommittedOffset;

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
const VALUE_VERSION_MAX: i16 = 4;
/// Tag of the topic id in version 4 of OffsetCommitValue.
const TOPIC_ID_TAG: usize = 0;

/// A record to append to the coordinator's partition of `__consumer_offsets`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateRecord {
    /// The key's bytes.
    pub key: Bytes,
    /// The value's bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The record's timestamp: when it was decided, by the wall clock.
    pub timestamp_ms: i64,
}

/// What a record is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RecordKey {
    /// A committed offset.
    Offset {
        /// The group that committed.
        group: String,
        /// The topic's name.
        topic: String,
        /// The partition's index.
        partition: i32,
    },
    /// A classic group's generation and members.
    Group {
        /// The group.
        group: String,
    },
    /// A kind of record that this broker does not know, by the version its key starts with.
    Unknown(i16),
}

/// The value of a group's record: one generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupValue {
    /// The protocol type, `consumer` for consumers; empty for a group that never had a member.
    pub protocol_type: String,
    /// The generation.
    pub generation: i32,
    /// The protocol (for consumers: the assignor) that the generation uses.
    pub protocol: Option<String>,
    /// The leader's member id.
    pub leader: Option<String>,
    /// Since when the group is in its state, in milliseconds since 1970; -1 where the record does not say.
    pub state_timestamp_ms: i64,
    /// The members.
    pub members: Vec<MemberValue>,
}

impl GroupValue {
    /// Whether a coordinator can have written this: members are distinct and have agreed on a protocol.
    pub(super) fn is_consistent(&self) -> bool {
        let agreed = !self.protocol_type.is_empty() && self.protocol.is_some();
        let ids: BTreeSet<&str> = self.members.iter().map(|member| &*member.member_id).collect();
        let mut instances = BTreeSet::new();
        let mut statics = self.members.iter().filter_map(|member| member.instance_id.as_deref());
        (agreed || self.members.is_empty())
            && ids.len() == self.members.len()
            && statics.all(|instance| instances.insert(instance))
    }
}

/// A member in the value of a group's record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberValue {
    /// The member id.
    pub member_id: String,
    /// The `group.instance.id` of a static member.
    pub instance_id: Option<String>,
    /// The client id of the member's requests.
    pub client_id: String,
    /// The address that the member connected from.
    pub client_host: String,
    /// The rebalance timeout in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The session timeout in milliseconds.
    pub session_timeout_ms: i32,
    /// The member's metadata for the generation's protocol.
    pub subscription: Bytes,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// The partition of `__consumer_offsets` that holds a group, of `partitions` in all: Kafka's
/// `abs(groupId.hashCode()) % partitions`. Panics unless `partitions` is positive.
#[must_use]
pub fn partition_for(group: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "__consumer_offsets has at least one partition");
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's abs maps the one number without a positive counterpart to 0.
    hash.checked_abs().unwrap_or(0) % partitions
}

/// Decodes a record's key. Errors: the bytes do not follow the schema that their version names.
pub fn decode_key(key: &[u8]) -> Result<RecordKey, CodecError> {
    let mut reader = Reader::new(Bytes::copy_from_slice(key));
    match reader.i16()? {
        0 | OFFSET_KEY_VERSION => Ok(RecordKey::Offset {
            group: reader.string()?,
            topic: reader.string()?,
            partition: reader.i32()?,
        }),
        GROUP_KEY_VERSION => Ok(RecordKey::Group { group: reader.string()? }),
        version => Ok(RecordKey::Unknown(version)),
    }
}

/// Encodes the key of a committed offset.
#[must_use]
pub fn encode_offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut writer = Writer::new(OFFSET_KEY_VERSION);
    writer.string(group);
    writer.string(topic);
    writer.i32(partition);
    writer.finish()
}

/// Encodes the key of a group.
#[must_use]
pub fn encode_group_key(group: &str) -> Bytes {
    let mut writer = Writer::new(GROUP_KEY_VERSION);
    writer.string(group);
    writer.finish()
}

/// Encodes a committed offset as Kafka 4 does: version 3, or version 1 if it has an expire timestamp of its own.
/// The topic id is not kept (neither version has it).
#[must_use]
pub fn encode_offset_value(offset: &CommittedOffset) -> Bytes {
    let version = match offset.expire_ms {
        Some(_) => OFFSET_VALUE_VERSION_WITH_EXPIRY,
        None => OFFSET_VALUE_VERSION,
    };
    let mut writer = Writer::new(version);
    writer.i64(offset.offset);
    if version >= 3 {
        writer.i32(offset.leader_epoch);
    }
    writer.string(&offset.metadata);
    writer.i64(offset.commit_ms);
    if let Some(expire_ms) = offset.expire_ms {
        writer.i64(expire_ms);
    }
    writer.finish()
}

/// Decodes a committed offset of any version from 0 to 4. Errors: the bytes do not follow the schema.
pub fn decode_offset_value(value: &[u8]) -> Result<CommittedOffset, CodecError> {
    let (version, mut reader) = open_value(Bytes::copy_from_slice(value))?;
    let offset = reader.i64()?;
    let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
    let metadata = reader.string()?;
    let commit_ms = reader.i64()?;
    let expire_ms = if version == 1 { Some(reader.i64()?).filter(|&ms| ms != -1) } else { None };
    let mut topic_id = [0; 16];
    reader.tagged_fields(|tag, bytes| {
        if let (TOPIC_ID_TAG, Ok(id)) = (tag, bytes.try_into()) {
            topic_id = id;
        }
    })?;
    Ok(CommittedOffset { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
}

/// Encodes a generation as Kafka 4 does: version 3.
#[must_use]
pub fn encode_group_value(value: &GroupValue) -> Bytes {
    let mut writer = Writer::new(GROUP_VALUE_VERSION);
    writer.string(&value.protocol_type);
    writer.i32(value.generation);
    writer.nullable_string(value.protocol.as_deref());
    writer.nullable_string(value.leader.as_deref());
    writer.i64(value.state_timestamp_ms);
    writer.array_length(value.members.len());
    for member in &value.members {
        writer.string(&member.member_id);
        writer.nullable_string(member.instance_id.as_deref());
        writer.string(&member.client_id);
        writer.string(&member.client_host);
        writer.i32(member.rebalance_timeout_ms);
        writer.i32(member.session_timeout_ms);
        writer.bytes(&member.subscription);
        writer.bytes(&member.assignment);
    }
    writer.finish()
}

/// Decodes a generation of any version from 0 to 4. Byte fields are slices of the value. Errors: the bytes do
/// not follow the schema.
pub fn decode_group_value(value: &Bytes) -> Result<GroupValue, CodecError> {
    let (version, mut reader) = open_value(value.clone())?;
    let protocol_type = reader.string()?;
    let generation = reader.i32()?;
    let protocol = reader.nullable_string()?;
    let leader = reader.nullable_string()?;
    let state_timestamp_ms = if version >= 2 { reader.i64()? } else { -1 };
    // The smallest member has three strings, a timeout and two byte fields, all empty.
    let count = reader.array_length(if version >= 4 { 9 } else { 18 })?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(decode_member(version, &mut reader)?);
    }
    reader.tagged_fields(|_, _| ())?;
    Ok(GroupValue { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
}

fn decode_member(version: i16, reader: &mut Reader) -> Result<MemberValue, CodecError> {
    let member_id = reader.string()?;
    let instance_id = if version >= 3 { reader.nullable_string()? } else { None };
    let client_id = reader.string()?;
    let client_host = reader.string()?;
    let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
    let session_timeout_ms = reader.i32()?;
    let subscription = reader.bytes()?;
    let assignment = reader.bytes()?;
    reader.tagged_fields(|_, _| ())?;
    Ok(MemberValue {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Before KIP-62 the session timeout was both.
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        session_timeout_ms,
        subscription,
        assignment,
    })
}

/// Reads the version that a value starts with.
fn open_value(value: Bytes) -> Result<(i16, Reader), CodecError> {
    let mut reader = Reader::new(value);
    let version = reader.i16()?;
    if !(0..=VALUE_VERSION_MAX).contains(&version) {
        return Err(CodecError::UnknownVersion(version));
    }
    if version >= 4 {
        reader.set_flexible();
    }
    Ok((version, reader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset() -> CommittedOffset {
        CommittedOffset {
            offset: 100,
            leader_epoch: 10,
            metadata: "metadata".to_owned(),
            commit_ms: 1234,
            expire_ms: None,
            topic_id: [0; 16],
        }
    }

    #[test]
    fn partitions_follow_javas_hash() {
        // "".hashCode() = 0, "a" = 97, "console-consumer-1" by the definition, and a string of hash i32::MIN.
        assert_eq!(partition_for("", 50), 0);
        assert_eq!(partition_for("a", 50), 47);
        assert_eq!(partition_for("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(partition_for("polygenelubricants", 50), 0, "hashCode() is Integer.MIN_VALUE");
        assert_eq!(partition_for("polygenelubricantt", 50), 2_147_483_647 % 50, "hash MIN_VALUE + 1");
        // "é" is one UTF-16 unit of two UTF-8 bytes, "𝄞" two units.
        assert_eq!(partition_for("é", 1000), 0xe9);
        assert_eq!(partition_for("𝄞", 100_000), (0xd834 * 31 + 0xdd1e) % 100_000);
    }

    #[test]
    fn keys_have_kafkas_bytes() {
        let key = encode_offset_key("g", "foo", 7);
        assert_eq!(&key[..], b"\0\x01\0\x01g\0\x03foo\0\0\0\x07");
        let group = "g".to_owned();
        let expected = RecordKey::Offset { group: group.clone(), topic: "foo".to_owned(), partition: 7 };
        assert_eq!(decode_key(&key), Ok(expected.clone()));
        let mut version_0 = key.to_vec();
        version_0[1] = 0;
        assert_eq!(decode_key(&version_0), Ok(expected));
        assert_eq!(&encode_group_key("g")[..], b"\0\x02\0\x01g");
        assert_eq!(decode_key(b"\0\x02\0\x01g"), Ok(RecordKey::Group { group }));
        assert_eq!(decode_key(b"\0\x03rest"), Ok(RecordKey::Unknown(3)));
        assert_eq!(decode_key(b"\0\x02\0\x05g"), Err(CodecError::Truncated));
    }

    #[test]
    fn offset_values_have_kafkas_bytes() {
        let version_3 = b"\0\x03\0\0\0\0\0\0\0\x64\0\0\0\x0a\0\x08metadata\0\0\0\0\0\0\x04\xd2";
        assert_eq!(&encode_offset_value(&offset())[..], version_3);
        assert_eq!(decode_offset_value(version_3), Ok(offset()));

        let version_1 = b"\0\x01\0\0\0\0\0\0\0\x64\0\x08metadata\0\0\0\0\0\0\x04\xd2\0\0\0\0\0\0\x16\x2e";
        let expiring = CommittedOffset { expire_ms: Some(5678), leader_epoch: -1, ..offset() };
        assert_eq!(&encode_offset_value(&expiring)[..], version_1);
        assert_eq!(decode_offset_value(version_1), Ok(expiring));

        for version in [0, 2] {
            let mut bytes = version_1[..28].to_vec();
            bytes[1] = version;
            assert_eq!(decode_offset_value(&bytes), Ok(CommittedOffset { leader_epoch: -1, ..offset() }));
        }
        let mut version_4 = b"\0\x04\0\0\0\0\0\0\0\x64\0\0\0\x0a\x09metadata\0\0\0\0\0\0\x04\xd2".to_vec();
        let untagged = [&version_4[..], &[0]].concat();
        assert_eq!(decode_offset_value(&untagged), Ok(offset()));
        version_4.extend_from_slice(&[2, 0, 16]);
        version_4.extend_from_slice(&[7; 16]);
        version_4.extend_from_slice(&[9, 1, 1]);
        assert_eq!(decode_offset_value(&version_4), Ok(CommittedOffset { topic_id: [7; 16], ..offset() }));
        assert_eq!(decode_offset_value(b"\0\x05"), Err(CodecError::UnknownVersion(5)));
    }

    fn group_value() -> GroupValue {
        GroupValue {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: Some("range".to_owned()),
            leader: Some("m".to_owned()),
            state_timestamp_ms: 5,
            members: vec![MemberValue {
                member_id: "m".to_owned(),
                instance_id: Some("i".to_owned()),
                client_id: "c".to_owned(),
                client_host: "h".to_owned(),
                rebalance_timeout_ms: 2,
                session_timeout_ms: 1,
                subscription: Bytes::from_static(b"sub"),
                assignment: Bytes::from_static(b"as"),
            }],
        }
    }

    #[test]
    fn group_values_have_kafkas_bytes() {
        let version_3 = b"\0\x03\0\x08consumer\0\0\0\x03\0\x05range\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\x01\
            \0\x01m\0\x01i\0\x01c\0\x01h\0\0\0\x02\0\0\0\x01\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(&encode_group_value(&group_value())[..], &version_3[..]);
        assert_eq!(decode_group_value(&Bytes::from_static(version_3)), Ok(group_value()));
        let version_4 = b"\0\x04\x09consumer\0\0\0\x03\x06range\x02m\0\0\0\0\0\0\0\x05\x02\
            \x02m\x02i\x02c\x02h\0\0\0\x02\0\0\0\x01\x04sub\x03as\0\0";
        assert_eq!(decode_group_value(&Bytes::from_static(version_4)), Ok(group_value()));
        let empty = GroupValue {
            protocol_type: String::new(),
            generation: 0,
            protocol: None,
            leader: None,
            state_timestamp_ms: -1,
            members: Vec::new(),
        };
        assert_eq!(decode_group_value(&encode_group_value(&empty)), Ok(empty));
    }

    #[test]
    fn old_group_values_are_read() {
        let member = |value: &mut GroupValue| {
            value.members[0].instance_id = None;
            value.state_timestamp_ms = -1;
        };
        let mut expected = group_value();
        member(&mut expected);
        let version_1 = b"\0\x01\0\x08consumer\0\0\0\x03\0\x05range\0\x01m\0\0\0\x01\
            \0\x01m\0\x01c\0\x01h\0\0\0\x02\0\0\0\x01\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(decode_group_value(&Bytes::from_static(version_1)), Ok(expected.clone()));
        let version_0 = b"\0\0\0\x08consumer\0\0\0\x03\0\x05range\0\x01m\0\0\0\x01\
            \0\x01m\0\x01c\0\x01h\0\0\0\x01\0\0\0\x03sub\0\0\0\x02as";
        expected.members[0].rebalance_timeout_ms = 1;
        assert_eq!(decode_group_value(&Bytes::from_static(version_0)), Ok(expected.clone()));
        expected.members[0].rebalance_timeout_ms = 2;
        expected.state_timestamp_ms = 5;
        let version_2 = b"\0\x02\0\x08consumer\0\0\0\x03\0\x05range\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\x01\
            \0\x01m\0\x01c\0\x01h\0\0\0\x02\0\0\0\x01\0\0\0\x03sub\0\0\0\x02as";
        assert_eq!(decode_group_value(&Bytes::from_static(version_2)), Ok(expected));
    }

    proptest! {
        #[test]
        fn offsets_round_trip(
            offset in any::<i64>(), epoch in any::<i32>(), metadata in ".{0,20}", commit_ms in any::<i64>(),
            expire_ms in proptest::option::of(0..i64::MAX),
        ) {
            let leader_epoch = if expire_ms.is_some() { -1 } else { epoch };
            let value = CommittedOffset { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id: [0; 16] };
            prop_assert_eq!(decode_offset_value(&encode_offset_value(&value)), Ok(value));
        }

        #[test]
        fn damaged_bytes_never_panic(
            cut in 0usize..90, at in 0usize..90, flip in any::<u8>(), version in 0u8..6,
        ) {
            let mut bytes = encode_group_value(&group_value()).to_vec();
            bytes[1] = version;
            let at = at % bytes.len();
            bytes[at] ^= flip;
            bytes.truncate(cut);
            let _ = decode_offset_value(&bytes);
            let _ = decode_key(&bytes);
            let _ = decode_group_value(&Bytes::from(bytes));
        }
    }
}
