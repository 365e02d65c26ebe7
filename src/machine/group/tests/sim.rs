//! A simulation: clients of two groups join, sync, beat, commit, leave and crash in any order, while time passes,
//! appends fail and the coordinator restarts from its log.
//!
//! After every step: each token has had at most one reply and, once the coordinator has resigned, exactly one; an
//! acknowledged commit is in the log; what clients fetch is what the log says; the members of one generation have
//! assignments from one leader's one attempt; the live state is what the log folds to; and `check` passes. Once
//! faults end, every group becomes Stable with all its clients in one generation.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use proptest::prelude::*;

use crate::machine::error::ErrorCode;

use super::super::*;

const CLIENTS: usize = 6;
const GROUPS: [&str; 2] = ["red", "blue"];
const TOPICS: [&str; 2] = ["t0", "t1"];

#[derive(Clone, PartialEq, Eq, Debug)]
enum Doing {
    /// Down, or fenced by another process with its instance id.
    Nothing,
    /// About to join.
    Idle,
    /// Waiting for the answer to a request.
    Waiting(u64),
    /// About to sync; with the members to assign to, if leader.
    Joined(Vec<String>),
    /// In the group with an assignment.
    Working,
}

#[derive(Clone, Debug)]
struct Client {
    group: &'static str,
    instance: Option<String>,
    member_id: String,
    generation: i32,
    protocols: Vec<&'static str>,
    doing: Doing,
}

#[derive(Clone, Debug)]
enum Asked {
    Client(usize),
    /// A commit: the group and what it committed.
    Commit(&'static str, &'static str, i64),
    Fetch(&'static str),
    Admin,
}

struct World {
    coordinator: Coordinator,
    incarnation: u64,
    now: Now,
    log: Vec<StateRecord>,
    appends: VecDeque<(AppendId, Vec<StateRecord>)>,
    asked: BTreeMap<u64, Asked>,
    next_token: u64,
    next_offset: i64,
    next_attempt: u64,
    clients: Vec<Client>,
    /// Which leader's attempt the members of a generation have their assignments from.
    attempts: BTreeMap<(u64, &'static str, i32), String>,
}

fn settings() -> GroupSettings {
    GroupSettings {
        max_size: 4,
        offsets_retention_ms: 60_000,
        offsets_retention_check_interval_ms: 20_000,
        new_member_join_timeout_ms: 15_000,
        ..GroupSettings::default()
    }
}

fn subscription(topic: &str) -> Bytes {
    let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, topic.len() as u8];
    bytes.extend_from_slice(topic.as_bytes());
    Bytes::from(bytes)
}

/// What a compacted log would hold.
fn fold(log: &[StateRecord]) -> BTreeMap<Bytes, Bytes> {
    let mut folded = BTreeMap::new();
    for record in log {
        match &record.value {
            Some(value) => folded.insert(record.key.clone(), value.clone()),
            None => folded.remove(&record.key),
        };
    }
    folded
}

impl World {
    fn new() -> World {
        let now = Now { monotonic_ms: 0, wall_ms: 1_700_000_000_000 };
        let mut coordinator = Coordinator::new(settings());
        coordinator.loaded(now);
        let client = |n: usize| Client {
            group: GROUPS[n % 2],
            instance: n.is_multiple_of(3).then(|| format!("instance{n}")),
            member_id: String::new(),
            generation: -1,
            protocols: vec!["range", "sticky"],
            doing: Doing::Idle,
        };
        World {
            coordinator,
            incarnation: 0,
            now,
            log: Vec::new(),
            appends: VecDeque::new(),
            asked: BTreeMap::new(),
            next_token: 0,
            next_offset: 0,
            next_attempt: 0,
            clients: (0..CLIENTS).map(client).collect(),
            attempts: BTreeMap::new(),
        }
    }

    fn ask(&mut self, asked: Asked, request: Request) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        if let Asked::Client(n) = asked {
            self.clients[n].doing = Doing::Waiting(token);
        }
        self.asked.insert(token, asked);
        self.coordinator.handle(self.now, token, request);
        self.drain();
        token
    }

