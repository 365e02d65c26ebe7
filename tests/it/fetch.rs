//! Fetch and ListOffsets: waiting, limits, sessions, and reading while the log moves underneath.

use kafka_protocol::messages::{FetchRequest, FetchResponse};
use ringlog_tests::broker::{Start, folder};
use ringlog_tests::requests::{
    FETCH, KEPT_FROM, PRODUCE, batch, batches, fetch, fetched, produce, produced, record,
};
use ringlog_tests::rng::Rng;

/// Longer than any test waits: an answer before it was woken.
const LONG_MS: i32 = 25_000;
const NOT_FOUND: i16 = 70;
const OUT_OF_RANGE: i16 = 1;

fn bytes_of(response: &FetchResponse) -> usize {
    fetched(response).map(|(_, data)| data.records.as_ref().map_or(0, |records| records.len())).sum()
}

#[test]
fn a_long_poll_wakes_on_append_wherever_the_partition_is() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut producer = broker.client();
    producer.create_topic("t", 8, &[]);
    let all: Vec<_> = (0..8).map(|p| ("t", p, 0)).collect();
    // Two connections: one on each shard.
    let mut waiting: Vec<_> = (0..2).map(|_| broker.client()).collect();
    for partition in 0..8 {
        let from: Vec<_> = all.iter().map(|(t, p, _)| (*t, *p, i64::from(*p < partition))).collect();
        let ids: Vec<_> = waiting.iter_mut().map(|c| c.send(&fetch(LONG_MS, 1, &from), FETCH)).collect();
        assert_eq!(producer.produce("t", partition, record(b"wake")), (0, 0));
        for (client, id) in waiting.iter_mut().zip(ids) {
            let response = client.receive::<FetchRequest>(FETCH, id);
            let full =
                fetched(&response).filter(|(_, data)| data.records.as_ref().is_some_and(|r| !r.is_empty()));
            let full: Vec<_> = full.map(|(_, data)| data.partition_index).collect();
            assert_eq!(full, [partition]);
        }
    }
    broker.stop();
}

#[test]
fn min_bytes_waits_for_the_sum_over_shards() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut producer = broker.client();
    producer.create_topic("t", 6, &[]);
    let one = record(&[1; 1000]);
    let all: Vec<_> = (0..6).map(|p| ("t", p, 0)).collect();
    let mut waiting = broker.client();
    let id = waiting.send(&fetch(LONG_MS, 5 * one.len() as i32 + 1, &all), FETCH);
    for partition in 0..6 {
        assert_eq!(producer.produce("t", partition, one.clone()).0, 0);
    }
    let response = waiting.receive::<FetchRequest>(FETCH, id);
    assert_eq!(bytes_of(&response), 6 * one.len());
    // Nothing more comes: the wait ends by itself, and an error ends it at once.
    let from: Vec<_> = (0..6).map(|p| ("t", p, 1)).collect();
    assert_eq!(bytes_of(&waiting.call(&fetch(100, 1, &from), FETCH)), 0);
    let response = waiting.call(&fetch(LONG_MS, 1, &[("t", 0, 1), ("t", 1, 5)]), FETCH);
    let errors: Vec<_> = fetched(&response).map(|(_, data)| data.error_code).collect();
    assert_eq!(errors, [0, OUT_OF_RANGE]);
    broker.stop();
}

#[test]
fn max_bytes_holds_for_the_whole_response_and_the_first_batch_always_comes() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut client = broker.client();
    client.create_topic("t", 6, &[]);
    let one = record(&[1; 10_000]);
    for n in 0..36 {
        assert_eq!(client.produce("t", n % 6, one.clone()).0, 0);
    }
    let all: Vec<_> = (0..6).map(|p| ("t", p, 0)).collect();
    for max in [1, 10_000, 25_000, 60_000, 100_000] {
        let response = client.call(&fetch(0, 1, &all).with_max_bytes(max), FETCH);
        let got = bytes_of(&response);
        assert!(got >= one.len(), "the first batch comes whatever the limit: {got}");
        assert!(got <= (max as usize).max(one.len()), "{got} bytes where {max} were allowed");
        if max >= 25_000 {
            assert!(got > max as usize - one.len(), "{got} bytes where {max} were allowed");
        }
    }
    // A partition's own limit: one batch where the response is empty so far, none behind it.
    let mut small = fetch(0, 1, &all);
    small.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 1);
    let response = client.call(&small, FETCH);
    let full = fetched(&response).filter(|(_, data)| data.records.as_ref().is_some_and(|r| !r.is_empty()));
    assert_eq!(full.count(), 1);
    broker.stop();
}

