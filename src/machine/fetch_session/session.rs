//! One fetch session: its partitions in the order in which they are read, and what the client last heard of each.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::{FetchParams, FetchPartition, INITIAL_EPOCH, PartitionResult, TopicKey, next_epoch};

/// No offset: a partition of which nothing was answered yet, or whose last answer was an error.
const UNKNOWN_OFFSET: i64 = -1;

#[derive(Debug)]
struct Remembered<K> {
    topic: K,
    partition: i32,
    params: FetchParams,
    /// As last answered.
    high_watermark: i64,
    /// As last answered.
    log_start_offset: i64,
}

impl<K> Remembered<K> {
    /// Whether the result must be answered, with what was answered brought up to date.
    fn answer(&mut self, result: &PartitionResult) -> bool {
        let changed =
            self.high_watermark != result.high_watermark || self.log_start_offset != result.log_start_offset;
        self.high_watermark = result.high_watermark;
        self.log_start_offset = result.log_start_offset;
        if result.error.is_error() {
            // So that the partition is answered again when the error has gone.
            self.high_watermark = UNKNOWN_OFFSET;
        }
        changed
            || result.has_data
            || result.has_preferred_replica
            || result.has_diverging_epoch
            || result.error.is_error()
    }
}

/// A session. Partitions are keyed by topic and index and ordered by turn: a partition that returned data goes
/// to the end, so that none starves when the response's bytes run out before all had their turn.
#[derive(Debug)]
pub(super) struct Session<K> {
    pub(super) uses_topic_ids: bool,
    /// The epoch that the next request must carry.
    pub(super) epoch: i32,
    turns: HashMap<(K, i32), u64, foldhash::fast::RandomState>,
    by_turn: BTreeMap<u64, Remembered<K>>,
    next_turn: u64,
}

impl<K: TopicKey> Session<K> {
    /// A session made from a full fetch, whose every partition is answered with `results`.
    pub(super) fn new(
        uses_topic_ids: bool,
        partitions: Vec<FetchPartition<K>>,
        results: &[PartitionResult],
    ) -> Self {
        let mut session = Self {
            uses_topic_ids,
            epoch: next_epoch(INITIAL_EPOCH),
            turns: HashMap::with_capacity_and_hasher(partitions.len(), Default::default()),
            by_turn: BTreeMap::new(),
            next_turn: 0,
        };
        for (partition, result) in partitions.into_iter().zip(results) {
            session.add(Remembered {
                topic: partition.topic,
                partition: partition.partition,
                params: partition.params,
                high_watermark: result.high_watermark,
                log_start_offset: result.log_start_offset,
            });
        }
        session
    }

    pub(super) fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    fn add(&mut self, remembered: Remembered<K>) {
        let key = (remembered.topic.clone(), remembered.partition);
        let before = self.turns.insert(key, self.next_turn);
        assert!(before.is_none(), "a partition has one turn");
        self.by_turn.insert(self.next_turn, remembered);
        self.next_turn += 1;
    }

    /// Takes over what a request names: new partitions at the end, known ones in their place, then the forgotten
    /// ones out, also one that the same request named.
    pub(super) fn update(&mut self, named: &[FetchPartition<K>], forgotten: &[(K, i32)]) {
        for FetchPartition { topic, partition, params } in named {
            let key = (topic.clone(), *partition);
            if let Some(turn) = self.turns.get(&key) {
                self.by_turn.get_mut(turn).expect("every turn has its partition").params = *params;
                continue;
            }
            self.add(Remembered {
                topic: key.0,
                partition: key.1,
                params: *params,
                high_watermark: UNKNOWN_OFFSET,
                log_start_offset: UNKNOWN_OFFSET,
            });
        }
        for key in forgotten {
            if let Some(turn) = self.turns.remove(key) {
                self.by_turn.remove(&turn).expect("every turn has its partition");
            }
        }
    }

    /// All partitions in the order of their turns.
    pub(super) fn to_read(&self) -> Vec<FetchPartition<K>> {
        self.by_turn
            .values()
            .map(|p| FetchPartition { topic: p.topic.clone(), partition: p.partition, params: p.params })
            .collect()
    }

    /// Which of the partitions that were read must be answered; those with data get the last turns.
    pub(super) fn answer(&mut self, read: &[FetchPartition<K>], results: &[PartitionResult]) -> Vec<bool> {
        let mut include = Vec::with_capacity(read.len());
        for (partition, result) in read.iter().zip(results) {
            let key = (partition.topic.clone(), partition.partition);
            let Some(turn) = self.turns.get_mut(&key) else {
                // Partitions change only together with the epoch, so this is a new session that got the id and
                // reached the epoch of one closed meanwhile. What it does not know is not answered.
                include.push(false);
                continue;
            };
            let remembered = self.by_turn.get_mut(turn).expect("every turn has its partition");
            include.push(remembered.answer(result));
            if result.has_data {
                let moved = self.by_turn.remove(turn).expect("it was just here");
                self.by_turn.insert(self.next_turn, moved);
                *turn = self.next_turn;
                self.next_turn += 1;
            }
        }
        include
    }

    pub(super) fn check(&self) {
        assert_eq!(self.turns.len(), self.by_turn.len());
        assert!(self.epoch >= 1, "a session's epoch is never initial nor final");
        for (turn, remembered) in &self.by_turn {
            assert!(*turn < self.next_turn);
            assert_eq!(self.turns.get(&(remembered.topic.clone(), remembered.partition)), Some(turn));
        }
    }
}
