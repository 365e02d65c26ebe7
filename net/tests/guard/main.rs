//! The guard against the library it protects: what the library encodes passes, what passes decodes within the bound
//! that the guard names, and nothing that anyone sends panics or allocates beyond it.

mod allocator;
mod generate;
mod source;

use allocator::peak_of;
use bytes::Bytes;
use kafka_protocol::messages::ApiKey;
use proptest::prelude::*;
use ringlog_net::fetch::FetchRequest;
use ringlog_net::guard::{self, Served};
use ringlog_net::produce::ProduceRequest;
use ringlog_net::{Cause, GuardError};
use source::Gen;

/// Every API in every version that is served.
fn all_versions() -> impl Iterator<Item = (Served, i16)> {
    guard::served().flat_map(|api| (api.min..=api.max).map(move |version| (api, version)))
}

/// The body of a random request.
fn body(api: Served, version: i16, seed: u64) -> Vec<u8> {
    // The seeds of a case are close to each other for all versions; spread them.
    let seed = (seed ^ (api.key as u64) << 32 ^ (version as u64) << 48).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    generate::encoded(api.key, version, &mut Gen::new(seed, guard::is_flexible(api.key, version)))
}

/// Decodes what the guard let pass, and holds both to the bound that it named.
fn decode_within_bound(api: Served, version: i16, body: &[u8]) -> Result<(), TestCaseError> {
    let (checked, spent) = peak_of(|| guard::check(api.key, version, body));
    prop_assert_eq!(spent, 0, "the guard allocated for {} {}", api.name, version);
    let frame = Bytes::from(body.to_vec());
    let (guarded, spent) = peak_of(|| generate::guarded(api.key, version, frame));
    match checked {
        Ok(bound) => {
            prop_assert!(bound <= api.heap_bytes_max, "{} {}", api.name, version);
            prop_assert_eq!(guarded, Ok(()), "{} {}", api.name, version);
            prop_assert!(spent <= bound, "{} {}: {} > {}", api.name, version, spent, bound);
        }
        Err(error) => {
            prop_assert_eq!(guarded, Err(error), "{} {}", api.name, version);
            prop_assert_eq!(spent, 0, "{} {}", api.name, version);
        }
    }
    Ok(())
}

