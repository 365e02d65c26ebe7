//! Reading a fetch's partitions on their shards, within one budget of bytes for the whole response.

use super::TopicKey;
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::{FetchParams, PartitionResult, Plan};
use crate::shard::Shard;
use crate::shard::partitions::{Partition, Place};
use crate::shard::records::RecordHandle;
use ringlog_storage::PartitionKey;
use ringlog_storage::store::ReadPlan;
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
    pub bytes: usize,
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
    /// Reads all of a plan's partitions once.
    pub(super) async fn read_plan(
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
                match glommio::executor().spawn_blocking(read).await {
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
