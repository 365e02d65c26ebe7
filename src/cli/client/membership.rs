//! Membership in a classic consumer group: join, sync, heartbeat, leave, with Kafka's range assignment.
//!
//! Heartbeats come from a thread with a connection of its own, so that a reader who pages through our output
//! does not cost the membership; what the thread learns is read from a flag between two fetches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponse;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, SyncGroupRequest, consumer_protocol_assignment,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::connection::Connection;
use super::error::{ClientError, Result};
use super::offsets::Committer;
use super::{Client, TopicPartition, caps, check, topic_name};
use crate::machine::error::ErrorCode;

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// Without a heartbeat for so long the coordinator takes the member for dead.
const SESSION_TIMEOUT_MS: u64 = 45_000;
/// So long the others wait for us in a rebalance.
const REBALANCE_TIMEOUT_MS: u64 = 60_000;
const HEARTBEAT_MS: u64 = 3_000;
/// Tries to get into a stable generation before it is given up: each one follows another member's change.
const JOINS_MAX: u32 = 50;

/// A member of a group in one generation.
pub struct Member {
    group: String,
    topics: Vec<String>,
    member_id: String,
    generation: i32,
    assignment: Vec<TopicPartition>,
    heart: Option<Heart>,
}

impl Member {
    /// Joins `group` for `topics` and returns in a stable generation.
    pub fn join(client: &mut Client, group: &str, topics: &[String]) -> Result<Member> {
        let mut member = Member {
            group: group.to_owned(),
            topics: topics.to_vec(),
            member_id: String::new(),
            generation: -1,
            assignment: Vec::new(),
            heart: None,
        };
        member.rejoin(client)?;
        Ok(member)
    }

    /// Whether the heartbeat found that the group is in a rebalance, or we are out of it: commit, then
    /// [`Self::rejoin`].
    pub fn must_rejoin(&self) -> bool {
        self.heart.as_ref().is_none_or(|heart| heart.rejoin.load(Ordering::Acquire))
    }

    /// What this member is to read.
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    /// As whom it commits.
    pub fn committer(&self) -> Committer {
        Committer { generation: self.generation, member_id: self.member_id.clone() }
    }

    /// Joins again, with the same member id where the coordinator still knows it.
    pub fn rejoin(&mut self, client: &mut Client) -> Result<()> {
        self.heart = None;
        for _ in 0..JOINS_MAX {
            match client.retry(|client| self.join_once(client)) {
                Ok(()) => {
                    self.heart = Some(Heart::start(client.coordinator(&self.group)?, self)?);
                    return Ok(());
                }
                Err(error) => match error.code() {
                    Some(ErrorCode::MEMBER_ID_REQUIRED | ErrorCode::REBALANCE_IN_PROGRESS) => {}
                    Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION) => {
                        self.member_id.clear();
                    }
                    _ => return Err(error),
                },
            }
        }
        Err(ClientError::Kafka {
            code: ErrorCode::REBALANCE_IN_PROGRESS,
            what: format!("group `{}`", self.group),
            message: Some(format!("no stable generation after {JOINS_MAX} tries")),
        })
    }

    /// Leaves, so that the others need not wait for the session to end.
    pub fn leave(mut self, client: &mut Client) -> Result<()> {
        self.heart = None;
        let request = LeaveGroupRequest::default().with_group_id(self.group_id());
        let id = StrBytes::from_string(self.member_id.clone());
        let peer = client.coordinator(&self.group)?;
        // From version 3 on members leave in lists.
        let listed = client.connection(&peer)?.version::<LeaveGroupRequest>(caps::ANY)? >= 3;
        let request = match listed {
            true => request.with_members(vec![MemberIdentity::default().with_member_id(id)]),
            false => request.with_member_id(id),
        };
        let response = client.call_peer(&peer, &request, caps::ANY)?;
        check(response.error_code, || format!("leaving group `{}`", self.group), None)
    }

    fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.group.clone()))
    }

    fn join_once(&mut self, client: &mut Client) -> Result<()> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(ASSIGNOR))
            .with_metadata(encode_subscription(&self.topics));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group_id())
            .with_session_timeout_ms(SESSION_TIMEOUT_MS as i32)
            .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS as i32)
            .with_member_id(StrBytes::from_string(self.member_id.clone()))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        let peer = client.coordinator(&self.group)?;
        // The answer comes when the rebalance ends, which is longer than other calls may take.
        let patience = REBALANCE_TIMEOUT_MS + client.timeout_ms();
        let joined = client.connection(&peer)?.call(&request, caps::ANY, patience);
        let joined = joined.inspect_err(|error| client.drop_if_broken(&peer, error))?;
        if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED.0 {
            self.member_id = joined.member_id.to_string();
        }
        check(joined.error_code, || format!("joining group `{}`", self.group), None)?;
        self.member_id = joined.member_id.to_string();
        self.generation = joined.generation_id;
        let assignments = self.assign_if_leader(client, &joined)?;
        let request = SyncGroupRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.generation)
            .with_member_id(joined.member_id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
            .with_protocol_name(Some(StrBytes::from_static_str(ASSIGNOR)))
            .with_assignments(assignments);
        let synced = client.connection(&peer)?.call(&request, caps::ANY, patience);
        let synced = synced.inspect_err(|error| client.drop_if_broken(&peer, error))?;
        check(synced.error_code, || format!("group `{}`", self.group), None)?;
        let malformed = |what| ClientError::Malformed { peer: peer.clone(), what };
        self.assignment = decode_assignment(&synced.assignment).map_err(malformed)?;
        Ok(())
    }

    fn assign_if_leader(
        &self,
        client: &mut Client,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>> {
        if joined.leader != joined.member_id {
            return Ok(Vec::new());
        }
        let mut subscriptions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for member in &joined.members {
            let topics = decode_subscription(&member.metadata).map_err(|what| ClientError::Malformed {
                peer: format!("member {}", member.member_id.as_str()),
                what,
            })?;
            subscriptions.insert(member.member_id.to_string(), topics);
        }
        let mut partitions = BTreeMap::new();
        for topic in subscriptions.values().flatten() {
            if !partitions.contains_key(topic) {
                partitions.insert(topic.clone(), client.topic(topic, false)?.partitions.len() as i32);
            }
        }
        let assigned = range_assign(&subscriptions, &partitions);
        let encoded = assigned.into_iter().map(|(member, list)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member))
                .with_assignment(encode_assignment(&list))
        });
        Ok(encoded.collect())
    }
}

