//! Kafka's APIs: what each request asks of the machines, and what their answers are on the wire. One file per API;
//! `kafka-protocol`'s structs stop here.
//!
//! Everything is pure. `plan` turns a decoded request into questions and commands and refuses what can be refused
//! at once; `reply` turns the answers into the response of the version that was asked for. Between the two the
//! handlers in `shard` wait. [`table`] lists every API that is served.

pub mod alter_configs;
pub mod api_versions;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod find_coordinator;
pub mod groups;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod partitions;
pub mod sync_group;
pub mod table;

mod cluster;
#[cfg(test)]
mod fixture;
mod operations;
mod resource;
#[cfg(test)]
mod versions;
mod wire;

use crate::machine::config::{BrokerConfig, Settings};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{ApiError, Image};

/// The topic that holds the groups' state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The metadata as this broker sees it, for answers that are made of nothing else.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// This broker.
    pub node_id: i32,
    /// What it was started with.
    pub file: &'a Settings,
    /// The cluster's metadata.
    pub image: &'a Image,
}

impl View<'_> {
    /// This broker's options as they are now.
    #[must_use]
    pub fn config(&self) -> BrokerConfig {
        self.image.broker_config(self.node_id, self.file)
    }
}

/// What became of each thing that a command names, in its order; or why the command failed as a whole.
pub type Outcomes<K, T> = Result<Vec<(K, Result<T, ApiError>)>, ErrorCode>;

/// Who sent a request, as far as answers depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The client id of the request's header.
    pub id: Option<&'a str>,
    /// Where it connected from, as Kafka writes it: `/10.0.0.1`.
    pub host: &'a str,
}
