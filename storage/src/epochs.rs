//! Which leader epoch each offset of a log was written in (KIP-101, KIP-279), as Kafka's
//! `LeaderEpochFileCache` keeps it: followers and consumers find with it where their log parted from the
//! leader's.
//!
//! ```text
//! encoded, little-endian: version u16 | epochs u32 | { epoch i32 | start offset i64 } ...
//! ```

use std::fmt;

use zerocopy::little_endian::{I32, I64, U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of the encoding.
const VERSION: u16 = 1;

/// An epoch that appended to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader epoch.
    pub epoch: i32,
    /// Offset of its first record.
    pub start_offset: i64,
}

/// The leader epochs of a log, both numbers strictly ascending.
///
/// At most [`Epochs::MAX`] are kept; beyond that the oldest is dropped, as if the log had started after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    entries: Vec<EpochStart>,
}

impl Epochs {
    /// Epochs kept, at 16 bytes each.
    pub const MAX: usize = 65_536;

    /// No epochs: the log is empty, or all of its records were written without one.
    pub fn new() -> Epochs {
        Epochs::default()
    }

    /// Every epoch, ascending.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The last epoch that appended.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// Takes note that `epoch` appends from `start_offset` on. Called for every batch, in the log's order: it
    /// does nothing within an epoch. Entries that contradict the new one (a later epoch, or a start not below
    /// its start) belonged to a tail that is no more, and go. Returns whether anything changed.
    ///
    /// # Panics
    /// When either number is negative.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        assert!(epoch >= 0 && start_offset >= 0, "epoch {epoch} at offset {start_offset}");
        if self.latest().is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset) {
            return false;
        }
        while self.latest().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        if self.entries.len() == Epochs::MAX {
            self.entries.remove(0);
        }
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The greatest epoch not above `epoch`, and the offset at which the next one starts, as Kafka answers
    /// OffsetForLeaderEpoch. `log_end` is where the latest epoch ends so far.
    ///
    /// An epoch before the first one known is answered with itself and the first one's start. `None` (-1 and
    /// -1 on the wire) for an epoch above all, or when there are none.
    pub fn end_offset_for(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 {
            return None;
        }
        if self.latest()?.epoch == epoch {
            return Some((epoch, log_end));
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.entries.get(higher)?.start_offset;
        let floor = higher.checked_sub(1).map_or(epoch, |floor| self.entries[floor].epoch);
        Some((floor, end_offset))
    }

    /// The epoch that wrote `offset`, or would write it were it the next one. `None` below the first epoch.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let higher = self.entries.partition_point(|entry| entry.start_offset <= offset);
        higher.checked_sub(1).map(|at| self.entries[at].epoch)
    }

    /// The log now ends at `offset`: epochs that start there or later go.
    pub fn truncate_from_end(&mut self, offset: i64) {
        self.entries.truncate(self.entries.partition_point(|entry| entry.start_offset < offset));
    }

    /// The log now starts at `offset`: epochs that ended there or before go; the one it lies in starts there.
    pub fn truncate_from_start(&mut self, offset: i64) {
        let kept = self.entries.partition_point(|entry| entry.start_offset <= offset);
        if let Some(current) = kept.checked_sub(1) {
            self.entries.drain(..current);
            self.entries[0].start_offset = offset;
        }
    }

    /// Appends the encoding to `out`; the caller adds the checksum.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = u32::try_from(self.entries.len()).expect("bounded by MAX");
        out.extend_from_slice(Head { version: U16::new(VERSION), count: U32::new(count) }.as_bytes());
        for entry in &self.entries {
            let entry = Encoded { epoch: I32::new(entry.epoch), start_offset: I64::new(entry.start_offset) };
            out.extend_from_slice(entry.as_bytes());
        }
    }

    /// Epochs from their encoding, which `bytes` must be exactly.
    ///
    /// # Errors
    /// When the bytes are not an encoding of a known version, or not ascending.
    pub fn decode(bytes: &[u8]) -> Result<Epochs, EpochsError> {
        let (head, rest) = Head::ref_from_prefix(bytes).map_err(|_| EpochsError::Length)?;
        if head.version.get() != VERSION {
            return Err(EpochsError::Version(head.version.get()));
        }
        let encoded = <[Encoded]>::ref_from_bytes(rest).map_err(|_| EpochsError::Length)?;
        if u32::try_from(encoded.len()) != Ok(head.count.get()) || encoded.len() > Epochs::MAX {
            return Err(EpochsError::Length);
        }
        let entries: Vec<EpochStart> = encoded
            .iter()
            .map(|entry| EpochStart { epoch: entry.epoch.get(), start_offset: entry.start_offset.get() })
            .collect();
        let first_is_sane = entries.first().is_none_or(|first| first.epoch >= 0 && first.start_offset >= 0);
        let ascending = entries.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset);
        if first_is_sane && ascending { Ok(Epochs { entries }) } else { Err(EpochsError::Order) }
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    version: U16,
    count: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Encoded {
    epoch: I32,
    start_offset: I64,
}

