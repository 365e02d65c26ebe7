//! Registration of brokers, and what it does to the partitions they hold.

use super::Context;
use crate::machine::config::{Durability, Settings, TopicConfig};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::command::{ApiError, Registration};
use crate::machine::metadata::election::{Departure, depart, elect, with_epochs};
use crate::machine::metadata::image::Image;
use crate::machine::metadata::record::{Broker, BrokerState, Partition, Record, Topic};

/// Registers a broker. A new process (incarnation) gives up everything that the one before led, in new leader
/// epochs, in the same batch, so that no broker leads twice in one epoch; where it may, it is elected again at once.
pub(super) fn register(
    image: &Image,
    context: &Context<'_>,
    registration: &Registration,
    records: &mut Vec<Record>,
) -> Result<i64, ApiError> {
    check_identity(image, registration)?;
    let before = image.broker(registration.id);
    if let Some(known) = before.filter(|known| known.incarnation == registration.incarnation) {
        // The same registration again: its answer got lost.
        return Ok(known.epoch);
    }
    let newest = image.brokers().map(|broker| broker.epoch).max();
    let epoch = newest.map_or(0, |epoch| epoch + 1);
    let new_directory = before.is_some_and(|known| known.directory != registration.directory);
    records.push(Record::Broker(broker(registration, epoch)));
    // Most topics set nothing of their own: their options are resolved once.
    let plain = TopicConfig::resolve(&Settings::new(), image.layers(context.node_id, context.settings));
    for topic in image.topics_by_name() {
        let own = (!topic.settings.is_empty()).then(|| context.topic_config(image, topic));
        let config = own.as_ref().unwrap_or(&plain);
        for (index, partition) in (0..).zip(&topic.partitions) {
            if !partition.replicas.contains(&registration.id) {
                continue;
            }
            let lost = new_directory || registration.lost.contains(&(topic.id, index));
            let how = if lost {
                Departure::Lost
            } else if !registration.clean && config.durability == Durability::Async {
                Departure::Unsynced
            } else if !registration.unfenced {
                Departure::Fenced
            } else {
                Departure::Restarted
            };
            let min_isr = config.min_insync(partition.replicas.len());
            let mut after = depart(partition, registration.id, how, min_isr);
            if after.leader.is_none() {
                let usable = |id| {
                    if id == registration.id { registration.unfenced && !lost } else { image.is_unfenced(id) }
                };
                elect(&mut after, usable, config.unclean_leader_election);
            }
            let gave_up = partition.leader == Some(registration.id);
            records.extend(partition_record(topic, index, partition, after, gave_up));
        }
    }
    Ok(epoch)
}

fn partition_record(
    topic: &Topic,
    index: i32,
    before: &Partition,
    after: Partition,
    gave_up: bool,
) -> Option<Record> {
    let partition = with_epochs(before, after, gave_up)?;
    Some(Record::Partition { topic: topic.id, index, partition })
}

fn check_identity(image: &Image, registration: &Registration) -> Result<(), ApiError> {
    if registration.id < 0 {
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, "Invalid negative broker ID."));
    }
    match (image.cluster_id(), registration.cluster_id) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(ApiError::new(
            ErrorCode::INCONSISTENT_CLUSTER_ID,
            format!(
                "Expected cluster ID {}, but got cluster ID {}",
                super::super::id_text(ours),
                super::super::id_text(theirs)
            ),
        )),
        _ => Ok(()),
    }
}

