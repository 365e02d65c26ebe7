//! The shell of a data shard: one glommio executor that owns its partitions outright. The only place, with
//! `control`, that awaits.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | what a shard is made of, how it starts and stops |
//! | `mailbox`, `message` | what shards and other threads say to one another |
//! | `connection` | one client connection: frames in, responses out, in order |
//! | `dispatch` | a frame becomes a request that takes effect in its turn |
//! | `produce`, `fetch`, `watch`, `answers` | what is done to and asked of partitions, here or on their shard |
//! | `memory` | memory that responses hold |
//! | `partitions` | the shard's partitions, kept in step with the metadata image |
//! | `groups` | the group coordinators of this shard's `__consumer_offsets` partitions |
//! | `timeouts` | how long requests may wait |
//! | `upkeep` | what time brings: ticks, retention, idle connections |
//! | `handlers` | the APIs that are not hot |
//! | `storage_io` | carries the store's commits and jobs |
//! | `watchdog` | bounds glommio's lost wake-up |
//! | `perturb` | where tests pause and reorder what is done off the shard |

mod all;
mod answers;
pub mod ask;
pub mod connection;
mod dispatch;
mod fetch;
mod groups;
pub mod handlers;
pub mod mailbox;
mod memory;
mod message;
mod partitions;
pub mod perturb;
mod produce;
mod records;
mod storage_io;
#[cfg(test)]
mod tests;
mod timeouts;
mod upkeep;
mod watch;
pub mod watchdog;

use crate::control::ControlMessage;
use crate::machine::budget::{Budget, Limits, Reservation};
use crate::machine::config::BrokerConfig;
use crate::machine::deadlines::Deadlines;
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::FetchSessions;
use crate::machine::metadata::{Command, Image, Reply};
use crate::node::Node;
use crate::telemetry::metrics::ShardCounters;
use connection::{Conn, SCRATCH_BYTES};
use fetch::TopicKey;
use futures_channel::oneshot;
use glommio::sync::Semaphore;
use groups::Groups;
use hashbrown::HashMap;
pub use message::Message;
use partitions::Partitions;
pub use partitions::rules;
use perturb::{Step, pause};
use produce::Produce;
use ringlog_storage::store::Store;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use storage_io::{DmaCommit, WalFiles};
use timeouts::Timed;
use uuid::Uuid;
use watch::Signal;
use watchdog::Pulse;

/// Messages handled before what they caused is moved on.
const MAIL_AT_ONCE: usize = 128;
/// Reads of segments' files that a shard does at a time.
pub const COLD_READS_MAX: usize = 3;

type ById<T> = RefCell<HashMap<u64, T, foldhash::fast::RandomState>>;

/// See the module's documentation.
pub struct Shard {
    /// Its number.
    pub id: usize,
    /// What all threads share.
    pub node: Arc<Node>,
    counters: Arc<ShardCounters>,
    pulse: Arc<Pulse>,
    store: RefCell<Store<DmaCommit>>,
    wal_files: RefCell<WalFiles>,
    image: RefCell<Arc<Image>>,
    config: RefCell<Rc<BrokerConfig>>,
    partitions: RefCell<Partitions>,
    budget: RefCell<Budget<u64>>,
    memory_waits: ById<oneshot::Sender<Reservation>>,
    connections: ById<Rc<Conn>>,
    scratch: RefCell<Vec<u8>>,
    sessions: RefCell<FetchSessions<TopicKey>>,
    fetches: ById<Rc<Signal>>,
    /// Reads of segments' files at a time: the threads that do them also write.
    cold_reads: Semaphore,
    produces: ById<Rc<Produce>>,
    durability: RefCell<Vec<Rc<Signal>>>,
    durable_seen: Cell<u64>,
    groups: RefCell<Groups>,
    numbers: Cell<u64>,
    producer_ids: Cell<(i64, i64)>,
    stopping: Cell<bool>,
    activity: Rc<Signal>,
    active: Cell<bool>,
    full_seen: Cell<Option<u64>>,
    deadlines: RefCell<Deadlines<Timed>>,
}

/// What a handler knows of a request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The API.
    pub api_key: i16,
    /// The version.
    pub api_version: i16,
    /// Comes back with the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// Where it connected from, as Kafka writes it: `/10.0.0.1`.
    pub client_host: String,
    /// Number of the connection on its shard.
    pub connection: u64,
}

