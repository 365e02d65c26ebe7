//! Answers to questions about this shard's partitions, and the way to ask about partitions wherever they are.

use crate::machine::error::ErrorCode;
use crate::shard::Shard;
use crate::shard::all::all;
use crate::shard::ask::{ActiveProducer, Ask, Question, Told};
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Step, pause};
use crate::shard::produce::Waiter;
use futures_channel::oneshot;
use ringlog_storage::reader::Found;
use ringlog_storage::wal::Lsn;
use std::pin::Pin;
use std::rc::Rc;

type LocalBoxed<T> = Pin<Box<dyn Future<Output = T>>>;

/// ListOffsets' special timestamps.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

impl Shard {
    /// Asks about partitions, on whatever shards they are. The answers are in the order asked.
    pub async fn ask(self: &Rc<Self>, asks: Vec<Ask>) -> Vec<Told> {
        let mut told: Vec<Option<Told>> = asks.iter().map(|_| None).collect();
        let mut groups: Vec<Vec<(usize, Ask)>> = (0..self.node.shards).map(|_| Vec::new()).collect();
        for (place, ask) in asks.into_iter().enumerate() {
            let shard = self.node.shard_of(&ask.key);
            groups[shard].push((place, ask));
        }
        let ask = |(shard, group): (usize, Vec<(usize, Ask)>)| -> LocalBoxed<Vec<(usize, Told)>> {
            let me = Rc::clone(self);
            if shard == self.id {
                // In a task of its own: who asks may not wait for the answer, what was begun takes effect all the same.
                let answers = glommio::spawn_local(async move { me.answer_asks(group).await }).detach();
                return Box::pin(
                    async move { answers.await.expect("it ends with its shard at the earliest") },
                );
            }
            let there = move |shard: Rc<Shard>| async move { shard.answer_asks(group).await };
            Box::pin(async move { me.call_async(shard, there).await })
        };
        let asked = groups.into_iter().enumerate().filter(|(_, group)| !group.is_empty()).map(ask).collect();
        for (place, answer) in all(asked).await.into_iter().flatten() {
            told[place] = Some(answer);
        }
        told.into_iter().map(|t| t.expect("every question is answered")).collect()
    }

    async fn answer_asks(self: &Rc<Self>, asks: Vec<(usize, Ask)>) -> Vec<(usize, Told)> {
        let answer = |(place, ask): (usize, Ask)| async move {
            (place, self.answer_ask(&ask).await.unwrap_or_else(Told::Error))
        };
        all(asks.into_iter().map(answer).collect()).await
    }

