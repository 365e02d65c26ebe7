//! Produce, the hot path: a decoder that borrows from the frame and an encoder that writes straight into a buffer.
//!
//! Versions 3 to 13. Kafka 4 advertises versions 0 to 2 because librdkafka wants to see them (KAFKA-18659), yet takes
//! them for an invalid request and closes the connection; [`ProduceRequest::decode`] refuses them with
//! [`Cause::NotServed`], and the connection is to be closed.

use crate::wire::{self, At, Cause, GuardError, NodeEndpoint, Reader, TopicRef};
use bytes::{BufMut, BytesMut};

/// The lowest version that is decoded.
pub const VERSION_MIN: i16 = 3;
/// The highest version that is decoded.
pub const VERSION_MAX: i16 = 13;

/// The most partitions that one request may carry, over all topics: what is kept for each of them until it is
/// answered costs far more than the few bytes that an empty one takes in the frame.
pub const PARTITIONS_MAX: u32 = 65_536;

/// The first version in the flexible format.
const FLEXIBLE_SINCE: i16 = 9;
/// The first version that names topics by their id.
const TOPIC_IDS_SINCE: i16 = 13;

/// A Produce request, checked as a whole, borrowed from its frame.
#[derive(Debug, Clone, Copy)]
pub struct ProduceRequest<'a> {
    /// The transactional id, if the producer is transactional.
    pub transactional_id: Option<&'a str>,
    /// Who must have the records before the answer: 0 nobody (and there is no answer), 1 the leader, -1 all in sync.
    pub acks: i16,
    /// How long the answer may take, in milliseconds.
    pub timeout_ms: i32,
    /// How many partitions the request holds, over all topics.
    pub partition_count: u32,
    topics: Topics<'a>,
}

/// The topics of a request, in the order of the frame.
#[derive(Debug, Clone, Copy)]
pub struct Topics<'a> {
    reader: Reader<'a>,
    left: u32,
    version: i16,
}

/// What a request holds for one topic.
#[derive(Debug, Clone, Copy)]
pub struct ProduceTopic<'a> {
    /// Which topic: an id from version 13 on, else a name.
    pub topic: TopicRef<'a>,
    /// The partitions, in the order of the frame.
    pub partitions: Partitions<'a>,
}

/// The partitions of one topic.
#[derive(Debug, Clone, Copy)]
pub struct Partitions<'a> {
    reader: Reader<'a>,
    left: u32,
    flexible: bool,
}

/// What a request holds for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducePartition<'a> {
    /// The partition's index.
    pub index: i32,
    /// The record batches as they came, or null, which Kafka answers as an invalid record. The slice lies in the
    /// bytes that were decoded, so `Bytes::slice_ref` makes a handle of it without a copy.
    pub records: Option<&'a [u8]>,
}

impl<'a> ProduceRequest<'a> {
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
        let flexible = api_version >= FLEXIBLE_SINCE;
        let mut reader = Reader::new(body);
        let transactional_id = reader.nullable_str(flexible).at("transactional_id")?;
        let acks = reader.i16().at("acks")?;
        let timeout_ms = reader.i32().at("timeout_ms")?;
        let left = reader.array_len(flexible).at("topic_data")?;
        let topics = Topics { reader, left, version: api_version };
        let partition_count = check_topics(&mut reader, left, api_version)?;
        reader.skip_tagged_fields(flexible)?;
        Ok(Self { transactional_id, acks, timeout_ms, partition_count, topics })
    }

    /// The topics, in the order of the frame.
    pub fn topics(&self) -> Topics<'a> {
        self.topics
    }
}

/// Walks all topics; gives the number of their partitions.
fn check_topics(reader: &mut Reader<'_>, topics: u32, version: i16) -> Result<u32, GuardError> {
    let flexible = version >= FLEXIBLE_SINCE;
    let mut partition_count = 0u32;
    for _ in 0..topics {
        read_topic(reader, version)?;
        let partitions = reader.array_len(flexible).at("partition_data")?;
        partition_count = partition_count.saturating_add(partitions);
        if partition_count > PARTITIONS_MAX {
            let cause = Cause::TooMany { count: partition_count, max: PARTITIONS_MAX };
            return Err(GuardError { field: "partition_data", cause });
        }
        for _ in 0..partitions {
            read_partition(reader, flexible)?;
        }
        reader.skip_tagged_fields(flexible)?;
    }
    Ok(partition_count)
}

fn read_topic<'a>(reader: &mut Reader<'a>, version: i16) -> Result<TopicRef<'a>, GuardError> {
    if version >= TOPIC_IDS_SINCE {
        reader.uuid().at("topic_id").map(TopicRef::Id)
    } else {
        reader.str(version >= FLEXIBLE_SINCE).at("name").map(TopicRef::Name)
    }
}

fn read_partition<'a>(reader: &mut Reader<'a>, flexible: bool) -> Result<ProducePartition<'a>, GuardError> {
    let index = reader.i32().at("index")?;
    let records = reader.nullable_bytes(flexible).at("records")?;
    reader.skip_tagged_fields(flexible)?;
    Ok(ProducePartition { index, records })
}

/// Why reading again what [`ProduceRequest::decode`] read cannot fail.
const CHECKED: &str = "the whole request was walked when it was decoded";

impl<'a> Iterator for Topics<'a> {
    type Item = ProduceTopic<'a>;

