//! A broker process: everything is checked, recovered and started here, and stopped in order.

use crate::clock::{monotonic_ms, wall_ms};
use crate::control::metadata_log::{self, MetadataLog};
use crate::control::{self, ControlMessage, REPLICATION_FACTOR_MAX};
use crate::host;
use crate::machine::config::{BrokerConfig, Layers, Settings};
use crate::machine::metadata::{
    Batch, Capacity, Command, Context, Endpoint, Image, Registration, Reply, decide,
};
use crate::node::{Node, shard_of};
use crate::shard::mailbox::Mailbox;
use crate::shard::watchdog::{Pulse, Watchdog};
use crate::shard::{self, Commit, Message, ShardStart};
use crate::telemetry::http::{self, HttpServer, Source};
use crate::telemetry::metrics::{Metrics, ShardCounters};
use crate::version_file::{self, FORMAT, VersionFile};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use ringlog_storage::disk::{Disk, Open, RealDisk, block_ceil};
use ringlog_storage::job::Files;
use ringlog_storage::reader::Segments;
use ringlog_storage::recovery::{self, Error, FIRST_FILE_BYTES, Plan, Recovered};
use ringlog_storage::store::{Store, StoreSettings};
use ringlog_storage::wal::writer::WalSettings;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use uuid::Uuid;

/// Preempt timer of every executor: shorter ones make glommio lose wake-ups (see `shard::watchdog`).
const PREEMPT: Duration = Duration::from_millis(10);
/// How long an executor spins before it parks.
const SPIN: Duration = Duration::from_micros(20);
/// Memory of each executor that the kernel knows beforehand, for WAL commits.
const REGISTERED_BYTES: usize = 8 << 20;
/// Threads of each shard that do its blocking work.
const BLOCKING_THREADS: usize = 4;
/// Bytes of one WAL file.
const WAL_FILE_BYTES: u64 = 64 << 20;
/// A file that keeps room for recovery: given up when a start finds the disk full, made again when there is room.
const RESERVE_FILE: &str = "RESERVE";
/// Its size...
const RESERVE_FILE_BYTES: u64 = 64 << 20;
/// ... or this part of a small file system.
const RESERVE_FILE_PART: u64 = 32;
/// How often the room on the disk is looked at.
const SPACE_PERIOD: Duration = Duration::from_millis(100);
/// Room that is kept for recovery, checkpoints and metadata: produce is refused below it...
const RESERVE_BYTES: u64 = 256 << 20;
/// ... or below this part of a small file system.
const RESERVE_PART: u64 = 8;

/// What a broker is started with.
pub struct Options {
    /// The data folder, created if absent.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub listen: String,
    /// What clients are told to connect to; the listen address if none.
    pub advertise: Option<String>,
    /// Where `/metrics` and `/health` are; none for nowhere.
    pub http: Option<String>,
    /// `node.id`.
    pub node_id: i32,
    /// Rack.
    pub rack: Option<String>,
    /// Data shards; one for each core if none.
    pub shards: Option<usize>,
    /// Cores to run on.
    pub cores: Option<Vec<usize>>,
    /// Core of the control executor.
    pub control_core: Option<usize>,
    /// Settings from file and command line.
    pub settings: Settings,
}

/// A running broker.
pub struct Broker {
    node: Arc<Node>,
    address: SocketAddr,
    http: Option<HttpServer>,
    shards: Vec<ExecutorJoinHandle<()>>,
    control: ExecutorJoinHandle<()>,
    threads: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    _watchdog: Watchdog,
    _lock: std::fs::File,
    started_ms: u64,
}

/// What the data folder holds, read and recovered.
struct Opened {
    version: VersionFile,
    image: Image,
    log: MetadataLog,
    recovered: Recovered,
}