    fn drain(&mut self) {
        while let Some(action) = self.coordinator.next_action() {
            match action {
                Action::Append { id, records } => self.appends.push_back((id, records)),
                Action::Reply { token, reply } => {
                    let asked = self.asked.remove(&token).expect("every token has one reply");
                    self.answered(token, asked, reply);
                }
            }
        }
        self.coordinator.check();
        if let Some(live) = self.coordinator.live_state(self.now) {
            assert!(self.appends.is_empty());
            assert_eq!(fold(&live), fold(&self.log), "the live state is what the log folds to");
        }
    }

    fn answered(&mut self, token: u64, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Commit(group, topic, offset), Reply::Commit(reply))
                if !reply.topics[0].partitions[0].1.is_error() =>
            {
                let key = encode_offset_key(group, topic, 0);
                let stored = |record: &StateRecord| {
                    let value = record.value.as_ref().filter(|_| record.key == key);
                    value.is_some_and(|value| decode_offset_value(value).unwrap().offset == offset)
                };
                assert!(self.log.iter().any(stored), "an acknowledged commit is in the log");
            }
            (Asked::Fetch(group), Reply::Fetch(reply)) if reply.groups[0].error == ErrorCode::NONE => {
                let folded = fold(&self.log);
                for (topic, fetched) in TOPICS.iter().zip(&reply.groups[0].topics) {
                    let value = folded.get(&encode_offset_key(group, topic, 0));
                    let expected = value.map_or(-1, |value| decode_offset_value(value).unwrap().offset);
                    assert_eq!(fetched.partitions[0].offset, expected, "clients see what is durable");
                }
            }
            (Asked::Client(n), reply) if self.clients[n].doing == Doing::Waiting(token) => {
                self.told(n, reply)
            }
            _ => {}
        }
    }

    fn told(&mut self, n: usize, reply: Reply) {
        let client = &mut self.clients[n];
        let (error, next) = match &reply {
            Reply::Join(join) => {
                if !join.member_id.is_empty() {
                    client.member_id.clone_from(&join.member_id);
                }
                client.generation = join.generation;
                let leads = join.leader == join.member_id && !join.skip_assignment;
                let others = join.members.iter().map(|member| member.member_id.clone());
                (join.error, Doing::Joined(if leads { others.collect() } else { Vec::new() }))
            }
            Reply::Sync(sync) => {
                if !sync.error.is_error() && !sync.assignment.is_empty() {
                    let text = String::from_utf8(sync.assignment.to_vec()).unwrap();
                    let (generation, text) = text.split_once(':').unwrap();
                    let (attempt, member) = text.split_once(':').unwrap();
                    assert_eq!(
                        generation,
                        client.generation.to_string(),
                        "each generation has its own assignment"
                    );
                    // A static member that came back without a rebalance has its predecessor's assignment.
                    assert!(member == client.member_id || client.instance.is_some());
                    let key = (self.incarnation, client.group, client.generation);
                    let first = self.attempts.entry(key).or_insert_with(|| attempt.to_owned());
                    assert_eq!(first, attempt, "one generation, one assignment");
                }
                (sync.error, Doing::Working)
            }
            Reply::Heartbeat(error) => (*error, Doing::Working),
            other => panic!("clients do not wait for {other:?}"),
        };
        client.doing = match error {
            ErrorCode::NONE => next,
            ErrorCode::FENCED_INSTANCE_ID => Doing::Nothing,
            ErrorCode::UNKNOWN_MEMBER_ID => {
                client.member_id.clear();
                Doing::Idle
            }
            _ => Doing::Idle,
        };
    }

    /// The client does what comes next for it.
    fn advance(&mut self, n: usize) {
        let client = self.clients[n].clone();
        let (group, member_id, instance_id) =
            (client.group.to_owned(), client.member_id, client.instance.clone());
        let request = match client.doing {
            Doing::Nothing | Doing::Waiting(_) => return,
            Doing::Idle => Request::Join(JoinRequest {
                group,
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 12_000,
                member_id,
                instance_id,
                protocol_type: "consumer".to_owned(),
                protocols: client.protocols.iter().map(|p| ((*p).to_owned(), subscription("t0"))).collect(),
                client_id: format!("client{n}"),
                client_host: "/127.0.0.1".to_owned(),
                uuid: format!("uuid{}", self.next_token),
                require_known_member_id: n.is_multiple_of(2),
                supports_skip_assignment: n < 3,
                reason: None,
            }),
            Doing::Joined(members) => {
                self.next_attempt += 1;
                let text = format!("{}:{}", client.generation, self.next_attempt);
                let assign = |id: &String| (id.clone(), Bytes::from(format!("{text}:{id}")));
                Request::Sync(SyncRequest {
                    group,
                    generation: client.generation,
                    member_id,
                    instance_id,
                    protocol_type: Some("consumer".to_owned()),
                    protocol: None,
                    assignments: members.iter().map(assign).collect(),
                })
            }
            Doing::Working => Request::Heartbeat(HeartbeatRequest {
                group,
                generation: client.generation,
                member_id,
                instance_id,
            }),
        };
        self.ask(Asked::Client(n), request);
    }

    fn commit(&mut self, n: usize, simple: bool, topic: &'static str) {
        self.next_offset += 1;
        let (client, offset) = (self.clients[n].clone(), self.next_offset);
        let partition = CommitPartition { partition: 0, offset, leader_epoch: 3, metadata: None };
        let request = Request::Commit(CommitRequest {
            group: client.group.to_owned(),
            generation: if simple { -1 } else { client.generation },
            member_id: if simple { String::new() } else { client.member_id },
            instance_id: client.instance.filter(|_| !simple),
            retention_ms: if offset % 5 == 0 { 30_000 } else { -1 },
            supports_group_id_not_found: true,
            topics: vec![CommitTopic {
                name: topic.to_owned(),
                topic_id: [0; 16],
                partitions: vec![partition],
            }],
        });
        self.ask(Asked::Commit(client.group, topic, offset), request);
    }

    fn fetch(&mut self, group: &'static str, require_stable: bool) {
        let topic =
            |name: &&str| FetchTopic { name: (*name).to_owned(), topic_id: [0; 16], partitions: vec![0] };
        let groups =
            vec![FetchGroup { group: group.to_owned(), topics: Some(TOPICS.iter().map(topic).collect()) }];
        self.ask(Asked::Fetch(group), Request::Fetch(FetchRequest { groups, require_stable }));
    }

    fn admin(&mut self, which: u16) {
        let group = GROUPS[usize::from(which) % 2].to_owned();
        let request = match which / 2 % 4 {
            0 => Request::Delete(vec![group, "unknown".to_owned()]),
            1 => Request::OffsetDelete(OffsetDeleteRequest {
                group,
                topics: TOPICS.iter().map(|topic| ((*topic).to_owned(), vec![0, 1])).collect(),
            }),
            2 => Request::Describe(DescribeRequest {
                groups: vec![group],
                not_found_is_error: which.is_multiple_of(2),
            }),
            _ => Request::List(ListRequest::default()),
        };
        self.ask(Asked::Admin, request);
    }

    fn leave(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.member_id.is_empty() {
            return;
        }
        client.doing = Doing::Nothing;
        let member = LeavingMember {
            member_id: std::mem::take(&mut client.member_id),
            instance_id: client.instance.clone(),
            reason: None,
        };
        let group = client.group.to_owned();
        self.ask(Asked::Admin, Request::Leave(LeaveRequest { group, members: vec![member] }));
    }

    /// The process dies and another takes its place, with the same instance id but nothing else.
    fn crash(&mut self, n: usize) {
        let client = &mut self.clients[n];
        client.member_id.clear();
        client.generation = -1;
        client.doing = if client.doing == Doing::Nothing { Doing::Idle } else { Doing::Nothing };
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += ms as i64;
        while self.coordinator.next_deadline_ms().is_some_and(|due| due <= self.now.monotonic_ms) {
            self.coordinator.tick(self.now);
        }
        self.drain();
    }

    fn finish_append(&mut self, result: Result<(), ErrorCode>) {
        let Some((id, records)) = self.appends.pop_front() else { return };
        if result.is_ok() {
            for record in records.iter().filter(|record| record.value.is_none()) {
                // A deleted group's generations begin anew.
                self.attempts.retain(|(_, group, _), _| record.key != encode_group_key(group));
            }
            self.log.extend(records);
        }
        self.coordinator.appended(self.now, id, result);
        self.drain();
    }

    /// The coordinator stops, perhaps with appends that make it to the log and are never reported, and another
    /// takes over from the log.
    fn restart(&mut self, unreported: usize) {
        self.coordinator.resign(ErrorCode::NOT_COORDINATOR);
        let in_flight = std::mem::take(&mut self.appends);
        self.log.extend(in_flight.into_iter().take(unreported).flat_map(|(_, records)| records));
        self.drain();
        assert!(self.asked.is_empty(), "a resigned coordinator owes no replies");
        let mut coordinator = Coordinator::new(settings());
        for record in &self.log {
            coordinator.load(&record.key, record.value.as_deref(), record.timestamp_ms).unwrap();
        }
        self.now.monotonic_ms += 1_000;
        coordinator.loaded(self.now);
        self.coordinator = coordinator;
        self.incarnation += 1;
        self.drain();
    }

    /// The log is rewritten from the live state.
    fn compact(&mut self) {
        if let Some(live) = self.coordinator.live_state(self.now) {
            self.log = live;
        }
    }

    fn step(&mut self, kind: u8, n: usize, arg: u16) {
        match kind {
            0..=5 => self.advance(n),
            6 | 7 => self.commit(n, arg.is_multiple_of(4), TOPICS[usize::from(arg) % 2]),
            8 => self.fetch(GROUPS[n % 2], arg.is_multiple_of(2)),
            9 | 10 => self.pass(u64::from(arg % 4_000)),
            11 => self.pass(u64::from(arg)),
            12..=15 => self.finish_append(Ok(())),
            16 => self.finish_append(Err(ErrorCode::KAFKA_STORAGE_ERROR)),
            17 => self.admin(arg),
            18 => match arg % 8 {
                0 => self.restart(usize::from(arg / 8) % 3),
                1 => self.compact(),
                2 => {
                    self.coordinator.topics_deleted(self.now, &[TOPICS[n % 2], "other"]);
                    self.drain();
                }
                3 => self.clients[n].protocols = vec!["sticky"],
                4 => self.clients[n].protocols = vec!["range", "sticky"],
                // The connection broke: the client asks again over another.
                5 | 6 if self.clients[n].doing != Doing::Nothing => self.clients[n].doing = Doing::Idle,
                _ => self.leave(n),
            },
            _ => self.crash(n),
        }
    }

    /// Faults end; every client keeps going. One that is down is started again, and so is one that was fenced:
    /// as in Kafka, a static member whose new id was not in the log yet when the coordinator moved finds its
    /// predecessor's id there. All support every protocol again: the log keeps only the one in use, so after a
    /// restart others cannot be agreed on until the members rejoin (as in Kafka, too).
    fn settle(&mut self) {
        self.clients.iter_mut().for_each(|client| client.protocols = vec!["range", "sticky"]);
        for _ in 0..100 {
            for n in 0..CLIENTS {
                if self.clients[n].doing == Doing::Nothing {
                    self.crash(n);
                }
                self.advance(n);
            }
            while !self.appends.is_empty() {
                self.finish_append(Ok(()));
            }
            self.pass(1_000);
        }
        for group in GROUPS {
            let members: Vec<&Client> = self.clients.iter().filter(|client| client.group == group).collect();
            let generation = members[0].generation;
            for client in members {
                assert!(client.doing == Doing::Working, "{client:?} has not settled in {group}");
                assert_eq!(client.generation, generation);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn groups_survive_everything(
        steps in proptest::collection::vec((0u8..20, 0..CLIENTS, any::<u16>()), 0..300),
    ) {
        let mut world = World::new();
        for (kind, n, arg) in steps {
            world.step(kind, n, arg);
        }
        world.settle();
        let before = fold(&world.log);
        world.restart(0);
        let live = world.coordinator.live_state(world.now).expect("nothing is in flight");
        prop_assert_eq!(fold(&live), before);
    }
}
