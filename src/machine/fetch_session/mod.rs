//! Incremental fetch sessions (KIP-227): what a consumer or follower fetches is remembered between requests,
//! so that a request names only what changed and a response only what there is to say.
//!
//! A session lives on one shard; its id names that shard ([`owner_shard`]). The shell carries a request that
//! names a session to the owner, calls [`FetchSessions::begin`] there, reads the partitions of the [`Plan`] in
//! the plan's order, and calls [`FetchSessions::finish`] with what it found. Nothing is read while a session
//! is borrowed, so any number of requests may be between the two calls.
//!
//! Kafka's own rules hold (`FetchManager`, `FetchSession`, `FetchSessionCacheShard` of Kafka 4), with one more:
//! the partitions of all sessions of a shard are bounded.

mod cache;
#[cfg(test)]
mod model_tests;
mod session;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::machine::error::ErrorCode;
use cache::Cache;
use session::Session;

/// The session id that names no session.
pub const NO_SESSION: i32 = 0;
/// Request epoch that asks for a new session.
pub const INITIAL_EPOCH: i32 = 0;
/// Request epoch that closes the session, if any, and asks for none.
pub const FINAL_EPOCH: i32 = -1;
/// A session untouched for longer may be evicted by anyone (Kafka: `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
pub const EVICT_AFTER_MS: u64 = 120_000;
/// Default of `max.incremental.fetch.session.cache.slots`, for the whole broker.
pub const SLOTS_DEFAULT: usize = 1000;
/// Partitions in all sessions of one shard, about 150 bytes each. A full fetch beyond it gets no session; a
/// session that would grow beyond it is closed, and its client starts over with a full fetch.
pub const PARTITIONS_MAX: usize = 200_000;

const _: () = assert!(PARTITIONS_MAX >= 2 * crate::limits::PARTITIONS_PER_TOPIC_MAX as usize);

/// Key of a topic in a fetch request: its name before version 13, its id from then on.
pub trait TopicKey: Clone + Eq + Hash + Debug {}
impl<K: Clone + Eq + Hash + Debug> TopicKey for K {}

/// What a request asks of one partition; remembered by the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchParams {
    /// First offset wanted.
    pub fetch_offset: i64,
    /// The follower's own log start offset; -1 from a consumer.
    pub log_start_offset: i64,
    /// Largest number of bytes wanted of this partition.
    pub max_bytes: i32,
    /// The leader epoch that the client knows; -1 if none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record that the client holds; -1 if none.
    pub last_fetched_epoch: i32,
}

/// One partition of a request or a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition<K> {
    /// The topic.
    pub topic: K,
    /// The partition's index.
    pub partition: i32,
    /// What is asked of it.
    pub params: FetchParams,
}

/// A fetch request as far as sessions are concerned.
#[derive(Clone, Debug)]
pub struct FetchRequest<K> {
    /// Session id of the request; 0 for none (and for versions below 7).
    pub session_id: i32,
    /// Session epoch of the request; -1 for versions below 7.
    pub session_epoch: i32,
    /// Whether the request names topics by id (version 13 and up).
    pub uses_topic_ids: bool,
    /// Whether it came over a peer connection; such a session outranks those of consumers.
    pub privileged: bool,
    /// The partitions named.
    pub partitions: Vec<FetchPartition<K>>,
    /// The partitions to drop from the session.
    pub forgotten: Vec<(K, i32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sessionless,
    Full { uses_topic_ids: bool, privileged: bool },
    Incremental { session_id: i32, epoch_after: i32 },
}

/// What to read for one request, in this order. Goes back to [`FetchSessions::finish`].
#[derive(Debug)]
#[must_use = "a plan goes back to finish, which says what to answer"]
pub struct Plan<K> {
    /// The partitions, first come first served when the response's bytes run out.
    pub partitions: Vec<FetchPartition<K>>,
    kind: Kind,
}

impl<K> Plan<K> {
    /// Whether unchanged partitions are left out of the response.
    #[must_use]
    pub fn incremental(&self) -> bool {
        matches!(self.kind, Kind::Incremental { .. })
    }
}

/// What was found for one partition of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionResult {
    /// Whether records are returned.
    pub has_data: bool,
    /// The partition's error.
    pub error: ErrorCode,
    /// High watermark to be answered; -1 with an error.
    pub high_watermark: i64,
    /// Log start offset to be answered; -1 with an error.
    pub log_start_offset: i64,
    /// Whether the client is sent to another replica (KIP-392).
    pub has_preferred_replica: bool,
    /// Whether a diverging epoch is answered (KIP-595).
    pub has_diverging_epoch: bool,
}

