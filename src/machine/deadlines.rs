//! Things that must be over by a time, nearly all of which are over long before: one list and one look at the clock now
//! and then, instead of a timer for each.

/// Entries kept before those that are over are swept out.
const SWEEP_MIN: usize = 64;

/// What waits, each until its deadline. Adding costs the same whatever there is; what is over is swept out when the list
/// has doubled, so that it holds at most twice what is not, and some.
#[derive(Debug)]
pub struct Deadlines<T> {
    waiting: Vec<(u64, T)>,
    /// No deadline is before this one.
    earliest_ms: u64,
    sweep_at: usize,
}

impl<T> Default for Deadlines<T> {
    fn default() -> Deadlines<T> {
        Deadlines { waiting: Vec::new(), earliest_ms: u64::MAX, sweep_at: SWEEP_MIN }
    }
}

impl<T> Deadlines<T> {
    /// Adds what must be over at `deadline_ms`.
    pub fn add(&mut self, deadline_ms: u64, what: T, is_over: impl Fn(&T) -> bool) {
        if self.waiting.len() >= self.sweep_at {
            self.waiting.retain(|(_, other)| !is_over(other));
            self.sweep_at = (2 * self.waiting.len()).max(SWEEP_MIN);
        }
        self.waiting.push((deadline_ms, what));
        self.earliest_ms = self.earliest_ms.min(deadline_ms);
    }

    /// Takes what is not over although its deadline has come.
    pub fn due(&mut self, now_ms: u64, is_over: impl Fn(&T) -> bool) -> Vec<T> {
        if now_ms < self.earliest_ms {
            return Vec::new();
        }
        self.waiting.retain(|(_, what)| !is_over(what));
        let due = self.waiting.extract_if(.., |(deadline_ms, _)| *deadline_ms <= now_ms);
        let due = due.map(|(_, what)| what).collect();
        self.earliest_ms = self.waiting.iter().map(|(deadline_ms, _)| *deadline_ms).min().unwrap_or(u64::MAX);
        self.sweep_at = (2 * self.waiting.len()).max(SWEEP_MIN);
        due
    }

    /// When [`due`](Self::due) is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.earliest_ms)
    }

    /// Asserts what must always hold.
    pub fn check(&self) {
        assert!(self.waiting.iter().all(|(deadline_ms, _)| *deadline_ms >= self.earliest_ms));
        assert!(self.waiting.len() <= self.sweep_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::rc::Rc;

    type Wait = Rc<Cell<bool>>;

    fn is_over(wait: &Wait) -> bool {
        wait.get()
    }

    #[test]
    fn only_what_is_not_over_is_due_and_only_once() {
        let mut deadlines = Deadlines::default();
        let waits: Vec<Wait> = (0..4).map(|_| Wait::default()).collect();
        for (wait, deadline) in waits.iter().zip([30, 10, 20, 10]) {
            deadlines.add(deadline, Rc::clone(wait), is_over);
        }
        assert_eq!(deadlines.next_deadline(), Some(10));
        assert!(deadlines.due(9, is_over).is_empty());
        waits[1].set(true);
        let due = deadlines.due(20, is_over);
        assert!(due.len() == 2 && due.iter().all(|wait| !Rc::ptr_eq(wait, &waits[0])));
        assert_eq!(deadlines.next_deadline(), Some(30));
        assert!(deadlines.due(29, is_over).is_empty());
        assert_eq!(deadlines.due(30, is_over).len(), 1);
        assert_eq!(deadlines.next_deadline(), None);
    }

    #[test]
    fn what_is_over_does_not_gather() {
        let mut deadlines = Deadlines::default();
        let slow = Wait::default();
        deadlines.add(1_000_000, Rc::clone(&slow), is_over);
        for n in 0..10_000 {
            let quick = Wait::default();
            deadlines.add(500_000 + n, Rc::clone(&quick), is_over);
            quick.set(true);
            deadlines.check();
            assert!(deadlines.waiting.len() <= SWEEP_MIN + 1);
        }
        assert!(deadlines.due(900_000, is_over).is_empty());
        assert_eq!(deadlines.due(1_000_000, is_over).len(), 1);
    }

    proptest! {
        #[test]
        fn each_wait_is_due_when_its_time_has_come(
            steps in proptest::collection::vec((0u64..50, any::<bool>()), 1..300),
        ) {
            let mut deadlines = Deadlines::default();
            let mut open: Vec<(u64, Wait)> = Vec::new();
            for (now, (patience, ends)) in (0u64..).zip(steps) {
                let wait = Wait::default();
                deadlines.add(now + patience, Rc::clone(&wait), is_over);
                open.push((now + patience, wait));
                if ends {
                    open.remove((patience as usize * 7) % open.len()).1.set(true);
                }
                let due = deadlines.due(now, is_over);
                let (late, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|(deadline, _)| *deadline <= now);
                prop_assert_eq!(due.len(), late.len());
                prop_assert!(late.iter().all(|(_, late)| due.iter().any(|due| Rc::ptr_eq(due, late))));
                open = rest;
                deadlines.check();
            }
        }
    }
}
