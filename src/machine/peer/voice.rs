//! What the log knows of a peer, and so what it is told: one warning when the peer goes, one line when it is back.

use super::admit::Refusal;
use super::line::{Failure, Line};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// It is connected.
    There,
    Away,
    /// It is there, and one of the two does not want the other.
    Unwanted(Refusal),
}

/// Chooses the lines about one peer.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    told: Told,
    away_since_ms: u64,
    attempts: u32,
}

impl Voice {
    /// Of a peer that is wanted since now, and of which the log knows nothing.
    pub(super) fn new(now_ms: u64) -> Voice {
        Voice { told: Told::Nothing, away_since_ms: now_ms, attempts: 0 }
    }

    /// Whether the log takes the peer for connected.
    pub(super) fn says_there(&self) -> bool {
        self.told == Told::There
    }

    /// Another attempt begins.
    pub(super) fn attempt(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }

    /// The connection made at this time has stood for long enough to be told of.
    pub(super) fn settled(&mut self, since_ms: u64) -> Line {
        let first = self.told == Told::Nothing;
        self.told = Told::There;
        if first {
            return Line::Connected;
        }
        Line::Back { away_ms: since_ms.saturating_sub(self.away_since_ms), attempts: self.attempts }
    }

    /// A connection that stood is over.
    pub(super) fn ended(&mut self, now_ms: u64, failure: Failure) -> Line {
        if self.told != Told::There {
            return Line::Ended(failure);
        }
        *self = Voice { told: Told::Away, away_since_ms: now_ms, attempts: 0 };
        Line::Gone(failure)
    }

    /// A round failed, and opened the breaker or not.
    pub(super) fn failed(&mut self, failure: Failure, opened: bool) -> Option<Line> {
        if let Failure::Denied(refusal) | Failure::Rejected(refusal) = failure
            && refusal != Refusal::NotReady
            && refusal != Refusal::Stopping
        {
            let known = std::mem::replace(&mut self.told, Told::Unwanted(refusal)) == Told::Unwanted(refusal);
            return (!known).then_some(Line::Unwanted(failure));
        }
        if opened && self.told == Told::Nothing {
            self.told = Told::Away;
            return Some(Line::NotReached(failure));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_when_it_goes_and_one_line_when_it_is_back() {
        let mut voice = Voice::new(0);
        assert_eq!(voice.failed(Failure::Refused, false), None);
        assert_eq!(voice.settled(500), Line::Connected);
        assert_eq!(voice.ended(1_000, Failure::Reset), Line::Gone(Failure::Reset));
        for opened in [false, false, true, false] {
            voice.attempt();
            assert_eq!(voice.failed(Failure::TimedOut, opened), None);
        }
        assert_eq!(voice.ended(3_000, Failure::Closed), Line::Ended(Failure::Closed));
        assert_eq!(voice.settled(9_000), Line::Back { away_ms: 8_000, attempts: 4 });
        assert!(voice.says_there());
    }

    #[test]
    fn who_was_never_there_is_warned_of_once() {
        let mut voice = Voice::new(0);
        assert_eq!(voice.failed(Failure::Refused, false), None);
        assert_eq!(voice.failed(Failure::Refused, true), Some(Line::NotReached(Failure::Refused)));
        assert_eq!(voice.failed(Failure::Refused, true), None);
    }

    #[test]
    fn a_refusal_is_told_once_for_each_reason() {
        let mut voice = Voice::new(0);
        let wrong = Failure::Denied(Refusal::WrongCluster);
        let duplicate = Failure::Rejected(Refusal::DuplicateNodeId);
        assert_eq!(voice.failed(Failure::Denied(Refusal::NotReady), false), None);
        assert_eq!(voice.failed(wrong, false), Some(Line::Unwanted(wrong)));
        assert_eq!(voice.failed(wrong, false), None);
        assert_eq!(voice.failed(Failure::Refused, true), None);
        assert_eq!(voice.failed(wrong, false), None);
        assert_eq!(voice.failed(duplicate, false), Some(Line::Unwanted(duplicate)));
        assert_eq!(voice.settled(70), Line::Back { away_ms: 70, attempts: 0 });
    }
}
