//! The decoder of Fetch requests: borrows from the frame, allocates nothing.

use super::{FLEXIBLE_SINCE, PARTITIONS_MAX, TOPIC_IDS_SINCE, VERSION_MAX, VERSION_MIN};
use crate::wire::{At, Cause, GuardError, Reader, TopicRef};
use uuid::Uuid;

/// A Fetch request, checked as a whole, borrowed from its frame. Fields that a version does not have hold Kafka's
/// defaults.
#[derive(Debug, Clone, Copy)]
pub struct FetchRequest<'a> {
    /// The cluster that the sender believes to talk to. From version 12.
    pub cluster_id: Option<&'a str>,
    /// The sending broker's id, or -1 for a consumer. Anyone can write one: only a connection between brokers may be
    /// believed.
    pub replica_id: i32,
    /// The sending broker's epoch (KIP-903), or -1. From version 15.
    pub replica_epoch: i64,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes to wait for.
    pub min_bytes: i32,
    /// How many bytes the whole answer may carry; the first batch is always sent.
    pub max_bytes: i32,
    /// 0 to see all records, 1 to see those of committed transactions only.
    pub isolation_level: i8,
    /// The fetch session (KIP-227), 0 for none. From version 7.
    pub session_id: i32,
    /// The epoch within the session: 0 starts one, -1 ends it. From version 7.
    pub session_epoch: i32,
    /// The rack of the consumer (KIP-392), empty for none. From version 11.
    pub rack_id: &'a str,
    /// How many partitions the request names, over all topics, forgotten ones not included.
    pub partition_count: u32,
    topics: FetchTopics<'a>,
    forgotten: ForgottenTopics<'a>,
}

/// The topics to fetch, in the order of the frame.
#[derive(Debug, Clone, Copy)]
pub struct FetchTopics<'a> {
    reader: Reader<'a>,
    left: u32,
    version: i16,
}

/// What to fetch of one topic.
#[derive(Debug, Clone, Copy)]
pub struct FetchTopic<'a> {
    /// Which topic: an id from version 13 on, else a name.
    pub topic: TopicRef<'a>,
    /// The partitions, in the order of the frame.
    pub partitions: FetchPartitions<'a>,
}

/// The partitions of one topic.
#[derive(Debug, Clone, Copy)]
pub struct FetchPartitions<'a> {
    reader: Reader<'a>,
    left: u32,
    version: i16,
}

/// What to fetch of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's index.
    pub partition: i32,
    /// The leader epoch that the sender knows (KIP-320), or -1. From version 9.
    pub current_leader_epoch: i32,
    /// The offset to fetch from.
    pub fetch_offset: i64,
    /// The epoch of the last record that the sender has (KIP-595), or -1. From version 12.
    pub last_fetched_epoch: i32,
    /// The first offset of the follower's log, or -1. From version 5.
    pub log_start_offset: i64,
    /// How many bytes of this partition the answer may carry.
    pub partition_max_bytes: i32,
    /// The directory in which the follower keeps the partition (KIP-853), nil for none. From version 17.
    pub replica_directory_id: Uuid,
    /// The high watermark that the follower knows (KIP-1166), the highest number for "do not tell me of a new one".
    /// From version 18.
    pub high_watermark: i64,
}

/// The topics that leave the fetch session, in the order of the frame.
#[derive(Debug, Clone, Copy)]
pub struct ForgottenTopics<'a> {
    reader: Reader<'a>,
    left: u32,
    version: i16,
}

/// What leaves the fetch session of one topic.
#[derive(Debug, Clone, Copy)]
pub struct ForgottenTopic<'a> {
    /// Which topic: an id from version 13 on, else a name.
    pub topic: TopicRef<'a>,
    /// The indexes of the partitions.
    pub partitions: ForgottenPartitions<'a>,
}

/// The indexes of the partitions of one topic that leave the fetch session.
#[derive(Debug, Clone, Copy)]
pub struct ForgottenPartitions<'a> {
    indexes: &'a [[u8; 4]],
}