fn broker(registration: &Registration, epoch: i64) -> Broker {
    Broker {
        id: registration.id,
        directory: registration.directory,
        incarnation: registration.incarnation,
        epoch,
        endpoints: registration.endpoints.clone(),
        rack: registration.rack.clone(),
        features: registration.features.clone(),
        capacity: registration.capacity,
        state: if registration.unfenced { BrokerState::Unfenced } else { BrokerState::Fenced },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::{Cluster, registration};
    use crate::machine::metadata::{Command, Reply};
    use uuid::Uuid;

    fn restarted(id: i32, incarnation: u128) -> Registration {
        Registration { incarnation: Uuid::from_u128(incarnation), ..registration(id) }
    }

    fn register(cluster: &mut Cluster, registration: Registration) -> i64 {
        let Reply::Registered(result) = cluster.run(&Command::RegisterBroker(registration)) else { panic!() };
        result.unwrap()
    }

    #[test]
    fn a_single_node_leads_again_in_a_new_epoch_after_every_start() {
        let mut cluster = Cluster::of(1);
        let id = cluster.topic("t", 3, 1);
        for start in 1..=3 {
            let epoch = register(&mut cluster, restarted(1, 7000 + start));
            assert_eq!(epoch, start as i64);
            for index in 0..3 {
                let partition = cluster.image.partition(id, index).unwrap();
                assert_eq!((partition.leader, partition.leader_epoch), (Some(1), start as i32));
                assert_eq!(partition.isr, [1]);
            }
        }
    }

    #[test]
    fn the_same_incarnation_changes_nothing() {
        let mut cluster = Cluster::of(2);
        cluster.topic("t", 3, 2);
        let decision = cluster.decide(&Command::RegisterBroker(registration(2)));
        assert!(decision.records.is_empty());
        assert_eq!(decision.reply, Reply::Registered(Ok(1)));
    }

    #[test]
    fn a_fenced_restart_hands_leadership_to_others_in_the_same_batch() {
        let mut cluster = Cluster::of(3);
        let id = cluster.topic("t", 3, 3);
        let batches = cluster.log.len();
        register(&mut cluster, Registration { unfenced: false, ..restarted(1, 7000) });
        assert_eq!(cluster.log.len(), batches + 1);
        for partition in &cluster.image.topic(id).unwrap().partitions {
            assert!(partition.leader.is_some_and(|leader| leader != 1));
            assert_eq!(partition.isr.len(), 2);
            assert_eq!(partition.leader_epoch, i32::from(partition.replicas[0] == 1));
        }
        assert_eq!(cluster.image.load(1).leaders, 0);
    }

    #[test]
    fn the_last_replica_keeps_its_claim_while_it_is_fenced() {
        let mut cluster = Cluster::of(1);
        let id = cluster.topic("t", 1, 1);
        register(&mut cluster, Registration { unfenced: false, ..restarted(1, 7000) });
        let partition = cluster.image.partition(id, 0).unwrap().clone();
        assert_eq!((partition.leader, &partition.isr[..], &partition.elr[..]), (None, &[][..], &[1][..]));
        register(&mut cluster, restarted(1, 7001));
        let partition = cluster.image.partition(id, 0).unwrap();
        assert_eq!((partition.leader, &partition.isr[..], partition.leader_epoch), (Some(1), &[1][..], 2));
    }

    #[test]
    fn a_damaged_or_replaced_disk_never_leads_what_it_lost() {
        let mut cluster = Cluster::of(1);
        let (whole, damaged) = (cluster.topic("whole", 1, 1), cluster.topic("damaged", 1, 1));
        register(&mut cluster, Registration { lost: vec![(damaged, 0)], ..restarted(1, 7000) });
        assert_eq!(cluster.image.partition(whole, 0).unwrap().leader, Some(1));
        let offline = cluster.image.partition(damaged, 0).unwrap().clone();
        assert_eq!((offline.leader, offline.isr.len(), offline.elr.len()), (None, 0, 0));
        register(&mut cluster, Registration { directory: Uuid::from_u128(1), ..restarted(1, 7001) });
        assert_eq!(cluster.image.partition(whole, 0).unwrap().leader, None);
    }

    #[test]
    fn what_is_lost_is_led_by_nobody_even_where_unclean_elections_are_allowed() {
        let mut cluster = Cluster::of(1).set("unclean.leader.election.enable", "true");
        let id = cluster.topic("t", 1, 1);
        register(&mut cluster, Registration { lost: vec![(id, 0)], ..restarted(1, 7000) });
        assert_eq!(cluster.image.partition(id, 0).unwrap().leader, None);
        // Repaired, with what was lost accepted: recovery finds nothing wrong any more.
        register(&mut cluster, restarted(1, 7001));
        let partition = cluster.image.partition(id, 0).unwrap();
        assert_eq!((partition.leader, &partition.isr[..]), (Some(1), &[1][..]));
    }

    #[test]
    fn a_crash_costs_an_async_topic_its_place_in_sync_and_a_synced_one_nothing() {
        let mut cluster = Cluster::of(2).set("ringlog.durability", "async");
        let id = cluster.topic("t", 2, 2);
        register(&mut cluster, Registration { clean: false, ..restarted(1, 7000) });
        for partition in &cluster.image.topic(id).unwrap().partitions {
            assert_eq!((&partition.isr[..], partition.leader), (&[2][..], Some(2)));
        }
        let mut cluster = Cluster::of(2);
        let id = cluster.topic("t", 2, 2);
        register(&mut cluster, Registration { clean: false, ..restarted(1, 7000) });
        assert!(cluster.image.topic(id).unwrap().partitions.iter().all(|partition| partition.isr.len() == 2));
    }

    #[test]
    fn another_clusters_broker_is_refused() {
        let mut cluster = Cluster::of(1);
        cluster.run(&Command::FormCluster { cluster_id: Uuid::from_u128(5) });
        let stranger = Registration { cluster_id: Some(Uuid::from_u128(6)), ..restarted(2, 7000) };
        let decision = cluster.decide(&Command::RegisterBroker(stranger));
        assert!(decision.records.is_empty());
        let Reply::Registered(Err(error)) = decision.reply else { panic!() };
        assert_eq!(error.code, ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
}
