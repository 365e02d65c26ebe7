//! Routes requests, timers and append outcomes to groups.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::admin::describe_unknown;
use super::commit::fetch_topic;
use super::outbox::{Action, AppendId, Change, InFlight, Outbox, Then};
use super::records::{StateRecord, encode_group_key};
use super::reply::{FetchReply, FetchedGroup, GroupDescription, LeaveReply, LeftMember, ListReply, Reply};
use super::request::{CommitRequest, FetchRequest, JoinRequest, Request};
use super::settings::{EXPIRY_GROUPS_PER_TICK, GROUPS_MAX, GroupSettings, RECORD_STRING_BYTES_MAX};
use super::state::Group;
use super::timers::TimerKey;

/// What the clocks say. Deadlines follow the monotonic clock, timestamps and retention the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds of a clock that never goes back.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970.
    pub wall_ms: i64,
}

/// What a group needs to act.
pub(super) struct Cx<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) io: &'a mut Outbox,
}

impl Cx<'_> {
    /// Appends a group's record, or its tombstone.
    pub(super) fn append_group(&mut self, group: &mut Group, value: Option<Bytes>, then: Then) -> AppendId {
        let key = encode_group_key(&group.id);
        group.records_in_flight += 1;
        let record = StateRecord { key, value: value.clone(), timestamp_ms: self.now.wall_ms };
        self.io.append(vec![record], vec![Change::Group { group: group.id.clone(), value }], then)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The partition's records are being read back.
    Loading,
    /// Requests are served.
    Active,
    /// Leadership is lost; requests are refused with this error.
    Resigned(ErrorCode),
}

/// The coordinator of the groups of one partition of `__consumer_offsets`.
///
/// Inputs: the partition's records in order ([`load`](Self::load), then [`loaded`](Self::loaded)), requests
/// ([`handle`](Self::handle)), the outcome of appends ([`appended`](Self::appended)), time
/// ([`tick`](Self::tick), no later than [`next_deadline_ms`](Self::next_deadline_ms)), and
/// [`resign`](Self::resign). After each, [`next_action`](Self::next_action) is drained.
///
/// Promises:
/// - every token gets exactly one reply;
/// - no reply leaves before the records it was derived from are durable;
/// - an append that fails leaves state as if it had not been tried, apart from members told to rejoin;
/// - loading all records that were appended gives the same offsets and generations.
///
/// A shard that loses the partition resigns the coordinator and drops it; a new one is loaded when the partition
/// comes back.
pub struct Coordinator {
    pub(super) settings: GroupSettings,
    pub(super) phase: Phase,
    pub(super) groups: BTreeMap<Rc<str>, Group>,
    pub(super) io: Outbox,
    /// OffsetFetch requests that wait until every append up to one is decided.
    stable_fetches: VecDeque<(AppendId, u64, FetchRequest)>,
    /// Where the search for expired offsets goes on; `None` at its start.
    expiry_after: Option<Rc<str>>,
    pub(super) unknown_records: u64,
}

impl Coordinator {
    /// A coordinator that is loading.
    #[must_use]
    pub fn new(settings: GroupSettings) -> Coordinator {
        Coordinator {
            settings,
            phase: Phase::Loading,
            groups: BTreeMap::new(),
            io: Outbox::default(),
            stable_fetches: VecDeque::new(),
            expiry_after: None,
            unknown_records: 0,
        }
    }

    /// The partition is read back: requests are served from here on, and sessions start anew.
    pub fn loaded(&mut self, now: Now) {
        assert_eq!(self.phase, Phase::Loading, "a coordinator is loaded once");
        self.phase = Phase::Active;
        let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
        for group in self.groups.values_mut() {
            for member in group.members.keys().cloned().collect::<Vec<_>>() {
                group.restart_session(&mut cx, &member);
            }
            if group.members.len() > cx.settings.max_size {
                // The maximum was lowered: the members that rejoin last are turned away.
                group.prepare_rebalance(&mut cx);
            }
        }
        let due_ms = now.monotonic_ms + self.settings.offsets_retention_check_interval_ms;
        self.io.timers.set(TimerKey::Expiry, due_ms);
    }

    /// Records that were skipped while loading because this broker does not know their kind.
    #[must_use]
    pub fn unknown_records(&self) -> u64 {
        self.unknown_records
    }

    /// Handles a client's request. `token` comes back with the reply, at once or later.
    pub fn handle(&mut self, now: Now, token: u64, request: Request) {
        match self.phase {
            Phase::Active => self.route(now, token, request),
            Phase::Loading => {
                // A member that is told so by a heartbeat would look for another coordinator for nothing.
                let heartbeat = matches!(request, Request::Heartbeat(_));
                let error = if heartbeat { ErrorCode::NONE } else { ErrorCode::COORDINATOR_LOAD_IN_PROGRESS };
                self.io.reply(token, request.refuse(error));
            }
            Phase::Resigned(error) => self.io.reply(token, request.refuse(error)),
        }
    }

