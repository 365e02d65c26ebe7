//! The table of the APIs that Ringlog serves. ApiVersions, dispatch and the table in `docs/protocol.md` come from it.

use std::fmt::Write;

/// Names an API, so that dispatch is an exhaustive match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeConfigs,
    AlterConfigs,
    DescribeLogDirs,
    CreatePartitions,
    DeleteGroups,
    IncrementalAlterConfigs,
    OffsetDelete,
    DescribeCluster,
    DescribeProducers,
    ListConfigResources,
    DescribeTopicPartitions,
}

/// How requests of one API that come over one connection are kept in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// It changes metadata, or may: after everything sent before it, and before everything sent after it.
    Metadata,
    /// Only what its keys (partitions, groups) ask for.
    Free,
}

/// One API.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Kafka's number of it.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// Which one it is, for dispatch.
    pub kind: Kind,
    /// The lowest version that is served.
    pub min: i16,
    /// The highest version that is served.
    pub max: i16,
    /// The highest version of Kafka 4.4.
    pub kafka_max: i16,
    /// The first version in the flexible format (KIP-482); none if there is none yet.
    pub flexible_since: Option<i16>,
    /// How it is kept in order.
    pub order: Order,
    /// What it is for.
    pub purpose: &'static str,
}

impl Api {
    /// The lowest version that ApiVersions names. As Kafka does, Produce is advertised from version 0 though it is
    /// served from 3: older librdkafka takes a broker without version 0 for one that knows no batches (KAFKA-18659).
    #[must_use]
    pub fn advertised_min(&self) -> i16 {
        if self.kind == Kind::Produce { 0 } else { self.min }
    }

    /// Whether a version is served.
    #[must_use]
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The highest version is `kafka_max` unless [`Api::until`] says otherwise.
    const fn new(kind: Kind, key: i16, name: &'static str, min: i16, max: i16, flexible: i16) -> Api {
        let flexible_since = Some(flexible);
        Api { key, name, kind, min, max, kafka_max: max, flexible_since, order: Order::Free, purpose: "" }
    }

    /// `kafka-protocol` ends here.
    const fn until(mut self, max: i16) -> Api {
        assert!(max < self.kafka_max);
        self.max = max;
        self
    }

    const fn never_flexible(mut self) -> Api {
        self.flexible_since = None;
        self
    }

    const fn exclusive(mut self) -> Api {
        self.order = Order::Metadata;
        self
    }

    const fn for_(mut self, purpose: &'static str) -> Api {
        self.purpose = purpose;
        self
    }
}

/// Every API that is served, by ascending key. The versions are those of Kafka 4.4, as far as `kafka-protocol` has
/// them.
pub const APIS: &[Api] = &[
    Api::new(Kind::Produce, 0, "Produce", 3, 13, 9).for_("append records"),
    Api::new(Kind::Fetch, 1, "Fetch", 4, 18, 12).for_("read records, waiting for new ones"),
    Api::new(Kind::ListOffsets, 2, "ListOffsets", 1, 11, 6)
        .until(10)
        .for_("first, last and timestamped offsets"),
    Api::new(Kind::Metadata, 3, "Metadata", 0, 13, 9)
        .exclusive()
        .for_("brokers, topics and leaders; creates topics"),
    Api::new(Kind::OffsetCommit, 8, "OffsetCommit", 2, 10, 8).until(9).for_("store a group's offsets"),
    Api::new(Kind::OffsetFetch, 9, "OffsetFetch", 1, 10, 6).until(9).for_("read groups' offsets"),
    Api::new(Kind::FindCoordinator, 10, "FindCoordinator", 0, 6, 3)
        .exclusive()
        .for_("which broker coordinates a group"),
    Api::new(Kind::JoinGroup, 11, "JoinGroup", 0, 9, 6).for_("become a member of a group"),
    Api::new(Kind::Heartbeat, 12, "Heartbeat", 0, 4, 4).for_("stay a member"),
    Api::new(Kind::LeaveGroup, 13, "LeaveGroup", 0, 5, 4).for_("leave a group, or remove its members"),
    Api::new(Kind::SyncGroup, 14, "SyncGroup", 0, 5, 4).for_("hand out and get assignments"),
    Api::new(Kind::DescribeGroups, 15, "DescribeGroups", 0, 6, 5).for_("state and members of groups"),
    Api::new(Kind::ListGroups, 16, "ListGroups", 0, 5, 3).for_("all groups, by state and type"),
    Api::new(Kind::ApiVersions, 18, "ApiVersions", 0, 5, 3).until(4).for_("this table"),
    Api::new(Kind::CreateTopics, 19, "CreateTopics", 2, 7, 5).exclusive().for_("create topics"),
    Api::new(Kind::DeleteTopics, 20, "DeleteTopics", 1, 6, 4)
        .exclusive()
        .for_("delete topics, by name or id"),
    Api::new(Kind::DeleteRecords, 21, "DeleteRecords", 0, 2, 2)
        .exclusive()
        .for_("delete records below an offset"),
    Api::new(Kind::InitProducerId, 22, "InitProducerId", 0, 5, 2).for_("an id for an idempotent producer"),
    Api::new(Kind::OffsetForLeaderEpoch, 23, "OffsetForLeaderEpoch", 2, 4, 4)
        .for_("where a leader epoch ends"),
    Api::new(Kind::DescribeConfigs, 32, "DescribeConfigs", 1, 4, 4).for_("settings of topics and brokers"),
    Api::new(Kind::AlterConfigs, 33, "AlterConfigs", 0, 2, 2).exclusive().for_("replace settings"),
    Api::new(Kind::DescribeLogDirs, 35, "DescribeLogDirs", 1, 5, 2)
        .until(4)
        .for_("data folder and sizes of partitions"),
    Api::new(Kind::CreatePartitions, 37, "CreatePartitions", 0, 3, 2)
        .exclusive()
        .for_("give topics more partitions"),
    Api::new(Kind::DeleteGroups, 42, "DeleteGroups", 0, 3, 2).until(2).for_("delete empty groups"),
    Api::new(Kind::IncrementalAlterConfigs, 44, "IncrementalAlterConfigs", 0, 1, 1)
        .exclusive()
        .for_("change single settings"),
    Api::new(Kind::OffsetDelete, 47, "OffsetDelete", 0, 0, 0)
        .never_flexible()
        .for_("delete a group's offsets"),
    Api::new(Kind::DescribeCluster, 60, "DescribeCluster", 0, 2, 0).for_("brokers and cluster id"),
    Api::new(Kind::DescribeProducers, 61, "DescribeProducers", 0, 0, 0)
        .for_("idempotent producers of partitions"),
    Api::new(Kind::ListConfigResources, 74, "ListConfigResources", 0, 1, 0).for_("what has settings"),
    Api::new(Kind::DescribeTopicPartitions, 75, "DescribeTopicPartitions", 0, 0, 0)
        .for_("topics and partitions, page by page"),
];

