//! OffsetDelete (47): an administrator deletes offsets of a group (KIP-496).

use crate::api::partitions::{Outline, find};
use crate::api::wire::{partition_results, topic_name};
use crate::machine::error::ErrorCode;
use crate::machine::group::{OffsetDeleteReply, OffsetDeleteRequest as Asked};
use crate::machine::metadata::Image;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

/// What the coordinator is asked, none if every partition was refused, and what becomes of each partition.
#[must_use]
pub fn plan(request: &OffsetDeleteRequest, image: &Image) -> (Option<Asked>, Outline) {
    let mut outline = Outline::default();
    let mut topics = Vec::new();
    for topic in &request.topics {
        outline.topic(topic.name.as_str());
        let mut asked = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let refused = find(image, topic.name.as_str(), partition.partition_index).err();
            outline.partition(partition.partition_index, refused);
            asked.extend(refused.is_none().then_some(partition.partition_index));
        }
        if !asked.is_empty() {
            topics.push((topic.name.to_string(), asked));
        }
    }
    let asked = (!topics.is_empty()).then(|| Asked { group: request.group_id.to_string(), topics });
    (asked, outline)
}

/// The response; `deleted` is the coordinator's answer if it was asked.
#[must_use]
pub fn reply(outline: Outline, deleted: Option<&OffsetDeleteReply>) -> OffsetDeleteResponse {
    if let Some(refused) = deleted.filter(|reply| reply.error.is_error()) {
        return OffsetDeleteResponse::default().with_error_code(refused.error.0);
    }
    let deleted = deleted.into_iter().flat_map(|reply| &reply.topics);
    let topics = outline.answered(partition_results(deleted)).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, result)| {
            let error = result.err().unwrap_or(ErrorCode::NONE);
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(error.0)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;
    use crate::api::wire::group_id;
    use crate::machine::group::TopicErrors;
    use kafka_protocol::messages::offset_delete_request::{
        OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    };

    #[test]
    fn unknown_partitions_are_refused_and_the_groups_error_is_for_all() {
        let fixture = Fixture::new();
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition(8), partition(1)]);
        let request = OffsetDeleteRequest::default().with_group_id(group_id("g")).with_topics(vec![topic]);
        let (asked, planned) = plan(&request, &fixture.image);
        assert_eq!(asked.unwrap().topics, [("orders".to_owned(), vec![1])]);
        let subscribed = ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC;
        let topics =
            vec![TopicErrors { name: "orders".into(), topic_id: [0; 16], partitions: vec![(1, subscribed)] }];
        let response = reply(planned, Some(&OffsetDeleteReply { error: ErrorCode::NONE, topics }));
        let codes: Vec<_> =
            response.topics[0].partitions.iter().map(|p| (p.partition_index, p.error_code)).collect();
        assert_eq!(codes, [(8, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0), (1, subscribed.0)]);
        let (_, planned) = plan(&request, &fixture.image);
        let refused = OffsetDeleteReply { error: ErrorCode::NON_EMPTY_GROUP, topics: vec![] };
        let response = reply(planned, Some(&refused));
        assert_eq!((response.error_code, response.topics.len()), (68, 0));
    }
}
