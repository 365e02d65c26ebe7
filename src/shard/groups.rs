//! The group coordinators of this shard: one for each partition of `__consumer_offsets` that lives here. Their
//! records go to that partition's log, their answers leave once those are durable.

use crate::clock::{monotonic_ms, wall_ms};
use crate::machine::config::BrokerConfig;
use crate::machine::error::ErrorCode;
use crate::machine::group::{Action, AppendId, Coordinator, GroupSettings, Now, Reply, Request, StateRecord};
use crate::shard::Shard;
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Step, pause};
use crate::shard::produce::{Tell, Waiter};
use futures_channel::oneshot;
use hashbrown::HashMap;
use ringlog_net::TopicRef;
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{self, BatchBuilder, records_of};
use ringlog_storage::compression::Codec;
use ringlog_storage::store::ReadPlan;
use std::rc::Rc;

/// The topic that holds group state.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Bytes that a coordinator's partition grows by before its live state is written again and the log before that
/// is let go, until there is log compaction.
const COMPACT_AFTER_BYTES: u64 = if cfg!(test) { 32 << 10 } else { 64 << 20 };
/// Bytes of records in one batch of live state.
const STATE_BATCH_BYTES: usize = 512 << 10;
/// Bytes read at a time while loading.
const LOAD_BYTES: usize = 4 << 20;

/// See the module's documentation.
#[derive(Default)]
pub struct Groups {
    hosts: HashMap<i32, Host, foldhash::fast::RandomState>,
}

impl Groups {
    /// The coordinator of just this partition: not of one that was made after it was deleted.
    fn host_of(&mut self, partition: &Rc<Partition>) -> Option<&mut Host> {
        self.hosts.get_mut(&partition.key.partition).filter(|host| Rc::ptr_eq(&host.partition, partition))
    }
}

struct Host {
    coordinator: Coordinator,
    partition: Rc<Partition>,
    asked: HashMap<u64, oneshot::Sender<Reply>, foldhash::fast::RandomState>,
    /// The live state is being written: requests wait, for what they change would be lost.
    held: Option<Vec<(u64, Request)>>,
    /// It is on its way to the log.
    writing: bool,
    /// Bytes of the partition when its live state was last written, in this process; none while it is loading and
    /// after that failed, for then there is no state to write.
    bytes_then: Option<u64>,
}

fn now() -> Now {
    Now { monotonic_ms: monotonic_ms(), wall_ms: wall_ms() }
}

fn settings(config: &BrokerConfig) -> GroupSettings {
    let int = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
    GroupSettings {
        min_session_timeout_ms: int(config.group_min_session_timeout_ms),
        max_session_timeout_ms: int(config.group_max_session_timeout_ms),
        max_size: config.group_max_size as usize,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        offset_metadata_max: config.offset_metadata_max_bytes as usize,
        offsets_retention_ms: i64::try_from(config.offsets_retention_ms).unwrap_or(i64::MAX),
        offsets_retention_check_interval_ms: config.offsets_retention_check_interval_ms,
        ..GroupSettings::default()
    }
}

/// Records in pieces of at most [`STATE_BATCH_BYTES`], or of one record.
fn state_batches(records: &[StateRecord]) -> impl Iterator<Item = &[StateRecord]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|record| {
            bytes += record.key.len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + 16;
            bytes <= STATE_BATCH_BYTES
        });
        let n = fits.count().max(1).min(rest.len());
        let (batch, later) = rest.split_at(n);
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

impl Shard {
    /// Sends a request to a coordinator, here or on its shard, and waits for the answer.
    pub async fn group(self: &Rc<Self>, offsets_partition: i32, request: Request) -> Reply {
        let topic = self.partitions.borrow().topic(&TopicRef::Name(OFFSETS_TOPIC)).cloned();
        let place = topic.and_then(|t| t.partitions.get(usize::try_from(offsets_partition).ok()?).cloned());
        let shard = match place {
            None => return request.refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            Some(Place::Here(_)) => self.id,
            Some(Place::Shard(shard)) => shard,
        };
        let (tell, told) = oneshot::channel();
        let refused = request.refuse(ErrorCode::NOT_COORDINATOR);
        if shard == self.id {
            self.ask_group(offsets_partition, request, tell);
        } else {
            self.counters.requests_forwarded.increment();
            self.run_on(shard, move |shard| {
                shard.ask_group(offsets_partition, request, tell);
                shard.pump();
            });
        }
        let reply = told.await;
        pause(Step::Answer).await;
        reply.unwrap_or(refused)
    }

