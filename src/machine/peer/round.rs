//! One pass over the addresses of a peer, from the one that worked last.

use super::backoff::FIRST_MS;
use super::line::Failure;
use core::net::SocketAddr;

/// A round takes no longer, in milliseconds.
pub const ROUND_MS: u64 = 4_000;
/// Addresses of one peer that are tried; more are not looked at.
pub const ADDRESSES_MAX: usize = 8;

/// What is tried, and what was.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    addresses: Vec<SocketAddr>,
    began_ms: u64,
    /// Index of the address that comes first.
    first: usize,
    /// Addresses tried so far; 0 before the round begins.
    tried: usize,
    /// Every address so far was refused by its host.
    refused: bool,
    /// The address of the last attempt, and when it began.
    last: Option<(SocketAddr, u64)>,
}

impl Round {
    /// Takes other addresses, and says whether there are new ones among them. A round under way ends with the present
    /// attempt, and proves nothing.
    pub(super) fn set_addresses(&mut self, addresses: &[SocketAddr]) -> bool {
        let addresses = &addresses[..addresses.len().min(ADDRESSES_MAX)];
        if self.addresses == addresses {
            return false;
        }
        let news = addresses.iter().any(|address| !self.addresses.contains(address));
        self.addresses = addresses.to_vec();
        self.first = self.index_of_last();
        self.tried = 0;
        self.refused = false;
        news
    }

    fn index_of_last(&self) -> usize {
        let last = self.last.map(|(address, _)| address);
        self.addresses.iter().position(|address| Some(*address) == last).unwrap_or(0)
    }

    /// Whether there is anything to try.
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// When the present or last round began.
    pub(super) fn began_ms(&self) -> u64 {
        self.began_ms
    }

    /// The address of the last attempt.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.last.map(|(address, _)| address)
    }

    /// When the next attempt may be made at the earliest, whoever asks for it.
    pub(super) fn not_before_ms(&self) -> u64 {
        self.last.map_or(0, |(_, at_ms)| at_ms + FIRST_MS)
    }

    /// When a step that may take so long is to be given up.
    pub(super) fn deadline(&self, now_ms: u64, within_ms: u64) -> u64 {
        (now_ms + within_ms).min(self.began_ms + ROUND_MS).max(now_ms)
    }

    /// The next address, of this round or of a new one.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn next(&mut self, now_ms: u64) -> SocketAddr {
        if self.tried == 0 {
            self.began_ms = now_ms;
            self.refused = true;
        }
        let address = self.addresses[(self.first + self.tried) % self.addresses.len()];
        self.tried += 1;
        self.last = Some((address, now_ms));
        address
    }

    /// The last attempt failed; says whether the round goes on.
    pub(super) fn failed(&mut self, now_ms: u64, failure: Failure) -> bool {
        self.refused &= failure == Failure::Refused;
        let more = (1..self.addresses.len()).contains(&self.tried);
        more && now_ms + FIRST_MS < self.began_ms + ROUND_MS
    }

    /// The round is over; says whether every address refused. Those that had no turn come first in the next.
    pub(super) fn end(&mut self) -> bool {
        let refused = self.refused && self.tried == self.addresses.len();
        self.first = (self.first + self.tried) % self.addresses.len().max(1);
        self.tried = 0;
        refused
    }

    /// The last address worked: the next round begins with it.
    pub(super) fn succeeded(&mut self) {
        self.first = self.index_of_last();
        self.tried = 0;
    }

    /// Asserts every invariant.
    pub(super) fn check(&self) {
        assert!(self.addresses.len() <= ADDRESSES_MAX && self.tried <= self.addresses.len());
        assert!(self.first < self.addresses.len().max(1));
        assert!(self.tried == 0 || self.last.is_some_and(|(_, at_ms)| at_ms >= self.began_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 9093))
    }

    #[test]
    fn addresses_take_turns_and_the_one_that_worked_is_first() {
        let mut round = Round::default();
        assert!(round.set_addresses(&[address(1), address(2), address(3)]));
        assert_eq!((round.next(0), round.failed(10, Failure::Refused)), (address(1), true));
        assert_eq!((round.next(10), round.failed(20, Failure::TimedOut)), (address(2), true));
        assert_eq!((round.next(20), round.failed(30, Failure::Refused)), (address(3), false));
        assert!(!round.end(), "one of them did not refuse");
        assert_eq!((round.next(500), round.failed(510, Failure::Refused)), (address(1), true));
        assert_eq!(round.next(510), address(2));
        round.succeeded();
        assert_eq!(round.next(9_000), address(2));
        assert_eq!(round.began_ms(), 9_000);
        round.check();
    }

    #[test]
    fn a_round_ends_in_its_time_and_goes_on_where_it_ended() {
        let mut round = Round::default();
        round.set_addresses(&[address(1), address(2), address(3), address(4)]);
        round.next(0);
        assert_eq!(round.deadline(0, 1_500), 1_500);
        assert!(round.failed(1_500, Failure::TimedOut));
        round.next(1_500);
        assert!(round.failed(3_000, Failure::TimedOut));
        round.next(3_000);
        assert_eq!(round.deadline(3_000, 1_500), ROUND_MS);
        assert!(!round.failed(4_000, Failure::TimedOut));
        round.end();
        assert_eq!(round.next(5_000), address(4));
    }

    #[test]
    fn a_refusal_by_every_address_is_told_from_one_by_some() {
        let mut round = Round::default();
        round.set_addresses(&[address(1), address(2)]);
        for at in [0, 10] {
            round.next(at);
            round.failed(at, Failure::Refused);
        }
        assert!(round.end());
        // Refused by the first; then the addresses change under the attempt.
        round.next(1_000);
        assert!(round.set_addresses(&[address(1), address(3)]));
        assert!(!round.failed(1_001, Failure::Refused));
        assert!(!round.end());
        assert!(!round.set_addresses(&[address(3)]), "no news");
        // They are all gone when the refusal comes: nobody refused at an address that counts.
        round.next(2_000);
        round.set_addresses(&[]);
        assert!(!round.failed(2_001, Failure::Refused) && !round.end());
        round.check();
    }
}