impl<'a> FetchRequest<'a> {
    /// Checks every length in `body` and gives the request. Iterating over it afterwards cannot fail.
    ///
    /// Bytes behind the message are ignored, as Kafka ignores them.
    ///
    /// # Errors
    /// [`GuardError`] when the version is not decoded or the body is not such a request.
    pub fn decode(api_version: i16, body: &'a [u8]) -> Result<Self, GuardError> {
        if !(VERSION_MIN..=VERSION_MAX).contains(&api_version) {
            return Err(GuardError { field: "request_api_version", cause: Cause::NotServed });
        }
        let version = api_version;
        let flexible = version >= FLEXIBLE_SINCE;
        let r = &mut Reader::new(body);
        let replica_id = if version < 15 { r.i32().at("replica_id")? } else { -1 };
        let max_wait_ms = r.i32().at("max_wait_ms")?;
        let min_bytes = r.i32().at("min_bytes")?;
        let max_bytes = r.i32().at("max_bytes")?;
        let isolation_level = r.i8().at("isolation_level")?;
        let session_id = if version >= 7 { r.i32().at("session_id")? } else { 0 };
        let session_epoch = if version >= 7 { r.i32().at("session_epoch")? } else { -1 };
        let left = r.array_len(flexible).at("topics")?;
        let topics = FetchTopics { reader: *r, left, version };
        let partition_count = check_topics(r, left, version)?;
        let left = if version >= 7 { r.array_len(flexible).at("forgotten_topics_data")? } else { 0 };
        let forgotten = ForgottenTopics { reader: *r, left, version };
        check_forgotten(r, left, version, partition_count)?;
        let rack_id = if version >= 11 { r.str(flexible).at("rack_id")? } else { "" };
        let mut request = Self {
            cluster_id: None,
            replica_id,
            replica_epoch: -1,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            rack_id,
            partition_count,
            topics,
            forgotten,
        };
        if flexible {
            request.read_tagged_fields(r, version)?;
        }
        Ok(request)
    }

