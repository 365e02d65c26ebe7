//! A small blocking Kafka client, for the subcommands: it finds leaders, coordinators and the controller, and
//! tries again what a moment's wait may cure. Threads rather than async, because a command has one thing to do.

pub mod codec;
pub mod connection;
pub mod error;
pub mod membership;
pub mod offsets;
pub mod records;

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::Duration;

use base64::Engine;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use uuid::Uuid;

use crate::clock::monotonic_ms;
use crate::machine::error::ErrorCode;
use connection::Connection;
use error::{ClientError, Result};

/// The highest version of each API used here: names instead of topic ids, one group or key a request.
pub mod caps {
    /// Everything that has no later form which changes its meaning.
    pub const ANY: i16 = i16::MAX;
    /// Produce 13 names topics by id.
    pub const PRODUCE: i16 = 12;
    /// Fetch 13 names topics by id.
    pub const FETCH: i16 = 12;
    /// FindCoordinator 4 asks for many keys at once.
    pub const FIND_COORDINATOR: i16 = 3;
    /// OffsetFetch 8 asks for many groups at once.
    pub const OFFSET_FETCH: i16 = 7;
    /// OffsetCommit 10 names topics by id.
    pub const OFFSET_COMMIT: i16 = 9;
    /// DeleteTopics 6 can name topics by id.
    pub const DELETE_TOPICS: i16 = 5;
}

/// First and longest wait between two tries.
const BACKOFF_MS: (u64, u64) = (50, 1_000);

/// So long a topic may be unknown after it was first used.
const CREATION_MS: u64 = 5_000;

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.to_owned(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What Metadata says of one partition.
#[derive(Debug, Clone)]
pub struct PartitionInfo {
    /// Partition number.
    pub index: i32,
    /// Node id of the leader, -1 for none.
    pub leader: i32,
    /// Leader epoch, -1 where the broker does not say.
    pub leader_epoch: i32,
    /// Node ids of all replicas.
    pub replicas: Vec<i32>,
    /// Node ids of the replicas in sync.
    pub isr: Vec<i32>,
}

/// What Metadata says of one topic.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// Topic name.
    pub name: String,
    /// Topic id, nil where the broker has none.
    pub id: Uuid,
    /// Whether the broker keeps its own state in it.
    pub internal: bool,
    /// Its partitions by number.
    pub partitions: Vec<PartitionInfo>,
}

/// A client of one cluster.
pub struct Client {
    bootstrap: Vec<String>,
    timeout_ms: u64,
    connections: HashMap<String, Connection>,
    brokers: BTreeMap<i32, String>,
    controller: i32,
    coordinators: HashMap<String, String>,
    topics: BTreeMap<String, TopicInfo>,
}

impl Client {
    /// A client that reached one of the bootstrap addresses and knows the cluster's brokers.
    pub fn connect(bootstrap: &[String], timeout_ms: u64) -> Result<Client> {
        let mut client = Client {
            bootstrap: bootstrap.to_vec(),
            timeout_ms,
            connections: HashMap::new(),
            brokers: BTreeMap::new(),
            controller: -1,
            coordinators: HashMap::new(),
            topics: BTreeMap::new(),
        };
        client.refresh(Some(&[]), false)?;
        Ok(client)
    }

    /// Milliseconds that one operation may take, retries included.
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// The same, as the requests carry it.
    pub fn timeout_i32(&self) -> i32 {
        i32::try_from(self.timeout_ms).unwrap_or(i32::MAX)
    }

    /// Calls `attempt` until it succeeds, fails for good, or the time is over. Between two tries it waits
    /// and forgets coordinators; `attempt` asks for leaders anew.
    pub fn retry<T>(&mut self, mut attempt: impl FnMut(&mut Client) -> Result<T>) -> Result<T> {
        let deadline = monotonic_ms() + self.timeout_ms;
        let mut backoff = BACKOFF_MS.0;
        loop {
            match attempt(self) {
                Err(error) if error.is_retriable() && monotonic_ms() + backoff < deadline => {
                    thread::sleep(Duration::from_millis(backoff));
                    backoff = (backoff * 2).min(BACKOFF_MS.1);
                    self.coordinators.clear();
                    self.topics.clear();
                }
                done => return done,
            }
        }
    }

