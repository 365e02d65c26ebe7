//! The machine's settings: timing profiles as data, every value settable, and checked against the others.

use super::journal::Journal;
use super::member::Peer;

/// Milliseconds between two calls of `tick`.
pub const TICK_MS: u64 = 10;
/// An election timeout is at least so many heartbeats, so that a few lost ones do not cost the term.
pub const ELECTION_HEARTBEATS_MIN: u64 = 10;

/// Intervals, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between a leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Without word from a leader for so long, and up to so long again, a voter campaigns. A leader that does not
    /// hear from a majority for so long steps down.
    pub election_ms: u64,
    /// Longest random wait of a voter that has proof that the leader's process is gone.
    pub proof_delay_ms_max: u64,
    /// A leader whose oldest write takes longer hands over.
    pub stall_ms: u64,
    /// Between two counts in the folder, by which peers know an older copy of it.
    pub count_ms: u64,
    /// How long a start waits for the answers of all peers before those of some are enough.
    pub grace_ms: u64,
    /// A snapshot stream without progress for so long has failed.
    pub stream_ms: u64,
}

/// A named set of intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Machines of one data centre.
    Lan,
    /// Laptops and shared test machines, which stall for long.
    Dev,
    /// Voters in several regions.
    Wan,
}

impl Profile {
    /// The profile's intervals.
    #[must_use]
    pub const fn timing(self) -> Timing {
        let (heartbeat_ms, election_ms, stall_ms) = match self {
            Profile::Lan => (30, 300, 2_000),
            Profile::Dev => (100, 1_500, 10_000),
            Profile::Wan => (250, 2_500, 10_000),
        };
        Timing {
            heartbeat_ms,
            election_ms,
            proof_delay_ms_max: 100,
            stall_ms,
            count_ms: 60_000,
            grace_ms: election_ms,
            stream_ms: 10 * election_ms,
        }
    }

    /// The profile of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Profile> {
        [("lan", Profile::Lan), ("dev", Profile::Dev), ("wan", Profile::Wan)]
            .into_iter()
            .find_map(|(known, profile)| (known == name).then_some(profile))
    }
}

/// Bounds of what the machine holds and sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of entries in one message; a larger entry travels alone.
    pub message_bytes: u64,
    /// Messages with entries under way to one peer.
    pub messages_in_flight: usize,
    /// Bytes of one proposal.
    pub proposal_bytes: usize,
    /// Bytes of proposals that are not committed: beyond it proposals are refused.
    pub uncommitted_bytes: u64,
    /// Bytes of committed entries handed out at a time.
    pub committed_bytes: u64,
    /// Entries kept behind a snapshot, so that a peer that is a little late needs none.
    pub trailing_entries: u64,
    /// Most entries that a leader keeps behind a snapshot for a peer that lacks them: without them a peer that takes
    /// longer for a snapshot than entries are kept would never catch up.
    pub late_entries: u64,
    /// Bytes of one chunk of a snapshot.
    pub chunk_bytes: usize,
    /// Bytes of a snapshot that is taken from a peer.
    pub snapshot_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes: 1 << 20,
            messages_in_flight: 64,
            proposal_bytes: 16 << 20,
            uncommitted_bytes: 64 << 20,
            committed_bytes: 4 << 20,
            trailing_entries: 1_000,
            late_entries: 50_000,
            chunk_bytes: 256 << 10,
            snapshot_bytes: 2 << 30,
        }
    }
}

