//! Tests of the segment index against the list of all batches.

use super::*;
use proptest::prelude::*;

const BASE: i64 = 1_000;

#[derive(Clone, Copy, Debug)]
struct Batch {
    first: i64,
    last: i64,
    position: u64,
    timestamp: i64,
    size: usize,
}

/// Batches one behind the other; offsets may have gaps, timestamps go up and down.
fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let one = (0i64..3, 1i64..10, prop_oneof![1 => Just(-1i64), 9 => 0i64..50], 61usize..400);
    prop::collection::vec(one, 0..60).prop_map(|list| {
        let (mut offset, mut position) = (BASE, 0);
        list.into_iter()
            .map(|(gap, records, timestamp, size)| {
                let first = offset + gap;
                let batch = Batch { first, last: first + records - 1, position, timestamp, size };
                offset = first + records;
                position += size as u64;
                batch
            })
            .collect()
    })
}

fn append(index: &mut SegmentIndex, batches: &[Batch], interval: u32) {
    for b in batches {
        index.append(b.first, b.last, b.position, b.timestamp, b.size, interval);
        index.assert_invariants();
    }
}

fn indexed(batches: &[Batch], interval: u32) -> SegmentIndex {
    let mut index = SegmentIndex::new(BASE);
    append(&mut index, batches, interval);
    index
}

fn encoded(index: &SegmentIndex) -> Vec<u8> {
    let mut out = vec![0xee];
    index.encode(&mut out);
    out.remove(0);
    assert_eq!(out.len(), index.encoded_bytes());
    out
}

/// The first batch from `place` on that fits, as a reader looks for it.
fn scan(batches: &[Batch], place: Place, fits: impl Fn(&Batch) -> bool) -> Option<u64> {
    let starts_at_batch = batches.iter().any(|b| (b.first, b.position) == (place.offset, place.position));
    assert!(starts_at_batch || place == Place { offset: BASE, position: 0 });
    batches.iter().filter(|b| b.position >= place.position).find(|b| fits(b)).map(|b| b.position)
}

