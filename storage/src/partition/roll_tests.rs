//! When a segment is closed: by the size of its index, by its age less a random part.

use crate::PartitionKey;
use crate::checkpoint::{PartitionState, SegmentState};
use crate::index::SegmentIndex;
use crate::store::fixture::{batch, open, store, store_of};
use crate::store::{LogSettings, PartitionIx, Store};
use uuid::Uuid;

fn segments(store: &Store<Vec<u8>>, ix: PartitionIx) -> Vec<(i64, i64)> {
    store.segments(ix).iter().map(|segment| (segment.base, segment.end)).collect()
}

#[test]
fn a_segment_is_closed_before_its_index_outgrows_its_limit() {
    let mut store = store();
    let with_three = SegmentIndex::encoded_bytes_of(2, 1);
    let settings = LogSettings {
        segment_index_bytes: u32::try_from(with_three).unwrap(),
        index_interval_bytes: 500,
        ..LogSettings::default()
    };
    let ix = open(&mut store, 0, settings);
    // Some 370 bytes each: every second one gets an entry.
    for _ in 0..13 {
        store.append(ix, &batch(1, 300), 0, 1);
    }
    assert_eq!(segments(&store, ix), [(0, 6), (6, 12), (12, 13)]);
    // A limit below any index leaves each batch a segment of its own.
    store.configure(ix, LogSettings { segment_index_bytes: 4, ..settings });
    for _ in 0..3 {
        store.append(ix, &batch(1, 300), 0, 1);
    }
    assert_eq!(segments(&store, ix)[2..], [(12, 13), (13, 14), (14, 15), (15, 16)]);
}

#[test]
fn a_segment_that_an_earlier_process_began_counts_with_the_index_that_it_will_get() {
    let key = PartitionKey { topic: Uuid::from_u128(1), partition: 0 };
    let mut state = PartitionState::fresh(key);
    state.segments[0] = SegmentState { base: 0, end: 10, bytes: 10 << 12, max_timestamp: 1 };
    for (limit, closed) in [(SegmentIndex::encoded_bytes_of(10 << 12, 4096), false), (200, true)] {
        let mut store = store_of(vec![state.clone()]);
        let segment_index_bytes = u32::try_from(limit).unwrap();
        let ix = open(&mut store, 0, LogSettings { segment_index_bytes, ..LogSettings::default() });
        store.append(ix, &batch(1, 300), 0, 1);
        assert_eq!(segments(&store, ix).len() > 1, closed, "{limit}");
    }
}

#[test]
fn a_random_part_is_taken_off_the_age_of_each_segment() {
    const PARTITIONS: i32 = 64;
    let closed_at = |jitter: i64, age: i64| {
        let settings = LogSettings { segment_ms: 1000, segment_jitter_ms: jitter, ..LogSettings::default() };
        let mut store = store();
        let closed = (0..PARTITIONS).filter(|partition| {
            let ix = open(&mut store, *partition, settings);
            store.append(ix, &batch(1, 10), 0, 5_000);
            store.append(ix, &batch(1, 10), 0, 5_000 + age);
            segments(&store, ix).len() > 1
        });
        closed.count()
    };
    let all = PARTITIONS as usize;
    assert_eq!((closed_at(0, 999), closed_at(0, 1000)), (0, all), "no jitter: all at once");
    assert_eq!((closed_at(400, 600), closed_at(400, 1000)), (0, all), "at most the jitter is taken off");
    let some = closed_at(400, 800);
    assert!(some > 10 && some < all - 10, "{some} of {all} at half the jitter");
    let some = closed_at(i64::MAX, 500);
    assert!(some > 10 && some < all - 10, "{some} of {all}: never more than the age itself");
}
