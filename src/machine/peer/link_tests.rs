//! One link: how often it tries, what it says, what it proves.

use super::super::backoff::LONGEST_MS;
use super::super::breaker::{FAILURES, PROBE_MS, URGENT_PROBE_MS};
use super::*;
use proptest::prelude::*;
use uuid::Uuid;

pub(super) fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 9093))
}

pub(super) fn process(number: u128) -> Identity {
    Identity {
        node_id: 2,
        cluster_id: Some(Uuid::from_u128(1)),
        directory: Uuid::from_u128(2),
        incarnation: Uuid::from_u128(number),
        broker_epoch: Some(3),
    }
}

pub(super) fn purpose(urgent: bool) -> Purpose {
    Purpose { expected: Some(2), urgent, registered: true }
}

/// A link with its clock, which answers attempts as it is told.
struct Lab {
    link: Link,
    now_ms: u64,
    connections: u64,
    attempts: Vec<u64>,
    log: Vec<Line>,
    hints: Vec<Hint>,
    pings: usize,
    lookups: usize,
}

impl Lab {
    fn new(urgent: bool, seed: u64) -> Lab {
        let mut link = Link::new(purpose(urgent), false, SplitMix::new(seed));
        link.set_addresses(0, &[address(1)]);
        let mut lab = Lab {
            link,
            now_ms: 1_000_000,
            connections: 0,
            attempts: Vec::new(),
            log: Vec::new(),
            hints: Vec::new(),
            pings: 0,
            lookups: 0,
        };
        lab.link.want(lab.now_ms);
        lab
    }

    fn note(&mut self, out: Vec<Action>) {
        self.link.check();
        for action in out {
            match action {
                Action::Connect { .. } => self.attempts.push(self.now_ms),
                Action::Log(line) => self.log.push(line),
                Action::Hint(hint) => self.hints.push(hint),
                Action::Ping { .. } => self.pings += 1,
                Action::LookUp => self.lookups += 1,
                Action::Up { .. } | Action::Close { .. } => {}
            }
        }
    }

    fn act(&mut self, input: impl FnOnce(&mut Link, u64, u64, &mut Vec<Action>)) {
        let mut out = Vec::new();
        input(&mut self.link, self.now_ms, self.connections, &mut out);
        self.note(out);
    }

    /// Goes on to the next deadline or attempt, but no further than `until_ms`; says whether an attempt began.
    fn next(&mut self, until_ms: u64) -> bool {
        let due = self.link.due_ms();
        let at = due.into_iter().chain(self.link.next_deadline()).min().unwrap_or(u64::MAX).max(self.now_ms);
        if at > until_ms {
            self.now_ms = until_ms;
            return false;
        }
        self.now_ms = at;
        if due.is_some_and(|due| due <= at) {
            self.connections += 1;
            self.act(Link::attempt);
            return true;
        }
        self.act(|link, now, _, out| link.on_time(now, out));
        false
    }

    fn fail(&mut self, failure: Failure) {
        self.act(|link, now, connection, out| link.failed(now, connection, failure, out));
    }

    fn accept(&mut self, identity: Identity) {
        self.act(|link, now, connection, _| link.connected(now, connection));
        self.act(|link, now, connection, out| link.accepted(now, connection, identity, out));
    }

    /// Lets every attempt until a time fail; `None` leaves it without an answer.
    fn fail_until(&mut self, until_ms: u64, failure: Option<Failure>) {
        while self.now_ms < until_ms {
            if self.next(until_ms)
                && let Some(failure) = failure
            {
                self.fail(failure);
            }
        }
    }

    /// Lets the next attempt succeed.
    fn bring_up(&mut self, identity: Identity) {
        while !self.next(u64::MAX) {}
        self.accept(identity);
    }

    /// Lets time pass on a connection on which nothing breaks.
    fn stand_for(&mut self, ms: u64) {
        let until_ms = self.now_ms + ms;
        while self.now_ms < until_ms {
            self.act(|link, now, connection, _| link.received(now, connection));
            self.next(until_ms);
        }
    }

    fn lines(&self, level: Level) -> Vec<Line> {
        self.log.iter().filter(|line| line.level() == level).copied().collect()
    }
}