impl Limits {
    /// Checks every bound against the others.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        let least = [
            ("messages in flight", self.messages_in_flight as u64, 1),
            ("bytes of a proposal", self.proposal_bytes as u64, 1),
            ("bytes of committed entries", self.committed_bytes, 1),
            ("bytes of a chunk", self.chunk_bytes as u64, 1),
            ("bytes of a snapshot", self.snapshot_bytes, self.chunk_bytes as u64),
            ("bytes of uncommitted proposals", self.uncommitted_bytes, self.message_bytes),
            ("bytes of uncommitted proposals", self.uncommitted_bytes, self.proposal_bytes as u64),
            ("entries kept for late peers", self.late_entries, self.trailing_entries),
        ];
        for (what, value, least) in least {
            if value < least {
                wrong.push(format!("{value} {what} are less than {least}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

/// All that a machine is told once.
#[derive(Clone)]
pub struct Settings {
    /// This node on its folder.
    pub me: Peer,
    /// A number that no other run of this node has, for instance a random one.
    pub incarnation: u64,
    /// Of the machine's random intervals.
    pub seed: u64,
    /// Intervals.
    pub timing: Timing,
    /// Bounds.
    pub limits: Limits,
    /// Where raft-rs' lines go.
    pub journal: Journal,
}

/// What is wrong with some settings, as a sentence for who wrote them.
pub type Wrong = String;

impl Timing {
    /// Checks every value against its bounds and the others.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<(), Vec<Wrong>> {
        let mut wrong = Vec::new();
        let mut rule = |holds: bool, text: String| {
            if !holds {
                wrong.push(text);
            }
        };
        let (heartbeat, election) = (self.heartbeat_ms, self.election_ms);
        rule(
            heartbeat >= TICK_MS && heartbeat.is_multiple_of(TICK_MS),
            format!("the heartbeat of {heartbeat} ms is no multiple of {TICK_MS} ms"),
        );
        rule(
            election >= ELECTION_HEARTBEATS_MIN.saturating_mul(heartbeat),
            format!(
                "the election timeout of {election} ms is less than {ELECTION_HEARTBEATS_MIN} heartbeats of {heartbeat} ms"
            ),
        );
        rule(
            election.is_multiple_of(TICK_MS) && election <= 600_000,
            format!("the election timeout of {election} ms is no multiple of {TICK_MS} ms up to 10 minutes"),
        );
        rule(
            self.proof_delay_ms_max <= election,
            format!(
                "the wait of {} ms after proof is longer than an election timeout",
                self.proof_delay_ms_max
            ),
        );
        rule(
            self.stall_ms > election,
            format!("a stall of {} ms is not longer than an election timeout", self.stall_ms),
        );
        rule(
            self.grace_ms >= 2 * heartbeat,
            format!("a grace of {} ms is less than two heartbeats", self.grace_ms),
        );
        rule(self.count_ms >= 100, format!("counting every {} ms wears the disk", self.count_ms));
        rule(
            self.stream_ms >= election,
            format!("a stream's {} ms are less than an election timeout", self.stream_ms),
        );
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    pub(super) fn ticks(ms: u64) -> usize {
        usize::try_from(ms / TICK_MS).expect("intervals are bounded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_sound() {
        for name in ["lan", "dev", "wan"] {
            let timing = Profile::named(name).unwrap().timing();
            assert_eq!(timing.check(), Ok(()), "{name}");
        }
        assert_eq!(Profile::named("moon"), None);
        let lan = Profile::Lan.timing();
        assert_eq!((lan.heartbeat_ms, lan.election_ms), (30, 300));
    }

    #[test]
    fn limits_are_checked_against_each_other() {
        let sound = Limits::default();
        assert_eq!(sound.check(), Ok(()));
        for wrong in [
            Limits { messages_in_flight: 0, ..sound },
            Limits { proposal_bytes: 0, ..sound },
            Limits { proposal_bytes: 65 << 20, ..sound },
            Limits { committed_bytes: 0, ..sound },
            Limits { chunk_bytes: 0, ..sound },
            Limits { snapshot_bytes: 1, ..sound },
            Limits { uncommitted_bytes: 1, proposal_bytes: 1, ..sound },
            Limits { late_entries: 1, ..sound },
        ] {
            assert_eq!(wrong.check().map_err(|said| said.len()), Err(1), "{wrong:?}");
        }
    }

    #[test]
    fn values_are_checked_against_each_other() {
        let lan = Profile::Lan.timing();
        for (wrong, part) in [
            (Timing { heartbeat_ms: 0, ..lan }, "multiple of 10 ms"),
            (Timing { heartbeat_ms: 35, ..lan }, "multiple of 10 ms"),
            (Timing { election_ms: 290, ..lan }, "10 heartbeats"),
            (Timing { proof_delay_ms_max: 301, ..lan }, "after proof"),
            (Timing { stall_ms: 300, ..lan }, "a stall"),
            (Timing { grace_ms: 59, ..lan }, "grace"),
            (Timing { count_ms: 0, ..lan }, "counting"),
            (Timing { stream_ms: 299, ..lan }, "stream"),
        ] {
            let said = wrong.check().unwrap_err();
            assert!(said.iter().any(|line| line.contains(part)), "{part}: {said:?}");
        }
    }
}
