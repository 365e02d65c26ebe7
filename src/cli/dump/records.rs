//! Record batches and their records, as lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringlog_storage::batch::{BatchInfo, Record, TimestampType, records_of};
use serde_json::{Map, Value, json};

use super::Lines;
use crate::cli::failure::Failure;

/// Compressed batches that open to more than this are shown by their header alone.
const DECOMPRESSED_MAX: usize = 256 << 20;
/// Bytes of a key or value shown to people; `--json` shows all.
const SHOWN_BYTES: usize = 200;

/// A batch's header in JSON, with the fields in `object`.
pub fn header_json(mut object: Map<String, Value>, info: &BatchInfo) -> Value {
    let kind = match info.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let fields = json!({
        "base_offset": info.base_offset, "last_offset": info.last_offset(), "records": info.record_count,
        "bytes": info.size, "crc32c": format!("{:08x}", info.crc), "leader_epoch": info.leader_epoch,
        "compression": info.compression().name(), "timestamp_type": kind,
        "base_timestamp_ms": info.base_timestamp, "max_timestamp_ms": info.max_timestamp,
        "producer_id": info.producer_id, "producer_epoch": info.producer_epoch,
        "base_sequence": info.base_sequence, "last_sequence": info.last_sequence(),
        "transactional": info.is_transactional(), "control": info.is_control(),
    });
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Value::Object(object)
}

/// A batch's header for people.
pub fn header_text(info: &BatchInfo) -> String {
    let mut text = format!(
        "offsets {}..{}, {} records, {} bytes, epoch {}, {}, max time {}",
        info.base_offset,
        info.last_offset(),
        info.record_count,
        info.size,
        info.leader_epoch,
        info.compression().name(),
        super::time_text(info.max_timestamp),
    );
    if info.has_producer_id() {
        text.push_str(&format!(
            ", producer {} epoch {} sequence {}..{}",
            info.producer_id,
            info.producer_epoch,
            info.base_sequence,
            info.last_sequence()
        ));
    }
    if info.is_transactional() {
        text.push_str(", transactional");
    }
    if info.is_control() {
        text.push_str(", control");
    }
    text
}

/// Prints the records of a batch.
pub fn print(batch: &[u8], out: &mut Lines) -> Result<(), Failure> {
    let opened = match records_of(batch, DECOMPRESSED_MAX) {
        Ok(opened) => opened,
        Err(error) => return wrong(&error, out),
    };
    for record in opened.iter() {
        match record {
            Ok(record) => {
                let offset = opened.info.base_offset + i64::from(record.offset_delta);
                let time = opened.info.timestamp_of(record.timestamp_delta);
                out.line(|| record_text(offset, time, &record), || record_json(offset, time, &record))?;
            }
            Err(error) => wrong(&error, out)?,
        }
    }
    Ok(())
}

fn wrong(error: &dyn std::fmt::Display, out: &mut Lines) -> Result<(), Failure> {
    out.line(
        || format!("    DAMAGED records: {error}"),
        || json!({ "type": "damage", "what": error.to_string() }),
    )
}

fn record_json(offset: i64, timestamp_ms: i64, record: &Record<'_>) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), json!("record"));
    object.insert("offset".into(), json!(offset));
    object.insert("timestamp_ms".into(), json!(timestamp_ms));
    put(&mut object, "key", record.key);
    put(&mut object, "value", record.value);
    if !record.headers.is_empty() {
        let header = |(name, value): (&[u8], Option<&[u8]>)| {
            let mut object = Map::new();
            put(&mut object, "name", Some(name));
            put(&mut object, "value", value);
            Value::Object(object)
        };
        object.insert("headers".into(), record.headers.map(header).collect());
    }
    Value::Object(object)
}

/// Text under `name`; what is not UTF-8 as base64 under `name_base64`.
fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some(Ok(text)) => object.insert(name.into(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

fn record_text(offset: i64, timestamp_ms: i64, record: &Record<'_>) -> String {
    let mut text = format!(
        "    offset {offset}, {}, key {}, value {}",
        super::time_text(timestamp_ms),
        shown(record.key),
        shown(record.value)
    );
    for (name, value) in record.headers {
        text.push_str(&format!(", header {}={}", shown(Some(name)), shown(value)));
    }
    text
}

/// Bytes for people: text in quotes, anything else in hexadecimal, both cut where they are long.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let rest = bytes.len() - cut.len();
    let more = if rest > 0 { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    // A cut may go through the middle of a character.
    let text = match std::str::from_utf8(cut) {
        Ok(text) => Some(text),
        Err(e) if e.error_len().is_none() && rest > 0 => std::str::from_utf8(&cut[..e.valid_up_to()]).ok(),
        Err(_) => None,
    };
    match text {
        Some(text) => format!("{text:?}{more}"),
        None => {
            let hex: String = cut.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{hex}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_storage::batch::BatchBuilder;
    use ringlog_storage::compression::Codec;

    #[test]
    fn long_and_binary_bytes_are_shown_short() {
        assert_eq!(shown(None), "null");
        assert_eq!(shown(Some(b"a\nb")), "\"a\\nb\"");
        assert_eq!(shown(Some(&[0xff, 0x00])), "0xff00");
        let long = "\u{e4}".repeat(150);
        assert!(shown(Some(long.as_bytes())).ends_with("\"... (300 bytes)"));
        let odd = format!("x{long}");
        assert!(shown(Some(odd.as_bytes())).starts_with("\"x\u{e4}"), "cut within a character");
    }

    #[test]
    fn records_of_compressed_batches_are_read_and_bytes_are_kept() {
        let mut builder = BatchBuilder::new(Codec::Zstd);
        builder.push(7, Some(b"k"), Some(&[0xff]), &[(b"h", None)]);
        let batch = builder.build(40, 2);
        let opened = records_of(&batch, DECOMPRESSED_MAX).unwrap();
        let record = opened.iter().next().unwrap().unwrap();
        let json = record_json(40, 7, &record);
        assert_eq!((&json["key"], &json["value_base64"]), (&json!("k"), &json!("/w==")));
        assert_eq!(json["headers"], json!([{ "name": "h", "value": null }]));
        let header = header_json(Map::new(), &opened.info);
        assert_eq!((&header["compression"], &header["last_offset"]), (&json!("zstd"), &json!(40)));
        assert!(header_text(&opened.info).starts_with("offsets 40..40, 1 records"));
    }
}