/// A link that stands since a while.
fn standing(urgent: bool, seed: u64) -> Lab {
    let mut lab = Lab::new(urgent, seed);
    lab.bring_up(process(1));
    lab.stand_for(60_000);
    assert_eq!(
        lab.log.iter().filter(|line| line.level() != Level::Debug).collect::<Vec<_>>(),
        [&Line::Connected]
    );
    lab.attempts.clear();
    lab.log.clear();
    lab.pings = 0;
    lab
}

proptest! {
    /// The peer's process ends, its host refuses for 10 s, then it is back: at most 7 attempts with the last one, one
    /// warning, one line, and it is connected within 6 s.
    #[test]
    fn a_restart_of_ten_seconds_takes_seven_attempts(seed: u64, refused: bool) {
        let mut lab = standing(true, seed);
        let went = lab.now_ms;
        lab.fail(Failure::Reset);
        lab.fail_until(went + 10_000, refused.then_some(Failure::Refused));
        lab.bring_up(process(9));
        prop_assert!(lab.attempts.len() <= 7, "{:?}", lab.attempts);
        prop_assert!(lab.now_ms <= went + 16_000, "{} ms", lab.now_ms - went);
        prop_assert_eq!(lab.attempts[0], went, "the first attempt is the one that finds out");
        lab.stand_for(STABLE_MS);
        prop_assert_eq!(lab.lines(Level::Warn), [Line::Gone(Failure::Reset)]);
        let [Line::Back { attempts, .. }] = lab.lines(Level::Info)[..] else { panic!("{:?}", lab.log) };
        prop_assert_eq!(attempts as usize, lab.attempts.len());
    }

    /// The same for a peer on which not much depends: its own contact brings it back at once.
    #[test]
    fn contact_brings_a_peer_back_at_once(seed: u64) {
        let mut lab = standing(false, seed);
        let went = lab.now_ms;
        lab.fail(Failure::Closed);
        lab.fail_until(went + 10_000, Some(Failure::Refused));
        prop_assert!(lab.link.is_given_up());
        lab.act(|link, now, _, out| link.inbound(now, &process(9), out));
        prop_assert!(!lab.link.is_given_up());
        lab.bring_up(process(9));
        prop_assert_eq!(lab.now_ms, went + 10_000);
        prop_assert!(lab.attempts.len() <= 7, "{:?}", lab.attempts);
    }

    /// Whatever goes wrong, attempts are never further apart than probes, and become no more frequent than backoff
    /// and breaker allow.
    #[test]
    fn attempts_keep_their_distance(seed: u64, urgent: bool, refused: bool) {
        let mut lab = Lab::new(urgent, seed);
        let start = lab.now_ms;
        lab.fail_until(start + 600_000, refused.then_some(Failure::Refused));
        let longest = if urgent { URGENT_PROBE_MS } else { PROBE_MS };
        let gaps: Vec<u64> = lab.attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        prop_assert!(gaps.iter().all(|gap| *gap >= 80 && *gap <= longest), "{gaps:?}");
        prop_assert!(gaps[FAILURES as usize - 1..].iter().all(|gap| *gap >= longest * 9 / 10), "{gaps:?}");
        prop_assert!(gaps.iter().all(|gap| *gap <= LONGEST_MS));
        prop_assert_eq!(lab.lines(Level::Warn).len(), 1, "a peer that never comes is warned of once");
        prop_assert_eq!(lab.lookups, lab.attempts.len() - usize::from(lab.link.connection().is_some()));
    }
}

#[test]
fn a_connection_that_does_not_stand_is_no_success() {
    let mut lab = Lab::new(true, 7);
    let start = lab.now_ms;
    while lab.now_ms < start + 60_000 {
        if lab.next(start + 60_000) {
            lab.accept(process(1));
            lab.now_ms += STABLE_MS - 1;
            lab.fail(Failure::Closed);
        }
    }
    assert!(lab.attempts.len() <= 5 + 60 / 4, "{} attempts in a minute", lab.attempts.len());
    assert_eq!(lab.lines(Level::Warn), [Line::NotReached(Failure::Closed)]);
    assert_eq!(lab.lines(Level::Info), []);
    lab.bring_up(process(1));
    lab.stand_for(STABLE_MS);
    // Now it is: the wait after the next failures is short again.
    let went = lab.now_ms;
    lab.fail(Failure::Reset);
    lab.attempts.clear();
    lab.fail_until(went + 500, Some(Failure::Refused));
    assert_eq!(lab.attempts.len(), 3, "{:?}", lab.attempts);
}

