//! DescribeLogDirs (35): the data folder, how large each partition in it is, and how full its file system.

use crate::api::View;
use crate::api::partitions::{About, Plan};
use crate::api::wire::{text, topic_name};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::Topic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use ringlog_storage::PartitionKey;

/// The data folder.
#[derive(Clone, Copy, Debug)]
pub struct LogDir<'a> {
    /// Where it is.
    pub path: &'a str,
    /// Size of its file system, in bytes; none if unknown.
    pub total_bytes: Option<u64>,
    /// What may still be written there, in bytes; none if unknown.
    pub usable_bytes: Option<u64>,
}

/// Which partitions to ask: of those named (null for all) the ones that are on this broker. The others are not in
/// the answer, as in Kafka.
#[must_use]
pub fn plan(request: &DescribeLogDirsRequest, view: View<'_>) -> Plan<()> {
    let mut plan = Plan::default();
    match &request.topics {
        None => {
            for topic in view.image.topics_by_name() {
                let all = 0..i32::try_from(topic.partitions.len()).expect("bounded by the limit of a topic");
                add(&mut plan, view, topic, all);
            }
        }
        Some(topics) => {
            for asked in topics {
                if let Some(topic) = view.image.topic_named(asked.topic.as_str()) {
                    add(&mut plan, view, topic, asked.partitions.iter().copied());
                }
            }
        }
    }
    plan
}

fn add(plan: &mut Plan<()>, view: View<'_>, topic: &Topic, partitions: impl Iterator<Item = i32>) {
    plan.topic(&topic.name);
    for partition in partitions {
        let here = view
            .image
            .partition(topic.id, partition)
            .is_some_and(|state| state.replicas.contains(&view.node_id));
        if here {
            let key = PartitionKey { topic: topic.id, partition };
            plan.ask(partition, About { key, leader_epoch: -1, question: () });
        }
    }
}

/// The response; `answers` are the sizes in bytes, in the order of the plan's questions. A partition that could not
/// be asked (it is being moved or deleted) is left out.
#[must_use]
pub fn reply(
    version: i16,
    plan: Plan<()>,
    answers: Vec<Result<u64, ErrorCode>>,
    log_dir: LogDir<'_>,
) -> DescribeLogDirsResponse {
    let partition = |(index, answer): (i32, Result<u64, ErrorCode>)| {
        let size = answer.ok()?;
        Some(DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(bytes(size)))
    };
    let topics = plan.answered(answers).into_iter().filter_map(|(name, partitions)| {
        let partitions: Vec<_> = partitions.into_iter().filter_map(partition).collect();
        let topic = DescribeLogDirsTopic::default().with_name(topic_name(&name));
        (!partitions.is_empty()).then(|| topic.with_partitions(partitions))
    });
    // Kafka's number for a size that is not known.
    let unknown = -1;
    let volume = |size: Option<u64>| if version >= 4 { size.map_or(unknown, bytes) } else { unknown };
    DescribeLogDirsResponse::default().with_results(vec![
        DescribeLogDirsResult::default()
            .with_log_dir(text(log_dir.path))
            .with_topics(topics.collect())
            .with_total_bytes(volume(log_dir.total_bytes))
            .with_usable_bytes(volume(log_dir.usable_bytes)),
    ])
}

fn bytes(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;

    const DIR: LogDir<'_> =
        LogDir { path: "/var/lib/ringlog", total_bytes: Some(100), usable_bytes: Some(40) };

    #[test]
    fn null_is_all_and_unknown_partitions_are_left_out() {
        let fixture = Fixture::new();
        let all = DescribeLogDirsRequest::default().with_topics(None);
        let count = plan(&all, fixture.view()).take_questions().len();
        assert_eq!(count, fixture.image.partition_count());
        let some = DescribeLogDirsRequest::default().with_topics(Some(vec![
            DescribableLogDirTopic::default().with_topic(topic_name("none")).with_partitions(vec![0]),
            DescribableLogDirTopic::default().with_topic(topic_name("orders")).with_partitions(vec![2, 3, 0]),
        ]));
        let mut plan = plan(&some, fixture.view());
        assert_eq!(plan.take_questions().len(), 2);
        let response = reply(4, plan, vec![Ok(7), Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)], DIR);
        let result = &response.results[0];
        assert_eq!(
            (&*result.log_dir, result.total_bytes, result.usable_bytes),
            ("/var/lib/ringlog", 100, 40)
        );
        assert_eq!(result.topics.len(), 1);
        let sizes: Vec<_> =
            result.topics[0].partitions.iter().map(|p| (p.partition_index, p.partition_size)).collect();
        assert_eq!(sizes, [(2, 7)]);
    }

    #[test]
    fn a_folder_without_what_was_asked_is_still_named() {
        let fixture = Fixture::new();
        let none = DescribeLogDirsRequest::default().with_topics(Some(vec![]));
        let response = reply(1, plan(&none, fixture.view()), vec![], DIR);
        assert_eq!(response.results.len(), 1);
        assert_eq!(response.results[0].total_bytes, -1);
    }
}