/// What a shard's thread is started with.
pub struct ShardStart {
    /// Its number.
    pub id: usize,
    /// What all threads share.
    pub node: Arc<Node>,
    /// Its storage, recovered.
    pub store: Store<DmaCommit>,
    /// The metadata at the start.
    pub image: Arc<Image>,
    /// Told once the shard serves.
    pub ready: std::sync::mpsc::Sender<()>,
}

pub use storage_io::DmaCommit as Commit;

/// Runs a shard until it is told to stop and has written everything out.
pub async fn run(start: ShardStart) {
    let ShardStart { id, node, store, image, ready } = start;
    perturb::enter(&node.perturb, Some(id));
    let config = image.broker_config(node.node_id, &node.file);
    let natural = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let limits = Limits {
        produce: natural(config.budget_produce_bytes),
        responses: natural(config.budget_response_bytes),
        peers: natural(config.budget_peer_bytes),
        requests: natural(config.budget_request_bytes),
    };
    let slots = (config.fetch_session_slots as usize).div_ceil(node.shards);
    let shard = Rc::new(Shard {
        id,
        counters: Arc::clone(&node.counters[id]),
        pulse: Arc::clone(&node.pulses[id]),
        store: RefCell::new(store),
        wal_files: RefCell::default(),
        image: RefCell::default(),
        config: RefCell::new(Rc::new(config)),
        partitions: RefCell::default(),
        budget: RefCell::new(Budget::new(limits)),
        memory_waits: RefCell::default(),
        connections: RefCell::default(),
        scratch: RefCell::new(vec![0; SCRATCH_BYTES]),
        sessions: RefCell::new(FetchSessions::new(slots)),
        fetches: RefCell::default(),
        cold_reads: Semaphore::new(COLD_READS_MAX as u64),
        produces: RefCell::default(),
        durability: RefCell::default(),
        durable_seen: Cell::new(0),
        groups: RefCell::default(),
        numbers: Cell::new(0),
        producer_ids: Cell::new((0, 0)),
        stopping: Cell::new(false),
        activity: Rc::default(),
        active: Cell::new(false),
        full_seen: Cell::new(None),
        deadlines: RefCell::default(),
        node,
    });
    shard.pulse.register();
    shard.take_image(&image);
    shard.pump();
    let _ = ready.send(());
    let upkeep = glommio::spawn_local(Rc::clone(&shard).upkeep()).detach();
    while !shard.stopping.get() {
        pause(Step::Mail).await;
        let message = shard.node.mailboxes[id].receive().await;
        shard.handle(message);
        for _ in 0..MAIL_AT_ONCE {
            let Some(message) = shard.node.mailboxes[id].try_receive() else { break };
            shard.handle(message);
        }
        shard.pump();
        // A steady stream of mail does not keep sockets and disk from being heard.
        glommio::yield_if_needed().await;
    }
    shard.stop().await;
    drop(upkeep);
    shard.pulse.leave();
}

/// The answer of another shard. One that ended first, at a stop, never answers: nobody waits for us then either.
async fn answered<T>(told: oneshot::Receiver<T>) -> T {
    let answer = told.await;
    pause(Step::Answer).await;
    match answer {
        Ok(answer) => answer,
        Err(_) => std::future::pending().await,
    }
}

impl Shard {
    fn handle(self: &Rc<Self>, message: Message) {
        self.pulse.beat();
        match message {
            Message::Connection(socket, peer) => self.accept(socket, peer),
            Message::Image(image) => self.take_image(&image),
            Message::Run(work) => work(self),
            Message::Stop => self.stopping.set(true),
        }
    }

