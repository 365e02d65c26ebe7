//! The 61-byte header of a record batch: its layout, and what it says as plain values.

use std::fmt;

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::compression::Codec;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// The only record format that is stored.
pub const MAGIC: u8 = 2;
/// Producer id of a batch that no idempotent producer sent.
pub const NO_PRODUCER_ID: i64 = -1;
/// Base sequence of a batch that no idempotent producer sent.
pub const NO_SEQUENCE: i32 = -1;
/// Timestamp of a record that has none.
pub const NO_TIMESTAMP: i64 = -1;

/// The header as it lies in memory, on disk and on the wire.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Header {
    pub base_offset: I64,
    pub length: I32,
    pub leader_epoch: I32,
    pub magic: u8,
    pub crc: U32,
    pub attributes: I16,
    pub last_offset_delta: I32,
    pub base_timestamp: I64,
    pub max_timestamp: I64,
    pub producer_id: I64,
    pub producer_epoch: I16,
    pub base_sequence: I32,
    pub record_count: I32,
}

const _: () = assert!(size_of::<Header>() == HEADER_BYTES);

/// Bytes that the length field does not count: base offset and itself.
pub(super) const PREFIX_BYTES: usize = std::mem::offset_of!(Header, leader_epoch);
/// Where the bytes under the CRC begin.
pub(super) const CRC_START: usize = std::mem::offset_of!(Header, attributes);

/// Base offsets above this have no room for the offsets of a batch; none is ever given out.
const MAX_BASE_OFFSET: i64 = i64::MAX - i32::MAX as i64;

impl Header {
    /// The CRC-32C that belongs to this header followed by `body`.
    pub fn crc_with(&self, body: &[u8]) -> u32 {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        digest.update(&self.as_bytes()[CRC_START..]);
        digest.update(body);
        crc32_of(digest.finalize())
    }

    /// Sets the length for a batch whose records take `body_bytes`.
    ///
    /// # Panics
    /// When the batch would exceed 2 GiB; every limit on messages is below that.
    pub fn set_size(&mut self, body_bytes: usize) {
        let length = i32::try_from(HEADER_BYTES - PREFIX_BYTES + body_bytes).expect("a batch is below 2 GiB");
        self.length = I32::new(length);
    }

    /// The header's values.
    pub fn info(&self) -> Result<BatchInfo, HeaderError> {
        if self.magic != MAGIC {
            return Err(HeaderError::Magic(self.magic));
        }
        let size = usize::try_from(self.length.get())
            .ok()
            .map(|length| length + PREFIX_BYTES)
            .filter(|size| *size >= HEADER_BYTES)
            .ok_or(HeaderError::Length(self.length.get()))?;
        let attributes = Attributes(self.attributes.get());
        let codec = attributes.codec_id();
        Codec::from_id(codec).ok_or(HeaderError::Codec(codec))?;
        let info = BatchInfo {
            base_offset: self.base_offset.get(),
            size,
            leader_epoch: self.leader_epoch.get(),
            crc: self.crc.get(),
            attributes,
            last_offset_delta: self.last_offset_delta.get(),
            base_timestamp: self.base_timestamp.get(),
            max_timestamp: self.max_timestamp.get(),
            producer_id: self.producer_id.get(),
            producer_epoch: self.producer_epoch.get(),
            base_sequence: self.base_sequence.get(),
            record_count: self.record_count.get(),
        };
        if !(0..=MAX_BASE_OFFSET).contains(&info.base_offset) {
            return Err(HeaderError::BaseOffset(info.base_offset));
        }
        if info.last_offset_delta < 0 || info.record_count < 0 {
            return Err(HeaderError::Count { last_delta: info.last_offset_delta, count: info.record_count });
        }
        Ok(info)
    }
}

/// crc-fast returns every width in 64 bits.
fn crc32_of(sum: u64) -> u32 {
    u32::try_from(sum).expect("a CRC-32 has 32 bits")
}

