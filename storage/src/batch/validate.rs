//! What is checked before a produced batch is appended, as Kafka 4's `ProduceRequest`, `UnifiedLog` and
//! `LogValidator` check it.
//!
//! Known differences, all from never opening compressed batches on the fast path (`compression.type=producer`
//! or the batch's own codec, no keys required): wrong records inside a compressed batch are stored, its
//! timestamps are judged by its max timestamp alone, and a base timestamp above the max is refused (Kafka
//! takes the max from the records). Stricter than Kafka, too: bytes behind the one batch, offset deltas that
//! are not 0, 1, 2 ..., and a client's delete horizon or LogAppendTime bit are refused.

use std::borrow::Cow;
use std::fmt;

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::header::{
    BatchInfo, HEADER_BYTES, Header, HeaderError, MAGIC, NO_TIMESTAMP, TimestampType, crc_is_right, peek,
};
use super::records::RecordIter;
use crate::compression::{Codec, DecompressError, compress, decompress};

/// Record errors listed in a refusal; further ones are only counted.
const MAX_RECORD_ERRORS: usize = 100;

/// How a topic stores batches (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them: the fast path.
    Producer,
    /// With this codec at this level, whatever the producer used. A batch that has the codec is not opened.
    Codec(Codec, i32),
}

/// What a batch must comply with.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `max.message.bytes`: bytes of the whole batch, as received and as stored.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's time may lie in the past.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record's time may lie in the future.
    pub after_max_ms: i64,
    /// `compression.type`.
    pub compression: Compression,
    /// Whether records without a key are refused: the topic is compacted.
    pub keys_required: bool,
    /// The most bytes that the records of a batch may decompress to, where it must be opened.
    pub decompressed_max_bytes: usize,
    /// Whether zstd may be used: from Produce version 7 on (KIP-110).
    pub zstd_allowed: bool,
    /// Whether a coordinator of this broker appends: it may write control and transactional batches.
    pub from_coordinator: bool,
}

/// Kafka's error codes that a batch can be refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// CORRUPT_MESSAGE: checksum or length are wrong. Producers send again.
    Corrupt,
    /// MESSAGE_TOO_LARGE. Java's producer splits the batch.
    TooLarge,
    /// INVALID_TIMESTAMP.
    InvalidTimestamp,
    /// INVALID_TXN_STATE: transactions are not supported yet.
    InvalidTxnState,
    /// UNSUPPORTED_COMPRESSION_TYPE.
    UnsupportedCompression,
    /// INVALID_RECORD.
    InvalidRecord,
}

impl RefusalKind {
    /// The code on the wire.
    pub fn code(self) -> i16 {
        match self {
            RefusalKind::Corrupt => 2,
            RefusalKind::TooLarge => 10,
            RefusalKind::InvalidTimestamp => 32,
            RefusalKind::InvalidTxnState => 48,
            RefusalKind::UnsupportedCompression => 76,
            RefusalKind::InvalidRecord => 87,
        }
    }
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which of Kafka's errors it is.
    pub kind: RefusalKind,
    /// For the error message of the response.
    pub message: String,
    /// The records at fault (KIP-467): index in the batch, message. At most 100; the message has their number.
    pub record_errors: Vec<(i32, String)>,
}

impl Refusal {
    fn new(kind: RefusalKind, message: impl Into<String>) -> Refusal {
        Refusal { kind, message: message.into(), record_errors: Vec::new() }
    }

    /// Kafka's error code.
    pub fn code(&self) -> i16 {
        self.kind.code()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// A batch as it will be stored, but for the offset and the leader epoch.
#[derive(Clone, Debug)]
pub struct Checked<'a> {
    /// What the stored header will say; base offset and leader epoch are still the received ones.
    pub info: BatchInfo,
    header: Header,
    body: Cow<'a, [u8]>,
}

impl Checked<'_> {
    /// The header with its place in the log. Neither value is under the CRC.
    pub fn header(&self, base_offset: i64, leader_epoch: i32) -> [u8; HEADER_BYTES] {
        let mut header = self.header;
        header.base_offset = I64::new(base_offset);
        header.leader_epoch = I32::new(leader_epoch);
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(header.as_bytes());
        bytes
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same batch with a body of its own, for where the request's bytes do not live long enough.
    pub fn into_owned(self) -> Checked<'static> {
        Checked { info: self.info, header: self.header, body: Cow::Owned(self.body.into_owned()) }
    }
}

