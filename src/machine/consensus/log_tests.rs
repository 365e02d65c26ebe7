//! The table of replay, row by row, and that every sequence of writes is read as it was written.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: Bytes::from(vec![index as u8]), ..Entry::default() }
}

fn hard(term: u64, commit: u64) -> HardState {
    HardState { term, vote: 1, commit }
}

fn founded() -> Stored {
    let peer = Peer { node: 0, directory: Uuid::from_u128(5) };
    Stored::founding(Members::founding(Uuid::from_u128(9), &[peer]), Bytes::from_static(b"image"))
}

fn body(make: impl FnOnce(&mut Body)) -> Vec<u8> {
    let mut body = Body::default();
    make(&mut body);
    body.finish()
}

#[test]
fn a_snapshot_is_read_as_it_was_written() {
    let snapshot = founded().snapshot.expect("a cluster begins with one");
    let bytes = Bytes::from(snapshot.encode());
    assert_eq!(Snapshot::decode(&bytes).as_ref(), Some(&*snapshot));
    for len in 0..bytes.len() - 5 {
        assert_eq!(Snapshot::decode(&bytes.slice(..len)), None, "cut to {len}");
    }
}

#[test]
fn replay_follows_the_table() {
    // A log of entries 2 to 4 on base 1.
    let begin = |stored: &mut Stored| {
        let three = [entry(2, 1), entry(3, 1), entry(4, 2)];
        stored.replay(&body(|b| b.entries(&three))).expect("they follow");
        stored.replay(&body(|b| b.hard_state(&hard(2, 3)))).expect("it is not behind");
    };
    type Row = (&'static str, Vec<u8>, Result<u64, &'static str>);
    let rows: Vec<Row> = vec![
        ("base", body(|b| b.base((7, 2))), Ok(7)),
        ("hard state ahead", body(|b| b.hard_state(&hard(3, 4))), Ok(4)),
        ("term behind", body(|b| b.hard_state(&hard(1, 4))), Err("goes back")),
        ("commit behind", body(|b| b.hard_state(&hard(2, 2))), Err("goes back")),
        ("next entry", body(|b| b.entries(&[entry(5, 2)])), Ok(5)),
        ("gap", body(|b| b.entries(&[entry(6, 2)])), Err("does not follow")),
        ("overlap", body(|b| b.entries(&[entry(4, 3)])), Err("does not follow")),
        ("term back", body(|b| b.entries(&[entry(5, 1)])), Err("does not follow")),
        ("truncate", body(|b| b.truncate(3)), Ok(2)),
        ("truncate at the end", body(|b| b.truncate(5)), Err("outside the log")),
        ("truncate the base", body(|b| b.truncate(1)), Err("outside the log")),
        ("count", body(|b| b.count(9)), Ok(4)),
        ("newer kind", vec![99, 0, 0, 0, 0], Err("unknown kind")),
        ("cut off", vec![3, 9, 0, 0, 0, 1], Err("cut off")),
        ("too short", vec![4, 1, 0, 0, 0, 1], Err("too short")),
        ("no entry", vec![3, 1, 0, 0, 0, 0xff], Err("an entry is none")),
    ];
    for (label, body, outcome) in rows {
        let mut stored = founded();
        begin(&mut stored);
        match (stored.replay(&body), outcome) {
            (Ok(()), Ok(last)) => assert_eq!(stored.last().0, last, "{label}"),
            (Err(damage), Err(part)) => assert!(damage.0.contains(part), "{label}: {damage}"),
            (found, wanted) => panic!("{label}: {found:?} where {wanted:?} was expected"),
        }
    }
}

#[test]
fn what_does_not_belong_together_is_damage() {
    let finish = |change: fn(&mut Stored)| {
        let mut stored = founded();
        stored.entries = vec![entry(2, 1), entry(3, 2)];
        stored.hard = hard(2, 3);
        change(&mut stored);
        stored.finish()
    };
    assert!(finish(|_| {}).is_ok());
    let damage = |change| finish(change).expect_err("it is damage").0;
    assert_eq!(damage(|s| s.hard.commit = 4), "the log ends before what is committed");
    assert_eq!(damage(|s| s.entries.clear()), "the log ends before what is committed");
    assert_eq!(damage(|s| s.hard.term = 1), "the hard state is behind the log");
    assert_eq!(damage(|s| s.base = (2, 1)), "the entries between the snapshot and the log are missing");
}

/// A crash may lose the hard state that was written after a snapshot, never the promise that the snapshot implies.
#[test]
fn the_hard_state_is_never_behind_the_snapshot() {
    let mut stored = founded();
    stored.snapshot = stored.snapshot.map(|s| Arc::new(Snapshot { index: 3, term: 2, ..(*s).clone() }));
    stored.entries = vec![entry(2, 1), entry(3, 2)];
    stored.hard = HardState::default();
    let stored = stored.finish().expect("log and snapshot belong together");
    assert_eq!(stored.hard, HardState { term: 2, vote: 0, commit: 3 });
}

proptest! {
    /// Appends and truncations in any order are read as they were written, and so is the body that a new file begins
    /// with.
    #[test]
    fn writes_are_read_as_they_were_written(steps in proptest::collection::vec((1u64..5, any::<bool>(), 0u64..4), 1..30)) {
        let (mut model, mut read) = (founded(), founded());
        let mut term = 1;
        for (number, truncates, back) in steps {
            let mut body = Body::default();
            let last = model.last().0;
            let from = last.saturating_sub(back).max(2);
            if truncates && from <= last {
                term += 1;
                body.truncate(from);
                model.entries.truncate((from - 2) as usize);
            }
            let next = model.last().0 + 1;
            let entries: Vec<Entry> = (next..next + number).map(|index| entry(index, term)).collect();
            body.entries(&entries);
            model.entries.extend(entries);
            model.hard = HardState { term, vote: 1, commit: 1 };
            body.hard_state(&model.hard);
            read.replay(&body.finish()).expect("it follows");
        }
        prop_assert_eq!(&read, &model);
        let mut again = founded();
        again.hard = HardState::default();
        again.replay(&model.encode()).expect("it is whole");
        prop_assert_eq!(again, model);
    }
}
