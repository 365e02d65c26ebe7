//! A group: its members, its generation and its state, with the bookkeeping that every request shares. How
//! groups rebalance is in `join.rs` and `sync.rs`.
//!
//! ```text
//!             first member joins                all joined, or time is up
//!   Empty ----------------------> PreparingRebalance -----------------> CompletingRebalance
//!     ^ |                          ^   |         ^                         |        |
//!     | | deleted,                 |   | nobody  | somebody joins,         |        | the leader's assignment
//!     | v expired                  |   | is left | leaves or expires ------+        v is durable
//!    Dead                          |   v         +---------------------------- Stable
//!                                  | Empty
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::consumer_protocol::{CONSUMER_PROTOCOL_TYPE, add_subscribed_topics};
use super::coordinator::Cx;
use super::member::Member;
use super::offsets::Offsets;
use super::outbox::{AppendId, Outbox};
use super::records::{GroupValue, encode_group_value};
use super::reply::{JoinMember, JoinReply, Reply, SyncReply};
use super::timers::TimerKey;

/// A group's state, as DescribeGroups and ListGroups name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// No members; there may be offsets.
    Empty,
    /// Waiting for the members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment, and for it to be durable.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// Its tombstone is on the way to the log. Requests are told to try again.
    Dead,
}

impl GroupState {
    /// Kafka's name of the state.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }

    fn may_follow(self, previous: GroupState) -> bool {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        match self {
            Empty => matches!(previous, PreparingRebalance | Dead),
            PreparingRebalance => matches!(previous, Empty | CompletingRebalance | Stable),
            CompletingRebalance => previous == PreparingRebalance,
            Stable => previous == CompletingRebalance,
            Dead => previous == Empty,
        }
    }
}

/// How far the first rebalance of an empty group may still be delayed (KIP-134).
#[derive(Clone, Copy)]
pub(super) struct InitialDelay {
    pub(super) delay_ms: u64,
    pub(super) remaining_ms: u64,
}

/// A group.
pub(super) struct Group {
    pub(super) id: Rc<str>,
    pub(super) state: GroupState,
    pub(super) previous: GroupState,
    /// Since when the group is in its state, by the wall clock; `None` where an old record does not say.
    pub(super) state_since_ms: Option<i64>,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) generation: i32,
    pub(super) leader: Option<Rc<str>>,
    pub(super) members: BTreeMap<Rc<str>, Member>,
    /// Member ids of the static members, by instance id.
    pub(super) static_members: BTreeMap<Rc<str>, Rc<str>>,
    /// Member ids handed out with MEMBER_ID_REQUIRED that have not come back yet.
    pub(super) pending_joins: BTreeSet<Rc<str>>,
    /// Members of the generation that have not asked for their assignment yet.
    pub(super) pending_syncs: BTreeSet<Rc<str>>,
    /// How many members have a parked JoinGroup request.
    pub(super) awaiting_join: usize,
    /// How many members support each protocol.
    pub(super) supporters: BTreeMap<String, usize>,
    /// The topics that the generation's members subscribe to, if they are consumers that say so.
    pub(super) subscribed: Option<BTreeSet<String>>,
    /// While the first rebalance is being delayed.
    pub(super) initial_delay: Option<InitialDelay>,
    /// Whether a member was added since that delay was last extended.
    pub(super) new_member_added: bool,
    /// The append that carries this generation's assignment.
    pub(super) assignment_append: Option<AppendId>,
    pub(super) offsets: Offsets,
    /// The group's record in the log, and the append it came from.
    pub(super) logged: Option<Bytes>,
    pub(super) logged_from: Option<AppendId>,
    /// Records of the group on the way to the log.
    pub(super) records_in_flight: usize,
}

impl Group {
    pub(super) fn new(id: Rc<str>, now_wall_ms: i64) -> Group {
        Group {
            id,
            state: GroupState::Empty,
            previous: GroupState::Empty,
            state_since_ms: Some(now_wall_ms),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            awaiting_join: 0,
            supporters: BTreeMap::new(),
            subscribed: None,
            initial_delay: None,
            new_member_added: false,
            assignment_append: None,
            offsets: Offsets::default(),
            logged: None,
            logged_from: None,
            records_in_flight: 0,
        }
    }

    /// Takes over the generation that a record of the log describes. Used while loading.
    pub(super) fn restore(&mut self, value: Bytes, decoded: GroupValue) {
        self.clear_generation();
        self.generation = decoded.generation;
        self.protocol_type = Some(decoded.protocol_type).filter(|kind| !kind.is_empty());
        self.state_since_ms = Some(decoded.state_timestamp_ms).filter(|&ms| ms != -1);
        self.protocol = decoded.protocol;
        for member in decoded.members {
            self.insert(Member::restore(member, self.protocol.as_deref().unwrap_or_default()));
        }
        // After the members, because the first of them is made leader on the way in.
        self.leader = decoded.leader.map(Rc::from).filter(|leader| self.members.contains_key(leader));
        if self.leader.is_none() {
            self.leader = self.members.keys().next().cloned();
        }
        self.state = if self.members.is_empty() { GroupState::Empty } else { GroupState::Stable };
        self.previous = self.state;
        self.subscribed = self.compute_subscribed();
        self.logged = Some(value);
    }

