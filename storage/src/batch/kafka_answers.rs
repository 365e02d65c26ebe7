//! Batches that Kafka 4.3.1 itself wrote (`MemoryRecordsBuilder`, one for each codec, all of the same records),
//! and what must be found in them.

use super::{BatchBuilder, Record, crc_is_right, peek, records_of};
use crate::compression::Codec;

/// Base offset 40, leader epoch 9, producer 77 in epoch 3 from sequence number 5.
const KAFKA_WROTE: [(Codec, &str); 5] = [
    (
        Codec::None,
        "0000000000000028000000880000000902cb36aee40000000000020000018bcfe568000000018bcfe5680a000000\
         000000004d000300000005000000034e000000086b6579302676616c75652076616c75652076616c756520300402\
         680278086e756c6c014e001402086b6579312676616c75652076616c75652076616c756520310402680278086e75\
         6c6c010c000104010100",
    ),
    (
        Codec::Gzip,
        "0000000000000028000000760000000902a17010e70001000000020000018bcfe568000000018bcfe5680a000000\
         000000004d000300000005000000031f8b08000000000000fff3636060e0c84ead34502b4bcc294d5540260d5898\
         32982a38f24a737218fd18449840ea0cb1a8334452c7c3c0c8c2c8c800004500b7ea57000000",
    ),
    (
        Codec::Snappy,
        "00000000000000280000007e0000000902f07a3ad50002000000020000018bcfe568000000018bcfe5680a000000\
         000000004d0003000000050000000382534e4150505900000000010000000100000039573c4e000000086b657930\
         2676616c7565202e06003c300402680278086e756c6c014e001402012800314a280000311d28180c000104010100",
    ),
    (
        Codec::Lz4,
        "0000000000000028000000790000000902c41c2c120003000000020000018bcfe568000000018bcfe5680a000000\
         000000004d0003000000050000000304224d1860408239000000f8014e000000086b6579302676616c7565200600\
         f001300402680278086e756c6c014e00140228001f3128000017312800700c00010401010000000000",
    ),
    (
        Codec::Zstd,
        "0000000000000028000000760000000902fe0c96100004000000020000018bcfe568000000018bcfe5680a000000\
         000000004d0003000000050000000328b52ffd0058cc0100d4024e000000086b6579302676616c75652030040268\
         0278086e756c6c014e001402086b657931310c0001040101000300c010974a98706509010000",
    ),
];

type Fields<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, &'a [(&'a [u8], Option<&'a [u8]>)]);

const HEADERS: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"x")), (b"null", None)];

/// The records: timestamp, key, value, headers. The last one is older than the first.
const RECORDS: [Fields<'_>; 3] = [
    (1_700_000_000_000, Some(b"key0"), Some(b"value value value 0"), HEADERS),
    (1_700_000_000_010, Some(b"key1"), Some(b"value value value 1"), HEADERS),
    (1_699_999_999_999, None, None, &[]),
];

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn what_kafka_wrote_is_read() {
    for (codec, hex) in KAFKA_WROTE {
        let batch = bytes_of(hex);
        assert!(crc_is_right(&batch), "{codec:?}");
        let info = peek(&batch).unwrap();
        assert_eq!((info.size, info.compression()), (batch.len(), codec));
        assert_eq!((info.base_offset, info.last_offset(), info.leader_epoch), (40, 42, 9));
        assert_eq!((info.producer_id, info.producer_epoch, info.base_sequence), (77, 3, 5));
        assert_eq!((info.base_timestamp, info.max_timestamp), (1_700_000_000_000, 1_700_000_000_010));
        let opened = records_of(&batch, 1_000).unwrap();
        let found: Vec<Record<'_>> = opened.iter().map(Result::unwrap).collect();
        assert_eq!(found.len(), RECORDS.len());
        for ((i, record), (timestamp, key, value, headers)) in (0..).zip(found).zip(RECORDS) {
            assert_eq!(record.offset_delta, i);
            assert_eq!(info.timestamp_of(record.timestamp_delta), timestamp);
            assert_eq!((record.key, record.value), (key, value));
            assert_eq!(record.headers.collect::<Vec<_>>(), headers);
        }
    }
}

#[test]
fn what_is_built_has_the_bytes_that_kafka_writes() {
    let mut builder = BatchBuilder::new(Codec::None).producer(77, 3, 5);
    for (timestamp, key, value, headers) in RECORDS {
        builder.push(timestamp, key, value, headers);
    }
    assert_eq!(builder.uncompressed_bytes(), KAFKA_WROTE[0].1.len() / 2);
    assert_eq!(builder.build(40, 9), bytes_of(KAFKA_WROTE[0].1));
}
