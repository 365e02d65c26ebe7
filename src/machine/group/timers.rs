//! All timers of a coordinator in one ordered queue.
//!
//! Heartbeats move a session's deadline into the future thousands of times before it ever fires, so moving a
//! deadline later does not touch the queue: the entry stays where it is and is put back when it comes up.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What a timer is for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum TimerKey {
    /// A member (or a member id handed out and not used yet) has been silent for its session timeout.
    Session { group: Rc<str>, member: Rc<str> },
    /// A group's members had their time to join.
    Join { group: Rc<str> },
    /// A generation's members had their time to fetch their assignment.
    Sync { group: Rc<str> },
    /// Expired offsets are to be looked for.
    Expiry,
}

#[derive(Clone, Copy)]
struct Armed {
    /// When the timer is due.
    due_ms: u64,
    /// Where its entry stands in the queue; never later than `due_ms`.
    queued_ms: u64,
}

/// The queue.
#[derive(Default)]
pub(super) struct Timers {
    armed: BTreeMap<TimerKey, Armed>,
    queue: BTreeSet<(u64, TimerKey)>,
}

impl Timers {
    /// Arms a timer, or moves it if it was armed.
    pub(super) fn set(&mut self, key: TimerKey, due_ms: u64) {
        if let Some(armed) = self.armed.get_mut(&key) {
            armed.due_ms = due_ms;
            if armed.queued_ms <= due_ms {
                return;
            }
            let queued_ms = std::mem::replace(&mut armed.queued_ms, due_ms);
            let mut entry = (queued_ms, key);
            let was_queued = self.queue.remove(&entry);
            assert!(was_queued, "an armed timer is in the queue");
            entry.0 = due_ms;
            self.queue.insert(entry);
        } else {
            self.armed.insert(key.clone(), Armed { due_ms, queued_ms: due_ms });
            self.queue.insert((due_ms, key));
        }
    }

    /// Disarms a timer; nothing happens if it is not armed.
    pub(super) fn cancel(&mut self, key: &TimerKey) {
        if let Some((key, armed)) = self.armed.remove_entry(key) {
            let was_queued = self.queue.remove(&(armed.queued_ms, key));
            assert!(was_queued, "an armed timer is in the queue");
        }
    }

    /// Whether a timer is armed.
    pub(super) fn is_armed(&self, key: &TimerKey) -> bool {
        self.armed.contains_key(key)
    }

    /// Takes a timer that is due, the earliest first, and disarms it.
    pub(super) fn pop_due(&mut self, now_ms: u64) -> Option<TimerKey> {
        loop {
            let (queued_ms, _) = self.queue.first()?;
            if *queued_ms > now_ms {
                return None;
            }
            let (_, key) = self.queue.pop_first()?;
            let armed = self.armed.get_mut(&key).expect("a queued timer is armed");
            if armed.due_ms <= now_ms {
                self.armed.remove(&key);
                return Some(key);
            }
            armed.queued_ms = armed.due_ms;
            self.queue.insert((armed.due_ms, key));
        }
    }

    /// When to look next. May be earlier than the next due timer, never later.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.queue.first().map(|(queued_ms, _)| *queued_ms)
    }

    /// Disarms everything.
    pub(super) fn clear(&mut self) {
        self.armed.clear();
        self.queue.clear();
    }

    /// Asserts that queue and deadlines agree.
    pub(super) fn check(&self) {
        assert_eq!(self.armed.len(), self.queue.len());
        for (queued_ms, key) in &self.queue {
            let armed = self.armed.get(key).expect("a queued timer is armed");
            assert_eq!(armed.queued_ms, *queued_ms);
            assert!(armed.queued_ms <= armed.due_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> TimerKey {
        TimerKey::Join { group: Rc::from(n.to_string()) }
    }

    proptest! {
        /// The queue fires exactly what a plain map of deadlines would.
        #[test]
        fn as_a_map_of_deadlines(steps in proptest::collection::vec((0u8..4, 0u8..4, 0u64..20), 0..100)) {
            let mut timers = Timers::default();
            let mut model = BTreeMap::new();
            let mut now = 0;
            for (what, which, ms) in steps {
                match what {
                    0 | 1 => {
                        timers.set(key(which), now + ms);
                        model.insert(key(which), now + ms);
                    }
                    2 => {
                        timers.cancel(&key(which));
                        model.remove(&key(which));
                    }
                    _ => {
                        now += ms;
                        let mut fired = BTreeSet::new();
                        while let Some(key) = timers.pop_due(now) {
                            fired.insert(key);
                        }
                        let due: BTreeSet<_> = model.extract_if(.., |_, due| *due <= now).map(|(k, _)| k).collect();
                        prop_assert_eq!(fired, due);
                    }
                }
                timers.check();
                prop_assert!(timers.next_ms() <= model.values().min().copied() || timers.next_ms().is_none());
                prop_assert_eq!(timers.next_ms().is_none(), model.is_empty());
            }
        }
    }
}