    fn route(&mut self, now: Now, token: u64, request: Request) {
        if let Err(error) = self.validate(&request) {
            return self.io.reply(token, request.refuse(error));
        }
        let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
        match request {
            Request::Join(join) => self.join(now, token, &join),
            Request::Sync(sync) => match self.groups.get_mut(&*sync.group) {
                Some(group) => group.sync(&mut cx, token, sync),
                None => cx.io.reply(token, Request::Sync(sync).refuse(ErrorCode::UNKNOWN_MEMBER_ID)),
            },
            Request::Heartbeat(heartbeat) => {
                let group = self.groups.get_mut(&*heartbeat.group);
                let outcome =
                    group.map_or(Err(ErrorCode::UNKNOWN_MEMBER_ID), |g| g.heartbeat(&mut cx, &heartbeat));
                cx.io.reply(token, Reply::Heartbeat(outcome.err().unwrap_or(ErrorCode::NONE)));
            }
            Request::Leave(leave) => match self.groups.get_mut(&*leave.group) {
                Some(group) => {
                    group.leave(&mut cx, token, &leave);
                    self.drop_if_vacant(&leave.group);
                }
                None => {
                    let unknown = leave.members.into_iter().map(|member| LeftMember {
                        member_id: member.member_id,
                        instance_id: member.instance_id,
                        error: ErrorCode::UNKNOWN_MEMBER_ID,
                    });
                    let reply = LeaveReply { error: ErrorCode::NONE, members: unknown.collect() };
                    cx.io.reply(token, Reply::Leave(reply));
                }
            },
            Request::Commit(commit) => self.commit(now, token, &commit),
            Request::Fetch(fetch) => self.fetch(token, fetch),
            Request::OffsetDelete(delete) => match self.groups.get_mut(&*delete.group) {
                Some(group) => group.delete_offsets(&mut cx, token, &delete),
                None => {
                    cx.io.reply(token, Request::OffsetDelete(delete).refuse(ErrorCode::GROUP_ID_NOT_FOUND))
                }
            },
            Request::Describe(describe) => {
                let describe_one = |id: &String| match self.groups.get(&**id) {
                    Some(group) => group.describe(),
                    None => describe_unknown(id, describe.not_found_is_error),
                };
                let groups: Vec<GroupDescription> = describe.groups.iter().map(describe_one).collect();
                cx.io.reply(token, Reply::Describe(groups));
            }
            Request::List(list) => {
                let groups = self.groups.values().filter_map(|group| group.list(&list)).collect();
                cx.io.reply(token, Reply::List(ListReply { error: ErrorCode::NONE, groups }));
            }
            Request::Delete(groups) => self.delete(now, token, groups),
        }
    }

    /// What is wrong with a request whatever its group's state.
    fn validate(&self, request: &Request) -> Result<(), ErrorCode> {
        let (group, may_be_empty) = match request {
            Request::Join(JoinRequest { group, .. }) => (group, false),
            Request::Sync(sync) => (&sync.group, false),
            Request::Heartbeat(heartbeat) => (&heartbeat.group, false),
            Request::Leave(leave) => (&leave.group, false),
            Request::OffsetDelete(delete) => (&delete.group, false),
            Request::Commit(CommitRequest { group, .. }) => (group, true),
            Request::Fetch(_) | Request::Describe(_) | Request::List(_) | Request::Delete(_) => return Ok(()),
        };
        if (group.is_empty() && !may_be_empty) || group.len() > RECORD_STRING_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        match request {
            Request::Join(join) => {
                join.validate(self.settings.min_session_timeout_ms, self.settings.max_session_timeout_ms)
            }
            _ => Ok(()),
        }
    }

    fn join(&mut self, now: Now, token: u64, join: &JoinRequest) {
        let error = if !join.member_id.is_empty() && !self.groups.contains_key(&*join.group) {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        } else {
            self.create_group(now, &join.group)
        };
        if let Err(error) = error {
            return self.io.reply(token, Request::Join(join.clone()).refuse(error));
        }
        let group = self.groups.get_mut(&*join.group).expect("created above");
        group.join(&mut Cx { now, settings: &self.settings, io: &mut self.io }, token, join);
        self.drop_if_vacant(&join.group);
    }

    fn commit(&mut self, now: Now, token: u64, commit: &CommitRequest) {
        let outcome = match self.groups.contains_key(&*commit.group) {
            true => Ok(()),
            // The offsets of a consumer that does without group management make a group of their own.
            false if commit.generation < 0 => self.create_group(now, &commit.group),
            false if commit.supports_group_id_not_found => Err(ErrorCode::GROUP_ID_NOT_FOUND),
            false => Err(ErrorCode::ILLEGAL_GENERATION),
        };
        if let Err(error) = outcome {
            return self.io.reply(token, Reply::Commit(commit.refuse(error)));
        }
        let group = self.groups.get_mut(&*commit.group).expect("created above");
        group.commit(&mut Cx { now, settings: &self.settings, io: &mut self.io }, token, commit);
        self.drop_if_vacant(&commit.group);
    }