    fn ask_group(self: &Rc<Self>, partition: i32, request: Request, tell: oneshot::Sender<Reply>) {
        let token = self.next_number();
        let mut groups = self.groups.borrow_mut();
        let Some(host) = groups.hosts.get_mut(&partition) else {
            let _ = tell.send(request.refuse(ErrorCode::NOT_COORDINATOR));
            return;
        };
        host.asked.insert(token, tell);
        match &mut host.held {
            Some(held) => held.push((token, request)),
            None => host.coordinator.handle(now(), token, request),
        }
        drop(groups);
        self.carry_out(partition);
    }

    /// Does what a coordinator says.
    fn carry_out(self: &Rc<Self>, partition: i32) {
        loop {
            let mut groups = self.groups.borrow_mut();
            let Some(host) = groups.hosts.get_mut(&partition) else { return };
            let Some(action) = host.coordinator.next_action() else { return };
            match action {
                Action::Reply { token, reply } => {
                    if let Some(tell) = host.asked.remove(&token) {
                        let _ = tell.send(reply);
                    }
                }
                Action::Append { id, records } => {
                    let log = Rc::clone(&host.partition);
                    drop(groups);
                    self.append_action(&log, &records, id);
                }
            }
        }
    }

    /// Appends a coordinator's records as one batch and reports what became of it.
    fn append_action(self: &Rc<Self>, log: &Rc<Partition>, records: &[StateRecord], id: AppendId) {
        let partition = log.key.partition;
        self.append_state(
            log,
            records,
            Box::new(move |shard, result| {
                if let Some(host) = shard.groups.borrow_mut().hosts.get_mut(&partition) {
                    host.coordinator.appended(now(), id, result.map(|_| ()));
                }
                shard.carry_out(partition);
                shard.compact_when_quiet(partition);
            }),
        );
    }

    /// Appends group records as one batch and tells when it is durable, or that it never will be.
    fn append_state(self: &Rc<Self>, log: &Rc<Partition>, records: &[StateRecord], tell: Tell) {
        if self.is_read_only() {
            return tell(self, Err(ErrorCode::KAFKA_STORAGE_ERROR));
        }
        let mut batch = BatchBuilder::new(Codec::None);
        for record in records {
            batch.push(record.timestamp_ms, Some(&record.key), record.value.as_deref(), &[]);
        }
        let bytes = batch.build(0, 0);
        self.submit(log, &bytes, None, true, -1, Waiter::Internal(tell));
    }

    /// Starts the coordinators of partitions that came with the image.
    pub fn load_groups(self: &Rc<Self>) {
        let Some(topic) = self.partitions.borrow().topic(&TopicRef::Name(OFFSETS_TOPIC)).cloned() else {
            return;
        };
        for place in &topic.partitions {
            let Place::Here(partition) = place else { continue };
            let index = partition.key.partition;
            if self.groups.borrow().hosts.contains_key(&index) {
                continue;
            }
            let host = Host {
                coordinator: Coordinator::new(settings(&self.config.borrow())),
                partition: Rc::clone(partition),
                asked: HashMap::default(),
                held: None,
                writing: false,
                bytes_then: None,
            };
            self.groups.borrow_mut().hosts.insert(index, host);
            let (shard, partition) = (Rc::clone(self), Rc::clone(partition));
            glommio::spawn_local(async move {
                match shard.load_coordinator(&partition).await {
                    Ok(()) => shard.carry_out(index),
                    Err(error) => {
                        tracing::error!("loading groups of {OFFSETS_TOPIC} {index}: {error}");
                        if let Some(host) = shard.groups.borrow_mut().host_of(&partition) {
                            host.coordinator.resign(ErrorCode::COORDINATOR_NOT_AVAILABLE);
                        }
                    }
                }
                shard.pump();
            })
            .detach();
        }
    }