/// What the timestamps of a topic mean (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time.
    CreateTime,
    /// The broker's time at the append; all records of a batch have the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec's id, which may be one that nobody knows.
    pub fn codec_id(self) -> u8 {
        u8::try_from(self.0 & Attributes::CODEC).expect("three bits")
    }

    /// What the timestamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Attributes::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records (transaction markers) instead of data.
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }

    /// Whether the base timestamp is the time when tombstones of this batch may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Attributes::DELETE_HORIZON != 0
    }

    /// The same bits with another codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Attributes::CODEC | i16::from(codec as u8))
    }

    /// The same bits with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with_bit(Attributes::LOG_APPEND_TIME, timestamp_type == TimestampType::LogAppendTime)
    }

    /// The same bits, transactional or not.
    #[must_use]
    pub fn with_transactional(self, transactional: bool) -> Attributes {
        self.with_bit(Attributes::TRANSACTIONAL, transactional)
    }

    /// The same bits, a control batch or not.
    #[must_use]
    pub fn with_control(self, control: bool) -> Attributes {
        self.with_bit(Attributes::CONTROL, control)
    }

    fn with_bit(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// What a batch's header says. Values come from [`peek`], which refuses what no batch can have, so that the
/// derived values never overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// Offset of the first record; 0 in a batch that a client sends.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included; at least [`HEADER_BYTES`].
    pub size: usize,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: i32,
    /// CRC-32C over everything behind it.
    pub crc: u32,
    /// Codec, timestamp type and flags.
    pub attributes: Attributes,
    /// Last offset minus base offset. Compaction may leave fewer records than this tells.
    pub last_offset_delta: i32,
    /// Timestamp to which the records' deltas are added, ms since 1970, -1 for none.
    pub base_timestamp: i64,
    /// The greatest timestamp of the records, ms since 1970, -1 for none.
    pub max_timestamp: i64,
    /// Id of the idempotent producer, [`NO_PRODUCER_ID`] for none.
    pub producer_id: i64,
    /// Epoch of the idempotent producer, -1 for none.
    pub producer_epoch: i16,
    /// Sequence number of the first record, [`NO_SEQUENCE`] for none.
    pub base_sequence: i32,
    /// Records in the batch.
    pub record_count: i32,
}

impl BatchInfo {
    /// Offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Sequence number of the last record; numbers go on with 0 after `i32::MAX`. [`NO_SEQUENCE`] where the
    /// batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// Whether an idempotent producer sent the batch.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Whether the batch is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether the batch holds control records.
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// How the records are compressed.
    pub fn compression(&self) -> Codec {
        Codec::from_id(self.attributes.codec_id()).expect("peek refused unknown codecs")
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// The timestamp of a record with this delta: with LogAppendTime all have the batch's.
    pub fn timestamp_of(&self, delta: i64) -> i64 {
        match self.timestamp_type() {
            TimestampType::LogAppendTime => self.max_timestamp,
            TimestampType::CreateTime => self.base_timestamp.wrapping_add(delta),
        }
    }

    /// The same batch where the leader put it.
    #[must_use]
    pub fn placed_at(mut self, base_offset: i64, leader_epoch: i32) -> BatchInfo {
        self.base_offset = base_offset;
        self.leader_epoch = leader_epoch;
        self
    }
}

/// Why bytes are not the header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    TooShort(usize),
    /// The length field is smaller than the rest of the header.
    Length(i32),
    /// Another record format.
    Magic(u8),
    /// A codec id that Kafka has not given out.
    Codec(u8),
    /// A base offset that is negative, or leaves no room for a batch's offsets.
    BaseOffset(i64),
    /// A negative last offset delta or record count.
    Count {
        /// The last offset delta.
        last_delta: i32,
        /// The record count.
        count: i32,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::TooShort(bytes) => {
                write!(f, "{bytes} bytes are fewer than the {HEADER_BYTES} of a batch header")
            }
            HeaderError::Length(length) => write!(f, "batch length {length} is smaller than its header"),
            HeaderError::Magic(magic) => write!(f, "magic {magic} is not {MAGIC}"),
            HeaderError::Codec(id) => write!(f, "compression codec {id} is unknown"),
            HeaderError::BaseOffset(offset) => write!(f, "base offset {offset} is out of range"),
            HeaderError::Count { last_delta, count } => {
                write!(f, "negative last offset delta {last_delta} or record count {count}")
            }
        }
    }
}

impl std::error::Error for HeaderError {}

/// Reads the header of a batch. Needs only [`HEADER_BYTES`]; the batch's `size` may exceed what is there.
/// The CRC is not checked.
///
/// # Errors
/// When the bytes cannot be a header of format version 2.
pub fn peek(bytes: &[u8]) -> Result<BatchInfo, HeaderError> {
    let (header, _) = Header::ref_from_prefix(bytes).map_err(|_| HeaderError::TooShort(bytes.len()))?;
    header.info()
}

