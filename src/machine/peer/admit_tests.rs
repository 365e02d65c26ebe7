//! Every handshake meets exactly one case, and each case by an example.

use super::*;

fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// Calls `visit` with every combination of facts.
fn all_facts(mut visit: impl FnMut(Facts)) {
    let any = &ANYTHING;
    let flags = [false, true];
    for bits in 0..64usize {
        let flag = |bit: usize| flags[bits >> bit & 1];
        for who in any.who {
            for service in any.service {
                for standing in any.standing {
                    for epoch in any.epoch {
                        visit(Facts {
                            version: flag(0),
                            who: *who,
                            cluster: flag(1),
                            asked: flag(2),
                            service: *service,
                            level: flag(3),
                            standing: *standing,
                            epoch: *epoch,
                            rival: flag(4),
                            proven: flag(5),
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn every_handshake_meets_exactly_one_case_and_every_case_is_met() {
    let mut met = [0; CASES.len()];
    let mut seen = 0;
    all_facts(|facts| {
        seen += 1;
        let cases: Vec<usize> = (0..CASES.len()).filter(|at| CASES[*at].when.meets(&facts)).collect();
        let labels: Vec<_> = cases.iter().map(|at| CASES[*at].label).collect();
        assert_eq!(cases.len(), 1, "{facts:?} meets {labels:?}");
        met[cases[0]] += 1;
    });
    assert_eq!(seen, 64 * 3 * 3 * 4 * 4);
    assert!(met.iter().all(|count| *count > 0), "{met:?}");
    for (at, case) in CASES.iter().enumerate() {
        assert!(CASES[..at].iter().all(|other| other.label != case.label), "{} twice", case.label);
    }
}

/// What must hold whatever the table says.
#[test]
fn nobody_is_admitted_who_must_not_be() {
    all_facts(|facts| {
        // Of a node that nobody knows there is no older epoch.
        let possible = facts.standing != Standing::Unknown || NOT_OLD.contains(&facts.epoch);
        if !possible || case_of(&facts).refusal.is_some() {
            return;
        }
        assert!(facts.version && facts.who == Who::Other && facts.cluster && facts.asked && facts.level);
        assert_eq!(facts.service, Service::Ready);
        assert_ne!(facts.epoch, Epoch::Older, "an older registration (KIP-903)");
        if facts.proven {
            assert_eq!((facts.standing, facts.epoch), (Standing::Registered, Epoch::Same));
        }
        if facts.standing != Standing::Registered {
            assert_ne!(facts.epoch, Epoch::Same, "an epoch belongs to one process");
        }
        if facts.rival && facts.epoch == Epoch::Unnamed {
            assert!(
                matches!(facts.standing, Standing::Registered | Standing::Restarted),
                "only the registered folder may take its id from another that is alive: {facts:?}"
            );
        }
    });
}

fn own() -> Own {
    Own {
        identity: Identity {
            node_id: 1,
            cluster_id: Some(uuid(9)),
            directory: uuid(11),
            incarnation: uuid(12),
            broker_epoch: Some(5),
        },
        versions: (1, 3),
        metadata_level: Some(7),
        service: Service::Ready,
    }
}

/// A new process of node 2.
fn hello() -> Hello {
    Hello {
        identity: Identity {
            node_id: 2,
            cluster_id: Some(uuid(9)),
            directory: uuid(21),
            incarnation: uuid(22),
            broker_epoch: None,
        },
        versions: (2, 4),
        metadata: (1, 7),
        stream: Stream::Raft,
        expected: Some(1),
    }
}

/// The registration of the process that [`hello`] is.
fn known() -> Known {
    Known { directory: uuid(21), incarnation: uuid(22), broker_epoch: 6, fenced: false }
}

fn verdict(
    hello: Hello,
    own: Own,
    known: Option<Known>,
    alive: Option<Identity>,
) -> (&'static str, Result<u16, Refusal>) {
    let verdict = decide(&own, &hello, known.as_ref(), alive.as_ref());
    (verdict.label, verdict.answer)
}

#[test]
fn what_the_two_say_of_themselves() {
    let judge = |hello: Hello| verdict(hello, own(), None, None);
    let with = |change: fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        judge(hello)
    };
    assert_eq!(with(|_| {}), ("unknown", Ok(3)));
    assert_eq!(with(|h| h.versions = (4, 9)), ("no common version", Err(Refusal::Version)));
    assert_eq!(with(|h| h.versions = (0, 1)), ("unknown", Ok(1)));
    let own_process = Hello { identity: own().identity, ..hello() };
    assert_eq!(judge(own_process), ("dialled itself", Err(Refusal::Myself)));
    let own_id = with(|h| h.identity.node_id = 1);
    assert_eq!(own_id, ("has this broker's node id", Err(Refusal::DuplicateNodeId)));
    let cluster = with(|h| h.identity.cluster_id = Some(uuid(8)));
    assert_eq!(cluster, ("of another cluster", Err(Refusal::WrongCluster)));
    assert_eq!(with(|h| h.identity.cluster_id = None), ("unknown", Ok(3)));
    assert_eq!(with(|h| h.expected = Some(3)), ("looks for another node", Err(Refusal::NotTheNode)));
    assert_eq!(with(|h| h.expected = None), ("unknown", Ok(3)));
    let level = with(|h| h.metadata = (1, 6));
    assert_eq!(level, ("cannot apply the metadata", Err(Refusal::MetadataLevel)));
    for (service, expected) in [
        (Service::NotReady, ("comes too early", Err(Refusal::NotReady))),
        (Service::Stopping, ("comes too late", Err(Refusal::Stopping))),
    ] {
        assert_eq!(verdict(hello(), Own { service, ..own() }, None, None), expected);
    }
    let fresh =
        Own { identity: Identity { cluster_id: None, ..own().identity }, metadata_level: None, ..own() };
    assert_eq!(verdict(hello(), fresh, None, None), ("unknown", Ok(3)));
}

#[test]
fn what_the_image_knows_of_the_node() {
    let with = |change: fn(&mut Hello, &mut Known)| {
        let (mut hello, mut known) = (hello(), known());
        change(&mut hello, &mut known);
        verdict(hello, own(), Some(known), None)
    };
    assert_eq!(with(|h, _| h.identity.broker_epoch = Some(6)), ("registered", Ok(3)));
    let older = with(|h, _| h.identity.broker_epoch = Some(5));
    assert_eq!(older, ("registered, an older registration", Err(Refusal::StaleBrokerEpoch)));
    assert_eq!(with(|_, _| {}), ("registered, nothing rests on its epoch", Ok(3)));
    let data = with(|h, _| h.stream = Stream::Data);
    assert_eq!(data, ("registered, epoch unclear", Err(Refusal::NotReady)));

    let restarted = with(|_, k| k.incarnation = uuid(20));
    assert_eq!(restarted, ("restarted", Ok(3)));
    let zombie = with(|h, k| {
        k.incarnation = uuid(20);
        h.identity.broker_epoch = Some(4);
    });
    assert_eq!(zombie, ("restarted, the older process", Err(Refusal::StaleIncarnation)));

    let in_use = with(|_, k| k.directory = uuid(20));
    assert_eq!(in_use, ("replaced, and its id is in use", Err(Refusal::DuplicateNodeId)));
    let fenced = with(|_, k| (k.directory, k.fenced) = (uuid(20), true));
    assert_eq!(fenced, ("replaced", Ok(3)));
    let old_folder = with(|h, k| {
        (k.directory, k.fenced) = (uuid(20), true);
        h.identity.broker_epoch = Some(4);
    });
    assert_eq!(old_folder, ("replaced, the older folder", Err(Refusal::StaleIncarnation)));
    let lagging = with(|h, k| {
        k.directory = uuid(20);
        h.identity.broker_epoch = Some(8);
    });
    assert_eq!(lagging, ("replaced and registered, the image lags", Ok(3)));
}

#[test]
fn two_fresh_brokers_with_one_id_are_told_apart_by_their_folders() {
    let other = Identity { directory: uuid(31), incarnation: uuid(32), ..hello().identity };
    let expected = ("unknown, and its id is in use", Err(Refusal::DuplicateNodeId));
    assert_eq!(verdict(hello(), own(), None, Some(other)), expected);
    // A restart whose predecessor's connection still seems alive is no second broker.
    let before = Identity { incarnation: uuid(32), ..hello().identity };
    assert_eq!(verdict(hello(), own(), None, Some(before)), ("unknown", Ok(3)));
}

#[test]
fn the_answer_is_judged_too() {
    let (me, answer) = (own().identity, hello().identity);
    assert_eq!(judge_answer(&me, Some(2), &answer), Ok(()));
    assert_eq!(judge_answer(&me, None, &answer), Ok(()));
    assert_eq!(judge_answer(&me, Some(3), &answer), Err(Refusal::NotTheNode));
    assert_eq!(judge_answer(&me, Some(1), &me), Err(Refusal::Myself));
    let twin = Identity { incarnation: uuid(77), ..me };
    assert_eq!(judge_answer(&me, None, &twin), Err(Refusal::DuplicateNodeId));
    let stranger = Identity { cluster_id: Some(uuid(8)), ..answer };
    assert_eq!(judge_answer(&me, None, &stranger), Err(Refusal::WrongCluster));
    let fresh = Identity { cluster_id: None, ..answer };
    assert_eq!(judge_answer(&me, None, &fresh), Ok(()));
}