    fn next(&mut self) -> Option<ProduceTopic<'a>> {
        self.left = self.left.checked_sub(1)?;
        let flexible = self.version >= FLEXIBLE_SINCE;
        let topic = read_topic(&mut self.reader, self.version).expect(CHECKED);
        let left = self.reader.array_len(flexible).expect(CHECKED);
        let partitions = Partitions { reader: self.reader, left, flexible };
        for _ in 0..left {
            read_partition(&mut self.reader, flexible).expect(CHECKED);
        }
        self.reader.skip_tagged_fields(flexible).expect(CHECKED);
        Some(ProduceTopic { topic, partitions })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Topics<'_> {}

impl<'a> Iterator for Partitions<'a> {
    type Item = ProducePartition<'a>;

    fn next(&mut self) -> Option<ProducePartition<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(read_partition(&mut self.reader, self.flexible).expect(CHECKED))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Partitions<'_> {}

/// What became of the records for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The offset of the first record, or -1.
    pub base_offset: i64,
    /// The time that the broker stamped on the records, in milliseconds since 1970, or -1 where the producer's stands.
    pub log_append_time_ms: i64,
    /// The first offset of the partition's log, or -1. From version 5.
    pub log_start_offset: i64,
    /// Records that made the batch be dropped: index in the batch, and why. From version 8 (KIP-467).
    pub record_errors: Vec<(i32, Option<String>)>,
    /// What went wrong, for people. From version 8.
    pub error_message: Option<String>,
    /// The leader's id and epoch, with an error that says that it changed. From version 10 (KIP-951).
    pub current_leader: Option<(i32, i32)>,
}

impl PartitionResult {
    /// The answer for records that were refused.
    pub fn error(index: i32, error_code: i16, error_message: Option<String>) -> Self {
        Self {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message,
            current_leader: None,
        }
    }
}

/// Writes a Produce response frame into a buffer, piece by piece, in the order of the wire.
///
/// Call [`topic`](Self::topic) as often as announced, after each of them [`partition`](Self::partition) as often as
/// announced, then [`finish`](Self::finish). Counts that do not match are a bug and panic.
#[derive(Debug)]
pub struct ProduceResponseWriter<'b> {
    buf: &'b mut BytesMut,
    start: usize,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
}

impl<'b> ProduceResponseWriter<'b> {
    /// Starts a frame at the end of `buf`. Topics are named as in the request of this version.
    ///
    /// # Panics
    /// When no request of this version can have been decoded.
    pub fn new(buf: &'b mut BytesMut, api_version: i16, correlation_id: i32, topics: usize) -> Self {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&api_version), "Produce version {api_version}");
        let flexible = api_version >= FLEXIBLE_SINCE;
        let start = wire::begin_frame(buf, flexible, correlation_id);
        wire::array_len(buf, flexible, topics);
        Self { buf, start, version: api_version, topics_left: topics, partitions_left: 0 }
    }

    /// Starts the next topic, of which `partitions` results follow.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) {
        assert_eq!(self.partitions_left, 0, "the topic before lacks partitions");
        self.topics_left = self.topics_left.checked_sub(1).expect("no more topics than were announced");
        let flexible = self.flexible();
        match topic {
            TopicRef::Name(name) if self.version < TOPIC_IDS_SINCE => wire::string(self.buf, flexible, name),
            TopicRef::Id(id) if self.version >= TOPIC_IDS_SINCE => self.buf.put_slice(id.as_bytes()),
            TopicRef::Name(_) | TopicRef::Id(_) => panic!("{topic:?} in version {}", self.version),
        }
        wire::array_len(self.buf, flexible, partitions);
        self.partitions_left = partitions;
        self.end_topic();
    }

    /// Writes the result of the topic's next partition. What the version has no field for is left out.
    pub fn partition(&mut self, result: &PartitionResult) {
        self.partitions_left =
            self.partitions_left.checked_sub(1).expect("no more partitions than were announced");
        let flexible = self.flexible();
        self.buf.put_i32(result.index);
        self.buf.put_i16(result.error_code);
        self.buf.put_i64(result.base_offset);
        self.buf.put_i64(result.log_append_time_ms);
        if self.version >= 5 {
            self.buf.put_i64(result.log_start_offset);
        }
        if self.version >= 8 {
            self.errors(result);
        }
        if flexible {
            let leader = result.current_leader.filter(|_| self.version >= 10);
            self.buf.put_u8(u8::from(leader.is_some()));
            if let Some((id, epoch)) = leader {
                wire::tag(self.buf, 0, 9);
                self.buf.put_i32(id);
                self.buf.put_i32(epoch);
                self.buf.put_u8(0);
            }
        }
        self.end_topic();
    }

    /// Ends the frame. `endpoints` are those of the brokers that partitions named as their leaders (from version 10).
    pub fn finish(self, throttle_time_ms: i32, endpoints: &[NodeEndpoint<'_>]) {
        assert_eq!((self.topics_left, self.partitions_left), (0, 0), "topics or partitions are missing");
        self.buf.put_i32(throttle_time_ms);
        if self.flexible() {
            let endpoints = if self.version >= 10 { endpoints } else { &[] };
            self.buf.put_u8(u8::from(!endpoints.is_empty()));
            wire::node_endpoints(self.buf, 0, endpoints);
        }
        wire::end_frame(self.buf, self.start, 0);
    }

    fn errors(&mut self, result: &PartitionResult) {
        let flexible = self.flexible();
        wire::array_len(self.buf, flexible, result.record_errors.len());
        for (index, message) in &result.record_errors {
            self.buf.put_i32(*index);
            wire::nullable_string(self.buf, flexible, message.as_deref());
            if flexible {
                self.buf.put_u8(0);
            }
        }
        wire::nullable_string(self.buf, flexible, result.error_message.as_deref());
    }

    /// Writes the topic's empty tagged fields once its last partition is written.
    fn end_topic(&mut self) {
        if self.partitions_left == 0 && self.flexible() {
            self.buf.put_u8(0);
        }
    }

    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_SINCE
    }
}

#[cfg(test)]
mod tests;
