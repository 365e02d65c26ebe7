//! Records as bytes.
//!
//! ```text
//! record    kind u8 | version u8 | fields
//! ```
//!
//! A field added later raises the version of its kind; older versions stay readable. A kind or version that is not
//! known here is an error, never skipped: what a record says cannot be ignored.

use super::codec::{DecodeError, Reader, Writer};
use super::record::{Broker, BrokerState, Capacity, Endpoint, Partition, Record};

const CLUSTER: u8 = 1;
const FEATURE: u8 = 2;
const BROKER: u8 = 3;
const TOPIC: u8 = 4;
const PARTITION: u8 = 5;
const TOPIC_DELETED: u8 = 6;
const TOPIC_SETTING: u8 = 7;
const BROKER_SETTING: u8 = 8;
const PRODUCER_IDS: u8 = 9;
const KIND_MAX: u8 = PRODUCER_IDS;

/// Every kind is at its first version.
const VERSION: u8 = 0;

impl Record {
    /// Appends the record's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let w = &mut Writer(out);
        let start = |w: &mut Writer<'_>, kind| {
            w.u8(kind);
            w.u8(VERSION);
        };
        match self {
            Record::Cluster { id } => {
                start(w, CLUSTER);
                w.id(*id);
            }
            Record::Feature { name, level } => {
                start(w, FEATURE);
                w.text(name);
                w.signed(i64::from(*level));
            }
            Record::Broker(broker) => {
                start(w, BROKER);
                write_broker(w, broker);
            }
            Record::Topic { id, name } => {
                start(w, TOPIC);
                w.id(*id);
                w.text(name);
            }
            Record::Partition { topic, index, partition } => {
                start(w, PARTITION);
                w.id(*topic);
                w.signed(i64::from(*index));
                write_partition(w, partition);
            }
            Record::TopicDeleted { id } => {
                start(w, TOPIC_DELETED);
                w.id(*id);
            }
            Record::TopicSetting { topic, name, value } => {
                start(w, TOPIC_SETTING);
                w.id(*topic);
                w.text(name);
                w.option(value.as_deref(), Writer::text);
            }
            Record::BrokerSetting { broker, name, value } => {
                start(w, BROKER_SETTING);
                w.option(*broker, |w, id| w.signed(i64::from(id)));
                w.text(name);
                w.option(value.as_deref(), Writer::text);
            }
            Record::ProducerIds { next } => {
                start(w, PRODUCER_IDS);
                w.signed(*next);
            }
        }
    }

    /// Reads the record that these bytes are, all of them.
    ///
    /// # Errors
    /// The bytes are no record, or one of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
        let r = &mut Reader(bytes);
        let (kind, version) = (r.u8()?, r.u8()?);
        if kind > KIND_MAX {
            let (found, known) = (kind.into(), KIND_MAX.into());
            return Err(DecodeError::Newer { what: "record kind", found, known });
        }
        if version > VERSION {
            let (found, known) = (version.into(), VERSION.into());
            return Err(DecodeError::Newer { what: "record version", found, known });
        }
        let record = match kind {
            CLUSTER => Record::Cluster { id: r.id()? },
            FEATURE => Record::Feature { name: r.text()?, level: r.small()? },
            BROKER => Record::Broker(read_broker(r)?),
            TOPIC => Record::Topic { id: r.id()?, name: r.text()? },
            PARTITION => {
                Record::Partition { topic: r.id()?, index: index(r)?, partition: read_partition(r)? }
            }
            TOPIC_DELETED => Record::TopicDeleted { id: r.id()? },
            TOPIC_SETTING => {
                Record::TopicSetting { topic: r.id()?, name: r.text()?, value: r.option(Reader::text)? }
            }
            BROKER_SETTING => Record::BrokerSetting {
                broker: r.option(Reader::small)?,
                name: r.text()?,
                value: r.option(Reader::text)?,
            },
            PRODUCER_IDS => Record::ProducerIds { next: r.signed()? },
            _ => return Err(DecodeError::Invalid("record kind")),
        };
        r.end()?;
        Ok(record)
    }
}

fn index(r: &mut Reader<'_>) -> Result<i32, DecodeError> {
    let index = r.small()?;
    if index < 0 { Err(DecodeError::Invalid("partition index")) } else { Ok(index) }
}

