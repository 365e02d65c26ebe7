//! The metadata log and its snapshot.

use ringlog_storage::wal::format::{COMMIT_HEAD, FileUse};
use serde_json::{Map, Value, json};

use super::wal::{GapKind, Part, parts, print_head};
use super::{Lines, Source};
use crate::cli::failure::Failure;
use crate::control::metadata_log::{SNAPSHOT_MAGIC, snapshot_body};
use crate::machine::metadata::{Batch, Broker, BrokerState, DecodeError, Partition, Record};

/// Prints a snapshot or a log file, whichever it is.
pub fn dump(source: &Source, out: &mut Lines) -> Result<(), Failure> {
    let bytes = source.read()?;
    if source.name == "snapshot" || bytes.starts_with(SNAPSHOT_MAGIC) {
        return match snapshot_body(&bytes) {
            Some(body) => print_batch("snapshot", 12, body, out),
            None => damage(0, bytes.len() as u64, "magic or checksum of the snapshot is wrong", out),
        };
    }
    let usage = FileUse::decode(&bytes);
    print_head(usage.as_ref(), out)?;
    for part in parts(&bytes, usage.as_ref()) {
        match part {
            Part::Commit(info) => {
                let start = usize::try_from(info.position).expect("it was read from memory") + COMMIT_HEAD;
                print_batch("batch", start, &bytes[start..start + info.body_len as usize], out)?;
            }
            Part::Gap { kind: GapKind::Damaged, from, to } => {
                damage(from, to, "a commit whose checksum is wrong (torn, if nothing valid follows)", out)?;
            }
            Part::Gap { .. } => {}
        }
    }
    Ok(())
}

fn damage(from: u64, to: u64, what: &str, out: &mut Lines) -> Result<(), Failure> {
    out.line(
        || format!("{from:>10}  {} bytes DAMAGED: {what}", to - from),
        || json!({ "type": "damage", "position": from, "bytes": to - from, "what": what }),
    )
}

fn print_batch(kind: &str, at: usize, bytes: &[u8], out: &mut Lines) -> Result<(), Failure> {
    let batch: Result<Batch, DecodeError> = Batch::decode(bytes);
    let batch = match batch {
        Ok(batch) => batch,
        Err(error) => return damage(at as u64, (at + bytes.len()) as u64, &error.to_string(), out),
    };
    out.line(
        || {
            let (offset, time, count) = (batch.offset, batch.timestamp_ms, batch.records.len());
            format!("{at:>10}  {kind}: offset {offset}, {time} ms, {count} records, {} bytes", bytes.len())
        },
        || {
            json!({ "type": kind, "position": at, "bytes": bytes.len(), "offset": batch.offset,
                "timestamp_ms": batch.timestamp_ms, "records": batch.records.len() })
        },
    )?;
    for record in &batch.records {
        out.line(|| format!("              {}", record_text(record)), || record_json(record))?;
    }
    Ok(())
}

/// `kind field=value ...`, from the JSON form, so that both say the same.
fn record_text(record: &Record) -> String {
    let Value::Object(object) = record_json(record) else { unreachable!("a record is an object") };
    let mut text = object["kind"].as_str().unwrap_or_default().to_owned();
    for (name, value) in object.iter().filter(|(name, _)| *name != "kind" && *name != "type") {
        match value {
            Value::String(value) => text.push_str(&format!(" {name}={value}")),
            value => text.push_str(&format!(" {name}={value}")),
        }
    }
    text
}

fn record_json(record: &Record) -> Value {
    let fields = match record {
        Record::Cluster { id } => json!({ "kind": "cluster", "cluster_id": id }),
        Record::Feature { name, level } => json!({ "kind": "feature", "name": name, "level": level }),
        Record::Broker(broker) => broker_json(broker),
        Record::Topic { id, name } => json!({ "kind": "topic", "topic_id": id, "name": name }),
        Record::Partition { topic, index, partition } => partition_json(topic, *index, partition),
        Record::TopicDeleted { id } => json!({ "kind": "topic_deleted", "topic_id": id }),
        Record::TopicSetting { topic, name, value } => {
            json!({ "kind": "topic_setting", "topic_id": topic, "name": name, "value": value })
        }
        Record::BrokerSetting { broker, name, value } => {
            json!({ "kind": "broker_setting", "broker": broker, "name": name, "value": value })
        }
        Record::ProducerIds { next } => json!({ "kind": "producer_ids", "next": next }),
    };
    let mut object = Map::new();
    object.insert("type".into(), json!("record"));
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

fn broker_json(broker: &Broker) -> Value {
    let state = match broker.state {
        BrokerState::Fenced => "fenced",
        BrokerState::Unfenced => "unfenced",
        BrokerState::Stopping => "stopping",
    };
    let endpoints: Vec<Value> = broker
        .endpoints
        .iter()
        .map(|e| json!({ "listener": e.listener, "host": e.host, "port": e.port }))
        .collect();
    json!({ "kind": "broker", "node_id": broker.id, "epoch": broker.epoch, "state": state,
        "directory_id": broker.directory, "incarnation": broker.incarnation, "rack": broker.rack,
        "endpoints": endpoints })
}

fn partition_json(topic: &uuid::Uuid, index: i32, partition: &Partition) -> Value {
    json!({ "kind": "partition", "topic_id": topic, "partition": index, "replicas": partition.replicas,
        "isr": partition.isr, "elr": partition.elr, "leader": partition.leader,
        "last_known_leader": partition.last_known_leader, "leader_epoch": partition.leader_epoch,
        "partition_epoch": partition.partition_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_json_of_a_record_say_the_same() {
        let record = Record::TopicSetting {
            topic: uuid::Uuid::nil(),
            name: "retention.ms".to_owned(),
            value: Some("5".to_owned()),
        };
        let text = record_text(&record);
        assert!(text.starts_with("topic_setting ") && text.contains("name=retention.ms"), "{text}");
        assert_eq!(record_json(&record)["value"], json!("5"));
    }
}
