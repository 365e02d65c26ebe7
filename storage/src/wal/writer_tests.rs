//! Tests of the WAL's writer.

use super::*;
use crate::wal::scan::{Found, decide, find_commits};
use proptest::prelude::*;
use uuid::Uuid;

impl CommitBuffer for Vec<u8> {
    fn with_capacity(bytes: usize) -> Vec<u8> {
        vec![0xee; bytes]
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
    fn cut(&mut self, bytes: usize) {
        self.truncate(bytes);
    }
}

fn usage(use_id: u64, sequence: u64) -> FileUse {
    FileUse { generation: 1, use_id, sequence, file_bytes: 1 << 20, first_lsn: 1, shard: 0 }
}

fn writer(in_flight: usize) -> WalWriter<Vec<u8>> {
    let settings = WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: in_flight };
    WalWriter::new(settings, usage(100, 1))
}

fn key() -> PartitionKey {
    PartitionKey { topic: Uuid::from_u128(1), partition: 0 }
}

fn append(wal: &mut WalWriter<Vec<u8>>, len: usize) -> Lsn {
    let batch = vec![1; len];
    wal.append(&key(), &Frame::Append { segment: 0, position: 0, batch: (&batch, &[]) })
}

#[test]
fn durable_moves_in_lsn_order_whatever_order_commits_complete_in() {
    let mut wal = writer(4);
    let commits: Vec<_> = (0..3)
        .map(|_| {
            append(&mut wal, 10);
            wal.submit().unwrap().commit
        })
        .collect();
    assert_eq!(wal.written(commits[2]), None);
    assert_eq!(wal.written(commits[1]), None);
    assert_eq!(wal.written(commits[0]), Some(3));
    assert_eq!(wal.backlog_bytes(), 0);
}

#[test]
fn beyond_the_commits_in_flight_the_filling_commit_grows() {
    let mut wal = writer(1);
    append(&mut wal, 10);
    let first = wal.submit().unwrap();
    append(&mut wal, 10);
    append(&mut wal, 10);
    assert!(wal.submit().is_none());
    wal.written(first.commit);
    let second = wal.submit().unwrap();
    assert_eq!(second.position, first.position + BLOCK as u64);
    assert_eq!(wal.written(second.commit), Some(3));
}

#[test]
fn an_idle_log_states_its_durable_lsn_once() {
    let mut wal = writer(4);
    append(&mut wal, 10);
    let commit = wal.submit().unwrap().commit;
    wal.state_durable();
    assert!(wal.submit().is_none(), "not idle");
    wal.written(commit);
    assert!(wal.has_unstated());
    wal.state_durable();
    let statement = wal.submit().unwrap();
    assert_eq!(wal.written(statement.commit), None);
    assert!(!wal.has_unstated());
    wal.state_durable();
    assert!(wal.submit().is_none());
}

#[test]
fn a_full_log_stalls_until_a_checkpoint_frees_a_file() {
    let mut wal = writer(4);
    let mut use_id = 200;
    let mut stalled = false;
    for _ in 0..200 {
        append(&mut wal, 100_000);
        while let Some(submission) = wal.submit() {
            wal.written(submission.commit);
        }
        use_id += 1;
        if let Some(request) = wal.wants_file(use_id, false) {
            wal.file_ready(request.file);
        }
        wal.check();
        if wal.is_stalled() {
            stalled = true;
            let covered = wal.durable();
            wal.recycle(covered);
            let request = wal.wants_file(use_id + 1000, false).expect("a free file is used again");
            assert!(!request.fresh);
            wal.file_ready(request.file);
            assert!(wal.submit().is_some());
            break;
        }
    }
    assert!(stalled, "4 MiB of files are not endless");
}

