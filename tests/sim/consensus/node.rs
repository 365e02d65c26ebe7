//! A node: its disk, and the process that runs on it while it does. The process' shell is what a broker's is: it
//! carries the machine's actions out, in order, over the real files.

use super::app::App;
use super::check::promises::Durable;
use crate::disk::SimDisk;
use crate::rng::Rng;
use ringlog::control::raft_log::{self, RaftLog};
use ringlog::machine::consensus::formation::{self, Answer, Folder, Verdict};
use ringlog::machine::consensus::log::Stored;
use ringlog::machine::consensus::{
    Actions, Consensus, Journal, Level, Limits, Members, Peer, Persist, Profile, ReadId, Settings, Timing,
};
use ringlog_storage::disk::{is_full, read_file, replace_file};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use uuid::Uuid;

const DIRECTORY: &str = "directory";

/// Lines of raft-rs and of the world, where `RINGLOG_SIM_TRACE` is set.
pub fn traces() -> bool {
    static WANTED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *WANTED.get_or_init(|| std::env::var("RINGLOG_SIM_TRACE").is_ok())
}

const JOURNAL: Journal = Journal {
    wants: |level| traces() && level >= Level::Info,
    take: |level, line| println!("    {level:?} {line}"),
};

/// The timing of all simulated nodes: the profile of a local network, with counts that come often.
pub fn timing() -> Timing {
    Timing { count_ms: 200, stream_ms: 1_000, ..Profile::Lan.timing() }
}

const LIMITS: Limits = Limits {
    message_bytes: 2_000,
    messages_in_flight: 8,
    proposal_bytes: 4_000,
    uncommitted_bytes: 20_000,
    committed_bytes: 2_000,
    trailing_entries: 10,
    late_entries: 200,
    chunk_bytes: 256,
    snapshot_bytes: 1 << 20,
};

/// A command that a process proposed.
pub struct Pending {
    pub id: u64,
    pub term: u64,
}

/// A process.
pub struct Process {
    pub me: Peer,
    pub machine: Consensus,
    pub log: RaftLog,
    pub app: App,
    pub durable: Durable,
    pub writes: VecDeque<Persist>,
    /// When the disk has done the first so many of `writes`.
    pub disk_busy: Option<(u64, usize)>,
    pub is_full: bool,
    /// By index.
    pub pending: BTreeMap<u64, Pending>,
    /// How many commands were acknowledged when the read began.
    pub reads: BTreeMap<ReadId, usize>,
    /// Reads that wait for this index to be applied.
    pub ready: Vec<(u64, usize)>,
    pub out: Actions,
    pub refused: bool,
    pub next_tick_us: u64,
    /// The process is stopped (SIGSTOP) until then.
    pub stopped_until_us: u64,
    /// Of the process' clock in parts per thousand of true time.
    pub rate: u64,
    pub offset_ms: u64,
    /// Bytes of the log at which the next snapshot is due.
    pub snapshot_after: u64,
}

impl Process {
    pub fn clock_ms(&self, now_us: u64) -> u64 {
        now_us * self.rate / 1_000_000 + self.offset_ms
    }
}

/// See the module's documentation.
pub struct Node {
    pub id: i32,
    pub disk: SimDisk,
    pub process: Option<Process>,
    pub runs: u64,
    /// Since when it is to start again.
    pub start_at_us: Option<u64>,
    /// An older copy of the disk, with the count it had.
    pub copy: Option<(SimDisk, u64)>,
    /// How slow the disk is, in microseconds a write, and until when it stands still.
    pub write_us: u64,
    pub stalled_until_us: u64,
}

/// What a start needs of the world.
pub struct Surroundings<'a> {
    pub listed: &'a BTreeSet<i32>,
    pub answers: &'a BTreeMap<i32, Answer>,
    pub now_us: u64,
    pub rng: &'a mut Rng,
}

/// What came of a start.
pub enum Started {
    Process(Box<Process>),
    /// As a process of a fresh folder, which is to be added.
    Outside(Box<Process>),
    /// It waits, or the disk is full: try again.
    Later,
    Crashed,
}

impl Node {
    pub fn new(id: i32, rng: &mut Rng) -> Node {
        Node {
            id,
            disk: SimDisk::new(rng.fork()),
            process: None,
            runs: 0,
            start_at_us: Some(0),
            copy: None,
            write_us: 2_000,
            stalled_until_us: 0,
        }
    }

