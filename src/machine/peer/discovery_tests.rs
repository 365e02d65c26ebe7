//! Names and addresses, by hand and at random.

use super::*;
use proptest::prelude::*;

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn registered(id: i32, host: &str, port: u16) -> Place {
    Place { source: Source::Registered(id), host: Host::of(host), port }
}

fn text(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn entries_of_the_static_list_are_read() {
    let name = |name: &str| Host::Name(name.to_owned());
    for (text, source, host, port) in [
        ("10.0.0.1:9093", Source::Anyone, Host::Address(ip(1)), 9093),
        ("3@10.0.0.1:9093", Source::Listed(3), Host::Address(ip(1)), 9093),
        ("0@Broker-0.Ringlog:19093", Source::Listed(0), name("broker-0.ringlog"), 19093),
        ("ringlog-headless.kafka.svc:9093", Source::Anyone, name("ringlog-headless.kafka.svc"), 9093),
        ("[::1]:1", Source::Anyone, Host::Address("::1".parse().unwrap()), 1),
        ("[::ffff:10.0.0.1]:9093", Source::Anyone, Host::Address(ip(1)), 9093),
    ] {
        assert_eq!(text.parse(), Ok(Place { source, host, port }), "{text}");
    }
    for (text, why) in [
        ("broker", "'broker' has no port"),
        ("broker:", "'broker:' has no valid port"),
        ("broker:0", "'broker:0' has no valid port"),
        ("broker:65536", "'broker:65536' has no valid port"),
        (":9093", "':9093' has no valid host"),
        ("x@broker:9093", "'x@broker:9093' has no node id before '@'"),
        ("-1@broker:9093", "'-1@broker:9093' has no node id before '@'"),
        ("::1:9093", "'::1:9093' has no valid host"),
        ("[broker]:9093", "'[broker]:9093' has no valid host"),
        ("a b:9093", "'a b:9093' has no valid host"),
        ("PEER://broker:9093", "'PEER://broker:9093' has no valid host"),
    ] {
        assert_eq!(text.parse::<Place>(), Err(why.to_owned()));
    }
}

/// The look-ups that are due now.
fn asked(discovery: &mut Discovery, now_ms: u64) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    discovery.on_time(now_ms, &mut out);
    discovery.check();
    let resolve = |action| match action {
        Action::Resolve { lookup, name } => Some((lookup, name)),
        Action::Changed | Action::Log(_) => None,
    };
    out.into_iter().filter_map(resolve).collect()
}

fn answer(discovery: &mut Discovery, now_ms: u64, lookup: u64, answer: Option<&[IpAddr]>) -> Vec<Action> {
    let mut out = Vec::new();
    discovery.resolved(now_ms, lookup, answer, &mut out);
    discovery.check();
    out
}

fn with(places: &[Place]) -> Discovery {
    let mut discovery = Discovery::new(5);
    let mut out = Vec::new();
    discovery.set_places(0, places.iter().cloned(), &mut out);
    assert_eq!(out, [Action::Changed]);
    out.clear();
    discovery.set_places(0, places.iter().cloned(), &mut out);
    assert_eq!(out, [], "nothing changed");
    discovery
}

#[test]
fn a_headless_service_is_every_broker_but_this_one() {
    let mut discovery = with(&[place("ringlog:9093"), place("10.0.0.3:9093"), place("10.0.0.9:9094")]);
    discovery.add_own("[::ffff:10.0.0.1]:9093".parse().unwrap());
    assert_eq!(asked(&mut discovery, 0), [(1, "ringlog".to_owned())]);
    assert_eq!(asked(&mut discovery, 0), [], "it is being looked up");
    let mapped = "::ffff:10.0.0.2".parse().unwrap();
    let found = [ip(4), ip(1), ip(3), mapped, ip(2), ip(9)];
    assert_eq!(answer(&mut discovery, 10, 1, Some(&found)), [Action::Changed]);
    let expected = ["10.0.0.2:9093", "10.0.0.3:9093", "10.0.0.4:9093", "10.0.0.9:9093", "10.0.0.9:9094"];
    assert_eq!(text(&discovery.candidates()), expected);
    // The same answer in another order is no news.
    let again = discovery.next_deadline().unwrap();
    assert!(again > REFRESH_MS * 9 / 10 && again <= 10 + REFRESH_MS);
    let lookup = asked(&mut discovery, again)[0].0;
    let other_order = [ip(9), ip(2), ip(3), ip(4), ip(1)];
    assert_eq!(answer(&mut discovery, again, lookup, Some(&other_order)), []);
}

