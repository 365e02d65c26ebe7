//! Reading state back from the partition's records, and writing it out again.

use std::rc::Rc;

use bytes::Bytes;

use super::codec::CodecError;
use super::coordinator::{Coordinator, Now, Phase};
use super::records::{
    RecordKey, StateRecord, decode_group_value, decode_key, decode_offset_value, encode_group_key,
    encode_offset_key, encode_offset_value,
};
use super::state::Group;

/// A record of `__consumer_offsets` that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// Its key cannot.
    Key(CodecError),
    /// Its value cannot.
    Value(CodecError),
    /// Its value describes a generation that cannot be: one member twice, or members without a protocol.
    Inconsistent,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Key(error) => write!(f, "the key of a group record cannot be read: {error}"),
            LoadError::Value(error) => write!(f, "the value of a group record cannot be read: {error}"),
            LoadError::Inconsistent => f.write_str("a group record describes a generation that cannot be"),
        }
    }
}

impl std::error::Error for LoadError {}

impl Coordinator {
    /// Takes in the partition's next record. Keys of kinds that are not known (KIP-848's among them) are counted
    /// and skipped. Errors: the record cannot be read; state is as before, and the caller decides whether to
    /// go on.
    pub fn load(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        record_timestamp_ms: i64,
    ) -> Result<(), LoadError> {
        assert_eq!(self.phase, Phase::Loading, "records are read back before requests are served");
        match decode_key(key).map_err(LoadError::Key)? {
            RecordKey::Offset { group, topic, partition } => {
                let offset = value.map(decode_offset_value).transpose().map_err(LoadError::Value)?;
                self.group_to_load(&group, record_timestamp_ms).offsets.restore(&topic, partition, offset);
                self.drop_if_vacant(&group);
            }
            RecordKey::Group { group } => {
                match value {
                    Some(value) => {
                        let value = Bytes::copy_from_slice(value);
                        let decoded = decode_group_value(&value).map_err(LoadError::Value)?;
                        if !decoded.is_consistent() {
                            return Err(LoadError::Inconsistent);
                        }
                        self.group_to_load(&group, record_timestamp_ms).restore(value, decoded);
                    }
                    None => self.group_to_load(&group, record_timestamp_ms).restore_tombstone(),
                }
                self.drop_if_vacant(&group);
            }
            RecordKey::Unknown(_) => self.unknown_records += 1,
        }
        Ok(())
    }

    fn group_to_load(&mut self, id: &str, timestamp_ms: i64) -> &mut Group {
        if !self.groups.contains_key(id) {
            let id: Rc<str> = Rc::from(id);
            self.groups.insert(id.clone(), Group::new(id, timestamp_ms));
        }
        self.groups.get_mut(id).expect("inserted above")
    }

    /// Every live offset and generation as records, as the log has them: once these are appended and durable,
    /// the log before them may go. `None` while appends are in flight, because what they carry would be lost or
    /// overwritten; the shell then holds requests back and asks again when they are done.
    #[must_use]
    pub fn live_state(&self, now: Now) -> Option<Vec<StateRecord>> {
        if self.phase != Phase::Active || self.io.span_in_flight().is_some() {
            return None;
        }
        let mut records = Vec::new();
        for group in self.groups.values() {
            let timestamp_ms = now.wall_ms;
            if let Some(value) = &group.logged {
                records.push(StateRecord {
                    key: encode_group_key(&group.id),
                    value: Some(value.clone()),
                    timestamp_ms,
                });
            }
            for (topic, offsets) in group.offsets.iter_durable() {
                for (partition, offset) in offsets {
                    let key = encode_offset_key(&group.id, topic, partition);
                    records.push(StateRecord { key, value: Some(encode_offset_value(offset)), timestamp_ms });
                }
            }
        }
        Some(records)
    }
}
