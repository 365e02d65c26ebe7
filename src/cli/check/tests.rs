//! Damage of every kind: found, repaired where it can be, refused where not.
//!
//! The data folder is made by the storage itself, driven in this process: commits written at once, jobs run inline.

use super::look::look;
use super::repair::repair;
use super::report::{Finding, Repair};
use crate::control::metadata_log::{self, MetadataLog};
use crate::machine::metadata::{Batch, Partition, Record};
use crate::node::shard_of;
use crate::version_file::{self, FORMAT, VersionFile};
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{BatchBuilder, Compression, Rules, TimestampType, check};
use ringlog_storage::compression::Codec;
use ringlog_storage::disk::{Disk, RealDisk};
use ringlog_storage::job::{Files, run};
use ringlog_storage::layout;
use ringlog_storage::reader::Segments;
use ringlog_storage::recovery::{Error, Plan, Recovered, recover};
use ringlog_storage::store::{LogSettings, ReadPlan, Store, StoreSettings};
use ringlog_storage::wal::writer::{CommitBuffer, WalSettings};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const CLUSTER: Uuid = Uuid::from_u128(0xc1);
const TOPIC: Uuid = Uuid::from_u128(0x70);
const SHARDS: u32 = 1;

struct Buffer(Vec<u8>);

impl CommitBuffer for Buffer {
    fn with_capacity(bytes: usize) -> Buffer {
        Buffer(vec![0; bytes])
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn cut(&mut self, bytes: usize) {
        self.0.truncate(bytes);
    }
}

fn key(partition: i32) -> PartitionKey {
    PartitionKey { topic: TOPIC, partition }
}

/// A data folder of a broker that is stopped.
struct Lab {
    dir: tempfile::TempDir,
    disk: RealDisk,
}

impl Lab {
    /// A topic `t` with three partitions and no data.
    fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        let version =
            VersionFile { format: FORMAT, cluster_id: CLUSTER, node_id: 1, directory_id: Uuid::from_u128(1) };
        version_file::write(&disk, &version).unwrap();
        let committed = metadata_log::read(&disk).unwrap();
        let mut log = MetadataLog::open(Arc::new(RealDisk::new(dir.path())), &committed).unwrap();
        let mut records =
            vec![Record::Cluster { id: CLUSTER }, Record::Topic { id: TOPIC, name: "t".to_owned() }];
        for index in 0..3 {
            let partition = Partition {
                replicas: vec![1],
                isr: vec![1],
                elr: Vec::new(),
                last_known_leader: None,
                leader: Some(1),
                leader_epoch: 0,
                partition_epoch: 0,
            };
            records.push(Record::Partition { topic: TOPIC, index, partition });
        }
        log.append(&[Batch { offset: 0, timestamp_ms: 1, records }.encode()]).unwrap();
        Lab { dir, disk }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn recover(&self) -> Result<Recovered, Error> {
        let mut ids = 7;
        let mut plan = Plan {
            shards: SHARDS,
            shard_of: &|key| u32::try_from(shard_of(key, SHARDS as usize)).unwrap(),
            knows: &|topic| topic == TOPIC,
            expects_data: false,
            random: &mut || {
                ids += 1;
                ids
            },
            first_file_bytes: 1 << 20,
        };
        recover(&self.disk, &mut plan)
    }

    fn start(&self) -> Life<'_> {
        let state = self.recover().unwrap().shards.remove(0);
        let settings = StoreSettings {
            wal: WalSettings { file_bytes: 1 << 20, max_bytes: 8 << 20, commits_in_flight: 4 },
            memory_bytes: 1 << 20,
            checkpoint_bytes: 4 << 20,
            checkpoint_ms: 1_000_000,
        };
        Life { lab: self, store: Store::new(settings, state, 5), files: Files::new(8) }
    }

    fn flip(&self, path: &str, at: u64) {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(self.path(path)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x20], at).unwrap();
    }

    fn findings(&self) -> Vec<Finding> {
        look(&self.disk).unwrap().1.findings
    }

    fn repair(&self, accept: &[&str]) -> Result<Vec<String>, String> {
        let (folder, report) = look(&self.disk).unwrap();
        let accept: Vec<String> = accept.iter().map(|name| (*name).to_owned()).collect();
        repair(&self.disk, &folder, &report, &accept).map_err(|failure| failure.to_string())
    }

    /// Every file with its bytes.
    fn all_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn below(dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    below(&path, out)
                } else {
                    out.push((path.clone(), std::fs::read(&path).unwrap()))
                }
            }
        }
        let mut out = Vec::new();
        below(self.dir.path(), &mut out);
        out.sort();
        out
    }
}