    /// Calls the broker `node`.
    pub fn call_node<R: Request>(&mut self, node: i32, request: &R, cap: i16) -> Result<R::Response> {
        let peer = self.peer_of(node)?;
        self.call_peer(&peer, request, cap)
    }

    /// Calls any broker that answers, known ones first.
    pub fn call_any<R: Request>(&mut self, request: &R, cap: i16) -> Result<R::Response> {
        let mut last = None;
        let mut peers: Vec<String> = self.connections.keys().cloned().collect();
        peers.extend(self.bootstrap.iter().cloned());
        peers.extend(self.brokers.values().cloned());
        peers.dedup();
        for peer in peers {
            match self.call_peer(&peer, request, cap) {
                Err(error) if error.ends_connection() => last = Some(error),
                done => return done,
            }
        }
        Err(last.expect("there is at least one bootstrap address"))
    }

    /// Calls the controller, or any broker where none is known (brokers of KRaft clusters forward).
    pub fn call_controller<R: Request>(&mut self, request: &R, cap: i16) -> Result<R::Response> {
        if self.brokers.contains_key(&self.controller) {
            self.call_node(self.controller, request, cap)
        } else {
            self.call_any(request, cap)
        }
    }

    /// Calls the coordinator of `group`.
    pub fn call_coordinator<R: Request>(
        &mut self,
        group: &str,
        request: &R,
        cap: i16,
    ) -> Result<R::Response> {
        let peer = self.coordinator(group)?;
        self.call_peer(&peer, request, cap)
    }

    /// Calls every broker of the cluster and returns the answers.
    pub fn call_all<R: Request>(&mut self, request: &R, cap: i16) -> Result<Vec<R::Response>> {
        self.refresh(Some(&[]), false)?;
        let nodes: Vec<i32> = self.brokers.keys().copied().collect();
        nodes.into_iter().map(|node| self.call_node(node, request, cap)).collect()
    }