proptest! {
    #[test]
    fn lookups_lead_to_what_a_search_of_all_batches_finds(list in batches(), interval in 0u32..1_500) {
        let index = indexed(&list, interval);
        let end = list.last().map_or(BASE, |b| b.last + 1);
        prop_assert_eq!(index.end_offset(), end);
        prop_assert_eq!(index.max_timestamp(), list.iter().map(|b| b.timestamp).max().unwrap_or(-1));
        for offset in BASE - 1..=end {
            let wanted = list.iter().find(|b| b.last >= offset);
            prop_assert_eq!(scan(&list, index.floor(offset), |b| b.last >= offset), wanted.map(|b| b.position));
            if let (Some(ceiling), Some(b)) = (index.ceiling_position(offset), wanted) && b.first <= offset {
                prop_assert!(b.position + b.size as u64 <= ceiling);
            }
        }
        for timestamp in 0..52 {
            let wanted = list.iter().find(|b| b.timestamp >= timestamp).map(|b| b.position);
            prop_assert_eq!(scan(&list, index.time_floor(timestamp), |b| b.timestamp >= timestamp), wanted);
        }
        for b in &list {
            for position in [b.position, b.position + b.size as u64 - 1] {
                let place = index.position_floor(position);
                prop_assert!(place.position <= position && place.offset <= b.first);
                // No reader has to walk over more than the interval and the batch it looks for.
                prop_assert!(b.position - place.position < u64::from(interval).max(1));
            }
        }
    }

    #[test]
    fn entries_are_as_sparse_as_the_interval_says(list in batches(), interval in 1u32..1_500) {
        let index = indexed(&list, interval);
        let gaps = index.entries.is_sorted_by(|a, b| b.position - a.position >= interval);
        prop_assert!(gaps);
        prop_assert_eq!(index.entries.is_empty(), list.is_empty());
    }

    #[test]
    fn a_cut_index_filled_up_again_is_the_index_of_the_cut_log(list in batches(), interval in 0u32..1_500, keep in any::<prop::sample::Index>()) {
        let mut index = indexed(&list, interval);
        let kept = &list[..keep.index(list.len() + 1)];
        let cut = kept.last().map_or(0, |b| b.position + b.size as u64);
        let place = index.truncate(cut);
        index.assert_invariants();
        prop_assert!(place.position <= cut);
        prop_assert_eq!(place.position, index.log_bytes());
        let again: Vec<_> = kept.iter().filter(|b| b.position >= place.position).copied().collect();
        append(&mut index, &again, interval);
        let fresh = indexed(kept, interval);
        prop_assert_eq!(index, fresh);
    }

    #[test]
    fn what_is_encoded_comes_back_and_damage_is_found(list in batches(), interval in 0u32..1_500, at in any::<prop::sample::Index>(), flip in 1u8..) {
        let index = indexed(&list, interval);
        let bytes = encoded(&index);
        let decoded = SegmentIndex::decode(&bytes, BASE, index.log_bytes());
        prop_assert_eq!(decoded.as_ref(), Ok(&index));
        let other = SegmentIndex::decode(&bytes, BASE, index.log_bytes() + 1);
        prop_assert_eq!(other, Err(IndexError::OtherLog { base_offset: BASE, log_bytes: index.log_bytes() }));
        prop_assert!(SegmentIndex::decode(&bytes, BASE + 1, index.log_bytes()).is_err());
        prop_assert!(SegmentIndex::decode(&bytes[..at.index(bytes.len())], BASE, index.log_bytes()).is_err());
        let mut damaged = bytes;
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        prop_assert!(SegmentIndex::decode(&damaged, BASE, index.log_bytes()).is_err());
    }

    #[test]
    fn impossible_values_under_a_right_checksum_are_refused(at in CRC_START..200, byte in any::<u8>()) {
        let list: Vec<_> = (0..8).map(|i| Batch { first: BASE + i, last: BASE + i, position: i as u64 * 100, timestamp: i, size: 100 }).collect();
        let mut bytes = encoded(&indexed(&list, 100));
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        let crc = crc32fast::hash(&bytes[CRC_START..]);
        Head::mut_from_prefix(&mut bytes).unwrap().0.crc = U32::new(crc);
        if let Ok(index) = SegmentIndex::decode(&bytes, BASE, 800) {
            index.assert_invariants();
            for i in 0..10 {
                index.floor(BASE + i);
                index.time_floor(i);
            }
        }
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let list = [Batch { first: BASE, last: BASE, position: 0, timestamp: 1, size: 100 }];
    let good = encoded(&indexed(&list, 0));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        SegmentIndex::decode(&bytes, BASE, 100).unwrap_err()
    };
    assert_eq!(with(0, 0), IndexError::Magic);
    assert_eq!(with(8, 2), IndexError::Version(2));
    assert_eq!(with(12, !good[12]), IndexError::Checksum);
    assert_eq!(with(good.len() - 1, 1), IndexError::Checksum);
    assert_eq!(SegmentIndex::decode(&good[..40], BASE, 100), Err(IndexError::Length));
}

#[test]
fn offsets_fit_as_long_as_32_bits_hold_them() {
    let most = i64::from(u32::MAX);
    assert!(SegmentIndex::fits(BASE, BASE));
    assert!(SegmentIndex::fits(BASE, BASE + most));
    assert!(!SegmentIndex::fits(BASE, BASE + most + 1));
    assert!(!SegmentIndex::fits(BASE, BASE - 1));
    let mut index = SegmentIndex::new(BASE);
    index.append(BASE, BASE, 0, 5, 100, 0);
    index.append(BASE + most, BASE + most, 100, 6, 100, 0);
    assert_eq!(index.floor(i64::MAX), Place { offset: BASE + most, position: 100 });
}

#[test]
fn a_rebuilt_index_is_the_same() {
    let list: Vec<_> = (0..50)
        .map(|i| Batch {
            first: BASE + i * 2,
            last: BASE + i * 2 + 1,
            position: i as u64 * 90,
            timestamp: i % 7,
            size: 90,
        })
        .collect();
    let info = |b: &Batch| {
        let mut builder = crate::batch::BatchBuilder::new(crate::compression::Codec::None);
        builder.push(b.timestamp, None, None, &[]);
        builder.push(b.timestamp, None, None, &[]);
        let mut info = crate::batch::peek(&builder.build(b.first, 0)).unwrap();
        info.size = b.size;
        (info, b.position)
    };
    let rebuilt = SegmentIndex::rebuild(BASE, 400, list.iter().map(info));
    assert_eq!(rebuilt, indexed(&list, 400));
    assert_eq!(rebuilt.entries.len(), 10);
}
