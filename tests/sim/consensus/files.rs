//! The files of the consensus machine's log by themselves: torn tails, damage, full disks, what is carried over.

use crate::disk::{SimDisk, Survives};
use crate::rng::Rng;
use bytes::Bytes;
use ringlog::control::metadata_log::{self, MetadataLog};
use ringlog::control::raft_log::{self, RaftLog};
use ringlog::machine::consensus::log::{HardState, Stored};
use ringlog::machine::consensus::{
    Action, Consensus, Journal, Limits, Members, Peer, Persist, Profile, Settings,
};
use ringlog::machine::metadata::{Batch, Record};
use ringlog_storage::disk::{Disk, Entry, File, Open, Shared};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use uuid::Uuid;

const ME: Peer = Peer { node: 0, directory: Uuid::from_u128(5) };

fn founding() -> Stored {
    let mut stored =
        Stored::founding(Members::founding(Uuid::from_u128(9), &[ME]), Bytes::from_static(b"image"));
    stored.count_up();
    stored
}

/// A disk that promises room and does not keep it, as a file system with quotas or thin volumes may.
struct Unreserved(SimDisk);

struct UnreservedFile(Arc<dyn File>);

impl Disk for Unreserved {
    fn open(&self, path: &str, how: Open) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(UnreservedFile(self.0.open(path, how)?)))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }
    fn make_dirs(&self, dir: &str) -> io::Result<()> {
        self.0.make_dirs(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        Disk::sync_dir(&self.0, dir)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, dir: &str) -> io::Result<()> {
        self.0.remove_dir(dir)
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }
}

impl File for UnreservedFile {
    fn allocate(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(position, buffer)
    }
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(position, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }
    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
    fn share(&self, len: u64) -> io::Result<Shared> {
        self.0.share(len)
    }
    fn make_resident(&self, shared: &Shared, from: u64, to: u64) -> io::Result<()> {
        self.0.make_resident(shared, from, to)
    }
}

/// A single voter over real files, every write of which is done before the next.
struct Single {
    disk: SimDisk,
    log: RaftLog,
    machine: Consensus,
    now_ms: u64,
    applied: Vec<Bytes>,
    hard: HardState,
}

fn draw(seed: u64) -> raft_log::Draw {
    let mut rng = Rng::new(seed);
    Box::new(move || rng.next())
}

impl Single {
    fn start(disk: &SimDisk, seed: u64) -> Single {
        let read = raft_log::read(disk).expect("the files are whole");
        let mut stored = read.stored.clone();
        if stored.is_fresh() {
            stored = founding()
        } else {
            stored.count_up()
        }
        let hard = stored.hard_state();
        let reserves = seed.is_multiple_of(2);
        let on: Arc<dyn Disk> =
            if reserves { Arc::new(disk.clone()) } else { Arc::new(Unreserved(disk.clone())) };
        let log = RaftLog::open(on, &read, &stored, draw(seed)).expect("there is room");
        let settings = Settings {
            me: ME,
            incarnation: seed,
            seed,
            timing: Profile::Lan.timing(),
            limits: Limits::default(),
            journal: Journal::SILENT,
        };
        let mut out = Vec::new();
        let machine = Consensus::new(settings, stored, 0, &mut out);
        let mut single = Single { disk: disk.clone(), log, machine, now_ms: 0, applied: Vec::new(), hard };
        single.act(out);
        single
    }

    fn act(&mut self, mut out: Vec<Action>) {
        while !out.is_empty() {
            let mut next = Vec::new();
            for action in out {
                match action {
                    Action::Persist(write) => {
                        assert_eq!(
                            self.log.persist(std::slice::from_ref(&write)).expect("the disk works"),
                            1
                        );
                        self.hard = write.hard;
                        self.machine.persisted(write.number, &mut next);
                    }
                    Action::Apply(entries) => {
                        let data = entries.iter().map(|entry| entry.data.clone());
                        self.applied.extend(data.filter(|data| !data.is_empty()));
                        self.machine.applied(entries.last().map_or(0, |entry| entry.index), &mut next);
                    }
                    Action::Install(snapshot) => self.machine.applied(snapshot.index, &mut next),
                    _ => {}
                }
            }
            out = next;
        }
        self.machine.check();
    }