/// A broker's storage while it runs.
struct Life<'a> {
    lab: &'a Lab,
    store: Store<Buffer>,
    files: Files,
}

fn rules() -> Rules {
    Rules {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        compression: Compression::Producer,
        keys_required: false,
        decompressed_max_bytes: 1 << 20,
        zstd_allowed: true,
        from_coordinator: false,
    }
}

fn log_settings() -> LogSettings {
    LogSettings { segment_bytes: 16 << 10, ..LogSettings::default() }
}

impl Life<'_> {
    /// Does all commits and jobs that there are.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some((submission, path)) = self.store.next_commit() {
                let file = std::fs::OpenOptions::new().write(true).open(self.lab.path(&path)).unwrap();
                file.write_all_at(&submission.buffer.0, submission.position).unwrap();
                self.store.commit_written(submission.commit);
                moved = true;
            }
            while let Some((id, job)) = self.store.next_job() {
                let output = run(&self.lab.disk, &self.files, job).unwrap();
                self.store.job_done(id, output);
                moved = true;
            }
            while self.store.next_event().is_some() {}
            if !moved {
                return;
            }
        }
    }

    /// Appends a batch of 1 KiB with two records and makes it durable.
    fn append(&mut self, partition: i32) {
        let ix = self.store.open(key(partition), log_settings());
        if self.store.must_load_block(ix) {
            self.settle();
            assert!(!self.store.must_load_block(ix));
        }
        let mut builder = BatchBuilder::new(Codec::None);
        for _ in 0..2 {
            builder.push(1_000, Some(b"k"), Some(&[b'v'; 500]), &[]);
        }
        let batch = builder.build(0, -1);
        let checked = check(&batch, &rules(), 1_000).unwrap();
        self.store.append(ix, &checked, 0, 1_000);
        self.settle();
    }

    fn checkpoint(&mut self) {
        self.store.begin_checkpoint();
        self.settle();
        assert!(!self.store.is_checkpointing());
    }

    fn end(&mut self, partition: i32) -> i64 {
        let ix = self.store.open(key(partition), log_settings());
        self.store.end_offset(ix)
    }

    /// Reads a partition from its start to its end; returns the offset after the last record read.
    fn read_all(&mut self, partition: i32) -> i64 {
        let ix = self.store.open(key(partition), log_settings());
        let segments = Segments::new(4);
        let (mut at, end) = (self.store.start_offset(ix), self.store.end_offset(ix));
        while at < end {
            match self.store.read(ix, at, end, 1 << 20) {
                ReadPlan::Cold(read) => {
                    at = segments.read(&self.lab.disk, &read, at, end, 1 << 20).unwrap().1
                }
                ReadPlan::Tail(read) => at = read.end_offset,
                ReadPlan::Empty | ReadPlan::OutOfRange => panic!("nothing at {at} below {end}"),
            }
        }
        at
    }
}

/// Partition 0 with several segments, partition 1 with a little, all in segments and in a checkpoint; then a few more
/// batches that only the log has.
fn filled() -> Lab {
    let lab = Lab::new();
    let mut life = lab.start();
    for _ in 0..50 {
        life.append(0);
    }
    for _ in 0..7 {
        life.append(1);
    }
    life.checkpoint();
    life.append(0);
    life.append(1);
    drop(life);
    lab
}

/// Base offsets of a partition's segments on disk.
fn bases(lab: &Lab, partition: i32) -> Vec<i64> {
    let entries = lab.disk.list(&layout::partition_dir(&key(partition))).unwrap();
    entries.iter().filter_map(|e| e.name.strip_suffix(".log")?.parse().ok()).collect()
}

#[test]
fn a_good_folder_has_no_findings_and_is_left_as_it_is() {
    let lab = filled();
    let before = lab.all_files();
    let (folder, report) = look(&lab.disk).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.segments >= 4 && report.batches == 57, "{report:?}");
    assert_eq!((folder.partitions[&key(0)].end, folder.partitions[&key(1)].end), (102, 16));
    assert!(lab.all_files() == before, "a check changes nothing");
}

