//! The resolved options of a broker, as plain typed fields.

use super::layers::Layers;

/// The options of one broker. Sizes are bytes, times milliseconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `node.id`
    pub node_id: i32,
    /// `broker.rack`
    pub rack: Option<String>,
    /// `auto.create.topics.enable`
    pub auto_create_topics: bool,
    /// `delete.topic.enable`
    pub delete_topics: bool,
    /// `num.partitions`
    pub num_partitions: i32,
    /// `default.replication.factor`
    pub default_replication_factor: i16,
    /// `log.retention.check.interval.ms`
    pub retention_check_interval_ms: u64,
    /// `socket.request.max.bytes`
    pub request_max_bytes: u32,
    /// `ringlog.request.max.bytes`: for requests that carry no records
    pub small_request_max_bytes: u32,
    /// `max.connections`
    pub max_connections: u32,
    /// `max.connections.per.ip`
    pub max_connections_per_ip: u32,
    /// `connections.max.idle.ms`; none for never
    pub connections_max_idle_ms: Option<u64>,
    /// `ringlog.client.write.timeout.ms`
    pub client_write_timeout_ms: u64,
    /// `ringlog.connection.requests.max`
    pub connection_requests_max: u32,
    /// `ringlog.connection.response.bytes.max`
    pub connection_response_bytes_max: u32,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_session_slots: u32,
    /// `fetch.max.bytes`
    pub fetch_max_bytes: u32,
    /// `ringlog.memory.bytes`, each shard
    pub memory_bytes: u64,
    /// `ringlog.budget.produce.bytes`, each shard
    pub budget_produce_bytes: u64,
    /// `ringlog.budget.response.bytes`, each shard
    pub budget_response_bytes: u64,
    /// `ringlog.budget.peer.bytes`, each shard
    pub budget_peer_bytes: u64,
    /// `ringlog.budget.request.bytes`, each shard
    pub budget_request_bytes: u64,
    /// `wal.max.bytes`, each shard
    pub wal_max_bytes: u64,
    /// `wal.commits.in.flight`
    pub wal_commits_in_flight: u32,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: u64,
    /// `group.initial.rebalance.delay.ms`
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`
    pub group_min_session_timeout_ms: u64,
    /// `group.max.session.timeout.ms`
    pub group_max_session_timeout_ms: u64,
    /// `group.max.size`
    pub group_max_size: u32,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_max_bytes: u32,
    /// `offsets.commit.timeout.ms`
    pub offsets_commit_timeout_ms: u64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: u64,
    /// `offsets.retention.minutes`, in milliseconds
    pub offsets_retention_ms: u64,
    /// `offsets.topic.num.partitions`
    pub offsets_topic_partitions: i32,
    /// `offsets.topic.replication.factor`
    pub offsets_topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`
    pub offsets_topic_segment_bytes: u32,
}