    fn fetch(&mut self, token: u64, fetch: FetchRequest) {
        match self.io.span_in_flight() {
            Some((_, last)) if fetch.require_stable => self.stable_fetches.push_back((last, token, fetch)),
            _ => {
                let reply = self.answer_fetch(&fetch);
                self.io.reply(token, reply);
            }
        }
    }

    fn answer_fetch(&self, fetch: &FetchRequest) -> Reply {
        let groups = fetch.groups.iter().map(|asked| match self.groups.get(&*asked.group) {
            Some(group) => group.fetch(asked),
            None => {
                let topics = asked.topics.iter().flatten().map(|topic| fetch_topic(None, topic)).collect();
                FetchedGroup { group: asked.group.clone(), error: ErrorCode::NONE, topics }
            }
        });
        Reply::Fetch(FetchReply { groups: groups.collect() })
    }

    fn delete(&mut self, now: Now, token: u64, groups: Vec<String>) {
        let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
        let (mut appends, mut outcomes) = (Vec::new(), Vec::new());
        for id in groups {
            let group = self.groups.get_mut(&*id);
            let outcome =
                group.map_or(Err(ErrorCode::GROUP_ID_NOT_FOUND), |group| group.delete_by_request(&mut cx));
            let error = match outcome {
                Ok(own) => {
                    appends.extend(own);
                    ErrorCode::NONE
                }
                Err(error) => error,
            };
            outcomes.push((id, error));
        }
        let deleted: Vec<String> = outcomes.iter().map(|(id, _)| id.clone()).collect();
        cx.io.reply_after(&appends, token, Reply::Delete(outcomes));
        deleted.iter().for_each(|id| self.drop_if_vacant(id));
    }