/// Whether [`check`] will decompress or compress this batch: milliseconds for a large one, not for a shard's
/// thread.
pub fn needs_decompression(info: &BatchInfo, rules: &Rules) -> bool {
    let codec = info.compression();
    target(info, rules) != codec || (codec != Codec::None && rules.keys_required)
}

/// The codec that the batch is stored with. Control records stay as they are.
fn target(info: &BatchInfo, rules: &Rules) -> Codec {
    match rules.compression {
        Compression::Codec(codec, _) if !info.is_control() => codec,
        _ => info.compression(),
    }
}

/// Checks the records of one partition of a produce request: exactly one batch, within the rules.
/// `now_ms` is ms since 1970.
///
/// # Errors
/// What Kafka would answer; see the head of this file for the differences.
pub fn check<'a>(records: &'a [u8], rules: &Rules, now_ms: i64) -> Result<Checked<'a>, Refusal> {
    let info = one_batch(records)?;
    check_header(&info, rules)?;
    check_size(info.size, rules)?;
    if !crc_is_right(records) {
        return Err(Refusal::new(
            RefusalKind::Corrupt,
            "Record is corrupt (the batch's CRC-32C does not fit)",
        ));
    }
    check_facts(&info, rules)?;
    let (max_timestamp, body) = check_records(&info, &records[HEADER_BYTES..], rules, now_ms)?;
    let (header, _) = Header::read_from_prefix(records).expect("one_batch read a header");
    stamp(header, body, target(&info, rules), max_timestamp, rules, now_ms)
}

/// Finds the one batch that the bytes must be.
fn one_batch(records: &[u8]) -> Result<BatchInfo, Refusal> {
    let invalid = |message: String| Err(Refusal::new(RefusalKind::InvalidRecord, message));
    // A batch of an older format may be shorter than our header: its magic lies at the same place.
    if let Some(magic) = records.get(std::mem::offset_of!(Header, magic)).filter(|magic| **magic < MAGIC) {
        return invalid(format!("Record format version {magic} is not supported, only version {MAGIC} is"));
    }
    let info = match peek(records) {
        Ok(info) => info,
        Err(e @ (HeaderError::Magic(_) | HeaderError::Length(_))) => {
            return Err(Refusal::new(RefusalKind::Corrupt, e.to_string()));
        }
        Err(e @ HeaderError::Codec(_)) => {
            return Err(Refusal::new(RefusalKind::UnsupportedCompression, e.to_string()));
        }
        Err(HeaderError::TooShort(_)) => {
            return invalid("A produce request must have one record batch per partition".into());
        }
        Err(e @ (HeaderError::BaseOffset(_) | HeaderError::Count { .. })) => return invalid(e.to_string()),
    };
    match records.len().checked_sub(info.size) {
        Some(0) => Ok(info),
        Some(_) => invalid("A produce request may have only one record batch per partition".into()),
        None => invalid(format!("A record batch of {} bytes ends after {}", info.size, records.len())),
    }
}

/// What depends on the header alone and comes before the checksum.
fn check_header(info: &BatchInfo, rules: &Rules) -> Result<(), Refusal> {
    if info.base_offset != 0 && !rules.from_coordinator {
        let message =
            format!("The base offset of the record batch should be 0, but it is {}", info.base_offset);
        return Err(Refusal::new(RefusalKind::InvalidRecord, message));
    }
    if info.compression() == Codec::Zstd && !rules.zstd_allowed {
        let message = "ZStandard compression needs Produce version 7 or higher";
        return Err(Refusal::new(RefusalKind::UnsupportedCompression, message));
    }
    Ok(())
}

fn check_size(size: usize, rules: &Rules) -> Result<(), Refusal> {
    if size > rules.max_message_bytes {
        let most = rules.max_message_bytes;
        let message =
            format!("The record batch size is {size} bytes which exceeds max.message.bytes of {most}");
        return Err(Refusal::new(RefusalKind::TooLarge, message));
    }
    Ok(())
}

