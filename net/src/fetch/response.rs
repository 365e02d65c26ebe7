//! The encoder of Fetch responses: a scatter list whose record bytes stay where they are.
//!
//! ```text
//!   Bytes                       Records   Records   Bytes                   Records   Bytes
//!   +-------------------------+ +-------+ +-------+ +---------------------+ +-------+ +--------+
//!   | length, header, topic,  | | R     | | R     | | next partition's    | | R     | | tagged |
//!   | partition's fields      | |       | |       | | fields              | |       | | fields |
//!   +-------------------------+ +-------+ +-------+ +---------------------+ +-------+ +--------+
//! ```
//!
//! All `Bytes` of a response are slices of one buffer.

use super::{FLEXIBLE_SINCE, TOPIC_IDS_SINCE, VERSION_MAX, VERSION_MIN};
use crate::wire::{self, NodeEndpoint, TopicRef};
use bytes::{BufMut, Bytes, BytesMut};

/// A handle of record bytes that live elsewhere: in a tail chunk, a mapping, a buffer.
pub trait RecordSlice {
    /// How many bytes there are.
    fn byte_len(&self) -> usize;
}

impl RecordSlice for Bytes {
    fn byte_len(&self) -> usize {
        self.len()
    }
}

/// A piece of a response, to be written in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<R> {
    /// Bytes that the encoder made.
    Bytes(Bytes),
    /// Record bytes that the caller owns. Never empty.
    Records(R),
}

/// What a response says of one partition. What the version has no field for is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionData<R> {
    /// The partition's index.
    pub index: i32,
    /// Kafka's error code, 0 for none.
    pub error_code: i16,
    /// The high watermark, or -1.
    pub high_watermark: i64,
    /// The last stable offset, or -1.
    pub last_stable_offset: i64,
    /// The first offset of the log, or -1. From version 5.
    pub log_start_offset: i64,
    /// The epoch at which the follower's log diverges and where it ends here (KIP-595). From version 12.
    pub diverging_epoch: Option<(i32, i64)>,
    /// The leader's id and epoch, with an error that says that it changed (KIP-595, KIP-951). From version 12.
    pub current_leader: Option<(i32, i32)>,
    /// Aborted transactions among the records: producer id and first offset. `None` for one who reads uncommitted.
    pub aborted_transactions: Option<Vec<(i64, i64)>>,
    /// The replica that the consumer should rather read from (KIP-392), or -1. From version 11.
    pub preferred_read_replica: i32,
    /// The records, in order. Without any the response carries an empty byte string, not null, for clients differ in
    /// how they take null.
    pub records: Vec<R>,
}

impl<R> PartitionData<R> {
    /// The answer for a partition of which nothing can be read.
    pub fn error(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

/// A whole response frame, length prefix included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse<R> {
    parts: Vec<Part<R>>,
    size: usize,
}

impl<R> FetchResponse<R> {
    /// How many bytes the frame has, its length prefix and all records included.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The pieces of the frame, to be written in order.
    pub fn parts(&self) -> &[Part<R>] {
        &self.parts
    }

    /// The pieces of the frame, to be written in order.
    pub fn into_parts(self) -> Vec<Part<R>> {
        self.parts
    }
}

/// What opens a response, before its topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchResponseHead {
    /// The correlation id of the request.
    pub correlation_id: i32,
    /// How long the client should keep still, in milliseconds.
    pub throttle_time_ms: i32,
    /// An error of the whole request, such as an unknown session; 0 for none. From version 7.
    pub error_code: i16,
    /// The fetch session, 0 for none. From version 7.
    pub session_id: i32,
}

/// Makes a Fetch response, piece by piece, in the order of the wire.
///
/// Call [`topic`](Self::topic) as often as announced, after each of them [`partition`](Self::partition) as often as
/// announced, then [`finish`](Self::finish). Counts that do not match are a bug and panic.
#[derive(Debug)]
pub struct FetchResponseWriter<R> {
    buf: BytesMut,
    /// Records, each with the place in `buf` that they stand before.
    records: Vec<(usize, R)>,
    record_bytes: usize,
    version: i16,
    topics_left: usize,
    partitions_left: usize,
}

impl<R: RecordSlice> FetchResponseWriter<R> {
    /// Starts a response. Topics are named as in the request of this version.
    ///
    /// # Panics
    /// When no request of this version can have been decoded.
    pub fn new(api_version: i16, head: FetchResponseHead, topics: usize) -> Self {
        assert!((VERSION_MIN..=VERSION_MAX).contains(&api_version), "Fetch version {api_version}");
        let mut buf = BytesMut::with_capacity(256);
        let flexible = api_version >= FLEXIBLE_SINCE;
        wire::begin_frame(&mut buf, flexible, head.correlation_id);
        buf.put_i32(head.throttle_time_ms);
        if api_version >= 7 {
            buf.put_i16(head.error_code);
            buf.put_i32(head.session_id);
        }
        wire::array_len(&mut buf, flexible, topics);
        Self {
            buf,
            records: Vec::new(),
            record_bytes: 0,
            version: api_version,
            topics_left: topics,
            partitions_left: 0,
        }
    }

