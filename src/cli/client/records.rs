//! Record batches of format v2 (KIP-98): written for produce, read for consume, walked by header for the
//! load generator.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 | 12 leader epoch i32 | 16 magic i8 | 17 CRC-32C u32 | 21 attributes i16
//! 23 last offset delta i32 | 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64
//! 51 producer epoch i16 | 53 base sequence i32 | 57 count i32 | 61 records
//! ```
//! The CRC covers everything from the attributes on.

use bytes::Bytes;

use super::codec::{self, Codec};

/// Length of a batch's header.
pub const HEADER_BYTES: usize = 61;
/// What stands before the part that `length` counts.
pub const PREFIX_BYTES: usize = 12;

const MAGIC: u8 = 2;
const CONTROL: i16 = 1 << 5;
const LOG_APPEND_TIME: i16 = 1 << 3;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Offset in the partition; ignored when written.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key, if it has one.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Record {
    /// About how many bytes it takes in a batch.
    pub fn size(&self) -> usize {
        let of = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + of(value) + 10).sum();
        of(&self.key) + of(&self.value) + headers + 24
    }
}

/// Who writes a batch, for Kafka's duplicate detection (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerTag {
    /// Producer id, -1 for none.
    pub id: i64,
    /// Producer epoch, -1 for none.
    pub epoch: i16,
    /// Sequence number of the first record, -1 for none.
    pub base_sequence: i32,
}

impl ProducerTag {
    /// A batch without duplicate detection.
    pub const NONE: ProducerTag = ProducerTag { id: -1, epoch: -1, base_sequence: -1 };
}

/// A batch's header, as far as readers need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes of the whole batch.
    pub size: usize,
    /// Codec, timestamp type, transactional and control bits.
    pub attributes: i16,
    /// Offset of the last record, less the base offset.
    pub last_offset_delta: i32,
    /// Timestamp that the records' deltas count from.
    pub base_timestamp_ms: i64,
    /// Highest timestamp.
    pub max_timestamp_ms: i64,
    /// Number of records.
    pub count: i32,
}

