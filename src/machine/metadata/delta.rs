//! What changed from one image to a later one, for shards: which partitions to open, close, lead or configure anew.
//!
//! It is found by comparing the two images, skipping all that they share, so it is right by construction for a
//! batch, for several, and for a snapshot that replaces the image.

use std::sync::Arc;

use super::image::Image;
use super::record::{Partition, Topic};
use uuid::Uuid;

/// A partition that is new or differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDelta {
    /// Index in its topic.
    pub index: i32,
    /// What it was; none if it is new.
    pub before: Option<Arc<Partition>>,
    /// What it is.
    pub after: Arc<Partition>,
}

/// A topic that exists in both images and differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDelta {
    /// The topic as it is.
    pub topic: Arc<Topic>,
    /// Its partitions that are new or differ, by index.
    pub partitions: Vec<PartitionDelta>,
    /// Whether its own settings differ.
    pub settings: bool,
}

/// The difference between two images. Topics are ordered by id, so that equal changes give equal deltas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that are there now and were not before, with all their partitions.
    pub created: Vec<Arc<Topic>>,
    /// Topics that were there and are not any more, as they were.
    pub deleted: Vec<Arc<Topic>>,
    /// Topics that were and are there, and differ.
    pub changed: Vec<TopicDelta>,
    /// Brokers that are new, gone or differ.
    pub brokers: Vec<i32>,
    /// Whether the settings of all brokers differ: every topic's options may.
    pub cluster_settings: bool,
    /// Brokers whose own settings differ.
    pub broker_settings: Vec<i32>,
    /// Whether finalized features differ.
    pub features: bool,
}

impl Delta {
    /// What changed from `before` to `after`.
    #[must_use]
    pub fn between(before: &Image, after: &Image) -> Delta {
        let mut delta = Delta {
            brokers: differing(&before.brokers, &after.brokers),
            cluster_settings: before.cluster_settings != after.cluster_settings,
            broker_settings: differing(&before.broker_settings, &after.broker_settings),
            features: before.features != after.features,
            ..Delta::default()
        };
        let mut ids: Vec<&Uuid> = before.topics.changed_keys(&after.topics);
        ids.sort_unstable();
        for id in ids {
            match (before.topic(*id), after.topic(*id)) {
                (None, Some(topic)) => delta.created.push(topic.clone()),
                (Some(topic), None) => delta.deleted.push(topic.clone()),
                (Some(old), Some(new)) if !Arc::ptr_eq(old, new) && old != new => {
                    delta.changed.push(TopicDelta::between(old, new));
                }
                _ => {}
            }
        }
        delta
    }

    /// Whether nothing differs that anyone has to act on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }
}

impl TopicDelta {
    fn between(old: &Topic, new: &Arc<Topic>) -> TopicDelta {
        let partitions = (0..)
            .zip(&new.partitions)
            .filter_map(|(index, after)| {
                let before = old.partitions.get(index as usize);
                let same = before.is_some_and(|before| Arc::ptr_eq(before, after) || before == after);
                (!same).then(|| PartitionDelta { index, before: before.cloned(), after: after.clone() })
            })
            .collect();
        TopicDelta { topic: new.clone(), partitions, settings: old.settings != new.settings }
    }
}

fn differing<V: PartialEq>(
    before: &std::collections::BTreeMap<i32, V>,
    after: &std::collections::BTreeMap<i32, V>,
) -> Vec<i32> {
    let mut ids: Vec<i32> = before.keys().chain(after.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| before.get(id) != after.get(id));
    ids
}
