//! Tests of the checks on produced batches.

use super::super::{BatchBuilder, records_of};
use super::*;
use proptest::prelude::*;

const NOW: i64 = 1_700_000_000_000;

fn rules() -> Rules {
    Rules {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        compression: Compression::Producer,
        keys_required: false,
        decompressed_max_bytes: 1 << 22,
        zstd_allowed: true,
        from_coordinator: false,
    }
}

fn batch(codec: Codec, records: &[(i64, Option<&[u8]>)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (timestamp, key) in records {
        builder.push(*timestamp, *key, Some(b"a value that is a value that is"), &[(b"h", Some(b"v"))]);
    }
    builder.build(0, -1)
}

fn plain(codec: Codec) -> Vec<u8> {
    batch(codec, &[(NOW, Some(b"k")), (NOW + 5, None), (NOW - 5, Some(b""))])
}

/// Changes a header and makes its CRC right again.
fn altered(mut batch: Vec<u8>, change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let (header, body) = Header::mut_from_prefix(&mut batch).unwrap();
    change(header);
    header.crc = U32::new(header.crc_with(body));
    batch
}

fn refused(batch: &[u8], rules: &Rules) -> RefusalKind {
    check(batch, rules, NOW).unwrap_err().kind
}

/// The stored bytes, checked to be a whole batch.
fn stored(checked: &Checked<'_>) -> Vec<u8> {
    let bytes = [&checked.header(500, 7)[..], checked.body()].concat();
    let opened = records_of(&bytes, 1 << 22).unwrap();
    assert_eq!(opened.info, checked.info.placed_at(500, 7));
    assert!(opened.iter().all(|r| r.is_ok()));
    bytes
}

#[test]
fn the_fast_path_stores_what_came() {
    for codec in Codec::ALL {
        let came = plain(codec);
        let info = peek(&came).unwrap();
        assert!(!needs_decompression(&info, &rules()));
        let checked = check(&came, &rules(), NOW).unwrap();
        assert!(matches!(checked.body, Cow::Borrowed(_)));
        let bytes = stored(&checked);
        assert_eq!(bytes[16..], came[16..], "all but offset and leader epoch");
        assert_eq!(
            (bytes[..8].to_vec(), bytes[12..16].to_vec()),
            (500i64.to_be_bytes().into(), 7i32.to_be_bytes().into())
        );
    }
}

#[test]
fn every_refusal_of_the_header_has_kafkas_code() {
    use RefusalKind::*;
    type Change = fn(&mut Header);
    let cases: [(&str, Change, RefusalKind); 16] = [
        ("magic 0", |h| h.magic = 0, InvalidRecord),
        ("magic 1", |h| h.magic = 1, InvalidRecord),
        ("magic 3", |h| h.magic = 3, Corrupt),
        ("length below the header", |h| h.length = I32::new(48), Corrupt),
        ("length above the bytes", |h| h.length = I32::new(1_000), InvalidRecord),
        ("length below the bytes", |h| h.length = I32::new(60), InvalidRecord),
        ("base offset", |h| h.base_offset = I64::new(1), InvalidRecord),
        ("negative base offset", |h| h.base_offset = I64::new(-1), InvalidRecord),
        ("unknown codec", |h| h.attributes = I16::new(6), UnsupportedCompression),
        ("no records", |h| h.record_count = I32::new(0), InvalidRecord),
        ("last offset delta", |h| h.last_offset_delta = I32::new(3), InvalidRecord),
        ("negative delta", |h| h.last_offset_delta = I32::new(-3), InvalidRecord),
        ("control", |h| h.attributes = I16::new(0x20), InvalidRecord),
        ("transactional", |h| h.attributes = I16::new(0x10), InvalidTxnState),
        ("delete horizon", |h| h.attributes = I16::new(0x40), InvalidRecord),
        ("log append time", |h| h.attributes = I16::new(0x08), InvalidTimestamp),
    ];
    for (name, change, kind) in cases {
        assert_eq!(refused(&altered(plain(Codec::None), change), &rules()), kind, "{name}");
    }
    assert_eq!([Corrupt, TooLarge, InvalidTimestamp].map(RefusalKind::code), [2, 10, 32]);
    assert_eq!([InvalidTxnState, UnsupportedCompression, InvalidRecord].map(RefusalKind::code), [48, 76, 87]);
}

#[test]
fn only_one_whole_batch_is_taken() {
    let one = plain(Codec::None);
    let two = [one.clone(), one.clone()].concat();
    assert!(check(&two, &rules(), NOW).unwrap_err().message.contains("only one"));
    for cut in 0..one.len() {
        assert_eq!(refused(&one[..cut], &rules()), RefusalKind::InvalidRecord, "{cut}");
    }
    // A message of format 0 is shorter than our header.
    assert!(check(&[0; 26], &rules(), NOW).unwrap_err().message.contains("version 0"));
}

#[test]
fn a_wrong_crc_is_corrupt_and_size_comes_first() {
    let mut bytes = plain(Codec::None);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&bytes, &rules()), RefusalKind::Corrupt);
    let small = Rules { max_message_bytes: bytes.len() - 1, ..rules() };
    assert_eq!(refused(&bytes, &small), RefusalKind::TooLarge);
    let exact = Rules { max_message_bytes: bytes.len(), ..rules() };
    assert!(check(&plain(Codec::None), &exact, NOW).is_ok());
}

