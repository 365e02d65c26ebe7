//! Kafka record batches, format version 2 (KIP-98): reading, checking and building them.
//!
//! ```text
//! offset  field                  in the CRC
//!      0  base offset        i64  no   set by the leader
//!      8  length             i32  no   bytes that follow this field
//!     12  leader epoch       i32  no   set by the leader
//!     16  magic = 2           u8  no
//!     17  CRC-32C            u32  no   over all that follows
//!     21  attributes         i16  yes  codec (bits 0-2), timestamp type (3), transactional (4), control (5),
//!                                      delete horizon (6)
//!     23  last offset delta  i32  yes
//!     27  base timestamp     i64  yes  ms since 1970, -1: none
//!     35  max timestamp      i64  yes
//!     43  producer id        i64  yes  -1: not idempotent
//!     51  producer epoch     i16  yes
//!     53  base sequence      i32  yes
//!     57  record count       i32  yes
//!     61  records, compressed as one stream when the codec says so
//! ```
//!
//! All numbers are big-endian. A batch is stored as it travelled: only base offset and leader epoch are set,
//! both of which the CRC does not cover.

mod build;
mod header;
#[cfg(test)]
mod kafka_answers;
mod records;
mod validate;

pub use build::BatchBuilder;
pub use header::{
    Attributes, BatchInfo, HEADER_BYTES, HeaderError, MAGIC, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    TimestampType, crc_is_right, peek,
};
pub use records::{Decompressed, Headers, OpenError, Record, RecordError, RecordIter, records_of};
pub use validate::{Checked, Compression, Refusal, RefusalKind, Rules, check, needs_decompression};
