//! A group's committed offsets, as the log has them and as it will have them once what is under way is durable.
//!
//! ```text
//! slot = what is durable  +  commits and tombstones in flight, oldest first
//!        (clients see it)    (the last one is what decisions build on)
//! ```
//!
//! A failed append takes its commits out of the slots and nothing else, so memory and log agree whatever comes
//! true.

use std::collections::{BTreeMap, VecDeque};

use super::outbox::AppendId;

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// The client's own text.
    pub metadata: String,
    /// When it was committed, in milliseconds since 1970.
    pub commit_ms: i64,
    /// When it expires, in milliseconds since 1970, if the client set that itself.
    pub expire_ms: Option<i64>,
    /// The topic's id; zeros if unknown.
    pub topic_id: [u8; 16],
}

#[derive(Default)]
struct Slot {
    durable: Option<CommittedOffset>,
    /// The append that `durable` came from, so that outcomes may be learnt in any order.
    durable_from: Option<AppendId>,
    in_flight: VecDeque<(AppendId, Option<CommittedOffset>)>,
}

impl Slot {
    fn latest(&self) -> Option<&CommittedOffset> {
        match self.in_flight.back() {
            Some((_, value)) => value.as_ref(),
            None => self.durable.as_ref(),
        }
    }

    fn is_vacant(&self) -> bool {
        self.durable.is_none() && self.in_flight.is_empty()
    }
}

/// The offsets of one group, by topic and partition.
#[derive(Default)]
pub(super) struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Slot>>,
}

impl Offsets {
    /// Whether there is nothing, not even in flight.
    pub(super) fn is_vacant(&self) -> bool {
        self.topics.is_empty()
    }

    /// A change that the log holds for certain: a record read back at loading.
    pub(super) fn restore(&mut self, topic: &str, partition: i32, value: Option<CommittedOffset>) {
        let slot = self.slot(topic, partition);
        assert!(slot.in_flight.is_empty(), "nothing is appended while loading");
        slot.durable = value;
        self.drop_if_vacant(topic, partition);
    }

    /// A change is on its way to the log.
    pub(super) fn begin(
        &mut self,
        append: AppendId,
        topic: &str,
        partition: i32,
        value: Option<CommittedOffset>,
    ) {
        let slot = self.slot(topic, partition);
        assert!(slot.in_flight.back().is_none_or(|(id, _)| *id <= append), "appends are numbered upwards");
        slot.in_flight.push_back((append, value));
    }

    /// The outcome of a change: it is durable, or will never be in the log.
    pub(super) fn finish(&mut self, append: AppendId, topic: &str, partition: i32, durable: bool) {
        let slot = self.slot(topic, partition);
        let at = slot.in_flight.iter().position(|(id, _)| *id == append);
        let (_, value) =
            at.and_then(|at| slot.in_flight.remove(at)).expect("an append ends once, after it has begun");
        if durable && slot.durable_from.is_none_or(|from| from <= append) {
            slot.durable = value;
            slot.durable_from = Some(append);
        }
        self.drop_if_vacant(topic, partition);
    }

    /// What clients see: the durable offset.
    pub(super) fn durable(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)?.durable.as_ref()
    }

    /// Whether there is an offset, counting what is in flight as done.
    pub(super) fn has_latest(&self, topic: &str, partition: i32) -> bool {
        self.topics
            .get(topic)
            .and_then(|slots| slots.get(&partition))
            .is_some_and(|slot| slot.latest().is_some())
    }

    /// All durable offsets, by topic and partition.
    pub(super) fn iter_durable(
        &self,
    ) -> impl Iterator<Item = (&str, impl Iterator<Item = (i32, &CommittedOffset)>)> {
        self.topics.iter().filter(|(_, slots)| slots.values().any(|slot| slot.durable.is_some())).map(
            |(topic, slots)| {
                let offsets = slots.iter().filter_map(|(&at, slot)| Some((at, slot.durable.as_ref()?)));
                (topic.as_str(), offsets)
            },
        )
    }

    /// All offsets, counting what is in flight as done; with whether the slot is quiet.
    pub(super) fn iter_latest(&self) -> impl Iterator<Item = (&str, i32, &CommittedOffset, bool)> {
        self.topics.iter().flat_map(|(topic, slots)| {
            slots.iter().filter_map(move |(&partition, slot)| {
                Some((topic.as_str(), partition, slot.latest()?, slot.in_flight.is_empty()))
            })
        })
    }

    /// The partitions of a topic that have offsets, counting what is in flight as done.
    pub(super) fn partitions_latest(&self, topic: &str) -> Vec<i32> {
        let slots = self.topics.get(topic).into_iter().flatten();
        slots.filter(|(_, slot)| slot.latest().is_some()).map(|(&partition, _)| partition).collect()
    }

    fn slot(&mut self, topic: &str, partition: i32) -> &mut Slot {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        self.topics.get_mut(topic).expect("inserted above").entry(partition).or_default()
    }

    fn drop_if_vacant(&mut self, topic: &str, partition: i32) {
        let Some(slots) = self.topics.get_mut(topic) else { return };
        if slots.get(&partition).is_some_and(Slot::is_vacant) {
            slots.remove(&partition);
            if slots.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Asserts that nothing vacant is kept and that appends in flight are in order.
    pub(super) fn check(&self) {
        for slots in self.topics.values() {
            assert!(!slots.is_empty());
            for slot in slots.values() {
                assert!(!slot.is_vacant());
                assert!(slot.in_flight.iter().is_sorted_by_key(|(id, _)| *id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: 0,
            expire_ms: None,
            topic_id: [0; 16],
        }
    }

    fn durable(offsets: &Offsets) -> Option<i64> {
        offsets.durable("t", 0).map(|value| value.offset)
    }

    #[test]
    fn clients_see_only_what_is_durable() {
        let mut offsets = Offsets::default();
        offsets.begin(AppendId(1), "t", 0, Some(offset(10)));
        assert_eq!(durable(&offsets), None);
        assert!(offsets.has_latest("t", 0));
        offsets.begin(AppendId(2), "t", 0, None);
        assert!(!offsets.has_latest("t", 0));
        offsets.finish(AppendId(1), "t", 0, true);
        assert_eq!(durable(&offsets), Some(10));
        offsets.finish(AppendId(2), "t", 0, true);
        assert_eq!(durable(&offsets), None);
        assert!(offsets.is_vacant());
        offsets.check();
    }

    #[test]
    fn a_failed_append_leaves_the_others() {
        let mut offsets = Offsets::default();
        offsets.restore("t", 0, Some(offset(1)));
        for id in 1..=3 {
            offsets.begin(AppendId(id), "t", 0, Some(offset(id as i64 * 10)));
        }
        offsets.finish(AppendId(3), "t", 0, false);
        assert_eq!(
            offsets.iter_latest().next().map(|(_, _, value, quiet)| (value.offset, quiet)),
            Some((20, false))
        );
        // Outcomes may be learnt in another order than the log's; the later record wins as it does there.
        offsets.finish(AppendId(2), "t", 0, true);
        offsets.finish(AppendId(1), "t", 0, true);
        assert_eq!(durable(&offsets), Some(20));
        offsets.check();
    }

    #[test]
    fn a_failed_first_commit_leaves_nothing() {
        let mut offsets = Offsets::default();
        offsets.begin(AppendId(1), "t", 0, Some(offset(10)));
        offsets.finish(AppendId(1), "t", 0, false);
        assert!(offsets.is_vacant());
    }
}