    async fn answer_ask(self: &Rc<Self>, ask: &Ask) -> Result<Told, ErrorCode> {
        let known = self.partitions.borrow().place(&ask.key).is_some_and(|p| matches!(p, Place::Here(_)));
        if !known {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let partition = self.led(&ask.key, ask.leader_epoch)?;
        match ask.question {
            Question::Offset { timestamp } => self.offset_at(&partition, timestamp).await,
            Question::DeleteBefore { offset } => self.delete_before(&partition, offset).await,
            Question::EpochEnd { epoch } => {
                let store = self.store.borrow();
                let end = store.end_offset(partition.ix);
                let (epoch, end_offset) =
                    store.epochs(partition.ix).end_offset_for(epoch, end).unwrap_or((-1, -1));
                Ok(Told::EpochEnd { epoch, end_offset })
            }
            Question::Size => Ok(Told::Size(self.store.borrow().bytes(partition.ix))),
            Question::Producers => {
                let store = self.store.borrow();
                let producers = store.producers(partition.ix).active().map(|p| ActiveProducer {
                    producer_id: p.producer_id,
                    producer_epoch: p.epoch,
                    last_sequence: p.last_sequence,
                    last_timestamp: p.last_timestamp,
                });
                Ok(Told::Producers(producers.collect()))
            }
        }
    }

    async fn offset_at(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        timestamp: i64,
    ) -> Result<Told, ErrorCode> {
        let (start, limit) = (self.store.borrow().start_offset(partition.ix), self.high_watermark(partition));
        let leader_epoch = partition.leader_epoch.get();
        let at = |offset: i64, leader_epoch: i32| Told::Offset { offset, timestamp: -1, leader_epoch };
        match timestamp {
            LATEST => Ok(at(limit, leader_epoch)),
            EARLIEST | EARLIEST_LOCAL => {
                let epoch = self.store.borrow().epochs(partition.ix).epoch_at(start);
                Ok(at(start, epoch.unwrap_or(leader_epoch)))
            }
            // Nothing is tiered: no offset.
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(at(-1, -1)),
            MAX_TIMESTAMP => {
                let newest = if partition.is_async() {
                    self.store.borrow().newest(partition.ix)
                } else {
                    self.store.borrow().newest_durable(partition.ix)
                };
                if newest < 0 { Ok(at(-1, -1)) } else { self.find_time(partition, newest, limit).await }
            }
            timestamp if timestamp >= 0 => self.find_time(partition, timestamp, limit).await,
            _ => Err(ErrorCode::UNSUPPORTED_VERSION),
        }
    }

    /// The first record below `limit` whose timestamp is at least `timestamp`.
    async fn find_time(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        timestamp: i64,
        limit: i64,
    ) -> Result<Told, ErrorCode> {
        // Planned only when it is its turn: a plan keeps chunks in memory.
        let permit = self.cold_reads.acquire_permit(1).await;
        let _permit = permit.expect("the semaphore lives as long as its shard");
        let found = loop {
            if partition.deleted.get() {
                return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
            let start = self.store.borrow().start_offset(partition.ix);
            let plan = self.store.borrow().search(partition.ix, timestamp, limit);
            let (disk, segments) = (self.node.disk.clone(), self.node.segments.clone());
            let search = move || plan.run(&segments, &*disk);
            let found = glommio::executor().spawn_blocking(search).await;
            pause(Step::Read).await;
            let moved = partition.deleted.get() || self.store.borrow().start_offset(partition.ix) != start;
            // Files that the plan named may have been deleted since.
            if found.is_ok() || !moved {
                break found;
            }
        };
        match found {
            Ok(Some(Found { offset, timestamp, leader_epoch })) => {
                Ok(Told::Offset { offset, timestamp, leader_epoch })
            }
            Ok(None) => Ok(Told::Offset { offset: -1, timestamp: -1, leader_epoch: -1 }),
            Err(error) => {
                let index = partition.key.partition;
                tracing::error!("searching partition {index} of {}: {error}", partition.topic);
                Err(ErrorCode::KAFKA_STORAGE_ERROR)
            }
        }
    }

    async fn delete_before(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        offset: i64,
    ) -> Result<Told, ErrorCode> {
        if !partition.config.borrow().cleanup_policy.delete {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        self.appended_before(partition).await;
        if partition.deleted.get() {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let limit = self.high_watermark(partition);
        let to = if offset == -1 { limit } else { offset };
        let start = self.store.borrow().start_offset(partition.ix);
        if to < 0 || to > limit {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if to > start {
            let lsn = self.store.borrow_mut().advance_start(partition.ix, to);
            self.pump();
            self.durable(lsn).await;
            if partition.deleted.get() {
                return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
        }
        Ok(Told::LogStart(self.store.borrow().start_offset(partition.ix)))
    }

    /// Waits until what was sent to a partition before is appended and durable: then it can be deleted.
    async fn appended_before(self: &Rc<Self>, partition: &Rc<Partition>) {
        let (tell, told) = oneshot::channel();
        // An append of nothing is refused in its turn, behind all that waits for something off the shard.
        let turn = Waiter::Internal(Box::new(move |_, _| {
            let _ = tell.send(());
        }));
        self.submit(partition, &[], None, true, -1, turn);
        let _ = told.await;
        let last = self.store.borrow().wal().next_lsn() - 1;
        self.pump();
        self.durable(last).await;
    }

    /// Waits until a frame of the log is durable.
    pub async fn durable(self: &Rc<Self>, lsn: Lsn) {
        while self.store.borrow().wal().durable() < lsn {
            let signal = Rc::new(crate::shard::watch::Signal::default());
            self.durability.borrow_mut().push(Rc::clone(&signal));
            signal.wait().await;
        }
    }
}
