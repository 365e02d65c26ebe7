//! Damage outside the WAL, one kind a test: what it must do and what it must leave alone.

use crate::counts::Counts;
use crate::disk::{SimDisk, Survives};
use crate::model::{self, Change, Cutting, Model, Partition};
use crate::rng::Rng;
use crate::shard::Shard;
use crate::traffic::{Traffic, checked};
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::HEADER_BYTES;
use ringlog_storage::recovery::{Error, Plan, Recovered, recover};
use ringlog_storage::store::{ColdRead, LogSettings, ReadPlan, Store, StoreSettings};
use ringlog_storage::wal::writer::WalSettings;
use uuid::Uuid;

/// A shard with two partitions of several sealed segments, everything at rest on its disk.
struct Folder {
    disk: SimDisk,
    shard: Shard,
    model: Model,
    counts: Counts,
    keys: [PartitionKey; 2],
}

const SETTINGS: StoreSettings = StoreSettings {
    wal: WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: 4 },
    memory_bytes: 0,
    checkpoint_bytes: 1 << 20,
    checkpoint_ms: 100,
};
const LOG: LogSettings = LogSettings {
    segment_bytes: 20_000,
    segment_ms: 1_000_000,
    segment_jitter_ms: 0,
    segment_index_bytes: 10 << 20,
    index_interval_bytes: 500,
};

fn start(disk: &SimDisk) -> Result<Recovered, Error> {
    start_knowing(disk, &|_| true)
}

fn start_knowing(disk: &SimDisk, knows: &dyn Fn(Uuid) -> bool) -> Result<Recovered, Error> {
    let mut random = Rng::new(5);
    let mut plan = Plan {
        shards: 1,
        shard_of: &|_| 0,
        knows,
        expects_data: false,
        random: &mut || random.next(),
        first_file_bytes: 64 << 10,
    };
    recover(disk, &mut plan)
}

impl Folder {
    fn new() -> Folder {
        let mut rng = Rng::new(77);
        let disk = SimDisk::new(rng.fork());
        let mut recovered = start(&disk).expect("an empty disk");
        let store = Store::new(SETTINGS, recovered.shards.remove(0), 9);
        let mut shard = Shard::new(store, &disk, &mut rng);
        let (mut model, mut counts, mut traffic) =
            (Model::default(), Counts::default(), Traffic::new(rng.fork()));
        let keys = [1, 2].map(|partition| PartitionKey { topic: Uuid::from_u128(1), partition });
        for key in keys {
            let ix = shard.open(key, LOG);
            let mut partition = Partition::new(key);
            while partition.log.batches.len() < 200 {
                let bytes = traffic.batch(&partition, 0, &mut counts);
                let batch = checked(&bytes);
                let appended = shard.store.append(ix, &batch, 1, 0);
                let mut stored = batch.header(appended.base_offset, 1).to_vec();
                stored.extend_from_slice(batch.body());
                let segment = *shard.store.segments(ix).last().expect("there is one");
                let position = segment.bytes - stored.len() as u64;
                let batch = model::batch(stored, appended.lsn, segment.base, position);
                partition.change(appended.lsn, Change::Append(batch));
            }
            model.partitions.insert(key, partition);
        }
        let mut now_ms = 0;
        shard.settle(&mut rng, &mut now_ms, &mut model, &mut counts).expect("no crash is set");
        Folder { disk, shard, model, counts, keys }
    }

    /// The sealed segment of a partition that holds its first records.
    fn first_segment(&self, key: &PartitionKey) -> ColdRead {
        let segments = self.shard.store.segments_since(self.shard.parts[key], 0, i64::MIN);
        segments.into_iter().next().filter(|s| s.sealed).expect("the first segment is sealed")
    }

