//! SyncGroup, Heartbeat, LeaveGroup, and what happens to members that fall silent.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::coordinator::Cx;
use super::outbox::Then;
use super::reply::{LeaveReply, LeftMember, Reply, SyncReply};
use super::request::{HeartbeatRequest, LeaveRequest, LeavingMember, SyncRequest};
use super::state::{Group, GroupState};
use super::timers::TimerKey;

use GroupState::{CompletingRebalance, Dead, Empty, PreparingRebalance, Stable};

impl Group {
    /// Handles a SyncGroup request.
    pub(super) fn sync(&mut self, cx: &mut Cx, token: u64, sync: SyncRequest) {
        if let Err(error) = self.validate_sync(&sync) {
            return cx.io.reply(token, Reply::Sync(SyncReply::refused(error)));
        }
        self.pending_syncs.remove(&*sync.member_id);
        if self.pending_syncs.is_empty() {
            cx.io.timers.cancel(&TimerKey::Sync { group: self.id.clone() });
        }
        if self.state == Stable {
            let reply = self.sync_reply(&sync.member_id);
            return cx.io.reply(token, Reply::Sync(reply));
        }
        let member = self.members.get_mut(&*sync.member_id).expect("validated above");
        if let Some(before) = member.awaiting_sync.replace(token) {
            // The member has given up the connection of its first request; every request is answered.
            cx.io.reply(before, Reply::Sync(SyncReply::refused(ErrorCode::REBALANCE_IN_PROGRESS)));
        }
        if self.is_leader(&sync.member_id) && self.assignment_append.is_none() {
            let assignments: BTreeMap<String, Bytes> = sync.assignments.into_iter().collect();
            let value = self.encode(Some(&assignments));
            let then = Then::Assign { group: self.id.clone(), generation: self.generation, assignments };
            self.assignment_append = Some(cx.append_group(self, Some(value), then));
        }
    }

    fn validate_sync(&self, sync: &SyncRequest) -> Result<(), ErrorCode> {
        match self.state {
            Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            PreparingRebalance | CompletingRebalance | Stable => {}
        }
        self.validate_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs =
            |said: &Option<String>, is: &Option<String>| said.is_some() && is.is_some() && said != is;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        if self.state == PreparingRebalance { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    fn sync_reply(&self, member: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The outcome of storing a generation's assignment.
    pub(super) fn assigned(
        &mut self,
        cx: &mut Cx,
        generation: i32,
        mut assignments: BTreeMap<String, Bytes>,
        error: Option<ErrorCode>,
    ) {
        if self.state != CompletingRebalance || self.generation != generation {
            // Another rebalance has begun meanwhile; everyone was told.
            return;
        }
        self.assignment_append = None;
        if let Some(error) = error {
            self.reset_assignments(cx, error);
            self.prepare_rebalance(cx);
            return;
        }
        self.transition(Stable, cx.now.wall_ms);
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&*member.id).unwrap_or_default();
        }
        for (id, token) in self.take_syncs() {
            let reply = self.sync_reply(&id);
            cx.io.reply(token, Reply::Sync(reply));
            self.restart_session(cx, &id);
        }
    }

    /// Takes back the generation's assignments, and tells those who wait for one.
    pub(super) fn reset_assignments(&mut self, cx: &mut Cx, error: ErrorCode) {
        assert_eq!(self.state, CompletingRebalance);
        self.assignment_append = None;
        self.members.values_mut().for_each(|member| member.assignment = Bytes::new());
        for (id, token) in self.take_syncs() {
            cx.io.reply(token, Reply::Sync(SyncReply::refused(error)));
            // The session may have ended unnoticed while the request was parked.
            self.restart_session(cx, &id);
        }
    }

    fn take_syncs(&mut self) -> Vec<(Rc<str>, u64)> {
        let parked = self.members.values_mut();
        parked.filter_map(|member| Some((member.id.clone(), member.awaiting_sync.take()?))).collect()
    }

    /// The time for SyncGroup requests is up: who has not sent one is out.
    pub(super) fn sync_timeout(&mut self, cx: &mut Cx) {
        assert!(matches!(self.state, CompletingRebalance | Stable), "the timer runs in these states alone");
        let late = std::mem::take(&mut self.pending_syncs);
        assert!(!late.is_empty(), "the timer runs only while somebody is late");
        for id in late {
            self.remove(cx, &id, ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.prepare_rebalance(cx);
    }

    /// Handles a Heartbeat request; returns its answer.
    pub(super) fn heartbeat(&mut self, cx: &mut Cx, heartbeat: &HeartbeatRequest) -> Result<(), ErrorCode> {
        if self.state == Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.validate_member(&heartbeat.member_id, heartbeat.instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.restart_session(cx, &heartbeat.member_id);
        if self.state == PreparingRebalance { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// Handles a LeaveGroup request.
    pub(super) fn leave(&mut self, cx: &mut Cx, token: u64, leave: &LeaveRequest) {
        if self.state == Dead {
            let error = ErrorCode::COORDINATOR_NOT_AVAILABLE;
            return cx.io.reply(token, Reply::Leave(LeaveReply { error, members: Vec::new() }));
        }
        let mut members = Vec::with_capacity(leave.members.len());
        for member in &leave.members {
            let error = self.leave_one(cx, member).err().unwrap_or(ErrorCode::NONE);
            members.push(LeftMember {
                member_id: member.member_id.clone(),
                instance_id: member.instance_id.clone(),
                error,
            });
        }
        let mut append = None;
        if members.iter().any(|member| !member.error.is_error()) {
            append = match self.state {
                Stable | CompletingRebalance => self.prepare_rebalance(cx),
                PreparingRebalance => self.complete_join_if_all_joined_later(cx),
                Empty | Dead => None,
            };
        }
        let reply = Reply::Leave(LeaveReply { error: ErrorCode::NONE, members });
        cx.io.reply_after(append.as_slice(), token, reply);
    }

    fn leave_one(&mut self, cx: &mut Cx, member: &LeavingMember) -> Result<(), ErrorCode> {
        let id: Rc<str> = if member.member_id.is_empty() {
            // An administrator removes a static member by its instance id.
            let instance = member.instance_id.as_deref().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            self.static_members.get(instance).cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
        } else if self.remove_pending_join(cx, &member.member_id) {
            return Ok(());
        } else {
            self.validate_member(&member.member_id, member.instance_id.as_deref())?;
            Rc::from(&*member.member_id)
        };
        self.remove(cx, &id, ErrorCode::UNKNOWN_MEMBER_ID);
        Ok(())
    }

    /// A member's session has ended.
    pub(super) fn session_timeout(&mut self, cx: &mut Cx, id: &str) {
        if self.remove_pending_join(cx, id) {
            self.complete_join_if_all_joined(cx);
            return;
        }
        let member = self.members.get(id).expect("a removed member's timer is cancelled");
        if member.may_be_silent() {
            // The answer to its parked request starts its session anew.
            return;
        }
        self.remove(cx, id, ErrorCode::UNKNOWN_MEMBER_ID);
        match self.state {
            Stable | CompletingRebalance => {
                self.prepare_rebalance(cx);
            }
            PreparingRebalance => {
                self.complete_join_if_all_joined(cx);
            }
            Empty | Dead => unreachable!("a group in these states has no members"),
        }
    }
}
