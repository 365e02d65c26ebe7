//! A data folder and the broker lives that it goes through: recovery, random work, an end by a clean stop, a dead
//! process or lost power, and again. Everything follows from one seed.

mod cuts;

use crate::counts::Counts;
use crate::damage;
use crate::disk::{SimDisk, Survives};
use crate::model::{self, Change, Deletion, Model, Partition};
use crate::rng::Rng;
use crate::shard::{Buffer, Crashed, LateRead, Shard, check_producers, facts};
use crate::survey::surveyed;
use crate::traffic::{Traffic, agree, checked};
use ringlog_storage::PartitionKey;
use ringlog_storage::recovery::{Error, Plan, Recovered, recover};
use ringlog_storage::store::{LogSettings, ReadPlan, Store, StoreSettings};
use ringlog_storage::wal::format::FileUse;
use ringlog_storage::wal::writer::WalSettings;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Largest commit of the traffic: one batch larger than a commit, alone.
const COMMIT_BYTES_MAX: u64 = 1200 << 10;

/// What a seed decides once.
struct Style {
    settings: StoreSettings,
    log: LogSettings,
    first_file_bytes: u64,
    backlog_max: u64,
    large_percent: u64,
    lives: u64,
    full_disks: bool,
    damaged_at_last: bool,
}

impl Style {
    fn random(rng: &mut Rng) -> Style {
        let kib = |n: u64| n << 10;
        let file_bytes = kib(rng.pick(&[64, 64, 256, 1024]));
        Style {
            settings: StoreSettings {
                wal: WalSettings {
                    file_bytes,
                    max_bytes: rng.between(2, 5) * file_bytes,
                    commits_in_flight: rng.between(1, 5) as usize,
                },
                memory_bytes: kib(rng.pick(&[32, 128, 1024])) as usize,
                checkpoint_bytes: kib(rng.pick(&[16, 128, 1024])),
                checkpoint_ms: rng.pick(&[20, 200, 3000]),
            },
            log: LogSettings {
                segment_bytes: kib(rng.pick(&[8, 32, 128, 1024])),
                segment_ms: rng.pick(&[100, 1_000_000]),
                segment_jitter_ms: 50,
                segment_index_bytes: rng.pick(&[100, 10 << 20]) as u32,
                index_interval_bytes: rng.pick(&[512, 4096]) as u32,
            },
            first_file_bytes: kib(rng.pick(&[16, 64, 256])),
            backlog_max: kib(rng.pick(&[32, 128, 1024])),
            large_percent: rng.pick(&[0, 5, 30]),
            lives: rng.between(5, 7),
            full_disks: rng.percent(40),
            damaged_at_last: rng.percent(25),
        }
    }
}

/// See the module's documentation.
pub struct World {
    rng: Rng,
    disk: SimDisk,
    style: Style,
    traffic: Traffic,
    model: Model,
    pub counts: Counts,
    shards: Vec<Shard>,
    shard_count: u32,
    life: i32,
    now_ms: u64,
    /// Use ids of former lives' files, as a client might have learnt them.
    leaked: Vec<FileUse>,
    topics: u128,
}