/// Whether the CRC-32C of a whole batch fits its bytes. `batch` must end where the batch ends.
pub fn crc_is_right(batch: &[u8]) -> bool {
    let Ok((header, _)) = Header::ref_from_prefix(batch) else { return false };
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[CRC_START..]);
    crc32_of(sum) == header.crc.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            base_offset: I64::new(7),
            length: I32::new(49),
            leader_epoch: I32::new(3),
            magic: 2,
            crc: U32::new(0),
            attributes: I16::new(0),
            last_offset_delta: I32::new(4),
            base_timestamp: I64::new(1_000),
            max_timestamp: I64::new(2_000),
            producer_id: I64::new(-1),
            producer_epoch: I16::new(-1),
            base_sequence: I32::new(-1),
            record_count: I32::new(5),
        }
    }

    #[test]
    fn fields_lie_where_kafka_puts_them() {
        let mut h = header();
        h.record_count = I32::new(0x0102_0304);
        h.crc = U32::new(0xaabb_ccdd);
        h.producer_epoch = I16::new(0x1122);
        let bytes = h.as_bytes();
        assert_eq!(bytes[16], 2);
        assert_eq!(bytes[17..21], [0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!(bytes[51..53], [0x11, 0x22]);
        assert_eq!(bytes[57..61], [1, 2, 3, 4]);
        assert_eq!((PREFIX_BYTES, CRC_START), (12, 21));
    }

    #[test]
    fn what_no_batch_can_have_is_refused() {
        let refused = |change: fn(&mut Header)| {
            let mut h = header();
            change(&mut h);
            peek(h.as_bytes()).unwrap_err()
        };
        assert_eq!(refused(|h| h.magic = 1), HeaderError::Magic(1));
        assert_eq!(refused(|h| h.length = I32::new(48)), HeaderError::Length(48));
        assert_eq!(refused(|h| h.length = I32::new(-1)), HeaderError::Length(-1));
        assert_eq!(refused(|h| h.attributes = I16::new(5)), HeaderError::Codec(5));
        assert_eq!(refused(|h| h.base_offset = I64::new(-1)), HeaderError::BaseOffset(-1));
        assert_eq!(refused(|h| h.base_offset = I64::new(i64::MAX)), HeaderError::BaseOffset(i64::MAX));
        let negative = HeaderError::Count { last_delta: -1, count: 5 };
        assert_eq!(refused(|h| h.last_offset_delta = I32::new(-1)), negative);
        assert_eq!(peek(&header().as_bytes()[..60]), Err(HeaderError::TooShort(60)));
        assert_eq!(peek(header().as_bytes()).map(|info| info.size), Ok(61));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut info = header().info().unwrap();
        info.base_sequence = i32::MAX - 1;
        assert_eq!(info.last_sequence(), 2);
        info.base_sequence = i32::MAX - 4;
        assert_eq!(info.last_sequence(), i32::MAX);
        info.base_sequence = -1;
        assert_eq!(info.last_sequence(), NO_SEQUENCE);
    }

    #[test]
    fn log_append_time_gives_all_records_the_batchs_time() {
        let mut info = header().info().unwrap();
        assert_eq!(info.timestamp_of(5), 1_005);
        info.attributes = info.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        assert_eq!(info.timestamp_of(5), 2_000);
    }

    proptest! {
        #[test]
        fn peek_never_panics_and_derived_values_are_sane(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut bytes = bytes;
            if let Some(magic) = bytes.get_mut(16) { *magic = 2; }
            if let Ok(info) = peek(&bytes) {
                prop_assert!(info.last_offset() >= info.base_offset);
                prop_assert!(info.last_sequence() >= -1);
                prop_assert!(info.size >= HEADER_BYTES);
                info.compression();
            }
        }

        #[test]
        fn the_crc_of_parts_is_that_of_the_whole(body in prop::collection::vec(any::<u8>(), 0..500), flip in 0usize..500) {
            let mut h = header();
            h.crc = U32::new(h.crc_with(&body));
            let mut batch = [h.as_bytes(), &body].concat();
            prop_assert!(crc_is_right(&batch));
            let at = CRC_START + flip % (batch.len() - CRC_START);
            batch[at] ^= 0x10;
            prop_assert!(!crc_is_right(&batch));
        }
    }
}
