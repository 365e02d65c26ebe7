//! Applying records and batches to an image. The one way in which an image changes.

use std::sync::Arc;

use super::batch::Batch;
use super::image::Image;
use super::names::fold;
use super::record::{Partition, Record, Topic};
use crate::machine::config::Settings;
use uuid::Uuid;

impl Image {
    /// Applies a batch: all its records, then its offset.
    ///
    /// # Panics
    /// Where the batch does not follow what the image holds, that is, where the log is not the one that the image
    /// was made from: see [`Image::apply`].
    pub fn apply_batch(&mut self, batch: &Batch) {
        assert!(
            self.offset.is_none_or(|last| last < batch.offset),
            "batches are applied in order, each once"
        );
        for record in &batch.records {
            self.apply(record);
        }
        self.offset = Some(batch.offset);
        self.timestamp_ms = batch.timestamp_ms;
    }

    /// Applies one record.
    ///
    /// # Panics
    /// Where the record cannot follow what the image holds (a partition of a topic that is not there, an epoch
    /// that goes back). Records come from `decide` through a log with checksums, so that would be a bug.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Cluster { id } => {
                assert!(self.cluster_id.is_none_or(|known| known == *id), "a cluster keeps its id");
                self.cluster_id = Some(*id);
            }
            Record::Feature { name, level: 0 } => {
                self.features.remove(name);
            }
            Record::Feature { name, level } => {
                self.features.insert(name.clone(), *level);
            }
            Record::Broker(broker) => {
                let before = self.brokers.insert(broker.id, Arc::new(broker.clone()));
                assert!(
                    before.is_none_or(|before| before.epoch <= broker.epoch),
                    "broker epochs never go back"
                );
            }
            Record::Topic { id, name } => self.apply_topic(*id, name),
            Record::Partition { topic, index, partition } => self.apply_partition(*topic, *index, partition),
            Record::TopicDeleted { id } => self.apply_deletion(*id),
            Record::TopicSetting { topic, name, value } => {
                let topic = self.topics.get_mut(topic).expect("settings follow their topic");
                set(&mut Arc::make_mut(topic).settings, name, value.as_deref());
            }
            Record::BrokerSetting { broker: None, name, value } => {
                set(Arc::make_mut(&mut self.cluster_settings), name, value.as_deref());
            }
            Record::BrokerSetting { broker: Some(id), name, value } => {
                let settings = self.broker_settings.entry(*id).or_default();
                set(Arc::make_mut(settings), name, value.as_deref());
                if settings.is_empty() {
                    self.broker_settings.remove(id);
                }
            }
            Record::ProducerIds { next } => {
                assert!(self.next_producer_id <= *next, "a producer id is never handed out twice");
                self.next_producer_id = *next;
            }
        }
    }

    fn apply_topic(&mut self, id: Uuid, name: &str) {
        let name: Arc<str> = name.into();
        let topic = Topic { id, name: name.clone(), partitions: Vec::new(), settings: Settings::new() };
        assert!(self.topics.insert(id, Arc::new(topic)).is_none(), "a topic id is used once");
        assert!(self.names.insert(name.clone(), id).is_none(), "a topic name is used once at a time");
        let folded = self.folded_names.insert(fold(&name), name);
        assert!(folded.is_none(), "names that differ in '.' and '_' alone do not coexist");
    }

    fn apply_partition(&mut self, topic: Uuid, index: i32, partition: &Partition) {
        let topic = Arc::make_mut(self.topics.get_mut(&topic).expect("partitions follow their topic"));
        let index = usize::try_from(index).expect("indexes start at 0");
        let after = Arc::new(partition.clone());
        let before = match topic.partitions.get_mut(index) {
            Some(slot) => Some(std::mem::replace(slot, after)),
            None => {
                assert_eq!(topic.partitions.len(), index, "partitions of a topic come in order");
                topic.partitions.push(after);
                None
            }
        };
        if let Some(before) = before {
            assert!(before.leader_epoch <= partition.leader_epoch, "leader epochs never go back");
            assert!(
                before.partition_epoch < partition.partition_epoch,
                "every change has its partition epoch"
            );
            self.count(&before, -1);
        }
        self.count(partition, 1);
    }

    fn apply_deletion(&mut self, id: Uuid) {
        let topic = self.topics.remove(&id).expect("only a topic that exists is deleted");
        self.names.remove(&*topic.name).expect("every topic has its name");
        self.folded_names.remove(&fold(&topic.name)).expect("every name is there folded");
        for partition in &topic.partitions {
            self.count(partition, -1);
        }
    }

    /// Adds a partition to what its brokers carry, or takes it away.
    fn count(&mut self, partition: &Partition, sign: i64) {
        let add = |count: &mut u64| *count = count.checked_add_signed(sign).expect("counted before");
        for replica in &partition.replicas {
            add(&mut self.loads.entry(*replica).or_default().replicas);
        }
        if let Some(leader) = partition.leader {
            add(&mut self.loads.entry(leader).or_default().leaders);
        }
        if sign < 0 {
            self.loads.retain(|_, load| *load != super::Load::default());
        }
        self.partitions = self.partitions.checked_add_signed(sign as isize).expect("counted before");
    }
}

fn set(settings: &mut Settings, name: &str, value: Option<&str>) {
    match value {
        Some(value) => settings.insert(name.to_owned(), value.to_owned()),
        None => settings.remove(name),
    };
}