impl World {
    /// Runs a seed. Returns the hash of all it did to the disk.
    pub fn run(seed: u64, counts: &mut Counts) -> u64 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(rng.fork());
        let style = Style::random(&mut rng);
        let traffic = Traffic::new(rng.fork());
        let mut world = World {
            disk,
            style,
            traffic,
            model: Model::default(),
            counts: Counts::default(),
            shards: Vec::new(),
            shard_count: rng.between(1, 4) as u32,
            life: 0,
            now_ms: 0,
            leaked: Vec::new(),
            topics: 0,
            rng,
        };
        for _ in 0..world.style.lives {
            world.live();
        }
        if world.style.damaged_at_last && world.damage() {
            world.counts.note("damage reported");
        } else {
            world.start();
            world.read_everything().expect("no crash is set");
        }
        counts.merge(&world.counts);
        world.disk.trace()
    }

    fn live(&mut self) {
        self.life += 1;
        self.counts.note("lives");
        self.start();
        let ended = self.work();
        let survives = self.end(ended);
        self.counts
            .add("crashes with commits in flight", u64::from(self.shards.iter().any(Shard::has_flights)));
        self.counts.add("WAL files recycled", self.shards.iter().map(|shard| shard.recycled).sum());
        self.shards.clear();
        self.disk.power_on(survives);
    }

    /// How this life ends, and what survives it.
    fn end(&mut self, ended: Result<(), Crashed>) -> Survives {
        let crashed = ended.is_err();
        self.counts.add("crashes at an operation", u64::from(crashed));
        if !crashed && self.rng.percent(25) {
            self.disk.crash_in(None);
            self.disk.set_full(false);
            self.settle().expect("no crash is set");
            self.counts.note("clean restarts");
            return Survives::Written;
        }
        if self.rng.percent(20) {
            self.counts.note("process crashes");
            return Survives::Written;
        }
        self.counts.note("power losses");
        Survives::Percent(self.rng.pick(&[0, 10, 50, 90, 100]))
    }

    /// Recovers, maybe in several attempts, and compares what is there.
    fn start(&mut self) {
        self.leaked = damage::heads(&self.disk).into_iter().map(|(_, usage)| usage).collect();
        if self.rng.percent(40) {
            let before = self.shard_count;
            self.shard_count = self.rng.between(1, 4) as u32;
            self.counts.add("shard count changes", u64::from(before != self.shard_count && self.life > 1));
        }
        for _ in 0..3 {
            if self.rng.percent(70) {
                break;
            }
            let most = self.rng.pick(&[3, 30, 150]);
            self.disk.crash_in(Some(self.rng.below(most)));
            match self.recover() {
                Err(_) if self.disk.has_crashed() => self.counts.note("crashes in recovery"),
                Err(e) => panic!("recovery: {e}"),
                Ok(_) => {}
            }
            self.disk.power_on(Survives::Percent(self.rng.pick(&[0, 20, 50, 100])));
        }
        self.disk.crash_in(None);
        let surveyed = surveyed(&self.disk);
        let recovered = self.recover().unwrap_or_else(|e| panic!("recovery: {e}"));
        self.disk.take_segment_writes();
        let states = recovered.shards.iter().flat_map(|shard| &shard.partitions);
        let found = states.map(|s| (s.key, (s.log_start, s.end(), s.high_watermark))).collect();
        assert_eq!(surveyed, found, "what a survey says is what recovery finds");
        self.adopt(recovered);
    }

    fn recover(&mut self) -> Result<Recovered, Error> {
        let shards = self.shard_count;
        let mut rng = self.rng.fork();
        let mut plan = Plan {
            shards,
            shard_of: &|key| shard_of(key, shards),
            knows: &|_| true,
            expects_data: false,
            random: &mut || rng.next(),
            first_file_bytes: self.style.first_file_bytes,
        };
        recover(&self.disk, &mut plan)
    }

    /// Makes the stores, and what recovery found the model's truth, after checking it.
    fn adopt(&mut self, recovered: Recovered) {
        let report = &recovered.report;
        self.counts.add("frames replayed", report.frames);
        self.counts.add("torn tails cut", u64::from(report.discarded > 0));
        self.counts.add("commits discarded", report.discarded as u64);
        let mut found = BTreeSet::new();
        self.shards.clear();
        for state in recovered.shards {
            found.extend(state.partitions.iter().map(|p| p.key));
            let store: Store<Buffer> = Store::new(self.style.settings, state, self.rng.next());
            self.shards.push(Shard::new(store, &self.disk, &mut self.rng));
        }
        self.now_ms = 0;
        let keys: Vec<_> = self.model.partitions.keys().copied().collect();
        for key in keys {
            let partition = self.model.get(&key);
            if partition.deletion != Deletion::No && !found.contains(&key) {
                let below = format!("topics/{}/{}", key.topic, key.partition);
                assert!(self.disk.files(&below).is_empty(), "{key}: files of a deleted partition are there");
                self.model.partitions.remove(&key);
                continue;
            }
            assert_ne!(partition.deletion, Deletion::Acknowledged, "{key}: deleted, and there again");
            self.counts.add("deletions undone by a crash", u64::from(partition.deletion != Deletion::No));
            partition.deletion = Deletion::No;
            if self.rng.percent(80) {
                self.open(key);
            }
        }
        assert!(found.iter().all(|key| self.model.partitions.contains_key(key)), "no partition is made up");
    }

    /// Opens a partition and compares all that the store says of it.
    fn open(&mut self, key: PartitionKey) {
        let log = self.style.log;
        let shard = &mut self.shards[shard_of(&key, self.shard_count) as usize];
        let ix = shard.open(key, log);
        let found = facts(&shard.store, ix);
        assert_eq!(shard.store.durable_offset(ix), found.end, "{key}: what is recovered is durable");
        let partition = self.model.get(&key);
        let outcome = partition.recovered(&found);
        partition.epoch = partition.epoch.max(self.life * 1000);
        self.counts.add("unacknowledged records lost", u64::from(outcome.lost_appends));
        self.counts.add("unacknowledged records kept", u64::from(outcome.kept_appends));
        self.counts.add("truncations undone by a crash", u64::from(outcome.lost_cuts));
        self.counts.add("unacknowledged truncations kept", u64::from(outcome.kept_cuts));
        check_producers(&shard.store, ix, partition);
        shard.store.check();
    }

    fn open_keys(&self, shard: usize) -> Vec<PartitionKey> {
        self.shards[shard].parts.keys().copied().collect()
    }

    /// Random work until the life's end.
    fn work(&mut self) -> Result<(), Crashed> {
        let steps = self.rng.pick(&[20, 120, 400]);
        let crash_in = self.rng.below(steps * 2);
        if self.rng.percent(60) {
            self.disk.crash_in(Some(crash_in));
        }
        if self.rng.percent(40) {
            self.read_everything()?;
        }
        for _ in 0..steps {
            let shard = self.rng.index(self.shards.len());
            self.step(shard)?;
            assert_eq!(self.shards[shard].failed_cuts, [], "nothing is damaged");
            let store = &self.shards[shard].store;
            store.check();
            // What a checkpoint waits for may go beyond the limit; each new largest commit takes a new file.
            let wal = self.style.settings.wal;
            let bound = wal.max_bytes + self.style.backlog_max + 4 * wal.file_bytes + 8 * COMMIT_BYTES_MAX;
            let dir = format!("wal/{}/{shard}", store.wal().generation());
            let bytes = self.disk.bytes_below(&dir);
            assert!(bytes <= bound, "{bytes} bytes of WAL files where {bound} are allowed");
            let limit = self.style.settings.wal.max_bytes;
            self.counts.add("WAL files beyond the limit", u64::from(bytes > limit));
        }
        if self.rng.percent(30) {
            self.disk.set_full(false);
            self.settle()?;
            self.read_everything()?;
        }
        Ok(())
    }

    fn step(&mut self, at: usize) -> Result<(), Crashed> {
        let action = self.rng.below(100);
        let keys = self.open_keys(at);
        let key = if keys.is_empty() { None } else { Some(self.rng.pick(&keys)) };
        match (action, key) {
            (0..35, Some(key)) => self.append(at, key),
            (35..45, _) => {
                let most = self.rng.between(1, 4) as usize;
                self.shards[at].submit(most)?;
                let stalled = self.shards[at].store.wal().is_stalled();
                self.counts.add("WAL stalled", u64::from(stalled));
            }
            (45..60, _) => {
                self.shards[at].complete(&mut self.rng, &mut self.model, &mut self.counts)?;
            }
            (60..64, _) => {
                self.shards[at].take_jobs(&mut self.model);
            }
            (64..76, _) => {
                self.shards[at].take_jobs(&mut self.model);
                self.shards[at].run_job(&mut self.rng, &mut self.model, &mut self.counts)?;
            }
            (76..82, _) => self.tick(at),
            (82..89, Some(key)) => return self.read_somewhere(at, key),
            (89..91, Some(key)) => self.truncate(at, key),
            (91, Some(key)) => self.note(at, key),
            (92..94, Some(key)) => {
                let shard = &mut self.shards[at];
                shard.store.roll(shard.parts[&key]);
                self.counts.note("rolls");
            }
            (94..96, Some(key)) => self.advance_start(at, key),
            (96, Some(key)) if self.rng.percent(50) => self.delete(at, key),
            (97..99, _) => {
                self.shards[at].store.begin_checkpoint();
                self.counts.note("checkpoints begun");
            }
            (99, _) if self.rng.percent(50) => {
                let full = self.style.full_disks && self.rng.percent(50);
                self.disk.set_full(full);
            }
            _ => self.more_partitions(),
        }
        Ok(())
    }

    fn append(&mut self, at: usize, key: PartitionKey) {
        let shard = &mut self.shards[at];
        let ix = shard.parts[&key];
        let wal = shard.store.wal();
        if wal.is_stalled() || wal.backlog_bytes() > self.style.backlog_max || shard.store.is_full() {
            return;
        }
        if shard.store.must_load_block(ix) {
            return;
        }
        let partition = self.model.get(&key);
        let spoofed = match (shard.wal_end, self.leaked.last()) {
            (Some((_, end)), Some(usage)) if wal_is_at_rest(&shard.store) && self.rng.percent(20) => {
                self.counts.note("spoofed commits");
                let usage = FileUse { generation: shard.store.wal().generation(), ..*usage };
                Some(self.traffic.spoof(end, &usage))
            }
            _ => None,
        };
        let bytes = spoofed
            .or_else(|| if self.rng.percent(10) { self.traffic.again(partition) } else { None })
            .unwrap_or_else(|| self.traffic.batch(partition, self.style.large_percent, &mut self.counts));
        let batch = checked(&bytes);
        if batch.info.has_producer_id() {
            let verdict = shard.store.judge(ix, &batch.info);
            if !agree(partition.judge(&batch.info), verdict, &mut self.counts) {
                return;
            }
        }
        let wall_ms = self.now_ms as i64;
        let epoch = partition.epoch;
        let appended = shard.store.append(ix, &batch, epoch, wall_ms);
        assert_eq!(appended.base_offset, partition.end(), "{key}: offsets have no gap");
        let mut stored = batch.header(appended.base_offset, epoch).to_vec();
        stored.extend_from_slice(batch.body());
        let segment = *shard.store.segments(ix).last().expect("a partition has a segment");
        let position = segment.bytes - stored.len() as u64;
        let batch = model::batch(stored, appended.lsn, segment.base, position);
        partition.change(appended.lsn, Change::Append(batch));
        assert_eq!(appended.last_offset + 1, partition.end());
        self.counts.note("appends");
        shard.acknowledge(&mut self.model);
    }

    fn tick(&mut self, at: usize) {
        let store = &mut self.shards[at].store;
        let to = match store.next_deadline() {
            Some(deadline) if self.rng.percent(60) => deadline,
            _ => self.now_ms + self.rng.pick(&[1, 10, 300]),
        };
        self.now_ms = self.now_ms.max(to);
        store.tick(self.now_ms);
    }

    fn read_somewhere(&mut self, at: usize, key: PartitionKey) -> Result<(), Crashed> {
        let shard = &mut self.shards[at];
        if self.rng.percent(30) && !shard.late.is_empty() {
            let late = shard.late.remove(self.rng.index(shard.late.len()));
            self.counts.note("late cold reads");
            return shard.cold(&late, &mut self.model, &mut self.counts).map(|_| ());
        }
        let ix = shard.parts[&key];
        let partition = self.model.get(&key);
        let offset =
            partition.start() + self.rng.below((partition.end() - partition.start() + 2) as u64) as i64;
        let limit = self.rng.pick(&[partition.acknowledged, partition.end()]);
        let max_bytes = self.rng.pick(&[1, 3_000, 100_000]);
        if let ReadPlan::Cold(read) = shard.store.read(ix, offset, limit, max_bytes)
            && self.rng.percent(50)
        {
            shard.late.push(LateRead { key, read, offset, limit, max_bytes });
            return Ok(());
        }
        shard.read(key, offset, limit, max_bytes, &mut self.model, &mut self.counts).map(|_| ())
    }

    fn advance_start(&mut self, at: usize, key: PartitionKey) {
        let shard = &mut self.shards[at];
        let partition = self.model.get(&key);
        let (start, end) = (partition.start(), partition.end());
        if start < end {
            let to = start + 1 + self.rng.below((end - start) as u64) as i64;
            let lsn = shard.store.advance_start(shard.parts[&key], to);
            partition.change(lsn, Change::Start(to));
            self.counts.note("log start moved");
        }
    }

    fn delete(&mut self, at: usize, key: PartitionKey) {
        let shard = &mut self.shards[at];
        let ix = shard.parts.remove(&key).expect("an open partition");
        self.model.get(&key).deletion = Deletion::Asked(shard.store.delete(ix));
        self.counts.note("partitions deleted");
    }

    /// Makes a partition, or opens one that was not opened at the start.
    fn more_partitions(&mut self) {
        let closed = self.model.partitions.values().find(|p| {
            p.deletion == Deletion::No
                && !self.shards[shard_of(&p.key, self.shard_count) as usize].parts.contains_key(&p.key)
        });
        if let Some(key) = closed.map(|p| p.key) {
            self.counts.note("partitions opened late");
            return self.open(key);
        }
        if self.rng.percent(40) || self.topics == 0 {
            self.topics += 1;
        }
        let topic = Uuid::from_u128(self.topics);
        let key = PartitionKey { topic, partition: self.model.partitions.len() as i32 + self.life * 1000 };
        if self.model.partitions.len() < 8 && !self.model.partitions.contains_key(&key) {
            self.model.partitions.insert(key, Partition::new(key));
            self.open(key);
        }
    }

    /// Reads every open partition from its start to its end.
    fn read_everything(&mut self) -> Result<(), Crashed> {
        for at in 0..self.shards.len() {
            for key in self.open_keys(at) {
                let partition = self.model.get(&key);
                let (mut offset, end) = (partition.start(), partition.end());
                let max_bytes = self.rng.pick(&[1, 20_000, 1 << 20]);
                while offset < end {
                    let shard = &mut self.shards[at];
                    let next = shard.read(key, offset, end, max_bytes, &mut self.model, &mut self.counts)?;
                    let next = next.expect("an offset within the log can be read");
                    assert!(next > offset, "{key}: reading goes on");
                    offset = next;
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Crashed> {
        for shard in &mut self.shards {
            shard.settle(&mut self.rng, &mut self.now_ms, &mut self.model, &mut self.counts)?;
        }
        Ok(())
    }

    /// Damages acknowledged data: recovery must say so and change nothing. Returns whether there were any.
    fn damage(&mut self) -> bool {
        let Some(flipped) = damage::flip_in_wal(&self.disk, &mut self.rng) else { return false };
        let before = self.disk.contents(&flipped.path);
        match self.recover() {
            Ok(_) => panic!("damage at byte {} of {} was taken for a torn tail", flipped.byte, flipped.path),
            Err(Error::Io(e)) => panic!("damage was not recognised: {e}"),
            Err(Error::Damaged { path, position, what }) => flipped.check_report(&path, position, &what),
        }
        assert!(self.disk.contents(&flipped.path) == before, "what is damaged is kept as it is");
        true
    }
}

fn wal_is_at_rest(store: &Store<Buffer>) -> bool {
    store.wal().is_idle() && store.wal().backlog_bytes() == 0
}

fn shard_of(key: &PartitionKey, shards: u32) -> u32 {
    let mixed = key.topic.as_u128() as u64 * 31 + u64::from(key.partition.unsigned_abs());
    u32::try_from(mixed % u64::from(shards)).expect("below a u32")
}