    /// The coordinator's address, asked for once.
    pub fn coordinator(&mut self, group: &str) -> Result<String> {
        if let Some(peer) = self.coordinators.get(group) {
            return Ok(peer.clone());
        }
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(group.to_owned()))
            .with_key_type(0);
        let found = self.call_any(&request, caps::FIND_COORDINATOR)?;
        if found.error_code != 0 {
            return Err(ClientError::Kafka {
                code: ErrorCode(found.error_code),
                what: format!("coordinator of group `{group}`"),
                message: found.error_message.map(|text| text.to_string()),
            });
        }
        let peer = format!("{}:{}", bracketed(&found.host), found.port);
        self.coordinators.insert(group.to_owned(), peer.clone());
        Ok(peer)
    }

    /// The connection to a broker's address, made when first used.
    pub fn connection(&mut self, peer: &str) -> Result<&mut Connection> {
        if !self.connections.contains_key(peer) {
            let connection = Connection::open(peer, self.timeout_ms)?;
            self.connections.insert(peer.to_owned(), connection);
        }
        Ok(self.connections.get_mut(peer).expect("it is there or was just made"))
    }

    /// Forgets the connection to `peer`, when an error says that it is of no further use.
    pub fn drop_if_broken(&mut self, peer: &str, error: &ClientError) {
        if error.ends_connection() {
            self.connections.remove(peer);
        }
    }

    /// Forgets the connection to `peer`, whose next bytes are an answer that nobody waits for.
    pub fn drop_connection(&mut self, peer: &str) {
        self.connections.remove(peer);
    }

    /// Calls the broker at `peer`.
    pub fn call_peer<R: Request>(&mut self, peer: &str, request: &R, cap: i16) -> Result<R::Response> {
        let timeout_ms = self.timeout_ms;
        let result = self.connection(peer)?.call(request, cap, timeout_ms);
        if let Err(error) = &result {
            self.drop_if_broken(peer, error);
        }
        result
    }

    /// The address of the broker `node`.
    pub fn peer_of(&mut self, node: i32) -> Result<String> {
        if !self.brokers.contains_key(&node) {
            self.refresh(Some(&[]), false)?;
        }
        let missing = || ClientError::kafka(ErrorCode::BROKER_NOT_AVAILABLE.0, format!("broker {node}"));
        self.brokers.get(&node).cloned().ok_or_else(missing)
    }

    /// All topics of the cluster, by name.
    pub fn all_topics(&mut self) -> Result<Vec<TopicInfo>> {
        self.refresh(None, false)?;
        Ok(self.topics.values().cloned().collect())
    }

    /// One topic. With `create` the broker may make it on the way, where it allows that.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<TopicInfo> {
        if !self.topics.contains_key(name) {
            self.refresh(Some(&[name]), create)?;
        }
        let unknown =
            || ClientError::kafka(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, format!("topic `{name}`"));
        self.topics.get(name).cloned().ok_or_else(unknown)
    }

    /// A topic that the broker may create because it is used. While that is under way it is unknown or has
    /// no leader yet, which here is worth some patience; a broker that does not create topics stays with it.
    pub fn topic_made_by_use(&mut self, name: &str) -> Result<TopicInfo> {
        let deadline = monotonic_ms() + CREATION_MS.min(self.timeout_ms);
        self.retry(|client| {
            loop {
                match client.topic(name, true) {
                    Err(error)
                        if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                            && monotonic_ms() < deadline =>
                    {
                        thread::sleep(Duration::from_millis(BACKOFF_MS.0));
                    }
                    done => return done,
                }
            }
        })
    }

    /// The leader of a partition.
    pub fn leader(&mut self, at: &TopicPartition) -> Result<i32> {
        let topic = self.topic(&at.topic, false)?;
        let partition = topic.partitions.iter().find(|p| p.index == at.partition);
        match partition.map(|p| p.leader) {
            Some(leader) if leader >= 0 => Ok(leader),
            Some(_) => Err(ClientError::kafka(ErrorCode::LEADER_NOT_AVAILABLE.0, at.to_string())),
            None => Err(ClientError::Kafka {
                code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                what: at.to_string(),
                message: Some(format!("the topic has {} partitions", topic.partitions.len())),
            }),
        }
    }

    /// Asks Metadata for the named topics (`None`: all) and remembers the answer.
    fn refresh(&mut self, names: Option<&[&str]>, create: bool) -> Result<()> {
        let topics = names.map(|names| {
            let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
            names.iter().map(topic).collect::<Vec<_>>()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(create);
        let response = self.call_any(&request, caps::ANY)?;
        self.brokers = response
            .brokers
            .iter()
            .map(|b| (b.node_id.0, format!("{}:{}", bracketed(&b.host), b.port)))
            .collect();
        self.controller = response.controller_id.0;
        for topic in response.topics {
            let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
            if topic.error_code != 0 {
                return Err(ClientError::kafka(topic.error_code, format!("topic `{name}`")));
            }
            let mut partitions: Vec<PartitionInfo> = topic
                .partitions
                .iter()
                .map(|p| PartitionInfo {
                    index: p.partition_index,
                    leader: p.leader_id.0,
                    leader_epoch: p.leader_epoch,
                    replicas: p.replica_nodes.iter().map(|node| node.0).collect(),
                    isr: p.isr_nodes.iter().map(|node| node.0).collect(),
                })
                .collect();
            partitions.sort_by_key(|p| p.index);
            let info =
                TopicInfo { name: name.clone(), id: topic.topic_id, internal: topic.is_internal, partitions };
            self.topics.insert(name, info);
        }
        Ok(())
    }

    /// Forgets what is known of a topic, after it was changed or its leader turned out to be another.
    pub fn forget_topic(&mut self, name: &str) {
        self.topics.remove(name);
    }
}

/// An IPv6 host in the brackets that `host:port` needs.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// A topic id as Kafka's tools print it: base64 for URLs, without padding.
pub fn shown_id(id: &Uuid) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// A topic name as the messages want it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Turns a non-zero error code into an error about `what`.
pub fn check(code: i16, what: impl FnOnce() -> String, message: Option<&StrBytes>) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(ClientError::Kafka {
        code: ErrorCode(code),
        what: what(),
        message: message.map(|text| text.to_string()),
    })
}