impl Broker {
    /// Starts a broker. It accepts clients when this returns.
    ///
    /// # Errors
    /// One line that says what is wrong and what to do.
    pub fn start(options: Options) -> Result<Broker, String> {
        let began = monotonic_ms();
        let cores = options.cores.clone().unwrap_or_else(all_cores);
        let placements = Placements::of(&cores, options.shards, options.control_core);
        let shards = placements.shards.len();
        host::check_process(shards as u64 + 1)?;
        std::fs::create_dir_all(&options.data_dir)
            .map_err(|e| format!("the data folder {} cannot be made: {e}", options.data_dir.display()))?;
        host::check_data_dir(&options.data_dir)?;
        let lock = host::lock(&options.data_dir)?;
        let listener = bind(&options.listen)?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let http_listener = options.http.as_deref().map(bind).transpose()?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&options.data_dir));
        let advertised = advertised(&options, address)?;
        let config = resolve(&options);
        let space = Space::of(&options);
        space.give_up_reserve(&*disk);
        let opened = open_data(&disk, &options, &advertised, &config, shards)?;
        let node = Arc::new(make_node(&options, &disk, advertised, config, shards, &opened.version));
        let pulses = node.pulses.clone();
        let watchdog = Watchdog::start(pulses).map_err(|e| format!("the watchdog cannot be started: {e}"))?;
        space.look(&node);
        let image = Arc::new(opened.image);
        let (ready, is_ready) = mpsc::channel();
        let control = start_control(&node, &image, opened.log, &placements)?;
        let shards = start_shards(&node, &image, opened.recovered, &placements, &ready)?;
        drop(ready);
        for _ in 0..node.shards {
            is_ready.recv().map_err(|_| "a shard ended while it was starting".to_owned())?;
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let threads =
            vec![start_acceptor(&node, listener, &stopping)?, start_space_watch(&node, space, &stopping)?];
        let metrics = Metrics::new(node.counters.clone());
        let source: Arc<dyn Source> = Arc::new(Health { node: Arc::clone(&node), metrics });
        let http = http_listener.map(|listener| http::serve(listener, source)).transpose();
        let http = http.map_err(|e| format!("the HTTP server cannot be started: {e}"))?;
        Ok(Broker {
            node,
            address,
            http,
            shards,
            control,
            threads,
            stopping,
            _watchdog: watchdog,
            _lock: lock,
            started_ms: monotonic_ms() - began,
        })
    }

    /// The line that says that clients are accepted.
    #[must_use]
    pub fn ready_line(&self) -> String {
        let http = self.http.as_ref().map_or_else(|| "off".to_owned(), |http| http.address().to_string());
        format!(
            "ringlog ready: {} node {}, {} shards, {} partitions, http {http}, data {}, {} ms",
            self.address,
            self.node.node_id,
            self.node.shards,
            self.node.partitions.load(Ordering::Relaxed),
            self.node.data_dir.display(),
            self.started_ms
        )
    }

    /// What its threads share, and where clients connect.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> (&Arc<Node>, SocketAddr) {
        (&self.node, self.address)
    }

    /// Stops in order: answers what is in flight, writes everything out, ends all threads.
    pub fn stop(self) {
        tracing::info!("stopping");
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor, which then sees that it is over.
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            wake.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        let _ = TcpStream::connect_timeout(&wake, Duration::from_secs(1));
        for mailbox in &self.node.mailboxes {
            mailbox.send(Message::Stop);
        }
        for shard in self.shards {
            if let Err(error) = shard.join() {
                tracing::error!("a shard ended badly: {error}");
            }
        }
        self.node.control.send(ControlMessage::Stop);
        if let Err(error) = self.control.join() {
            tracing::error!("the control executor ended badly: {error}");
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        if let Some(http) = self.http {
            http.stop();
        }
        tracing::info!("stopped");
    }
}

fn all_cores() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (0..cores).collect()
}

fn bind(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another process: stop that one, or choose another address")
        }
        _ => format!("cannot listen at {address}: {e}"),
    })
}

fn advertised(options: &Options, address: SocketAddr) -> Result<(String, u16), String> {
    let Some(text) = &options.advertise else {
        if address.ip().is_unspecified() {
            return Err(format!(
                "clients cannot connect to {}: say what they should connect to with --advertise HOST:PORT",
                address.ip()
            ));
        }
        return Ok((address.ip().to_string(), address.port()));
    };
    let parsed = text.rsplit_once(':').and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    let (host, port) = parsed.ok_or_else(|| format!("--advertise {text}: write it as HOST:PORT"))?;
    Ok((host, if port == 0 { address.port() } else { port }))
}

fn resolve(options: &Options) -> BrokerConfig {
    let none = Settings::new();
    BrokerConfig::resolve(Layers { broker: &none, cluster: &none, file: &options.settings })
}

