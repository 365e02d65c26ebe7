//! Produce: a request's records go to their partitions' shards, and it is answered once all parts are.

mod append;

use crate::machine::budget::Reservation;
use crate::machine::connection::{CloseReason, RequestId};
use crate::machine::error::ErrorCode;
use crate::shard::Shard;
use crate::shard::connection::{Conn, Response};
use crate::shard::partitions::Place;
use crate::shard::perturb::{Rule, undone};
use crate::shard::timeouts::Timed;
pub use append::PendingAppend;
use bytes::{Bytes, BytesMut};
use ringlog_net::TopicRef;
use ringlog_net::frame::RequestHead;
use ringlog_net::produce::{PartitionResult, ProduceRequest, ProduceResponseWriter};
use ringlog_storage::PartitionKey;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use uuid::Uuid;

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
    answered: Cell<bool>,
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
            answered: Cell::new(false),
            reservation: Cell::new(Some(reservation)),
        });
        let refused = refusal_of_request(request);
        let mut forward: Vec<Vec<Part>> = Vec::new();
        let mut place = 0;
        for topic in request.topics() {
            let view = self.partitions.borrow().topic(&topic.topic).cloned();
            for partition in topic.partitions {
                produce.results.borrow_mut().push(PartitionResult::error(
                    partition.index,
                    ErrorCode::REQUEST_TIMED_OUT.0,
                    None,
                ));
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
        if !produce.is_answered() && produce.acks != 0 {
            self.time(request.timeout_ms, Timed::Produce(Rc::downgrade(&produce)));
        }
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
        if produce.answered.replace(true) {
            return;
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
    /// Whether nobody is answered: `acks=0`.
    fn is_silent(&self) -> bool {
        match self {
            Waiter::Here(produce, _) => produce.acks == 0,
            Waiter::There(remote, _) => remote.silent,
            Waiter::Internal(_) => false,
        }
    }
}

impl Produce {
    /// Whether it is answered: done, or timed out.
    pub fn is_answered(&self) -> bool {
        self.answered.get()
    }

    /// Answers now: those of its parts that are not done have timed out, though their records may be written yet. Their
    /// memory is theirs until they are.
    pub fn time_out(&self) {
        assert!(!self.answered.replace(true), "what is answered is not late");
        self.conn.complete(self.id, Response::Bytes(self.encode()));
    }

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
