//! One shard's memory for requests and responses, in classes that cannot starve one another.
//!
//! Every class has a limit of its own, so that produce waiting for followers never holds the memory that the
//! followers' fetches need. Before a shard reads a frame or builds a response it reserves the bytes; when they
//! are not free the connection waits in line and its socket is not read, so TCP pushes back on the client.
//! Inputs: [`Budget::try_reserve`], [`Budget::release`], [`Budget::shrink`], [`Budget::cancel`]. Output: a queue
//! of [`Grant`]s, owned by the caller, for those whose turn has come.
//!
//! A class serves its waiters strictly in the order in which they came: a small request never overtakes a large
//! one, so the large one is not starved. A request larger than its class's whole limit is admitted alone, when
//! nothing else of the class is held.

use std::collections::VecDeque;

/// What the memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Produce frames, from the first byte read until they are durable (and replicated) and no longer referenced.
    Produce,
    /// Responses that are built or waiting to be sent, fetched records above all.
    Responses,
    /// Frames from and to other brokers.
    Peers,
    /// All other requests of clients: groups, metadata, fetch requests.
    Requests,
}

impl Class {
    /// All classes.
    pub const ALL: [Class; 4] = [Class::Produce, Class::Responses, Class::Peers, Class::Requests];
}

/// Bytes that each class of one shard may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For [`Class::Produce`].
    pub produce: usize,
    /// For [`Class::Responses`].
    pub responses: usize,
    /// For [`Class::Peers`].
    pub peers: usize,
    /// For [`Class::Requests`].
    pub requests: usize,
}

/// The least memory a shard's budget may be made of: 16 MiB.
pub const TOTAL_MIN: usize = 16 << 20;
/// A shard's budget by default: 128 MiB.
pub const TOTAL_DEFAULT: usize = 128 << 20;
/// Largest frame of a request other than produce that fits the smallest budget without waiting to be alone.
pub const SMALL_FRAME_MAX: usize = 1 << 20;

const _: () = {
    assert!(TOTAL_MIN <= TOTAL_DEFAULT);
    let least = Limits::of_total(TOTAL_MIN);
    assert!(least.produce + least.responses + least.peers + least.requests == TOTAL_MIN);
    assert!(least.requests >= SMALL_FRAME_MAX && least.peers >= SMALL_FRAME_MAX);
    let default = Limits::of_total(TOTAL_DEFAULT);
    assert!(default.produce + default.responses + default.peers + default.requests == TOTAL_DEFAULT);
};

impl Limits {
    /// Deals a shard's memory out: half to produce, a quarter to responses, an eighth each to peers and requests.
    ///
    /// # Panics
    /// If `total` is less than [`TOTAL_MIN`].
    #[must_use]
    pub const fn of_total(total: usize) -> Self {
        assert!(total >= TOTAL_MIN, "a shard's budget is at least 16 MiB");
        let (responses, peers, requests) = (total / 4, total / 8, total / 8);
        Self { produce: total - responses - peers - requests, responses, peers, requests }
    }

    const fn of(&self, class: Class) -> usize {
        match class {
            Class::Produce => self.produce,
            Class::Responses => self.responses,
            Class::Peers => self.peers,
            Class::Requests => self.requests,
        }
    }
}

/// Bytes held of a class. Goes back through [`Budget::release`]; one that is dropped is lost for good, which
/// [`Budget::held`] shows.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation must be released"]
pub struct Reservation {
    class: Class,
    bytes: usize,
}

impl Reservation {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The class they are held of.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }
}

/// A waiter whose turn has come, with what it waited for.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the grant's reservation must reach the waiter or be released"]
pub struct Grant<W> {
    /// Who waited: as given to [`Budget::try_reserve`].
    pub waiter: W,
    /// What it asked for.
    pub reservation: Reservation,
}

#[derive(Debug)]
struct ClassState<W> {
    limit: usize,
    used: usize,
    /// Reservations out; bytes of zero are allowed, so `used` alone does not tell.
    out: usize,
    waiting: VecDeque<(W, usize)>,
}

impl<W> ClassState<W> {
    fn admits(&self, bytes: usize) -> bool {
        self.used == 0 || self.used.checked_add(bytes).is_some_and(|sum| sum <= self.limit)
    }

    fn take(&mut self, class: Class, bytes: usize) -> Reservation {
        self.used += bytes;
        self.out += 1;
        Reservation { class, bytes }
    }
}

/// The memory budget of one shard. `W` names a waiter, for instance a connection; each waits at most once in a
/// class, so no line is longer than there are connections.
#[derive(Debug)]
pub struct Budget<W> {
    classes: [ClassState<W>; Class::ALL.len()],
}