#[test]
fn only_a_refusal_or_another_process_proves_that_one_is_gone() {
    let gone =
        |incarnation: u128, proof| Hint::Gone { incarnation: Some(Uuid::from_u128(incarnation)), proof };
    for failure in [Failure::Reset, Failure::Closed, Failure::Silent] {
        let mut lab = standing(true, 1);
        lab.fail(failure);
        assert_eq!(lab.hints, [Hint::Broken]);
        for failure in [Failure::TimedOut, Failure::Unreachable, Failure::Denied(Refusal::NotReady)] {
            lab.next(u64::MAX);
            lab.fail(failure);
        }
        assert_eq!(lab.hints, [Hint::Broken], "none of these is a proof");
        lab.next(u64::MAX);
        lab.fail(Failure::Refused);
        assert_eq!(lab.hints, [Hint::Broken, gone(1, Proof::Refused)]);
    }
    let mut lab = standing(true, 2);
    lab.fail(Failure::Reset);
    lab.bring_up(process(1));
    assert_eq!(lab.hints, [Hint::Broken], "the same process");
    lab.stand_for(STABLE_MS);
    lab.fail(Failure::Reset);
    lab.bring_up(process(5));
    let proof = Proof::Answered { incarnation: Uuid::from_u128(5) };
    assert_eq!(lab.hints[1..], [Hint::Broken, gone(1, proof)]);
    // The answer may be a refusal.
    lab.stand_for(STABLE_MS);
    lab.fail(Failure::Reset);
    lab.next(u64::MAX);
    lab.hints.clear();
    let refused = |link: &mut Link, now, connection, out: &mut Vec<Action>| {
        link.denied(now, connection, process(6), Refusal::NotReady, out);
    };
    lab.act(refused);
    let proof = Proof::Answered { incarnation: Uuid::from_u128(6) };
    assert_eq!(lab.hints, [gone(5, proof)]);
    lab.next(u64::MAX);
    lab.act(refused);
    assert_eq!(lab.hints.len(), 1, "it is told once");
    // A broker of another folder is a stranger with the same id, and proves nothing.
    lab.next(u64::MAX);
    let twin = Identity { directory: Uuid::from_u128(99), ..process(7) };
    lab.act(|link, now, connection, out| link.denied(now, connection, twin, Refusal::DuplicateNodeId, out));
    assert_eq!(lab.hints.len(), 1);
}

#[test]
fn a_refusal_elsewhere_than_at_the_registered_address_proves_nothing() {
    let mut lab = standing(true, 3);
    lab.act(|link, now, _, _| link.set_purpose(now, Purpose { registered: false, ..purpose(true) }));
    lab.fail(Failure::Reset);
    lab.next(u64::MAX);
    lab.fail(Failure::Refused);
    assert_eq!(lab.hints, [Hint::Broken]);
    // With several addresses all of them must refuse, in one round.
    let mut lab = standing(true, 3);
    lab.act(|link, now, _, _| link.set_addresses(now, &[address(1), address(2)]));
    lab.fail(Failure::Reset);
    for failure in [Failure::Refused, Failure::TimedOut, Failure::Refused] {
        lab.next(u64::MAX);
        lab.fail(failure);
    }
    assert_eq!(lab.hints, [Hint::Broken]);
    lab.next(u64::MAX);
    lab.fail(Failure::Refused);
    assert!(matches!(lab.hints[..], [Hint::Broken, Hint::Gone { proof: Proof::Refused, .. }]));
}

#[test]
fn another_process_that_connects_ends_the_old_connection_and_proves_nothing() {
    let mut lab = standing(true, 4);
    lab.act(|link, now, _, out| link.inbound(now, &process(1), out));
    assert!(lab.link.is_up(), "the same process");
    let older = Identity { broker_epoch: Some(2), ..process(8) };
    lab.act(|link, now, _, out| link.inbound(now, &older, out));
    assert!(lab.link.is_up(), "an older registration");
    lab.act(|link, now, _, out| link.inbound(now, &process(9), out));
    assert!(!lab.link.is_up());
    assert_eq!(lab.hints, [Hint::Broken]);
    assert_eq!(lab.lines(Level::Warn), [Line::Gone(Failure::Replaced)]);
    let now = lab.now_ms;
    lab.bring_up(process(9));
    assert_eq!(lab.now_ms, now, "it is tried at once");
    assert!(matches!(lab.hints[..], [Hint::Broken, Hint::Gone { proof: Proof::Answered { .. }, .. }]));
}