    fn lead(&mut self) {
        for _ in 0..200 {
            let mut out = Vec::new();
            self.now_ms += 10;
            self.machine.tick(self.now_ms, &mut out);
            self.act(out);
        }
    }

    fn propose(&mut self, data: &'static [u8]) {
        let mut out = Vec::new();
        let proposed = self.machine.propose(Bytes::from_static(data), Bytes::new(), &mut out);
        proposed.expect("a single voter leads");
        self.act(out);
    }

    /// Path of the log file.
    fn path(&self) -> String {
        let logs: Vec<String> =
            self.disk.files("metadata/raft").into_iter().filter(|path| path.ends_with(".log")).collect();
        assert_eq!(logs.len(), 1, "the old log is gone");
        logs[0].clone()
    }
}

fn led(seed: u64) -> Single {
    let disk = SimDisk::new(Rng::new(seed));
    let mut single = Single::start(&disk, seed);
    single.lead();
    for data in [b"one", b"two"] {
        single.propose(data);
    }
    single
}

#[test]
fn a_restart_finds_what_was_written() {
    let single = led(1);
    assert_eq!(single.applied, [&b"one"[..], b"two"]);
    let term = single.hard.term;
    single.disk.power_on(Survives::Percent(0));
    let mut again = Single::start(&single.disk, 2);
    assert!(again.hard.term >= term);
    assert_eq!(again.machine.count(), 2, "every start counts");
    again.lead();
    assert_eq!(again.applied, [&b"one"[..], b"two"], "applied again after a restart, from the log");
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_it_is_reported() {
    let mut single = led(3);
    let durable = single.log.bytes();
    single.propose(b"torn");
    let path = single.path();
    single.disk.flip(&path, durable + 70, 3);
    let mut again = Single::start(&single.disk, 4);
    again.lead();
    assert_eq!(
        again.applied,
        [&b"one"[..], b"two"],
        "a commit that no later one states durable is a torn tail"
    );

    let single = led(5);
    let path = single.path();
    single.disk.flip(&path, 2 * 4096 + 70, 3);
    let error = raft_log::read(&single.disk).err().expect("acknowledged bytes are damaged");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("at byte 8192"), "{error}");
}

#[test]
fn the_last_write_is_safe_once_it_is_stated_durable() {
    let mut single = led(6);
    let last = single.log.bytes();
    single.propose(b"last");
    assert!(single.log.state_durable().expect("the disk works"));
    let stated = single.log.bytes();
    assert!(single.log.state_durable().expect("the disk works"));
    assert_eq!(single.log.bytes(), stated, "it is stated once");
    let path = single.path();
    single.disk.flip(&path, last + 70, 3);
    let error = raft_log::read(&single.disk).err().expect("acknowledged bytes are damaged");
    assert!(error.to_string().contains(&format!("at byte {last}")), "{error}");
}

#[test]
fn damaged_heads_and_snapshots_are_reported() {
    let single = led(7);
    let files = single.disk.files("metadata/raft");
    assert_eq!(files.len(), 3, "{files:?}");
    for path in files {
        single.disk.flip(&path, 9, 0);
        let error = raft_log::read(&single.disk).err().unwrap_or_else(|| panic!("{path} is damaged"));
        assert!(error.kind() == ErrorKind::InvalidData && error.to_string().contains(&path), "{error}");
        single.disk.flip(&path, 9, 0);
    }
    raft_log::read(&single.disk).expect("it is whole again");
}

