//! Random sequences of commands, and what must hold after each.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::decide::fixture::{Cluster, registration, topic};
use super::*;
use crate::machine::error::ErrorCode;

/// Small pools of names, so that commands meet each other's topics.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "a.b", "a_b", "__consumer_offsets", "bad name"])
        .prop_map(str::to_owned)
}

/// Mostly settings that a topic takes, so that sequences get somewhere.
fn setting() -> impl Strategy<Value = (String, Option<String>)> {
    let good = vec![
        ("retention.ms", Some("1")),
        ("retention.ms", Some("2")),
        ("cleanup.policy", Some("compact")),
        ("min.insync.replicas", Some("1")),
        ("min.insync.replicas", Some("2")),
        ("ringlog.durability", Some("async")),
        ("unclean.leader.election.enable", Some("true")),
    ];
    let bad = vec![("no.such", Some("1")), ("retention.ms", Some("soon")), ("retention.ms", None)];
    prop_oneof![9 => prop::sample::select(good), 1 => prop::sample::select(bad)]
        .prop_map(|(name, value)| (name.to_owned(), value.map(str::to_owned)))
}

fn register() -> impl Strategy<Value = Command> {
    (1..4i32, 0..6u128, 0..8u128, any::<(bool, bool)>(), prop::bool::weighted(0.7)).prop_map(
        |(id, incarnation, directory, (clean, loses), unfenced)| {
            Command::RegisterBroker(Registration {
                incarnation: Uuid::from_u128(5000 + incarnation),
                // Most often the same disk.
                directory: Uuid::from_u128(if directory == 0 { 99 } else { 100 }),
                clean,
                unfenced,
                lost: if loses { vec![(Uuid::from_u128(101), 0)] } else { Vec::new() },
                ..registration(id)
            })
        },
    )
}

fn create() -> impl Strategy<Value = Command> {
    let assignments = prop::collection::vec((0..3i32, prop::collection::vec(1..4i32, 0..4)), 0..3);
    let one = (name(), -1..5i32, -1..4i16, assignments, prop::collection::vec(setting(), 0..2), 0..3)
        .prop_map(|(name, partitions, factor, assignments, settings, assign)| {
            if assign == 0 {
                NewTopic { assignments, settings, ..topic(&name, -1, -1) }
            } else {
                NewTopic { settings, ..topic(&name, partitions, factor) }
            }
        });
    (prop::collection::vec(one, 1..4), prop::bool::weighted(0.1))
        .prop_map(|(topics, validate_only)| Command::CreateTopics { topics, validate_only })
}

fn delete() -> impl Strategy<Value = Command> {
    let by_name = name().prop_map(|name| TopicRef { name: Some(name), id: None });
    let by_id = (101..110u128).prop_map(|id| TopicRef { name: None, id: Some(Uuid::from_u128(id)) });
    prop::collection::vec(prop_oneof![by_name, by_id], 1..3)
        .prop_map(|topics| Command::DeleteTopics { topics })
}

fn grow() -> impl Strategy<Value = Command> {
    let assignments =
        prop::option::weighted(0.3, prop::collection::vec(prop::collection::vec(1..4i32, 0..4), 0..3));
    let one = (name(), -1..9i32, assignments).prop_map(|(name, count, assignments)| MorePartitions {
        name,
        count,
        assignments,
    });
    (prop::collection::vec(one, 1..3), any::<bool>())
        .prop_map(|(topics, validate_only)| Command::CreatePartitions { topics, validate_only })
}

fn resource() -> impl Strategy<Value = ConfigResource> {
    prop_oneof![
        name().prop_map(ConfigResource::Topic),
        Just(ConfigResource::Cluster),
        (1..5i32).prop_map(ConfigResource::Broker),
    ]
}

fn alter() -> impl Strategy<Value = Command> {
    let op = prop::sample::select(vec![
        AlterOp::Set,
        AlterOp::Set,
        AlterOp::Delete,
        AlterOp::Append,
        AlterOp::Subtract,
    ]);
    let change = (setting(), op).prop_map(|((name, value), op)| SettingChange { name, op, value });
    let changes = prop::collection::vec((resource(), prop::collection::vec(change, 0..3)), 1..3);
    let settings = prop::collection::vec((resource(), prop::collection::vec(setting(), 0..3)), 1..3);
    prop_oneof![
        changes.prop_map(|resources| Command::IncrementalAlterConfigs { resources, validate_only: false }),
        settings.prop_map(|resources| Command::AlterConfigs { resources, validate_only: false }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        3 => register(),
        4 => create(),
        2 => delete(),
        2 => grow(),
        3 => alter(),
        1 => Just(Command::AllocateProducerIds),
        1 => (1..3u128).prop_map(|id| Command::FormCluster { cluster_id: Uuid::from_u128(id) }),
    ]
}

/// What may only grow, per partition: (leader epoch, partition epoch).
fn epochs(image: &Image) -> BTreeMap<(Uuid, i32), (i32, i32)> {
    let mut epochs = BTreeMap::new();
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            epochs.insert((topic.id, index), (partition.leader_epoch, partition.partition_epoch));
        }
    }
    epochs
}

