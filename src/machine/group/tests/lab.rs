//! A coordinator on a bench: requests in a line each, appends that finish when the test says so.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::super::*;

pub(super) const GROUP: &str = "g";
pub(super) const SESSION_MS: u64 = 10_000;
pub(super) const REBALANCE_MS: u64 = 20_000;

pub(super) struct Lab {
    pub(super) coordinator: Coordinator,
    pub(super) now: Now,
    pub(super) log: Vec<StateRecord>,
    pub(super) appends: VecDeque<(AppendId, Vec<StateRecord>)>,
    pub(super) settings: GroupSettings,
    replies: BTreeMap<u64, Reply>,
    next_token: u64,
}

impl Lab {
    pub(super) fn new() -> Lab {
        Lab::with(GroupSettings::default())
    }

    pub(super) fn with(settings: GroupSettings) -> Lab {
        let now = Now { monotonic_ms: 0, wall_ms: 1_000_000 };
        let mut coordinator = Coordinator::new(settings.clone());
        coordinator.loaded(now);
        Lab {
            coordinator,
            now,
            log: Vec::new(),
            appends: VecDeque::new(),
            settings,
            replies: BTreeMap::new(),
            next_token: 0,
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.coordinator.next_action() {
            match action {
                Action::Append { id, records } => self.appends.push_back((id, records)),
                Action::Reply { token, reply } => {
                    assert!(self.replies.insert(token, reply).is_none(), "one reply a token");
                }
            }
        }
        self.coordinator.check();
    }

    /// Sends a request.
    pub(super) fn send(&mut self, request: Request) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        self.coordinator.handle(self.now, token, request);
        self.drain();
        token
    }

    /// The reply to a request, which must have come.
    pub(super) fn reply(&mut self, token: u64) -> Reply {
        self.replies.remove(&token).expect("the reply has come")
    }

    pub(super) fn waits(&self, token: u64) -> bool {
        !self.replies.contains_key(&token)
    }

    /// Finishes the oldest append.
    pub(super) fn append(&mut self, result: Result<(), ErrorCode>) {
        let (id, records) = self.appends.pop_front().expect("an append is in flight");
        if result.is_ok() {
            self.log.extend(records);
        }
        self.coordinator.appended(self.now, id, result);
        self.drain();
    }

