//! The brokers: how each is started over fresh data, watched and stopped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use ringlog::clock::{monotonic_ms, monotonic_ns};

use super::{Args, Outcome};

/// The program under test, and the generator for all peers.
pub const RINGLOG: &str = env!("CARGO_BIN_EXE_ringlog");

/// A killed process is gone after so long.
const KILLED_MS: u64 = 30_000;

/// Who can take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum PeerKind {
    /// Ringlog, every record synced before its acknowledgement
    Ringlog,
    /// Kafka as it comes: acknowledged from the page cache
    Kafka,
    /// Kafka with a sync for every batch
    KafkaSynced,
}

impl PeerKind {
    /// Its name in the results.
    pub fn name(self) -> &'static str {
        match self {
            PeerKind::Ringlog => "Ringlog",
            PeerKind::Kafka => "Kafka",
            PeerKind::KafkaSynced => "Kafka, synced",
        }
    }
}

/// A running broker. Dropping it ends its process and deletes its data.
pub struct Peer {
    /// Who it is.
    pub kind: PeerKind,
    /// Where it listens.
    pub bootstrap: String,
    /// Its processes.
    pub pids: Vec<u32>,
    start_ms: f64,
    dir: PathBuf,
    kafka: PathBuf,
    child: Option<Child>,
    stopped: bool,
}

impl Peer {
    /// Starts it and waits until it accepts clients.
    pub fn start(kind: PeerKind, args: &Args) -> Outcome<Peer> {
        let dir = args.out.join("data");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let mut peer = Peer {
            kind,
            bootstrap: format!("127.0.0.1:{}", args.port),
            pids: Vec::new(),
            start_ms: 0.0,
            dir,
            kafka: args.kafka.clone(),
            child: None,
            stopped: false,
        };
        match kind {
            PeerKind::Ringlog => peer.start_ringlog()?,
            PeerKind::Kafka => peer.start_kafka(args.port, false)?,
            PeerKind::KafkaSynced => peer.start_kafka(args.port, true)?,
        }
        Ok(peer)
    }

    fn start_ringlog(&mut self) -> Outcome<()> {
        let began = monotonic_ns();
        let mut child = Command::new(RINGLOG)
            .args(["start", "--listen", &self.bootstrap, "--http", "off", "--log", "warn", "--data-dir"])
            .arg(&self.dir)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        self.pids = vec![child.id()];
        self.child = Some(child);
        let mut ready = String::new();
        BufReader::new(stdout).read_line(&mut ready)?;
        if !ready.starts_with("ringlog ready: ") {
            return Err(format!("ringlog did not start; it said: {ready:?}").into());
        }
        self.start_ms = (monotonic_ns() - began) as f64 / 1e6;
        Ok(())
    }

    /// The script's `start` also formats the data folder; what counts as start is a second one of the node
    /// alone, over data that hold nothing yet.
    fn start_kafka(&mut self, port: u16, synced: bool) -> Outcome<()> {
        let mut options = vec!["start".to_owned(), "--port".into(), port.to_string()];
        if synced {
            options.push("--sync".into());
        }
        let printed = self.script(&options)?;
        self.bootstrap = printed.lines().last().unwrap_or_default().trim().to_owned();
        let first = self.kafka_pids()?;
        self.script(&["kill".into(), "1".into()])?;
        // The killed process holds its port and its lock until the kernel has taken it apart.
        let deadline = monotonic_ms() + KILLED_MS;
        while first.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            if monotonic_ms() >= deadline {
                return Err("Kafka is still there after it was killed".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        let began = monotonic_ns();
        self.script(&["revive".into(), "1".into()])?;
        self.start_ms = (monotonic_ns() - began) as f64 / 1e6;
        self.pids = self.kafka_pids()?;
        Ok(())
    }

    fn kafka_pids(&self) -> Outcome<Vec<u32>> {
        let printed = self.script(&["pids".into()])?;
        printed.split_whitespace().map(|pid| pid.parse().map_err(Into::into)).collect()
    }

    fn script(&self, options: &[String]) -> Outcome<String> {
        let mut command = Command::new(&self.kafka);
        command.args(options).arg("--dir").arg(&self.dir).stderr(Stdio::inherit());
        // Into a file, not a pipe: the broker that `start` leaves running inherits it and would hold a pipe open.
        let path = self.dir.with_extension("out");
        let status = command.stdout(fs::File::create(&path)?).status();
        let status = status.map_err(|error| format!("{}: {error}", self.kafka.display()))?;
        if !status.success() {
            return Err(format!("{} {} failed: {status}", self.kafka.display(), options.join(" ")).into());
        }
        Ok(fs::read_to_string(&path)?)
    }

    /// Start time, memory once it is up, and CPU while nobody asks for anything.
    pub fn at_rest(&self, idle_s: u64) -> Outcome<Vec<(&'static str, f64)>> {
        thread::sleep(Duration::from_secs(1));
        let memory = |field| self.pids.iter().map(|pid| memory_mib(*pid, field)).sum::<Outcome<f64>>();
        let (rss, peak) = (memory("VmRSS:")?, memory("VmHWM:")?);
        let (cpu, began) = (self.cpu_ms()?, monotonic_ms());
        thread::sleep(Duration::from_secs(idle_s));
        let idle = (self.cpu_ms()? - cpu) as f64 / (monotonic_ms() - began) as f64 * 100.0;
        Ok(vec![
            ("start_ms", self.start_ms),
            ("memory_mib", rss),
            ("memory_peak_mib", peak),
            ("idle_cpu_percent_of_core", idle),
        ])
    }

    fn cpu_ms(&self) -> Outcome<u64> {
        self.pids.iter().map(|pid| cpu_ms(*pid)).sum()
    }

    /// Stops it and deletes its data.
    pub fn stop(mut self) -> Outcome<()> {
        self.end()
    }

    fn end(&mut self) -> Outcome<()> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        let ended = match self.child.take() {
            None => self.script(&["stop".into()]).map(drop),
            Some(mut child) => {
                Command::new("kill").arg(child.id().to_string()).status()?;
                match child.wait()? {
                    status if status.success() => Ok(()),
                    status => Err(format!("ringlog did not stop cleanly: {status}").into()),
                }
            }
        };
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir)?;
        }
        ended
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("compare: stopping {}: {error}", self.kind.name());
        }
    }
}

/// User and system time of a process. Ticks of `/proc/PID/stat` are 10 ms.
fn cpu_ms(pid: u32) -> Outcome<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let behind = stat.rsplit_once(')').ok_or("a stat file without command")?.1;
    let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
    let ticks = |index: usize| -> Outcome<u64> { Ok(fields.get(index).ok_or("a short stat file")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) * 10)
}

/// A field of `/proc/PID/status` that is in KiB.
fn memory_mib(pid: u32, field: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).ok_or("no such field")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
