//! Produce: records are checked, appended on their partition's shard, and acknowledged once they are durable.
//!
//! Appends to one partition take effect in the order in which they reached its shard. One that needs work off the
//! shard (decompression, its segment's last block) waits at the head of the partition's queue with the others
//! behind it.

use crate::clock::wall_ms;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::machine::budget::Reservation;
use crate::machine::connection::{CloseReason, RequestId};
use crate::machine::error::ErrorCode;
use crate::shard::Shard;
use crate::shard::connection::{Conn, Response};
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Rule, Step, pause, undone};
use bytes::{Bytes, BytesMut};
use ringlog_net::TopicRef;
use ringlog_net::frame::RequestHead;
use ringlog_net::produce::{PartitionResult, ProduceRequest, ProduceResponseWriter};
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{self, Checked, Refusal, Rules};
use ringlog_storage::producer::Verdict;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use uuid::Uuid;

/// Bytes on their way to the disk beyond which a topic with `ringlog.durability=async` is answered as one with
/// `commit`: its clients wait for the disk.
const ASYNC_BACKLOG_MAX: u64 = 16 << 20;
/// Versions from this one on may hold zstd batches (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// A topic as the response names it.
enum Label {
    Name(Rc<str>),
    Id(Uuid),
}

/// A produce request under way, on the shard of its connection.
pub struct Produce {
    conn: Rc<Conn>,
    id: RequestId,
    version: i16,
    correlation_id: i32,
    acks: i16,
    topics: Vec<(Label, usize)>,
    results: RefCell<Vec<PartitionResult>>,
    missing: Cell<usize>,
    reservation: Cell<Option<Reservation>>,
}

/// Parts of a produce request that another shard sent here.
pub struct RemoteProduce {
    shard: usize,
    number: u64,
    silent: bool,
    results: RefCell<Vec<(usize, PartitionResult)>>,
    missing: Cell<usize>,
}

/// One partition's records on their way to another shard.
struct Part {
    place: usize,
    key: PartitionKey,
    records: Bytes,
}

/// Tells the broker itself what became of an append.
pub type Tell = Box<dyn FnOnce(&Rc<Shard>, Result<i64, ErrorCode>)>;