/// Reads the metadata, drains the log, and makes this process the broker that the metadata know.
fn open_data(
    disk: &Arc<dyn Disk>,
    options: &Options,
    advertised: &(String, u16),
    config: &BrokerConfig,
    shards: usize,
) -> Result<Opened, String> {
    let known = version_file::read(&**disk, options.node_id)?;
    let committed = metadata_log::read(&**disk).map_err(|e| format!("the metadata cannot be read: {e}"))?;
    let image = &committed.image;
    if let (Some(version), Some(cluster)) = (&known, image.cluster_id())
        && version.cluster_id != cluster
    {
        return Err(
            "the data folder's metadata belong to another cluster than its VERSION file says".to_owned()
        );
    }
    if known.is_none() && image.cluster_id().is_some() {
        return Err("the data folder has metadata but no VERSION file: restore that file".to_owned());
    }
    let version = known.unwrap_or_else(|| VersionFile {
        format: FORMAT,
        cluster_id: control::usable_id(),
        node_id: options.node_id,
        directory_id: control::usable_id(),
    });
    version_file::write(&**disk, &version).map_err(|e| format!("VERSION cannot be written: {e}"))?;
    let shards_u32 = u32::try_from(shards).map_err(|_| "too many shards".to_owned())?;
    let shard = |key: &ringlog_storage::PartitionKey| u32::try_from(shard_of(key, shards)).unwrap_or(0);
    let knows = |topic: Uuid| image.topic(topic).is_some();
    let mut plan = Plan {
        shards: shards_u32,
        shard_of: &shard,
        knows: &knows,
        expects_data: image.topic_count() > 0,
        random: &mut || Uuid::new_v4().as_u64_pair().0,
        first_file_bytes: FIRST_FILE_BYTES.min(config.wal_max_bytes / 4).max(1 << 20),
    };
    let recovered = recovery::recover(&**disk, &mut plan).map_err(|error| match error {
        Error::Io(e) => format!("recovering the data folder failed: {e}"),
        damaged @ Error::Damaged { .. } => format!(
            "acknowledged data are damaged: {damaged}; nothing was changed; look at it with `ringlog check \
             --data-dir {}`",
            options.data_dir.display()
        ),
    })?;
    report(&recovered);
    let mut log = MetadataLog::open(Arc::clone(disk), &committed)
        .map_err(|e| format!("the metadata cannot be written: {e}"))?;
    let mut image = committed.image;
    register(&mut log, &mut image, &version, options, advertised)?;
    Ok(Opened { version, image, log, recovered })
}

fn report(recovered: &Recovered) {
    let report = &recovered.report;
    if report.frames > 0 || report.discarded > 0 {
        tracing::info!(
            "recovery: {} frames, {} bytes replayed; {} torn commits, never acknowledged, cut",
            report.frames,
            report.bytes,
            report.discarded
        );
    }
    for topic in &report.strays {
        tracing::warn!("data of unknown topic {topic} were set aside in stray/");
    }
}

/// Forms the cluster if the folder is fresh and registers this process: it gives up what the one before led and
/// leads it again in new epochs.
fn register(
    log: &mut MetadataLog,
    image: &mut Image,
    version: &VersionFile,
    options: &Options,
    advertised: &(String, u16),
) -> Result<(), String> {
    let mut commands = Vec::new();
    if image.cluster_id().is_none() {
        commands.push(Command::FormCluster { cluster_id: version.cluster_id });
    }
    commands.push(Command::RegisterBroker(Registration {
        id: options.node_id,
        cluster_id: Some(version.cluster_id),
        directory: version.directory_id,
        incarnation: control::usable_id(),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: advertised.0.clone(),
            port: advertised.1,
        }],
        rack: options.rack.clone(),
        features: std::collections::BTreeMap::new(),
        capacity: Capacity::default(),
        clean: true,
        lost: Vec::new(),
        unfenced: true,
    }));
    for command in commands {
        let mut new_id = control::usable_id;
        let mut context = Context {
            node_id: options.node_id,
            settings: &options.settings,
            replication_factor_max: REPLICATION_FACTOR_MAX,
            new_id: &mut new_id,
        };
        let decision = decide(image, &mut context, &command);
        if let Reply::Formed(Err(error)) | Reply::Registered(Err(error)) = &decision.reply {
            return Err(format!("this broker cannot register: {}", error.message));
        }
        let offset = image.offset().map_or(0, |offset| offset + 1);
        let batch = Batch { offset, timestamp_ms: wall_ms(), records: decision.records };
        log.append(&[batch.encode()]).map_err(|e| format!("the metadata cannot be written: {e}"))?;
        image.apply_batch(&batch);
    }
    Ok(())
}

