//! Tests of searching by timestamp.

use super::*;
use crate::disk::RealDisk;
use crate::store::LogSettings;
use crate::store::fixture::{batch, commit_all, open, store};
use std::path::Path;

/// Bytes of each batch of these tests' searches, about.
const BATCH_BYTES: usize = 1000;

fn found(search: &TimeSearch) -> Option<i64> {
    // Nothing is in a file: it would be missed.
    let found = search.run(&Segments::new(1), &RealDisk::new(Path::new("/nowhere"))).unwrap();
    found.map(|found| found.offset)
}

#[test]
fn a_search_looks_only_at_what_may_hold_the_timestamp() {
    const COUNT: i64 = 2000;
    let mut store = store();
    let ix = open(&mut store, 0, LogSettings::default());
    // Some 4 MiB in memory, none of it in a file: times go up by 10.
    for n in 0..COUNT {
        store.append(ix, &batch(n * 10, 2 * BATCH_BYTES), 0, 1);
    }
    for n in [0, 1, 700, 1998, 1999] {
        let search = store.search(ix, n * 10 - 3, COUNT);
        assert_eq!(found(&search), Some(n));
        // What lies before it, but for the index's interval, is left alone.
        let behind = (COUNT - n) as usize * (2 * BATCH_BYTES + 100);
        assert!(search.tail_bytes() < behind + 3 * 4096, "{n}: {} bytes", search.tail_bytes());
    }
    let beyond = store.search(ix, COUNT * 10, COUNT);
    assert_eq!((found(&beyond), beyond.tail_bytes()), (None, 0));
    assert_eq!(found(&store.search(ix, 15_000, 1500)), None, "it is not below the limit");
    assert_eq!(found(&store.search(ix, 14_990, 1500)), Some(1499));
    store.advance_start(ix, 1200);
    assert_eq!(found(&store.search(ix, 50, COUNT)), Some(1200), "the first that may be read");
}

#[test]
fn times_that_go_up_and_down_over_several_segments() {
    let mut store = store();
    let settings =
        LogSettings { segment_bytes: 10 << 10, index_interval_bytes: 500, ..LogSettings::default() };
    let ix = open(&mut store, 0, settings);
    let times: Vec<i64> = (0..100).map(|n| (n * 37) % 101 + n / 10).collect();
    for time in &times {
        store.append(ix, &batch(*time, BATCH_BYTES), 0, 1);
    }
    assert!(store.segments(ix).len() > 5);
    for start in [0, 1, 33, 98] {
        if start > 0 {
            store.advance_start(ix, start);
        }
        for limit in [start, start + 1, 60.max(start), 100] {
            for time in 0..115 {
                let all = times.iter().enumerate().map(|(n, time)| (n as i64, *time));
                let expected =
                    all.filter(|(n, t)| *n >= start && *n < limit && *t >= time).map(|(n, _)| n).next();
                assert_eq!(found(&store.search(ix, time, limit)), expected, "{time} in {start}..{limit}");
            }
        }
    }
}

#[test]
fn the_newest_durable_timestamp_is_that_of_what_is_durable() {
    let mut store = store();
    let ix = open(&mut store, 0, LogSettings { segment_bytes: 3 << 10, ..LogSettings::default() });
    assert_eq!((store.newest_durable(ix), store.newest(ix)), (-1, -1));
    store.append(ix, &batch(100, BATCH_BYTES), 0, 1);
    let (first, _) = store.next_commit().unwrap();
    store.append(ix, &batch(300, BATCH_BYTES), 0, 1);
    assert_eq!((store.newest_durable(ix), store.newest(ix)), (-1, 300));
    store.commit_written(first.commit);
    assert_eq!((store.newest_durable(ix), store.newest(ix)), (100, 300));
    // In a segment that was rolled meanwhile, and with older records behind it.
    for _ in 0..5 {
        store.append(ix, &batch(200, BATCH_BYTES), 0, 1);
    }
    assert_eq!(store.newest_durable(ix), 100);
    commit_all(&mut store);
    assert_eq!((store.newest_durable(ix), store.newest(ix)), (300, 300));
}
