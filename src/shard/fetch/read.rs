//! Reading a fetch's partitions, within one budget of bytes for the whole response: planned on their shards, then
//! charged, then what lies in files is read. So no memory is filled that was not charged before.

use super::TopicKey;
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::{FetchParams, PartitionResult, Plan};
use crate::shard::Shard;
use crate::shard::partitions::{Partition, Place};
use crate::shard::perturb::{Step, pause};
use crate::shard::records::RecordHandle;
use ringlog_storage::PartitionKey;
use ringlog_storage::reader::ColdRecords;
use ringlog_storage::store::{ColdRead, ReadPlan};
use std::rc::Rc;

/// What is read of one partition.
#[derive(Clone, Copy)]
pub(super) struct ReadPart {
    /// Its place in the plan.
    pub place: usize,
    pub key: PartitionKey,
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
pub(super) struct Found {
    pub place: usize,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start: i64,
    pub diverging: Option<(i32, i64)>,
    pub leader: Option<(i32, i32)>,
    pub records: Vec<RecordHandle>,
    /// Bytes of the records; of those that are still to be read from a file, how many they may be.
    pub bytes: usize,
    /// Bytes of memory that they take, or will take.
    pub memory: usize,
    pub cold: Option<Cold>,
}

/// Records that are still to be read from a file. Any shard may do that.
pub(super) struct Cold {
    key: PartitionKey,
    read: ColdRead,
    offset: i64,
    limit: i64,
    max: usize,
    /// They are the response's first and returned whatever their size.
    first: bool,
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
            memory: 0,
            cold: None,
        }
    }
}

impl Shard {
    /// Plans the reading of all of a request's partitions once: what is in memory is there, what is in files is
    /// named and guessed at.
    pub(super) async fn read_plan(
        self: &Rc<Self>,
        plan: &Plan<TopicKey>,
        max_bytes: usize,
    ) -> (Vec<ReadPart>, Vec<Found>) {
        let (parts, mut found) = self.locate(plan);
        found.extend(self.plan_all(&parts, max_bytes).await);
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
    pub(super) fn by_shard(&self, parts: &[ReadPart]) -> Vec<(usize, Vec<ReadPart>)> {
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

    /// Plans all parts, one shard after the other, so that the budget of bytes holds for the whole response.
    async fn plan_all(self: &Rc<Self>, parts: &[ReadPart], max_bytes: usize) -> Vec<Found> {
        let mut room = Room { bytes: max_bytes, first: true };
        let mut all = Vec::with_capacity(parts.len());
        for (shard, group) in self.by_shard(parts) {
            let found = self.call(shard, move |shard| shard.plan_here(&group, room)).await;
            let bytes: usize = found.iter().map(|f| f.bytes).sum();
            room = Room { bytes: room.bytes.saturating_sub(bytes), first: room.first && bytes == 0 };
            all.extend(found);
        }
        all
    }

    /// Plans parts that are all on this shard.
    fn plan_here(&self, parts: &[ReadPart], mut room: Room) -> Vec<Found> {
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let partition = self.partitions.borrow().here(&part.key);
            let found = match partition {
                Some(partition) => self.plan_partition(&partition, part, room),
                None => Found::error(part.place, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            if found.bytes > 0 {
                room = Room { bytes: room.bytes.saturating_sub(found.bytes), first: false };
            }
            all.push(found);
        }
        all
    }

    fn plan_partition(&self, partition: &Partition, part: &ReadPart, room: Room) -> Found {
        let params = &part.params;
        let mut found = Found::error(part.place, ErrorCode::NONE);
        if let Err(error) = check_epoch(partition.leader_epoch.get(), params.current_leader_epoch) {
            found.error = error;
            found.leader = Some((self.node.node_id, partition.leader_epoch.get()));
            return found;
        }
        let limit = self.high_watermark(partition);
        let max = usize::try_from(params.max_bytes).unwrap_or(0).min(room.bytes);
        let store = self.store.borrow();
        found.high_watermark = limit;
        found.log_start = store.start_offset(partition.ix);
        found.diverging = diverging(&store, partition, params);
        if found.diverging.is_some() {
            return found;
        }
        match store.read(partition.ix, params.fetch_offset, limit, max) {
            ReadPlan::OutOfRange => Found::error(part.place, ErrorCode::OFFSET_OUT_OF_RANGE),
            // The first batch of a response is returned whatever its size; others only if they fit.
            ReadPlan::Tail(read) if read.bytes <= max || room.first => {
                (found.bytes, found.memory) = (read.bytes, read.bytes);
                found.records = read.slices.into_iter().map(RecordHandle::Tail).collect();
                found
            }
            ReadPlan::Cold(read) if max > 0 || room.first => {
                let offset = params.fetch_offset;
                found.bytes = max.max(1).min(usize::try_from(read.bytes).unwrap_or(max));
                found.memory = read.memory_for(max);
                found.cold = Some(Cold { key: part.key, read, offset, limit, max, first: room.first });
                found
            }
            ReadPlan::Empty | ReadPlan::Tail(_) | ReadPlan::Cold(_) => found,
        }
    }

    /// Reads what lies in files, several at a time.
    pub(super) async fn read_cold(self: &Rc<Self>, found: &mut [Found]) {
        let start = |found: &mut Found| {
            let (shard, cold) = (Rc::clone(self), found.cold.take()?);
            Some(glommio::spawn_local(async move { shard.read_file(cold).await }))
        };
        let reads: Vec<_> = found.iter_mut().map(start).collect();
        for (found, read) in found.iter_mut().zip(reads) {
            let Some(read) = read else { continue };
            (found.records, found.bytes, found.memory) = (Vec::new(), 0, 0);
            match read.await {
                Ok(Some(records)) => {
                    (found.bytes, found.memory) = (records.len(), records.memory());
                    found.records.push(RecordHandle::Cold(records));
                }
                Ok(None) => {}
                Err(error) => *found = Found::error(found.place, error),
            }
        }
    }

    async fn read_file(self: &Rc<Self>, cold: Cold) -> Result<Option<ColdRecords>, ErrorCode> {
        let Cold { key, read, offset, limit, max, first } = cold;
        let permit = self.cold_reads.acquire_permit(1).await;
        let _permit = permit.expect("the semaphore lives as long as its shard");
        let (disk, segments) = (self.node.disk.clone(), self.node.segments.clone());
        let job = move || segments.read(&*disk, &read, offset, limit, max);
        let read = glommio::executor().spawn_blocking(job).await;
        pause(Step::Read).await;
        match read {
            Ok((records, _)) => Ok(Some(records).filter(|records| records.len() <= max || first)),
            Err(error) => Err(self.why_unread(key, offset, &error).await),
        }
    }

    /// What a client is told of records that could not be read. They may have been deleted since the read was
    /// planned.
    async fn why_unread(
        self: &Rc<Self>,
        key: PartitionKey,
        offset: i64,
        error: &std::io::Error,
    ) -> ErrorCode {
        let owner = self.node.shard_of(&key);
        let start = self.call(owner, move |shard| {
            let partition = shard.partitions.borrow().here(&key)?;
            Some(shard.store.borrow().start_offset(partition.ix))
        });
        match start.await {
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Some(start) if offset < start => ErrorCode::OFFSET_OUT_OF_RANGE,
            Some(_) => {
                tracing::error!("reading partition {key}: {error}");
                ErrorCode::KAFKA_STORAGE_ERROR
            }
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
    pub(super) fn for_session(&self) -> PartitionResult {
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
