//! Building batches: for the broker's own records, tools and tests.

use zerocopy::IntoBytes;
use zerocopy::big_endian::{I16, I32, I64, U32};

use super::header::{Attributes, HEADER_BYTES, Header, MAGIC, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP};
use super::records::{put_varlong, varlong_bytes};
use crate::compression::{Codec, compress};

/// Collects records into one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    codec: Codec,
    level: i32,
    attributes: Attributes,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
}

impl BatchBuilder {
    /// A batch without records, compressed with `codec` at its default level when it is built.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            records: Vec::new(),
            count: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            codec,
            level: codec.default_level(),
            attributes: Attributes(0).with_codec(codec),
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: NO_SEQUENCE,
        }
    }

    /// Compresses at this level, one of [`Codec::levels`].
    #[must_use]
    pub fn level(mut self, level: i32) -> BatchBuilder {
        self.level = level;
        self
    }

    /// Makes it a batch of this idempotent producer, whose first record has the sequence number.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Sets the transactional and the control bit.
    #[must_use]
    pub fn transactional(mut self, transactional: bool, control: bool) -> BatchBuilder {
        self.attributes = self.attributes.with_transactional(transactional).with_control(control);
        self
    }

    /// Adds a record. `timestamp` is ms since 1970 or -1 for none; `headers` are keys and nullable values.
    ///
    /// # Panics
    /// When the batch would exceed 2 GiB.
    pub fn push(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let mut size = 1 + varlong_bytes(timestamp_delta) + varlong_bytes(offset_delta);
        size += nullable_bytes(key) + nullable_bytes(value) + varlong_bytes(length(headers.len()));
        for (key, value) in headers {
            size += nullable_bytes(Some(key)) + nullable_bytes(*value);
        }
        put_varlong(&mut self.records, length(size));
        let start = self.records.len();
        self.records.push(0);
        put_varlong(&mut self.records, timestamp_delta);
        put_varlong(&mut self.records, offset_delta);
        put_nullable(&mut self.records, key);
        put_nullable(&mut self.records, value);
        put_varlong(&mut self.records, length(headers.len()));
        for (key, value) in headers {
            put_nullable(&mut self.records, Some(key));
            put_nullable(&mut self.records, *value);
        }
        assert_eq!(self.records.len() - start, size, "a record is as long as it was said to be");
        self.count += 1;
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        usize::try_from(self.count).expect("counts up from 0")
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch so far, were it not compressed.
    pub fn uncompressed_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// The batch. For a produce request both arguments are 0 and -1; the leader sets them.
    ///
    /// # Panics
    /// When there are no records.
    pub fn build(self, base_offset: i64, leader_epoch: i32) -> Vec<u8> {
        assert!(self.count > 0, "a batch has records");
        let body = match self.codec {
            Codec::None => self.records,
            codec => compress(codec, self.level, &self.records),
        };
        let mut header = Header {
            base_offset: I64::new(base_offset),
            length: I32::new(0),
            leader_epoch: I32::new(leader_epoch),
            magic: MAGIC,
            crc: U32::new(0),
            attributes: I16::new(self.attributes.0),
            last_offset_delta: I32::new(self.count - 1),
            base_timestamp: I64::new(self.base_timestamp),
            max_timestamp: I64::new(self.max_timestamp),
            producer_id: I64::new(self.producer_id),
            producer_epoch: I16::new(self.producer_epoch),
            base_sequence: I32::new(self.base_sequence),
            record_count: I32::new(self.count),
        };
        header.set_size(body.len());
        header.crc = U32::new(header.crc_with(&body));
        let mut batch = Vec::with_capacity(HEADER_BYTES + body.len());
        batch.extend_from_slice(header.as_bytes());
        batch.extend_from_slice(&body);
        batch
    }
}

