//! Appending on the partition's shard: records are checked, appended, and acknowledged once they are durable.
//!
//! Appends to one partition take effect in the order in which they reached its shard. One that needs work off the
//! shard (decompression, its segment's last block) waits at the head of the partition's queue with the others
//! behind it.

use super::{Waiter, share};
use crate::clock::{monotonic_ms, wall_ms};
use crate::limits::MESSAGE_BYTES_MAX;
use crate::machine::error::ErrorCode;
use crate::shard::Shard;
use crate::shard::partitions::Partition;
use crate::shard::perturb::{Rule, Step, pause, undone};
use bytes::Bytes;
use ringlog_net::produce::PartitionResult;
use ringlog_storage::batch::{self, Checked, Refusal, Rules};
use ringlog_storage::producer::Verdict;
use std::rc::Rc;

/// Bytes on their way to the disk beyond which a topic with `ringlog.durability=async` is answered as one with
/// `commit`: its clients wait for the disk.
const ASYNC_BACKLOG_MAX: u64 = 16 << 20;

/// An append that waits its turn.
pub struct PendingAppend {
    records: Bytes,
    zstd_allowed: bool,
    internal: bool,
    acks: i16,
    waiter: Waiter,
    state: PendingState,
}

enum PendingState {
    Fresh,
    /// It is being checked off the shard.
    Out,
    /// Its partition's last block is being read, or its log is being cut.
    Held,
    Checked(Result<Checked<'static>, Refusal>),
}

/// What an append was told at once.
enum Appended {
    /// Done, or refused: the waiter knows or will be told when it is durable.
    Settled,
    /// Something must be done off the shard first.
    Wait(Waiter, PendingState),
}

impl Shard {
    /// Appends records to a partition of this shard, in their turn.
    pub fn submit(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        records: &[u8],
        shared: Option<&Bytes>,
        zstd_allowed: bool,
        acks: i16,
        waiter: Waiter,
    ) {
        let internal = matches!(waiter, Waiter::Internal(_));
        let mut append = PendingAppend {
            records: Bytes::new(),
            zstd_allowed,
            internal,
            acks,
            waiter,
            state: PendingState::Fresh,
        };
        if partition.queue.borrow().is_empty() || undone(Rule::AppendsQueue) {
            match self.try_append(partition, records, append) {
                None => return,
                Some(waiting) => append = waiting,
            }
        }
        append.records = share(records, shared);
        partition.queue.borrow_mut().push_back(append);
        if partition.queue.borrow().len() == 1 {
            self.start_off_shard(partition);
        }
    }

    /// Appends, or says that something must be done off the shard first.
    fn try_append(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        records: &[u8],
        append: PendingAppend,
    ) -> Option<PendingAppend> {
        let PendingAppend { zstd_allowed, internal, acks, waiter, state, .. } = append;
        if partition.deleted.get() {
            self.refuse(waiter, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None);
            return None;
        }
        let outcome = match state {
            PendingState::Checked(Ok(checked)) => self.append_checked(partition, &checked, acks, waiter),
            PendingState::Checked(Err(refusal)) => self.refuse_records(waiter, refusal),
            PendingState::Out => unreachable!("what is being checked stays at the head of its queue"),
            PendingState::Fresh | PendingState::Held => {
                let rules = rules_for(partition, zstd_allowed, internal);
                if batch::peek(records).is_ok_and(|info| batch::needs_decompression(&info, &rules)) {
                    Appended::Wait(waiter, PendingState::Fresh)
                } else {
                    match batch::check(records, &rules, wall_ms()) {
                        Ok(checked) => self.append_checked(partition, &checked, acks, waiter),
                        Err(refusal) => self.refuse_records(waiter, refusal),
                    }
                }
            }
        };
        match outcome {
            Appended::Settled => None,
            Appended::Wait(waiter, state) => {
                Some(PendingAppend { records: Bytes::new(), zstd_allowed, internal, acks, waiter, state })
            }
        }
    }