    /// Replays a coordinator's partition.
    async fn load_coordinator(self: &Rc<Self>, partition: &Rc<Partition>) -> Result<(), String> {
        let index = partition.key.partition;
        let mut at = self.store.borrow().start_offset(partition.ix);
        let end = self.store.borrow().end_offset(partition.ix);
        while at < end {
            let bytes = self.read_for_load(partition, at, end).await?;
            if partition.deleted.get() {
                return Ok(());
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let info = batch::peek(rest).map_err(|e| e.to_string())?;
                let records = records_of(rest, super::partitions::DECOMPRESSED_BYTES_MAX);
                let records = records.map_err(|e| e.to_string())?;
                let mut groups = self.groups.borrow_mut();
                let Some(host) = groups.host_of(partition) else { return Ok(()) };
                for record in records.iter() {
                    let record = record.map_err(|e| e.to_string())?;
                    let time = info.timestamp_of(record.timestamp_delta);
                    if info.base_offset + i64::from(record.offset_delta) < at {
                        continue;
                    }
                    if let Some(key) = record.key
                        && let Err(error) = host.coordinator.load(key, record.value, time)
                    {
                        tracing::warn!("{OFFSETS_TOPIC} {index}: a record is skipped: {error}");
                    }
                }
                at = at.max(info.last_offset() + 1);
                rest = rest.get(info.size..).ok_or("a batch that is cut short")?;
            }
        }
        if let Some(host) = self.groups.borrow_mut().host_of(partition) {
            // What was left by those before counts as growth, or a partition would grow with every start.
            host.bytes_then = Some(0);
            host.coordinator.loaded(now());
        }
        Ok(())
    }

    async fn read_for_load(&self, partition: &Partition, at: i64, end: i64) -> Result<Vec<u8>, String> {
        let plan = self.store.borrow().read(partition.ix, at, end, LOAD_BYTES);
        match plan {
            ReadPlan::Tail(read) => {
                Ok(read.slices.iter().flat_map(|s| s.as_bytes().iter().copied()).collect())
            }
            ReadPlan::Cold(cold) => {
                let (disk, segments) = (self.node.disk.clone(), self.node.segments.clone());
                let read = move || segments.read_copy(&*disk, &cold, at, end, LOAD_BYTES);
                let _permit = self.cold_reads.acquire_permit(1).await.map_err(|e| e.to_string())?;
                let read = glommio::executor().spawn_blocking(read).await;
                pause(Step::Read).await;
                read.map_err(|e| e.to_string())
            }
            ReadPlan::Empty | ReadPlan::OutOfRange => Err(format!("offset {at} is not there")),
        }
    }

    /// Topics are gone: their offsets go too.
    pub fn topics_deleted(self: &Rc<Self>, names: &[&str]) {
        if names.is_empty() {
            return;
        }
        let hosts: Vec<i32> = self.groups.borrow().hosts.keys().copied().collect();
        for partition in hosts {
            let gone = {
                let mut groups = self.groups.borrow_mut();
                let Some(host) = groups.hosts.get_mut(&partition) else { continue };
                if host.partition.deleted.get() {
                    host.coordinator.resign(ErrorCode::NOT_COORDINATOR);
                    true
                } else {
                    host.coordinator.topics_deleted(now(), names);
                    false
                }
            };
            self.carry_out(partition);
            if gone {
                self.groups.borrow_mut().hosts.remove(&partition);
            }
        }
    }

    /// When a coordinator wants to be ticked next, ms of the monotone clock.
    pub fn groups_deadline(&self) -> Option<u64> {
        self.groups.borrow().hosts.values().filter_map(|host| host.coordinator.next_deadline_ms()).min()
    }