    /// Forgets the generation, as the group's tombstone says. Used while loading.
    pub(super) fn restore_tombstone(&mut self) {
        self.clear_generation();
        self.generation = 0;
        self.protocol_type = None;
        self.protocol = None;
        self.state = GroupState::Empty;
        self.previous = GroupState::Empty;
        self.subscribed = None;
        self.logged = None;
    }

    fn clear_generation(&mut self) {
        assert_eq!(self.awaiting_join, 0, "nothing is parked while loading");
        self.members.clear();
        self.static_members.clear();
        self.supporters.clear();
        self.leader = None;
    }

    /// Whether nothing would be lost by forgetting the group: no members, no offsets, nothing in the log.
    pub(super) fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty
            && self.members.is_empty()
            && self.pending_joins.is_empty()
            && self.logged.is_none()
            && self.records_in_flight == 0
            && self.offsets.is_vacant()
    }

    pub(super) fn transition(&mut self, state: GroupState, now_wall_ms: i64) {
        assert!(state.may_follow(self.state), "{:?} may not follow {:?}", state, self.state);
        self.previous = self.state;
        self.state = state;
        self.state_since_ms = Some(now_wall_ms);
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// The leader's member id for a reply.
    pub(super) fn leader_name(&self) -> String {
        self.leader.as_deref().unwrap_or_default().to_owned()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether offsets of a topic are in use. Consumers whose subscription cannot be read may use any topic.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or(self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    /// The longest rebalance timeout of the members.
    pub(super) fn rebalance_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0);
        u64::try_from(longest).unwrap_or(0)
    }

    /// Adds a member. The first one decides the protocol type by what the caller has set.
    pub(super) fn insert(&mut self, member: Member) {
        assert!(!self.members.contains_key(&member.id), "a member is added once");
        if let Some(instance_id) = &member.instance_id {
            let before = self.static_members.insert(instance_id.clone(), member.id.clone());
            assert!(before.is_none(), "an instance id names one member");
        }
        self.count_protocols(&member, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_joins.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; the leader's place goes to another member. Its parked requests are the caller's.
    pub(super) fn take(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count_protocols(&member, false);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_syncs.remove(id);
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    fn count_protocols(&mut self, member: &Member, add: bool) {
        for (name, _) in &member.protocols {
            if add {
                *self.supporters.entry(name.clone()).or_default() += 1;
            } else if let Some(count) = self.supporters.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(name);
                }
            }
        }
    }

    /// Changes what a member said when it joined.
    pub(super) fn update(
        &mut self,
        id: &str,
        protocols: Vec<(String, Bytes)>,
        rebalance_ms: i32,
        session_ms: i32,
    ) {
        let mut member = self.members.remove(id).expect("the caller has looked it up");
        self.count_protocols(&member, false);
        member.protocols = protocols;
        member.rebalance_timeout_ms = rebalance_ms;
        member.session_timeout_ms = session_ms;
        self.count_protocols(&member, true);
        self.members.insert(member.id.clone(), member);
    }

    /// Removes a member, its timer and its parked requests, which are answered with `error`.
    pub(super) fn remove(&mut self, cx: &mut Cx, id: &str, error: ErrorCode) {
        let Some(member) = self.take(id) else { return };
        cx.io.timers.cancel(&TimerKey::Session { group: self.id.clone(), member: member.id.clone() });
        // The client learns from the error that it has to start again without a member id.
        let known = if error == ErrorCode::UNKNOWN_MEMBER_ID { "" } else { id };
        if let Some(token) = member.awaiting_join {
            cx.io.reply(token, Reply::Join(JoinReply::refused(known, error)));
        }
        if let Some(token) = member.awaiting_sync {
            cx.io.reply(token, Reply::Sync(SyncReply::refused(error)));
        }
    }

    /// Forgets a member id that was handed out and never used.
    pub(super) fn remove_pending_join(&mut self, cx: &mut Cx, id: &str) -> bool {
        let Some(id) = self.pending_joins.take(id) else { return false };
        cx.io.timers.cancel(&TimerKey::Session { group: self.id.clone(), member: id });
        true
    }

    /// Whether a member may speak for itself: UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID where another process
    /// holds its instance id now.
    pub(super) fn validate_member(&self, member: &str, instance: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(holder) if &**holder != member => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    /// Whether a member with these protocols can be in the group.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(String, Bytes)]) -> bool {
        if self.state == GroupState::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let everyone = self.members.len();
        let supported = |name: &str| self.supporters.get(name).copied().unwrap_or(0) == everyone;
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| supported(name))
    }

    /// The protocol that most members prefer of those that all support; of equals the first by name.
    pub(super) fn select_protocol(&self) -> String {
        let everyone = self.members.len();
        let candidate = |name: &str| self.supporters.get(name).copied() == Some(everyone);
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|(name, _)| candidate(name));
            let (name, _) = vote.expect("members join only with a protocol that all others support");
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().copied().max().expect("only groups with members select a protocol");
        let winner = votes.iter().find(|(_, count)| **count == most).expect("the maximum is one of them");
        (*winner.0).to_owned()
    }

    /// The topics that the members subscribe to; `None` if they are no consumers or do not say so legibly.
    pub(super) fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            add_subscribed_topics(&member.metadata(self.protocol.as_deref()?), &mut topics).ok()?;
        }
        Some(topics)
    }

    /// The generation's record, with the assignments that the leader sent or, without, those in use.
    pub(super) fn encode(&self, assignments: Option<&BTreeMap<String, Bytes>>) -> Bytes {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| {
            let assignment = match assignments {
                Some(sent) => sent.get(&*member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            member.value(protocol, assignment)
        });
        encode_group_value(&GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().map(str::to_owned),
            state_timestamp_ms: self.state_since_ms.unwrap_or(-1),
            members: members.collect(),
        })
    }

    /// A successful answer to a member's JoinGroup. Only the leader gets to see the members.
    pub(super) fn join_reply(&self, member: &str) -> JoinReply {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let seen = |member: &Member| JoinMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.as_deref().map(str::to_owned),
            metadata: member.metadata(protocol),
        };
        let leads = self.is_leader(member);
        JoinReply {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader_name(),
            skip_assignment: false,
            member_id: member.to_owned(),
            members: if leads { self.members.values().map(seen).collect() } else { Vec::new() },
        }
    }

    /// Starts a member's session anew.
    pub(super) fn restart_session(&self, cx: &mut Cx, member: &str) {
        let Some((id, member)) = self.members.get_key_value(member) else { return };
        let due_ms = cx.now.monotonic_ms + member.session_ms();
        cx.io.timers.set(TimerKey::Session { group: self.id.clone(), member: id.clone() }, due_ms);
    }

    /// The coordinator resigns: answers the group's parked requests with `error`.
    pub(super) fn abandon(self, io: &mut Outbox, error: ErrorCode) {
        for member in self.members.into_values() {
            if let Some(token) = member.awaiting_join {
                io.reply(token, Reply::Join(JoinReply::refused(&member.id, error)));
            }
            if let Some(token) = member.awaiting_sync {
                io.reply(token, Reply::Sync(SyncReply::refused(error)));
            }
        }
    }

    /// Asserts that the timers which run are those that the state asks for.
    pub(super) fn check_timers(&self, join_armed: bool, sync_armed: bool) {
        assert_eq!(join_armed, self.state == GroupState::PreparingRebalance, "the join phase ends");
        assert_eq!(sync_armed, !self.pending_syncs.is_empty(), "late members are waited for so long only");
        assert!(self.initial_delay.is_none() || self.state == GroupState::PreparingRebalance);
    }

    /// Asserts the group's invariants.
    pub(super) fn check(&self) {
        use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};
        self.offsets.check();
        let awaiting_join = self.members.values().filter(|member| member.awaiting_join.is_some()).count();
        assert_eq!(self.awaiting_join, awaiting_join);
        assert_eq!(self.leader.is_none(), self.members.is_empty(), "a group with members has a leader");
        assert!(self.leader.as_ref().is_none_or(|leader| self.members.contains_key(leader)));
        let statics =
            self.members.values().filter_map(|member| Some((member.instance_id.as_ref()?, &member.id)));
        assert_eq!(self.static_members.iter().collect::<BTreeMap<_, _>>(), statics.collect());
        assert!(self.pending_joins.iter().all(|id| !self.members.contains_key(id)));
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)));
        for (name, count) in &self.supporters {
            let supports = |member: &&Member| member.protocols.iter().any(|(supported, _)| supported == name);
            assert_eq!(self.members.values().filter(supports).count(), *count);
        }
        let awaiting_sync = self.members.values().any(|member| member.awaiting_sync.is_some());
        assert!(!awaiting_sync || self.state == CompletingRebalance, "syncs wait for an assignment only");
        assert!(self.assignment_append.is_none() || self.state == CompletingRebalance);
        match self.state {
            Empty | Dead => assert!(self.members.is_empty()),
            Stable | CompletingRebalance => {
                assert!(!self.members.is_empty());
                assert!(self.protocol.is_some() && self.protocol_type.is_some());
            }
            PreparingRebalance => assert!(self.pending_syncs.is_empty()),
        }
        if self.state == CompletingRebalance {
            assert_eq!(awaiting_join, 0, "everyone in the generation had its answer");
        }
    }
}
