//! The room that the write-ahead log takes: files that are not needed any more are given back while the broker runs,
//! and what is written afterwards is there after a kill.

use ringlog_tests::broker::{Start, folder};
use ringlog_tests::requests::{KEPT_FROM, batch};
use std::path::{Path, PathBuf};

/// Most produce requests of half a MiB until a checkpoint has covered the first file.
const TRIES: usize = 400;

fn wal_files(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for generation in std::fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path()) {
        if generation.is_dir() {
            files.extend(std::fs::read_dir(generation.join("0")).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    files.sort();
    files
}

#[test]
fn a_file_that_is_not_needed_any_more_is_given_back() {
    let data = folder();
    // Files of 16 MiB, of which a start makes the first one smaller.
    let start = || Start::new(data.path()).shards(1).set("wal.max.bytes", 64 << 20);
    let broker = start().ready();
    let first = wal_files(data.path()).swap_remove(0);
    assert!(first.metadata().unwrap().len() < 16 << 20);
    let mut client = broker.client();
    client.create_topic("t", 1, &[]);
    let now = ringlog::clock::wall_ms();
    let value = |n: usize| batch(&[&n.to_be_bytes().repeat(64 << 10)], now, None);
    let mut sent = 0;
    while first.exists() && sent < TRIES {
        assert_eq!(client.produce("t", 0, value(sent)), (0, sent as i64));
        sent += 1;
    }
    assert!(!first.exists(), "{} is kept for nothing", first.display());
    println!("given back after {sent} requests");
    // Some more, so that files are used again, then the end.
    for _ in 0..40 {
        assert_eq!(client.produce("t", 0, value(sent)), (0, sent as i64));
        sent += 1;
    }
    broker.kill();
    let broker = start().ready();
    let stored = broker.client().read_all("t", 0, 0);
    assert_eq!(stored.len(), sent);
    assert!(stored.iter().enumerate().all(|(n, stored)| stored.bytes[KEPT_FROM..] == value(n)[KEPT_FROM..]));
    broker.stop();
}