/// What the header states, once the checksum says that it is what the client meant.
fn check_facts(info: &BatchInfo, rules: &Rules) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(RefusalKind::InvalidRecord, message));
    if info.record_count == 0 {
        return invalid("Invalid reported count for record batch: 0".into());
    }
    if info.last_offset_delta != info.record_count - 1 {
        let (delta, count) = (info.last_offset_delta, info.record_count);
        return invalid(format!("Inconsistent last offset delta {delta} and count of records {count}"));
    }
    if info.is_control() && !rules.from_coordinator {
        return invalid("Clients are not allowed to write control records".into());
    }
    if info.is_transactional() && !rules.from_coordinator {
        let message = "Transactions are not supported by this broker yet";
        return Err(Refusal::new(RefusalKind::InvalidTxnState, message));
    }
    if info.has_producer_id() && !rules.from_coordinator {
        let (id, epoch, sequence) = (info.producer_id, info.producer_epoch, info.base_sequence);
        if sequence < 0 {
            return invalid(format!(
                "Invalid sequence number {sequence} in record batch with producerId {id}"
            ));
        }
        if epoch < 0 {
            return invalid(format!("Invalid epoch {epoch} in record batch with producerId {id}"));
        }
    }
    if info.attributes.has_delete_horizon() {
        return invalid("Clients are not allowed to set a delete horizon".into());
    }
    if info.timestamp_type() == TimestampType::LogAppendTime {
        let message = "Invalid timestamp type: a producer should not set LogAppendTime";
        return Err(Refusal::new(RefusalKind::InvalidTimestamp, message));
    }
    Ok(())
}

/// Checks the records as far as they are opened. Returns their greatest timestamp and the bytes to store.
fn check_records<'a>(
    info: &BatchInfo,
    body: &'a [u8],
    rules: &Rules,
    now_ms: i64,
) -> Result<(i64, Cow<'a, [u8]>), Refusal> {
    let codec = info.compression();
    if codec == Codec::None {
        let max_timestamp = walk(info, body, rules, now_ms)?;
        return Ok((max_timestamp, recompress(info, rules, Cow::Borrowed(body), None)));
    }
    if !needs_decompression(info, rules) {
        return check_unopened(info, rules, now_ms).map(|()| (info.max_timestamp, Cow::Borrowed(body)));
    }
    let limit = rules.decompressed_max_bytes;
    let opened = decompress(codec, body, limit).map_err(|e| {
        let kind = match e {
            DecompressError::TooLarge(_) => RefusalKind::TooLarge,
            DecompressError::Damaged(..) => RefusalKind::InvalidRecord,
        };
        Refusal::new(kind, format!("The record batch {e}"))
    })?;
    let max_timestamp = walk(info, &opened, rules, now_ms)?;
    Ok((max_timestamp, recompress(info, rules, Cow::Owned(opened), Some(body))))
}

/// `opened` records with the codec that they are stored with: the bytes that came, where that is theirs.
fn recompress<'a>(
    info: &BatchInfo,
    rules: &Rules,
    opened: Cow<'a, [u8]>,
    came: Option<&'a [u8]>,
) -> Cow<'a, [u8]> {
    match (target(info, rules), rules.compression) {
        (target, _) if target == info.compression() => came.map_or(opened, Cow::Borrowed),
        (Codec::None, _) | (_, Compression::Producer) => opened,
        (_, Compression::Codec(codec, level)) => Cow::Owned(compress(codec, level, &opened)),
    }
}

/// What can be said of the timestamps of a compressed batch that stays closed.
fn check_unopened(info: &BatchInfo, rules: &Rules, now_ms: i64) -> Result<(), Refusal> {
    if rules.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    if info.base_timestamp > info.max_timestamp {
        let (base, max) = (info.base_timestamp, info.max_timestamp);
        let message = format!("Base timestamp {base} is above the max timestamp {max} of the record batch");
        return Err(Refusal::new(RefusalKind::InvalidRecord, message));
    }
    timestamp_error(info.max_timestamp, info.last_offset_delta, rules, now_ms)
        .map_or(Ok(()), |message| Err(Refusal::new(RefusalKind::InvalidTimestamp, message)))
}

