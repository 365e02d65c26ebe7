//! Tests of the producer state, against a model that keeps every batch ever appended.

use super::*;
use crate::batch::Attributes;
use proptest::prelude::*;

fn batch(producer_id: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchInfo {
    BatchInfo {
        base_offset: 0,
        size: 100,
        leader_epoch: 0,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: records - 1,
        base_timestamp: 10,
        max_timestamp: 20,
        producer_id,
        producer_epoch: epoch,
        base_sequence,
        record_count: records,
    }
}

fn at(max_timestamp: i64, batch: BatchInfo) -> BatchInfo {
    BatchInfo { max_timestamp, ..batch }
}

fn out_of_order(found: i32, expected: i32) -> Verdict {
    Verdict::Refused(SequenceError::OutOfOrder { found, expected })
}

#[test]
fn sequences_follow_one_another() {
    let mut producers = Producers::new(10);
    let first = batch(7, 0, 0, 3);
    assert_eq!(producers.check(&first), Verdict::Append);
    producers.apply(&first, 100);
    assert_eq!(
        producers.check(&first),
        Verdict::Duplicate { base_offset: 100, last_offset: 102, timestamp: 20 }
    );
    assert_eq!(producers.check(&batch(7, 0, 3, 1)), Verdict::Append);
    assert_eq!(producers.check(&batch(7, 0, 4, 1)), out_of_order(4, 3));
    // The same first number with another last one is no duplicate.
    assert_eq!(producers.check(&batch(7, 0, 0, 2)), out_of_order(0, 3));
    assert_eq!(producers.check(&batch(8, 0, 44, 1)), Verdict::Append, "unknown producers start anywhere");
    assert_eq!(producers.check(&batch(-1, -1, -1, 1)), Verdict::Append);
    let (a, b) = (out_of_order(4, 3), SequenceError::InvalidEpoch { found: 0, current: 1 });
    assert!(matches!(a, Verdict::Refused(e) if e.code() == 45));
    assert_eq!(b.code(), 47);
}

#[test]
fn only_the_last_five_batches_are_duplicates() {
    let mut producers = Producers::new(10);
    for i in 0..6 {
        producers.apply(&batch(7, 0, i, 1), i64::from(i));
    }
    assert_eq!(producers.check(&batch(7, 0, 0, 1)), out_of_order(0, 6));
    for i in 1..6 {
        let at = i64::from(i);
        let expected = Verdict::Duplicate { base_offset: at, last_offset: at, timestamp: 20 };
        assert_eq!(producers.check(&batch(7, 0, i, 1)), expected);
    }
}

#[test]
fn a_new_epoch_starts_at_zero_and_ends_the_old_one() {
    let mut producers = Producers::new(10);
    producers.apply(&batch(7, 1, 50, 2), 0);
    assert_eq!(producers.check(&batch(7, 2, 52, 1)), out_of_order(52, 0));
    assert_eq!(producers.check(&batch(7, 2, 0, 1)), Verdict::Append);
    producers.apply(&batch(7, 2, 0, 1), 2);
    let fenced = SequenceError::InvalidEpoch { found: 1, current: 2 };
    assert_eq!(producers.check(&batch(7, 1, 50, 2)), Verdict::Refused(fenced), "not even as a duplicate");
    assert_eq!(producers.check(&batch(7, 2, 1, 1)), Verdict::Append);
}

#[test]
fn sequences_wrap() {
    let mut producers = Producers::new(10);
    producers.apply(&batch(7, 0, i32::MAX - 1, 2), 0);
    assert_eq!(producers.check(&batch(7, 0, 0, 1)), Verdict::Append);
    let over = batch(7, 0, i32::MAX, 3);
    producers.apply(&over, 10);
    assert!(matches!(producers.check(&over), Verdict::Duplicate { base_offset: 10, last_offset: 12, .. }));
    assert_eq!(producers.check(&batch(7, 0, 2, 1)), Verdict::Append);
}

#[test]
fn the_one_seen_longest_ago_makes_room() {
    let mut producers = Producers::new(2);
    producers.apply(&batch(1, 0, 0, 1), 0);
    producers.apply(&batch(2, 0, 0, 1), 1);
    producers.apply(&batch(1, 0, 1, 1), 2);
    producers.apply(&batch(3, 0, 0, 1), 3);
    producers.assert_invariants();
    assert_eq!(producers.len(), 2);
    assert_eq!(producers.check(&batch(2, 0, 9, 1)), Verdict::Append, "2 is forgotten");
    assert_eq!(producers.check(&batch(1, 0, 9, 1)), out_of_order(9, 2));
}

#[test]
fn producers_expire_by_the_time_of_their_records_in_whatever_order_they_wrote() {
    let mut producers = Producers::new(10);
    for (id, sequence, time) in [(1, 0, 1_000), (2, 0, 500), (3, 0, 900), (2, 1, 950)] {
        producers.apply(&at(time, batch(id, 0, sequence, 1)), time);
    }
    producers.assert_invariants();
    // A restart changes nothing.
    let mut bytes = Vec::new();
    producers.snapshot(&mut bytes);
    for mut producers in [Producers::restore(&bytes, 10).unwrap(), producers] {
        assert_eq!(producers.expire(999, 100), 0);
        assert_eq!(producers.expire(1_000, 100), 1, "3 wrote after 1 did, with an older record");
        producers.assert_invariants();
        assert_eq!(producers.active().map(|p| p.producer_id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(producers.expire(1_099, 100), 1);
        assert_eq!(producers.expire(1_100, 100), 1);
        assert!(producers.is_empty());
    }
}

#[test]
fn damaged_snapshots_are_errors() {
    let mut producers = Producers::new(10);
    producers.apply(&batch(1, 0, 0, 1), 0);
    let mut bytes = Vec::new();
    producers.snapshot(&mut bytes);
    for cut in 0..bytes.len() {
        assert_eq!(Producers::restore(&bytes[..cut], 10).unwrap_err(), SnapshotError::CutShort, "{cut}");
    }
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Producers::restore(&bytes, 10).unwrap_err()
    };
    assert_eq!(with(0, 9), SnapshotError::Version(9));
    assert_eq!(with(2, 0), SnapshotError::Content);
    let batches_at = size_of::<SnapshotHead>() + 18;
    assert_eq!((with(batches_at, 0), with(batches_at, 6)), (SnapshotError::Content, SnapshotError::Content));
}

/// Everything that happened, and the rules applied to it by search.
#[derive(Default)]
struct Model {
    /// Producer, epoch, first and last sequence, base offset, time: in the order of appends.
    appended: Vec<(i64, i16, i32, i32, i64, i64)>,
}

impl Model {
    fn check(&self, b: &BatchInfo) -> Verdict {
        let own: Vec<_> = self.appended.iter().filter(|a| a.0 == b.producer_id).collect();
        let Some(last) = own.last() else { return Verdict::Append };
        if b.producer_epoch < last.1 {
            return Verdict::Refused(SequenceError::InvalidEpoch {
                found: b.producer_epoch,
                current: last.1,
            });
        }
        if b.producer_epoch > last.1 {
            return if b.base_sequence == 0 { Verdict::Append } else { out_of_order(b.base_sequence, 0) };
        }
        let in_epoch = own.iter().rev().take_while(|a| a.1 == last.1).take(5);
        for a in in_epoch {
            if (a.2, a.3) == (b.base_sequence, b.last_sequence()) {
                let last_offset = a.4 + i64::from(b.last_offset_delta);
                return Verdict::Duplicate { base_offset: a.4, last_offset, timestamp: a.5 };
            }
        }
        let next = if last.3 == i32::MAX { 0 } else { last.3 + 1 };
        if b.base_sequence == next { Verdict::Append } else { out_of_order(b.base_sequence, next) }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Producer, epoch bump, distance from the next sequence number, records, and how late they are, ms.
    Send(i64, i16, i32, i32, i32),
    Expire(i64),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send =
        (0i64..5, prop_oneof![8 => Just(0i16), 1 => Just(1), 1 => Just(-1)], -4i32..2, 1i32..4, 0i32..99)
            .prop_map(|(p, e, d, n, late)| Step::Send(p, e, d, n, late));
    let step = prop_oneof![20 => send, 1 => (1i64..200).prop_map(Step::Expire), 1 => Just(Step::Restart)];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn the_state_agrees_with_a_model_that_forgets_nothing(steps in steps(), start in prop_oneof![Just(0), Just(i32::MAX - 6)]) {
        let mut producers = Producers::new(100);
        let mut model = Model::default();
        let (mut end, mut now) = (0, 0);
        for step in steps {
            now += 10;
            match step {
                Step::Send(id, bump, distance, records, late) => {
                    let last = model.appended.iter().rfind(|a| a.0 == id);
                    let (epoch, next) = last.map_or((5, start), |a| (a.1, a.3.wrapping_add(1) & i32::MAX));
                    let first = if bump == 1 && distance < 0 { 0 } else { next.wrapping_add(distance) & i32::MAX };
                    let time = if late % 3 == 0 { now - i64::from(late) } else { now };
                    let b = at(time, batch(id, epoch + bump, first, records));
                    let verdict = producers.check(&b);
                    prop_assert_eq!(verdict, model.check(&b));
                    if verdict == Verdict::Append {
                        producers.apply(&b, end);
                        model.appended.push((id, b.producer_epoch, first, b.last_sequence(), end, time));
                        end += i64::from(records);
                    }
                }
                Step::Expire(after) => {
                    let last = |id| model.appended.iter().rfind(|a| a.0 == id).map(|a| a.5);
                    let gone: Vec<i64> = (0..5).filter(|id| last(*id).is_some_and(|at| now - at >= after)).collect();
                    prop_assert_eq!(producers.expire(now, after), gone.len());
                    model.appended.retain(|a| !gone.contains(&a.0));
                }
                Step::Restart => {
                    let mut bytes = Vec::new();
                    producers.snapshot(&mut bytes);
                    producers = Producers::restore(&bytes, 100).unwrap();
                }
            }
            producers.assert_invariants();
        }
    }

    #[test]
    fn truncation_leaves_only_batches_below(steps in prop::collection::vec((0i64..6, 1i32..4), 1..60), at in 0i64..100) {
        let mut producers = Producers::new(100);
        let mut sequences = [0; 6];
        let mut appended = Vec::new();
        let mut end = 0;
        for (id, records) in steps {
            let sequence = &mut sequences[usize::try_from(id).unwrap()];
            let b = batch(id, 0, *sequence, records);
            producers.apply(&b, end);
            appended.push((b, end));
            *sequence += records;
            end += i64::from(records);
        }
        producers.truncate(at);
        producers.assert_invariants();
        for (i, (b, offset)) in appended.iter().enumerate() {
            let newer = appended[i + 1..].iter().filter(|a| a.0.producer_id == b.producer_id).count();
            let below = offset + i64::from(b.last_offset_delta) < at;
            let found = matches!(producers.check(b), Verdict::Duplicate { base_offset, .. } if base_offset == *offset);
            prop_assert_eq!(found, below && newer < BATCHES_KEPT);
        }
    }

    #[test]
    fn restoring_garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        if let Some(version) = bytes.first_chunk_mut::<2>() { *version = 1u16.to_le_bytes(); }
        if let Ok(producers) = Producers::restore(&bytes, 3) {
            prop_assert!(producers.len() <= 3);
        }
    }
}