impl<W: Copy + Eq> Budget<W> {
    /// A budget of which nothing is held.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let state = |class| ClassState { limit: limits.of(class), used: 0, out: 0, waiting: VecDeque::new() };
        Self { classes: Class::ALL.map(state) }
    }

    fn class(&self, class: Class) -> &ClassState<W> {
        &self.classes[class as usize]
    }

    /// Reserves bytes, or puts the waiter at the end of the class's line; its [`Grant`] then comes from a later
    /// call. Nobody overtakes those who wait already.
    ///
    /// # Panics
    /// If the waiter waits in this class already.
    pub fn try_reserve(&mut self, class: Class, waiter: W, bytes: usize) -> Option<Reservation> {
        let state = &mut self.classes[class as usize];
        if state.waiting.is_empty() && state.admits(bytes) {
            return Some(state.take(class, bytes));
        }
        assert!(state.waiting.iter().all(|(other, _)| *other != waiter), "a waiter waits once in a class");
        state.waiting.push_back((waiter, bytes));
        None
    }

    /// Gives a reservation back and appends to `granted` those whose turn it is now.
    pub fn release(&mut self, reservation: Reservation, granted: &mut Vec<Grant<W>>) {
        let Reservation { class, bytes } = reservation;
        let state = &mut self.classes[class as usize];
        assert!(state.used >= bytes && state.out > 0, "only what was reserved is released");
        state.used -= bytes;
        state.out -= 1;
        self.grant(class, granted);
    }

    /// Gives a part back: the reservation now holds `bytes`. For a response that turned out smaller than feared.
    ///
    /// # Panics
    /// If it holds less than `bytes`.
    pub fn shrink(&mut self, reservation: &mut Reservation, bytes: usize, granted: &mut Vec<Grant<W>>) {
        assert!(bytes <= reservation.bytes, "a reservation never grows");
        self.classes[reservation.class as usize].used -= reservation.bytes - bytes;
        reservation.bytes = bytes;
        self.grant(reservation.class, granted);
    }

    /// Takes a waiter that has gone out of the class's line, if it is there, and appends to `granted` those
    /// whom it was holding up.
    pub fn cancel(&mut self, class: Class, waiter: W, granted: &mut Vec<Grant<W>>) {
        self.classes[class as usize].waiting.retain(|(other, _)| *other != waiter);
        self.grant(class, granted);
    }

    fn grant(&mut self, class: Class, granted: &mut Vec<Grant<W>>) {
        let state = &mut self.classes[class as usize];
        while let Some((waiter, bytes)) = state.waiting.front().copied() {
            if !state.admits(bytes) {
                break;
            }
            state.waiting.pop_front();
            granted.push(Grant { waiter, reservation: state.take(class, bytes) });
        }
    }

    /// Bytes held of a class.
    #[must_use]
    pub fn used(&self, class: Class) -> usize {
        self.class(class).used
    }

    /// Reservations out of a class.
    #[must_use]
    pub fn held(&self, class: Class) -> usize {
        self.class(class).out
    }

    /// Waiters of a class.
    #[must_use]
    pub fn waiting(&self, class: Class) -> usize {
        self.class(class).waiting.len()
    }

    /// Asserts every invariant: no class holds more than its limit but for a lone larger one, and whoever waits
    /// has a reason to.
    pub fn check(&self) {
        for state in &self.classes {
            assert!(state.used <= state.limit || state.out >= 1);
            if let Some((_, bytes)) = state.waiting.front() {
                assert!(!state.admits(*bytes), "the first in line waits for bytes that are held");
            }
            assert!(state.out > 0 || state.used == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { produce: 100, responses: 50, peers: 20, requests: 10 };

    fn waiters(granted: &[Grant<u32>]) -> Vec<u32> {
        granted.iter().map(|grant| grant.waiter).collect()
    }

    #[test]
    fn each_class_filled_leaves_the_others_free_and_goes_on_when_released() {
        for full in Class::ALL {
            let mut budget = Budget::new(LIMITS);
            let held = budget.try_reserve(full, 1, LIMITS.of(full)).expect("the whole class is free");
            assert_eq!(budget.try_reserve(full, 2, 1), None);
            for other in Class::ALL.into_iter().filter(|other| *other != full) {
                let free = budget.try_reserve(other, 2, LIMITS.of(other)).expect("classes share nothing");
                budget.release(free, &mut Vec::new());
            }
            budget.check();
            let mut granted = Vec::new();
            budget.release(held, &mut granted);
            assert_eq!(waiters(&granted), [2], "{full:?} goes on");
            budget.check();
        }
    }

    #[test]
    fn a_frame_larger_than_the_budget_is_admitted_alone() {
        let mut budget = Budget::new(LIMITS);
        let small = budget.try_reserve(Class::Requests, 1, 4).expect("fits");
        assert_eq!(budget.try_reserve(Class::Requests, 2, 1000), None, "not beside another");
        assert_eq!(budget.try_reserve(Class::Requests, 3, 1), None, "nor is it overtaken");
        let mut granted = Vec::new();
        budget.release(small, &mut granted);
        assert_eq!(waiters(&granted), [2]);
        budget.check();
        let huge = granted.pop().expect("the large one").reservation;
        budget.release(huge, &mut granted);
        assert_eq!(waiters(&granted), [3]);
        assert_eq!(budget.used(Class::Requests), 1);
    }

    #[test]
    fn bytes_that_overflow_are_not_taken_for_few() {
        let mut budget = Budget::new(LIMITS);
        let _one = budget.try_reserve(Class::Peers, 1, 1).expect("fits");
        assert_eq!(budget.try_reserve(Class::Peers, 2, usize::MAX), None);
    }

    #[test]
    fn a_shrunk_reservation_lets_the_next_in() {
        let mut budget = Budget::new(LIMITS);
        let mut response = budget.try_reserve(Class::Responses, 1, 50).expect("fits");
        assert_eq!(budget.try_reserve(Class::Responses, 2, 30), None);
        let mut granted = Vec::new();
        budget.shrink(&mut response, 20, &mut granted);
        assert_eq!(waiters(&granted), [2]);
        assert_eq!((response.bytes(), budget.used(Class::Responses)), (20, 50));
        budget.release(response, &mut granted);
        assert_eq!(budget.held(Class::Responses), 1);
    }

    #[test]
    fn a_waiter_that_goes_away_no_longer_holds_others_up() {
        let mut budget = Budget::new(LIMITS);
        let _held = budget.try_reserve(Class::Peers, 1, 15).expect("fits");
        assert_eq!(budget.try_reserve(Class::Peers, 2, 20), None);
        assert_eq!(budget.try_reserve(Class::Peers, 3, 5), None);
        let mut granted = Vec::new();
        budget.cancel(Class::Peers, 9, &mut granted);
        assert!(granted.is_empty(), "a stranger changes nothing");
        budget.cancel(Class::Peers, 2, &mut granted);
        assert_eq!(waiters(&granted), [3]);
        budget.check();
    }

    #[test]
    #[should_panic(expected = "waits once")]
    fn waiting_twice_is_a_bug() {
        let mut budget = Budget::new(LIMITS);
        let _held = budget.try_reserve(Class::Peers, 1, 20).expect("fits");
        assert_eq!(budget.try_reserve(Class::Peers, 2, 1), None);
        let _ = budget.try_reserve(Class::Peers, 2, 1);
    }

    proptest! {
        /// Random reservations, releases and cancellations: the limit holds, grants come in the order of the
        /// line, and when all is given back nobody waits.
        #[test]
        fn limits_hold_and_nobody_starves(steps in prop::collection::vec((0..4u8, 0..140usize), 1..200)) {
            let class = Class::Produce;
            let mut budget = Budget::new(LIMITS);
            let mut held: VecDeque<Reservation> = VecDeque::new();
            let mut line: VecDeque<u32> = VecDeque::new();
            let mut granted = Vec::new();
            for (waiter, (action, bytes)) in (0u32..).zip(steps) {
                match action {
                    0 | 1 => match budget.try_reserve(class, waiter, bytes) {
                        Some(reservation) => {
                            prop_assert!(line.is_empty(), "nobody is overtaken");
                            held.push_back(reservation);
                        }
                        None => line.push_back(waiter),
                    },
                    2 => {
                        if let Some(reservation) = held.pop_front() {
                            budget.release(reservation, &mut granted);
                        }
                    }
                    _ => {
                        if let Some(gone) = line.pop_back() {
                            budget.cancel(class, gone, &mut granted);
                        }
                    }
                }
                for grant in granted.drain(..) {
                    prop_assert_eq!(Some(grant.waiter), line.pop_front());
                    held.push_back(grant.reservation);
                }
                let sum: usize = held.iter().map(Reservation::bytes).sum();
                prop_assert_eq!(sum, budget.used(class));
                let not_empty = held.iter().filter(|reservation| reservation.bytes() > 0).count();
                prop_assert!(sum <= LIMITS.produce || not_empty == 1);
                budget.check();
            }
            while let Some(reservation) = held.pop_front() {
                budget.release(reservation, &mut granted);
                held.extend(granted.drain(..).map(|grant| {
                    assert_eq!(Some(grant.waiter), line.pop_front());
                    grant.reservation
                }));
            }
            prop_assert!(line.is_empty(), "whoever waits gets a turn");
            prop_assert_eq!((budget.used(class), budget.held(class)), (0, 0));
        }
    }
}
