//! Building a fetch's response.

use super::read::Found;
use super::{Fetch, TopicKey};
use crate::machine::error::ErrorCode;
use crate::machine::fetch_session::NO_SESSION;
use crate::shard::connection::Response;
use crate::shard::memory::Held;
use crate::shard::records::RecordHandle;
use ringlog_net::fetch::{FetchResponseHead, FetchResponseWriter, PartitionData};

impl Fetch {
    fn head(&self, error: ErrorCode, session_id: i32) -> FetchResponseHead {
        FetchResponseHead {
            correlation_id: self.correlation_id,
            throttle_time_ms: 0,
            error_code: error.0,
            session_id,
        }
    }

    pub(super) fn answer_error(&self, error: ErrorCode) {
        let writer = FetchResponseWriter::<RecordHandle>::new(self.version, self.head(error, NO_SESSION), 0);
        self.conn.complete(self.id, Response::Parts(writer.finish(&[]).into_parts(), None));
    }

    pub(super) fn answer(
        &self,
        session_id: i32,
        topics: Vec<(TopicKey, i32)>,
        found: Vec<Found>,
        held: Option<Held>,
        include: &[bool],
    ) {
        // The response groups partitions by topic; within a topic they keep the plan's order.
        let mut order: Vec<TopicKey> = Vec::new();
        let mut by_topic: std::collections::HashMap<TopicKey, Vec<PartitionData<RecordHandle>>> =
            std::collections::HashMap::new();
        for (((topic, index), found), include) in topics.into_iter().zip(found).zip(include) {
            if *include {
                let group = by_topic.entry(topic).or_insert_with_key(|topic| {
                    order.push(topic.clone());
                    Vec::new()
                });
                group.push(self.data(index, found));
            }
        }
        let head = self.head(ErrorCode::NONE, session_id);
        let mut writer = FetchResponseWriter::new(self.version, head, order.len());
        for topic in order {
            let partitions = by_topic.remove(&topic).expect("every topic of the order has its partitions");
            writer.topic(topic.as_ref(), partitions.len());
            partitions.into_iter().for_each(|data| writer.partition(data));
        }
        self.conn.complete(self.id, Response::Parts(writer.finish(&[]).into_parts(), held));
    }

    fn data(&self, index: i32, found: Found) -> PartitionData<RecordHandle> {
        PartitionData {
            index,
            error_code: found.error.0,
            high_watermark: found.high_watermark,
            last_stable_offset: found.high_watermark,
            log_start_offset: found.log_start,
            diverging_epoch: found.diverging,
            current_leader: found.leader,
            aborted_transactions: self.read_committed.then(Vec::new),
            preferred_read_replica: -1,
            records: found.records,
        }
    }
}
