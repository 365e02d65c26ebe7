//! The bounded cache of fetch sessions and whom a new session may push out (`FetchSessionCacheShard` of Kafka).
//!
//! A new session may evict, in this order: the session that was unused for longest, if that is longer than
//! [`EVICT_AFTER_MS`]; else the least valuable of those it may evict at all (a follower: any session of a consumer
//! and any that is older than [`EVICT_AFTER_MS`]; a consumer: only the latter), and only if it is more valuable
//! itself. A follower's session is worth more than a consumer's, then one with more partitions.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use super::session::Session;
use super::{EVICT_AFTER_MS, NO_SESSION, TopicKey};

/// What a session is worth; the order of the fields counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) privileged: bool,
    pub(super) size: usize,
}

#[derive(Debug)]
struct Cached<K> {
    session: Session<K>,
    created_ms: u64,
    used_ms: u64,
    /// As of the last use; the size may have changed since only between `get_mut` and `touch`.
    rank: Rank,
}

/// Sessions by id, and in the orders in which they may be evicted.
#[derive(Debug)]
pub(super) struct Cache<K> {
    slots_max: usize,
    partitions_max: usize,
    sessions: HashMap<i32, Cached<K>, foldhash::fast::RandomState>,
    by_use: BTreeSet<(u64, i32)>,
    evictable_by_all: BTreeSet<(Rank, i32)>,
    evictable_by_privileged: BTreeSet<(Rank, i32)>,
    partitions: usize,
    evictions: u64,
}

impl<K: TopicKey> Cache<K> {
    pub(super) fn new(slots_max: usize, partitions_max: usize) -> Self {
        Self {
            slots_max,
            partitions_max,
            sessions: HashMap::default(),
            by_use: BTreeSet::new(),
            evictable_by_all: BTreeSet::new(),
            evictable_by_privileged: BTreeSet::new(),
            partitions: 0,
            evictions: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    pub(super) fn get_mut(&mut self, id: i32) -> Option<&mut Session<K>> {
        self.sessions.get_mut(&id).map(|cached| &mut cached.session)
    }

    pub(super) fn remove(&mut self, id: i32) {
        let Some(cached) = self.sessions.remove(&id) else { return };
        assert!(self.by_use.remove(&(cached.used_ms, id)));
        self.evictable_by_all.remove(&(cached.rank, id));
        self.evictable_by_privileged.remove(&(cached.rank, id));
        self.partitions -= cached.rank.size;
    }

    /// Marks a session as used now and takes its size and age into the eviction orders. False if the session has
    /// grown beyond what the cache holds; the caller then removes it.
    pub(super) fn touch(&mut self, now_ms: u64, id: i32) -> bool {
        let cached = self.sessions.get_mut(&id).expect("only a session that is here is touched");
        assert!(self.by_use.remove(&(cached.used_ms, id)));
        self.evictable_by_all.remove(&(cached.rank, id));
        self.evictable_by_privileged.remove(&(cached.rank, id));
        self.partitions = self.partitions - cached.rank.size + cached.session.len();
        cached.rank.size = cached.session.len();
        cached.used_ms = now_ms;
        self.by_use.insert((now_ms, id));
        let old = now_ms.saturating_sub(cached.created_ms) > EVICT_AFTER_MS;
        if old {
            self.evictable_by_all.insert((cached.rank, id));
        }
        if old || !cached.rank.privileged {
            self.evictable_by_privileged.insert((cached.rank, id));
        }
        self.partitions <= self.partitions_max
    }

    /// The id for a new session of this rank, with room made for it; none if it has to do without one.
    pub(super) fn make_room(&mut self, now_ms: u64, rank: Rank, candidates: &[i32]) -> Option<i32> {
        let free = |id: &&i32| **id > NO_SESSION && !self.sessions.contains_key(*id);
        let id = *candidates.iter().find(free)?;
        if self.slots_max == 0 || rank.size > self.partitions_max {
            return None;
        }
        if self.sessions.len() >= self.slots_max {
            let victim = self.victim(now_ms, rank)?;
            self.evict(victim);
        }
        while self.partitions + rank.size > self.partitions_max {
            let victim = self.victim(now_ms, rank)?;
            self.evict(victim);
        }
        Some(id)
    }

    fn evict(&mut self, id: i32) {
        self.remove(id);
        self.evictions += 1;
    }

    fn victim(&self, now_ms: u64, rank: Rank) -> Option<i32> {
        let (used_ms, stalest) = *self.by_use.first()?;
        if now_ms.saturating_sub(used_ms) > EVICT_AFTER_MS {
            return Some(stalest);
        }
        let evictable = if rank.privileged { &self.evictable_by_privileged } else { &self.evictable_by_all };
        let (least, id) = *evictable.first()?;
        (rank > least).then_some(id)
    }

    /// Keeps a new session under an id from `make_room`.
    pub(super) fn insert(&mut self, now_ms: u64, id: i32, privileged: bool, session: Session<K>) {
        let rank = Rank { privileged, size: session.len() };
        self.partitions += rank.size;
        self.by_use.insert((now_ms, id));
        let cached = Cached { session, created_ms: now_ms, used_ms: now_ms, rank };
        assert!(self.sessions.insert(id, cached).is_none(), "the id was free");
        assert!(self.touch(now_ms, id), "room was made for it");
        assert!(self.sessions.len() <= self.slots_max);
    }

    pub(super) fn check(&self) {
        assert!(self.sessions.len() <= self.slots_max);
        assert!(self.partitions <= self.partitions_max);
        assert_eq!(self.sessions.len(), self.by_use.len());
        let mut partitions = 0;
        for (id, cached) in &self.sessions {
            cached.session.check();
            assert!(*id > NO_SESSION);
            assert_eq!(cached.rank.size, cached.session.len());
            assert!(self.by_use.contains(&(cached.used_ms, *id)));
            partitions += cached.rank.size;
        }
        assert_eq!(partitions, self.partitions);
        for (rank, id) in self.evictable_by_all.iter().chain(&self.evictable_by_privileged) {
            assert_eq!(self.sessions.get(id).map(|cached| cached.rank), Some(*rank));
        }
    }
}