    /// Starts the next topic, of which `partitions` follow.
    pub fn topic(&mut self, topic: TopicRef<'_>, partitions: usize) {
        assert_eq!(self.partitions_left, 0, "the topic before lacks partitions");
        self.topics_left = self.topics_left.checked_sub(1).expect("no more topics than were announced");
        let flexible = self.flexible();
        match topic {
            TopicRef::Name(name) if self.version < TOPIC_IDS_SINCE => {
                wire::string(&mut self.buf, flexible, name);
            }
            TopicRef::Id(id) if self.version >= TOPIC_IDS_SINCE => self.buf.put_slice(id.as_bytes()),
            TopicRef::Name(_) | TopicRef::Id(_) => panic!("{topic:?} in version {}", self.version),
        }
        wire::array_len(&mut self.buf, flexible, partitions);
        self.partitions_left = partitions;
        self.end_topic();
    }

    /// Writes the topic's next partition and takes its records.
    pub fn partition(&mut self, data: PartitionData<R>) {
        self.partitions_left =
            self.partitions_left.checked_sub(1).expect("no more partitions than were announced");
        let flexible = self.flexible();
        self.buf.put_i32(data.index);
        self.buf.put_i16(data.error_code);
        self.buf.put_i64(data.high_watermark);
        self.buf.put_i64(data.last_stable_offset);
        if self.version >= 5 {
            self.buf.put_i64(data.log_start_offset);
        }
        self.aborted(data.aborted_transactions.as_deref());
        if self.version >= 11 {
            self.buf.put_i32(data.preferred_read_replica);
        }
        self.records(data.records);
        if flexible {
            self.partition_tags(data.diverging_epoch, data.current_leader);
        }
        self.end_topic();
    }

    /// Ends the frame. `endpoints` are those of the brokers that partitions named as their leaders (from version 16).
    pub fn finish(mut self, endpoints: &[NodeEndpoint<'_>]) -> FetchResponse<R> {
        assert_eq!((self.topics_left, self.partitions_left), (0, 0), "topics or partitions are missing");
        if self.flexible() {
            let endpoints = if self.version >= 16 { endpoints } else { &[] };
            self.buf.put_u8(u8::from(!endpoints.is_empty()));
            wire::node_endpoints(&mut self.buf, 0, endpoints);
        }
        wire::end_frame(&mut self.buf, 0, self.record_bytes);
        let size = self.buf.len() + self.record_bytes;
        let buf = self.buf.freeze();
        let mut parts = Vec::with_capacity(2 * self.records.len() + 1);
        let mut written = 0;
        for (at, records) in self.records {
            if at > written {
                parts.push(Part::Bytes(buf.slice(written..at)));
                written = at;
            }
            parts.push(Part::Records(records));
        }
        if written < buf.len() {
            parts.push(Part::Bytes(buf.slice(written..)));
        }
        FetchResponse { parts, size }
    }

    fn aborted(&mut self, transactions: Option<&[(i64, i64)]>) {
        let flexible = self.flexible();
        let Some(transactions) = transactions else {
            if flexible {
                self.buf.put_u8(0)
            } else {
                self.buf.put_i32(-1)
            }
            return;
        };
        wire::array_len(&mut self.buf, flexible, transactions.len());
        for (producer_id, first_offset) in transactions {
            self.buf.put_i64(*producer_id);
            self.buf.put_i64(*first_offset);
            if flexible {
                self.buf.put_u8(0);
            }
        }
    }

    fn records(&mut self, records: Vec<R>) {
        let flexible = self.flexible();
        let total: usize = records.iter().map(R::byte_len).sum();
        // A byte string and an array have the same form of length.
        wire::array_len(&mut self.buf, flexible, total);
        self.record_bytes += total;
        let at = self.buf.len();
        self.records.extend(records.into_iter().filter(|r| r.byte_len() > 0).map(|r| (at, r)));
    }

    fn partition_tags(&mut self, diverging: Option<(i32, i64)>, leader: Option<(i32, i32)>) {
        self.buf.put_u8(u8::from(diverging.is_some()) + u8::from(leader.is_some()));
        if let Some((epoch, end_offset)) = diverging {
            wire::tag(&mut self.buf, 0, 13);
            self.buf.put_i32(epoch);
            self.buf.put_i64(end_offset);
            self.buf.put_u8(0);
        }
        if let Some((id, epoch)) = leader {
            wire::tag(&mut self.buf, 1, 9);
            self.buf.put_i32(id);
            self.buf.put_i32(epoch);
            self.buf.put_u8(0);
        }
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
