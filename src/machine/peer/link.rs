//! The life of one connection to a peer, as the broker that dials sees it.
//!
//! ```text
//!            want                 attempt               connected              accepted
//!   idle ----------> waiting ----------> connecting ----------> handshaking ----------> up
//!    ^                ^  ^                  | failed, late          | denied, late       | broken, silent
//!    | unwant         |  +------------------+-----------------------+--------------------+
//!    +-- from all     +-- contact, other addresses: sooner
//! ```
//!
//! Inputs are methods with the time in milliseconds; outputs are appended to the caller's list of [`Action`]s.
//! [`Link::next_deadline`] says when [`Link::on_time`] is to be called; [`Link::due_ms`] when the next attempt is, which
//! the owner starts with [`Link::attempt`], so that it can bound the attempts of all links together.
//!
//! A *round* tries the peer's addresses one after the other, from the one that worked last. Between rounds the link
//! waits: 100 ms doubling ([`Backoff`]), at most as long as the [`Breaker`]'s probes are apart. Waits count from the
//! start of the round, so that an attempt into the void costs no more time than one that is refused at once. A round
//! follows a connection that stood for a second at once: it is what finds out whether the process is gone.
//!
//! An attempt or a connection has a number; what is reported of another number than the present one is late and is
//! ignored.

use super::Identity;
use super::action::{Action, Hint, Proof};
use super::admit::Refusal;
use super::backoff::{Backoff, FIRST_MS};
use super::breaker::{Breaker, probe_after_ms, probe_ms};
use super::keepalive::{self, Keepalive};
use super::line::{Failure, Level, Line};
use super::round::{ROUND_MS, Round};
use super::voice::Voice;
use core::net::SocketAddr;
use ringlog_storage::random::SplitMix;

/// A connection is made within this time, or is not.
pub const CONNECT_MS: u64 = 1_500;
/// A handshake is answered within this time, or is not.
pub const HANDSHAKE_MS: u64 = 1_500;
/// A connection that stood for so long is a success: backoff starts over, and the log hears of it.
pub const STABLE_MS: u64 = 1_000;

const _: () = assert!(CONNECT_MS + HANDSHAKE_MS < ROUND_MS);
// A round that ends late still lets the next one begin in its time.
const _: () = assert!(ROUND_MS + FIRST_MS * 2 < super::breaker::URGENT_PROBE_MS * 9 / 10);

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// Which node is to answer; none where only an address is known.
    pub expected: Option<i32>,
    /// Much depends on the peer: both are voters, or it leads what this broker follows.
    pub urgent: bool,
    /// The addresses are those that the peer registered: a refusal there proves that its process is gone.
    pub registered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Since when, and until when at the latest.
    Waiting {
        since_ms: u64,
        due_ms: u64,
    },
    Connecting {
        connection: u64,
        deadline_ms: u64,
    },
    Handshaking {
        connection: u64,
        deadline_ms: u64,
    },
    Up {
        connection: u64,
        since_ms: u64,
        stable: bool,
    },
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct Link {
    purpose: Purpose,
    /// It says nothing but at debug, and gives no hints: another stream speaks for the peer.
    quiet: bool,
    state: State,
    round: Round,
    voice: Voice,
    backoff: Backoff,
    breaker: Breaker,
    keepalive: Keepalive,
    random: SplitMix,
    met: Option<Identity>,
}

impl Link {
    /// A link that is not wanted yet. A `quiet` one logs at debug only and gives no hints.
    #[must_use]
    pub fn new(purpose: Purpose, quiet: bool, random: SplitMix) -> Link {
        Link {
            purpose,
            quiet,
            state: State::Idle,
            round: Round::default(),
            voice: Voice::new(0),
            backoff: Backoff::default(),
            breaker: Breaker::default(),
            keepalive: Keepalive::new(0),
            random,
            met: None,
        }
    }

    /// Whether another stream speaks for the peer.
    pub fn set_quiet(&mut self, quiet: bool) {
        self.quiet = quiet;
    }

