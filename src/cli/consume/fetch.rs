//! One round of fetches: a request to every leader, then all answers.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest};

use crate::cli::client::error::{ClientError, Result};
use crate::cli::client::offsets::Offsets;
use crate::cli::client::records::{self, Record};
use crate::cli::client::{Client, TopicPartition, caps, check, topic_name};
use crate::cli::failure::Failure;
use crate::clock::monotonic_ms;
use crate::machine::error::ErrorCode;

/// So long a broker may hold a fetch that finds nothing; with several brokers less, because their answers
/// are read one after the other.
const WAIT_MS: (i32, i32) = (500, 100);
const PARTITION_BYTES: i32 = 4 << 20;
const ANSWER_BYTES: i32 = 32 << 20;
/// Pause before a round is tried again after an error that passes.
const PAUSE_MS: u64 = 100;

/// What came of one partition.
pub struct Fetched {
    /// Its records, from the offset asked for.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next_offset: i64,
}

/// Since when rounds have failed, in the monotonic clock; none while they succeed.
pub type FailingSince = Option<u64>;

/// Fetches once. Errors that pass (a leader that moved, a broken connection) give an empty answer after a
/// short pause, until they have lasted for the client's timeout; an offset before the log's start is moved
/// there with a warning.
pub fn round(
    client: &mut Client,
    next: &Offsets,
    failing: &mut FailingSince,
) -> std::result::Result<BTreeMap<TopicPartition, Fetched>, Failure> {
    if next.is_empty() {
        thread::sleep(Duration::from_millis(PAUSE_MS));
        return Ok(BTreeMap::new());
    }
    match fetch(client, next) {
        Ok(fetched) => {
            *failing = None;
            Ok(fetched)
        }
        Err(error) if error.is_retriable() => {
            let now = monotonic_ms();
            if now - *failing.get_or_insert(now) > client.timeout_ms() {
                return Err(error.into());
            }
            for at in next.keys() {
                client.forget_topic(&at.topic);
            }
            thread::sleep(Duration::from_millis(PAUSE_MS));
            Ok(BTreeMap::new())
        }
        Err(error) if error.code() == Some(ErrorCode::OFFSET_OUT_OF_RANGE) => {
            step_into_log(client, next, error)
        }
        Err(error) => Err(error.into()),
    }
}

fn fetch(client: &mut Client, next: &Offsets) -> Result<BTreeMap<TopicPartition, Fetched>> {
    let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
    let leaders = client.by_leader(&partitions)?;
    let wait_ms = if leaders.len() > 1 { WAIT_MS.1 } else { WAIT_MS.0 };
    let timeout_ms = client.timeout_ms() + wait_ms as u64;
    let mut sent = Vec::new();
    for (leader, partitions) in leaders {
        let peer = client.peer_of(leader)?;
        let request = request(&partitions, next, wait_ms);
        let version = client.connection(&peer).and_then(|c| c.send(&request, caps::FETCH, timeout_ms));
        match version {
            Ok(version) => sent.push((peer, version)),
            Err(error) => {
                // Answers are on their way to the others, and nobody is going to read them.
                client.drop_if_broken(&peer, &error);
                sent.iter().for_each(|(peer, _)| client.drop_connection(peer));
                return Err(error);
            }
        }
    }
    let mut fetched = BTreeMap::new();
    let mut failed = None;
    for (peer, version) in sent {
        // Every answer is taken off its connection, also when one before it was an error.
        let response = client.connection(&peer)?.receive::<FetchRequest>(version, timeout_ms);
        match response {
            Err(error) => {
                client.drop_if_broken(&peer, &error);
                failed = Some(error);
            }
            Ok(response) => {
                for topic in response.responses {
                    for data in topic.partitions {
                        let at = TopicPartition::new(&topic.topic, data.partition_index);
                        let Some(offset) = next.get(&at) else { continue };
                        match unpack(&peer, &at, &data, *offset) {
                            Ok(one) => drop(fetched.insert(at, one)),
                            Err(error) => failed = Some(error),
                        }
                    }
                }
            }
        }
    }
    // What did arrive is not thrown away; an error that stays comes again in the next round.
    match failed {
        Some(error) if fetched.values().all(|one: &Fetched| one.records.is_empty()) => Err(error),
        _ => Ok(fetched),
    }
}

fn request(partitions: &[TopicPartition], next: &Offsets, wait_ms: i32) -> FetchRequest {
    let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
    for at in partitions {
        let partition = FetchPartition::default()
            .with_partition(at.partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(next[at])
            .with_log_start_offset(-1)
            .with_partition_max_bytes(PARTITION_BYTES);
        topics.entry(&at.topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(name, list)| FetchTopic::default().with_topic(topic_name(name)).with_partitions(list));
    // Session id 0 and epoch -1: a full request without a session (KIP-227).
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(ANSWER_BYTES)
        .with_session_id(0)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

fn unpack(peer: &str, at: &TopicPartition, data: &PartitionData, from: i64) -> Result<Fetched> {
    check(data.error_code, || at.to_string(), None)?;
    let Some(bytes) = &data.records else { return Ok(Fetched { records: Vec::new(), next_offset: from }) };
    let decoded = records::decode(bytes, from)
        .map_err(|what| ClientError::Malformed { peer: peer.to_owned(), what: format!("{at}: {what}") })?;
    let next_offset = decoded.next_offset.unwrap_or(from).max(from);
    if decoded.next_offset.is_none() && !bytes.is_empty() && bytes.len() >= PARTITION_BYTES as usize {
        let what = format!("{at}: a batch at offset {from} that is larger than {PARTITION_BYTES} bytes");
        return Err(ClientError::Malformed { peer: peer.to_owned(), what });
    }
    Ok(Fetched { records: decoded.records, next_offset })
}

/// The log was trimmed past what we were about to read: go on at its start and say so. An offset beyond
/// the end is the caller's mistake.
fn step_into_log(
    client: &mut Client,
    next: &Offsets,
    error: ClientError,
) -> std::result::Result<BTreeMap<TopicPartition, Fetched>, Failure> {
    let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
    let first = client.earliest(&partitions)?;
    let mut moved = BTreeMap::new();
    for (at, offset) in next {
        if *offset < first[at] {
            eprintln!(
                "ringlog: {at}: offsets {offset} to {} are gone, going on at {}",
                first[at] - 1,
                first[at]
            );
            moved.insert(at.clone(), Fetched { records: Vec::new(), next_offset: first[at] });
        }
    }
    if moved.is_empty() { Err(error.into()) } else { Ok(moved) }
}