/// The API with this key, if it is served.
#[must_use]
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key).ok().map(|at| &APIS[at])
}

/// The table as `docs/protocol.md` shows it.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "| Key | API | Versions | Kafka 4.4 | Flexible from | For |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for api in APIS {
        let versions = if api.advertised_min() == api.min {
            format!("{}–{}", api.min, api.max)
        } else {
            format!("{}–{} (advertised from {})", api.min, api.max, api.advertised_min())
        };
        let kafka =
            if api.kafka_max == api.max { "same".to_owned() } else { format!("–{}", api.kafka_max) };
        let flexible = api.flexible_since.map_or("none".to_owned(), |version| version.to_string());
        writeln!(
            text,
            "| {} | {} | {versions} | {kafka} | {flexible} | {} |",
            api.key, api.name, api.purpose
        )
        .expect("writing to a String does not fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_net::guard;
    use std::collections::BTreeSet;

    #[test]
    fn the_guard_serves_the_same() {
        let here: Vec<_> = APIS.iter().map(|api| (api.key, api.name, api.min, api.max)).collect();
        let there: Vec<_> = guard::served().map(|api| (api.key, api.name, api.min, api.max)).collect();
        assert_eq!(here, there);
        for api in APIS {
            for version in api.min..=api.max {
                let flexible = api.flexible_since.is_some_and(|since| version >= since);
                assert_eq!(guard::is_flexible(api.key, version), flexible, "{} {version}", api.name);
            }
        }
    }

    #[test]
    fn keys_ascend_and_kinds_differ() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
        let kinds: BTreeSet<String> = APIS.iter().map(|api| format!("{:?}", api.kind)).collect();
        let names: BTreeSet<String> = APIS.iter().map(|api| api.name.to_owned()).collect();
        assert_eq!(kinds, names, "a kind is the API's name");
        assert_eq!(find(18).unwrap().kind, Kind::ApiVersions);
        assert!(find(4).is_none() && find(17).is_none() && find(-1).is_none());
    }

    #[test]
    fn what_changes_metadata_is_exclusive() {
        let exclusive: Vec<i16> =
            APIS.iter().filter(|api| api.order == Order::Metadata).map(|api| api.key).collect();
        assert_eq!(exclusive, [3, 10, 19, 20, 21, 33, 37, 44]);
    }

    /// `RINGLOG_BLESS=1` rewrites the table in the document.
    #[test]
    fn the_document_shows_this_table() {
        const BEGIN: &str = "<!-- table: made from src/api/table.rs -->\n";
        const END: &str = "<!-- end of table -->\n";
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
        let text = std::fs::read_to_string(&path).expect("docs/protocol.md is there");
        let (before, rest) = text.split_once(BEGIN).expect("the document marks where the table begins");
        let (_, after) = rest.split_once(END).expect("the document marks where the table ends");
        let right = format!("{before}{BEGIN}{}{END}{after}", markdown());
        if std::env::var_os("RINGLOG_BLESS").is_some() {
            std::fs::write(&path, &right).expect("docs/protocol.md can be written");
        }
        assert!(
            text == right || std::env::var_os("RINGLOG_BLESS").is_some(),
            "docs/protocol.md differs from src/api/table.rs; RINGLOG_BLESS=1 cargo test rewrites it"
        );
    }
}
