//! Fetch: a request's partitions are read in the plan's order on whatever shards they are, within one budget of
//! bytes for the whole response; too little waits for the next append.

use crate::clock::monotonic_ms;
use crate::machine::connection::RequestId;
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::{
    FetchParams, FetchPartition, FetchRequest as SessionRequest, INITIAL_EPOCH, NO_SESSION, PartitionResult,
    Plan, owner_shard, session_id_candidate,
};
use crate::shard::Shard;
use crate::shard::connection::{Conn, Response};
use crate::shard::memory::Held;
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Step, pause};
use crate::shard::records::RecordHandle;
use crate::shard::watch::{Signal, Watcher};
use futures_lite::FutureExt;
use ringlog_net::TopicRef;
use ringlog_net::fetch::{FetchRequest, FetchResponseHead, FetchResponseWriter, PartitionData};
use ringlog_net::frame::RequestHead;
use ringlog_storage::PartitionKey;
use ringlog_storage::store::ReadPlan;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// From this version on topics are named by id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// From this version on there are sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;
/// Tries at drawing a session id that is not in use.
const ID_CANDIDATES: usize = 4;

/// A topic as the request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(Uuid),
}

impl TopicKey {
    fn of(topic: &TopicRef<'_>) -> TopicKey {
        match topic {
            TopicRef::Name(name) => TopicKey::Name(Arc::from(*name)),
            TopicRef::Id(id) => TopicKey::Id(*id),
        }
    }

    fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicKey::Name(name) => TopicRef::Name(name),
            TopicKey::Id(id) => TopicRef::Id(*id),
        }
    }
}

/// A fetch request under way.
struct Fetch {
    conn: Rc<Conn>,
    id: RequestId,
    version: i16,
    correlation_id: i32,
    session: SessionRequest<TopicKey>,
    max_wait_ms: u64,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
}

/// What is read of one partition.
#[derive(Clone, Copy)]
struct ReadPart {
    /// Its place in the plan.
    place: usize,
    key: PartitionKey,
    params: FetchParams,
}

/// What a response may still hold.
#[derive(Clone, Copy)]
struct Room {
    bytes: usize,
    /// Nothing was read yet: the next batch is returned whatever its size.
    first: bool,
}

/// What was found of one partition. Comes from another shard, too.
struct Found {
    place: usize,
    error: ErrorCode,
    high_watermark: i64,
    log_start: i64,
    diverging: Option<(i32, i64)>,
    leader: Option<(i32, i32)>,
    records: Vec<RecordHandle>,
    bytes: usize,
}

impl Found {
    fn error(place: usize, error: ErrorCode) -> Found {
        Found {
            place,
            error,
            high_watermark: -1,
            log_start: -1,
            diverging: None,
            leader: None,
            records: Vec::new(),
            bytes: 0,
        }
    }
}