    /// Makes sure that a group exists. Error: there are too many.
    fn create_group(&mut self, now: Now, id: &str) -> Result<(), ErrorCode> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        let id: Rc<str> = Rc::from(id);
        self.groups.insert(id.clone(), Group::new(id, now.wall_ms));
        Ok(())
    }

    pub(super) fn drop_if_vacant(&mut self, id: &str) {
        if self.groups.get(id).is_some_and(Group::is_vacant) {
            self.groups.remove(id);
        }
    }

    /// The outcome of an append: its records are durable (below the high watermark), or they are not in the log
    /// and never will be. Where the shell cannot tell, it resigns the coordinator instead. An id that is not in
    /// flight is ignored (the coordinator has resigned meanwhile).
    pub fn appended(&mut self, now: Now, append: AppendId, result: Result<(), ErrorCode>) {
        let Some(mut done) = self.io.take(append) else { return };
        let error = result.err().map(append_error);
        let mut touched: Vec<Rc<str>> = Vec::new();
        for change in std::mem::take(&mut done.changes) {
            let group = self.settle(append, change, error.is_none());
            if touched.last() != Some(&group) {
                touched.push(group);
            }
        }
        self.follow(now, &mut done, error);
        self.io.settle(&done, error);
        touched.iter().for_each(|id| self.drop_if_vacant(id));
        self.release_fetches();
    }

    /// Brings one change of state in line with its append's outcome; returns the group it concerns.
    fn settle(&mut self, append: AppendId, change: Change, durable: bool) -> Rc<str> {
        match change {
            Change::Offset { group, topic, partition } => {
                let found =
                    self.groups.get_mut(&group).expect("a group stays while its records are in flight");
                found.offsets.finish(append, &topic, partition, durable);
                group
            }
            Change::Group { group, value } => {
                let found =
                    self.groups.get_mut(&group).expect("a group stays while its records are in flight");
                found.records_in_flight -= 1;
                if durable && found.logged_from.is_none_or(|from| from < append) {
                    found.logged = value;
                    found.logged_from = Some(append);
                }
                group
            }
        }
    }

    fn follow(&mut self, now: Now, done: &mut InFlight, error: Option<ErrorCode>) {
        let id = match &done.then {
            Then::Nothing => return,
            Then::Assign { group, .. } | Then::Removed { group } => group.clone(),
            Then::Replaced(replacement) => replacement.group.clone(),
        };
        let group = self.groups.get_mut(&id).expect("a group stays while its records are in flight");
        let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
        match std::mem::replace(&mut done.then, Then::Nothing) {
            Then::Nothing => {}
            Then::Assign { generation, assignments, .. } => {
                group.assigned(&mut cx, generation, assignments, error)
            }
            Then::Replaced(replacement) => group.replaced(&mut cx, *replacement, error),
            Then::Removed { .. } => group.removed(&mut cx, error),
        }
    }

    fn release_fetches(&mut self) {
        let first = self.io.span_in_flight().map(|(first, _)| first);
        while let Some((upto, _, _)) = self.stable_fetches.front() {
            if first.is_some_and(|first| first <= *upto) {
                return;
            }
            let (_, token, fetch) = self.stable_fetches.pop_front().expect("seen above");
            let reply = self.answer_fetch(&fetch);
            self.io.reply(token, reply);
        }
    }

    /// Fires the timers that are due.
    pub fn tick(&mut self, now: Now) {
        while let Some(key) = self.io.timers.pop_due(now.monotonic_ms) {
            let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
            let group = match key {
                TimerKey::Expiry => {
                    self.expire_some(now);
                    continue;
                }
                TimerKey::Session { group, member } => {
                    let found = self.groups.get_mut(&group).expect("a group's timers end with it");
                    found.session_timeout(&mut cx, &member);
                    group
                }
                TimerKey::Join { group } => {
                    self.groups.get_mut(&group).expect("a group's timers end with it").join_timeout(&mut cx);
                    group
                }
                TimerKey::Sync { group } => {
                    self.groups.get_mut(&group).expect("a group's timers end with it").sync_timeout(&mut cx);
                    group
                }
            };
            self.drop_if_vacant(&group);
        }
    }

    /// Looks for expired offsets in the next groups.
    fn expire_some(&mut self, now: Now) {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = self.expiry_after.take().map_or(Unbounded, Excluded);
        let next: Vec<Rc<str>> = self
            .groups
            .range::<Rc<str>, _>((from, Unbounded))
            .map(|(id, _)| id.clone())
            .take(EXPIRY_GROUPS_PER_TICK)
            .collect();
        for id in &next {
            let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
            self.groups.get_mut(id).expect("it is one of the keys").expire(&mut cx);
            self.drop_if_vacant(id);
        }
        let round_is_over = next.len() < EXPIRY_GROUPS_PER_TICK;
        // What is left of a round is due soon, but not in this call.
        let wait_ms =
            if round_is_over { self.settings.offsets_retention_check_interval_ms.max(1) } else { 1 };
        self.expiry_after = next.last().filter(|_| !round_is_over).cloned();
        self.io.timers.set(TimerKey::Expiry, now.monotonic_ms + wait_ms);
    }

    /// When [`tick`](Self::tick) is to be called next, by the monotonic clock. Calling it earlier does no harm.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.io.timers.next_ms()
    }

    /// What the shell is to do next.
    pub fn next_action(&mut self) -> Option<Action> {
        self.io.next_action()
    }

    /// Leadership of the partition is lost, or the broker stops: everything that waits is answered with `error`
    /// (NOT_COORDINATOR, usually), and so is everything that comes later. State is dropped.
    pub fn resign(&mut self, error: ErrorCode) {
        self.phase = Phase::Resigned(error);
        self.io.abandon(error);
        for (_, token, fetch) in std::mem::take(&mut self.stable_fetches) {
            self.io.reply(token, Request::Fetch(fetch).refuse(error));
        }
        for group in std::mem::take(&mut self.groups).into_values() {
            group.abandon(&mut self.io, error);
        }
    }

    /// Topics were deleted: so are their offsets.
    pub fn topics_deleted(&mut self, now: Now, names: &[&str]) {
        if self.phase != Phase::Active {
            return;
        }
        let mut cx = Cx { now, settings: &self.settings, io: &mut self.io };
        for group in self.groups.values_mut() {
            names.iter().for_each(|topic| group.delete_topic(&mut cx, topic));
        }
    }

    /// Asserts every invariant. For simulators and tests; it walks all state.
    pub fn check(&self) {
        self.io.check();
        for (id, group) in &self.groups {
            assert_eq!(*id, group.id);
            group.check();
            assert!(!group.is_vacant(), "a vacant group is dropped");
            let armed = |key: TimerKey| self.io.timers.is_armed(&key);
            let session =
                |member: &Rc<str>| armed(TimerKey::Session { group: id.clone(), member: member.clone() });
            if self.phase != Phase::Active {
                continue;
            }
            for member in group.members.values() {
                assert!(session(&member.id) || member.may_be_silent(), "somebody watches every member");
            }
            assert!(group.pending_joins.iter().all(session), "ids handed out expire");
            group.check_timers(
                armed(TimerKey::Join { group: id.clone() }),
                armed(TimerKey::Sync { group: id.clone() }),
            );
        }
    }
}

/// What clients are told when an append fails, as in Kafka: errors that make them look for the coordinator
/// again, except where trying again cannot help.
fn append_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE | ErrorCode::INVALID_FETCH_SIZE => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
        other => other,
    }
}