/// Walks uncompressed records. Returns the greatest timestamp.
fn walk(info: &BatchInfo, records: &[u8], rules: &Rules, now_ms: i64) -> Result<i64, Refusal> {
    let mut max_timestamp = NO_TIMESTAMP;
    let mut errors = RecordErrors::default();
    for (index, record) in (0i32..).zip(RecordIter::new(records, info.record_count)) {
        let record = record.map_err(|e| {
            Refusal::new(RefusalKind::InvalidRecord, format!("Record {index} of the batch is invalid: {e}"))
        })?;
        if record.offset_delta != index {
            let message = format!("Record {index} of the batch has offset delta {}", record.offset_delta);
            return Err(Refusal::new(RefusalKind::InvalidRecord, message));
        }
        let timestamp = info.base_timestamp.checked_add(record.timestamp_delta).ok_or_else(|| {
            Refusal::new(RefusalKind::InvalidTimestamp, format!("The timestamp of record {index} overflows"))
        })?;
        max_timestamp = max_timestamp.max(timestamp);
        if rules.keys_required && record.key.is_none() {
            errors.add(index, false, "Compacted topic cannot accept message without key".into());
        } else if rules.timestamp_type == TimestampType::CreateTime
            && let Some(message) = timestamp_error(timestamp, index, rules, now_ms)
        {
            errors.add(index, true, message);
        }
    }
    errors.into_result().map(|()| max_timestamp)
}

/// What is wrong with a record's time, if anything. Records without a timestamp are in order.
fn timestamp_error(timestamp: i64, index: i32, rules: &Rules, now_ms: i64) -> Option<String> {
    let past = now_ms.saturating_sub(timestamp);
    let future = timestamp.saturating_sub(now_ms);
    if timestamp == NO_TIMESTAMP || (past <= rules.before_max_ms && future <= rules.after_max_ms) {
        return None;
    }
    let from = now_ms.saturating_sub(rules.before_max_ms);
    let to = now_ms.saturating_add(rules.after_max_ms);
    Some(format!(
        "Timestamp {timestamp} of message with offset {index} is out of range. \
         The timestamp should be within [{from}, {to}]"
    ))
}

/// The errors of single records, as far as they are listed.
#[derive(Default)]
struct RecordErrors {
    listed: Vec<(i32, String)>,
    count: usize,
    any_timestamp: bool,
}

impl RecordErrors {
    fn add(&mut self, index: i32, timestamp: bool, message: String) {
        self.count += 1;
        self.any_timestamp |= timestamp;
        if self.listed.len() < MAX_RECORD_ERRORS {
            self.listed.push((index, message));
        }
    }

    fn into_result(self) -> Result<(), Refusal> {
        if self.count == 0 {
            return Ok(());
        }
        let (kind, message) = if self.any_timestamp {
            let message = "One or more records have been rejected due to invalid timestamp".into();
            (RefusalKind::InvalidTimestamp, message)
        } else {
            let count = self.count;
            let message =
                format!("One or more records have been rejected due to {count} record errors in total");
            (RefusalKind::InvalidRecord, message)
        };
        Err(Refusal { kind, message, record_errors: self.listed })
    }
}

/// Brings the header to what is stored. The CRC is computed anew where anything under it changed.
fn stamp<'a>(
    received: Header,
    body: Cow<'a, [u8]>,
    codec: Codec,
    max_timestamp: i64,
    rules: &Rules,
    now_ms: i64,
) -> Result<Checked<'a>, Refusal> {
    let mut header = received;
    let attributes = super::Attributes(header.attributes.get());
    let recompressed = codec as u8 != attributes.codec_id();
    header.attributes = I16::new(attributes.with_codec(codec).with_timestamp_type(rules.timestamp_type).0);
    header.max_timestamp = I64::new(match rules.timestamp_type {
        TimestampType::CreateTime => max_timestamp,
        TimestampType::LogAppendTime => now_ms,
    });
    if recompressed {
        check_size(HEADER_BYTES + body.len(), rules)?;
        header.set_size(body.len());
    }
    if recompressed
        || header.attributes != received.attributes
        || header.max_timestamp != received.max_timestamp
    {
        header.crc = U32::new(header.crc_with(&body));
    }
    let info = header.info().expect("a checked header stays one");
    assert_eq!(info.size, HEADER_BYTES + body.len(), "the header's length is that of what is stored");
    Ok(Checked { info, header, body })
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
