//! What all threads of one broker process share.

use crate::control::ControlMessage;
use crate::machine::config::{BrokerConfig, Settings};
use crate::shard::Message;
use crate::shard::mailbox::Mailbox;
use crate::shard::perturb::Source;
use crate::shard::watchdog::Pulse;
use crate::telemetry::metrics::ShardCounters;
use ringlog_storage::PartitionKey;
use ringlog_storage::disk::Disk;
use ringlog_storage::job::Files;
use ringlog_storage::reader::Segments;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// One broker process.
pub struct Node {
    /// `node.id`.
    pub node_id: i32,
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// Names this process.
    pub incarnation: Uuid,
    /// Where clients reach it.
    pub advertised: (String, u16),
    /// Its rack.
    pub rack: Option<String>,
    /// What it was started with: file and command line.
    pub file: Settings,
    /// Its options as they were at the start.
    pub config: BrokerConfig,
    /// Number of data shards.
    pub shards: usize,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The data folder's file system.
    pub disk: Arc<dyn Disk>,
    /// Handles of segment files being written.
    pub files: Arc<Files>,
    /// Segment files being read.
    pub segments: Arc<Segments>,
    /// One for each shard.
    pub mailboxes: Vec<Mailbox<Message>>,
    /// The control executor's.
    pub control: Mailbox<ControlMessage>,
    /// One for each shard.
    pub counters: Vec<Arc<ShardCounters>>,
    /// One for each shard, and the control executor's last.
    pub pulses: Vec<Arc<Pulse>>,
    /// The file system is so full that produce is refused.
    pub disk_low: AtomicBool,
    /// Whether each shard's store found no room lately.
    pub stores_full: Vec<AtomicBool>,
    /// Partitions open on all shards.
    pub partitions: AtomicUsize,
    /// Client connections of each shard.
    pub connections: Vec<AtomicUsize>,
    /// Most connections of clients, in all and of one address: they may change while the broker runs.
    pub connections_max: [AtomicU32; 2],
    /// How many connections each client address has. Touched only when one comes or goes.
    pub clients: Mutex<HashMap<IpAddr, usize>>,
    /// Shards that have no connections left and wait for the others.
    pub stopped: AtomicUsize,
    /// What tests pause and reorder.
    pub perturb: Source,
}

impl Node {
    /// The shard that a partition belongs to: a stable hash of topic id and partition.
    #[must_use]
    pub fn shard_of(&self, key: &PartitionKey) -> usize {
        shard_of(key, self.shards)
    }

    /// Ends the process at once: what is on the disk is unknowable, or a promise cannot be kept any more.
    pub fn fatal(&self, what: &str) {
        tracing::error!("fatal: {what}");
        eprintln!(
            "ringlog: fatal: {what}; the broker stops so that nothing is acknowledged that may be lost"
        );
        std::process::exit(1);
    }

    /// Takes over the limits of connections from the settings as they are now. Connections there are stay.
    pub fn limit_connections(&self, config: &BrokerConfig) {
        let limits = [config.max_connections, config.max_connections_per_ip];
        for (limit, value) in self.connections_max.iter().zip(limits) {
            limit.store(value, Ordering::Relaxed);
        }
    }

    /// Counts one more connection of this address, unless there are too many, in all or of the address.
    ///
    /// # Errors
    /// How many there are: in all, and of the address.
    pub fn client_comes(&self, address: IpAddr) -> Result<(), (usize, usize)> {
        let [total_max, of_address_max] =
            self.connections_max.each_ref().map(|max| max.load(Ordering::Relaxed) as usize);
        let total = self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = clients.get(&address).copied().unwrap_or(0);
        if total >= total_max || of_address >= of_address_max {
            return Err((total, of_address));
        }
        clients.insert(address, of_address + 1);
        Ok(())
    }

    /// A connection of this address is gone.
    pub fn client_left(&self, address: IpAddr) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&address);
            }
        }
    }

    /// Whether produce is refused for want of disk space.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        self.disk_low.load(Ordering::Relaxed) || self.perturb.disk_is_full()
    }
}

/// See [`Node::shard_of`]. FNV-1a, so that it is the same in every version and on every machine.
#[must_use]
pub fn shard_of(key: &PartitionKey, shards: usize) -> usize {
    let bytes = key.topic.as_bytes().iter().chain(&key.partition.to_le_bytes()).copied().collect::<Vec<_>>();
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The high half is mixed better than the low one.
    ((hash >> 32) as usize) % shards
}