/// A length as the varint writer wants it.
fn length(bytes: usize) -> i64 {
    i64::from(i32::try_from(bytes).expect("a record is below 2 GiB"))
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varlong_bytes(-1), |bytes| varlong_bytes(length(bytes.len())) + bytes.len())
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(out, -1),
        Some(bytes) => {
            put_varlong(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{crc_is_right, peek, records_of};
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records as kp;
    use proptest::prelude::*;

    type Bin = Option<Vec<u8>>;

    #[derive(Clone, Debug)]
    struct Rec {
        timestamp: i64,
        key: Bin,
        value: Bin,
        headers: Vec<(String, Bin)>,
    }

    fn bin() -> impl Strategy<Value = Bin> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
    }

    fn recs() -> impl Strategy<Value = Vec<Rec>> {
        let headers = prop::collection::btree_map("[a-zö]{0,5}", bin(), 0..3);
        let rec =
            (0i64..2_000_000_000_000, bin(), bin(), headers).prop_map(|(timestamp, key, value, headers)| {
                Rec { timestamp, key, value, headers: headers.into_iter().collect() }
            });
        prop::collection::vec(rec, 1..20)
    }

    fn build(recs: &[Rec], codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec).producer(77, 3, 5);
        for r in recs {
            let headers: Vec<_> = r.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            builder.push(r.timestamp, r.key.as_deref(), r.value.as_deref(), &headers);
        }
        builder.build(40, 9)
    }

    fn assert_same(recs: &[Rec], batch: &[u8]) {
        let opened = records_of(batch, 1 << 20).unwrap();
        assert_eq!(opened.iter().count(), recs.len());
        for (i, (rec, found)) in recs.iter().zip(&opened).enumerate() {
            let found = found.unwrap();
            assert_eq!(usize::try_from(found.offset_delta).unwrap(), i);
            assert_eq!(opened.info.timestamp_of(found.timestamp_delta), rec.timestamp);
            assert_eq!((found.key, found.value), (rec.key.as_deref(), rec.value.as_deref()));
            let headers: Vec<_> = rec.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_deref())).collect();
            assert_eq!(found.headers.collect::<Vec<_>>(), headers);
        }
    }

    fn to_kafka_protocol(recs: &[Rec]) -> Vec<kp::Record> {
        let record = |(i, r): (i64, &Rec)| kp::Record {
            transactional: false,
            control: false,
            partition_leader_epoch: 9,
            producer_id: 77,
            producer_epoch: 3,
            timestamp_type: kp::TimestampType::Creation,
            offset: 40 + i,
            sequence: 5 + i32::try_from(i).unwrap(),
            timestamp: r.timestamp,
            key: r.key.clone().map(Bytes::from),
            value: r.value.clone().map(Bytes::from),
            headers: r
                .headers
                .iter()
                .map(|(k, v)| (StrBytes::from_string(k.clone()), v.clone().map(Bytes::from)))
                .collect::<IndexMap<_, _>>(),
            delete_horizon: false,
        };
        (0..).zip(recs).map(record).collect()
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(recs in recs()) {
            for codec in Codec::ALL {
                let batch = build(&recs, codec);
                prop_assert!(crc_is_right(&batch));
                let info = peek(&batch).unwrap();
                prop_assert_eq!(info.size, batch.len());
                prop_assert_eq!(info.compression(), codec);
                prop_assert_eq!(info.max_timestamp, recs.iter().map(|r| r.timestamp).max().unwrap());
                prop_assert_eq!((info.base_offset, info.last_sequence()), (40, 4 + recs.len() as i32));
                assert_same(&recs, &batch);
            }
        }

        #[test]
        fn another_implementation_reads_what_is_built(recs in recs()) {
            for codec in Codec::ALL {
                let mut bytes = Bytes::from(build(&recs, codec));
                let unpack = |body: &mut Bytes, _: kp::Compression| {
                    Ok(crate::compression::decompress(codec, body, 1 << 20)?.into())
                };
                let set = kp::RecordBatchDecoder::decode_with_custom_compression(&mut bytes, Some(unpack)).unwrap();
                prop_assert_eq!(set.records, to_kafka_protocol(&recs));
            }
        }

        #[test]
        fn what_another_implementation_builds_is_read(recs in recs()) {
            let kinds = [kp::Compression::None, kp::Compression::Gzip, kp::Compression::Snappy, kp::Compression::Lz4,
                kp::Compression::Zstd];
            for (codec, compression) in Codec::ALL.into_iter().zip(kinds) {
                let options = kp::RecordEncodeOptions { version: 2, compression };
                let pack = |body: &mut BytesMut, out: &mut BytesMut, _: kp::Compression| {
                    out.extend_from_slice(&compress(codec, codec.default_level(), body));
                    Ok(())
                };
                let mut batch = BytesMut::new();
                let records = to_kafka_protocol(&recs);
                kp::RecordBatchEncoder::encode_with_custom_compression(&mut batch, &records, &options, Some(pack)).unwrap();
                assert_same(&recs, &batch);
                prop_assert_eq!(peek(&batch).unwrap().compression(), codec);
            }
        }

        #[test]
        fn damage_is_found(recs in recs(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut batch = build(&recs, Codec::None);
            let at = at.index(batch.len());
            batch[at] ^= flip;
            // Base offset and leader epoch are outside the CRC.
            let covered = !(0..8).contains(&at) && !(12..16).contains(&at);
            prop_assert_eq!(records_of(&batch, 1 << 20).is_err(), covered || peek(&batch).is_err());
        }
    }
}