fn make_node(
    options: &Options,
    disk: &Arc<dyn Disk>,
    advertised: (String, u16),
    config: BrokerConfig,
    shards: usize,
    version: &VersionFile,
) -> Node {
    Node {
        node_id: options.node_id,
        cluster_id: version.cluster_id,
        incarnation: control::usable_id(),
        advertised,
        rack: options.rack.clone(),
        file: options.settings.clone(),
        config,
        shards,
        data_dir: options.data_dir.clone(),
        disk: Arc::clone(disk),
        files: Arc::new(Files::new(512)),
        segments: Arc::new(Segments::new(512)),
        mailboxes: (0..shards).map(|_| Mailbox::default()).collect(),
        control: Mailbox::default(),
        counters: (0..shards).map(|_| Arc::new(ShardCounters::default())).collect(),
        pulses: (0..=shards).map(|_| Arc::new(Pulse::default())).collect(),
        disk_low: AtomicBool::new(false),
        partitions: AtomicUsize::new(0),
        connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        clients: Mutex::default(),
        stopped: AtomicUsize::new(0),
        perturb: shard::perturb::Source::current(),
    }
}

/// Cores from which on executors are pinned.
const PINNED_FROM: usize = 4;

/// Where executors run: pinned where there are cores enough.
struct Placements {
    shards: Vec<Placement>,
    control: Placement,
}

impl Placements {
    /// One data shard a core; from [`PINNED_FROM`] cores on all are pinned and the control executor has one of
    /// its own.
    fn of(cores: &[usize], shards: Option<usize>, control_core: Option<usize>) -> Placements {
        if cores.len() < PINNED_FROM {
            let shards = vec![Placement::Unbound; shards.unwrap_or(cores.len())];
            return Placements { shards, control: control_core.map_or(Placement::Unbound, Placement::Fixed) };
        }
        let control = control_core.unwrap_or(cores[cores.len() - 1]);
        let free: Vec<usize> = cores.iter().copied().filter(|core| *core != control).collect();
        let shards = shards.unwrap_or(free.len());
        let shards = (0..shards).map(|i| Placement::Fixed(free[i % free.len()])).collect();
        Placements { shards, control: Placement::Fixed(control) }
    }
}

fn executor(name: &str, placement: Placement, registered: usize, blocking: usize) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .name(name)
        .preempt_timer(PREEMPT)
        .spin_before_park(SPIN)
        .io_memory(registered)
        .blocking_thread_pool_placement(glommio::PoolPlacement::Unbound(blocking))
}

fn start_control(
    node: &Arc<Node>,
    image: &Arc<Image>,
    log: MetadataLog,
    placements: &Placements,
) -> Result<ExecutorJoinHandle<()>, String> {
    let (node, image) = (Arc::clone(node), Arc::clone(image));
    let pulse = Arc::clone(&node.pulses[node.shards]);
    executor("control", placements.control.clone(), 64 << 10, 1)
        .spawn(move || control::run(node, image, log, pulse))
        .map_err(|e| format!("the control executor cannot be started: {e}"))
}

fn start_shards(
    node: &Arc<Node>,
    image: &Arc<Image>,
    recovered: Recovered,
    placements: &Placements,
    ready: &mpsc::Sender<()>,
) -> Result<Vec<ExecutorJoinHandle<()>>, String> {
    let memory = usize::try_from(node.config.memory_bytes).unwrap_or(usize::MAX);
    let wal_max = node.config.wal_max_bytes;
    let settings = StoreSettings {
        wal: WalSettings {
            file_bytes: WAL_FILE_BYTES.min(wal_max / 4).max(1 << 20),
            max_bytes: wal_max,
            commits_in_flight: node.config.wal_commits_in_flight as usize,
        },
        memory_bytes: memory,
        checkpoint_bytes: wal_max / 4,
        checkpoint_ms: 30_000,
    };
    let mut handles = Vec::new();
    for (id, state) in recovered.shards.into_iter().enumerate() {
        let (node, image, ready) = (Arc::clone(node), Arc::clone(image), ready.clone());
        let store_seed = Uuid::new_v4().as_u64_pair().0;
        let handle = executor(
            &format!("shard-{id}"),
            placements.shards[id].clone(),
            REGISTERED_BYTES,
            BLOCKING_THREADS,
        )
        .spawn(move || {
            let store = Store::<Commit>::new(settings, state, store_seed);
            shard::run(ShardStart { id, node, store, image, ready })
        })
        .map_err(|e| format!("shard {id} cannot be started: {e}"))?;
        handles.push(handle);
    }
    Ok(handles)
}