    /// Time passed.
    pub fn tick_groups(self: &Rc<Self>) {
        let time = now();
        let due: Vec<i32> = {
            let groups = self.groups.borrow();
            let due =
                |host: &Host| host.coordinator.next_deadline_ms().is_some_and(|at| at <= time.monotonic_ms);
            groups.hosts.iter().filter(|(_, host)| due(host)).map(|(index, _)| *index).collect()
        };
        for partition in due {
            if let Some(host) = self.groups.borrow_mut().hosts.get_mut(&partition) {
                host.coordinator.tick(time);
            }
            self.carry_out(partition);
        }
    }

    /// Holds back the requests of coordinators whose partitions have grown, so that their live state can be
    /// written as soon as nothing of theirs is in flight.
    pub fn compact_groups(self: &Rc<Self>) {
        if self.is_read_only() {
            return;
        }
        let grown: Vec<i32> = {
            let (mut groups, store) = (self.groups.borrow_mut(), self.store.borrow());
            let grown = groups.hosts.iter_mut().filter(|(_, host)| {
                let bytes = store.bytes(host.partition.ix);
                let has_grown = host.bytes_then.is_some_and(|then| bytes > then + COMPACT_AFTER_BYTES);
                host.held.is_none() && has_grown
            });
            grown
                .map(|(index, host)| {
                    host.held = Some(Vec::new());
                    *index
                })
                .collect()
        };
        for partition in grown {
            self.compact_when_quiet(partition);
        }
    }

    /// Writes the live state of a coordinator that is held back, if nothing of it is in flight, and lets go of the
    /// log before it. State, end of the log and appends are taken in one step: nothing comes between them.
    fn compact_when_quiet(self: &Rc<Self>, partition: i32) {
        let (log, records) = {
            let mut groups = self.groups.borrow_mut();
            let Some(host) = groups.hosts.get_mut(&partition) else { return };
            if host.held.is_none() || host.writing {
                return;
            }
            let Some(records) = host.coordinator.live_state(now()) else { return };
            host.writing = true;
            (Rc::clone(&host.partition), records)
        };
        let before = self.store.borrow().end_offset(log.ix);
        let mut outcomes = Vec::new();
        for batch in state_batches(&records) {
            let (tell, told) = oneshot::channel();
            let tell: Tell = Box::new(move |_, result| {
                let _ = tell.send(result.is_ok());
            });
            self.append_state(&log, batch, tell);
            outcomes.push(told);
        }
        let shard = Rc::clone(self);
        glommio::spawn_local(async move {
            let mut whole = true;
            for told in outcomes {
                whole &= told.await.unwrap_or(false);
            }
            shard.state_written(&log, whole.then_some(before));
            shard.pump();
        })
        .detach();
    }

    /// The live state is durable, and the log before `before` may go; or it could not be written, and nothing may.
    fn state_written(self: &Rc<Self>, log: &Rc<Partition>, before: Option<i64>) {
        let index = log.key.partition;
        if !log.deleted.get() {
            let mut store = self.store.borrow_mut();
            if let Some(before) = before.filter(|before| *before > store.start_offset(log.ix)) {
                store.roll(log.ix);
                store.advance_start(log.ix, before);
            }
        }
        let bytes = if log.deleted.get() { 0 } else { self.store.borrow().bytes(log.ix) };
        if let Some(host) = self.groups.borrow_mut().hosts.get_mut(&index) {
            // Also after a failure: it is tried again when the partition has grown once more.
            host.bytes_then = Some(bytes);
            host.writing = false;
            for (token, request) in host.held.take().into_iter().flatten() {
                host.coordinator.handle(now(), token, request);
            }
        }
        self.carry_out(index);
    }

    /// Whether a partition holds group state: time and size never delete it.
    pub fn is_group_state(&self, key: &PartitionKey) -> bool {
        let topic = self.partitions.borrow().topic(&TopicRef::Name(OFFSETS_TOPIC)).cloned();
        topic.is_some_and(|topic| topic.id == key.topic)
    }
}

#[cfg(test)]
mod tests;
