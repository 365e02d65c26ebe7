//! Fetch: a request's partitions are read in the plan's order on whatever shards they are, within one budget of
//! bytes for the whole response; too little waits for the next append.

mod answer;
mod read;

use crate::clock::monotonic_ms;
use crate::machine::connection::RequestId;
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::{
    FetchParams, FetchPartition, FetchRequest as SessionRequest, INITIAL_EPOCH, NO_SESSION, PartitionResult,
    Plan, owner_shard, session_id_candidate,
};
use crate::shard::Shard;
use crate::shard::connection::Conn;
use crate::shard::memory::Held;
use crate::shard::watch::{Signal, Watcher};
use futures_lite::FutureExt;
use read::{Found, ReadPart};
use ringlog_net::TopicRef;
use ringlog_net::fetch::FetchRequest;
use ringlog_net::frame::RequestHead;
use ringlog_storage::PartitionKey;
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

impl Shard {
    /// Takes a fetch request; it is answered later.
    pub fn fetch(
        self: &Rc<Self>,
        conn: &Rc<Conn>,
        id: RequestId,
        head: &RequestHead<'_>,
        request: &FetchRequest<'_>,
        memory: Held,
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
            shard.run_fetch(fetch, replica, memory).await;
            shard.pump();
        })
        .detach();
    }

    /// Carries a fetch out. `memory` is what its request is charged with, until it is the connection's next.
    async fn run_fetch(self: &Rc<Self>, mut fetch: Fetch, replica: bool, memory: Held) {
        if replica {
            // Only a peer connection proves who asks.
            return fetch.answer_error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        }
        // A client may send many at once, and read none of the answers: what is read for one that is not the next
        // to be answered would hold memory that others need, behind a long poll of the client's own.
        fetch.conn.turn(fetch.id).await;
        drop(memory);
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

    /// Charges what was found, or is to be read, to the budget, and reads it. Where the budget is spent, what was
    /// found is let go, and planned again when there is room.
    async fn with_memory(
        self: &Rc<Self>,
        fetch: &Fetch,
        plan: &Plan<TopicKey>,
        mut found: Vec<Found>,
        mut bytes: usize,
    ) -> (Vec<Found>, Option<Held>) {
        let memory = |found: &[Found]| found.iter().map(|f| f.memory).sum::<usize>();
        let mut needed = memory(&found);
        loop {
            let asked = (needed > 0).then(|| self.response_memory(needed));
            let held = match asked {
                None => None,
                Some(Ok(held)) => Some(held),
                Some(Err(told)) => {
                    drop(std::mem::take(&mut found));
                    let held = self.awaited_memory(told).await;
                    found = self.read_plan(plan, fetch.max_bytes.min(bytes)).await.1;
                    Some(held)
                }
            };
            let room = held.as_ref().map_or(0, Held::bytes);
            if memory(&found) <= room {
                self.read_cold(&mut found).await;
            }
            needed = memory(&found);
            if needed <= room {
                return (found, held.map(|held| held.shrunk(needed)));
            }
            // The first batch is larger than anybody could know, or more has come: charged as it is, and again.
            drop(held);
            bytes = bytes.max(found.iter().map(|f| f.bytes).sum());
            drop(std::mem::take(&mut found));
            found = self.read_plan(plan, fetch.max_bytes.min(bytes)).await.1;
            needed = needed.max(memory(&found));
        }
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
}