/// Appends and writes until the log stalls, preparing each file that it wants.
fn fill(wal: &mut WalWriter<Vec<u8>>, beyond_limit: usize) {
    let mut beyond = 0;
    for use_id in 1000.. {
        append(wal, 100_000);
        while let Some(submission) = wal.submit() {
            wal.written(submission.commit);
        }
        let request = wal.wants_file(use_id, false).or_else(|| {
            beyond += usize::from(wal.is_stalled());
            wal.wants_file(use_id, wal.is_stalled() && beyond <= beyond_limit)
        });
        match request {
            Some(request) => wal.file_ready(request.file),
            None if wal.is_stalled() => break,
            None => {}
        }
        wal.check();
    }
}

#[test]
fn files_beyond_the_limit_are_given_back_and_their_numbers_used_again() {
    let mut wal = writer(4);
    fill(&mut wal, 3);
    assert!(wal.disk_bytes() > 6 << 20, "a checkpoint needed room beyond the 4 MiB");
    assert_eq!(wal.surplus_file(), None, "all of it is needed");
    wal.recycle(wal.durable());
    let before = wal.disk_bytes();
    let file = wal.surplus_file().expect("more than 4 MiB");
    assert_eq!(wal.surplus_file(), None, "one at a time");
    assert_eq!(wal.disk_bytes(), before, "it is on the disk until it is removed");
    wal.file_removed(file);
    let mut gone = vec![file];
    while let Some(file) = wal.surplus_file() {
        wal.file_removed(file);
        gone.push(file);
        wal.check();
    }
    assert!(wal.disk_bytes() <= 4 << 20 && wal.disk_bytes() > 3 << 20, "{gone:?}: no more than need be");
    // A later burst takes the lowest of the numbers first, and makes the file anew.
    let lowest = *gone.iter().min().expect("some went");
    fill(&mut wal, 0);
    let request = wal.wants_file(7, true).expect("beyond the limit");
    assert_eq!((request.file, request.fresh), (lowest, true));
    wal.file_failed(&request);
    wal.check();
    let again = wal.wants_file(8, true).expect("what failed is asked for again");
    assert_eq!((again.file, again.fresh), (lowest, true));
}

#[test]
fn a_file_too_small_to_be_used_again_is_given_back() {
    let settings = WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: 4 };
    let mut wal = WalWriter::new(settings, FileUse { file_bytes: 256 << 10, ..usage(100, 1) });
    while wal.disk_bytes() < 2 << 20 {
        append(&mut wal, 100_000);
        while let Some(submission) = wal.submit() {
            wal.written(submission.commit);
        }
        if let Some(request) = wal.wants_file(wal.next_lsn(), false) {
            wal.file_ready(request.file);
        }
    }
    wal.recycle(wal.durable());
    assert_eq!(wal.surplus_file(), Some(0));
}

#[test]
fn a_frame_larger_than_a_file_gets_a_file_of_its_size() {
    let mut wal = writer(4);
    append(&mut wal, 3 << 20);
    assert!(wal.submit().is_none());
    let request = wal.wants_file(7, false).expect("a larger file");
    assert!(request.usage.file_bytes > 3 << 20);
    wal.file_ready(request.file);
    assert!(wal.submit().is_some());
}

proptest! {
    /// What is written reads back through the scan, frame for frame.
    #[test]
    fn recovery_finds_what_was_written(lens in proptest::collection::vec(0usize..9000, 1..60), together in 1usize..5) {
        let mut wal = writer(4);
        let mut disk = vec![0u8; 1 << 20];
        let mut count = 0u64;
        for chunk in lens.chunks(together) {
            for len in chunk {
                append(&mut wal, *len);
                count += 1;
            }
            while let Some(s) = wal.submit() {
                disk[s.position as usize..][..s.buffer.len()].copy_from_slice(&s.buffer);
                wal.written(s.commit);
            }
        }
        prop_assert_eq!(wal.durable(), count);
        let found = find_commits(&disk, &usage(100, 1)).into_iter().map(|info| Found { file: 0, info }).collect();
        let verdict = decide(found, 0, 0).unwrap();
        prop_assert_eq!(verdict.end, count);
    }
}
