//! What time brings to a shard: ticks of its machines, retention, idle connections, the end.

use crate::clock::{monotonic_ms, wall_ms};
use crate::machine::connection::CloseReason;
use crate::shard::Shard;
use crate::shard::partitions::Partition;
use futures_lite::FutureExt;
use ringlog_storage::checkpoint::SegmentState;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a busy shard sleeps between ticks.
const BUSY_TICK_MS: u64 = 5;
/// How long an idle one does.
const IDLE_TICK_MS: u64 = 250;
/// Ticks without anything to do after which a shard counts as idle.
const BUSY_TICKS: u32 = 8;
/// How often connections and counters are looked at.
const SECOND_MS: u64 = 1000;
/// How long a store that found no room counts as full: it tries again several times within that.
const FULL_FORGOTTEN_MS: u64 = 1000;
/// How long a stop waits for clients to read their last responses.
const STOP_CONNECTIONS_MS: u64 = 2000;

impl Shard {
    /// Ticks until the process ends.
    pub(super) async fn upkeep(self: Rc<Self>) {
        let (mut quiet, mut next_second, mut next_retention) = (0, 0, 0);
        loop {
            let now = monotonic_ms();
            self.pulse.turn();
            self.store.borrow_mut().tick(now);
            self.note_full(now);
            self.tick_groups();
            self.end_late(now);
            if now >= next_second {
                next_second = now + SECOND_MS;
                self.each_second(now);
            }
            if now >= next_retention {
                next_retention = now + self.config.borrow().retention_check_interval_ms.max(SECOND_MS);
                self.retain();
            }
            self.move_on();
            quiet = if self.active.take() { 0 } else { quiet + 1 };
            let at_most = if quiet < BUSY_TICKS { BUSY_TICK_MS } else { IDLE_TICK_MS };
            let deadlines = [
                self.store.borrow().next_deadline(),
                self.groups_deadline(),
                self.deadlines.borrow().next_deadline(),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            let sleep = deadline.map_or(at_most, |at| at.saturating_sub(now).clamp(1, at_most));
            let timer = async {
                glommio::timer::sleep(Duration::from_millis(sleep)).await;
            };
            if quiet < BUSY_TICKS {
                timer.await;
            } else {
                timer.or(self.activity.wait()).await;
            }
        }
    }

    /// Tells the health check whether the store found no room lately.
    fn note_full(&self, now: u64) {
        if self.store.borrow().is_full() {
            self.full_seen.set(Some(now));
        }
        let lately = self.full_seen.get().is_some_and(|seen| now < seen + FULL_FORGOTTEN_MS);
        self.node.stores_full[self.id].store(lately, Ordering::Relaxed);
    }

    /// Says that something is going on: the shard ticks often for a while.
    pub(super) fn note_activity(&self) {
        if !self.active.replace(true) {
            self.activity.set();
        }
    }

    fn each_second(self: &Rc<Self>, now: u64) {
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        for conn in connections {
            let over = conn.machine.borrow_mut().on_time(now);
            if let Some(reason) = over {
                if reason == CloseReason::NotReading {
                    tracing::info!("closing {}: it reads nothing", conn.peer);
                }
                conn.close(reason);
            }
        }
        self.compact_groups();
        self.publish();
    }

    /// Brings the counters that others keep up to date.
    fn publish(&self) {
        use crate::machine::budget::Class;
        let (counters, budget, store) = (&self.counters, self.budget.borrow(), self.store.borrow());
        counters.budget_produce_bytes.set(budget.used(Class::Produce) as u64);
        counters.budget_responses_bytes.set(budget.used(Class::Responses) as u64);
        counters.budget_requests_bytes.set(budget.used(Class::Requests) as u64);
        counters.tail_memory_bytes.set(store.memory() as u64);
        counters.wal_used_bytes.set(store.wal().used_bytes());
        counters.interruptions_useful.set_total(self.pulse.useful_interruptions());
        counters.partitions.set(self.partitions.borrow().count() as u64);
        counters.major_faults.set_total(major_faults().unwrap_or(0));
        counters.fetch_sessions_evicted.set_total(self.sessions.borrow().evictions());
    }

    /// Deletes by time and by size, and forgets producers that were quiet for long.
    fn retain(self: &Rc<Self>) {
        let (now, expiration) = (wall_ms(), self.config.borrow().producer_id_expiration_ms);
        let expiration = i64::try_from(expiration).unwrap_or(i64::MAX);
        for partition in self.partitions.borrow().all() {
            self.store.borrow_mut().expire_producers(partition.ix, now, expiration);
            if partition.deletes() && !self.is_group_state(&partition.key) {
                self.retain_partition(&partition, now);
            }
        }
    }

    fn retain_partition(self: &Rc<Self>, partition: &Partition, now: i64) {
        let config = Rc::clone(&partition.config.borrow());
        let (retention_ms, retention_bytes) = (config.retention_ms, config.retention_bytes);
        let segments = self.store.borrow().segments(partition.ix);
        let limit = self.high_watermark(partition);
        let before = retention_ms.map(|ms| now.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
        let Some(start) = new_start(&segments, before, retention_bytes, limit) else { return };
        if start <= self.store.borrow().start_offset(partition.ix) {
            return;
        }
        let mut store = self.store.borrow_mut();
        if segments.last().is_some_and(|active| start >= active.end) {
            // All of it goes, the segment that is appended to as well.
            store.roll(partition.ix);
        }
        store.advance_start(partition.ix, start);
        let index = partition.key.partition;
        tracing::info!("retention: partition {index} of {} now starts at {start}", partition.topic);
    }

    /// Ends in order: nothing more is read, what is in flight is answered, everything is written out and in a
    /// checkpoint, so that the next start has nothing to replay.
    pub(super) async fn stop(self: &Rc<Self>) {
        self.stopping.set(true);
        let deadline = monotonic_ms() + STOP_CONNECTIONS_MS;
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().for_each(|conn| conn.drain());
        while !self.connections.borrow().is_empty() && monotonic_ms() < deadline {
            self.handle_mail();
            self.pump();
            glommio::timer::sleep(Duration::from_millis(2)).await;
        }
        let connections: Vec<_> = self.connections.borrow().values().cloned().collect();
        connections.iter().for_each(|conn| conn.close(CloseReason::Shutdown));
        self.node.stopped.fetch_add(1, Ordering::AcqRel);
        // Other shards may still need this one: it goes on serving them until all have said the same.
        while self.node.stopped.load(Ordering::Acquire) < self.node.shards {
            self.handle_mail();
            self.pump();
            glommio::timer::sleep(Duration::from_millis(2)).await;
        }
        self.write_out().await;
    }

    /// Takes what is in the mailbox.
    fn handle_mail(self: &Rc<Self>) {
        while let Some(message) = self.node.mailboxes[self.id].try_receive() {
            self.handle(message);
        }
    }

    async fn write_out(self: &Rc<Self>) {
        // What a full disk keeps from being written was never acknowledged.
        while !self.store.borrow().wal().is_idle() && !self.store.borrow().is_full() {
            self.pump();
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
        if self.store.borrow().is_dirty() {
            self.store.borrow_mut().begin_checkpoint();
        }
        while (self.store.borrow().is_checkpointing() || self.store.borrow().has_jobs_out())
            && !self.store.borrow().is_full()
        {
            self.pump();
            self.store.borrow_mut().tick(monotonic_ms());
            glommio::timer::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Major page faults of this thread so far: the twelfth field of its `stat`, the tenth after the name.
fn major_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_whitespace().nth(9)?.parse().ok()
}

/// Where the log starts after deleting by time (segments whose newest record is older than `before`) and by size
/// (the oldest segments, while the rest is still at least `bytes`); `None` where nothing goes. Never beyond
/// `limit`.
fn new_start(segments: &[SegmentState], before: Option<i64>, bytes: Option<u64>, limit: i64) -> Option<i64> {
    let mut total: u64 = segments.iter().map(|s| s.bytes).sum();
    let mut start = None;
    for (at, segment) in segments.iter().enumerate() {
        let active = at + 1 == segments.len();
        let aged = segment.bytes > 0 && before.is_some_and(|before| segment.max_timestamp < before);
        let large = !active && bytes.is_some_and(|bytes| total - segment.bytes >= bytes);
        if !(aged || large) || segment.end > limit {
            break;
        }
        total -= segment.bytes;
        start = Some(segment.end);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(ends: &[(i64, u64, i64)]) -> Vec<SegmentState> {
        let mut base = 0;
        ends.iter()
            .map(|(end, bytes, max_timestamp)| {
                let segment = SegmentState { base, end: *end, bytes: *bytes, max_timestamp: *max_timestamp };
                base = *end;
                segment
            })
            .collect()
    }

    #[test]
    fn time_takes_segments_from_the_oldest_on() {
        let all = segments(&[(10, 100, 50), (20, 100, 40), (30, 100, 90)]);
        assert_eq!(new_start(&all, Some(60), None, 30), Some(20));
        assert_eq!(new_start(&all, Some(50), None, 30), None, "not older than the limit");
        assert_eq!(new_start(&all, Some(100), None, 30), Some(30), "the active segment too");
        assert_eq!(new_start(&all, Some(100), None, 25), Some(20), "never what is not committed");
        assert_eq!(new_start(&segments(&[(0, 0, -1)]), Some(100), None, 0), None, "nothing there");
    }

    #[test]
    fn size_keeps_at_least_what_is_asked_and_the_active_segment() {
        let all = segments(&[(10, 100, 50), (20, 100, 60), (30, 100, 70)]);
        assert_eq!(new_start(&all, None, Some(150), 30), Some(10));
        assert_eq!(new_start(&all, None, Some(100), 30), Some(20));
        assert_eq!(new_start(&all, None, Some(0), 30), Some(20));
        assert_eq!(new_start(&all, None, Some(300), 30), None);
    }
}