fn write_partition(w: &mut Writer<'_>, partition: &Partition) {
    for ids in [&partition.replicas, &partition.isr, &partition.elr] {
        w.list(ids.iter(), |w, id| w.signed(i64::from(*id)));
    }
    for id in [partition.last_known_leader, partition.leader] {
        w.option(id, |w, id| w.signed(i64::from(id)));
    }
    w.signed(i64::from(partition.leader_epoch));
    w.signed(i64::from(partition.partition_epoch));
}

fn read_partition(r: &mut Reader<'_>) -> Result<Partition, DecodeError> {
    Ok(Partition {
        replicas: r.list(Reader::small)?,
        isr: r.list(Reader::small)?,
        elr: r.list(Reader::small)?,
        last_known_leader: r.option(Reader::small)?,
        leader: r.option(Reader::small)?,
        leader_epoch: r.small()?,
        partition_epoch: r.small()?,
    })
}

fn write_broker(w: &mut Writer<'_>, broker: &Broker) {
    w.signed(i64::from(broker.id));
    w.id(broker.directory);
    w.id(broker.incarnation);
    w.signed(broker.epoch);
    w.list(broker.endpoints.iter(), |w, endpoint| {
        w.text(&endpoint.listener);
        w.text(&endpoint.host);
        w.unsigned(u64::from(endpoint.port));
    });
    w.option(broker.rack.as_deref(), Writer::text);
    w.list(broker.features.iter(), |w, (name, (low, high))| {
        w.text(name);
        w.signed(i64::from(*low));
        w.signed(i64::from(*high));
    });
    w.unsigned(u64::from(broker.capacity.cores));
    w.unsigned(broker.capacity.disk_bytes);
    w.unsigned(broker.capacity.network_bytes_per_s);
    w.u8(match broker.state {
        BrokerState::Fenced => 0,
        BrokerState::Unfenced => 1,
        BrokerState::Stopping => 2,
    });
}