    /// Finishes all appends well.
    pub(super) fn append_all(&mut self) {
        while !self.appends.is_empty() {
            self.append(Ok(()));
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_ms += ms as i64;
        self.coordinator.tick(self.now);
        self.drain();
    }

    pub(super) fn resign(&mut self, error: ErrorCode) {
        self.coordinator.resign(error);
        self.drain();
    }

    pub(super) fn topics_deleted(&mut self, names: &[&str]) {
        self.coordinator.topics_deleted(self.now, names);
        self.drain();
    }

    /// Another coordinator takes over from the log.
    pub(super) fn restart(&mut self) {
        self.coordinator = Coordinator::new(self.settings.clone());
        for record in &self.log {
            self.coordinator.load(&record.key, record.value.as_deref(), record.timestamp_ms).unwrap();
        }
        self.coordinator.loaded(self.now);
        self.appends.clear();
        self.drain();
    }

    pub(super) fn join(&mut self, join: JoinRequest) -> u64 {
        self.send(Request::Join(join))
    }

    pub(super) fn joined(&mut self, token: u64) -> JoinReply {
        match self.reply(token) {
            Reply::Join(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> u64 {
        self.send(Request::Sync(sync(member, generation, assignments)))
    }

    pub(super) fn synced(&mut self, token: u64) -> SyncReply {
        match self.reply(token) {
            Reply::Sync(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn heartbeat(&mut self, member: &str, generation: i32) -> ErrorCode {
        self.heartbeat_of(member, None, generation)
    }

    pub(super) fn heartbeat_of(
        &mut self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        let token = self.send(Request::Heartbeat(HeartbeatRequest {
            group: GROUP.to_owned(),
            generation,
            member_id: member.to_owned(),
            instance_id: instance.map(str::to_owned),
        }));
        match self.reply(token) {
            Reply::Heartbeat(error) => error,
            other => panic!("{other:?}"),
        }
    }

    /// Members leave; the reply may have to wait for an append.
    pub(super) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> u64 {
        let members = members.iter().map(|(member, instance)| LeavingMember {
            member_id: (*member).to_owned(),
            instance_id: instance.map(str::to_owned),
            reason: None,
        });
        self.send(Request::Leave(LeaveRequest { group: GROUP.to_owned(), members: members.collect() }))
    }

    pub(super) fn left(&mut self, token: u64) -> (ErrorCode, Vec<ErrorCode>) {
        match self.reply(token) {
            Reply::Leave(reply) => (reply.error, reply.members.iter().map(|member| member.error).collect()),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn state(&mut self) -> &'static str {
        self.describe(GROUP).state
    }

    pub(super) fn describe(&mut self, group: &str) -> GroupDescription {
        let request = DescribeRequest { groups: vec![group.to_owned()], not_found_is_error: false };
        let token = self.send(Request::Describe(request));
        match self.reply(token) {
            Reply::Describe(mut groups) => groups.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// A Stable group of members whose client ids are given; returns member ids, the leader's first.
    pub(super) fn stable(&mut self, clients: &[&str]) -> Vec<String> {
        let (members, generation) = self.completing(clients);
        let assignments: Vec<(&str, &str)> = members.iter().map(|id| (id.as_str(), id.as_str())).collect();
        let tokens: Vec<u64> = members.iter().map(|id| self.sync(id, generation, &assignments)).collect();
        self.append_all();
        for (token, member) in tokens.into_iter().zip(&members) {
            assert_eq!(self.synced(token).assignment, Bytes::from(member.clone()));
        }
        assert_eq!(self.state(), "Stable");
        members
    }

    /// The same, in CompletingRebalance; returns the generation too.
    pub(super) fn completing(&mut self, clients: &[&str]) -> (Vec<String>, i32) {
        let tokens: Vec<u64> = clients.iter().map(|client| self.join(new_member(client))).collect();
        let delay_ms = self.settings.initial_rebalance_delay_ms;
        // Twice, because members that arrive during the delay extend it once.
        self.pass(delay_ms);
        self.pass(delay_ms);
        let replies: Vec<JoinReply> = tokens.into_iter().map(|token| self.joined(token)).collect();
        assert_eq!(self.state(), "CompletingRebalance");
        let (leaders, others): (Vec<_>, Vec<_>) =
            replies.iter().partition(|reply| reply.leader == reply.member_id);
        assert_eq!(leaders.len(), 1);
        let members = leaders.iter().chain(&others).map(|reply| reply.member_id.clone()).collect();
        (members, replies[0].generation)
    }

    /// Commits one offset; the reply may have to wait for an append.
    pub(super) fn commit(&mut self, commit: CommitRequest) -> u64 {
        self.send(Request::Commit(commit))
    }

    pub(super) fn committed(&mut self, token: u64) -> ErrorCode {
        match self.reply(token) {
            Reply::Commit(reply) => reply.topics[0].partitions[0].1,
            other => panic!("{other:?}"),
        }
    }

    /// The durable offset of partition 0 of a topic.
    pub(super) fn offset(&mut self, topic: &str) -> i64 {
        let fetch = FetchTopic { name: topic.to_owned(), topic_id: [0; 16], partitions: vec![0] };
        let token = self.send(fetch_request(Some(vec![fetch]), false));
        self.fetched(token)[0].partitions[0].offset
    }

    pub(super) fn fetched(&mut self, token: u64) -> Vec<FetchedTopic> {
        match self.reply(token) {
            Reply::Fetch(mut reply) => {
                let group = reply.groups.remove(0);
                assert_eq!(group.error, ErrorCode::NONE);
                group.topics
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A dynamic member that joins for the first time, as clients did before KIP-394.
pub(super) fn new_member(client: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.to_owned(),
        session_timeout_ms: SESSION_MS as i32,
        rebalance_timeout_ms: REBALANCE_MS as i32,
        member_id: String::new(),
        instance_id: None,
        protocol_type: "consumer".to_owned(),
        protocols: protocols(&["range"]),
        client_id: client.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        uuid: "uuid".to_owned(),
        require_known_member_id: false,
        supports_skip_assignment: true,
        reason: None,
    }
}

/// A member that joins again.
pub(super) fn known_member(id: &str) -> JoinRequest {
    JoinRequest { member_id: id.to_owned(), ..new_member("client") }
}

/// A static member's new process.
pub(super) fn static_member(instance: &str, uuid: &str) -> JoinRequest {
    JoinRequest { instance_id: Some(instance.to_owned()), uuid: uuid.to_owned(), ..new_member("client") }
}

/// Protocols, each with a subscription to the topic `subscribed`.
pub(super) fn protocols(names: &[&str]) -> Vec<(String, Bytes)> {
    let subscription = Bytes::from_static(b"\0\0\0\0\0\x01\0\x0asubscribed\xff\xff\xff\xff");
    names.iter().map(|name| ((*name).to_owned(), subscription.clone())).collect()
}

pub(super) fn sync(member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncRequest {
    let assignment = |(id, bytes): &(&str, &str)| ((*id).to_owned(), Bytes::from((*bytes).to_owned()));
    SyncRequest {
        group: GROUP.to_owned(),
        generation,
        member_id: member.to_owned(),
        instance_id: None,
        protocol_type: None,
        protocol: None,
        assignments: assignments.iter().map(assignment).collect(),
    }
}

/// A commit of one offset by a consumer without group management.
pub(super) fn simple_commit(topic: &str, offset: i64) -> CommitRequest {
    let partition =
        CommitPartition { partition: 0, offset, leader_epoch: 7, metadata: Some("text".to_owned()) };
    CommitRequest {
        group: GROUP.to_owned(),
        generation: -1,
        member_id: String::new(),
        instance_id: None,
        retention_ms: -1,
        supports_group_id_not_found: true,
        topics: vec![CommitTopic { name: topic.to_owned(), topic_id: [0; 16], partitions: vec![partition] }],
    }
}

/// A member's commit of one offset.
pub(super) fn member_commit(topic: &str, offset: i64, member: &str, generation: i32) -> CommitRequest {
    CommitRequest { member_id: member.to_owned(), generation, ..simple_commit(topic, offset) }
}

pub(super) fn fetch_request(topics: Option<Vec<FetchTopic>>, require_stable: bool) -> Request {
    Request::Fetch(FetchRequest {
        groups: vec![FetchGroup { group: GROUP.to_owned(), topics }],
        require_stable,
    })
}