/// Why bytes are not an encoded epoch history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpochsError {
    /// A version that is not known here.
    Version(u16),
    /// More or fewer bytes than announced.
    Length,
    /// Negative numbers, or not ascending.
    Order,
}

impl fmt::Display for EpochsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EpochsError::Version(version) => write!(f, "version {version} of an epoch history is unknown"),
            EpochsError::Length => write!(f, "the epoch history has another length than announced"),
            EpochsError::Order => write!(f, "the epoch history is not ascending"),
        }
    }
}

impl std::error::Error for EpochsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epochs(list: &[(i32, i64)]) -> Epochs {
        Epochs {
            entries: list
                .iter()
                .map(|(epoch, start_offset)| EpochStart { epoch: *epoch, start_offset: *start_offset })
                .collect(),
        }
    }

    #[test]
    fn kafkas_answers() {
        let e = epochs(&[(2, 10), (4, 20), (7, 35)]);
        // (requested, answer), after LeaderEpochFileCache.endOffsetFor
        let cases = [
            (-1, None),
            (0, Some((0, 10))),
            (1, Some((1, 10))),
            (2, Some((2, 20))),
            (3, Some((2, 20))),
            (4, Some((4, 35))),
            (6, Some((4, 35))),
            (7, Some((7, 50))),
            (8, None),
        ];
        for (requested, answer) in cases {
            assert_eq!(e.end_offset_for(requested, 50), answer, "{requested}");
        }
        assert_eq!(Epochs::new().end_offset_for(0, 50), None);
    }

    #[test]
    fn an_assignment_removes_what_contradicts_it() {
        let assigned = |epoch, offset| {
            let mut e = epochs(&[(2, 10), (4, 20)]);
            (e.assign(epoch, offset), e)
        };
        assert_eq!(assigned(4, 30), (false, epochs(&[(2, 10), (4, 20)])));
        assert_eq!(assigned(5, 30), (true, epochs(&[(2, 10), (4, 20), (5, 30)])));
        assert_eq!(assigned(5, 20), (true, epochs(&[(2, 10), (5, 20)])));
        assert_eq!(assigned(4, 15), (true, epochs(&[(2, 10), (4, 15)])));
        assert_eq!(assigned(3, 30), (true, epochs(&[(2, 10), (3, 30)])));
        assert_eq!(assigned(1, 5), (true, epochs(&[(1, 5)])));
    }

    #[test]
    fn a_log_that_moves_its_start_into_an_epoch_keeps_it() {
        let truncated = |offset| {
            let mut e = epochs(&[(2, 10), (4, 20)]);
            e.truncate_from_start(offset);
            e
        };
        assert_eq!(truncated(5), epochs(&[(2, 10), (4, 20)]));
        assert_eq!(truncated(15), epochs(&[(2, 15), (4, 20)]));
        assert_eq!(truncated(20), epochs(&[(4, 20)]));
        assert_eq!(truncated(90), epochs(&[(4, 90)]));
    }

    #[test]
    fn the_oldest_epoch_makes_room() {
        let mut e = Epochs::new();
        for i in 0..i32::try_from(Epochs::MAX).unwrap() + 2 {
            e.assign(i, i64::from(i));
        }
        assert_eq!((e.entries.len(), e.entries[0].epoch), (Epochs::MAX, 2));
    }

    /// The epoch of every offset, one by one.
    #[derive(Clone, Debug, Default)]
    struct Model {
        start: i64,
        epochs: Vec<i32>,
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append(i32, u8),
        End(u8),
        Start(u8),
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let append = (0i32..3, 1u8..6).prop_map(|(bump, records)| Step::Append(bump, records));
        let step = prop_oneof![
            8 => append,
            1 => (0u8..20).prop_map(Step::End),
            1 => (0u8..20).prop_map(Step::Start),
            1 => Just(Step::Restart)
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_an_epoch_per_offset(steps in steps()) {
            let mut e = Epochs::new();
            let mut model = Model::default();
            for step in steps {
                let end = model.start + model.epochs.len() as i64;
                match step {
                    Step::Append(bump, records) => {
                        // A truncated leader's epochs may come again under a higher number only.
                        let epoch = model.epochs.last().copied().or(e.latest().map(|l| l.epoch)).unwrap_or(0) + bump;
                        e.assign(epoch, end);
                        model.epochs.extend((0..records).map(|_| epoch));
                    }
                    Step::End(back) => {
                        let keep = model.epochs.len().saturating_sub(usize::from(back));
                        model.epochs.truncate(keep);
                        e.truncate_from_end(model.start + keep as i64);
                    }
                    Step::Start(forward) => {
                        let gone = usize::from(forward).min(model.epochs.len());
                        model.epochs.drain(..gone);
                        model.start += gone as i64;
                        e.truncate_from_start(model.start);
                    }
                    Step::Restart => {
                        let mut bytes = Vec::new();
                        e.encode(&mut bytes);
                        prop_assert_eq!(&Epochs::decode(&bytes).unwrap(), &e);
                    }
                }
                let end = model.start + model.epochs.len() as i64;
                for (i, epoch) in model.epochs.iter().enumerate() {
                    prop_assert_eq!(e.epoch_at(model.start + i as i64), Some(*epoch));
                }
                // Where an epoch that the log holds ends: behind its last record.
                for epoch in &model.epochs {
                    let last = model.epochs.iter().rposition(|x| x == epoch).unwrap() as i64;
                    let (found, found_end) = e.end_offset_for(*epoch, end).unwrap();
                    prop_assert_eq!((found, found_end), (*epoch, model.start + last + 1));
                }
                prop_assert!(e.entries.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset));
            }
        }

        #[test]
        fn decoding_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 0u32..6) {
            let head = Head { version: U16::new(1), count: U32::new(count) };
            if let Ok(e) = Epochs::decode(&[head.as_bytes(), &bytes].concat()) {
                prop_assert_eq!(e.entries.len(), count as usize);
            }
        }
    }

    #[test]
    fn damage_is_an_error() {
        let mut bytes = Vec::new();
        epochs(&[(2, 10), (4, 20)]).encode(&mut bytes);
        assert_eq!(Epochs::decode(&bytes[..bytes.len() - 1]), Err(EpochsError::Length));
        assert_eq!(Epochs::decode(&[]), Err(EpochsError::Length));
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Epochs::decode(&other), Err(EpochsError::Version(2)));
        bytes.clear();
        epochs(&[(4, 10), (4, 20)]).encode(&mut bytes);
        assert_eq!(Epochs::decode(&bytes), Err(EpochsError::Order));
    }
}