/// The thread that keeps a membership alive until it is dropped.
struct Heart {
    rejoin: Arc<AtomicBool>,
    /// Never sent to: its end is the signal.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    fn start(peer: String, member: &Member) -> Result<Heart> {
        let request = HeartbeatRequest::default()
            .with_group_id(member.group_id())
            .with_generation_id(member.generation)
            .with_member_id(StrBytes::from_string(member.member_id.clone()));
        let rejoin = Arc::new(AtomicBool::new(false));
        let flag = rejoin.clone();
        let (stop, stopped) = mpsc::channel();
        let beat = move || {
            let mut connection = None;
            while stopped.recv_timeout(Duration::from_millis(HEARTBEAT_MS)) == Err(RecvTimeoutError::Timeout)
            {
                if must_rejoin_after(beat_once(&mut connection, &peer, &request)) {
                    flag.store(true, Ordering::Release);
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("heartbeat".into()).spawn(beat);
        let thread = thread.map_err(|source| ClientError::Io { peer: "heartbeat thread".into(), source })?;
        Ok(Heart { rejoin, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It is asleep, or in a call that its timeout bounds. A panic there was already printed.
            let _ = thread.join();
        }
    }
}

fn beat_once(connection: &mut Option<Connection>, peer: &str, request: &HeartbeatRequest) -> Result<()> {
    let mut live = match connection.take() {
        Some(live) => live,
        None => Connection::open(peer, HEARTBEAT_MS)?,
    };
    let response = live.call(request, caps::ANY, HEARTBEAT_MS)?;
    *connection = Some(live);
    check(response.error_code, || "heartbeat".to_owned(), None)
}

/// A broken connection is made anew by the next beat; any refusal means a new generation or coordinator.
fn must_rejoin_after(beat: Result<()>) -> bool {
    beat.is_err_and(|error| match error.code() {
        Some(code) => code != ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        None => !error.is_retriable(),
    })
}

/// Kafka's range assignment: for each topic, its subscribers in the order of their ids take consecutive
/// ranges, the first ones one more where it does not divide evenly.
fn range_assign(
    subscriptions: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> =
        subscriptions.keys().map(|member| (member.clone(), Vec::new())).collect();
    for (topic, count) in partitions {
        let members: Vec<&String> =
            subscriptions.iter().filter(|(_, topics)| topics.contains(topic)).map(|(id, _)| id).collect();
        let Ok(members_count) = i32::try_from(members.len()) else { continue };
        let mut next = 0;
        for (index, member) in members.into_iter().enumerate() {
            let share = count / members_count + i32::from((index as i32) < count % members_count);
            let list = assigned.get_mut(member).expect("every member has an entry");
            list.extend((next..next + share).map(|partition| TopicPartition::new(topic, partition)));
            next += share;
        }
    }
    assigned
}

fn encode_subscription(topics: &[String]) -> Bytes {
    let names = topics.iter().map(|name| StrBytes::from_string(name.clone())).collect();
    versioned(&ConsumerProtocolSubscription::default().with_topics(names))
}

fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(&at.topic).or_default().push(at.partition);
    }
    let list = topics
        .into_iter()
        .map(|(name, list)| {
            consumer_protocol_assignment::TopicPartition::default()
                .with_topic(topic_name(name))
                .with_partitions(list)
        })
        .collect();
    versioned(&ConsumerProtocolAssignment::default().with_assigned_partitions(list))
}

/// The consumer protocol's messages start with their version; 0 says all that the range assignor needs.
fn versioned(message: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    message.encode(&mut out, 0).expect("version 0 can say this");
    out.freeze()
}

/// The topics of a member's subscription, whatever its version: later ones only add fields behind.
/// Read by hand, because the library reserves memory for as many elements as another member announces.
fn decode_subscription(bytes: &Bytes) -> std::result::Result<Vec<String>, String> {
    let mut reader = MemberBytes::open(bytes)?;
    let count = reader.i32()?;
    (0..count).map(|_| reader.string()).collect()
}

/// The partitions of an assignment; empty bytes are none.
pub fn decode_assignment(bytes: &Bytes) -> std::result::Result<Vec<TopicPartition>, String> {
    let mut assigned = Vec::new();
    if bytes.is_empty() {
        return Ok(assigned);
    }
    let mut reader = MemberBytes::open(bytes)?;
    for _ in 0..reader.i32()? {
        let topic = reader.string()?;
        for _ in 0..reader.i32()? {
            assigned.push(TopicPartition::new(&topic, reader.i32()?));
        }
    }
    Ok(assigned)
}

/// What members tell each other through the coordinator, read with every length checked.
struct MemberBytes(Bytes);

impl MemberBytes {
    /// Steps over the version.
    fn open(bytes: &Bytes) -> std::result::Result<MemberBytes, String> {
        let mut reader = MemberBytes(bytes.clone());
        match reader.take(2)?.get_i16() {
            version if version < 0 => Err(format!("a consumer protocol message of version {version}")),
            _ => Ok(reader),
        }
    }