#[test]
fn a_damaged_sealed_segment_is_cut_at_the_last_good_batch() {
    let lab = filled();
    let all = bases(&lab, 0);
    let damaged = all[1];
    let path = layout::segment_file(&key(0), damaged);
    let whole = std::fs::read(lab.path(&path)).unwrap();
    lab.flip(&path, 2_500);
    let findings = lab.findings();
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = &findings[0];
    assert_eq!((finding.path.as_str(), finding.touches[0].from), (path.as_str(), damaged + 4));
    assert_eq!(finding.touches[0].to, damaged + 6, "one batch of two records is touched");
    assert_eq!(
        (finding.loses[0].from, finding.loses[0].to, finding.loses[0].name()),
        (damaged + 4, 102, "t/0".into())
    );
    let Repair::Truncate { bytes, end, .. } = finding.repair else { panic!("{finding:?}") };
    assert_eq!(end, damaged + 4);

    assert!(lab.repair(&[]).unwrap().is_empty(), "nothing is given up unasked");
    assert!(lab.repair(&["t/9"]).unwrap_err().contains("no partition t/9"));
    lab.repair(&["t/0"]).unwrap();
    assert_eq!(lab.findings(), []);
    let aside = format!("stray/damaged/{TOPIC}/0/{damaged:020}.from-{bytes}");
    let kept = std::fs::read(lab.path(&aside)).unwrap();
    assert_eq!(kept.len() as u64 + bytes, whole.len() as u64, "the damaged bytes are kept");
    assert_eq!(kept[4096..], whole[bytes as usize + 4096..]);
    let later = std::fs::read(lab.path(&format!("stray/damaged/{TOPIC}/0/{:020}.from-0", all[2]))).unwrap();
    assert!(!later.is_empty(), "segments behind the damage are kept, too");

    let mut life = lab.start();
    assert_eq!((life.end(0), life.end(1)), (damaged + 4, 16));
    assert_eq!(life.read_all(0), damaged + 4);
    for _ in 0..20 {
        life.append(0);
    }
    life.checkpoint();
    assert_eq!(life.read_all(0), damaged + 44);
    drop(life);
    assert_eq!(lab.findings(), []);
    assert_eq!(lab.start().read_all(0), damaged + 44);
}

#[test]
fn damage_at_the_start_of_a_segment_or_a_missing_one_ends_the_log_there() {
    for is_missing in [false, true] {
        let lab = filled();
        let damaged = bases(&lab, 0)[2];
        let path = layout::segment_file(&key(0), damaged);
        if is_missing {
            std::fs::remove_file(lab.path(&path)).unwrap();
        } else {
            lab.flip(&path, 100);
        }
        assert_eq!(lab.findings()[0].loses[0].from, damaged);
        lab.repair(&[&format!("{TOPIC}/0")]).unwrap();
        let mut life = lab.start();
        assert_eq!((life.end(0), life.read_all(0)), (damaged, damaged));
        life.append(0);
        assert_eq!(life.read_all(0), damaged + 2);
    }
}

#[test]
fn a_damaged_active_segment_loses_what_the_log_still_has_behind_it_too() {
    let lab = filled();
    let path = layout::segment_file(&key(1), 0);
    // In the second of seven batches.
    lab.flip(&path, 1_500);
    let findings = lab.findings();
    let loses = (findings[0].loses[0].from, findings[0].loses[0].to);
    assert_eq!((findings.len(), loses), (1, (2, 16)));
    let damaged = std::fs::read(lab.path(&path)).unwrap();
    lab.repair(&["t/1"]).unwrap();
    let mut life = lab.start();
    assert_eq!((life.end(1), life.read_all(1), life.read_all(0)), (2, 2, 102));
    life.append(1);
    life.append(1);
    assert_eq!(life.read_all(1), 6);
    life.checkpoint();
    drop(life);
    assert_eq!(lab.findings(), []);
    let Repair::Truncate { bytes, .. } = findings[0].repair else { panic!("{findings:?}") };
    let aside = format!("stray/damaged/{TOPIC}/1/{:020}.from-{bytes}", 0);
    let kept = std::fs::read(lab.path(&aside)).unwrap();
    assert!(kept.starts_with(&damaged[bytes as usize..3_000]), "the damaged bytes are kept");
}

#[test]
fn what_the_log_still_holds_is_taken_from_there() {
    let lab = filled();
    // In the last block, which the log has an image of since it was appended to again.
    lab.flip(&layout::segment_file(&key(1), 0), 6_000);
    assert_eq!(lab.findings().len(), 1);
    let done = lab.repair(&["t/1"]).unwrap();
    assert!(done.len() == 1 && done[0].contains("nothing is lost"), "{done:?}");
    assert_eq!(lab.findings(), []);
    assert_eq!(lab.start().read_all(1), 16);
}

#[test]
fn a_damaged_index_is_removed_without_loss() {
    let lab = filled();
    let index = layout::index_file(&key(0), bases(&lab, 0)[0]);
    lab.flip(&index, 60);
    let findings = lab.findings();
    assert_eq!((findings.len(), &findings[0].repair), (1, &Repair::RemoveIndex));
    lab.repair(&[]).unwrap();
    assert!(!lab.path(&index).exists());
    assert_eq!(lab.findings(), []);
}