#[test]
fn sessions_are_kept_found_rotated_and_evicted() {
    let data = folder();
    let broker = Start::new(data.path()).set("max.incremental.fetch.session.cache.slots", 2).ready();
    let mut client = broker.client();
    client.create_topic("t", 4, &[]);
    let all: Vec<_> = (0..4).map(|p| ("t", p, 0)).collect();
    let opened = client.call(&fetch(0, 0, &all).with_session_epoch(0), FETCH);
    let id = opened.session_id;
    assert!(id != 0 && fetched(&opened).count() == 4);
    let next = |epoch| fetch(0, 0, &[]).with_session_id(id).with_session_epoch(epoch);
    assert_eq!(fetched(&client.call(&next(1), FETCH)).count(), 0, "nothing changed");
    assert_eq!(client.produce("t", 2, record(b"new")).0, 0);
    // Another connection is on the other shard: the session is found.
    let mut other = broker.client();
    let response = other.call(&next(2), FETCH);
    assert_eq!((response.error_code, response.session_id), (0, id));
    let changed: Vec<_> = fetched(&response).map(|(_, data)| data.partition_index).collect();
    assert_eq!(changed, [2]);
    assert_eq!(client.call(&next(9), FETCH).error_code, 71, "INVALID_FETCH_SESSION_EPOCH");
    assert_eq!(client.call(&next(1).with_session_id(id ^ 0x55), FETCH).error_code, NOT_FOUND);
    // Partitions take turns at the front, so that none starves behind a limit.
    for partition in 0..4 {
        for _ in 0..20 {
            assert_eq!(client.produce("t", partition, record(&[4; 5000])).0, 0);
        }
    }
    let mut seen = [false; 4];
    for epoch in 3..11 {
        let response = client.call(&next(epoch).with_max_bytes(6000), FETCH);
        assert_eq!(response.error_code, 0);
        let full =
            fetched(&response).filter(|(_, data)| data.records.as_ref().is_some_and(|r| !r.is_empty()));
        full.for_each(|(_, data)| seen[data.partition_index as usize] = true);
    }
    assert_eq!(seen, [true; 4], "a partition starved");
    // A session ends when asked to, and is then unknown.
    client.call(&fetch(0, 0, &[]).with_session_id(id).with_session_epoch(-1), FETCH);
    assert_eq!(client.call(&next(11), FETCH).error_code, NOT_FOUND);
    // More sessions than there are slots: those without one get id 0, and all of them are served.
    for _ in 0..20 {
        let response = broker.client().call(&fetch(0, 0, &all).with_session_epoch(0), FETCH);
        assert_eq!((response.error_code, fetched(&response).count()), (0, 4));
    }
    broker.stop();
}

#[test]
fn offsets_by_time_over_sealed_segments_the_active_one_and_the_tail() {
    let data = folder();
    let mut broker = Start::new(data.path()).shards(1).ready();
    broker.client().create_topic("t", 1, &[("segment.bytes", "1048576"), ("retention.ms", "-1")]);
    let start = 1_700_000_000_000;
    for life in 0..2 {
        let mut client = broker.client();
        for n in 0..50 {
            let n = life * 50 + n;
            // Two records a batch: the answer is a record's offset, not its batch's.
            let records = batch(&[&[1; 30_000], &[2; 30_000]], start + n * 1000, None);
            assert_eq!(client.produce("t", 0, records), (0, 2 * n));
        }
        let end = life * 50 + 50;
        for n in 0..end {
            assert_eq!(client.list_offset("t", 0, start + n * 1000), (0, start + n * 1000, 2 * n));
            let between = if n + 1 < end { (0, start + (n + 1) * 1000, 2 * (n + 1)) } else { (0, -1, -1) };
            assert_eq!(client.list_offset("t", 0, start + n * 1000 + 1), between);
        }
        assert_eq!(client.list_offset("t", 0, -2), (0, -1, 0));
        assert_eq!(client.list_offset("t", 0, -1), (0, -1, 2 * end));
        let (error, timestamp, _) = client.list_offset("t", 0, -3);
        assert_eq!((error, timestamp), (0, start + (end - 1) * 1000));
        assert_eq!(client.delete_records("t", 0, 11), (0, 11));
        assert_eq!(client.list_offset("t", 0, -2), (0, -1, 11));
        assert_eq!(client.fetch("t", 0, 10).error_code, OUT_OF_RANGE);
        assert_eq!(client.fetch("t", 0, 2 * end + 1).error_code, OUT_OF_RANGE);
        broker.kill();
        broker = Start::new(data.path()).shards(2).ready();
        assert_eq!(broker.client().list_offset("t", 0, -2), (0, -1, 11));
        // Reading from the middle of a batch gives the whole batch.
        assert_eq!(batches(broker.client().fetch("t", 0, 11).records.unwrap())[0].base, 10);
        if life == 0 {
            broker.client().delete_topic("t");
            broker.client().create_topic("t", 1, &[("segment.bytes", "1048576"), ("retention.ms", "-1")]);
            let mut client = broker.client();
            for n in 0..50 {
                let records = batch(&[&[1; 30_000], &[2; 30_000]], start + n * 1000, None);
                assert_eq!(client.produce("t", 0, records), (0, 2 * n));
            }
        }
    }
    broker.stop();
}

