//! The shard's partitions, kept in step with the metadata image, and what waits on each of them.

use crate::machine::config::{Compression, Durability, TimestampType, TopicConfig};
use crate::machine::metadata::{Delta, Image, Partition as PartitionRecord, Topic};
use crate::machine::unsynced::Unsynced;
use crate::shard::Shard;
use crate::shard::produce::{PendingAppend, Waiter};
use crate::shard::watch::Watcher;
use hashbrown::HashMap;
use ringlog_net::TopicRef;
use ringlog_net::produce::PartitionResult;
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{self, Rules};
use ringlog_storage::compression::Codec;
use ringlog_storage::store::{Event, LogSettings, PartitionIx};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// Most bytes that a batch may decompress to where it must be opened.
pub const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// A partition of this shard.
pub struct Partition {
    /// Topic id and index.
    pub key: PartitionKey,
    /// The topic's name.
    pub topic: Rc<str>,
    /// Its place in the store.
    pub ix: PartitionIx,
    /// Its topic's options.
    pub config: RefCell<Rc<TopicConfig>>,
    /// What batches must comply with.
    pub rules: RefCell<Rules>,
    /// The epoch that this broker leads it in.
    pub leader_epoch: Cell<i32>,
    /// Appends that wait for something off the shard, and those behind them.
    pub queue: RefCell<VecDeque<PendingAppend>>,
    /// Produce requests that wait until their records are durable, by the offset after their last one.
    pub waiters: RefCell<VecDeque<(i64, PartitionResult, Waiter)>>,
    /// What was answered from memory and is not durable yet, where `flush.ms` bounds it.
    pub unsynced: RefCell<Unsynced>,
    /// Fetch requests that wait for records.
    pub watchers: RefCell<Vec<Watcher>>,
    /// Deleted with its topic.
    pub deleted: Cell<bool>,
}

/// A topic as requests see it: where each of its partitions is.
pub struct TopicView {
    /// Id.
    pub id: Uuid,
    /// Name.
    pub name: Rc<str>,
    /// By index: this shard's own, or the number of the shard.
    pub partitions: Vec<Place>,
}

/// Where a partition is.
#[derive(Clone)]
pub enum Place {
    /// Here.
    Here(Rc<Partition>),
    /// On that shard.
    Shard(usize),
}

/// See the module's documentation.
#[derive(Default)]
pub struct Partitions {
    by_name: HashMap<Rc<str>, Rc<TopicView>, foldhash::fast::RandomState>,
    by_id: HashMap<Uuid, Rc<TopicView>, foldhash::fast::RandomState>,
    by_ix: HashMap<PartitionIx, Rc<Partition>, foldhash::fast::RandomState>,
}

impl Partitions {
    /// The topic that a request names.
    pub fn topic(&self, topic: &TopicRef<'_>) -> Option<&Rc<TopicView>> {
        match topic {
            TopicRef::Name(name) => self.by_name.get(*name),
            TopicRef::Id(id) => self.by_id.get(id),
        }
    }

    /// Where a partition is; `None` where there is none.
    pub fn place(&self, key: &PartitionKey) -> Option<Place> {
        let topic = self.by_id.get(&key.topic)?;
        topic.partitions.get(usize::try_from(key.partition).ok()?).cloned()
    }

    /// This shard's partition with this key.
    pub fn here(&self, key: &PartitionKey) -> Option<Rc<Partition>> {
        match self.place(key)? {
            Place::Here(partition) => Some(partition),
            Place::Shard(_) => None,
        }
    }

    /// This shard's partition at this place of the store.
    pub fn at(&self, ix: PartitionIx) -> Option<Rc<Partition>> {
        self.by_ix.get(&ix).cloned()
    }

    /// How many partitions this shard has.
    pub fn count(&self) -> usize {
        self.by_ix.len()
    }

    /// All of this shard's partitions.
    pub fn all(&self) -> Vec<Rc<Partition>> {
        self.by_ix.values().cloned().collect()
    }
}

impl Partition {
    /// Whether consumers see records before they are durable.
    pub fn is_async(&self) -> bool {
        self.config.borrow().durability == Durability::Async
    }