impl BatchHeader {
    /// Offset behind the batch's last record.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Reads the header at the start of `bytes`. `None` when the batch is not whole: brokers cut the last one
    /// of an answer where the byte limit falls.
    pub fn parse(bytes: &[u8]) -> Result<Option<BatchHeader>, String> {
        if bytes.len() < HEADER_BYTES {
            return Ok(None);
        }
        let length = i32::from_be_bytes(array(bytes, 8));
        let size = usize::try_from(length).ok().map(|length| length + PREFIX_BYTES);
        let size = size.filter(|size| *size >= HEADER_BYTES).ok_or(format!("a batch of length {length}"))?;
        if bytes[16] != MAGIC {
            return Err(format!("a batch of format {}, which Kafka 4 no longer has", bytes[16]));
        }
        if bytes.len() < size {
            return Ok(None);
        }
        Ok(Some(BatchHeader {
            base_offset: i64::from_be_bytes(array(bytes, 0)),
            size,
            attributes: i16::from_be_bytes(array(bytes, 21)),
            last_offset_delta: i32::from_be_bytes(array(bytes, 23)),
            base_timestamp_ms: i64::from_be_bytes(array(bytes, 27)),
            max_timestamp_ms: i64::from_be_bytes(array(bytes, 35)),
            count: i32::from_be_bytes(array(bytes, 57)),
        }))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the caller checked the header's length")
}

/// CRC-32C, which Kafka's batches carry.
fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// One batch of all `records`, which must not be empty.
pub fn encode(records: &[Record], codec: Codec, producer: ProducerTag) -> Bytes {
    assert!(!records.is_empty(), "a batch holds at least one record");
    let base_timestamp = records[0].timestamp_ms;
    let max_timestamp = records.iter().map(|r| r.timestamp_ms).max().unwrap_or(base_timestamp);
    let mut body = Vec::with_capacity(records.iter().map(Record::size).sum());
    for (delta, record) in records.iter().enumerate() {
        encode_record(record, delta as i64, record.timestamp_ms - base_timestamp, &mut body);
    }
    if codec != Codec::None {
        body = codec::pack(codec, &body);
    }
    let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
    batch.extend_from_slice(&0i64.to_be_bytes());
    batch.extend_from_slice(&((HEADER_BYTES - PREFIX_BYTES + body.len()) as i32).to_be_bytes());
    batch.extend_from_slice(&(-1i32).to_be_bytes());
    batch.push(MAGIC);
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&(codec as i16).to_be_bytes());
    batch.extend_from_slice(&(records.len() as i32 - 1).to_be_bytes());
    batch.extend_from_slice(&base_timestamp.to_be_bytes());
    batch.extend_from_slice(&max_timestamp.to_be_bytes());
    batch.extend_from_slice(&producer.id.to_be_bytes());
    batch.extend_from_slice(&producer.epoch.to_be_bytes());
    batch.extend_from_slice(&producer.base_sequence.to_be_bytes());
    batch.extend_from_slice(&(records.len() as i32).to_be_bytes());
    debug_assert_eq!(batch.len(), HEADER_BYTES);
    batch.extend_from_slice(&body);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

fn encode_record(record: &Record, offset_delta: i64, timestamp_delta: i64, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(record.size());
    body.push(0);
    put_varint(timestamp_delta, &mut body);
    put_varint(offset_delta, &mut body);
    put_bytes(record.key.as_deref(), &mut body);
    put_bytes(record.value.as_deref(), &mut body);
    put_varint(record.headers.len() as i64, &mut body);
    for (name, value) in &record.headers {
        put_bytes(Some(name.as_bytes()), &mut body);
        put_bytes(value.as_deref(), &mut body);
    }
    put_varint(body.len() as i64, out);
    out.extend_from_slice(&body);
}

fn put_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    put_varint(bytes.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Zigzag, then seven bits a byte, lowest first.
fn put_varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// What one partition's part of a fetch answer holds.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    /// Records from the wanted offset on, without control records.
    pub records: Vec<Record>,
    /// Offset to fetch next; control batches and what compaction removed are behind it.
    pub next_offset: Option<i64>,
}

/// Reads all whole batches of a fetch answer, dropping records before `from` (an answer starts with the batch
/// that holds the wanted offset).
pub fn decode(bytes: &Bytes, from: i64) -> Result<Decoded, String> {
    let mut decoded = Decoded::default();
    let mut at = 0;
    while let Some(header) = BatchHeader::parse(&bytes[at..])? {
        let batch = bytes.slice(at..at + header.size);
        at += header.size;
        let damaged = |what: &str| format!("the batch at offset {}: {what}", header.base_offset);
        if crc32c(&batch[21..]) != u32::from_be_bytes(array(&batch, 17)) {
            return Err(damaged("its checksum does not match"));
        }
        decoded.next_offset = Some(header.next_offset());
        if header.attributes & CONTROL != 0 {
            continue;
        }
        let packed = batch.slice(HEADER_BYTES..);
        let body = match codec::of_attributes(header.attributes) {
            Some(Codec::None) => packed,
            Some(codec) => Bytes::from(codec::unpack(codec, &packed).map_err(|e| damaged(&e.to_string()))?),
            None => return Err(damaged("an unknown codec")),
        };
        let mut reader = Reader { bytes: body, at: 0 };
        for _ in 0..header.count {
            let record = reader.record(&header).ok_or_else(|| damaged("a record is cut short"))?;
            if record.offset >= from {
                decoded.records.push(record);
            }
        }
    }
    Ok(decoded)
}

/// Reads records one after the other; `None` means that the bytes end or contradict themselves.
struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    fn record(&mut self, batch: &BatchHeader) -> Option<Record> {
        let length = usize::try_from(self.varint()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        self.at += 1;
        let timestamp_delta = self.varint()?;
        let offset_delta = self.varint()?;
        let timestamp_ms = match batch.attributes & LOG_APPEND_TIME {
            0 => batch.base_timestamp_ms.wrapping_add(timestamp_delta),
            _ => batch.max_timestamp_ms,
        };
        let (key, value) = (self.nullable()?, self.nullable()?);
        let count = self.varint()?;
        let mut headers = Vec::new();
        for _ in 0..count {
            let name = String::from_utf8_lossy(&self.nullable()??).into_owned();
            headers.push((name, self.nullable()?));
        }
        let offset = batch.base_offset.wrapping_add(offset_delta);
        (self.at == end).then_some(Record { offset, timestamp_ms, key, value, headers })
    }

    fn nullable(&mut self) -> Option<Option<Bytes>> {
        let length = self.varint()?;
        if length < 0 {
            return Some(None);
        }
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        if end > self.bytes.len() {
            return None;
        }
        let part = self.bytes.slice(self.at..end);
        self.at = end;
        Some(Some(part))
    }

    fn varint(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from))
    }

    prop_compose! {
        fn record()(timestamp_ms in 0..1i64 << 45, key in bytes(), value in bytes(),
            headers in proptest::collection::vec((".{0,5}", bytes()), 0..4)) -> Record {
            Record { offset: 0, timestamp_ms, key, value, headers }
        }
    }

    fn rebased(batch: &Bytes, base_offset: i64) -> Bytes {
        let mut copy = batch.to_vec();
        copy[..8].copy_from_slice(&base_offset.to_be_bytes());
        Bytes::from(copy)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn records_survive_the_way_there_and_back(mut records in proptest::collection::vec(record(), 1..20),
            base in 0..1i64 << 60, codec in 0i16..5) {
            let codec = codec::of_attributes(codec).unwrap();
            let batch = rebased(&encode(&records, codec, ProducerTag::NONE), base);
            for (delta, record) in records.iter_mut().enumerate() {
                record.offset = base + delta as i64;
            }
            let next = base + records.len() as i64;
            prop_assert_eq!(decode(&batch, 0).unwrap(), Decoded { records, next_offset: Some(next) });
        }

        #[test]
        fn the_library_reads_what_we_write(records in proptest::collection::vec(record(), 1..20)) {
            // An independent reader; it keeps headers in a map, so compare keys, values and times.
            let mut batch = encode(&records, Codec::None, ProducerTag::NONE);
            let read = kafka_protocol::records::RecordBatchDecoder::decode(&mut batch).unwrap().records;
            prop_assert_eq!(read.len(), records.len());
            for (read, record) in read.iter().zip(&records) {
                prop_assert_eq!(&read.key, &record.key);
                prop_assert_eq!(&read.value, &record.value);
                prop_assert_eq!(read.timestamp, record.timestamp_ms);
            }
        }

        #[test]
        fn a_flipped_bit_is_never_taken_for_data(records in proptest::collection::vec(record(), 1..5),
            bit in any::<prop::sample::Index>()) {
            let mut batch = encode(&records, Codec::None, ProducerTag::NONE).to_vec();
            // Base offset and leader epoch are the broker's to set and lie outside the checksum.
            let bit = 17 * 8 + bit.index((batch.len() - 17) * 8);
            batch[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&Bytes::from(batch), 0).is_err());
        }

        #[test]
        fn garbage_never_panics(mut data in proptest::collection::vec(any::<u8>(), 0..300), fix in any::<bool>()) {
            if fix && data.len() > HEADER_BYTES {
                let length = (data.len() - PREFIX_BYTES) as i32;
                data[8..12].copy_from_slice(&length.to_be_bytes());
                data[16] = MAGIC;
                let crc = crc32c(&data[21..]);
                data[17..21].copy_from_slice(&crc.to_be_bytes());
            }
            let _ = decode(&Bytes::from(data), 0);
        }
    }

    #[test]
    fn a_cut_batch_at_the_end_is_left_for_the_next_fetch() {
        let record = Record { value: Some(Bytes::from_static(b"v")), ..Record::default() };
        let one = encode(std::slice::from_ref(&record), Codec::None, ProducerTag::NONE);
        let two = rebased(&one, 1);
        let answer = Bytes::from([&one[..], &two[..two.len() - 1]].concat());
        let decoded = decode(&answer, 0).unwrap();
        assert_eq!((decoded.records.len(), decoded.next_offset), (1, Some(1)));
    }

    #[test]
    fn records_before_the_wanted_offset_are_dropped() {
        let records = vec![Record::default(); 5];
        let batch = encode(&records, Codec::None, ProducerTag::NONE);
        let offsets: Vec<i64> = decode(&batch, 3).unwrap().records.iter().map(|r| r.offset).collect();
        assert_eq!(offsets, [3, 4]);
    }

    #[test]
    fn control_batches_are_skipped_and_stepped_over() {
        let mut batch = encode(&[Record::default()], Codec::None, ProducerTag::NONE).to_vec();
        batch[22] |= CONTROL as u8;
        let crc = crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(
            decode(&Bytes::from(batch), 0).unwrap(),
            Decoded { records: vec![], next_offset: Some(1) }
        );
    }
}
