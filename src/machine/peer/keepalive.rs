//! Notices a silent peer: a ping after 10 s in which nothing came, gone after 20 s.
//!
//! Both sides of a connection have one, the one that dialled and the one that accepted. It is for what TCP is slow to
//! see: a middlebox that forgot the connection, a host that lost its power. What was *sent* says nothing.

/// Nothing came for so long: ask.
pub const PING_MS: u64 = 10_000;
/// Nothing came for so long: the connection is dead.
pub const GONE_MS: u64 = 20_000;

const _: () = assert!(PING_MS < GONE_MS);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Send a ping.
    Ping,
    /// Close the connection.
    Gone,
}

/// When bytes last came.
#[derive(Clone, Debug)]
pub struct Keepalive {
    heard_ms: u64,
    asked: bool,
}

impl Keepalive {
    /// Of a connection on which bytes came just now.
    #[must_use]
    pub fn new(now_ms: u64) -> Keepalive {
        Keepalive { heard_ms: now_ms, asked: false }
    }

    /// Bytes came, whatever they were.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = self.heard_ms.max(now_ms);
        self.asked = false;
    }

    /// When [`Keepalive::on_time`] has something to say.
    #[must_use]
    pub fn next_deadline(&self) -> u64 {
        self.heard_ms + if self.asked { GONE_MS } else { PING_MS }
    }

    /// What is due now; each is said once.
    pub fn on_time(&mut self, now_ms: u64) -> Option<Due> {
        if now_ms >= self.heard_ms + GONE_MS {
            return Some(Due::Gone);
        }
        if !self.asked && now_ms >= self.heard_ms + PING_MS {
            self.asked = true;
            return Some(Due::Ping);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_once_and_then_ends_it() {
        let mut keepalive = Keepalive::new(1_000);
        assert_eq!((keepalive.on_time(10_999), keepalive.next_deadline()), (None, 11_000));
        assert_eq!(keepalive.on_time(11_000), Some(Due::Ping));
        assert_eq!((keepalive.on_time(20_999), keepalive.next_deadline()), (None, 21_000));
        assert_eq!(keepalive.on_time(21_000), Some(Due::Gone));
    }

    #[test]
    fn whatever_comes_starts_it_over() {
        let mut keepalive = Keepalive::new(0);
        assert_eq!(keepalive.on_time(10_000), Some(Due::Ping));
        keepalive.heard(15_000);
        assert_eq!((keepalive.on_time(24_999), keepalive.next_deadline()), (None, 25_000));
        assert_eq!(keepalive.on_time(25_000), Some(Due::Ping));
    }
}