/// What to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// Session id of the response.
    pub session_id: i32,
    /// Error of the whole response; with one, no partition is in the response.
    pub error: ErrorCode,
    /// For each partition of the plan, whether it is in the response.
    pub include: Vec<bool>,
}

/// The session ids of one shard, so that ids are unique in the broker: a range for each shard, as Kafka's cache
/// shards have them.
///
/// `random` is any number; the result is always a valid id of `shard`.
///
/// # Panics
/// If `shard` is not below `shards`.
#[must_use]
pub fn session_id_candidate(shard: usize, shards: usize, random: u64) -> i32 {
    assert!(shard < shards, "shard {shard} of {shards}");
    let range = ids_per_shard(shards);
    let first = (shard as u64 * range).max(1);
    let end = (shard as u64 + 1) * range;
    i32::try_from(first + random % (end - first)).expect("ids_per_shard keeps every id within i32")
}

/// The shard that owns a session id, also one that no broker ever gave out.
#[must_use]
pub fn owner_shard(session_id: i32, shards: usize) -> usize {
    let id = u64::try_from(session_id).unwrap_or(0);
    usize::try_from(id / ids_per_shard(shards)).map_or(shards - 1, |shard| shard.min(shards - 1))
}

fn ids_per_shard(shards: usize) -> u64 {
    assert!((1..=1 << 16).contains(&shards), "{shards} shards");
    i32::MAX as u64 / shards as u64
}

/// The epoch after `epoch`: it wraps from the largest to 1, because 0 asks for a new session.
#[must_use]
pub fn next_epoch(epoch: i32) -> i32 {
    match epoch {
        FINAL_EPOCH => FINAL_EPOCH,
        i32::MAX => 1,
        other => other + 1,
    }
}

/// The fetch sessions of one shard.
#[derive(Debug)]
pub struct FetchSessions<K> {
    cache: Cache<K>,
}

impl<K: TopicKey> FetchSessions<K> {
    /// An empty cache for `slots_max` sessions (this shard's part of
    /// `max.incremental.fetch.session.cache.slots`; 0 means that no session is ever made).
    #[must_use]
    pub fn new(slots_max: usize) -> Self {
        Self { cache: Cache::new(slots_max, PARTITIONS_MAX) }
    }