    /// How long its log must be kept at the least, for retention: compacted topics keep everything.
    pub fn deletes(&self) -> bool {
        let policy = self.config.borrow().cleanup_policy;
        policy.delete && !policy.compact
    }

    fn configure(&self, config: &Rc<TopicConfig>) {
        *self.rules.borrow_mut() = rules(config);
        *self.config.borrow_mut() = Rc::clone(config);
    }
}

/// What a topic's options say to the check of batches.
pub fn rules(config: &TopicConfig) -> Rules {
    let compression = match config.compression {
        Compression::Producer => batch::Compression::Producer,
        Compression::Uncompressed => batch::Compression::Codec(Codec::None, 0),
        Compression::Gzip(level) => {
            let level = level.and_then(|l| i32::try_from(l).ok());
            batch::Compression::Codec(Codec::Gzip, level.unwrap_or(Codec::Gzip.default_level()))
        }
        Compression::Snappy => batch::Compression::Codec(Codec::Snappy, Codec::Snappy.default_level()),
        Compression::Lz4(level) => batch::Compression::Codec(Codec::Lz4, level),
        Compression::Zstd(level) => batch::Compression::Codec(Codec::Zstd, level),
    };
    Rules {
        max_message_bytes: config.max_message_bytes as usize,
        timestamp_type: match config.timestamp_type {
            TimestampType::CreateTime => batch::TimestampType::CreateTime,
            TimestampType::LogAppendTime => batch::TimestampType::LogAppendTime,
        },
        before_max_ms: config.timestamp_before_max_ms,
        after_max_ms: config.timestamp_after_max_ms,
        compression,
        keys_required: config.cleanup_policy.compact,
        decompressed_max_bytes: DECOMPRESSED_BYTES_MAX,
        zstd_allowed: true,
        from_coordinator: false,
    }
}

fn log_settings(config: &TopicConfig) -> LogSettings {
    LogSettings {
        segment_bytes: u64::from(config.segment_bytes),
        segment_ms: i64::try_from(config.segment_ms).unwrap_or(i64::MAX),
        segment_jitter_ms: i64::try_from(config.segment_jitter_ms).unwrap_or(i64::MAX),
        segment_index_bytes: config.segment_index_bytes,
        index_interval_bytes: config.index_interval_bytes,
    }
}

impl Shard {
    /// Takes over a newer image: opens, closes and configures partitions.
    pub fn apply_image(self: &Rc<Self>, image: &Arc<Image>) {
        let before = self.image.replace(Arc::clone(image));
        let delta = Delta::between(&before, image);
        let node = &self.node;
        *self.config.borrow_mut() = Rc::new(image.broker_config(node.node_id, &node.file));
        for topic in &delta.deleted {
            self.close_topic(topic);
        }
        for topic in &delta.created {
            self.open_topic(image, topic, 0);
        }
        for change in &delta.changed {
            let known = before.topic(change.topic.id).map_or(0, |topic| topic.partitions.len());
            if change.topic.partitions.len() > known {
                self.open_topic(image, &change.topic, known);
            }
            for partition in change.partitions.iter().filter(|p| p.before.is_some()) {
                self.lead(change.topic.id, partition.index, &partition.after);
            }
            if change.settings {
                self.configure_topic(image, &change.topic);
            }
        }
        if delta.cluster_settings || delta.broker_settings.contains(&node.node_id) {
            image.topics().for_each(|topic| self.configure_topic(image, topic));
        }
        let deleted: Vec<&str> = delta.deleted.iter().map(|topic| &*topic.name).collect();
        self.topics_deleted(&deleted);
    }

