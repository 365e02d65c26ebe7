//! What can be asked of the metadata machine, and what it answers.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::record::{Capacity, Endpoint};
use crate::machine::config::Settings;
use crate::machine::error::ErrorCode;

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// One line for people, in Kafka's words where Kafka has them.
    pub message: String,
}

impl ApiError {
    /// An error with its message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        assert!(code.is_error(), "NONE is no error");
        ApiError { code, message: message.into() }
    }
}

/// A broker's registration: it was started and has looked at what is on its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Node id.
    pub id: i32,
    /// The cluster that its data folder belongs to; none if the folder is fresh.
    pub cluster_id: Option<Uuid>,
    /// Names the data folder.
    pub directory: Uuid,
    /// Names the process.
    pub incarnation: Uuid,
    /// Where it can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// Feature levels that its version supports, lowest and highest.
    pub features: BTreeMap<String, (i16, i16)>,
    /// What its host offers.
    pub capacity: Capacity,
    /// Whether the process before it ended in order, all that it acknowledged synced.
    pub clean: bool,
    /// Recovery's verdict: partitions (topic id, index) of which acknowledged records are gone.
    pub lost: Vec<(Uuid, i32)>,
    /// Whether it goes into service at once: a single node does; in a cluster heartbeats decide.
    pub unfenced: bool,
}

/// Settings as a client gives them, by name; a value of none is refused as Kafka does.
pub type GivenSettings = Vec<(String, Option<String>)>;

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Name.
    pub name: String,
    /// Partitions; -1 for the default, and where `assignments` say it.
    pub partitions: i32,
    /// Replicas of each; -1 for the default, and where `assignments` say it.
    pub replication_factor: i16,
    /// Brokers of each partition, by index; empty to let Ringlog place them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Its own settings.
    pub settings: GivenSettings,
}

/// Names a topic to be deleted: by name or by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRef {
    /// Its name.
    pub name: Option<String>,
    /// Its id.
    pub id: Option<Uuid>,
}

/// A topic that is to have more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    /// The topic's name.
    pub name: String,
    /// How many it is to have in all.
    pub count: i32,
    /// Brokers of each new partition; none to let Ringlog place them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// What settings belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// All brokers (Kafka's broker resource with an empty name).
    Cluster,
    /// One broker.
    Broker(i32),
}

/// How IncrementalAlterConfigs changes a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterOp {
    /// To the value.
    Set,
    /// Back to what it would be without.
    Delete,
    /// The value's elements are added to the list.
    Append,
    /// The value's elements are taken off the list.
    Subtract,
}

/// One change of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The option's name.
    pub name: String,
    /// What happens to it.
    pub op: AlterOp,
    /// The value that it happens with; none for [`AlterOp::Delete`].
    pub value: Option<String>,
}

/// A request to the metadata machine. What belongs together is one command and becomes one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Gives a fresh cluster its id.
    FormCluster {
        /// Drawn at random by the caller.
        cluster_id: Uuid,
    },
    /// A broker started.
    RegisterBroker(Registration),
    /// CreateTopics. Each topic is created whole or refused.
    CreateTopics {
        /// The topics.
        topics: Vec<NewTopic>,
        /// Answer as if, but change nothing.
        validate_only: bool,
    },
    /// DeleteTopics.
    DeleteTopics {
        /// The topics.
        topics: Vec<TopicRef>,
    },
    /// CreatePartitions. Each topic gets all its new partitions or none.
    CreatePartitions {
        /// The topics.
        topics: Vec<MorePartitions>,
        /// Answer as if, but change nothing.
        validate_only: bool,
    },
    /// AlterConfigs: what is set becomes exactly this.
    AlterConfigs {
        /// Each resource with its settings.
        resources: Vec<(ConfigResource, GivenSettings)>,
        /// Answer as if, but change nothing.
        validate_only: bool,
    },
    /// IncrementalAlterConfigs: each resource is changed whole or refused.
    IncrementalAlterConfigs {
        /// Each resource with its changes.
        resources: Vec<(ConfigResource, Vec<SettingChange>)>,
        /// Answer as if, but change nothing.
        validate_only: bool,
    },
    /// The next block of producer ids.
    AllocateProducerIds,
}

/// A topic as it was created, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// Replicas of each.
    pub replication_factor: i16,
    /// Its own settings.
    pub settings: Settings,
}

/// What became of one topic of DeleteTopics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its name, if it was given or found.
    pub name: Option<String>,
    /// Its id, if it was given or found.
    pub id: Option<Uuid>,
    /// Done, or why not.
    pub result: Result<(), ApiError>,
}

/// The answer to a command; its results are in the order of what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::FormCluster`].
    Formed(Result<(), ApiError>),
    /// To [`Command::RegisterBroker`]: the broker's epoch.
    Registered(Result<i64, ApiError>),
    /// To [`Command::CreateTopics`]: each name with its result.
    Created(Vec<(String, Result<CreatedTopic, ApiError>)>),
    /// To [`Command::DeleteTopics`].
    Deleted(Vec<DeletedTopic>),
    /// To [`Command::CreatePartitions`]: each name with its result.
    Partitions(Vec<(String, Result<(), ApiError>)>),
    /// To both ways of altering settings: each resource with its result.
    Altered(Vec<(ConfigResource, Result<(), ApiError>)>),
    /// To [`Command::AllocateProducerIds`]: the first id and how many follow it, itself included.
    ProducerIds(Result<(i64, i64), ApiError>),
}