#[test]
fn a_node_is_where_it_registered_first() {
    let places = [
        place("2@list.example:9093"),
        place("3@10.0.0.7:9093"),
        registered(2, "10.0.0.2", 9093),
        registered(2, "[fd00::2]", 9093),
    ];
    let mut discovery = with(&places);
    assert_eq!(asked(&mut discovery, 0).len(), 1);
    answer(&mut discovery, 0, 1, Some(&[ip(2), ip(5)]));
    assert_eq!(text(&discovery.addresses_of(2)), ["10.0.0.2:9093", "[fd00::2]:9093", "10.0.0.5:9093"]);
    assert_eq!(text(&discovery.addresses_of(3)), ["10.0.0.7:9093"]);
    assert_eq!((discovery.has_registered(2), discovery.has_registered(3)), (true, false));
    assert_eq!((discovery.candidates(), discovery.addresses_of(4)), (vec![], vec![]));
    assert_eq!(discovery.listed(), BTreeSet::from([2, 3]));
}

#[test]
fn a_name_server_that_fails_takes_no_address_away() {
    let unresolved = Action::Log(Line::Unresolved { name: "ringlog".to_owned() });
    let mut discovery = with(&[place("ringlog:9093")]);
    let mut now = 0;
    let (lookup, _) = asked(&mut discovery, now)[0];
    answer(&mut discovery, now, lookup, Some(&[ip(1)]));
    now = discovery.next_deadline().unwrap();
    let (lookup, _) = asked(&mut discovery, now)[0];
    assert_eq!(answer(&mut discovery, now, lookup, None), std::slice::from_ref(&unresolved));
    // It is asked again with backoff, and the log is told once; an empty answer is a failure too.
    let mut waits = Vec::new();
    for empty in [false, true, false, true] {
        let at = discovery.next_deadline().unwrap();
        waits.push(at - now);
        now = at;
        let (lookup, _) = asked(&mut discovery, now)[0];
        assert_eq!(answer(&mut discovery, now, lookup, empty.then_some(&[][..])), []);
        assert_eq!(text(&discovery.candidates()), ["10.0.0.1:9093"]);
    }
    assert!(waits[3] > 2 * waits[1] && waits[0] <= 120, "{waits:?}");
    now = discovery.next_deadline().unwrap();
    let (lookup, _) = asked(&mut discovery, now)[0];
    let resolved = Action::Log(Line::Resolved { name: "ringlog".to_owned(), addresses: 1 });
    assert_eq!(answer(&mut discovery, now, lookup, Some(&[ip(6)])), [resolved, Action::Changed]);
    assert_eq!(text(&discovery.candidates()), ["10.0.0.6:9093"]);
}

#[test]
fn a_look_up_that_hangs_is_given_up_and_its_late_answer_ignored() {
    let mut discovery = with(&[place("ringlog:9093")]);
    assert_eq!(asked(&mut discovery, 0), [(1, "ringlog".to_owned())]);
    assert_eq!(discovery.next_deadline(), Some(LOOKUP_MS));
    assert_eq!(asked(&mut discovery, LOOKUP_MS), []);
    assert_eq!(answer(&mut discovery, LOOKUP_MS, 1, Some(&[ip(1)])), []);
    assert_eq!(discovery.candidates(), []);
    let next = discovery.next_deadline().unwrap();
    assert_eq!(asked(&mut discovery, next), [(2, "ringlog".to_owned())]);
    assert_eq!(answer(&mut discovery, next, 1, Some(&[ip(1)])), [], "the one before is still late");
    assert_eq!(answer(&mut discovery, next, 2, Some(&[ip(2)])).len(), 2);
    assert_eq!(text(&discovery.candidates()), ["10.0.0.2:9093"]);
}

#[test]
fn where_nobody_was_found_is_looked_up_soon_and_not_too_often() {
    let mut discovery = with(&[registered(2, "two", 9093), place("all:9093")]);
    for (lookup, name) in asked(&mut discovery, 0) {
        let last = if name == "two" { 2 } else { 7 };
        answer(&mut discovery, 0, lookup, Some(&[ip(last)]));
    }
    discovery.suspect(500, 2);
    assert_eq!(asked(&mut discovery, 999), []);
    assert_eq!(asked(&mut discovery, SUSPECT_MS), [(3, "two".to_owned())]);
    discovery.suspect_address(1_500, SocketAddr::new(ip(7), 9093));
    assert_eq!(asked(&mut discovery, 1_500), [(4, "all".to_owned())]);
    discovery.suspect(1_500, 9);
    discovery.suspect_address(1_500, SocketAddr::new(ip(99), 9093));
    discovery.check();
}

