//! Records as JSON lines, the same form in `produce` and `consume`, so that one can feed the other.
//!
//! `{"topic":"t","partition":0,"offset":5,"timestamp_ms":1700000000000,"key":"k","value":"v","headers":[["n","v"]]}`
//! Bytes that are not UTF-8 stand under `key_base64`, `value_base64` and `{"base64":"..."}` in headers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::client::TopicPartition;
use super::client::records::Record;

/// A record as a JSON document.
pub fn to_json(at: &TopicPartition, record: &Record) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(at.topic));
    object.insert("partition".into(), json!(at.partition));
    object.insert("offset".into(), json!(record.offset));
    object.insert("timestamp_ms".into(), json!(record.timestamp_ms));
    put(&mut object, "key", record.key.as_ref());
    put(&mut object, "value", record.value.as_ref());
    let header = |(name, value): &(String, Option<Bytes>)| {
        let value = match value {
            None => Value::Null,
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
            },
        };
        json!([name, value])
    };
    if !record.headers.is_empty() {
        object.insert("headers".into(), record.headers.iter().map(header).collect());
    }
    Value::Object(object)
}

fn put(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some(Ok(text)) => object.insert(name.into(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

/// A record to write, with what the line says about where it goes.
#[derive(Debug, PartialEq)]
pub struct Line {
    /// The record; its timestamp is -1 where the line has none.
    pub record: Record,
    /// Partition, where the line names one.
    pub partition: Option<i32>,
}

/// Reads a line. Topic and offset are ignored, so that a dump of one topic can be written to another.
/// A value that is a JSON object, array, number or boolean is written as its JSON text.
pub fn from_json(line: &[u8]) -> Result<Line, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(object) = value else { return Err("not a JSON object".to_owned()) };
    const KNOWN: [&str; 9] = [
        "topic",
        "partition",
        "offset",
        "timestamp_ms",
        "key",
        "key_base64",
        "value",
        "value_base64",
        "headers",
    ];
    if let Some(name) = object.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return Err(format!("unknown field `{name}`; known are {}", KNOWN.join(", ")));
    }
    let integer = |name: &str| match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("`{name}` is not an integer")),
    };
    let partition = integer("partition")?.map(i32::try_from).transpose();
    let record = Record {
        offset: 0,
        timestamp_ms: integer("timestamp_ms")?.unwrap_or(-1),
        key: field(&object, "key")?,
        value: field(&object, "value")?,
        headers: match object.get("headers") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().map(header).collect::<Result<_, _>>()?,
            Some(_) => return Err("`headers` is not a list of [name, value]".to_owned()),
        },
    };
    Ok(Line { record, partition: partition.map_err(|_| "`partition` is out of range".to_owned())? })
}

fn field(object: &Map<String, Value>, name: &str) -> Result<Option<Bytes>, String> {
    match object.get(&format!("{name}_base64")) {
        None => Ok(object.get(name).and_then(text_or_json)),
        Some(encoded) => from_base64(encoded).map(Some),
    }
}

fn text_or_json(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(other.to_string())),
    }
}

fn from_base64(value: &Value) -> Result<Bytes, String> {
    let text = value.as_str().ok_or("base64 is a string")?;
    STANDARD.decode(text).map(Bytes::from).map_err(|error| format!("`{text}` is not base64: {error}"))
}

fn header(pair: &Value) -> Result<(String, Option<Bytes>), String> {
    let wrong = || format!("the header {pair} is not [name, value]");
    let [name, value] = pair.as_array().map(Vec::as_slice).ok_or_else(wrong)? else { return Err(wrong()) };
    let name = name.as_str().ok_or_else(wrong)?.to_owned();
    match value.get("base64") {
        Some(encoded) => Ok((name, Some(from_base64(encoded)?))),
        None => Ok((name, text_or_json(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn what_consume_prints_produce_reads(timestamp_ms in 0..1i64 << 45, key in bytes(), value in bytes(),
            headers in proptest::collection::vec((".{0,5}", bytes()), 0..3), partition in 0..100i32) {
            let record = Record { offset: 0, timestamp_ms, key, value, headers };
            let line = to_json(&TopicPartition::new("t", partition), &record).to_string();
            prop_assert_eq!(from_json(line.as_bytes()).unwrap(), Line { record, partition: Some(partition) });
        }
    }

    #[test]
    fn documents_as_values_are_written_as_text() {
        let line = from_json(br#"{"value":{"a":[1,2]},"key":7}"#).unwrap();
        assert_eq!(line.record.value.as_deref(), Some(&br#"{"a":[1,2]}"#[..]));
        assert_eq!(line.record.key.as_deref(), Some(&b"7"[..]));
        assert_eq!((line.partition, line.record.timestamp_ms), (None, -1));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, text) in [
            ("x", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"vlaue":"x"}"#, "unknown field `vlaue`"),
            (r#"{"partition":"x"}"#, "`partition` is not an integer"),
            (r#"{"value_base64":"?"}"#, "is not base64"),
            (r#"{"headers":[["a"]]}"#, "is not [name, value]"),
        ] {
            let error = from_json(line.as_bytes()).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