    /// Number of sessions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of partitions in all sessions.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.cache.partitions()
    }

    /// Number of sessions evicted so far to make room for others.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.cache.evictions()
    }

    /// Closes a session, if it is here. The shell calls it on the owner when a full fetch on another shard
    /// names the session: a full fetch closes the session it names.
    pub fn close(&mut self, session_id: i32) {
        self.cache.remove(session_id);
    }

    /// Takes a request in and says what to read for it.
    ///
    /// Call it on [`owner_shard`] for an incremental request (epoch above 0), on any shard for a full one.
    ///
    /// # Errors
    /// `FETCH_SESSION_ID_NOT_FOUND`, `INVALID_FETCH_SESSION_EPOCH` or `FETCH_SESSION_TOPIC_ID_ERROR` for the whole
    /// response, which then has session id 0 and no partition.
    pub fn begin(&mut self, now_ms: u64, request: FetchRequest<K>) -> Result<Plan<K>, ErrorCode> {
        if request.session_epoch == INITIAL_EPOCH || request.session_epoch == FINAL_EPOCH {
            return Ok(self.begin_full(request));
        }
        self.begin_incremental(now_ms, request)
    }

    fn begin_full(&mut self, request: FetchRequest<K>) -> Plan<K> {
        self.cache.remove(request.session_id);
        let FetchRequest { uses_topic_ids, privileged, .. } = request;
        let kind = match request.session_epoch {
            FINAL_EPOCH => Kind::Sessionless,
            _ => Kind::Full { uses_topic_ids, privileged },
        };
        Plan { partitions: without_repeats(request.partitions), kind }
    }

    fn begin_incremental(&mut self, now_ms: u64, request: FetchRequest<K>) -> Result<Plan<K>, ErrorCode> {
        let id = request.session_id;
        let session = self.cache.get_mut(id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.update(&request.partitions, &request.forgotten);
        if session.is_empty() {
            self.cache.remove(id);
            return Ok(Plan { partitions: without_repeats(request.partitions), kind: Kind::Sessionless });
        }
        session.epoch = next_epoch(session.epoch);
        let kind = Kind::Incremental { session_id: id, epoch_after: session.epoch };
        let partitions = session.to_read();
        if !self.cache.touch(now_ms, id) {
            self.cache.remove(id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok(Plan { partitions, kind })
    }

    /// Takes what was found for every partition of the plan, in the plan's order, and says which of them to
    /// answer. A full fetch gets its session here.
    ///
    /// `id_candidates` are fresh random ids of this shard ([`session_id_candidate`]); the first one that is not
    /// in use becomes the id of a new session. When all are in use the client gets no session, which is no
    /// error. Four make that improbable enough.
    ///
    /// # Panics
    /// If `results` are not as many as the plan's partitions.
    pub fn finish(
        &mut self,
        now_ms: u64,
        plan: Plan<K>,
        results: &[PartitionResult],
        id_candidates: &[i32],
    ) -> Finish {
        assert_eq!(plan.partitions.len(), results.len(), "one result for each partition of the plan");
        let all =
            |session_id| Finish { session_id, error: ErrorCode::NONE, include: vec![true; results.len()] };
        match plan.kind {
            Kind::Sessionless => all(NO_SESSION),
            Kind::Full { uses_topic_ids, privileged } => {
                let rank = cache::Rank { privileged, size: plan.partitions.len() };
                let id = self.cache.make_room(now_ms, rank, id_candidates).unwrap_or(NO_SESSION);
                if id != NO_SESSION {
                    let session = Session::new(uses_topic_ids, plan.partitions, results);
                    self.cache.insert(now_ms, id, privileged, session);
                }
                all(id)
            }
            Kind::Incremental { session_id, epoch_after } => {
                let Some(session) = self.cache.get_mut(session_id) else {
                    // Evicted while the request was read for. The client takes partitions it has in its session
                    // whether or not they changed, and learns with its next request that the session is gone.
                    return all(session_id);
                };
                if session.epoch != epoch_after {
                    // A later request of the session was taken in meanwhile: one of the two is a duplicate.
                    let error = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
                    return Finish { session_id, error, include: vec![false; results.len()] };
                }
                let include = session.answer(&plan.partitions, results);
                Finish { session_id, error: ErrorCode::NONE, include }
            }
        }
    }

    /// Asserts every invariant.
    pub fn check(&self) {
        self.cache.check();
    }
}

/// The partitions without repeats: a partition named twice keeps its first place and its last parameters, as in
/// Kafka's `LinkedHashMap`.
fn without_repeats<K: TopicKey>(partitions: Vec<FetchPartition<K>>) -> Vec<FetchPartition<K>> {
    if partitions.len() < 2 {
        return partitions;
    }
    let hasher = foldhash::fast::RandomState::default();
    let mut places: HashTable<usize> = HashTable::with_capacity(partitions.len());
    let mut kept: Vec<FetchPartition<K>> = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let hash = |p: &FetchPartition<K>| hasher.hash_one((&p.topic, p.partition));
        let same = |place: &usize| {
            kept[*place].partition == partition.partition && kept[*place].topic == partition.topic
        };
        match places.entry(hash(&partition), same, |place| hash(&kept[*place])) {
            Entry::Occupied(place) => kept[*place.get()].params = partition.params,
            Entry::Vacant(vacant) => {
                vacant.insert(kept.len());
                kept.push(partition);
            }
        }
    }
    kept
}