#[test]
fn a_producer_has_an_epoch_and_a_sequence() {
    let producer = |id, epoch, sequence| {
        let mut builder = BatchBuilder::new(Codec::None).producer(id, epoch, sequence);
        builder.push(NOW, None, None, &[]);
        check(&builder.build(0, -1), &rules(), NOW).map(|_| ()).map_err(|e| e.kind)
    };
    assert_eq!(producer(5, 0, 0), Ok(()));
    assert_eq!(producer(-1, -1, -1), Ok(()));
    assert_eq!(producer(5, 0, -1), Err(RefusalKind::InvalidRecord));
    assert_eq!(producer(5, -1, 0), Err(RefusalKind::InvalidRecord));
}

#[test]
fn coordinators_may_write_control_and_transactional_batches() {
    let mut builder = BatchBuilder::new(Codec::None).transactional(true, true).producer(5, 0, -1);
    builder.push(NOW, Some(b"\0\0\0\x01"), Some(b"\0\0\0\0\0\0"), &[]);
    let bytes = builder.build(0, -1);
    let to_zstd = Compression::Codec(Codec::Zstd, 3);
    let inside = Rules { from_coordinator: true, compression: to_zstd, ..rules() };
    let checked = check(&bytes, &inside, NOW).unwrap();
    assert_eq!(checked.info.compression(), Codec::None, "control records are not recompressed");
    assert_eq!(refused(&bytes, &rules()), RefusalKind::InvalidRecord);
}

#[test]
fn records_without_keys_are_listed_where_keys_are_required() {
    let compacted = Rules { keys_required: true, ..rules() };
    for codec in Codec::ALL {
        let bytes = batch(codec, &[(NOW, None), (NOW, Some(b"")), (NOW, None)]);
        assert_eq!(needs_decompression(&peek(&bytes).unwrap(), &compacted), codec != Codec::None);
        let refusal = check(&bytes, &compacted, NOW).unwrap_err();
        assert_eq!((refusal.code(), refusal.record_errors.len()), (87, 2));
        assert_eq!(refusal.record_errors.iter().map(|e| e.0).collect::<Vec<_>>(), [0, 2]);
        assert!(refusal.message.contains("2 record errors"));
        let keyed = batch(codec, &[(NOW, Some(b"k"))]);
        let checked = check(&keyed, &compacted, NOW).unwrap();
        assert_eq!(stored(&checked)[16..], keyed[16..], "the batch is stored as it came");
    }
    let many: Vec<_> = vec![(NOW, None); 1_000];
    let refusal = check(&batch(Codec::None, &many), &compacted, NOW).unwrap_err();
    assert_eq!(refusal.record_errors.len(), MAX_RECORD_ERRORS);
    assert!(refusal.message.contains("1000 record errors"));
}