    /// The metadata as this shard knows them.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.image.borrow())
    }

    fn take_image(self: &Rc<Self>, image: &Arc<Image>) {
        self.apply_image(image);
        self.load_groups();
        self.node.control.send(ControlMessage::Applied { shard: self.id, offset: image.offset() });
    }

    /// A number that is unique on this shard.
    fn next_number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    /// A random number.
    fn random(&self) -> u64 {
        self.random_uuid().as_u64_pair().0
    }

    /// A random UUID.
    pub fn random_uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    /// Whether produce is refused for want of disk space.
    fn is_read_only(&self) -> bool {
        self.node.is_disk_low() || self.store.borrow().is_full()
    }

    /// Does something on another shard, or here.
    fn run_on(&self, shard: usize, work: impl FnOnce(&Rc<Shard>) + Send + 'static) {
        self.node.mailboxes[shard].send(Message::Run(Box::new(work)));
    }

    /// Does something on a shard and waits for what it gives.
    async fn call<T: Send + 'static>(
        self: &Rc<Self>,
        shard: usize,
        work: impl FnOnce(&Rc<Shard>) -> T + Send + 'static,
    ) -> T {
        if shard == self.id {
            return work(self);
        }
        let (tell, told) = oneshot::channel();
        self.run_on(shard, move |shard| {
            let _ = tell.send(work(shard));
        });
        answered(told).await
    }

    /// Does something that awaits on another shard and waits for what it gives.
    async fn call_async<T, F, W>(self: &Rc<Self>, shard: usize, work: W) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        W: FnOnce(Rc<Shard>) -> F + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        self.run_on(shard, move |shard| {
            let future: Pin<Box<dyn Future<Output = T>>> = Box::pin(work(Rc::clone(shard)));
            let shard = Rc::clone(shard);
            glommio::spawn_local(async move {
                let _ = tell.send(future.await);
                shard.pump();
            })
            .detach();
        });
        answered(told).await
    }

    /// Has a metadata command decided. It is durable and every shard has its effect when this returns.
    ///
    /// # Errors
    /// What keeps the cluster from deciding, for instance a full disk.
    pub async fn propose(&self, command: Command) -> Result<Reply, ErrorCode> {
        let (tell, told) = oneshot::channel();
        self.node.control.send(ControlMessage::Propose { command, tell });
        let outcome = told.await;
        pause(Step::Proposal).await;
        outcome.unwrap_or(Err(ErrorCode::BROKER_NOT_AVAILABLE))
    }

    /// The next producer id, of a block that is durably this shard's.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub async fn producer_id(self: &Rc<Self>) -> Result<i64, ErrorCode> {
        loop {
            let (next, end) = self.producer_ids.get();
            if next < end {
                self.producer_ids.set((next + 1, end));
                return Ok(next);
            }
            match self.propose(Command::AllocateProducerIds).await? {
                // Another request may have got a block meanwhile: its rest is given up, ids are plenty.
                Reply::ProducerIds(Ok((first, count))) => self.producer_ids.set((first, first + count)),
                Reply::ProducerIds(Err(error)) => return Err(error.code),
                other => unreachable!("producer ids were asked for, not {other:?}"),
            }
        }
    }

    /// Serves a client's connection.
    fn accept(self: &Rc<Self>, socket: std::net::TcpStream, peer: std::net::SocketAddr) {
        let config = Rc::clone(&self.config.borrow());
        let limits = crate::machine::connection::Limits {
            in_flight_max: config.connection_requests_max as usize,
            unsent_bytes_max: config.connection_response_bytes_max as usize,
            stalled_ms_max: config.client_write_timeout_ms,
            idle_ms_max: config.connections_max_idle_ms.filter(|ms| *ms > 0).unwrap_or(u64::MAX / 2),
        };
        let set_up = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
        let polled = set_up.map_err(|e| e.to_string());
        let polled = polled.and_then(|()| glommio::io::PollableFd::new(socket).map_err(|e| e.to_string()));
        match polled {
            Ok(socket) if !self.stopping.get() => {
                let conn = Rc::new(Conn::new(self.next_number(), peer, socket, limits));
                self.connections.borrow_mut().insert(conn.id, Rc::clone(&conn));
                self.counters.connections_accepted.increment();
                self.count_connections();
                glommio::spawn_local(connection::serve(Rc::clone(self), conn)).detach();
            }
            Ok(_) => self.release_connection(peer.ip()),
            Err(error) => {
                tracing::warn!("refusing {peer}: {error}");
                self.release_connection(peer.ip());
            }
        }
    }

    fn count_connections(&self) {
        self.counters.connections.set(self.connections.borrow().len() as u64);
    }

    fn release_connection(&self, address: std::net::IpAddr) {
        self.node.client_left(address);
        self.node.connections[self.id].fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    fn connection_ended(&self, conn: &Conn) {
        self.connections.borrow_mut().remove(&conn.id);
        for class in crate::machine::budget::Class::ALL {
            let mut granted = Vec::new();
            self.budget.borrow_mut().cancel(class, conn.id, &mut granted);
            granted.into_iter().for_each(|grant| self.release_or_grant(grant));
        }
        if let Some(reservation) = conn.take_grant() {
            self.release(reservation);
        }
        self.count_connections();
        self.release_connection(conn.peer.ip());
    }
}
