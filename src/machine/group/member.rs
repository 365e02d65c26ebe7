//! A member of a group.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use super::records::MemberValue;
use super::request::JoinRequest;

/// A member: what it said when it joined, what it is assigned, and which of its requests are parked.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) id: Rc<str>,
    pub(super) instance_id: Option<Rc<str>>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Supported protocols, the preferred one first, each once.
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    /// The parked JoinGroup request.
    pub(super) awaiting_join: Option<u64>,
    /// The parked SyncGroup request.
    pub(super) awaiting_sync: Option<u64>,
    /// Whether the member waits in its first JoinGroup, so that it cannot know its member id yet.
    pub(super) is_new: bool,
}

impl Member {
    /// A member that joins for the first time.
    pub(super) fn new(id: Rc<str>, join: &JoinRequest) -> Member {
        Member {
            id,
            instance_id: join.instance_id.as_deref().map(Rc::from),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.effective_rebalance_timeout_ms(),
            protocols: join.distinct_protocols(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
        }
    }

    /// A member from the record of its generation.
    pub(super) fn restore(value: MemberValue, protocol: &str) -> Member {
        Member {
            id: Rc::from(value.member_id),
            instance_id: value.instance_id.map(Rc::from),
            client_id: value.client_id,
            client_host: value.client_host,
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), value.subscription)],
            assignment: value.assignment,
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// The member in the record of a generation.
    pub(super) fn value(&self, protocol: &str, assignment: Bytes) -> MemberValue {
        MemberValue {
            member_id: self.id.to_string(),
            instance_id: self.instance_id.as_deref().map(str::to_owned),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
        }
    }

    /// The member's metadata for a protocol; empty for one that it does not support.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether silence is no failure right now: a member with a parked request cannot send heartbeats. New
    /// members expire nevertheless, or clients that gave up would stay for ever.
    pub(super) fn may_be_silent(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// Session timeout for deadlines.
    pub(super) fn session_ms(&self) -> u64 {
        u64::try_from(self.session_timeout_ms).unwrap_or(0)
    }
}

impl JoinRequest {
    /// The rebalance timeout, which is the session timeout for clients from before KIP-62.
    pub(super) fn effective_rebalance_timeout_ms(&self) -> i32 {
        if self.rebalance_timeout_ms < 0 { self.session_timeout_ms } else { self.rebalance_timeout_ms }
    }

    /// The protocols without repeated names; the first of a name counts.
    pub(super) fn distinct_protocols(&self) -> Vec<(String, Bytes)> {
        let mut seen = BTreeSet::new();
        self.protocols.iter().filter(|(name, _)| seen.insert(name)).cloned().collect()
    }
}