    /// The topics to fetch, in the order of the frame.
    pub fn topics(&self) -> FetchTopics<'a> {
        self.topics
    }

    /// The topics that leave the fetch session, in the order of the frame.
    pub fn forgotten_topics(&self) -> ForgottenTopics<'a> {
        self.forgotten
    }

    fn read_tagged_fields(&mut self, reader: &mut Reader<'a>, version: i16) -> Result<(), GuardError> {
        reader.tagged_fields(|tag, content| {
            match tag {
                0 => self.cluster_id = content.nullable_str(true).at("cluster_id")?,
                1 => {
                    in_version("replica_state", version >= 15)?;
                    self.replica_id = content.i32().at("replica_id")?;
                    self.replica_epoch = content.i64().at("replica_epoch")?;
                    content.skip_tagged_fields(true)?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(())
    }
}

/// Walks all topics to fetch; gives the number of their partitions.
fn check_topics(reader: &mut Reader<'_>, topics: u32, version: i16) -> Result<u32, GuardError> {
    let flexible = version >= FLEXIBLE_SINCE;
    let mut partition_count = 0;
    for _ in 0..topics {
        read_topic(reader, version)?;
        let partitions = reader.array_len(flexible).at("partitions")?;
        partition_count = bounded(partition_count, partitions)?;
        for _ in 0..partitions {
            read_partition(reader, version)?;
        }
        reader.skip_tagged_fields(flexible)?;
    }
    Ok(partition_count)
}

/// Walks all forgotten topics.
fn check_forgotten(
    reader: &mut Reader<'_>,
    topics: u32,
    version: i16,
    before: u32,
) -> Result<(), GuardError> {
    let mut partition_count = before;
    for _ in 0..topics {
        let topic = read_forgotten(reader, version)?;
        partition_count = bounded(partition_count, topic.partitions.indexes.len() as u32)?;
    }
    Ok(())
}

/// `count + more`, if that many partitions are taken.
fn bounded(count: u32, more: u32) -> Result<u32, GuardError> {
    let count = count.saturating_add(more);
    if count > PARTITIONS_MAX {
        return Err(GuardError { field: "partitions", cause: Cause::TooMany { count, max: PARTITIONS_MAX } });
    }
    Ok(count)
}

fn read_topic<'a>(reader: &mut Reader<'a>, version: i16) -> Result<TopicRef<'a>, GuardError> {
    if version >= TOPIC_IDS_SINCE {
        reader.uuid().at("topic_id").map(TopicRef::Id)
    } else {
        reader.str(version >= FLEXIBLE_SINCE).at("topic").map(TopicRef::Name)
    }
}

fn read_partition(r: &mut Reader<'_>, version: i16) -> Result<FetchPartition, GuardError> {
    let mut partition = FetchPartition {
        partition: r.i32().at("partition")?,
        current_leader_epoch: if version >= 9 { r.i32().at("current_leader_epoch")? } else { -1 },
        fetch_offset: r.i64().at("fetch_offset")?,
        last_fetched_epoch: if version >= 12 { r.i32().at("last_fetched_epoch")? } else { -1 },
        log_start_offset: if version >= 5 { r.i64().at("log_start_offset")? } else { -1 },
        partition_max_bytes: r.i32().at("partition_max_bytes")?,
        replica_directory_id: Uuid::nil(),
        high_watermark: i64::MAX,
    };
    if version >= FLEXIBLE_SINCE {
        r.tagged_fields(|tag, content| {
            match tag {
                0 => {
                    in_version("replica_directory_id", version >= 17)?;
                    partition.replica_directory_id = content.uuid().at("replica_directory_id")?;
                }
                1 => {
                    in_version("high_watermark", version >= 18)?;
                    partition.high_watermark = content.i64().at("high_watermark")?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
    }
    Ok(partition)
}

/// Refuses a tagged field that this version does not have, as Kafka does, instead of taking it for an unknown one.
fn in_version(field: &'static str, is_in: bool) -> Result<(), GuardError> {
    if is_in { Ok(()) } else { Err(GuardError { field, cause: Cause::TagNotInVersion }) }
}

fn read_forgotten<'a>(reader: &mut Reader<'a>, version: i16) -> Result<ForgottenTopic<'a>, GuardError> {
    let flexible = version >= FLEXIBLE_SINCE;
    let topic = read_topic(reader, version)?;
    let count = reader.array_len(flexible).at("partitions")?;
    let (indexes, _) = reader.take(count as usize * 4).at("partitions")?.as_chunks::<4>();
    reader.skip_tagged_fields(flexible)?;
    Ok(ForgottenTopic { topic, partitions: ForgottenPartitions { indexes } })
}

/// Why reading again what [`FetchRequest::decode`] read cannot fail.
const CHECKED: &str = "the whole request was walked when it was decoded";

impl<'a> Iterator for FetchTopics<'a> {
    type Item = FetchTopic<'a>;

    fn next(&mut self) -> Option<FetchTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        let flexible = self.version >= FLEXIBLE_SINCE;
        let topic = read_topic(&mut self.reader, self.version).expect(CHECKED);
        let left = self.reader.array_len(flexible).expect(CHECKED);
        let partitions = FetchPartitions { reader: self.reader, left, version: self.version };
        for _ in 0..left {
            read_partition(&mut self.reader, self.version).expect(CHECKED);
        }
        self.reader.skip_tagged_fields(flexible).expect(CHECKED);
        Some(FetchTopic { topic, partitions })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for FetchTopics<'_> {}

impl Iterator for FetchPartitions<'_> {
    type Item = FetchPartition;

    fn next(&mut self) -> Option<FetchPartition> {
        self.left = self.left.checked_sub(1)?;
        Some(read_partition(&mut self.reader, self.version).expect(CHECKED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for FetchPartitions<'_> {}

impl<'a> Iterator for ForgottenTopics<'a> {
    type Item = ForgottenTopic<'a>;

    fn next(&mut self) -> Option<ForgottenTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(read_forgotten(&mut self.reader, self.version).expect(CHECKED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for ForgottenTopics<'_> {}

impl Iterator for ForgottenPartitions<'_> {
    type Item = i32;

    fn next(&mut self) -> Option<i32> {
        let (first, rest) = self.indexes.split_first()?;
        self.indexes = rest;
        Some(i32::from_be_bytes(*first))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.indexes.len(), Some(self.indexes.len()))
    }
}

impl ExactSizeIterator for ForgottenPartitions<'_> {}