impl Shard {
    /// Takes a fetch request; it is answered later.
    pub fn fetch(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        id: RequestId,
        head: &RequestHead<'_>,
        request: &FetchRequest<'_>,
    ) {
        self.counters.fetch_requests.increment();
        let partitions = request.topics().flat_map(|topic| {
            let key = TopicKey::of(&topic.topic);
            topic.partitions.map(move |p| FetchPartition {
                topic: key.clone(),
                partition: p.partition,
                params: FetchParams {
                    fetch_offset: p.fetch_offset,
                    log_start_offset: p.log_start_offset,
                    max_bytes: p.partition_max_bytes,
                    current_leader_epoch: p.current_leader_epoch,
                    last_fetched_epoch: p.last_fetched_epoch,
                },
            })
        });
        let forgotten = request.forgotten_topics().flat_map(|topic| {
            let key = TopicKey::of(&topic.topic);
            topic.partitions.map(move |partition| (key.clone(), partition))
        });
        let sessions = head.api_version >= SESSIONS_SINCE;
        let natural = |n: i32| usize::try_from(n).unwrap_or(0);
        let fetch = Fetch {
            conn: Rc::clone(conn),
            id,
            version: head.api_version,
            correlation_id: head.correlation_id,
            session: SessionRequest {
                session_id: if sessions { request.session_id } else { NO_SESSION },
                session_epoch: if sessions { request.session_epoch } else { -1 },
                uses_topic_ids: head.api_version >= TOPIC_IDS_SINCE,
                privileged: false,
                partitions: partitions.collect(),
                forgotten: forgotten.collect(),
            },
            max_wait_ms: u64::try_from(request.max_wait_ms).unwrap_or(0),
            min_bytes: natural(request.min_bytes).min(natural(request.max_bytes)),
            max_bytes: natural(request.max_bytes).min(self.config.borrow().fetch_max_bytes as usize),
            read_committed: request.isolation_level == 1,
        };
        let replica = request.replica_id >= 0;
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            shard.run_fetch(fetch, replica).await;
            shard.pump();
        })
        .detach();
    }

    async fn run_fetch(self: &Rc<Self>, mut fetch: Fetch, replica: bool) {
        if replica {
            // Only a peer connection proves who asks.
            return fetch.answer_error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        }
        let session = std::mem::replace(
            &mut fetch.session,
            SessionRequest {
                session_id: NO_SESSION,
                session_epoch: -1,
                uses_topic_ids: false,
                privileged: false,
                partitions: Vec::new(),
                forgotten: Vec::new(),
            },
        );
        // An incremental request belongs to the session's shard, which its id names; a full one makes a session
        // here, and closes the one it names where that lives.
        let owner = owner_shard(session.session_id, self.node.shards);
        let home = if session.session_epoch > INITIAL_EPOCH { owner } else { self.id };
        if home != owner && session.session_id != NO_SESSION {
            let id = session.session_id;
            self.run_on(owner, move |shard| shard.sessions.borrow_mut().close(id));
        }
        let now = monotonic_ms();
        let planned = self.call(home, move |shard| shard.sessions.borrow_mut().begin(now, session)).await;
        let plan = match planned {
            Ok(plan) => plan,
            Err(error) => return fetch.answer_error(error),
        };
        let (found, held) = self.read_until_enough(&fetch, &plan).await;
        let results: Vec<PartitionResult> = found.iter().map(Found::for_session).collect();
        let (shards, me) = (self.node.shards, home);
        let candidates: Vec<i32> =
            (0..ID_CANDIDATES).map(|_| session_id_candidate(me, shards, self.random())).collect();
        let now = monotonic_ms();
        let topics: Vec<(TopicKey, i32)> =
            plan.partitions.iter().map(|p| (p.topic.clone(), p.partition)).collect();
        let finish = self
            .call(home, move |shard| {
                let mut sessions = shard.sessions.borrow_mut();
                let finish = sessions.finish(now, plan, &results, &candidates);
                shard.counters.fetch_sessions.set(sessions.len() as u64);
                finish
            })
            .await;
        if finish.error.is_error() {
            return fetch.answer_error(finish.error);
        }
        let bytes: usize = found.iter().map(|f| f.bytes).sum();
        self.counters.fetch_bytes.add(bytes as u64);
        fetch.answer(finish.session_id, topics, found, held, &finish.include);
    }

    /// Reads the plan's partitions, again and again as records come in, until there are enough bytes, an error,
    /// or no time left.
    /// Comes with the memory that they hold.
    async fn read_until_enough(
        self: &Rc<Self>,
        fetch: &Fetch,
        plan: &Plan<TopicKey>,
    ) -> (Vec<Found>, Option<Held>) {
        let deadline = monotonic_ms() + fetch.max_wait_ms;
        loop {
            let (parts, found) = self.read_plan(plan, fetch.max_bytes).await;
            let bytes: usize = found.iter().map(|f| f.bytes).sum();
            let told = found.iter().any(|f| f.error.is_error() || f.diverging.is_some());
            let left = deadline.saturating_sub(monotonic_ms());
            if bytes >= fetch.min_bytes || told || left == 0 || parts.is_empty() || fetch.conn.is_closed() {
                return self.with_memory(fetch, plan, found, bytes).await;
            }
            self.wait_for_more(fetch, &parts, &found, left).await;
        }
    }

    /// Charges what was found to the budget. Where that is spent, what was found is let go, and read again when
    /// there is room.
    async fn with_memory(
        self: &Rc<Self>,
        fetch: &Fetch,
        plan: &Plan<TopicKey>,
        found: Vec<Found>,
        bytes: usize,
    ) -> (Vec<Found>, Option<Held>) {
        if bytes == 0 {
            return (found, None);
        }
        match self.response_memory(bytes) {
            Ok(held) => (found, Some(held)),
            Err(told) => {
                drop(found);
                let held = self.awaited_memory(told).await;
                let (_, found) = self.read_plan(plan, fetch.max_bytes.min(bytes)).await;
                (found, Some(held))
            }
        }
    }

    /// Reads all of a plan's partitions once.
    async fn read_plan(
        self: &Rc<Self>,
        plan: &Plan<TopicKey>,
        max_bytes: usize,
    ) -> (Vec<ReadPart>, Vec<Found>) {
        let (parts, mut found) = self.locate(plan);
        found.extend(self.read_all(&parts, max_bytes).await);
        found.sort_by_key(|f| f.place);
        (parts, found)
    }

    /// The plan's partitions by key; those that do not exist are answered at once.
    fn locate(&self, plan: &Plan<TopicKey>) -> (Vec<ReadPart>, Vec<Found>) {
        let partitions = self.partitions.borrow();
        let (mut parts, mut missing) = (Vec::with_capacity(plan.partitions.len()), Vec::new());
        for (place, asked) in plan.partitions.iter().enumerate() {
            let view = partitions.topic(&asked.topic.as_ref());
            match view {
                Some(view) if usize::try_from(asked.partition).is_ok_and(|at| at < view.partitions.len()) => {
                    let key = PartitionKey { topic: view.id, partition: asked.partition };
                    parts.push(ReadPart { place, key, params: asked.params });
                }
                None if matches!(asked.topic, TopicKey::Id(_)) => {
                    missing.push(Found::error(place, ErrorCode::UNKNOWN_TOPIC_ID));
                }
                _ => missing.push(Found::error(place, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            }
        }
        (parts, missing)
    }

    /// Parts by the shard they are on, in the order in which the plan first names each shard.
    fn by_shard(&self, parts: &[ReadPart]) -> Vec<(usize, Vec<ReadPart>)> {
        let mut groups: Vec<(usize, Vec<ReadPart>)> = Vec::new();
        for part in parts {
            let shard = self.node.shard_of(&part.key);
            match groups.iter_mut().find(|(other, _)| *other == shard) {
                Some((_, group)) => group.push(*part),
                None => groups.push((shard, vec![*part])),
            }
        }
        groups
    }

    /// Reads all parts, one shard after the other, so that the budget of bytes holds for the whole response.
    async fn read_all(self: &Rc<Self>, parts: &[ReadPart], max_bytes: usize) -> Vec<Found> {
        let mut room = Room { bytes: max_bytes, first: true };
        let mut all = Vec::with_capacity(parts.len());
        for (shard, group) in self.by_shard(parts) {
            let found = if shard == self.id {
                self.read_here(group, room).await
            } else {
                self.call_async(shard, move |shard| async move { shard.read_here(group, room).await }).await
            };
            let bytes: usize = found.iter().map(|f| f.bytes).sum();
            room = Room { bytes: room.bytes.saturating_sub(bytes), first: room.first && bytes == 0 };
            all.extend(found);
        }
        all
    }

    /// Reads parts that are all on this shard.
    async fn read_here(self: &Rc<Self>, parts: Vec<ReadPart>, mut room: Room) -> Vec<Found> {
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let partition = self.partitions.borrow().here(&part.key);
            let found = match partition {
                Some(partition) => self.read_partition(&partition, &part, room).await,
                None => Found::error(part.place, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            if found.bytes > 0 {
                room = Room { bytes: room.bytes.saturating_sub(found.bytes), first: false };
            }
            all.push(found);
        }
        all
    }

    async fn read_partition(&self, partition: &Partition, part: &ReadPart, room: Room) -> Found {
        let params = &part.params;
        let mut found = Found::error(part.place, ErrorCode::NONE);
        if let Err(error) = check_epoch(partition.leader_epoch.get(), params.current_leader_epoch) {
            found.error = error;
            found.leader = Some((self.node.node_id, partition.leader_epoch.get()));
            return found;
        }
        let limit = self.high_watermark(partition);
        let max = usize::try_from(params.max_bytes).unwrap_or(0).min(room.bytes);
        let plan = {
            let store = self.store.borrow();
            found.high_watermark = limit;
            found.log_start = store.start_offset(partition.ix);
            found.diverging = diverging(&store, partition, params);
            if found.diverging.is_some() {
                return found;
            }
            store.read(partition.ix, params.fetch_offset, limit, max)
        };
        let (records, bytes) = match plan {
            ReadPlan::OutOfRange => {
                return Found {
                    error: ErrorCode::OFFSET_OUT_OF_RANGE,
                    ..Found::error(part.place, ErrorCode::NONE)
                };
            }
            ReadPlan::Empty => return found,
            ReadPlan::Tail(read) => {
                (read.slices.into_iter().map(RecordHandle::Tail).collect::<Vec<_>>(), read.bytes)
            }
            ReadPlan::Cold(cold) => {
                if max == 0 && !room.first {
                    return found;
                }
                let (disk, segments) = (self.node.disk.clone(), self.node.segments.clone());
                let offset = params.fetch_offset;
                let read = move || segments.read(&*disk, &cold, offset, limit, max);
                let read = glommio::executor().spawn_blocking(read).await;
                pause(Step::Read).await;
                match read {
                    Ok((records, _)) => {
                        let bytes = records.len();
                        (vec![RecordHandle::Cold(records)], bytes)
                    }
                    Err(_) if partition.deleted.get() => {
                        return Found::error(part.place, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
                    }
                    // Deleted by retention between the plan and the read.
                    Err(_) if offset < self.store.borrow().start_offset(partition.ix) => {
                        let error = ErrorCode::OFFSET_OUT_OF_RANGE;
                        return Found { error, ..Found::error(part.place, ErrorCode::NONE) };
                    }
                    Err(error) => {
                        tracing::error!(
                            "reading partition {} of {}: {error}",
                            partition.key.partition,
                            partition.topic
                        );
                        return Found::error(part.place, ErrorCode::KAFKA_STORAGE_ERROR);
                    }
                }
            }
        };
        // The first batch of a response is returned whatever its size; others only if they fit.
        if bytes <= max || room.first {
            (found.records, found.bytes) = (records, bytes);
        }
        found
    }

    /// Waits until a partition has more than was found, or the time is up.
    async fn wait_for_more(
        self: &Rc<Self>,
        fetch: &Fetch,
        parts: &[ReadPart],
        found: &[Found],
        left_ms: u64,
    ) {
        let signal = Rc::new(Signal::default());
        fetch.conn.alarm(&signal);
        let number = self.next_number();
        self.fetches.borrow_mut().insert(number, Rc::clone(&signal));
        let seen: BTreeMap<usize, i64> = found.iter().map(|f| (f.place, f.high_watermark)).collect();
        let groups = self.by_shard(parts);
        for (shard, group) in &groups {
            let wanted: Vec<(PartitionKey, i64)> =
                group.iter().map(|part| (part.key, seen.get(&part.place).copied().unwrap_or(-1))).collect();
            if *shard == self.id {
                for (key, seen) in wanted {
                    self.watch(&key, seen, Watcher::Here(Rc::downgrade(&signal)));
                }
            } else {
                let from = self.id;
                self.run_on(*shard, move |shard| {
                    for (key, seen) in wanted {
                        shard.watch(&key, seen, Watcher::Shard { shard: from, fetch: number });
                    }
                });
            }
        }
        let time_up = async {
            glommio::timer::sleep(Duration::from_millis(left_ms)).await;
        };
        signal.wait().or(time_up).await;
        self.fetches.borrow_mut().remove(&number);
        for (shard, group) in groups.into_iter().filter(|(shard, _)| *shard != self.id) {
            let (keys, from): (Vec<PartitionKey>, usize) =
                (group.iter().map(|part| part.key).collect(), self.id);
            self.run_on(shard, move |shard| shard.unwatch(&keys, from, number));
        }
    }

    /// The partition of this shard that a question is about, if the client knows its epoch rightly.
    pub fn led(&self, key: &PartitionKey, epoch: i32) -> Result<Rc<Partition>, ErrorCode> {
        match self.partitions.borrow().place(key) {
            Some(Place::Here(partition)) => {
                check_epoch(partition.leader_epoch.get(), epoch)?;
                Ok(partition)
            }
            Some(Place::Shard(_)) | None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        }
    }
}

/// Refuses a client that knows an older or a newer leader epoch (KIP-320).
fn check_epoch(current: i32, known: i32) -> Result<(), ErrorCode> {
    match known {
        -1 => Ok(()),
        known if known < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        known if known > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// Where the client's log and this one part, if its last record is of another history (KIP-595).
fn diverging(
    store: &ringlog_storage::store::Store<crate::shard::storage_io::DmaCommit>,
    partition: &Partition,
    params: &FetchParams,
) -> Option<(i32, i64)> {
    if params.last_fetched_epoch < 0 {
        return None;
    }
    let end = store.end_offset(partition.ix);
    let (epoch, end) = store.epochs(partition.ix).end_offset_for(params.last_fetched_epoch, end)?;
    (epoch < params.last_fetched_epoch || end < params.fetch_offset).then_some((epoch, end))
}

impl Found {
    fn for_session(&self) -> PartitionResult {
        PartitionResult {
            has_data: self.bytes > 0,
            error: self.error,
            high_watermark: self.high_watermark,
            log_start_offset: self.log_start,
            has_preferred_replica: false,
            has_diverging_epoch: self.diverging.is_some(),
        }
    }
}

impl Fetch {
    fn head(&self, error: ErrorCode, session_id: i32) -> FetchResponseHead {
        FetchResponseHead {
            correlation_id: self.correlation_id,
            throttle_time_ms: 0,
            error_code: error.0,
            session_id,
        }
    }

    fn answer_error(&self, error: ErrorCode) {
        let writer = FetchResponseWriter::<RecordHandle>::new(self.version, self.head(error, NO_SESSION), 0);
        self.conn.complete(self.id, Response::Parts(writer.finish(&[]).into_parts(), None));
    }

    fn answer(
        &self,
        session_id: i32,
        topics: Vec<(TopicKey, i32)>,
        found: Vec<Found>,
        held: Option<Held>,
        include: &[bool],
    ) {
        // The response groups partitions by topic; within a topic they keep the plan's order.
        let mut order: Vec<TopicKey> = Vec::new();
        let mut by_topic: std::collections::HashMap<TopicKey, Vec<PartitionData<RecordHandle>>> =
            std::collections::HashMap::new();
        for (((topic, index), found), include) in topics.into_iter().zip(found).zip(include) {
            if *include {
                let group = by_topic.entry(topic).or_insert_with_key(|topic| {
                    order.push(topic.clone());
                    Vec::new()
                });
                group.push(self.data(index, found));
            }
        }
        let head = self.head(ErrorCode::NONE, session_id);
        let mut writer = FetchResponseWriter::new(self.version, head, order.len());
        for topic in order {
            let partitions = by_topic.remove(&topic).expect("every topic of the order has its partitions");
            writer.topic(topic.as_ref(), partitions.len());
            partitions.into_iter().for_each(|data| writer.partition(data));
        }
        self.conn.complete(self.id, Response::Parts(writer.finish(&[]).into_parts(), held));
    }

    fn data(&self, index: i32, found: Found) -> PartitionData<RecordHandle> {
        PartitionData {
            index,
            error_code: found.error.0,
            high_watermark: found.high_watermark,
            last_stable_offset: found.high_watermark,
            log_start_offset: found.log_start,
            diverging_epoch: found.diverging,
            current_leader: found.leader,
            aborted_transactions: self.read_committed.then(Vec::new),
            preferred_read_replica: -1,
            records: found.records,
        }
    }
}