    fn append_checked(
        self: &Rc<Self>,
        partition: &Rc<Partition>,
        checked: &Checked<'_>,
        acks: i16,
        waiter: Waiter,
    ) -> Appended {
        let internal = matches!(waiter, Waiter::Internal(_));
        let index = partition.key.partition;
        let start = self.store.borrow().start_offset(partition.ix);
        let answer = |base_offset: i64, time: i64| PartitionResult {
            base_offset,
            log_append_time_ms: time,
            log_start_offset: start,
            ..PartitionResult::error(index, 0, None)
        };
        if checked.info.has_producer_id() && !internal {
            match self.store.borrow().judge(partition.ix, &checked.info) {
                Verdict::Append => {}
                Verdict::Duplicate { base_offset, last_offset, timestamp } => {
                    let time = if logged_time(checked) { timestamp } else { -1 };
                    self.answer_when_durable(partition, last_offset + 1, answer(base_offset, time), waiter);
                    return Appended::Settled;
                }
                Verdict::Refused(error) => {
                    self.refuse(waiter, ErrorCode(error.code()), Some(error.to_string()));
                    return Appended::Settled;
                }
            }
        }
        if self.is_read_only() && !internal {
            let text = "The disk is full: produce is refused until there is room again.".into();
            self.refuse(waiter, ErrorCode::KAFKA_STORAGE_ERROR, Some(text));
            return Appended::Settled;
        }
        let mut store = self.store.borrow_mut();
        if store.must_load_block(partition.ix) {
            // The check is repeated when the block is there: the records are borrowed and cannot wait.
            return Appended::Wait(waiter, PendingState::Held);
        }
        let appended = store.append(partition.ix, checked, partition.leader_epoch.get(), wall_ms());
        drop(store);
        self.counters.produce_bytes.add(checked.info.size as u64);
        self.counters.produce_records.add(u64::try_from(checked.info.record_count).unwrap_or(0));
        let time = if logged_time(checked) { checked.info.max_timestamp } else { -1 };
        let result = answer(appended.base_offset, time);
        if partition.is_async() {
            self.wake_watchers(partition);
        }
        // Memory that a client fills faster than the disk takes it is bounded by its requests in flight: also one
        // that is not answered ends when it is durable. Group state is never answered from memory.
        if self.may_run_ahead(partition, appended.base_offset) && acks != 0 && !internal {
            self.answer(waiter, result);
        } else {
            self.answer_when_durable(partition, appended.last_offset + 1, result, waiter);
        }
        Appended::Settled
    }

    /// Whether what was just appended at `offset` may be answered from memory: on an `async` topic, while neither too much
    /// nor too old an append is on its way to the disk.
    fn may_run_ahead(&self, partition: &Partition, offset: i64) -> bool {
        if !partition.is_async() {
            return false;
        }
        let backlog = self.store.borrow().wal().backlog_bytes();
        let flush_ms = partition.config.borrow().flush_ms;
        let in_time = flush_ms.is_none_or(|flush_ms| {
            let (mut unsynced, now) = (partition.unsynced.borrow_mut(), monotonic_ms());
            unsynced.appended(offset, now);
            unsynced.may_answer(flush_ms, now)
        });
        backlog < ASYNC_BACKLOG_MAX && in_time
    }

    /// Answers once everything below `end` is durable: a duplicate of an append in flight waits for the original.
    fn answer_when_durable(
        self: &Rc<Self>,
        partition: &Partition,
        end: i64,
        result: PartitionResult,
        waiter: Waiter,
    ) {
        if self.store.borrow().durable_offset(partition.ix) >= end {
            return self.answer(waiter, result);
        }
        let mut waiters = partition.waiters.borrow_mut();
        // A duplicate's original may be older than the newest append.
        let at = waiters.partition_point(|(other, _, _)| *other <= end);
        waiters.insert(at, (end, result, waiter));
    }