/// Leadership that a process gave up never goes on in the same epoch.
fn check_leaders(before: &Image, after: &Image, command: &Command) {
    let Command::RegisterBroker(registration) = command else { return };
    let restarted = before.broker(registration.id).map(|b| b.incarnation) != Some(registration.incarnation);
    for topic in before.topics() {
        for (index, old) in (0..).zip(&topic.partitions) {
            let new = after.partition(topic.id, index).expect("registration deletes nothing");
            let led = old.leader == Some(registration.id);
            assert!(
                !(led && restarted) || new.leader_epoch == old.leader_epoch + 1,
                "no second leadership in an epoch"
            );
            assert!(
                old.leader == new.leader || new.leader_epoch > old.leader_epoch,
                "a new leader has a new epoch"
            );
        }
    }
}

/// A partition whose in-sync or eligible replica is in service has a leader.
fn check_led(image: &Image) {
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        let eligible = partition.isr.iter().chain(&partition.elr).any(|id| image.is_unfenced(*id));
        assert!(!eligible || partition.leader.is_some(), "someone could lead: {partition:?}");
    }
}

/// The delta turns what shards knew before into what they must know after.
fn check_delta(before: &Image, after: &Image) {
    let delta = Delta::between(before, after);
    let mut topics: BTreeMap<Uuid, Topic> =
        before.topics().map(|topic| (topic.id, (**topic).clone())).collect();
    for topic in &delta.deleted {
        assert!(topics.remove(&topic.id).is_some());
    }
    for topic in &delta.created {
        assert!(topics.insert(topic.id, (**topic).clone()).is_none());
    }
    for changed in &delta.changed {
        let topic = topics.get_mut(&changed.topic.id).expect("what changed was there");
        assert!(changed.settings || !changed.partitions.is_empty(), "a delta says something");
        for partition in &changed.partitions {
            let index = partition.index as usize;
            assert_eq!(topic.partitions.get(index).cloned(), partition.before);
            topic.partitions.truncate(topic.partitions.len().max(index));
            if index < topic.partitions.len() {
                topic.partitions[index] = partition.after.clone();
            } else {
                topic.partitions.push(partition.after.clone());
            }
        }
        if changed.settings {
            topic.settings = changed.topic.settings.clone();
        }
    }
    let expected: BTreeMap<Uuid, Topic> = after.topics().map(|topic| (topic.id, (**topic).clone())).collect();
    assert_eq!(topics, expected);
    assert_eq!(delta.cluster_settings, before.cluster_settings() != after.cluster_settings());
    assert!(Delta::between(after, after).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_sequence_of_commands_keeps_every_invariant(brokers in 0..4i32, commands in prop::collection::vec(command(), 1..25)) {
        let mut cluster = Cluster::of(brokers);
        let mut used: BTreeMap<Uuid, String> = BTreeMap::new();
        for command in &commands {
            let before = cluster.image.clone();
            let reply = cluster.run(command);
            let after = &cluster.image;
            let old = epochs(&before);
            for (partition, (leader_epoch, partition_epoch)) in epochs(after) {
                let was = old.get(&partition).copied().unwrap_or((0, 0));
                prop_assert!(was.0 <= leader_epoch && was.1 <= partition_epoch, "epochs never go back");
            }
            for topic in after.topics() {
                let name = used.entry(topic.id).or_insert_with(|| topic.name.to_string());
                prop_assert_eq!(&**name, &*topic.name, "an id names one topic for ever");
            }
            check_leaders(&before, after, command);
            check_led(after);
            check_delta(&before, after);
            check_reply(&reply, after);
        }
        replay(&cluster)?;
    }
}

/// What the answer says is what the image holds.
fn check_reply(reply: &Reply, after: &Image) {
    match reply {
        Reply::Deleted(results) => {
            for deleted in results.iter().filter(|deleted| deleted.result.is_ok()) {
                assert!(after.topic(deleted.id.expect("what was deleted was found")).is_none());
            }
        }
        Reply::Created(results) => {
            for (name, result) in results {
                let exists = matches!(result, Err(error) if error.code == ErrorCode::TOPIC_ALREADY_EXISTS);
                assert!(!exists || after.topic_named(name).is_some());
            }
        }
        _ => {}
    }
}

/// The log read back from bytes makes the same image, and so does a snapshot of it.
fn replay(cluster: &Cluster) -> Result<(), TestCaseError> {
    let mut again = Image::default();
    for batch in &cluster.log {
        again.apply_batch(&Batch::decode(&batch.encode()).expect("what was written can be read"));
    }
    prop_assert_eq!(&again, &cluster.image);
    let mut restored = Image::default();
    if let Some(snapshot) = cluster.image.snapshot() {
        restored.apply_batch(&Batch::decode(&snapshot.encode()).expect("what was written can be read"));
    }
    restored.check();
    prop_assert_eq!(&restored, &cluster.image);
    Ok(())
}
