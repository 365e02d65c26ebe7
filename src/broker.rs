//! A broker process: everything is checked, recovered and started here, and stopped in order.

mod acceptor;
mod data;
mod executors;
mod health;
mod space;

use crate::clock::monotonic_ms;
use crate::control::{self, ControlMessage};
use crate::host;
use crate::machine::config::{BrokerConfig, Layers, Settings};
use crate::node::Node;
use crate::shard::Message;
use crate::shard::mailbox::Mailbox;
use crate::shard::watchdog::{Pulse, Watchdog};
use crate::telemetry::http::{self, HttpServer, Source};
use crate::telemetry::metrics::{Metrics, ShardCounters};
use crate::version_file::VersionFile;
use acceptor::start_acceptor;
use data::open_data;
use executors::{Placements, start_control, start_shards, watched};
use glommio::ExecutorJoinHandle;
use ringlog_storage::disk::{Disk, RealDisk};
use ringlog_storage::job::Files;
use ringlog_storage::reader::Segments;
use space::{Space, start_space_watch};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

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
        let watchdog =
            Watchdog::start(watched(&node)).map_err(|e| format!("the watchdog cannot be started: {e}"))?;
        space.look(&node);
        let image = Arc::new(opened.image);
        node.limit_connections(&image.broker_config(node.node_id, &node.file));
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
        let source: Arc<dyn Source> = Arc::new(health::Health { node: Arc::clone(&node), metrics });
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
        stores_full: (0..shards).map(|_| AtomicBool::new(false)).collect(),
        partitions: AtomicUsize::new(0),
        connections: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
        connections_max: Default::default(),
        clients: Mutex::default(),
        stopped: AtomicUsize::new(0),
        perturb: crate::shard::perturb::Source::current(),
    }
}