/// Whatever a full disk took of a write, it leaves no trace, and the write succeeds later.
#[test]
fn a_write_that_a_full_disk_refuses_leaves_no_trace() {
    let mut refused = 0;
    for seed in 10..60 {
        let mut single = led(seed);
        let mut out = Vec::new();
        for data in [&b"three"[..], b"four"] {
            let data = Bytes::from_static(data);
            single.machine.propose(data, Bytes::new(), &mut out).expect("it leads");
        }
        let writes: Vec<Persist> = out
            .iter()
            .filter_map(|action| if let Action::Persist(write) = action { Some(write.clone()) } else { None })
            .collect();
        single.disk.set_full(true);
        let mut done = single.log.persist(&writes).expect("a full disk is no error");
        single.disk.set_full(false);
        if done < writes.len() {
            refused += 1;
            assert_eq!(done, 0, "appends are taken together");
            let before = raft_log::read(&single.disk).expect("nothing is torn").stored;
            assert_eq!(before.last_index() + 2, single.machine.status().last);
            done = single.log.persist(&writes).expect("there is room now");
        }
        assert_eq!(done, writes.len());
        single.disk.power_on(Survives::Percent(0));
        let stored = raft_log::read(&single.disk).expect("the files are whole").stored;
        assert_eq!(stored.last_index(), single.machine.status().last);
    }
    assert!(refused > 20, "{refused} writes of 50 were refused");
}

/// Crashes at every operation of a switch leave the old state or the new one.
#[test]
fn a_switch_is_there_whole_or_not_at_all() {
    let (mut before, mut after) = (0, 0);
    for crash_at in 0..20 {
        for survives in [0, 50, 100] {
            let mut single = led(100 + crash_at);
            let point = single.machine.snapshot_point().expect("there is something new");
            let index = point.index;
            let mut out = Vec::new();
            single.machine.compact(point, Bytes::from_static(b"newer image"), &mut out);
            let [Action::Persist(write)] = out.as_slice() else { panic!("one write, not {out:?}") };
            single.disk.crash_in(Some(crash_at));
            let outcome = single.log.persist(std::slice::from_ref(write));
            single.disk.power_on(Survives::Percent(survives));
            let stored = raft_log::read(&single.disk).expect("one of two states").stored;
            let snapshot = stored.snapshot().expect("there always is one");
            let is_new = snapshot.index == index;
            assert!(is_new || outcome.is_err(), "what was said to be durable is");
            assert_eq!(stored.last_index(), single.machine.status().last, "no entry is lost");
            assert_eq!(stored.hard_state().term, single.hard.term);
            assert_eq!(&snapshot.data[..], if is_new { &b"newer image"[..] } else { b"image" });
            if is_new { after += 1 } else { before += 1 }
        }
    }
    assert!(before > 5 && after > 5, "{before} before, {after} after");
}

#[test]
fn metadata_of_a_single_node_are_carried_over() {
    let disk = SimDisk::new(Rng::new(8));
    assert!(raft_log::carried_over(&disk).expect("nothing is no error").is_none());
    let committed = metadata_log::read(&disk).expect("nothing is no error");
    let mut log = MetadataLog::open(Arc::new(disk.clone()), &committed).expect("there is room");
    let records = vec![Record::Cluster { id: Uuid::from_u128(4) }];
    let batch = Batch { offset: 0, timestamp_ms: 1, records };
    log.append(&[batch.encode()]).expect("there is room");
    let carried = raft_log::carried_over(&disk).expect("it is whole").expect("there is some");
    let image = metadata_log::read(&disk).expect("it is whole").image;
    let snapshot = image.snapshot().expect("it is not empty");
    assert_eq!(carried.cluster, Uuid::from_u128(4));
    assert_eq!(Batch::decode(&carried.image).expect("it is a batch"), snapshot);

    let read = raft_log::read(&disk).expect("there is nothing of Raft's yet");
    assert!(read.stored.is_fresh());
    let stored = Stored::founding(Members::founding(carried.cluster, &[ME]), carried.image.clone());
    RaftLog::open(Arc::new(disk.clone()), &read, &stored, draw(8)).expect("there is room");
    raft_log::remove_carried_over(&disk).expect("the disk works");
    assert!(raft_log::carried_over(&disk).expect("nothing is no error").is_none());
    let kept = raft_log::read(&disk).expect("it is whole").stored;
    assert_eq!(kept.snapshot().expect("the first entry").data, carried.image);
    assert!(disk.list("metadata").expect("it is there").iter().all(|entry| entry.is_dir));
}
