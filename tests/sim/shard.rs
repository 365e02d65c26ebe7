//! One shard of the simulation: its store, and the I/O that it asked for and that is not done yet. Plays the part
//! of the shell, with commits and jobs done in any order.

use crate::counts::Counts;
use crate::disk::SimDisk;
use crate::model::{Deletion, Facts, Model, Partition};
use crate::rng::Rng;
use ringlog_storage::PartitionKey;
use ringlog_storage::disk::BLOCK;
use ringlog_storage::job::{Files, Job, JobId, Output, run};
use ringlog_storage::reader::Segments;
use ringlog_storage::store::{ColdRead, Event, LogSettings, PartitionIx, ReadPlan, Store};
use ringlog_storage::wal::Lsn;
use ringlog_storage::wal::writer::CommitBuffer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use uuid::Uuid;

/// The crash came: this life is over.
#[derive(Debug)]
pub struct Crashed;

/// Memory of a commit.
pub struct Buffer(pub Vec<u8>);

impl CommitBuffer for Buffer {
    fn with_capacity(bytes: usize) -> Buffer {
        Buffer(vec![0xee; bytes])
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn cut(&mut self, bytes: usize) {
        self.0.truncate(bytes);
    }
}

struct Flight {
    commit: u64,
    write: u64,
}

struct Submitted {
    commit: u64,
    last_lsn: Lsn,
    done: bool,
}

/// A cold read that was planned and is done later, when the store may have moved on.
pub struct LateRead {
    pub key: PartitionKey,
    pub read: ColdRead,
    pub offset: i64,
    pub limit: i64,
    pub max_bytes: usize,
}

/// See the module's documentation.
pub struct Shard {
    pub store: Store<Buffer>,
    disk: SimDisk,
    files: Files,
    pub segments: Segments,
    flights: Vec<Flight>,
    submitted: VecDeque<Submitted>,
    jobs: Vec<(JobId, Job)>,
    /// What is durable, by the disk's word.
    pub durable: Lsn,
    next_lsn: Lsn,
    pub parts: BTreeMap<PartitionKey, PartitionIx>,
    keys: BTreeMap<PartitionIx, PartitionKey>,
    /// File and position after the last commit submitted.
    pub wal_end: Option<(u32, u64)>,
    /// The highest durable LSN that a commit states.
    stated: Lsn,
    /// WAL files that were written to, and how often one was used again.
    used: BTreeSet<u32>,
    pub recycled: u64,
    pub late: Vec<LateRead>,
    /// Partitions that could not be cut.
    pub failed_cuts: Vec<PartitionKey>,
}

/// The key in the path of a segment's file, and its base offset.
fn segment_of(path: &str) -> (PartitionKey, i64) {
    let mut parts = path.split('/').skip(1);
    let mut part = || parts.next().expect("topics/<topic>/<partition>/<base>.log");
    let topic = Uuid::try_parse(part()).expect("a topic's id");
    let partition = part().parse().expect("a partition's index");
    let base = part().trim_end_matches(".log").parse().expect("a base offset");
    (PartitionKey { topic, partition }, base)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// What a store says of a log without reading it.
pub fn facts(store: &Store<Buffer>, ix: PartitionIx) -> Facts {
    Facts {
        start: store.start_offset(ix),
        end: store.end_offset(ix),
        watermark: store.high_watermark(ix),
        epochs: store.epochs(ix).entries().to_vec(),
    }
}

/// Compares what is said of idempotent producers' last batches, of those before them and of those to come.
pub fn check_producers(store: &Store<Buffer>, ix: PartitionIx, partition: &Partition) {
    let key = partition.key;
    for batch in partition.log.batches.iter().rev().take(40).filter(|b| b.info.has_producer_id()) {
        let mut next = batch.info;
        assert_eq!(store.judge(ix, &next), partition.judge(&next), "{key}: producer state");
        next.base_sequence = batch.info.last_sequence().wrapping_add(1) & i32::MAX;
        assert_eq!(store.judge(ix, &next), partition.judge(&next), "{key}: producer state");
    }
    store.producers(ix).assert_invariants();
}

impl Shard {
    pub fn new(store: Store<Buffer>, disk: &SimDisk, rng: &mut Rng) -> Shard {
        Shard {
            store,
            disk: disk.clone(),
            files: Files::new(rng.between(1, 6) as usize),
            segments: Segments::new(rng.between(1, 6) as usize),
            flights: Vec::new(),
            submitted: VecDeque::new(),
            jobs: Vec::new(),
            durable: 0,
            next_lsn: 1,
            parts: BTreeMap::new(),
            keys: BTreeMap::new(),
            wal_end: None,
            stated: 0,
            used: BTreeSet::new(),
            recycled: 0,
            late: Vec::new(),
            failed_cuts: Vec::new(),
        }
    }

    /// What an error of the disk means: the crash, or a bug.
    fn crashed<T>(&self, result: io::Result<T>, what: &str) -> Result<T, Crashed> {
        match result {
            Ok(value) => Ok(value),
            Err(_) if self.disk.has_crashed() => Err(Crashed),
            Err(e) => panic!("{what}: {e}"),
        }
    }

    pub fn open(&mut self, key: PartitionKey, settings: LogSettings) -> PartitionIx {
        let ix = self.store.open(key, settings);
        self.parts.insert(key, ix);
        self.keys.insert(ix, key);
        ix
    }

    /// Submits commits, at most `most`. Returns how many.
    pub fn submit(&mut self, most: usize) -> Result<usize, Crashed> {
        for n in 0..most {
            let Some((submission, path)) = self.store.next_commit() else { return Ok(n) };
            let bytes = &submission.buffer.0;
            let frames = u64::from(u32::from_le_bytes(bytes[60..64].try_into().expect("four bytes")));
            assert_eq!(number(bytes, 40), self.next_lsn, "commits leave in LSN order");
            self.stated = number(bytes, 48);
            assert!(self.stated <= self.durable, "a commit states more than is durable");
            if submission.position == BLOCK as u64 && !self.used.insert(submission.file) {
                self.recycled += 1;
            }
            self.next_lsn += frames;
            let last_lsn = self.next_lsn - 1;
            let written = self.disk.submit(&path, submission.position, bytes);
            let write = self.crashed(written, "submitting a commit")?;
            self.wal_end = Some((submission.file, submission.position + bytes.len() as u64));
            self.flights.push(Flight { commit: submission.commit, write });
            self.submitted.push_back(Submitted { commit: submission.commit, last_lsn, done: false });
        }
        Ok(most)
    }

    /// Whether commits are in flight.
    pub fn has_flights(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Completes a commit in flight, whichever.
    pub fn complete(
        &mut self,
        rng: &mut Rng,
        model: &mut Model,
        counts: &mut Counts,
    ) -> Result<bool, Crashed> {
        if self.flights.is_empty() {
            return Ok(false);
        }
        let at = rng.index(self.flights.len());
        if at > 0 {
            counts.note("commits completed out of order");
        }
        let flight = self.flights.remove(at);
        let completed = self.disk.complete(flight.write);
        self.crashed(completed, "completing a commit")?;
        let of = |s: &&mut Submitted| s.commit == flight.commit;
        self.submitted.iter_mut().find(of).expect("it was submitted").done = true;
        while self.submitted.front().is_some_and(|s| s.done) {
            self.durable = self.submitted.pop_front().expect("looked at").last_lsn;
        }
        self.store.commit_written(flight.commit);
        self.acknowledge(model);
        Ok(true)
    }

    /// Takes the store's events and notes what it acknowledges by them.
    pub fn acknowledge(&mut self, model: &mut Model) {
        self.follow_cuts(model);
        while let Some(event) = self.store.next_event() {
            let (Event::Durable(ix)
            | Event::BlockLoaded(ix)
            | Event::Truncated(ix)
            | Event::TruncationFailed(ix)) = event;
            let Some(key) = self.keys.get(&ix).filter(|key| self.parts.contains_key(key)) else { continue };
            match event {
                Event::Durable(_) => model.get(key).acknowledge(self.store.durable_offset(ix), self.durable),
                Event::BlockLoaded(_) => {}
                Event::Truncated(_) => self.check_cut(ix, model.get(key)),
                Event::TruncationFailed(_) => self.failed_cuts.push(*key),
            }
        }
        let acknowledged = self.store.wal().durable();
        let keys: Vec<_> = self.keys.values().copied().collect();
        for key in keys {
            let partition = model.get(&key);
            partition.acknowledge_frames(acknowledged, self.durable);
            if let Deletion::Asked(lsn) = partition.deletion
                && lsn <= acknowledged
            {
                assert!(lsn <= self.durable, "{key}: deletion acknowledged before durable");
                partition.deletion = Deletion::Acknowledged;
            }
        }
    }

    /// Tells the model of truncations that the store has logged.
    fn follow_cuts(&mut self, model: &mut Model) {
        for (key, ix) in &self.parts {
            let partition = model.get(key);
            if partition.cutting.as_ref().is_some_and(|cutting| cutting.lsn.is_none())
                && let Some(lsn) = self.store.truncation_lsn(*ix)
            {
                partition.cut(lsn);
                partition.check_facts(&facts(&self.store, *ix));
            }
        }
    }

    /// A truncation is done: nothing of what was cut is left anywhere.
    fn check_cut(&self, ix: PartitionIx, partition: &mut Partition) {
        let key = partition.key;
        let lsn =
            partition.cutting.take().and_then(|cutting| cutting.lsn).expect("a truncation that is logged");
        assert!(lsn <= self.durable, "{key}: a truncation is done before it is durable");
        partition.check_facts(&facts(&self.store, ix));
        check_producers(&self.store, ix, partition);
        let active = *self.store.segments(ix).last().expect("a partition has a segment");
        for path in self.disk.files(&format!("topics/{}/{}", key.topic, key.partition)) {
            let name = path.rsplit('/').next().expect("a path has a name");
            let base: i64 = name[..20].parse().expect("a base offset");
            let is_gone = base > active.base || (base == active.base && active.bytes == 0);
            assert!(!is_gone, "{path} was cut");
            assert!(base != active.base || !name.ends_with(".idx"), "{path} tells of what was cut");
        }
    }

    /// Takes the jobs that the store has.
    pub fn take_jobs(&mut self, model: &mut Model) -> bool {
        let before = self.jobs.len();
        while let Some(job) = self.store.next_job() {
            self.jobs.push(job);
        }
        self.follow_cuts(model);
        self.jobs.len() > before
    }

    /// Does one of the jobs, whichever.
    pub fn run_job(
        &mut self,
        rng: &mut Rng,
        model: &mut Model,
        counts: &mut Counts,
    ) -> Result<bool, Crashed> {
        if self.jobs.is_empty() {
            return Ok(false);
        }
        let at = rng.index(self.jobs.len());
        let (id, job) = self.jobs.remove(at);
        let (name, cut) = (job.name(), job.cuts());
        let result = run(&self.disk, &self.files, job);
        for write in self.disk.take_segment_writes() {
            let (key, base) = segment_of(&write.path);
            model.get(&key).check_segment_write(base, write.position, &write.bytes, self.durable);
        }
        let output = self.crashed(result, name)?;
        cut.iter().for_each(|(dir, cuts)| self.segments.cut(dir, *cuts));
        match (&output, name) {
            (Output::Full, _) => counts.note("full disk"),
            (Output::Bytes(_), _) => counts.note("blocks read back"),
            (_, "remove WAL file") => counts.note("WAL files given back"),
            _ => {}
        }
        self.store.job_done(id, output);
        self.acknowledge(model);
        Ok(true)
    }

    /// Reads whole batches from an offset, at once or later, and compares. Returns where to go on.
    pub fn read(
        &mut self,
        key: PartitionKey,
        offset: i64,
        limit: i64,
        max_bytes: usize,
        model: &mut Model,
        counts: &mut Counts,
    ) -> Result<Option<i64>, Crashed> {
        let ix = self.parts[&key];
        let partition = model.get(&key);
        match self.store.read(ix, offset, limit, max_bytes) {
            ReadPlan::OutOfRange => {
                assert!(
                    offset < partition.start() || offset > partition.end(),
                    "{key}: {offset} is in range"
                );
                Ok(None)
            }
            ReadPlan::Empty => {
                let there = partition.log.batches.iter().find(|b| b.end() > offset);
                assert!(there.is_none_or(|b| b.end() > limit), "{key}: nothing at {offset} below {limit}");
                Ok(None)
            }
            ReadPlan::Tail(read) => {
                counts.note("tail reads");
                let mut bytes = Vec::with_capacity(read.bytes);
                read.slices.iter().for_each(|slice| bytes.extend_from_slice(slice.as_bytes()));
                assert_eq!(bytes.len(), read.bytes, "a read is as long as it says");
                assert!(read.bytes > 0, "a read from the tail gives something");
                Ok(Some(partition.check_read(offset, limit, max_bytes, &bytes, read.end_offset)))
            }
            ReadPlan::Cold(read) => {
                let late = LateRead { key, read, offset, limit, max_bytes };
                self.cold(&late, model, counts).map(Some)
            }
        }
    }

    /// Does a cold read.
    pub fn cold(&mut self, late: &LateRead, model: &mut Model, counts: &mut Counts) -> Result<i64, Crashed> {
        let LateRead { key, read, offset, limit, max_bytes } = late;
        let result = self.segments.read(&self.disk, read, *offset, *limit, *max_bytes);
        let partition = model.get(key);
        if let Some(ix) = self.parts.get(key) {
            let is_current = self.store.is_current(*ix, read);
            assert_eq!(is_current, read.cuts == partition.cuts, "{key}: what is said of a planned read");
        }
        if read.cuts != partition.cuts && !self.disk.has_crashed() {
            counts.note("reads across a truncation");
            return Ok(*offset);
        }
        if result.is_err()
            && !self.disk.has_crashed()
            && (*offset < partition.start() || partition.deletion != Deletion::No)
        {
            return Ok(*offset);
        }
        let (records, end) = self.crashed(result, &format!("{key}: reading {offset} of {read:?}"))?;
        counts.note(if read.sealed { "sealed reads" } else { "cold reads of open segments" });
        let next = partition.check_read(*offset, *limit, *max_bytes, records.as_bytes(), end);
        let first = partition.log.batches.iter().find(|b| b.end() > *offset).expect("it was in range");
        assert!(next > *offset || first.end() > *limit, "{key}: a cold read of {offset} gave nothing");
        Ok(next)
    }

    /// With no fault in the way everything comes to rest: all is durable, in segments and in a checkpoint.
    /// `now_ms` moves on to where that is.
    pub fn settle(
        &mut self,
        rng: &mut Rng,
        now_ms: &mut u64,
        model: &mut Model,
        counts: &mut Counts,
    ) -> Result<(), Crashed> {
        let until = *now_ms + 120_000;
        loop {
            let mut moved = self.submit(usize::MAX)? > 0;
            while self.complete(rng, model, counts)? {
                moved = true;
                self.submit(usize::MAX)?;
            }
            moved |= self.take_jobs(model);
            while self.run_job(rng, model, counts)? {
                moved = true;
                self.take_jobs(model);
            }
            if moved {
                continue;
            }
            let Some(deadline) = self.store.next_deadline() else { break };
            assert!(deadline < until, "the store comes to rest");
            *now_ms = deadline.max(*now_ms + 1);
            self.store.tick(*now_ms);
            self.store.check();
        }
        self.store.check();
        let wal = self.store.wal();
        assert!(!wal.is_stalled(), "the WAL goes on");
        assert!(wal.is_idle() && wal.backlog_bytes() == 0, "the WAL is at rest");
        assert_eq!(wal.durable() + 1, wal.next_lsn(), "everything is durable");
        assert_eq!(self.stated, self.durable, "an idle log states how far it is durable");
        assert!(!self.store.is_full() && !self.store.is_dirty() && !self.store.is_checkpointing());
        for (key, ix) in &self.parts {
            let partition = model.get(key);
            assert_eq!(self.store.durable_offset(*ix), partition.end(), "{key}: everything is durable");
            assert!(partition.cutting.is_none() && !self.store.is_truncating(*ix), "{key}: truncations end");
        }
        Ok(())
    }
}