    /// Opens the partitions of a topic from index `known` on.
    fn open_topic(self: &Rc<Self>, image: &Image, topic: &Arc<Topic>, known: usize) {
        let config = Rc::new(image.topic_config(topic, self.node.node_id, &self.node.file));
        let mut partitions = self.partitions.borrow_mut();
        let before = partitions.by_id.get(&topic.id).cloned();
        let name: Rc<str> =
            before.as_ref().map_or_else(|| Rc::from(&*topic.name), |view| Rc::clone(&view.name));
        let mut places = before.map_or_else(Vec::new, |view| view.partitions.clone());
        for index in known..topic.partitions.len() {
            let partition = i32::try_from(index).expect("partitions of a topic are bounded");
            let key = PartitionKey { topic: topic.id, partition };
            let shard = self.node.shard_of(&key);
            if shard != self.id {
                places.push(Place::Shard(shard));
                continue;
            }
            let ix = self.store.borrow_mut().open(key, log_settings(&config));
            let partition = Rc::new(Partition {
                key,
                topic: Rc::clone(&name),
                ix,
                rules: RefCell::new(rules(&config)),
                config: RefCell::new(Rc::clone(&config)),
                leader_epoch: Cell::new(topic.partitions[index].leader_epoch),
                queue: RefCell::default(),
                waiters: RefCell::default(),
                unsynced: RefCell::default(),
                watchers: RefCell::default(),
                deleted: Cell::new(false),
            });
            partitions.by_ix.insert(ix, Rc::clone(&partition));
            self.node.partitions.fetch_add(1, Ordering::Relaxed);
            places.push(Place::Here(partition));
        }
        let view = Rc::new(TopicView { id: topic.id, name: Rc::clone(&name), partitions: places });
        partitions.by_name.insert(name, Rc::clone(&view));
        partitions.by_id.insert(topic.id, view);
    }

    fn close_topic(self: &Rc<Self>, topic: &Topic) {
        let Some(view) = self.partitions.borrow_mut().by_id.remove(&topic.id) else { return };
        // A topic of the same name may have been created in the same step.
        let mut partitions = self.partitions.borrow_mut();
        if partitions.by_name.get(&view.name).is_some_and(|named| named.id == topic.id) {
            partitions.by_name.remove(&view.name);
        }
        drop(partitions);
        for place in &view.partitions {
            let Place::Here(partition) = place else { continue };
            partition.deleted.set(true);
            self.partitions.borrow_mut().by_ix.remove(&partition.ix);
            self.node.partitions.fetch_sub(1, Ordering::Relaxed);
            self.store.borrow_mut().delete(partition.ix);
            self.fail_waiting(partition);
            self.wake_watchers(partition);
        }
    }

    fn lead(&self, topic: Uuid, index: i32, record: &PartitionRecord) {
        if let Some(partition) = self.partitions.borrow().here(&PartitionKey { topic, partition: index }) {
            partition.leader_epoch.set(record.leader_epoch);
        }
    }

    fn configure_topic(&self, image: &Image, topic: &Topic) {
        let config = Rc::new(image.topic_config(topic, self.node.node_id, &self.node.file));
        let view = self.partitions.borrow().by_id.get(&topic.id).cloned();
        for place in view.iter().flat_map(|view| &view.partitions) {
            if let Place::Here(partition) = place {
                partition.configure(&config);
                self.store.borrow_mut().configure(partition.ix, log_settings(&config));
            }
        }
    }

    /// Tells those who wait on partitions what happened in the store. Returns whether anything did.
    pub fn deliver_events(self: &Rc<Self>) -> bool {
        let mut any = false;
        loop {
            let Some(event) = self.store.borrow_mut().next_event() else { return any };
            any = true;
            let (Event::Durable(ix)
            | Event::BlockLoaded(ix)
            | Event::Truncated(ix)
            | Event::TruncationFailed(ix)) = event;
            let Some(partition) = self.partitions.borrow().at(ix) else { continue };
            match event {
                Event::Durable(_) => {
                    self.acknowledge(&partition);
                    if !partition.is_async() {
                        self.wake_watchers(&partition);
                    }
                }
                Event::BlockLoaded(_) | Event::Truncated(_) | Event::TruncationFailed(_) => {
                    self.resume_queue(&partition);
                }
            }
        }
    }

    /// Offset below which consumers may read: the high watermark.
    pub fn high_watermark(&self, partition: &Partition) -> i64 {
        let store = self.store.borrow();
        if partition.is_async() { store.end_offset(partition.ix) } else { store.durable_offset(partition.ix) }
    }
}
