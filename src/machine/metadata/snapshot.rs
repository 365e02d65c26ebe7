//! An image as one batch that makes it again.

use super::batch::Batch;
use super::image::Image;
use super::record::{Record, Topic};
use crate::machine::config::Settings;

impl Image {
    /// The batch that makes an equal image out of an empty one; none while nothing was applied yet.
    #[must_use]
    pub fn snapshot(&self) -> Option<Batch> {
        let offset = self.offset?;
        let mut records =
            Vec::with_capacity(self.partitions + 2 * self.topic_count() + self.brokers.len() + 8);
        records.extend(self.cluster_id.map(|id| Record::Cluster { id }));
        records.extend(
            self.features.iter().map(|(name, level)| Record::Feature { name: name.clone(), level: *level }),
        );
        records.extend(self.brokers.values().map(|broker| Record::Broker((**broker).clone())));
        records.extend(broker_settings(None, &self.cluster_settings));
        for (id, settings) in &self.broker_settings {
            records.extend(broker_settings(Some(*id), settings));
        }
        for topic in self.topics_by_name() {
            topic_records(topic, &mut records);
        }
        if self.next_producer_id > 0 {
            records.push(Record::ProducerIds { next: self.next_producer_id });
        }
        Some(Batch { offset, timestamp_ms: self.timestamp_ms, records })
    }
}

fn broker_settings(broker: Option<i32>, settings: &Settings) -> impl Iterator<Item = Record> {
    settings.iter().map(move |(name, value)| Record::BrokerSetting {
        broker,
        name: name.clone(),
        value: Some(value.clone()),
    })
}

fn topic_records(topic: &Topic, records: &mut Vec<Record>) {
    records.push(Record::Topic { id: topic.id, name: topic.name.to_string() });
    records.extend(topic.settings.iter().map(|(name, value)| Record::TopicSetting {
        topic: topic.id,
        name: name.clone(),
        value: Some(value.clone()),
    }));
    records.extend((0..).zip(&topic.partitions).map(|(index, partition)| Record::Partition {
        topic: topic.id,
        index,
        partition: (**partition).clone(),
    }));
}
