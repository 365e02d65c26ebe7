//! JoinGroup, and how a group gets from one generation to the next.

use std::rc::Rc;

use crate::machine::error::ErrorCode;

use super::coordinator::Cx;
use super::member::Member;
use super::outbox::{AppendId, Replacement, Then};
use super::reply::{JoinReply, Reply, SyncReply};
use super::request::JoinRequest;
use super::settings::{MEMBER_STRING_BYTES_MAX, PENDING_MEMBERS_MAX};
use super::state::{Group, GroupState, InitialDelay};
use super::timers::TimerKey;

use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};

impl JoinRequest {
    /// What is wrong with the request whatever the group.
    pub(super) fn validate(&self, min_session_ms: i32, max_session_ms: i32) -> Result<(), ErrorCode> {
        if !(min_session_ms..=max_session_ms).contains(&self.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        // Flexible versions allow longer strings than the records in which these end up.
        let strings = [&self.client_id, &self.client_host, &self.protocol_type].into_iter();
        let strings = strings.chain(&self.instance_id).chain(self.protocols.iter().map(|(name, _)| name));
        if strings.map(String::len).any(|length| length > MEMBER_STRING_BYTES_MAX) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        Ok(())
    }
}

impl Group {
    /// Handles a JoinGroup request.
    pub(super) fn join(&mut self, cx: &mut Cx, token: u64, join: &JoinRequest) {
        let refuse = |member: &str, error| Reply::Join(JoinReply::refused(member, error));
        if self.state == Dead {
            return cx.io.reply(token, refuse(&join.member_id, ErrorCode::COORDINATOR_NOT_AVAILABLE));
        }
        if !self.has_room_for(&join.member_id, cx.settings.max_size) {
            self.remove_pending_join(cx, &join.member_id);
            self.remove(cx, &join.member_id, ErrorCode::GROUP_MAX_SIZE_REACHED);
            self.complete_join_if_all_joined_later(cx);
            return cx.io.reply(token, refuse("", ErrorCode::GROUP_MAX_SIZE_REACHED));
        }
        if !self.supports(&join.protocol_type, &join.protocols) {
            return cx.io.reply(token, refuse(&join.member_id, ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        if join.member_id.is_empty() {
            self.join_new(cx, token, join);
        } else if self.pending_joins.contains(&*join.member_id) {
            if join.instance_id.is_some() {
                // Member ids of static members are never handed out this way.
                return cx.io.reply(token, refuse(&join.member_id, ErrorCode::UNKNOWN_MEMBER_ID));
            }
            self.add_member(cx, token, Rc::from(&*join.member_id), join);
        } else if let Err(error) = self.validate_member(&join.member_id, join.instance_id.as_deref()) {
            cx.io.reply(token, refuse(&join.member_id, error));
        } else {
            self.rejoin(cx, token, join);
        }
    }

    /// Whether the group may grow by this member. While members rejoin, those count that have, so that a group
    /// above a lowered maximum loses the members that come last.
    fn has_room_for(&self, member_id: &str, max_size: usize) -> bool {
        match self.state {
            Empty | Dead => true,
            PreparingRebalance => {
                let waits = self.members.get(member_id).is_some_and(|member| member.awaiting_join.is_some());
                waits || self.awaiting_join < max_size
            }
            CompletingRebalance | Stable => {
                self.members.contains_key(member_id) || self.members.len() < max_size
            }
        }
    }

    /// A member without an id: a new process.
    fn join_new(&mut self, cx: &mut Cx, token: u64, join: &JoinRequest) {
        let prefix = join.instance_id.as_ref().unwrap_or(&join.client_id);
        let member_id: Rc<str> = Rc::from(format!("{prefix}-{}", join.uuid));
        assert!(
            !self.members.contains_key(&member_id) && !self.pending_joins.contains(&member_id),
            "member ids are made from fresh UUIDs"
        );
        let holder = join.instance_id.as_deref().and_then(|instance| self.static_members.get(instance));
        if let Some(old_id) = holder.cloned() {
            self.replace_static(cx, token, join, &old_id, member_id);
        } else if join.instance_id.is_some() || !join.require_known_member_id {
            self.add_member(cx, token, member_id, join);
        } else if self.pending_joins.len() >= PENDING_MEMBERS_MAX {
            cx.io.reply(token, Reply::Join(JoinReply::refused("", ErrorCode::GROUP_MAX_SIZE_REACHED)));
        } else {
            // KIP-394: a client that gives up on its first JoinGroup must not leave a member behind.
            let due_ms = cx.now.monotonic_ms + u64::try_from(join.session_timeout_ms).unwrap_or(0);
            cx.io.timers.set(TimerKey::Session { group: self.id.clone(), member: member_id.clone() }, due_ms);
            cx.io.reply(token, Reply::Join(JoinReply::refused(&member_id, ErrorCode::MEMBER_ID_REQUIRED)));
            self.pending_joins.insert(member_id);
        }
    }

    fn add_member(&mut self, cx: &mut Cx, token: u64, member_id: Rc<str>, join: &JoinRequest) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.state == PreparingRebalance && self.previous == Empty {
            self.new_member_added = true;
        }
        let mut member = Member::new(member_id.clone(), join);
        member.awaiting_join = Some(token);
        self.insert(member);
        // A new member cannot send heartbeats yet; what limits its stay is how long its JoinGroup may wait.
        let due_ms = cx.now.monotonic_ms + cx.settings.new_member_join_timeout_ms;
        cx.io.timers.set(TimerKey::Session { group: self.id.clone(), member: member_id }, due_ms);
        self.prepare_or_complete(cx);
    }

    /// A member that has been in the group before.
    fn rejoin(&mut self, cx: &mut Cx, token: u64, join: &JoinRequest) {
        let id = &*join.member_id;
        let protocols = join.distinct_protocols();
        let unchanged = self.members.get(id).is_some_and(|member| member.protocols == protocols);
        match self.state {
            // It may not have received the answer to its JoinGroup: tell it again.
            CompletingRebalance if unchanged => cx.io.reply(token, Reply::Join(self.join_reply(id))),
            // The leader rejoins to have the assignment made anew, for instance because a topic grew. Others
            // have nothing to say that is not known.
            Stable if unchanged && !self.is_leader(id) => {
                cx.io.reply(token, Reply::Join(self.join_reply(id)))
            }
            PreparingRebalance | CompletingRebalance | Stable => {
                self.update(id, protocols, join.effective_rebalance_timeout_ms(), join.session_timeout_ms);
                self.park_join(cx, id, token);
                self.prepare_or_complete(cx);
            }
            Empty | Dead => unreachable!("a group in these states has no members"),
        }
    }

    /// Parks a JoinGroup request. One that the same member had parked before came over a connection that it has
    /// given up; it is told to try again, because every request is answered.
    fn park_join(&mut self, cx: &mut Cx, id: &str, token: u64) {
        let member = self.members.get_mut(id).expect("the caller has looked it up");
        match member.awaiting_join.replace(token) {
            None => self.awaiting_join += 1,
            Some(before) => {
                cx.io.reply(before, Reply::Join(JoinReply::refused(id, ErrorCode::REBALANCE_IN_PROGRESS)));
            }
        }
    }

    /// Takes a parked JoinGroup request to answer it.
    pub(super) fn take_join(&mut self, id: &str) -> Option<u64> {
        let token = self.members.get_mut(id)?.awaiting_join.take()?;
        self.awaiting_join -= 1;
        Some(token)
    }

    /// A static member comes back without its member id: a restarted process takes the old one's place
    /// (KIP-345). In a Stable group whose protocol stays, nothing else changes.
    fn replace_static(&mut self, cx: &mut Cx, token: u64, join: &JoinRequest, old_id: &str, new_id: Rc<str>) {
        let leader_before = self.leader_name();
        let was_leader = self.is_leader(old_id);
        let was_pending_sync = self.pending_syncs.contains(old_id);
        let mut old = self.take(old_id).expect("static members are members");
        cx.io.timers.cancel(&TimerKey::Session { group: self.id.clone(), member: old.id.clone() });
        let fenced = ErrorCode::FENCED_INSTANCE_ID;
        if let Some(parked) = old.awaiting_join.take() {
            cx.io.reply(parked, Reply::Join(JoinReply::refused(old_id, fenced)));
        }
        if let Some(parked) = old.awaiting_sync.take() {
            cx.io.reply(parked, Reply::Sync(SyncReply::refused(fenced)));
        }
        let mut member = old.clone();
        member.id = new_id.clone();
        member.is_new = false;
        member.protocols = join.distinct_protocols();
        member.rebalance_timeout_ms = join.effective_rebalance_timeout_ms();
        member.session_timeout_ms = join.session_timeout_ms;
        self.insert(member);
        self.park_join(cx, &new_id, token);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.restart_session(cx, &new_id);
        match self.state {
            Stable if self.protocol.as_deref() == Some(&*self.select_protocol()) => {
                if was_pending_sync {
                    self.pending_syncs.insert(new_id.clone());
                }
                let replacement = Replacement {
                    group: self.id.clone(),
                    generation: self.generation,
                    member: new_id,
                    token,
                    old,
                    leader_before,
                    supports_skip_assignment: join.supports_skip_assignment,
                };
                let value = self.encode(None);
                cx.append_group(self, Some(value), Then::Replaced(Box::new(replacement)));
            }
            // In CompletingRebalance the leader may be making an assignment for the old member id.
            Stable | CompletingRebalance => {
                self.prepare_rebalance(cx);
            }
            PreparingRebalance => {
                self.complete_join_if_all_joined_later(cx);
            }
            Empty | Dead => unreachable!("a group in these states has no members"),
        }
    }

    /// The outcome of storing a static member's new id.
    pub(super) fn replaced(&mut self, cx: &mut Cx, replacement: Replacement, error: Option<ErrorCode>) {
        let id = &*replacement.member;
        let waits =
            self.members.get(id).is_some_and(|member| member.awaiting_join == Some(replacement.token));
        if self.state != Stable || self.generation != replacement.generation || !waits {
            // A rebalance has begun meanwhile, and it answers (or has answered) the request.
            return;
        }
        let token = self.take_join(id).expect("it waits");
        let Some(error) = error else {
            let mut reply = self.join_reply(id);
            reply.skip_assignment = replacement.supports_skip_assignment && self.is_leader(id);
            if !replacement.supports_skip_assignment {
                // Such a client would make an assignment for a generation that has one if it took itself for
                // the leader, so it is told of the leader before, which its old member id may be.
                reply.leader = replacement.leader_before;
                reply.members.clear();
            }
            self.restart_session(cx, id);
            return cx.io.reply(token, Reply::Join(reply));
        };
        let was_leader = self.is_leader(id);
        let was_pending_sync = self.pending_syncs.contains(id);
        self.remove(cx, id, error);
        let old_id = replacement.old.id.clone();
        self.insert(replacement.old);
        if was_leader {
            self.leader = Some(old_id.clone());
        }
        if was_pending_sync {
            self.pending_syncs.insert(old_id.clone());
        }
        self.restart_session(cx, &old_id);
        cx.io.reply(token, Reply::Join(JoinReply::refused("", error)));
    }

    /// A change calls for a new generation: start it, or see whether the one being prepared is complete.
    pub(super) fn prepare_or_complete(&mut self, cx: &mut Cx) -> Option<AppendId> {
        match self.state {
            Empty | CompletingRebalance | Stable => self.prepare_rebalance(cx),
            PreparingRebalance => self.complete_join_if_all_joined_later(cx),
            Dead => None,
        }
    }

    /// Calls all members to join the next generation.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Cx) -> Option<AppendId> {
        if self.state == CompletingRebalance {
            self.reset_assignments(cx, ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.pending_syncs.clear();
        cx.io.timers.cancel(&TimerKey::Sync { group: self.id.clone() });
        let initial = self.state == Empty;
        self.transition(PreparingRebalance, cx.now.wall_ms);
        if !initial {
            if self.has_everyone_joined() {
                return self.complete_join(cx);
            }
            let due_ms = cx.now.monotonic_ms + self.rebalance_ms();
            cx.io.timers.set(TimerKey::Join { group: self.id.clone() }, due_ms);
            return None;
        }
        // KIP-134: consumers that are started together should not rebalance once each.
        let delay_ms = cx.settings.initial_rebalance_delay_ms;
        let remaining_ms = self.rebalance_ms().saturating_sub(delay_ms);
        self.initial_delay = Some(InitialDelay { delay_ms, remaining_ms });
        self.new_member_added = false;
        cx.io.timers.set(TimerKey::Join { group: self.id.clone() }, cx.now.monotonic_ms + delay_ms);
        None
    }

    fn has_everyone_joined(&self) -> bool {
        self.awaiting_join == self.members.len() && self.pending_joins.is_empty()
    }

    /// Completes the join phase if everyone has joined.
    pub(super) fn complete_join_if_all_joined(&mut self, cx: &mut Cx) -> Option<AppendId> {
        if self.state == PreparingRebalance && self.has_everyone_joined() {
            self.complete_join(cx)
        } else {
            None
        }
    }

    /// The same, but the first rebalance of an empty group waits out its delay.
    pub(super) fn complete_join_if_all_joined_later(&mut self, cx: &mut Cx) -> Option<AppendId> {
        if self.initial_delay.is_some() { None } else { self.complete_join_if_all_joined(cx) }
    }

    /// The join phase's time is up.
    pub(super) fn join_timeout(&mut self, cx: &mut Cx) {
        assert_eq!(self.state, PreparingRebalance, "the timer runs in this state alone");
        match self.initial_delay {
            Some(InitialDelay { delay_ms, remaining_ms }) if self.new_member_added && remaining_ms > 0 => {
                self.new_member_added = false;
                let next_ms = cx.settings.initial_rebalance_delay_ms.min(remaining_ms);
                let remaining_ms = remaining_ms.saturating_sub(delay_ms);
                self.initial_delay = Some(InitialDelay { delay_ms: next_ms, remaining_ms });
                cx.io.timers.set(TimerKey::Join { group: self.id.clone() }, cx.now.monotonic_ms + next_ms);
            }
            _ => {
                self.complete_join(cx);
            }
        }
    }

    /// Ends the join phase: who has not come is out (but for static members, whose session decides), and the
    /// next generation begins. Returns the append of an empty generation.
    fn complete_join(&mut self, cx: &mut Cx) -> Option<AppendId> {
        cx.io.timers.cancel(&TimerKey::Join { group: self.id.clone() });
        self.initial_delay = None;
        let absent = self.members.values().filter(|m| m.awaiting_join.is_none() && m.instance_id.is_none());
        for id in absent.map(|member| member.id.clone()).collect::<Vec<_>>() {
            self.remove(cx, &id, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only static members are left and none has come: wait until they do or their sessions end.
            let due_ms = cx.now.monotonic_ms + self.rebalance_ms().max(1);
            cx.io.timers.set(TimerKey::Join { group: self.id.clone() }, due_ms);
            return None;
        }
        self.generation = if self.generation == i32::MAX { 1 } else { self.generation + 1 };
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(Empty, cx.now.wall_ms);
            self.subscribed = self.compute_subscribed();
            // Should this append fail, the log keeps the previous generation, whose members all left: they
            // would time out once more after a restart. Nothing needs to be undone.
            let value = self.encode(None);
            return Some(cx.append_group(self, Some(value), Then::Nothing));
        }
        self.protocol = Some(self.select_protocol());
        self.transition(CompletingRebalance, cx.now.wall_ms);
        self.subscribed = self.compute_subscribed();
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            if let Some(token) = self.take_join(&id) {
                cx.io.reply(token, Reply::Join(self.join_reply(&id)));
            }
            self.members.get_mut(&id).expect("it is one of the keys").is_new = false;
            self.restart_session(cx, &id);
            self.pending_syncs.insert(id);
        }
        let due_ms = cx.now.monotonic_ms + self.rebalance_ms();
        cx.io.timers.set(TimerKey::Sync { group: self.id.clone() }, due_ms);
        None
    }

    /// Keeps the leader if it has joined, else makes a member leader that has. False if none has.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &Member| member.awaiting_join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(joined) {
            return true;
        }
        let Some(member) = self.members.values().find(|member| joined(member)) else { return false };
        self.leader = Some(member.id.clone());
        true
    }
}