    fn read_all(&mut self, key: PartitionKey) {
        let (mut offset, end) = (0, self.model.get(&key).end());
        while offset < end {
            let next = self.shard.read(key, offset, end, 3000, &mut self.model, &mut self.counts);
            offset = next.expect("no crash is set").expect("within the log");
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_reported_and_changes_nothing() {
    let folder = Folder::new();
    let paths = folder.disk.files("checkpoint");
    assert!(paths.len() > 1, "a base and a delta");
    for path in paths {
        let len = folder.disk.contents(&path).expect("just listed").len() as u64;
        for byte in [0, 9, 13, 50, len / 2, len - 1] {
            folder.disk.flip(&path, byte, 3);
            let before = folder.disk.files("");
            match start(&folder.disk) {
                Err(Error::Damaged { path: said, .. }) => assert_eq!(said, path),
                other => panic!("byte {byte} of {path}: {:?}", other.err()),
            }
            assert_eq!(folder.disk.files(""), before, "nothing is removed");
            folder.disk.flip(&path, byte, 3);
        }
    }
    start(&folder.disk).expect("it is whole again");
}

#[test]
fn a_damaged_or_missing_index_is_built_again() {
    for missing in [false, true] {
        let mut folder = Folder::new();
        let key = folder.keys[0];
        let read = folder.first_segment(&key);
        if missing {
            ringlog_storage::disk::Disk::remove_file(&folder.disk, &read.idx).expect("it is there");
        } else {
            folder.disk.flip(&read.idx, 60, 1);
        }
        folder.read_all(key);
        assert!(folder.counts.get("sealed reads") > 0);
    }
}

#[test]
fn a_damaged_segment_is_an_error_for_its_partition_alone() {
    let mut folder = Folder::new();
    let [bad, good] = folder.keys;
    let read = folder.first_segment(&bad);
    // The magic of the second batch's header.
    let second = folder.model.get(&bad).log.batches[1].position;
    folder.disk.flip(&read.log, second + 16, 5);
    ringlog_storage::disk::Disk::remove_file(&folder.disk, &read.idx).expect("it is there");
    let ix = folder.shard.parts[&bad];
    let ReadPlan::Cold(read) = folder.shard.store.read(ix, 0, i64::MAX, 3000) else {
        panic!("all of it is written and nothing kept in memory")
    };
    let result = folder.shard.segments.read(&folder.disk, &read, 0, i64::MAX, 3000);
    let error = result.err().expect("a batch cannot be read");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
    assert!(error.to_string().contains(&format!("{} at byte {second}", read.log)), "{error}");
    folder.read_all(good);
    folder.disk.power_on(Survives::Written);
    start(&folder.disk).expect("recovery never scans segments");
}

#[test]
fn a_truncation_into_a_damaged_segment_fails_and_cuts_nothing() {
    let mut folder = Folder::new();
    let [bad, good] = folder.keys;
    let read = folder.first_segment(&bad);
    let second = folder.model.get(&bad).log.batches[1].position;
    folder.disk.flip(&read.log, second + 16, 5);
    let end = folder.model.get(&bad).end();
    let (mut rng, mut now_ms) = (Rng::new(1), 1_000_000);
    for key in [bad, good] {
        let to = folder.shard.store.segments(folder.shard.parts[&key])[0].end - 1;
        assert!(folder.shard.store.truncate(folder.shard.parts[&key], to));
        if key == good {
            folder.model.get(&key).cutting = Some(Cutting { below: Some(to), restart: 0, lsn: None });
        }
    }
    let settled = folder.shard.settle(&mut rng, &mut now_ms, &mut folder.model, &mut folder.counts);
    settled.expect("no crash is set");
    assert_eq!(folder.shard.failed_cuts, [bad]);
    let ix = folder.shard.parts[&bad];
    assert_eq!((folder.shard.store.end_offset(ix), folder.shard.store.is_truncating(ix)), (end, false));
    assert!(folder.model.get(&good).end() < end, "the other one is cut");
    folder.read_all(good);
}

#[test]
fn a_damaged_batch_header_is_no_reason_to_read_beyond_it() {
    let folder = Folder::new();
    let read = folder.first_segment(&folder.keys[0]);
    // The length of the first batch: as if it went on beyond the file.
    folder.disk.flip(&read.log, 8, 6);
    let error = folder.shard.segments.read(&folder.disk, &read, 0, i64::MAX, HEADER_BYTES);
    assert!(error.is_err(), "a batch longer than its file");
}

#[test]
fn data_of_an_unknown_topic_are_set_aside_whole_wherever_the_crash_comes() {
    let topic = Uuid::from_u128(1);
    for crash_in in 0..80 {
        let folder = Folder::new();
        let before = folder.disk.files(&format!("topics/{topic}"));
        assert!(before.len() > 10, "several segments and their indexes");
        folder.disk.crash_in(Some(crash_in));
        let first = start_knowing(&folder.disk, &|_| false);
        let crashed = folder.disk.has_crashed();
        assert_eq!(first.is_err(), crashed);
        folder.disk.power_on(Survives::Written);
        let second = start_knowing(&folder.disk, &|_| false).expect("no crash is set");
        assert!(second.shards[0].partitions.is_empty());
        let strays = first.map_or(vec![], |r| r.report.strays).len() + second.report.strays.len();
        assert!(strays == 1 || crashed, "it is reported, unless the crash came just after");
        let after: Vec<_> = before.iter().map(|path| path.replacen("topics", "stray", 1)).collect();
        assert_eq!(folder.disk.files("stray"), after, "crash at operation {crash_in}");
        assert!(folder.disk.files("topics").is_empty());
    }
}

#[test]
fn a_damaged_head_of_the_current_generation_is_reported() {
    let folder = Folder::new();
    folder.disk.flip("wal/CURRENT", 0, 0);
    assert!(matches!(start(&folder.disk), Err(Error::Damaged { path, .. }) if path == "wal/CURRENT"));
}
