//! How long appends that were answered from memory have waited for the disk (`flush.ms` of `async` topics).
//!
//! Every append is written at once, so the disk is behind only when it stalls or is too slow. The option bounds by how
//! much: while an append older than it is not durable, further ones are answered only once they are.

use std::collections::VecDeque;

/// The appends of one partition that are not durable yet, by the time when they were made. One entry for each millisecond.
#[derive(Debug, Default)]
pub struct Unsynced {
    /// Offset of the first append of that time, and the time, ms.
    since: VecDeque<(i64, u64)>,
}

impl Unsynced {
    /// An append begins at `offset`. What lay there or behind it was cut off.
    pub fn appended(&mut self, offset: i64, now_ms: u64) {
        while self.since.pop_back_if(|(before, _)| *before >= offset).is_some() {}
        let last = self.since.back();
        assert!(last.is_none_or(|(_, at_ms)| *at_ms <= now_ms), "the clock is monotone");
        if last.is_none_or(|(_, at_ms)| *at_ms < now_ms) {
            self.since.push_back((offset, now_ms));
        }
    }

    /// Everything below `durable` is durable; the log ends at `end`.
    pub fn durable(&mut self, durable: i64, end: i64) {
        while !self.since.is_empty() {
            let next = self.since.get(1).map_or(end, |(offset, _)| *offset);
            if durable < next {
                return;
            }
            self.since.pop_front();
        }
    }

    /// Whether an append may be answered before it is durable: none that is not durable is `flush_ms` old.
    #[must_use]
    pub fn may_answer(&self, flush_ms: u64, now_ms: u64) -> bool {
        self.since.front().is_none_or(|(_, at_ms)| now_ms - at_ms < flush_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_append_that_is_too_old_holds_up_the_later_ones_until_it_is_durable() {
        let mut unsynced = Unsynced::default();
        assert!(unsynced.may_answer(0, 5), "nothing is behind");
        unsynced.appended(0, 10);
        assert!(!unsynced.may_answer(0, 10), "with 0 each waits for itself");
        unsynced.appended(3, 15);
        assert!(unsynced.may_answer(10, 19) && !unsynced.may_answer(10, 20));
        unsynced.durable(2, 7);
        assert!(!unsynced.may_answer(10, 20), "a part is not enough");
        unsynced.durable(3, 7);
        assert!(unsynced.may_answer(10, 24) && !unsynced.may_answer(10, 25));
        unsynced.durable(7, 7);
        assert!(unsynced.may_answer(10, 1000));
    }

    #[test]
    fn what_was_cut_off_holds_up_nothing() {
        let mut unsynced = Unsynced::default();
        [(0, 10), (3, 11), (5, 12)].into_iter().for_each(|(offset, at)| unsynced.appended(offset, at));
        unsynced.durable(3, 7);
        unsynced.appended(3, 20);
        assert!(unsynced.may_answer(10, 29) && !unsynced.may_answer(10, 30));
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_all_appends(steps in proptest::collection::vec((0u64..4, 1i64..5, 0i64..9), 1..200)) {
            let mut unsynced = Unsynced::default();
            let (mut all, mut now, mut end, mut durable) = (Vec::new(), 0, 0, 0);
            for (pause, records, more) in steps {
                now += pause;
                unsynced.appended(end, now);
                all.push((end, now));
                end += records;
                durable = end.min(durable + more);
                unsynced.durable(durable, end);
                let ends = all.iter().skip(1).map(|(offset, _)| *offset).chain([end]);
                let oldest = all.iter().zip(ends).find(|(_, end)| *end > durable).map(|((_, at), _)| *at);
                for flush_ms in 0..20 {
                    // Appends of one millisecond count together.
                    let expected = oldest.is_none_or(|at| now - at < flush_ms);
                    prop_assert_eq!(unsynced.may_answer(flush_ms, now), expected);
                }
            }
        }
    }
}
