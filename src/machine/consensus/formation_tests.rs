//! The tables of formation: every row by name, and every input meets exactly one.

use super::*;

const CLUSTER: Uuid = Uuid::from_u128(77);
const OTHER: Uuid = Uuid::from_u128(78);

fn peer(node: i32) -> Peer {
    Peer { node, directory: Uuid::from_u128(100 + node as u128) }
}

fn listed() -> BTreeSet<i32> {
    [1, 2, 3].into()
}

fn fresh(node: i32, listed: &[i32]) -> (i32, Answer) {
    (node, Answer::Fresh { directory: peer(node).directory, listed: listed.iter().copied().collect() })
}

fn formed(node: i32, cluster: Uuid, founders: &[i32]) -> (i32, Answer) {
    (node, Answer::Formed { cluster, founders: founders.iter().map(|node| peer(*node)).collect() })
}

/// The rows of the table as predicates over the input, in words of their own.
fn rows(
    me: Peer,
    folder: &Folder,
    listed: &BTreeSet<i32>,
    answers: &BTreeMap<i32, Answer>,
) -> Vec<&'static str> {
    let clusters: BTreeSet<Uuid> = answers
        .values()
        .filter_map(|a| if let Answer::Formed { cluster, .. } = a { Some(*cluster) } else { None })
        .collect();
    let names_me =
        answers.values().any(|a| matches!(a, Answer::Formed { founders, .. } if founders.contains(&me)));
    let fresh = *folder == Folder::Fresh;
    let foreign = matches!(folder, Folder::Formed { cluster } if clusters.iter().any(|c| c != cluster));
    let is_listed = listed.contains(&me.node);
    let none = clusters.is_empty();
    let differ = answers.iter().any(|(node, a)| {
        listed.contains(node) && matches!(a, Answer::Fresh { listed: theirs, .. } if theirs != listed)
    });
    let silent = listed.iter().any(|node| *node != me.node && !answers.contains_key(node));
    let lowest = listed.first() == Some(&me.node);
    let table = [
        ("wrong cluster", !fresh && foreign),
        ("start", !fresh && !foreign),
        ("two clusters", fresh && clusters.len() > 1),
        ("adopt", fresh && clusters.len() == 1 && names_me),
        ("join", fresh && clusters.len() == 1 && !names_me),
        ("wait for a cluster", fresh && none && !is_listed),
        ("lists differ", fresh && none && is_listed && differ),
        ("wait for voters", fresh && none && is_listed && !differ && silent),
        ("wait for the founder", fresh && none && is_listed && !differ && !silent && !lowest),
        ("found", fresh && none && is_listed && !differ && !silent && lowest),
    ];
    table.into_iter().filter_map(|(row, met)| met.then_some(row)).collect()
}

fn row_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Refuse(Refused::WrongCluster { .. }) => "wrong cluster",
        Verdict::Start => "start",
        Verdict::Refuse(Refused::TwoClusters { .. }) => "two clusters",
        Verdict::Adopt { .. } => "adopt",
        Verdict::Join { .. } => "join",
        Verdict::Wait(WaitFor::Cluster) => "wait for a cluster",
        Verdict::Refuse(Refused::ListsDiffer { .. }) => "lists differ",
        Verdict::Wait(WaitFor::Voters(_)) => "wait for voters",
        Verdict::Wait(WaitFor::Founder(_)) => "wait for the founder",
        Verdict::Found(_) => "found",
    }
}

/// Everything that a peer may say, silence included.
fn sayings(node: i32) -> Vec<Option<Answer>> {
    vec![
        None,
        Some(fresh(node, &[1, 2, 3]).1),
        Some(fresh(node, &[1, 2]).1),
        Some(formed(node, CLUSTER, &[1, 2, 3]).1),
        Some(formed(node, CLUSTER, &[2, 3]).1),
        Some(formed(node, OTHER, &[5]).1),
    ]
}