#[test]
fn offset_deltas_count_up_from_zero() {
    let came = plain(Codec::None);
    for delta in [1, 2, 4] {
        // The offset delta lies behind length, attributes and timestamp delta of one byte each.
        let mut bytes = came.clone();
        bytes[HEADER_BYTES + 3] = delta;
        let refusal = check(&altered(bytes, |_| ()), &rules(), NOW).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::InvalidRecord);
        assert!(refusal.message.starts_with("Record 0 of the batch has offset delta"), "{refusal}");
    }
}

#[test]
fn one_wrong_timestamp_decides_the_code_of_mixed_errors() {
    let both = Rules { keys_required: true, ..rules() };
    let late = NOW + 3_600_001;
    for records in [[(late, Some(b"k".as_slice())), (NOW, None)], [(NOW, None), (late, Some(b"k"))]] {
        let refusal = check(&batch(Codec::None, &records), &both, NOW).unwrap_err();
        assert_eq!((refusal.code(), refusal.record_errors.len()), (32, 2));
    }
    let one = check(&batch(Codec::None, &[(late, None)]), &both, NOW).unwrap_err();
    assert_eq!((one.code(), one.record_errors.len()), (87, 1), "the key is looked at first");
}

#[test]
fn timestamps_stay_within_the_topics_limits() {
    let limits = Rules { before_max_ms: 1_000, after_max_ms: 10, ..rules() };
    let verdict = |codec, timestamp| {
        let bytes = batch(codec, &[(timestamp, Some(b"k"))]);
        check(&bytes, &limits, NOW).map(|_| ()).map_err(|e| (e.code(), e.record_errors.len()))
    };
    for codec in Codec::ALL {
        let listed = usize::from(codec == Codec::None);
        assert_eq!(verdict(codec, NOW - 1_000), Ok(()));
        assert_eq!(verdict(codec, NOW + 10), Ok(()));
        assert_eq!(verdict(codec, NO_TIMESTAMP), Ok(()), "no timestamp is no error");
        assert_eq!(verdict(codec, NOW - 1_001), Err((32, listed)));
        assert_eq!(verdict(codec, NOW + 11), Err((32, listed)));
        assert_eq!(verdict(codec, i64::MAX), Err((32, listed)));
        assert_eq!(verdict(codec, 0), Err((32, listed)));
    }
    let bytes = batch(Codec::None, &[(NOW, None), (0, None), (NOW, None), (i64::MAX - 1, None)]);
    let refusal = check(&bytes, &limits, NOW).unwrap_err();
    assert_eq!(refusal.record_errors.iter().map(|e| e.0).collect::<Vec<_>>(), [1, 3]);
    let append_time = Rules { timestamp_type: TimestampType::LogAppendTime, ..limits };
    assert!(check(&bytes, &append_time, NOW).is_ok(), "the producer's time does not count");
}