    /// Whether the link is wanted.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.state != State::Idle
    }

    /// Whether much depends on the peer.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.purpose.urgent
    }

    /// Whether the connection stands.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// The number of the present attempt or connection.
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        match self.state {
            State::Idle | State::Waiting { .. } => None,
            State::Connecting { connection, .. }
            | State::Handshaking { connection, .. }
            | State::Up { connection, .. } => Some(connection),
        }
    }

    /// Whether the peer is given up for the moment: whoever would wait for it should not.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.breaker.is_open() && !self.is_up()
    }

    /// Who answered last.
    #[must_use]
    pub fn met(&self) -> Option<&Identity> {
        self.met.as_ref()
    }

    /// When the next attempt is due; none while there is none to make.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        match self.state {
            State::Waiting { due_ms, .. } if !self.round.is_empty() => Some(due_ms),
            _ => None,
        }
    }

    /// When [`Link::on_time`] must be called; attempts are not counted, see [`Link::due_ms`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        match self.state {
            State::Idle | State::Waiting { .. } => None,
            State::Connecting { deadline_ms, .. } | State::Handshaking { deadline_ms, .. } => {
                Some(deadline_ms)
            }
            State::Up { since_ms, stable, .. } => {
                let settles_ms = if stable { u64::MAX } else { since_ms + STABLE_MS };
                Some(self.keepalive.next_deadline().min(settles_ms))
            }
        }
    }

    /// The connection is wanted from now on.
    pub fn want(&mut self, now_ms: u64) {
        if self.state == State::Idle {
            self.wait_until(now_ms, now_ms.max(self.round.not_before_ms()));
            self.voice = Voice::new(now_ms);
        }
    }

    /// The connection is not wanted any more.
    pub fn unwant(&mut self, out: &mut Vec<Action>) {
        if let Some(connection) = self.connection() {
            out.push(Action::Close { connection });
        }
        self.state = State::Idle;
        self.round.end();
    }

    /// What the link is for changed: an urgent one waits no longer than urgent ones do.
    ///
    /// # Panics
    /// If another node is expected than before.
    pub fn set_purpose(&mut self, now_ms: u64, purpose: Purpose) {
        assert_eq!(self.purpose.expected, purpose.expected, "a link is to one node");
        self.purpose = purpose;
        let latest_ms = (self.round.began_ms() + probe_ms(purpose.urgent)).max(now_ms);
        if matches!(self.state, State::Waiting { due_ms, .. } if due_ms > latest_ms) {
            self.wait_until(now_ms, latest_ms);
        }
    }

    /// The peer's addresses, most likely first; at most [`super::round::ADDRESSES_MAX`] are used. New ones are tried
    /// soon; a connection that stands stays.
    pub fn set_addresses(&mut self, now_ms: u64, addresses: &[SocketAddr]) {
        if self.round.set_addresses(addresses) {
            self.sooner(now_ms);
        }
    }

    /// The peer was heard of: it connected to us, registered, or was unfenced. Closes the breaker and tries at once.
    pub fn contact(&mut self, now_ms: u64) {
        self.breaker.close();
        self.sooner(now_ms);
    }

    /// The peer connected to us, as this process. If the connection that stands leads to another one, that one is
    /// over, whatever TCP says. That is no proof that the other process is gone: what a stranger says of itself is
    /// believed only at the address where the peer is known to be.
    pub fn inbound(&mut self, now_ms: u64, identity: &Identity, out: &mut Vec<Action>) {
        self.contact(now_ms);
        let State::Up { connection, .. } = self.state else { return };
        let met = self.met.as_ref().expect("who is up was met");
        let older = identity.broker_epoch.is_some() && identity.broker_epoch < met.broker_epoch;
        if met.incarnation != identity.incarnation && met.node_id == identity.node_id && !older {
            out.push(Action::Close { connection });
            self.ended(now_ms, Failure::Replaced, out);
        }
    }

    /// Starts the attempt that is due, under a number that was never used before.
    ///
    /// # Panics
    /// If none is due.
    pub fn attempt(&mut self, now_ms: u64, connection: u64, out: &mut Vec<Action>) {
        assert!(self.due_ms().is_some_and(|due| due <= now_ms), "an attempt is made when it is due");
        let address = self.round.next(now_ms);
        self.voice.attempt();
        let deadline_ms = self.round.deadline(now_ms, CONNECT_MS);
        self.state = State::Connecting { connection, deadline_ms };
        out.push(Action::Connect { connection, address });
        out.push(Action::Log(Line::Trying(address)));
    }

    /// The connection was made; the handshake begins.
    pub fn connected(&mut self, now_ms: u64, connection: u64) {
        if matches!(self.state, State::Connecting { connection: present, .. } if present == connection) {
            let deadline_ms = self.round.deadline(now_ms, HANDSHAKE_MS);
            self.state = State::Handshaking { connection, deadline_ms };
        }
    }

    /// The handshake was accepted, by whom was looked for ([`super::admit::judge_answer`]).
    ///
    /// # Panics
    /// If another node answered than the one that was expected.
    pub fn accepted(&mut self, now_ms: u64, connection: u64, identity: Identity, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Handshaking { connection: present, .. } if present == connection) {
            return;
        }
        assert!(self.expects(identity.node_id), "an answer by another node is rejected before");
        self.replaced_by(&identity, out);
        self.met = Some(identity);
        self.keepalive = Keepalive::new(now_ms);
        self.round.succeeded();
        self.state = State::Up { connection, since_ms: now_ms, stable: false };
        out.push(Action::Up { connection, identity });
    }

    /// The handshake was accepted by a broker that this one does not want.
    pub fn rejected(&mut self, now_ms: u64, connection: u64, refusal: Refusal, out: &mut Vec<Action>) {
        if self.connection() == Some(connection) {
            out.push(Action::Close { connection });
            self.failed(now_ms, connection, Failure::Rejected(refusal), out);
        }
    }

    /// The handshake was refused by this broker, or a connection that stood was ended with a refusal. The shell has
    /// closed it.
    pub fn denied(
        &mut self,
        now_ms: u64,
        connection: u64,
        identity: Identity,
        refusal: Refusal,
        out: &mut Vec<Action>,
    ) {
        if self.connection() == Some(connection) && self.replaced_by(&identity, out) {
            self.met = Some(identity);
        }
        self.failed(now_ms, connection, Failure::Denied(refusal), out);
    }

    /// The attempt failed or the connection broke; the shell has closed it.
    pub fn failed(&mut self, now_ms: u64, connection: u64, failure: Failure, out: &mut Vec<Action>) {
        if self.connection() != Some(connection) {
            return;
        }
        if self.is_up() {
            self.ended(now_ms, failure, out);
        } else {
            self.attempt_failed(now_ms, failure, out);
        }
    }

    /// Bytes came on the connection.
    pub fn received(&mut self, now_ms: u64, connection: u64) {
        if self.connection() == Some(connection) && self.is_up() {
            self.keepalive.heard(now_ms);
        }
    }

    /// Does what time asks for.
    pub fn on_time(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        match self.state {
            State::Idle | State::Waiting { .. } => {}
            State::Connecting { connection, deadline_ms }
            | State::Handshaking { connection, deadline_ms } => {
                if now_ms >= deadline_ms {
                    out.push(Action::Close { connection });
                    self.attempt_failed(now_ms, Failure::TimedOut, out);
                }
            }
            State::Up { connection, since_ms, stable } => {
                if !stable && now_ms >= since_ms + STABLE_MS {
                    self.settle(connection, since_ms, out);
                }
                match self.keepalive.on_time(now_ms) {
                    None => {}
                    Some(keepalive::Due::Ping) => out.push(Action::Ping { connection }),
                    Some(keepalive::Due::Gone) => {
                        out.push(Action::Close { connection });
                        self.ended(now_ms, Failure::Silent, out);
                    }
                }
            }
        }
    }

    fn wait_until(&mut self, now_ms: u64, due_ms: u64) {
        self.state = State::Waiting { since_ms: now_ms, due_ms };
    }

    fn sooner(&mut self, now_ms: u64) {
        let soonest_ms = now_ms.max(self.round.not_before_ms());
        if matches!(self.state, State::Waiting { due_ms, .. } if due_ms > soonest_ms) {
            self.wait_until(now_ms, soonest_ms);
        }
    }

    fn expects(&self, node_id: i32) -> bool {
        self.purpose.expected.is_none_or(|expected| expected == node_id)
    }

    /// Whether the answer is by another process on the folder of the one that was met last. A folder has one process
    /// at a time, so the other one is gone. A broker with a folder of its own proves nothing.
    fn replaced_by(&self, identity: &Identity, out: &mut Vec<Action>) -> bool {
        let Some(before) = self.met else { return false };
        let same = before.node_id == identity.node_id && before.directory == identity.directory;
        if !same || before.incarnation == identity.incarnation {
            return false;
        }
        let proof = Proof::Answered { incarnation: identity.incarnation };
        self.hint(Hint::Gone { incarnation: Some(before.incarnation), proof }, out);
        true
    }

    /// The connection stood long enough to be a success.
    fn settle(&mut self, connection: u64, since_ms: u64, out: &mut Vec<Action>) {
        self.state = State::Up { connection, since_ms, stable: true };
        self.backoff.reset();
        self.breaker.close();
        let line = self.voice.settled(since_ms);
        self.log(line, out);
    }

    /// The connection that stood is over, and closed. One that was a success is followed by an attempt at once.
    fn ended(&mut self, now_ms: u64, failure: Failure, out: &mut Vec<Action>) {
        let State::Up { stable, .. } = self.state else { unreachable!("a connection that stood") };
        let line = self.voice.ended(now_ms, failure);
        self.log(line, out);
        if stable {
            self.wait_until(now_ms, now_ms);
        } else {
            self.round_failed(now_ms, failure, out);
        }
        self.hint(Hint::Broken, out);
    }

    /// The attempt is over, and closed.
    fn attempt_failed(&mut self, now_ms: u64, failure: Failure, out: &mut Vec<Action>) {
        let address = self.round.address().expect("an attempt has an address");
        out.push(Action::Log(Line::Failed(address, failure)));
        if self.round.failed(now_ms, failure) {
            return self.wait_until(now_ms, now_ms);
        }
        if self.round.end() && self.purpose.registered {
            let incarnation = self.met.map(|met| met.incarnation);
            self.hint(Hint::Gone { incarnation, proof: Proof::Refused }, out);
        }
        out.push(Action::LookUp);
        self.round_failed(now_ms, failure, out);
    }

    /// Counts a failure, waits, and tells the log what it does not know yet.
    fn round_failed(&mut self, now_ms: u64, failure: Failure, out: &mut Vec<Action>) {
        let opened = self.breaker.failed();
        let backoff_ms = self.backoff.next(self.random.draw());
        let probe_ms = probe_after_ms(self.purpose.urgent, self.random.draw());
        let wait_ms = if self.breaker.is_open() { probe_ms } else { backoff_ms.min(probe_ms) };
        let due_ms = (self.round.began_ms() + wait_ms).max(now_ms + backoff_ms.min(FIRST_MS));
        self.wait_until(now_ms, due_ms);
        if let Some(line) = self.voice.failed(failure, opened) {
            self.log(line, out);
        }
    }

    fn log(&self, line: Line, out: &mut Vec<Action>) {
        if !self.quiet || line.level() == Level::Debug {
            out.push(Action::Log(line));
        }
    }

    fn hint(&self, hint: Hint, out: &mut Vec<Action>) {
        if !self.quiet {
            out.push(Action::Hint(hint));
        }
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        self.backoff.check();
        self.round.check();
        match self.state {
            State::Idle => {}
            State::Waiting { since_ms, due_ms } => {
                assert!(!self.voice.says_there(), "the log knows who is away");
                assert!(due_ms <= since_ms + probe_ms(self.purpose.urgent), "{due_ms} since {since_ms}");
            }
            State::Connecting { .. } | State::Handshaking { .. } => {
                assert!(!self.voice.says_there(), "the log knows who is away");
                assert!(self.round.address().is_some());
            }
            State::Up { stable, .. } => {
                assert_eq!(stable, self.voice.says_there(), "the log knows who is there");
                assert!(!stable || !self.breaker.is_open(), "a success closes the breaker");
                let met = self.met.expect("who is up was met");
                assert!(self.expects(met.node_id));
            }
        }
    }
}

#[cfg(test)]
#[path = "link_model_tests.rs"]
mod model_tests;
#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