#[test]
fn everything_is_read_back_from_cold_segments() {
    const BATCHES: usize = 800;
    let data = folder();
    let start = Start::new(data.path()).set("ringlog.memory.bytes", 16 << 20).set("wal.max.bytes", 16 << 20);
    let broker = start.ready();
    let mut client = broker.client();
    client.create_topic("t", 2, &[("segment.bytes", "4194304")]);
    client.create_topic("large", 1, &[]);
    let mut rng = Rng::from_env("cold");
    let places = [("t", 0), ("t", 1), ("large", 0)];
    let sent: Vec<_> = (0..BATCHES)
        .map(|n| {
            let size = [100, 50_000, 200_000][rng.below(3)];
            (places[n % 3], record(&rng.bytes(size)))
        })
        .collect();
    for chunk in sent.chunks(8) {
        let ids: Vec<_> = chunk
            .iter()
            .map(|((topic, p), batch)| client.send(&produce(-1, &[(topic, *p, batch.clone())]), PRODUCE))
            .collect();
        for id in ids {
            let response = client.receive::<kafka_protocol::messages::ProduceRequest>(PRODUCE, id);
            assert_eq!(produced(&response)[0].0, 0);
        }
    }
    for place in places {
        let expected: Vec<_> = sent.iter().filter(|(other, _)| *other == place).collect();
        let stored = client.read_all(place.0, place.1, 0);
        assert_eq!(stored.len(), expected.len());
        for (at, (stored, (_, sent))) in stored.iter().zip(&expected).enumerate() {
            assert_eq!((stored.base, stored.end), (at as i64, at as i64 + 1));
            assert!(stored.bytes[KEPT_FROM..] == sent[KEPT_FROM..], "{place:?} {at} came back changed");
        }
        // And from random places.
        for _ in 0..30 {
            let at = rng.below(expected.len());
            let found = batches(client.fetch(place.0, place.1, at as i64).records.unwrap());
            assert!(found[0].bytes[KEPT_FROM..] == expected[at].1[KEPT_FROM..], "{place:?} {at}");
        }
    }
    broker.stop();
}

#[test]
fn reading_while_segments_roll_and_go() {
    const LAST: i64 = 400;
    let data = folder();
    let broker = Start::new(data.path()).set("log.retention.check.interval.ms", 1000).ready();
    let mut producer = broker.client();
    producer.create_topic("t", 2, &[("segment.bytes", "1048576"), ("retention.bytes", "3145728")]);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|partition| {
                let mut client = broker.client();
                scope.spawn(move || {
                    let mut next = 0;
                    let mut read = 0;
                    while next < LAST {
                        let response = client.call(&fetch(500, 1, &[("t", partition, next)]), FETCH);
                        let (_, data) = fetched(&response).next().expect("one partition");
                        if data.error_code == OUT_OF_RANGE {
                            let (error, _, start) = client.list_offset("t", partition, -2);
                            assert!(
                                error == 0 && start > next,
                                "out of range at {next}, the log starts at {start}"
                            );
                            next = start;
                            continue;
                        }
                        assert_eq!(data.error_code, 0);
                        for found in batches(data.records.clone().unwrap_or_default()) {
                            assert_eq!(found.base, next, "a hole");
                            let value = next.to_be_bytes().repeat(5000);
                            assert!(
                                found.bytes.windows(200).any(|w| w == &value[..200]),
                                "other bytes at {next}"
                            );
                            next = found.end;
                            read += 1;
                        }
                    }
                    read
                })
            })
            .collect();
        for n in 0..LAST {
            for partition in 0..2 {
                assert_eq!(producer.produce("t", partition, record(&n.to_be_bytes().repeat(5000))), (0, n));
            }
            if n % 50 == 49 {
                let (error, start) = producer.delete_records("t", 0, n - 30);
                assert!(error == 0 && start >= n - 30);
            }
        }
        for reader in readers {
            assert!(reader.join().unwrap() > 50);
        }
    });
    broker.stop();
}