#[test]
fn places_that_go_take_their_names_along() {
    let mut discovery = with(&[place("one:9093"), place("two:9093")]);
    for (lookup, _) in asked(&mut discovery, 0) {
        answer(&mut discovery, 0, lookup, Some(&[ip(lookup as u8)]));
    }
    let mut out = Vec::new();
    discovery.set_places(10, [place("two:9094"), place("three:9093")], &mut out);
    assert_eq!(out, [Action::Changed]);
    assert_eq!(text(&discovery.candidates()), ["10.0.0.2:9094"]);
    assert_eq!(asked(&mut discovery, 10), [(3, "three".to_owned())]);
}

#[test]
fn a_name_with_too_many_addresses_is_cut() {
    let mut discovery = with(&[place("all:9093")]);
    asked(&mut discovery, 0);
    let many: Vec<IpAddr> = (0..300u16).map(|n| IpAddr::from([10, 0, (n >> 8) as u8, n as u8])).collect();
    let told = Action::Log(Line::TooMany { name: "all".to_owned(), addresses: 300 });
    assert_eq!(answer(&mut discovery, 0, 1, Some(&many)), [told, Action::Changed]);
    assert_eq!(discovery.candidates().len(), ADDRESSES_PER_NAME_MAX);
}

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Answer(u64, Option<Vec<u8>>),
    Places(Vec<u8>),
    Suspect(i32),
    Own(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let answer = prop::option::of(prop::collection::vec(0u8..6, 0..5));
    prop_oneof![
        prop_oneof![0u64..200, 0u64..40_000].prop_map(Step::Pass),
        (0u64..3, answer).prop_map(|(back, answer)| Step::Answer(back, answer)),
        prop::collection::vec(0u8..6, 0..6).prop_map(Step::Places),
        (0i32..3).prop_map(Step::Suspect),
        (0u8..6).prop_map(Step::Own),
    ]
}

fn some_place(number: u8) -> Place {
    match number {
        0 => place("one:9093"),
        1 => place("1@one:9093"),
        2 => place("two:9093"),
        3 => registered(1, "three", 9093),
        4 => place("10.0.0.2:9093"),
        _ => registered(2, "10.0.0.3", 9093),
    }
}

proptest! {
    #[test]
    fn any_inputs_keep_the_invariants(steps in prop::collection::vec(step(), 1..80)) {
        let mut discovery = Discovery::new(1);
        let (mut now, mut last, mut own) = (0, 0, BTreeSet::new());
        for step in steps {
            let before = (discovery.candidates(), discovery.addresses_of(1), discovery.addresses_of(2));
            let mut out = Vec::new();
            let silent = matches!(step, Step::Own(_));
            match step {
                Step::Pass(ms) => now += ms,
                Step::Answer(back, answer) => {
                    let answer = answer.map(|ips| ips.into_iter().map(ip).collect::<Vec<_>>());
                    discovery.resolved(now, last - back.min(last), answer.as_deref(), &mut out);
                }
                Step::Places(numbers) => {
                    discovery.set_places(now, numbers.into_iter().map(some_place), &mut out);
                }
                Step::Suspect(id) => discovery.suspect(now, id),
                Step::Own(number) => {
                    own.insert(SocketAddr::new(ip(number), 9093));
                    discovery.add_own(SocketAddr::new(ip(number), 9093));
                }
            }
            discovery.check();
            let after = (discovery.candidates(), discovery.addresses_of(1), discovery.addresses_of(2));
            let told = out.contains(&Action::Changed) || silent;
            prop_assert!(told || before == after, "a change is told");
            for addresses in [&after.0, &after.1, &after.2] {
                let distinct: BTreeSet<_> = addresses.iter().collect();
                prop_assert_eq!(distinct.len(), addresses.len());
                prop_assert!(addresses.iter().all(|address| !own.contains(address)));
            }
            out.clear();
            discovery.on_time(now, &mut out);
            for action in out {
                if let Action::Resolve { lookup, .. } = action {
                    prop_assert!(lookup > last);
                    last = lookup;
                }
            }
            prop_assert!(discovery.next_deadline().is_none_or(|at| at > now), "stuck at {now}");
        }
    }
}