/// Accepts clients and deals them out evenly over the shards.
fn start_acceptor(
    node: &Arc<Node>,
    listener: TcpListener,
    stopping: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, String> {
    let (node, stopping) = (Arc::clone(node), Arc::clone(stopping));
    let run = move || {
        let mut turn = 0;
        loop {
            let accepted = listener.accept();
            if stopping.load(Ordering::Acquire) {
                return;
            }
            match accepted {
                Ok((socket, peer)) => {
                    turn += 1;
                    deal(&node, socket, peer, turn);
                }
                Err(error) => {
                    // Out of descriptors, or the client went away: wait a little, not for ever.
                    tracing::warn!("accepting a client failed: {error}");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    };
    std::thread::Builder::new().name("acceptor".into()).spawn(run).map_err(|e| e.to_string())
}

fn deal(node: &Node, socket: TcpStream, peer: SocketAddr, turn: usize) {
    let counts: Vec<usize> = node.connections.iter().map(|c| c.load(Ordering::Relaxed)).collect();
    let total: usize = counts.iter().sum();
    let of_peer = {
        let mut clients = node.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = clients.entry(peer.ip()).or_insert(0);
        *of_peer += 1;
        *of_peer
    };
    let shard = (0..node.shards).map(|i| (i + turn) % node.shards).min_by_key(|i| counts[*i]).unwrap_or(0);
    let config = &node.config;
    if total >= config.max_connections as usize || of_peer > config.max_connections_per_ip as usize {
        tracing::warn!("refusing {peer}: the broker has {total} connections, {} of this host", of_peer - 1);
        node.client_left(peer.ip());
        return;
    }
    node.connections[shard].fetch_add(1, Ordering::Relaxed);
    node.mailboxes[shard].send(Message::Connection(socket, peer));
}

/// Room on the disk that is kept free.
#[derive(Clone, Copy)]
struct Space {
    /// Produce is refused while there is less.
    reserve: u64,
    /// Bytes of the file that keeps room for recovery.
    file: u64,
}

impl Space {
    fn of(options: &Options) -> Space {
        let total = host::file_system_bytes(&options.data_dir).unwrap_or(u64::MAX);
        Space {
            reserve: RESERVE_BYTES.min(total / RESERVE_PART),
            file: block_ceil(RESERVE_FILE_BYTES.min(total / RESERVE_FILE_PART)),
        }
    }

    /// Before recovery, which needs room before it frees any.
    fn give_up_reserve(self, disk: &dyn Disk) {
        if disk.free_bytes().is_ok_and(|free| free < self.file) && disk.remove_file(RESERVE_FILE).is_ok() {
            tracing::warn!("the disk is full: the reserve of {} bytes is given up for recovery", self.file);
        }
    }

    /// Looks how much room there is, and says so when that changes.
    fn look(self, node: &Node) {
        let Ok(free) = node.disk.free_bytes() else { return };
        let low = free < self.reserve;
        if node.disk_low.swap(low, Ordering::Relaxed) != low {
            if low {
                tracing::error!(
                    "the disk has only {free} bytes left: produce is refused until there is room"
                );
            } else {
                tracing::info!("the disk has room again: produce is accepted");
            }
        }
        if free > self.reserve + 2 * self.file
            && let Err(error) = self.keep_reserve(&*node.disk)
        {
            tracing::warn!("the reserve for recovery cannot be kept: {error}");
        }
    }

    fn keep_reserve(self, disk: &dyn Disk) -> std::io::Result<()> {
        if disk.open(RESERVE_FILE, Open::Read).is_ok() {
            return Ok(());
        }
        disk.open(RESERVE_FILE, Open::Replace)?.allocate(0, self.file)
    }
}

/// Watches the room on the disk: below the reserve produce is refused, until there is room again.
fn start_space_watch(
    node: &Arc<Node>,
    space: Space,
    stopping: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, String> {
    let (node, stopping) = (Arc::clone(node), Arc::clone(stopping));
    let run = move || {
        while !stopping.load(Ordering::Acquire) {
            space.look(&node);
            std::thread::sleep(SPACE_PERIOD);
        }
    };
    std::thread::Builder::new().name("space".into()).spawn(run).map_err(|e| e.to_string())
}

/// What HTTP clients see.
struct Health {
    node: Arc<Node>,
    metrics: Metrics,
}

impl Source for Health {
    fn metrics(&self) -> String {
        self.metrics.encode()
    }

    fn ready(&self) -> Result<(), String> {
        if self.node.is_disk_low() { Err("the disk is full: produce is refused".to_owned()) } else { Ok(()) }
    }

    fn live(&self) -> Result<(), String> {
        Ok(())
    }
}