/// Who is told what became of an append.
pub enum Waiter {
    /// A request of this shard: the place of the partition in its response.
    Here(Rc<Produce>, usize),
    /// A request of another shard.
    There(Rc<RemoteProduce>, usize),
    /// The broker itself: the outcome is the base offset.
    Internal(Tell),
}

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
    /// It is being checked, or its partition's last block is being read, off the shard.
    Out,
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
    /// Takes a produce request. It has taken effect, or stands in its partitions' queues, when this returns.
    pub fn produce(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        id: RequestId,
        head: &RequestHead<'_>,
        request: &ProduceRequest<'_>,
        shared: Option<&Bytes>,
        reservation: Reservation,
    ) {
        self.counters.produce_requests.increment();
        let parts = request.partition_count as usize;
        let produce = Rc::new(Produce {
            conn: Rc::clone(conn),
            id,
            version: head.api_version,
            correlation_id: head.correlation_id,
            acks: request.acks,
            topics: self.labels(request),
            results: RefCell::new(Vec::with_capacity(parts)),
            missing: Cell::new(parts + 1),
            reservation: Cell::new(Some(reservation)),
        });
        let refused = refusal_of_request(request);
        let mut forward: Vec<Vec<Part>> = Vec::new();
        let mut place = 0;
        for topic in request.topics() {
            let view = self.partitions.borrow().topic(&topic.topic).cloned();
            for partition in topic.partitions {
                produce.results.borrow_mut().push(PartitionResult::error(partition.index, 0, None));
                let at = usize::try_from(partition.index).ok();
                let found =
                    view.as_ref().zip(at).and_then(|(view, at)| Some((view.id, view.partitions.get(at)?)));
                let waiter = Waiter::Here(Rc::clone(&produce), place);
                match (&refused, found, partition.records) {
                    (Some((code, text)), _, _) => self.refuse(waiter, *code, Some((*text).into())),
                    (None, None, _) => self.refuse(waiter, unknown_topic(&topic.topic), None),
                    (None, Some(_), None) => {
                        self.refuse(
                            waiter,
                            ErrorCode::INVALID_RECORD,
                            Some("The request has no records.".into()),
                        );
                    }
                    (None, Some((_, Place::Here(here))), Some(records)) => {
                        let zstd_allowed = head.api_version >= ZSTD_SINCE;
                        self.submit(here, records, shared, zstd_allowed, request.acks, waiter);
                    }
                    (None, Some((topic, Place::Shard(shard))), Some(records)) => {
                        forward.resize_with(forward.len().max(shard + 1), Vec::new);
                        let key = PartitionKey { topic, partition: partition.index };
                        forward[*shard].push(Part { place, key, records: share(records, shared) });
                    }
                }
                place += 1;
            }
        }
        for (shard, parts) in forward.into_iter().enumerate().filter(|(_, parts)| !parts.is_empty()) {
            self.forward_produce(shard, parts, &produce, head.api_version);
        }
        self.part_done(&produce);
    }

    fn labels(&self, request: &ProduceRequest<'_>) -> Vec<(Label, usize)> {
        let partitions = self.partitions.borrow();
        let label = |topic: &TopicRef<'_>| match topic {
            TopicRef::Id(id) => Label::Id(*id),
            TopicRef::Name(name) => Label::Name(
                partitions.topic(topic).map_or_else(|| Rc::from(*name), |view| Rc::clone(&view.name)),
            ),
        };
        request.topics().map(|topic| (label(&topic.topic), topic.partitions.len())).collect()
    }

    fn forward_produce(self: &Rc<Self>, to: usize, parts: Vec<Part>, produce: &Rc<Produce>, version: i16) {
        self.counters.requests_forwarded.increment();
        let number = self.next_number();
        self.produces.borrow_mut().insert(number, Rc::clone(produce));
        let (from, acks) = (self.id, produce.acks);
        self.run_on(to, move |shard| {
            let remote = Rc::new(RemoteProduce {
                shard: from,
                number,
                silent: acks == 0,
                results: RefCell::default(),
                missing: Cell::new(parts.len()),
            });
            for part in parts {
                let waiter = Waiter::There(Rc::clone(&remote), part.place);
                let partition = shard.partitions.borrow().here(&part.key);
                match partition {
                    Some(partition) => {
                        let zstd_allowed = version >= ZSTD_SINCE;
                        shard.submit(
                            &partition,
                            &part.records,
                            Some(&part.records),
                            zstd_allowed,
                            acks,
                            waiter,
                        );
                    }
                    None => shard.refuse(waiter, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None),
                }
            }
            shard.pump();
        });
    }

    /// Parts of a request that were done on another shard.
    fn produce_answered(self: &Rc<Self>, number: u64, results: Vec<(usize, PartitionResult)>) {
        let produce = self.produces.borrow_mut().remove(&number).expect("answered once");
        for (place, result) in results {
            produce.take(place, result);
            self.part_done(&produce);
        }
    }

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
            PendingState::Fresh | PendingState::Out => {
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
            return Appended::Wait(waiter, PendingState::Out);
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
        let backlog = self.store.borrow().wal().backlog_bytes();
        if partition.is_async() && acks != 0 && !internal && backlog < ASYNC_BACKLOG_MAX {
            self.answer(waiter, result);
        } else {
            self.answer_when_durable(partition, appended.last_offset + 1, result, waiter);
        }
        Appended::Settled
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
        let durable = self.store.borrow().durable_offset(partition.ix);
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
            if let Some(head) = partition.queue.borrow_mut().front_mut() {
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
            let Some(head) = partition.queue.borrow_mut().pop_front() else { return };
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

    /// Answers with an error.
    pub fn refuse(self: &Rc<Self>, waiter: Waiter, code: ErrorCode, text: Option<String>) {
        self.answer(waiter, PartitionResult::error(0, code.0, text));
    }

    fn answer(self: &Rc<Self>, waiter: Waiter, result: PartitionResult) {
        match waiter {
            Waiter::Here(produce, place) => {
                produce.take(place, result);
                self.part_done(&produce);
            }
            Waiter::There(remote, place) => {
                remote.results.borrow_mut().push((place, result));
                remote.missing.set(remote.missing.get() - 1);
                if remote.missing.get() == 0 {
                    let (number, results) = (remote.number, remote.results.take());
                    self.run_on(remote.shard, move |shard| shard.produce_answered(number, results));
                }
            }
            Waiter::Internal(tell) => {
                let code = ErrorCode(result.error_code);
                tell(self, if code.is_error() { Err(code) } else { Ok(result.base_offset) });
            }
        }
    }

    /// One more partition of a request is done; after the last one it is answered.
    fn part_done(&self, produce: &Produce) {
        produce.missing.set(produce.missing.get() - 1);
        if produce.missing.get() > 0 {
            return;
        }
        if let Some(reservation) = produce.reservation.take() {
            self.release(reservation);
        }
        if produce.acks == 0 {
            let failed = produce.results.borrow().iter().find(|r| r.error_code != 0).map(|r| r.error_code);
            match failed {
                None => produce.conn.complete_silent(produce.id),
                Some(_) if undone(Rule::SilentFailureCloses) => produce.conn.complete_silent(produce.id),
                Some(code) => {
                    let (peer, code) = (produce.conn.peer, ErrorCode(code));
                    tracing::info!("closing {peer}: a produce request with acks=0 failed with {code}");
                    produce.conn.close(CloseReason::SilentRequestFailed);
                }
            }
            return;
        }
        produce.conn.complete(produce.id, Response::Bytes(produce.encode()));
    }
}

impl Waiter {
    fn is_silent(&self) -> bool {
        match self {
            Waiter::Here(produce, _) => produce.acks == 0,
            Waiter::There(remote, _) => remote.silent,
            Waiter::Internal(_) => false,
        }
    }
}

impl Produce {
    fn take(&self, place: usize, result: PartitionResult) {
        let slot = &mut self.results.borrow_mut()[place];
        *slot = PartitionResult { index: slot.index, ..result };
    }

    fn encode(&self) -> Bytes {
        let results = self.results.borrow();
        let mut buffer = BytesMut::with_capacity(64 + self.topics.len() * 40 + results.len() * 40);
        let mut writer =
            ProduceResponseWriter::new(&mut buffer, self.version, self.correlation_id, self.topics.len());
        let mut rest = results.iter();
        for (label, partitions) in &self.topics {
            let topic = match label {
                Label::Name(name) => TopicRef::Name(name),
                Label::Id(id) => TopicRef::Id(*id),
            };
            writer.topic(topic, *partitions);
            rest.by_ref().take(*partitions).for_each(|result| writer.partition(result));
        }
        writer.finish(0, &[]);
        buffer.freeze()
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

/// The bytes as a handle that can be kept: without a copy where they stand in a shared buffer.
fn share(records: &[u8], shared: Option<&Bytes>) -> Bytes {
    shared.map_or_else(|| Bytes::copy_from_slice(records), |all| all.slice_ref(records))
}

/// Also for names that no topic can have: Metadata says that they are illegal, Produce does not look.
fn unknown_topic(topic: &TopicRef<'_>) -> ErrorCode {
    match topic {
        TopicRef::Id(_) => ErrorCode::UNKNOWN_TOPIC_ID,
        TopicRef::Name(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// Why a request is refused as a whole, with each of its partitions.
fn refusal_of_request(request: &ProduceRequest<'_>) -> Option<(ErrorCode, &'static str)> {
    if request.transactional_id.is_some() {
        return Some((ErrorCode::INVALID_TXN_STATE, "Transactions are not supported yet."));
    }
    if !matches!(request.acks, -1..=1) {
        return Some((ErrorCode::INVALID_REQUIRED_ACKS, "acks is one of -1, 0 and 1."));
    }
    None
}
