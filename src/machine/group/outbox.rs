//! What leaves a coordinator: appends and replies, and which replies wait for which appends.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use crate::machine::error::ErrorCode;

use super::member::Member;
use super::records::StateRecord;
use super::reply::Reply;
use super::timers::Timers;

/// Names an append, in the order of the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppendId(pub u64);

/// What the shell is to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Append the records to the coordinator's partition, as one batch or none, and report the outcome by
    /// [`Coordinator::appended`](super::Coordinator::appended). Appends go to the log in the order of their ids.
    Append {
        /// Names the append in the report.
        id: AppendId,
        /// The records; never empty.
        records: Vec<StateRecord>,
    },
    /// Answer a request.
    Reply {
        /// The request's token.
        token: u64,
        /// The answer.
        reply: Reply,
    },
}

/// A change of state that an append carries to the log.
pub(super) enum Change {
    /// An offset; the value is in the group's [`Offsets`](super::offsets::Offsets).
    Offset { group: Rc<str>, topic: String, partition: i32 },
    /// A generation, or the group's tombstone.
    Group { group: Rc<str>, value: Option<Bytes> },
}

/// What follows, in the group, from an append's outcome.
pub(super) enum Then {
    /// Nothing but the changes.
    Nothing,
    /// The leader's assignment is stored: hand it out.
    Assign { group: Rc<str>, generation: i32, assignments: BTreeMap<String, Bytes> },
    /// A static member's new id is stored: answer its join. Else `old` takes its place again.
    Replaced(Box<Replacement>),
    /// The group's tombstone is stored: forget it. Else it is Empty again.
    Removed { group: Rc<str> },
}

/// A static member that came back under a new member id while its group was Stable (KIP-345).
pub(super) struct Replacement {
    pub(super) group: Rc<str>,
    pub(super) generation: i32,
    pub(super) member: Rc<str>,
    pub(super) token: u64,
    pub(super) old: Member,
    /// Who led before the member came back, which is what clients that do not know KIP-814 are told.
    pub(super) leader_before: String,
    pub(super) supports_skip_assignment: bool,
}

/// An append whose outcome is not known yet.
pub(super) struct InFlight {
    pub(super) changes: Vec<Change>,
    pub(super) then: Then,
    /// The reply that waits for it, in `waiters`.
    waiter: Option<u64>,
}

/// A reply that waits for one or more appends.
struct Waiter {
    token: u64,
    reply: Reply,
    outstanding: usize,
    error: Option<ErrorCode>,
}

/// Actions for the shell, appends in flight, and timers.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) timers: Timers,
    actions: VecDeque<Action>,
    in_flight: BTreeMap<AppendId, InFlight>,
    waiters: BTreeMap<u64, Waiter>,
    next_append: u64,
    next_waiter: u64,
}

impl Outbox {
    pub(super) fn reply(&mut self, token: u64, reply: Reply) {
        self.actions.push_back(Action::Reply { token, reply });
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The id that the next append will have.
    pub(super) fn next_append_id(&self) -> AppendId {
        AppendId(self.next_append)
    }

    pub(super) fn append(&mut self, records: Vec<StateRecord>, changes: Vec<Change>, then: Then) -> AppendId {
        assert!(!records.is_empty(), "an append has records");
        assert_eq!(records.len(), changes.len(), "each record is one change");
        let id = self.next_append_id();
        self.next_append += 1;
        self.in_flight.insert(id, InFlight { changes, then, waiter: None });
        self.actions.push_back(Action::Append { id, records });
        id
    }

    /// Sends a reply once all of `appends` are durable, or its failed form once one is not; at once if there are
    /// none.
    pub(super) fn reply_after(&mut self, appends: &[AppendId], token: u64, reply: Reply) {
        if appends.is_empty() {
            return self.reply(token, reply);
        }
        let waiter = self.next_waiter;
        self.next_waiter += 1;
        for id in appends {
            let append = self.in_flight.get_mut(id).expect("the append was made just now");
            assert!(append.waiter.is_none(), "one reply waits for an append");
            append.waiter = Some(waiter);
        }
        self.waiters.insert(waiter, Waiter { token, reply, outstanding: appends.len(), error: None });
    }

    /// Takes an append whose outcome is known; `None` for an id that is not in flight.
    pub(super) fn take(&mut self, id: AppendId) -> Option<InFlight> {
        self.in_flight.remove(&id)
    }

    /// Releases the reply that waited for an append, unless it waits for others too.
    pub(super) fn settle(&mut self, append: &InFlight, error: Option<ErrorCode>) {
        let Some(key) = append.waiter else { return };
        let waiter = self.waiters.get_mut(&key).expect("a waiter stays until its last append is known");
        waiter.outstanding -= 1;
        waiter.error = waiter.error.or(error);
        if waiter.outstanding == 0 {
            let waiter = self.waiters.remove(&key).expect("seen above");
            let reply = match waiter.error {
                Some(error) => waiter.reply.fail(error),
                None => waiter.reply,
            };
            self.reply(waiter.token, reply);
        }
    }

    /// The oldest and the newest append in flight.
    pub(super) fn span_in_flight(&self) -> Option<(AppendId, AppendId)> {
        let (first, _) = self.in_flight.first_key_value()?;
        let (last, _) = self.in_flight.last_key_value()?;
        Some((*first, *last))
    }

    /// Drops appends and timers, and answers every waiting reply with `error`. Actions not taken yet stay:
    /// their replies were decided by durable state, and an append is harmless because the shell that lost the
    /// partition cannot make it.
    pub(super) fn abandon(&mut self, error: ErrorCode) {
        self.timers.clear();
        self.actions.retain(|action| matches!(action, Action::Reply { .. }));
        let abandoned = std::mem::take(&mut self.in_flight);
        for append in abandoned.values() {
            self.settle(append, Some(error));
        }
        assert!(self.waiters.is_empty(), "every waiter waits for an append");
    }

    /// Asserts that every waiter waits for appends in flight.
    pub(super) fn check(&self) {
        self.timers.check();
        let mut outstanding: BTreeMap<u64, usize> = BTreeMap::new();
        for waiter in self.in_flight.values().filter_map(|append| append.waiter) {
            *outstanding.entry(waiter).or_default() += 1;
        }
        assert!(self.waiters.iter().map(|(key, waiter)| (*key, waiter.outstanding)).eq(outstanding));
    }
}