#[test]
fn a_silent_connection_is_asked_and_then_ended() {
    let mut lab = standing(true, 5);
    let heard = lab.now_ms;
    lab.act(|link, now, connection, _| link.received(now, connection));
    while lab.link.is_up() {
        lab.next(u64::MAX);
    }
    assert_eq!((lab.pings, lab.now_ms), (1, heard + keepalive::GONE_MS));
    assert_eq!(lab.lines(Level::Warn), [Line::Gone(Failure::Silent)]);
    assert_eq!(lab.hints, [Hint::Broken]);
}

#[test]
fn what_is_late_is_ignored_and_what_is_unwanted_is_closed() {
    let mut lab = Lab::new(true, 6);
    lab.next(u64::MAX);
    lab.fail(Failure::TimedOut);
    lab.accept(process(1));
    assert!(!lab.link.is_up(), "the attempt was over");
    lab.next(u64::MAX);
    let mut out = Vec::new();
    lab.link.unwant(&mut out);
    assert_eq!(out, [Action::Close { connection: 2 }]);
    lab.accept(process(1));
    assert!(!lab.link.is_wanted() && lab.link.next_deadline().is_none() && lab.link.due_ms().is_none());
    // Wanted again at once: attempts keep their distance.
    lab.act(|link, now, _, _| link.want(now));
    assert_eq!(lab.link.due_ms(), Some(lab.now_ms + FIRST_MS));
}

#[test]
fn news_of_the_peer_shorten_the_wait() {
    let waiting = |urgent| {
        let mut lab = Lab::new(urgent, 8);
        let until = lab.now_ms + 60_000;
        lab.fail_until(until, Some(Failure::Refused));
        assert!(lab.link.is_given_up() && lab.link.due_ms() > Some(lab.now_ms));
        lab
    };
    let mut lab = waiting(false);
    lab.act(|link, now, _, _| link.set_addresses(now, &[address(1), address(3)]));
    assert_eq!(lab.link.due_ms(), Some(lab.now_ms), "a new address");
    let mut lab = waiting(false);
    let due = lab.link.due_ms();
    lab.act(|link, now, _, _| link.set_addresses(now, &[address(1)]));
    assert_eq!(lab.link.due_ms(), due, "no news");
    lab.act(|link, now, _, _| link.set_purpose(now, purpose(true)));
    assert!(lab.link.due_ms() <= Some(lab.now_ms + URGENT_PROBE_MS), "it became urgent");
    lab.act(|link, now, _, _| link.contact(now));
    assert_eq!(lab.link.due_ms(), Some(lab.now_ms));
    // Without an address there is nothing to try.
    lab.act(|link, now, _, _| link.set_addresses(now, &[]));
    assert_eq!(lab.link.due_ms(), None);
}

#[test]
fn a_broker_that_is_not_wanted_is_told_of_once_and_why() {
    let mut lab = Lab::new(true, 9);
    for _ in 0..10 {
        lab.next(u64::MAX);
        lab.act(|link, now, connection, out| {
            link.denied(now, connection, process(1), Refusal::WrongCluster, out);
        });
    }
    assert_eq!(lab.lines(Level::Warn), [Line::Unwanted(Failure::Denied(Refusal::WrongCluster))]);
    lab.next(u64::MAX);
    lab.act(|link, now, connection, _| link.connected(now, connection));
    lab.act(|link, now, connection, out| link.rejected(now, connection, Refusal::DuplicateNodeId, out));
    assert_eq!(lab.lines(Level::Warn)[1..], [Line::Unwanted(Failure::Rejected(Refusal::DuplicateNodeId))]);
}

#[test]
fn a_quiet_link_speaks_at_debug_only() {
    let mut lab = standing(true, 10);
    lab.link.set_quiet(true);
    lab.fail(Failure::Reset);
    lab.fail_until(lab.now_ms + 20_000, Some(Failure::Refused));
    lab.bring_up(process(2));
    lab.stand_for(STABLE_MS);
    assert!(lab.log.iter().all(|line| line.level() == Level::Debug), "{:?}", lab.log);
    assert_eq!(lab.hints, []);
}