/// Changes a few bytes, some of them to what lengths are made of, or cuts or stretches the body.
fn mutate(body: &mut Vec<u8>, seed: u64) {
    let mut random = Gen::new(seed, false);
    for _ in 0..=random.below(3) {
        let at = random.below(body.len() + 1);
        match random.below(7) {
            0 => body.truncate(at),
            1 => body.insert(at, random.next() as u8),
            2 if at < body.len() => body[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            3 if at < body.len() => body[at] = body[at].wrapping_add(1),
            4 if at + 4 <= body.len() => {
                let value = [i32::MAX, i32::MIN, -1, -2, 0x00ff_ffff, 1 << 16][random.below(6)];
                body[at..at + 4].copy_from_slice(&value.to_be_bytes());
            }
            5 if at + 5 <= body.len() => body[at..at + 5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            _ if at < body.len() => body[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

proptest! {
    // Every case tries all versions of all APIs. PROPTEST_CASES in the environment asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases / 2))]

    #[test]
    fn whatever_the_library_encodes_passes_and_decodes_within_the_bound(seed: u64) {
        for (api, version) in all_versions() {
            let mut body = body(api, version, seed);
            let decoded = generate::decoded(api.key, version, body.clone().into());
            prop_assert_eq!(decoded, Ok((body.clone(), 0)), "the generator is wrong");
            prop_assert!(guard::check(api.key, version, &body).is_ok(), "{} {}", api.name, version);
            decode_within_bound(api, version, &body)?;
            // Kafka ignores what stands behind a message.
            body.push(seed as u8);
            prop_assert!(guard::check(api.key, version, &body).is_ok(), "{} {}", api.name, version);
        }
    }

    #[test]
    fn a_body_that_is_cut_is_refused(seed: u64, cut: prop::sample::Index) {
        for (api, version) in all_versions() {
            let body = body(api, version, seed);
            if !body.is_empty() {
                let cut = &body[..cut.index(body.len())];
                let error = guard::check(api.key, version, cut).unwrap_err();
                prop_assert_eq!(error.cause, Cause::Truncated, "{} {} {}", api.name, version, error);
            }
        }
    }

    #[test]
    fn mutated_bodies_are_refused_or_decode_within_the_bound(seed: u64, changes: u64) {
        for (api, version) in all_versions() {
            let mut body = body(api, version, seed);
            for round in 0..4u64 {
                mutate(&mut body, changes.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15));
                decode_within_bound(api, version, &body)?;
            }
        }
    }

    #[test]
    fn any_bytes_are_refused_or_decode_within_the_bound(
        body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()], 0..80)
    ) {
        for (api, version) in all_versions() {
            decode_within_bound(api, version, &body)?;
        }
    }

    #[test]
    fn the_decoders_of_the_hot_path_take_what_the_guard_takes(seed: u64, changes: u64) {
        for (api, version) in all_versions().filter(|(api, _)| [guard::PRODUCE, guard::FETCH].contains(&api.key)) {
            let mut body = body(api, version, seed);
            for round in 0..8u64 {
                let (own, spent) = peak_of(|| match api.key {
                    guard::PRODUCE => ProduceRequest::decode(version, &body).map(|request| {
                        request.topics().map(|topic| topic.partitions.count()).sum::<usize>()
                    }),
                    _ => FetchRequest::decode(version, &body).map(|request| {
                        request.topics().map(|topic| topic.partitions.count()).sum::<usize>()
                    }),
                });
                prop_assert_eq!(spent, 0);
                prop_assert_eq!(own.map(drop), guard::check(api.key, version, &body).map(drop));
                mutate(&mut body, changes.wrapping_add(round).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
        }
    }
}

#[test]
fn versions_and_header_versions_are_those_of_the_library() {
    for api in guard::served() {
        let library = generate::library_versions(api.key);
        assert_eq!((api.min, api.max), (library.min, library.max), "{}", api.name);
        let key = ApiKey::try_from(api.key).unwrap();
        assert!(key == ApiKey::ListConfigResources || format!("{key:?}") == api.name, "{key:?} {}", api.name);
        for version in api.min..=api.max {
            let flexible = key.request_header_version(version) == 2;
            assert_eq!(guard::is_flexible(api.key, version), flexible, "{} {version}", api.name);
        }
    }
}

#[test]
fn what_is_not_served_is_refused() {
    for (key, version) in [(4, 0), (-1, 0), (24, 0), (3, -1), (3, 14), (0, 2), (i16::MAX, i16::MAX)] {
        assert_eq!(
            guard::check(key, version, &[0; 100]).unwrap_err().cause,
            Cause::NotServed,
            "{key} {version}"
        );
    }
}

/// A body that announces `count` elements and holds one byte for each of them.
fn announcing(count: i32) -> Vec<u8> {
    let mut body = count.to_be_bytes().to_vec();
    body.resize(4 + count.clamp(0, 1 << 24) as usize, 0);
    body
}

#[test]
fn twenty_bytes_cannot_ask_for_gigabytes() {
    // Metadata version 1: an array of topics, its count in front.
    let error = guard::check(3, 1, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(error, GuardError { field: "topics", cause: Cause::Truncated });
    let error = guard::check(3, 1, &announcing(100_001)).unwrap_err();
    assert_eq!(error.cause, Cause::TooMany { count: 100_001, max: 100_000 });
}

#[test]
fn elements_cost_what_they_take_in_memory() {
    // DescribeConfigs version 1: many resources whose keys all fit their own limit, but not together.
    let mut resource = vec![2, 0, 0];
    resource.extend(1_000i32.to_be_bytes());
    resource.extend([0; 2_000]);
    let body = |resources: i32| {
        let mut body = resources.to_be_bytes().to_vec();
        (0..resources).for_each(|_| body.extend(&resource));
        body.push(0);
        body
    };
    assert!(guard::check(32, 1, &body(60)).is_ok());
    let error = guard::check(32, 1, &body(70)).unwrap_err();
    assert_eq!(error, GuardError { field: "configuration_keys", cause: Cause::TooMuchMemory });
    // Tagged fields that nobody knows cost memory too. Heartbeat version 4.
    let mut body = vec![1, 0, 0, 0, 0, 1, 0, 100];
    body.extend((0..100).flat_map(|tag| [tag, 0]));
    let error = guard::check(12, 4, &body).unwrap_err();
    assert_eq!(error, GuardError { field: "tagged_fields", cause: Cause::TooMuchMemory });
}

#[test]
fn null_is_refused_in_the_versions_that_have_none() {
    let null = (-1i32).to_be_bytes();
    let refused = |field| Err(GuardError { field, cause: Cause::Null });
    // Metadata: null topics mean all of them from version 1 on.
    assert_eq!(guard::check(3, 0, &null), refused("topics"));
    assert!(guard::check(3, 1, &null).is_ok());
    // Metadata: a topic may be named by its id alone from version 10 on.
    let mut topic = vec![2];
    topic.extend([0; 16]);
    topic.extend([0; 6]);
    assert!(guard::check(3, 10, &topic).is_ok());
    assert_eq!(guard::check(3, 9, &[2, 0, 0, 0, 0, 0, 0]), refused("name"));
    // OffsetFetch: null topics mean all of them from version 2 on.
    assert_eq!(guard::check(9, 1, &[0, 0, 0xff, 0xff, 0xff, 0xff]), refused("topics"));
    assert!(guard::check(9, 2, &[0, 0, 0xff, 0xff, 0xff, 0xff]).is_ok());
    // A null element of an array of strings.
    assert_eq!(guard::check(42, 0, &[0, 0, 0, 1, 0xff, 0xff]), refused("groups_names"));
}

#[test]
fn a_structure_is_there_or_not() {
    // DescribeTopicPartitions: no topics, a limit, then the cursor's presence byte. The library takes any other byte
    // for absent and would go on reading in the middle of it.
    let body = |presence: u8, rest: &[u8]| [&[1, 0, 0, 0, 9, presence], rest].concat();
    assert!(guard::check(75, 0, &body(0xff, &[0])).is_ok());
    assert!(guard::check(75, 0, &body(1, &[2, b't', 0, 0, 0, 1, 0, 0])).is_ok());
    for presence in [0, 2, 0x80] {
        let error = guard::check(75, 0, &body(presence, &[2, b't', 0, 0, 0, 1, 0, 0])).unwrap_err();
        assert_eq!(error, GuardError { field: "cursor", cause: Cause::BadPresence });
    }
}

#[test]
fn a_tagged_field_of_another_version_is_refused() {
    // Fetch version 14 without topics and with the tagged field that version 15 brought.
    let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    body.extend([1, 1, 1, 1, 1, 13]);
    body.extend([0; 13]);
    let error = GuardError { field: "replica_state", cause: Cause::TagNotInVersion };
    assert_eq!(guard::check(guard::FETCH, 14, &body).unwrap_err(), error);
    assert_eq!(FetchRequest::decode(14, &body).unwrap_err(), error);
    // The same without the replica id that version 15 took away.
    assert!(guard::check(guard::FETCH, 15, &body[4..]).is_ok());
}

#[test]
fn strings_are_utf8() {
    let error = guard::check(10, 0, &[0, 1, 0xff]).unwrap_err();
    assert_eq!(error.to_string(), "key: string is not UTF-8");
}
