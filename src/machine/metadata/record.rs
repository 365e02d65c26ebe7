//! What the metadata log says: the records, and the brokers, topics and partitions that they describe.
//!
//! A record holds the whole new state of its subject (a partition, a broker), not a difference, so that there is one
//! format for making and for changing, and a snapshot is made of the same records as the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::machine::config::Settings;

/// Where a broker can be reached under a listener's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the listener: `PLAINTEXT` for clients, `PEER` for brokers.
    pub listener: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Whether a broker may lead and be in sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// Registered, but not heard of or not caught up: leads nothing.
    Fenced,
    /// In service.
    Unfenced,
    /// Leaving in order: gets no new leadership or replica.
    Stopping,
}

/// What a broker's host offers; zero where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capacity {
    /// Cores.
    pub cores: u32,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Bytes per second of network.
    pub network_bytes_per_s: u64,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Node id.
    pub id: i32,
    /// Names the data folder: another one means that what this broker held is gone.
    pub directory: Uuid,
    /// Names the process: drawn at each start.
    pub incarnation: Uuid,
    /// Grows with every registration of any broker; requests with an older one are refused (KIP-903).
    pub epoch: i64,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// Feature levels that its version supports, lowest and highest.
    pub features: BTreeMap<String, (i16, i16)>,
    /// What its host offers.
    pub capacity: Capacity,
    /// Whether it is in service.
    pub state: BrokerState,
}

/// The replicas of a partition and who leads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Brokers that hold it; the first is the preferred leader.
    pub replicas: Vec<i32>,
    /// In-sync replicas: they hold every acknowledged record.
    pub isr: Vec<i32>,
    /// Eligible leader replicas (KIP-966): out of sync, but known to hold every acknowledged record.
    pub elr: Vec<i32>,
    /// Who led last, while nobody leads and nobody is in sync.
    pub last_known_leader: Option<i32>,
    /// Who leads.
    pub leader: Option<i32>,
    /// Grows with each leadership, given or taken away.
    pub leader_epoch: i32,
    /// Grows with each change.
    pub partition_epoch: i32,
}

/// A topic with all its partitions and its own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Never used again, also not for a topic of the same name.
    pub id: Uuid,
    /// Name.
    pub name: Arc<str>,
    /// By index.
    pub partitions: Vec<Arc<Partition>>,
    /// What is set on the topic itself.
    pub settings: Settings,
}

impl Topic {
    /// Replicas of its partitions; every partition of a topic is created with as many.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replicas.len())
    }
}

/// One change of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster has this id. The first record of every log.
    Cluster {
        /// Never changes.
        id: Uuid,
    },
    /// A feature is finalized at this level; 0 takes it away.
    Feature {
        /// Kafka's or Ringlog's name of the feature.
        name: String,
        /// Level in use.
        level: i16,
    },
    /// A broker registered or changed its state.
    Broker(Broker),
    /// A topic exists; its partitions follow.
    Topic {
        /// Id.
        id: Uuid,
        /// Name.
        name: String,
    },
    /// A partition is like this now. New ones come in order of their index.
    Partition {
        /// The topic's id.
        topic: Uuid,
        /// Index in the topic.
        index: i32,
        /// Its whole state.
        partition: Partition,
    },
    /// A topic is gone, with its partitions and settings.
    TopicDeleted {
        /// Id.
        id: Uuid,
    },
    /// A setting of a topic; none takes it away.
    TopicSetting {
        /// The topic's id.
        topic: Uuid,
        /// The option's name.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// A setting of one broker, or of all; none takes it away.
    BrokerSetting {
        /// Which broker; none for the cluster-wide default.
        broker: Option<i32>,
        /// The option's name.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// Every producer id below this one was handed out.
    ProducerIds {
        /// The first one that is free.
        next: i64,
    },
}