impl BrokerConfig {
    /// Resolves a broker's options.
    #[must_use]
    pub fn resolve(layers: Layers<'_>) -> BrokerConfig {
        let int = |name| i32::try_from(layers.number(name)).expect("the option is an Int");
        let short = |name| i16::try_from(layers.number(name)).expect("the option is bounded to 16 bits");
        let small = |name| u32::try_from(layers.number(name)).expect("the option is an Int of at least 0");
        let natural = |name| u64::try_from(layers.number(name)).expect("the option is at least 0");
        BrokerConfig {
            node_id: int("node.id"),
            rack: layers.text("broker.rack").map(str::to_owned),
            auto_create_topics: layers.boolean("auto.create.topics.enable"),
            delete_topics: layers.boolean("delete.topic.enable"),
            num_partitions: int("num.partitions"),
            default_replication_factor: short("default.replication.factor"),
            retention_check_interval_ms: natural("log.retention.check.interval.ms"),
            request_max_bytes: small("socket.request.max.bytes"),
            small_request_max_bytes: small("ringlog.request.max.bytes"),
            max_connections: small("max.connections"),
            max_connections_per_ip: small("max.connections.per.ip"),
            connections_max_idle_ms: u64::try_from(layers.number("connections.max.idle.ms")).ok(),
            client_write_timeout_ms: natural("ringlog.client.write.timeout.ms"),
            connection_requests_max: small("ringlog.connection.requests.max"),
            connection_response_bytes_max: small("ringlog.connection.response.bytes.max"),
            fetch_session_slots: small("max.incremental.fetch.session.cache.slots"),
            fetch_max_bytes: small("fetch.max.bytes"),
            memory_bytes: natural("ringlog.memory.bytes"),
            budget_produce_bytes: natural("ringlog.budget.produce.bytes"),
            budget_response_bytes: natural("ringlog.budget.response.bytes"),
            budget_peer_bytes: natural("ringlog.budget.peer.bytes"),
            budget_request_bytes: natural("ringlog.budget.request.bytes"),
            wal_max_bytes: natural("wal.max.bytes"),
            wal_commits_in_flight: small("wal.commits.in.flight"),
            producer_id_expiration_ms: natural("producer.id.expiration.ms"),
            group_initial_rebalance_delay_ms: natural("group.initial.rebalance.delay.ms"),
            group_min_session_timeout_ms: natural("group.min.session.timeout.ms"),
            group_max_session_timeout_ms: natural("group.max.session.timeout.ms"),
            group_max_size: small("group.max.size"),
            offset_metadata_max_bytes: small("offset.metadata.max.bytes"),
            offsets_commit_timeout_ms: natural("offsets.commit.timeout.ms"),
            offsets_retention_check_interval_ms: natural("offsets.retention.check.interval.ms"),
            offsets_retention_ms: natural("offsets.retention.minutes") * 60_000,
            offsets_topic_partitions: int("offsets.topic.num.partitions"),
            offsets_topic_replication_factor: short("offsets.topic.replication.factor"),
            offsets_topic_segment_bytes: small("offsets.topic.segment.bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::config::{BROKER_OPTIONS, Check, Kind, Settings};

    #[test]
    fn defaults_and_settings() {
        let none = Settings::new();
        let layers = Layers { broker: &none, cluster: &none, file: &none };
        let config = BrokerConfig::resolve(layers);
        assert_eq!((config.node_id, config.num_partitions, config.default_replication_factor), (1, 1, 1));
        assert_eq!(
            (config.group_min_session_timeout_ms, config.group_max_session_timeout_ms),
            (6000, 1_800_000)
        );
        assert_eq!(config.offsets_retention_ms, 7 * 24 * 3600 * 1000);
        assert_eq!((config.wal_commits_in_flight, config.fetch_session_slots), (4, 1000));
        assert!(config.auto_create_topics && config.delete_topics);
        let file: Settings = [("connections.max.idle.ms", "-1"), ("broker.rack", "a")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let config = BrokerConfig::resolve(Layers { file: &file, ..layers });
        assert_eq!((config.connections_max_idle_ms, config.rack.as_deref()), (None, Some("a")));
    }

    /// Whatever passes the checks resolves without a panic, at both ends of every bound.
    #[test]
    fn the_ends_of_every_bound_resolve() {
        let none = Settings::new();
        for def in BROKER_OPTIONS.iter().filter(|def| matches!(def.kind, Kind::Int | Kind::Long)) {
            let (type_min, type_max) =
                if def.kind == Kind::Int { (i32::MIN.into(), i32::MAX.into()) } else { (i64::MIN, i64::MAX) };
            let (min, max) = match def.check {
                Check::AtLeast(min) => (min, type_max),
                Check::Between(min, max) => (min, max),
                Check::GzipLevel => (-1, 9),
                _ => (type_min, type_max),
            };
            for value in [min, max] {
                let file = Settings::from([(def.name.to_owned(), value.to_string())]);
                let layers = Layers { broker: &none, cluster: &none, file: &file };
                assert_eq!(layers.set(def.name), Some(value.to_string().as_str()));
                let _ = BrokerConfig::resolve(layers);
                let _ = crate::machine::config::TopicConfig::resolve(&none, layers);
            }
        }
    }
}