fn read_broker(r: &mut Reader<'_>) -> Result<Broker, DecodeError> {
    Ok(Broker {
        id: r.small()?,
        directory: r.id()?,
        incarnation: r.id()?,
        epoch: r.signed()?,
        endpoints: r.list(|r| {
            let (listener, host) = (r.text()?, r.text()?);
            let port = u16::try_from(r.unsigned()?).map_err(|_| DecodeError::Invalid("port"))?;
            Ok(Endpoint { listener, host, port })
        })?,
        rack: r.option(Reader::text)?,
        features: r.list(|r| Ok((r.text()?, (r.small()?, r.small()?))))?,
        capacity: Capacity {
            cores: u32::try_from(r.unsigned()?).map_err(|_| DecodeError::Invalid("cores"))?,
            disk_bytes: r.unsigned()?,
            network_bytes_per_s: r.unsigned()?,
        },
        state: match r.u8()? {
            0 => BrokerState::Fenced,
            1 => BrokerState::Unfenced,
            2 => BrokerState::Stopping,
            _ => return Err(DecodeError::Invalid("broker state")),
        },
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn id() -> impl Strategy<Value = Uuid> {
        any::<u128>().prop_map(Uuid::from_u128)
    }

    fn partition() -> impl Strategy<Value = Partition> {
        let ids = || prop::collection::vec(any::<i32>(), 0..5);
        (ids(), ids(), ids(), any::<Option<i32>>(), any::<Option<i32>>(), any::<(i32, i32)>()).prop_map(
            |(replicas, isr, elr, last_known_leader, leader, (leader_epoch, partition_epoch))| Partition {
                replicas,
                isr,
                elr,
                last_known_leader,
                leader,
                leader_epoch,
                partition_epoch,
            },
        )
    }

    fn broker() -> impl Strategy<Value = Broker> {
        let endpoint = (".{0,9}", ".{0,9}", any::<u16>()).prop_map(|(listener, host, port)| Endpoint {
            listener,
            host,
            port,
        });
        let state =
            prop::sample::select(vec![BrokerState::Fenced, BrokerState::Unfenced, BrokerState::Stopping]);
        (
            (any::<i32>(), id(), id(), any::<i64>()),
            prop::collection::vec(endpoint, 0..3),
            prop::option::of(".{0,9}"),
            prop::collection::btree_map("[a-z.]{0,9}", any::<(i16, i16)>(), 0..3),
            any::<(u32, u64, u64)>(),
            state,
        )
            .prop_map(
                |((id, directory, incarnation, epoch), endpoints, rack, features, capacity, state)| Broker {
                    id,
                    directory,
                    incarnation,
                    epoch,
                    endpoints,
                    rack,
                    features,
                    capacity: Capacity {
                        cores: capacity.0,
                        disk_bytes: capacity.1,
                        network_bytes_per_s: capacity.2,
                    },
                    state,
                },
            )
    }

    pub(crate) fn record() -> impl Strategy<Value = Record> {
        let value = || prop::option::of(".{0,9}");
        prop_oneof![
            id().prop_map(|id| Record::Cluster { id }),
            (".{0,9}", any::<i16>()).prop_map(|(name, level)| Record::Feature { name, level }),
            broker().prop_map(Record::Broker),
            (id(), ".{0,9}").prop_map(|(id, name)| Record::Topic { id, name }),
            (id(), 0..i32::MAX, partition()).prop_map(|(topic, index, partition)| Record::Partition {
                topic,
                index,
                partition
            }),
            id().prop_map(|id| Record::TopicDeleted { id }),
            (id(), ".{0,9}", value()).prop_map(|(topic, name, value)| Record::TopicSetting {
                topic,
                name,
                value
            }),
            (any::<Option<i32>>(), ".{0,9}", value())
                .prop_map(|(broker, name, value)| Record::BrokerSetting { broker, name, value }),
            any::<i64>().prop_map(|next| Record::ProducerIds { next }),
        ]
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn records_round_trip(record in record()) {
            prop_assert_eq!(Record::decode(&encoded(&record)), Ok(record));
        }

        #[test]
        fn a_record_cut_short_or_made_longer_is_an_error(record in record(), cut: prop::sample::Index) {
            let mut bytes = encoded(&record);
            let keep = cut.index(bytes.len());
            prop_assert!(Record::decode(&bytes[..keep]).is_err());
            bytes.push(0);
            prop_assert!(Record::decode(&bytes).is_err());
        }

        #[test]
        fn garbage_never_panics(kind in 0..=KIND_MAX + 1, mut bytes: Vec<u8>) {
            bytes.splice(0..0, [kind, VERSION]);
            if let Ok(record) = Record::decode(&bytes) {
                // What is accepted is a record: it survives another round.
                prop_assert_eq!(Record::decode(&encoded(&record)), Ok(record));
            }
        }
    }

    #[test]
    fn newer_kinds_and_versions_are_named() {
        let newer = Record::decode(&[KIND_MAX + 1, 0]).unwrap_err();
        assert_eq!(newer, DecodeError::Newer { what: "record kind", found: 10, known: 9 });
        let mut bytes = encoded(&Record::ProducerIds { next: 5 });
        bytes[1] = 1;
        let newer = Record::decode(&bytes).unwrap_err();
        assert_eq!(newer, DecodeError::Newer { what: "record version", found: 1, known: 0 });
        assert_eq!(Record::decode(&[0, 0]), Err(DecodeError::Invalid("record kind")));
    }

    /// The bytes are on disks: a change that breaks this breaks them.
    #[test]
    fn the_format_stands() {
        let topic = Uuid::from_u128(0x0102);
        let partition = Partition {
            replicas: vec![1],
            isr: vec![1],
            elr: vec![],
            last_known_leader: None,
            leader: Some(1),
            leader_epoch: 3,
            partition_epoch: 64,
        };
        let mut expected = vec![PARTITION, 0];
        expected.extend([0; 14]);
        expected.extend([1, 2]); // topic
        expected.extend([4]); // index 2, zigzagged
        expected.extend([1, 2, 1, 2, 0]); // replicas, isr, elr
        expected.extend([0, 1, 2]); // no last known leader, leader 1
        expected.extend([6, 0x80, 1]); // leader epoch 3, partition epoch 64
        assert_eq!(encoded(&Record::Partition { topic, index: 2, partition }), expected);
    }
}
