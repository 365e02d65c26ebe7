//! Long polls: a fetch that found too little leaves a watcher at each of its partitions, here or on their shards,
//! and is woken by the next append that becomes visible. Nothing polls.

use crate::shard::Shard;
use crate::shard::partitions::Partition;
use ringlog_storage::PartitionKey;
use std::cell::Cell;
use std::rc::Weak;
use std::task::{Poll, Waker};

/// Somebody who waits for records of a partition. Used up by waking.
#[derive(Clone)]
pub enum Watcher {
    /// A fetch of this shard.
    Here(Weak<Signal>),
    /// A fetch of another shard, by its number there.
    Shard {
        /// The shard.
        shard: usize,
        /// The fetch's number.
        fetch: u64,
    },
}

/// Something that one task waits for and others set.
#[derive(Default)]
pub struct Signal {
    set: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Signal {
    /// Sets it.
    pub fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits until it is set, and clears it.
    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            if self.set.take() {
                return Poll::Ready(());
            }
            self.waker.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

impl Shard {
    /// Leaves a watcher at a partition of this shard, or wakes it at once where there is already something at or
    /// beyond what it has `seen`, or the partition is gone.
    pub fn watch(&self, key: &PartitionKey, seen: i64, watcher: Watcher) {
        let partition = self.partitions.borrow().here(key);
        match partition {
            Some(partition) if self.high_watermark(&partition) <= seen => {
                let mut watchers = partition.watchers.borrow_mut();
                // A fetch that timed out leaves its watcher behind; those of a busy partition are used up soon,
                // those of an idle one must not gather.
                watchers.retain(|other| !other.is_dead());
                watchers.push(watcher);
            }
            _ => self.wake(watcher),
        }
    }

    /// Wakes all who wait for records of a partition.
    pub fn wake_watchers(&self, partition: &Partition) {
        if partition.watchers.borrow().is_empty() {
            return;
        }
        for watcher in partition.watchers.take() {
            self.wake(watcher);
        }
    }

    /// Takes back the watchers of a fetch of another shard.
    pub fn unwatch(&self, keys: &[PartitionKey], from: usize, number: u64) {
        for key in keys {
            if let Some(partition) = self.partitions.borrow().here(key) {
                partition.watchers.borrow_mut().retain(|watcher| {
                    !matches!(watcher, Watcher::Shard { shard, fetch } if *shard == from && *fetch == number)
                });
            }
        }
    }

    fn wake(&self, watcher: Watcher) {
        match watcher {
            Watcher::Here(signal) => {
                if let Some(signal) = signal.upgrade() {
                    signal.set();
                }
            }
            Watcher::Shard { shard, fetch } => self.run_on(shard, move |shard| shard.wake_fetch(fetch)),
        }
    }

    /// A partition on another shard has something for fetch number `fetch`.
    fn wake_fetch(&self, fetch: u64) {
        if let Some(signal) = self.fetches.borrow().get(&fetch) {
            signal.set();
        }
    }
}

impl Watcher {
    /// Whether the fetch has ended: it alone held its signal.
    fn is_dead(&self) -> bool {
        matches!(self, Watcher::Here(signal) if signal.strong_count() == 0)
    }
}
