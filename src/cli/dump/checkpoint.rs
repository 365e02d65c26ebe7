//! Checkpoints: what a shard's partitions were, as of an LSN.

use ringlog_storage::checkpoint::{Bad, Checkpoint, Entry, Kind, PartitionState};
use ringlog_storage::epochs::Epochs;
use ringlog_storage::producer::Producers;
use serde_json::{Value, json};

use super::{Lines, Source};
use crate::cli::failure::Failure;

/// Prints a file.
pub fn dump(source: &Source, out: &mut Lines) -> Result<(), Failure> {
    let checkpoint = match Checkpoint::decode(&source.read()?) {
        Ok(checkpoint) => checkpoint,
        Err(bad) => {
            let what = match bad {
                Bad::Damaged => "magic, length or checksum is wrong".to_owned(),
                Bad::Newer(version) => format!("format {version} is newer than this binary"),
            };
            return out.line(
                || format!("DAMAGED: {what}"),
                || json!({ "type": "damage", "position": 0, "what": what }),
            );
        }
    };
    let kind = if checkpoint.kind == Kind::Base { "base" } else { "delta" };
    out.line(
        || {
            format!(
                "{kind} {}: generation {}, shard {}, covers LSN {}, durable LSN {}, {} entries",
                checkpoint.sequence,
                checkpoint.generation,
                checkpoint.shard,
                checkpoint.covered,
                checkpoint.durable,
                checkpoint.entries.len()
            )
        },
        || {
            json!({ "type": "checkpoint", "kind": kind, "sequence": checkpoint.sequence,
                "generation": checkpoint.generation, "shard": checkpoint.shard,
                "covered_lsn": checkpoint.covered, "durable_lsn": checkpoint.durable,
                "entries": checkpoint.entries.len() })
        },
    )?;
    for entry in &checkpoint.entries {
        match entry {
            Entry::State(state) => out.line(|| state_text(state), || state_json(state))?,
            Entry::Deleted { key, applied } => out.line(
                || format!("{key}  deleted at LSN {applied}"),
                || {
                    json!({ "type": "deleted", "topic_id": key.topic, "partition": key.partition,
                        "applied_lsn": applied })
                },
            )?,
        }
    }
    Ok(())
}

/// Epochs and producers of a state, which its checkpoint's checksum covers.
fn decoded(state: &PartitionState) -> (Epochs, Producers) {
    (state.decode_epochs(), state.decode_producers())
}

fn state_text(state: &PartitionState) -> String {
    let (epochs, producers) = decoded(state);
    let mut text = format!(
        "{}  LSN {}, offsets {}..{}, high watermark {}, {} producers, epochs",
        state.key,
        state.applied,
        state.log_start,
        state.end(),
        state.high_watermark,
        producers.len()
    );
    for entry in epochs.entries() {
        text.push_str(&format!(" {}@{}", entry.epoch, entry.start_offset));
    }
    if epochs.entries().is_empty() {
        text.push_str(" none");
    }
    for segment in &state.segments {
        let time = super::time_text(segment.max_timestamp);
        let (base, end, bytes) = (segment.base, segment.end, segment.bytes);
        text.push_str(&format!("\n    segment {base}..{end}, {bytes} bytes, max time {time}"));
    }
    text
}

fn state_json(state: &PartitionState) -> Value {
    let (epochs, producers) = decoded(state);
    let epochs: Vec<Value> = epochs
        .entries()
        .iter()
        .map(|entry| json!({ "epoch": entry.epoch, "start_offset": entry.start_offset }))
        .collect();
    let segments: Vec<Value> = state
        .segments
        .iter()
        .map(|s| {
            json!({ "base_offset": s.base, "end_offset": s.end, "bytes": s.bytes,
                "max_timestamp_ms": s.max_timestamp })
        })
        .collect();
    let producers: Vec<Value> = producers
        .active()
        .map(|p| json!({ "producer_id": p.producer_id, "producer_epoch": p.epoch }))
        .collect();
    json!({ "type": "partition", "topic_id": state.key.topic, "partition": state.key.partition,
        "applied_lsn": state.applied, "log_start_offset": state.log_start, "end_offset": state.end(),
        "high_watermark": state.high_watermark,
        "segments": segments, "epochs": epochs, "producers": producers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_storage::PartitionKey;

    #[test]
    fn a_state_says_all_that_recovery_starts_from() {
        let key = PartitionKey { topic: uuid::Uuid::from_u128(3), partition: 1 };
        let mut state = PartitionState::fresh(key);
        let mut epochs = Epochs::new();
        epochs.assign(4, 0);
        epochs.encode(&mut state.epochs);
        let json = state_json(&state);
        assert_eq!(json["epochs"], json!([{ "epoch": 4, "start_offset": 0 }]));
        assert_eq!((&json["end_offset"], &json["segments"][0]["bytes"]), (&json!(0), &json!(0)));
        assert!(state_text(&state).contains("epochs 4@0\n    segment 0..0, 0 bytes"));
    }
}