#[test]
fn a_hole_in_the_log_is_cut_only_when_all_that_lose_are_named() {
    let lab = Lab::new();
    let mut life = lab.start();
    for partition in [0, 1, 0, 1, 0] {
        life.append(partition);
    }
    drop(life);
    let log = "wal/1/0/00000000.wal";
    // The third of five commits, of one block each behind the file's head.
    lab.flip(log, 3 * 4096 + 300);
    assert!(matches!(lab.recover(), Err(Error::Damaged { .. })), "the broker refuses to start");
    let findings = lab.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].path.as_str(), findings[0].position), (log, Some(3 * 4096)));
    let loses: Vec<_> = findings[0].loses.iter().map(|o| (o.name(), o.from, o.to)).collect();
    assert_eq!(loses, [("t/0".to_owned(), 2, 6), ("t/1".to_owned(), 2, 4)]);
    let before = lab.all_files();
    assert!(lab.repair(&["t/0"]).unwrap_err().contains("--accept-loss t/1"));
    assert!(lab.all_files() == before, "a refusal changes nothing");
    lab.repair(&["t/0", "t/1"]).unwrap();
    assert_eq!(lab.findings(), []);
    let copy = std::fs::read(lab.path("stray/damaged/wal-1-0/00000000.wal")).unwrap();
    assert!(
        before.iter().any(|(path, bytes)| path.ends_with(log) && *bytes == copy),
        "the log is kept as it was"
    );
    let mut life = lab.start();
    assert_eq!((life.read_all(0), life.read_all(1)), (2, 2));
    life.append(0);
    assert_eq!(life.read_all(0), 4);
}

#[test]
fn a_hole_that_cannot_be_read_may_touch_every_partition_of_the_shard() {
    let lab = Lab::new();
    let mut life = lab.start();
    for partition in [2, 0, 1, 0] {
        life.append(partition);
    }
    drop(life);
    // The commit's head itself.
    lab.flip("wal/1/0/00000000.wal", 3 * 4096 + 2);
    let findings = lab.findings();
    let names: Vec<_> = findings[0].loses.iter().map(super::report::Offsets::name).collect();
    assert!(findings[0].what.contains("cannot be told"));
    assert_eq!(names, ["t/0", "t/2"], "t/1 is known to nobody any more");
    assert!(lab.repair(&["t/0"]).is_err());
}

#[test]
fn what_cannot_be_repaired_is_refused() {
    let lab = filled();
    let current = layout::read_current(&lab.disk).unwrap().unwrap();
    let checkpoint = layout::checkpoint_file(current.generation, 0, 1);
    lab.flip(&checkpoint, 70);
    let findings = lab.findings();
    assert_eq!((findings.len(), findings[0].path.as_str()), (1, checkpoint.as_str()));
    assert!(lab.repair(&["t/0"]).unwrap_err().contains("cannot repair"));

    for path in ["VERSION", "wal/CURRENT", "metadata/000000000001.log"] {
        let lab = filled();
        // The middle of the metadata's one commit; anywhere in the others.
        lab.flip(path, if path.starts_with("metadata") { 4096 + 90 } else { 3 });
        let found = lab.findings();
        assert!(path.starts_with("metadata") || !found.is_empty(), "{path}");
    }
}

#[test]
fn a_generation_file_that_says_nothing_is_named_with_what_to_do() {
    let damaged = filled();
    damaged.flip(layout::CURRENT, 0);
    let missing = filled();
    std::fs::remove_file(missing.path(layout::CURRENT)).unwrap();
    for (lab, what) in [(damaged, "it is damaged"), (missing, "it is missing")] {
        let findings = lab.findings();
        assert_eq!(findings.len(), 1, "{findings:?}");
        let text = findings[0].text();
        assert!(text.starts_with(&format!("wal/CURRENT: {what}")), "{text}");
        assert!(text.contains("restore it from a copy"), "{text}");
        assert!(lab.repair(&["t/0"]).is_err(), "nothing can be told of the log");
    }
}

#[test]
fn strangers_are_found_and_what_was_set_aside_is_noted() {
    let lab = filled();
    std::fs::write(lab.path("topics/notes.txt"), b"x").unwrap();
    std::fs::write(lab.path(&format!("{}/00000000000000009999.log", layout::partition_dir(&key(0)))), b"x")
        .unwrap();
    std::fs::create_dir_all(lab.path("stray/old")).unwrap();
    std::fs::create_dir_all(lab.path(&layout::topic_dir(Uuid::from_u128(9)))).unwrap();
    let (_, report) = look(&lab.disk).unwrap();
    let paths: Vec<_> = report.findings.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    assert!(paths.contains(&"topics/notes.txt"));
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
}