    /// The folder's id, made durable before it is told to anyone.
    fn directory(&self, rng: &mut Rng) -> io::Result<Uuid> {
        match read_file(&self.disk, DIRECTORY) {
            Ok(bytes) => Ok(Uuid::from_slice(&bytes).expect("it was put in place whole")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let id = Uuid::from_u64_pair(rng.next(), rng.next());
                replace_file(&self.disk, DIRECTORY, id.as_bytes())?;
                Ok(id)
            }
            Err(e) => Err(e),
        }
    }

    /// What this node answers when it is asked what it is; nothing where it is down.
    pub fn answer(&self, listed: &BTreeSet<i32>) -> Option<Answer> {
        match &self.process {
            Some(process) => {
                let members = process.machine.members();
                let is_fresh = members.directories.is_empty();
                (!is_fresh)
                    .then(|| Answer::Formed { cluster: members.cluster, founders: members.founders.clone() })
            }
            None => {
                self.start_at_us?;
                let directory = Uuid::from_slice(&read_file(&self.disk, DIRECTORY).ok()?).ok()?;
                let read = raft_log::read(&self.disk).ok()?;
                read.stored.is_fresh().then(|| Answer::Fresh { directory, listed: listed.clone() })
            }
        }
    }

    /// Starts a process as a broker does: folder, files, formation, machine.
    pub fn start(&mut self, around: &mut Surroundings<'_>) -> Started {
        match self.try_start(around) {
            Ok(started) => started,
            Err(_) if self.disk.has_crashed() => Started::Crashed,
            Err(e) if is_full(&e) => Started::Later,
            Err(e) => panic!("node {} cannot start: {e}", self.id),
        }
    }

    fn try_start(&mut self, around: &mut Surroundings<'_>) -> io::Result<Started> {
        let me = Peer { node: self.id, directory: self.directory(around.rng)? };
        let read = raft_log::read(&self.disk)?;
        let folder = match read.stored.snapshot() {
            Some(snapshot) => Folder::Formed { cluster: snapshot.members.cluster },
            None => Folder::Fresh,
        };
        let mut stored = match formation::decide(me, &folder, around.listed, around.answers) {
            Verdict::Start => read.stored.clone(),
            Verdict::Found(voters) => {
                let cluster = Uuid::from_u64_pair(around.rng.next(), 1);
                Stored::founding(Members::founding(cluster, &voters), App::default().snapshot())
            }
            Verdict::Adopt { cluster, founders } => {
                Stored::founding(Members::founding(cluster, &founders), App::default().snapshot())
            }
            Verdict::Join { .. } => read.stored.clone(),
            Verdict::Wait(_) => return Ok(Started::Later),
            Verdict::Refuse(refused) => panic!("node {} is refused: {refused:?}", self.id),
        };
        stored.count_up();
        let is_outside = stored.snapshot().is_none();
        self.runs += 1;
        let process = self.process_on(me, &read, stored, around)?;
        Ok(if is_outside { Started::Outside(Box::new(process)) } else { Started::Process(Box::new(process)) })
    }

    fn process_on(
        &self,
        me: Peer,
        read: &raft_log::Read,
        stored: Stored,
        around: &mut Surroundings<'_>,
    ) -> io::Result<Process> {
        let mut draws = around.rng.fork();
        let log = RaftLog::open(Arc::new(self.disk.clone()), read, &stored, Box::new(move || draws.next()))?;
        let durable = Durable { hard: stored.hard_state(), last: stored.last_index() };
        let settings = Settings {
            me,
            incarnation: around.rng.next(),
            seed: around.rng.next(),
            timing: timing(),
            limits: LIMITS,
            journal: JOURNAL,
        };
        let (rate, offset_ms) = (around.rng.between(900, 1_100), around.rng.below(100_000));
        let mut out = Vec::new();
        let clock_ms = around.now_us * rate / 1_000_000 + offset_ms;
        let machine = Consensus::new(settings, stored, clock_ms, &mut out);
        Ok(Process {
            me,
            machine,
            app: App::default(),
            durable,
            writes: VecDeque::new(),
            disk_busy: None,
            is_full: false,
            pending: BTreeMap::new(),
            reads: BTreeMap::new(),
            ready: Vec::new(),
            out,
            refused: false,
            stopped_until_us: 0,
            next_tick_us: around.now_us + around.rng.below(10_000),
            rate,
            offset_ms,
            snapshot_after: log.bytes() + 4096 * around.rng.between(5, 60),
            log,
        })
    }
}