#[test]
fn log_append_time_is_stamped_and_the_crc_follows() {
    let append_time = Rules { timestamp_type: TimestampType::LogAppendTime, ..rules() };
    for codec in Codec::ALL {
        let came = plain(codec);
        let checked = check(&came, &append_time, NOW + 99).unwrap();
        assert_eq!(checked.info.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(checked.info.max_timestamp, NOW + 99);
        assert_eq!(checked.info.compression(), codec);
        stored(&checked);
        let mut damaged = came;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(
            refused(&damaged, &append_time),
            RefusalKind::Corrupt,
            "the received CRC is checked first"
        );
    }
}

#[test]
fn a_wrong_max_timestamp_is_put_right_where_records_are_walked() {
    let wrong = |codec| altered(plain(codec), |h| h.max_timestamp = I64::new(1));
    let checked = check(&wrong(Codec::None), &rules(), NOW).unwrap().into_owned();
    assert_eq!(checked.info.max_timestamp, NOW + 5);
    stored(&checked);
    assert_eq!(refused(&wrong(Codec::Lz4), &rules()), RefusalKind::InvalidRecord);
    let opened = Rules { compression: Compression::Codec(Codec::Zstd, 3), ..rules() };
    assert_eq!(check(&wrong(Codec::Lz4), &opened, NOW).unwrap().info.max_timestamp, NOW + 5);
}

#[test]
fn batches_are_recompressed_to_the_topics_codec() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            let came = plain(from);
            let rules = Rules { compression: Compression::Codec(to, to.default_level()), ..rules() };
            assert_eq!(needs_decompression(&peek(&came).unwrap(), &rules), from != to);
            let checked = check(&came, &rules, NOW).unwrap();
            assert_eq!(checked.info.compression(), to, "{from:?} to {to:?}");
            let bytes = stored(&checked);
            let (a, b) = (records_of(&came, 1 << 20).unwrap(), records_of(&bytes, 1 << 20).unwrap());
            assert_eq!(a.bytes(), b.bytes());
        }
    }
}

#[test]
fn what_grows_beyond_the_limit_by_recompression_is_too_large() {
    let came = batch(Codec::Zstd, &[(NOW, Some(b"k".as_slice())); 100]);
    let to_none = Compression::Codec(Codec::None, 0);
    let rules = Rules { compression: to_none, max_message_bytes: 1_000, ..rules() };
    assert!(came.len() < 1_000);
    assert_eq!(refused(&came, &rules), RefusalKind::TooLarge);
    let bounded = Rules { max_message_bytes: 1 << 20, decompressed_max_bytes: 1_000, ..rules };
    assert!(check(&came, &bounded, NOW).unwrap_err().message.contains("decompresses to more than 1000"));
}

#[test]
fn a_compressed_batch_that_does_not_open_is_refused_where_it_must_be_opened() {
    let came = altered(plain(Codec::None), |h| h.attributes = I16::new(Codec::Gzip as i16));
    assert!(check(&came, &rules(), NOW).is_ok(), "closed batches pass: the documented difference");
    let compacted = Rules { keys_required: true, ..rules() };
    assert_eq!(refused(&came, &compacted), RefusalKind::InvalidRecord);
}

#[test]
fn zstd_needs_a_version_that_knows_it() {
    let old = Rules { zstd_allowed: false, ..rules() };
    assert_eq!(refused(&plain(Codec::Zstd), &old), RefusalKind::UnsupportedCompression);
    assert!(check(&plain(Codec::Lz4), &old, NOW).is_ok());
}

proptest! {
    /// Whatever bytes come behind a right CRC, what is accepted can be read again.
    #[test]
    fn accepted_uncompressed_batches_can_be_read(at in any::<prop::sample::Index>(), byte in any::<u8>(), more in 0usize..4) {
        let mut bytes = plain(Codec::None);
        for i in 0..more {
            let at = HEADER_BYTES + (at.index(bytes.len() - HEADER_BYTES) + i * 7) % (bytes.len() - HEADER_BYTES);
            bytes[at] = byte;
        }
        let bytes = altered(bytes, |_| ());
        if let Ok(checked) = check(&bytes, &rules(), NOW) {
            let bytes = stored(&checked);
            let opened = records_of(&bytes, 1 << 20).unwrap();
            for (i, record) in opened.iter().enumerate() {
                prop_assert_eq!(usize::try_from(record.unwrap().offset_delta).unwrap(), i);
            }
        }
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&bytes, &rules(), NOW).is_err());
    }
}
