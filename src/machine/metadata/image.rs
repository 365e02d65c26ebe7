//! The image: the whole metadata of the cluster at one offset of its log.
//!
//! Shards hold it as `Arc<Image>`. A copy shares all but what changes: a batch on an image of 100,000 partitions
//! copies the topics that it touches and a bucket of the map for each, nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::cow::CowMap;
use super::record::{Broker, BrokerState, Partition, Topic};
use crate::machine::config::{BrokerConfig, Layers, Settings, TopicConfig};

static NO_SETTINGS: Settings = Settings::new();

/// How many replicas and leaders a broker has been given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Replicas placed on it.
    pub replicas: u64,
    /// Partitions it leads.
    pub leaders: u64,
}

/// The cluster's metadata at one offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    pub(super) offset: Option<i64>,
    pub(super) timestamp_ms: i64,
    pub(super) cluster_id: Option<Uuid>,
    pub(super) features: BTreeMap<String, i16>,
    pub(super) brokers: BTreeMap<i32, Arc<Broker>>,
    pub(super) topics: CowMap<Uuid, Arc<Topic>>,
    pub(super) cluster_settings: Arc<Settings>,
    pub(super) broker_settings: BTreeMap<i32, Arc<Settings>>,
    pub(super) next_producer_id: i64,
    // Derived from the above, kept so that nothing has to walk all topics.
    pub(super) names: CowMap<Arc<str>, Uuid>,
    pub(super) folded_names: CowMap<String, Arc<str>>,
    pub(super) loads: BTreeMap<i32, Load>,
    pub(super) partitions: usize,
}

impl Image {
    /// The offset of the last batch applied; none before the first.
    #[must_use]
    pub fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// When the last batch was made, by the wall clock of who made it.
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The cluster's id; none before the cluster was formed.
    #[must_use]
    pub fn cluster_id(&self) -> Option<Uuid> {
        self.cluster_id
    }

    /// Finalized features and their levels.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// Every registered broker, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// The broker with this id.
    #[must_use]
    pub fn broker(&self, id: i32) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// Whether this broker is registered and may lead.
    #[must_use]
    pub fn is_unfenced(&self, id: i32) -> bool {
        self.broker(id).is_some_and(|broker| broker.state == BrokerState::Unfenced)
    }

    /// What a broker has been given.
    #[must_use]
    pub fn load(&self, broker: i32) -> Load {
        self.loads.get(&broker).copied().unwrap_or_default()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have together.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Every topic, in no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.iter().map(|(_, topic)| topic)
    }

    /// Every topic, by name.
    #[must_use]
    pub fn topics_by_name(&self) -> Vec<&Arc<Topic>> {
        let mut topics: Vec<_> = self.topics().collect();
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// The topic with this id.
    #[must_use]
    pub fn topic(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The id of the topic with this name.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<Uuid> {
        self.names.get(name).copied()
    }

    /// The topic with this name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topic_id(name).and_then(|id| self.topic(id))
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, topic: Uuid, index: i32) -> Option<&Arc<Partition>> {
        self.topic(topic)?.partitions.get(usize::try_from(index).ok()?)
    }

    /// What is set while running for all brokers.
    #[must_use]
    pub fn cluster_settings(&self) -> &Settings {
        &self.cluster_settings
    }

    /// What is set while running for one broker.
    #[must_use]
    pub fn broker_settings(&self, id: i32) -> &Settings {
        self.broker_settings.get(&id).map_or(&NO_SETTINGS, |settings| settings)
    }

    /// The first producer id that was not handed out.
    #[must_use]
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The layers of a broker's settings; `file` is what it was started with.
    #[must_use]
    pub fn layers<'a>(&'a self, broker: i32, file: &'a Settings) -> Layers<'a> {
        Layers { broker: self.broker_settings(broker), cluster: &self.cluster_settings, file }
    }

    /// A broker's options as they are now.
    #[must_use]
    pub fn broker_config(&self, broker: i32, file: &Settings) -> BrokerConfig {
        BrokerConfig::resolve(self.layers(broker, file))
    }

    /// A topic's options as they are now on this broker.
    #[must_use]
    pub fn topic_config(&self, topic: &Topic, broker: i32, file: &Settings) -> TopicConfig {
        TopicConfig::resolve(&topic.settings, self.layers(broker, file))
    }
}