    /// Answers those whose records are durable now.
    pub fn acknowledge(self: &Rc<Self>, partition: &Partition) {
        let (durable, end) = {
            let store = self.store.borrow();
            (store.durable_offset(partition.ix), store.end_offset(partition.ix))
        };
        partition.unsynced.borrow_mut().durable(durable, end);
        loop {
            let mut waiters = partition.waiters.borrow_mut();
            if waiters.front().is_none_or(|(end, _, _)| *end > durable) {
                return;
            }
            let (_, result, waiter) = waiters.pop_front().expect("looked at just above");
            drop(waiters);
            self.answer(waiter, result);
        }
    }

    /// The partition is gone: nobody waits for it any more. That does not fail those who asked for no answer: they
    /// came before the deletion, and their connection goes on.
    pub fn fail_waiting(self: &Rc<Self>, partition: &Partition) {
        let appended = partition.waiters.take().into_iter().map(|(_, _, waiter)| waiter);
        let queued = partition.queue.take().into_iter().map(|append| append.waiter);
        for waiter in appended.chain(queued) {
            let silent = waiter.is_silent();
            let code = if silent { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
            self.refuse(waiter, code, None);
        }
    }

    /// Starts what the head of a partition's queue needs: its check off the shard. A block that is being read
    /// comes back by itself.
    fn start_off_shard(self: &Rc<Self>, partition: &Rc<Partition>) {
        let work = {
            let mut queue = partition.queue.borrow_mut();
            let Some(head) = queue.front_mut() else { return };
            if !matches!(head.state, PendingState::Fresh) {
                return;
            }
            head.state = PendingState::Out;
            let rules = rules_for(partition, head.zstd_allowed, head.internal);
            (head.records.clone(), rules)
        };
        let (shard, partition) = (Rc::clone(self), Rc::clone(partition));
        glommio::spawn_local(async move {
            let (records, rules) = work;
            let check = move || batch::check(&records, &rules, wall_ms()).map(Checked::into_owned);
            let checked = glommio::executor().spawn_blocking(check).await;
            pause(Step::Check).await;
            // The queue was emptied meanwhile where the partition was deleted.
            if let Some(head) = partition.queue.borrow_mut().front_mut() {
                assert!(matches!(head.state, PendingState::Out), "one check of the head at a time");
                head.state = PendingState::Checked(checked);
            }
            shard.resume_queue(&partition);
            shard.pump();
        })
        .detach();
    }

    /// Goes on with a partition's queue.
    pub fn resume_queue(self: &Rc<Self>, partition: &Rc<Partition>) {
        loop {
            let settled = |head: &mut PendingAppend| !matches!(head.state, PendingState::Out);
            // A head that is being checked comes back by itself.
            let Some(head) = partition.queue.borrow_mut().pop_front_if(settled) else { return };
            let records = head.records.clone();
            if let Some(mut waiting) = self.try_append(partition, &records, head) {
                waiting.records = records;
                partition.queue.borrow_mut().push_front(waiting);
                return self.start_off_shard(partition);
            }
        }
    }

    fn refuse_records(self: &Rc<Self>, waiter: Waiter, refusal: Refusal) -> Appended {
        let (code, text) = (refusal.code(), Some(refusal.message));
        let errors = refusal.record_errors.into_iter().map(|(index, text)| (index, Some(text))).collect();
        let result = PartitionResult { record_errors: errors, ..PartitionResult::error(0, code, text) };
        self.answer(waiter, result);
        Appended::Settled
    }
}

/// What a batch must comply with. The broker's own state is bounded by the log's frames, not by the topic's option.
fn rules_for(partition: &Partition, zstd_allowed: bool, internal: bool) -> Rules {
    let rules = partition.rules.borrow().clone();
    let max_message_bytes = if internal { MESSAGE_BYTES_MAX as usize } else { rules.max_message_bytes };
    Rules { zstd_allowed, from_coordinator: internal, max_message_bytes, ..rules }
}

/// Whether the batch carries the broker's time, which the answer then names.
fn logged_time(checked: &Checked<'_>) -> bool {
    checked.info.timestamp_type() == batch::TimestampType::LogAppendTime
}