#[test]
fn every_input_meets_exactly_one_row() {
    let mut met = BTreeSet::new();
    for folder in [Folder::Fresh, Folder::Formed { cluster: CLUSTER }] {
        for me in [1, 2, 9].map(peer) {
            let others: Vec<i32> = [1, 2, 3].into_iter().filter(|node| *node != me.node).take(2).collect();
            for first in sayings(others[0]) {
                for second in sayings(others[1]) {
                    let said = [(others[0], first.clone()), (others[1], second)];
                    let answers: BTreeMap<i32, Answer> =
                        said.into_iter().filter_map(|(node, answer)| Some((node, answer?))).collect();
                    let rows = rows(me, &folder, &listed(), &answers);
                    assert_eq!(rows.len(), 1, "{me:?} {folder:?} {answers:?}: {rows:?}");
                    let verdict = decide(me, &folder, &listed(), &answers);
                    assert_eq!(row_of(&verdict), rows[0], "{me:?} {folder:?} {answers:?}");
                    met.insert(rows[0]);
                }
            }
        }
    }
    assert_eq!(met.len(), 10, "every row is met: {met:?}");
}

#[test]
fn the_founder_names_all_folders() {
    let answers = [fresh(2, &[1, 2, 3]), fresh(3, &[1, 2, 3])].into();
    let verdict = decide(peer(1), &Folder::Fresh, &listed(), &answers);
    assert_eq!(verdict, Verdict::Found(vec![peer(1), peer(2), peer(3)]));
    let alone = decide(peer(4), &Folder::Fresh, &[4].into(), &BTreeMap::new());
    assert_eq!(alone, Verdict::Found(vec![peer(4)]));
}

#[test]
fn a_wiped_voter_joins_and_an_interrupted_founder_is_followed() {
    let answers: BTreeMap<_, _> = [formed(2, CLUSTER, &[1, 2, 3])].into();
    let wiped = Peer { node: 1, directory: Uuid::from_u128(5) };
    assert_eq!(decide(wiped, &Folder::Fresh, &listed(), &answers), Verdict::Join { cluster: CLUSTER });
    let founders = vec![peer(1), peer(2), peer(3)];
    let adopted = decide(peer(1), &Folder::Fresh, &listed(), &answers);
    assert_eq!(adopted, Verdict::Adopt { cluster: CLUSTER, founders });
}

#[test]
fn taking_part_meets_exactly_one_row() {
    let members = Members::founding(CLUSTER, &[peer(1), peer(2), peer(3)]);
    let sayings = [
        None,
        Some(Remembered { count: 0, run: 0 }),
        Some(Remembered { count: 4, run: 1 }),
        Some(Remembered { count: 5, run: 9 }),
        Some(Remembered { count: 5, run: 8 }),
        Some(Remembered { count: 6, run: 9 }),
        Some(Remembered { count: 6, run: 8 }),
    ];
    for first in sayings {
        for second in sayings {
            for waited in [false, true] {
                let said = [(2, first), (3, second)];
                let answers: BTreeMap<i32, Remembered> =
                    said.into_iter().filter_map(|(node, known)| Some((node, known?))).collect();
                let objection = answers.values().any(|k| k.run != 9 && k.count >= 5);
                let all = answers.len() == 2;
                let enough = !answers.is_empty() && waited;
                let rows = [
                    (objection, 0),
                    (!objection && all, 1),
                    (!objection && !all && enough, 1),
                    (!objection && !all && !enough, 2),
                ];
                let met: Vec<i32> = rows.into_iter().filter_map(|(met, row)| met.then_some(row)).collect();
                let verdict = match decide_part(peer(1), &members, (5, 9), &answers, waited) {
                    TakesPart::No { .. } => 0,
                    TakesPart::Yes => 1,
                    TakesPart::Wait => 2,
                };
                assert_eq!(met, [verdict], "{answers:?}, waited: {waited}");
            }
        }
    }
    let alone = Members::founding(CLUSTER, &[peer(1)]);
    assert_eq!(decide_part(peer(1), &alone, (1, 1), &BTreeMap::new(), false), TakesPart::Yes);
    let learner = decide_part(peer(9), &members, (1, 1), &[(1, sayings[1].unwrap())].into(), true);
    assert_eq!(learner, TakesPart::Wait, "a learner is no part of the majority");
}

#[test]
fn a_list_that_differs_is_named() {
    let members = Members::founding(CLUSTER, &[peer(1), peer(2), peer(3)]);
    assert_eq!(difference(&listed(), &members), None);
    assert_eq!(difference(&BTreeSet::new(), &members), None, "nothing was listed");
    assert_eq!(difference(&[1, 2, 4].into(), &members), Some((vec![4], vec![3])));
}