    fn take(&mut self, count: usize) -> std::result::Result<Bytes, String> {
        match count <= self.0.len() {
            true => Ok(self.0.split_to(count)),
            false => Err("a consumer protocol message that is cut short".to_owned()),
        }
    }

    fn i32(&mut self) -> std::result::Result<i32, String> {
        Ok(self.take(4)?.get_i32())
    }

    fn string(&mut self) -> std::result::Result<String, String> {
        let length = self.take(2)?.get_i16();
        let length = usize::try_from(length).map_err(|_| "a null topic name".to_owned())?;
        Ok(String::from_utf8_lossy(&self.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_first_members_take_the_odd_ones() {
        let subscriptions: BTreeMap<_, _> = [("a", &["t"][..]), ("b", &["t", "u"]), ("c", &["t"])]
            .map(|(id, t)| (id.to_owned(), names(t)))
            .into();
        let partitions = [("t".to_owned(), 5), ("u".to_owned(), 2)].into();
        let assigned = range_assign(&subscriptions, &partitions);
        let text = |id: &str| assigned[id].iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        assert_eq!(
            (text("a"), text("b"), text("c")),
            ("t-0 t-1".into(), "t-2 t-3 u-0 u-1".into(), "t-4".into())
        );
    }

    proptest! {
        #[test]
        fn every_partition_has_exactly_one_reader(members in 1usize..9, count in 0i32..40) {
            let subscriptions: BTreeMap<_, _> = (0..members).map(|m| (format!("m{m}"), names(&["t"]))).collect();
            let assigned = range_assign(&subscriptions, &[("t".to_owned(), count)].into());
            let mut all: Vec<i32> = assigned.values().flatten().map(|at| at.partition).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
            let sizes: Vec<usize> = assigned.values().map(Vec::len).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }

        #[test]
        fn assignments_survive_the_way_there_and_back(mut list in proptest::collection::vec(
            ("[a-z]{1,5}", 0i32..9).prop_map(|(t, p)| TopicPartition::new(&t, p)), 0..20)) {
            list.sort();
            prop_assert_eq!(decode_assignment(&encode_assignment(&list)).unwrap(), list);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = Bytes::from(bytes);
            let _ = (decode_assignment(&bytes), decode_subscription(&bytes));
        }
    }

    #[test]
    fn no_assignment_is_an_empty_one() {
        assert_eq!(decode_assignment(&Bytes::new()), Ok(vec![]));
        assert!(decode_assignment(&Bytes::from_static(&[0])).is_err());
        assert!(decode_assignment(&Bytes::from_static(&[0x80, 0, 0, 0])).is_err());
    }

    #[test]
    fn only_a_refusal_asks_for_another_generation() {
        let broken = ClientError::Io { peer: "p".into(), source: std::io::ErrorKind::BrokenPipe.into() };
        assert!(!must_rejoin_after(Err(broken)) && !must_rejoin_after(Ok(())));
        assert!(must_rejoin_after(Err(ClientError::kafka(ErrorCode::REBALANCE_IN_PROGRESS.0, "g"))));
        assert!(must_rejoin_after(Err(ClientError::kafka(ErrorCode::NOT_COORDINATOR.0, "g"))));
        assert!(!must_rejoin_after(Err(ClientError::kafka(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS.0, "g"))));
    }
}
