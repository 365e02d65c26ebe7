//! Every invariant of an image, asserted.

use std::collections::BTreeMap;

use super::image::{Image, Load};
use super::names::fold;
use super::record::{Partition, Topic};

impl Image {
    /// Asserts every invariant. Walks the whole image: for tests, the simulator and recovery.
    ///
    /// # Panics
    /// Where one does not hold.
    pub fn check(&self) {
        assert_eq!(self.topics.len(), self.names.len(), "names and ids are one to one");
        assert_eq!(self.topics.len(), self.folded_names.len(), "no two names collide");
        let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
        let mut partitions = 0;
        for topic in self.topics() {
            assert_eq!(self.topic_id(&topic.name), Some(topic.id), "every topic is found by name");
            assert_eq!(
                self.folded_names.get(&fold(&topic.name)),
                Some(&topic.name),
                "and by its folded name"
            );
            assert!(!topic.partitions.is_empty(), "a topic has partitions");
            partitions += topic.partitions.len();
            for partition in &topic.partitions {
                self.check_partition(topic, partition);
                for replica in &partition.replicas {
                    loads.entry(*replica).or_default().replicas += 1;
                }
                if let Some(leader) = partition.leader {
                    loads.entry(leader).or_default().leaders += 1;
                }
            }
        }
        assert_eq!(self.loads, loads, "what brokers carry is counted right");
        assert_eq!(self.partitions, partitions, "partitions are counted right");
        for (id, broker) in &self.brokers {
            assert_eq!(*id, broker.id, "brokers are found by id");
        }
        assert!(
            self.broker_settings.values().all(|settings| !settings.is_empty()),
            "nothing set, nothing kept"
        );
    }

    fn check_partition(&self, topic: &Topic, partition: &Partition) {
        let Partition { replicas, isr, elr, last_known_leader, leader, leader_epoch, partition_epoch } =
            partition;
        let distinct = |ids: &[i32]| ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id));
        let within = |ids: &[i32]| ids.iter().all(|id| replicas.contains(id));
        assert!(!replicas.is_empty() && distinct(replicas), "{}: replicas are distinct brokers", topic.name);
        assert!(
            replicas.iter().all(|id| self.brokers.contains_key(id)),
            "{}: replicas are known",
            topic.name
        );
        assert!(within(isr) && distinct(isr), "{}: in-sync replicas are replicas", topic.name);
        assert!(isr.iter().all(|id| self.is_unfenced(*id)), "{}: who is in sync is in service", topic.name);
        assert!(within(elr) && distinct(elr), "{}: eligible leaders are replicas", topic.name);
        assert!(elr.iter().all(|id| !isr.contains(id)), "{}: who is in sync is not in the ELR", topic.name);
        if let Some(leader) = leader {
            assert!(isr.contains(leader), "{}: the leader is in sync", topic.name);
            assert!(self.is_unfenced(*leader), "{}: the leader is in service", topic.name);
            assert!(last_known_leader.is_none(), "{}: last known leaders are for want of one", topic.name);
        }
        assert!(within(last_known_leader.as_slice()), "{}: the last known leader is a replica", topic.name);
        assert!(*leader_epoch >= 0 && *partition_epoch >= 0, "{}: epochs start at 0", topic.name);
    }
}
