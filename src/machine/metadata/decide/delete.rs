//! DeleteTopics.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Context, repeated};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::command::{ApiError, DeletedTopic, TopicRef};
use crate::machine::metadata::image::Image;
use crate::machine::metadata::names::is_internal;
use crate::machine::metadata::record::Record;

pub(super) fn delete_topics(
    image: &Image,
    context: &Context<'_>,
    topics: &[TopicRef],
    records: &mut Vec<Record>,
) -> Vec<DeletedTopic> {
    let names = repeated(topics.iter().filter_map(|topic| topic.name.as_deref()));
    let ids = repeated(topics.iter().filter_map(|topic| topic.id.as_ref()));
    let enabled = image.broker_config(context.node_id, context.settings).delete_topics;
    let mut gone = BTreeSet::new();
    topics
        .iter()
        .map(|topic| {
            let result = if topic.name.as_deref().is_some_and(|name| names.contains(name)) {
                Err(invalid("Duplicate topic name."))
            } else if topic.id.as_ref().is_some_and(|id| ids.contains(id)) {
                Err(invalid("Duplicate topic id."))
            } else {
                find(image, topic).and_then(|id| delete(image, id, enabled, &mut gone, records))
            };
            let found = find(image, topic).ok().and_then(|id| image.topic(id));
            DeletedTopic {
                name: topic.name.clone().or_else(|| found.map(|topic| topic.name.to_string())),
                id: topic.id.or_else(|| found.map(|topic| topic.id)),
                result,
            }
        })
        .collect()
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, message)
}

fn find(image: &Image, topic: &TopicRef) -> Result<Uuid, ApiError> {
    match (&topic.name, topic.id) {
        (Some(_), Some(_)) => Err(invalid("You may not specify both topic name and topic id.")),
        (None, None) => Err(invalid("Neither topic name nor id were specified.")),
        (Some(name), None) => image.topic_id(name).ok_or_else(|| {
            let message = "This server does not host this topic-partition.";
            ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
        }),
        (None, Some(id)) => image.topic(id).map(|topic| topic.id).ok_or_else(|| {
            ApiError::new(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID.")
        }),
    }
}

fn delete(
    image: &Image,
    id: Uuid,
    enabled: bool,
    gone: &mut BTreeSet<Uuid>,
    records: &mut Vec<Record>,
) -> Result<(), ApiError> {
    if !enabled {
        return Err(ApiError::new(ErrorCode::TOPIC_DELETION_DISABLED, "Topic deletion is disabled."));
    }
    let topic = image.topic(id).expect("the topic was found");
    if is_internal(&topic.name) {
        return Err(invalid("Internal topics hold the broker's own state and cannot be deleted."));
    }
    if !gone.insert(id) {
        return Err(invalid("The provided topic name maps to an ID that was already supplied."));
    }
    records.push(Record::TopicDeleted { id });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::Cluster;
    use crate::machine::metadata::{Command, Reply};

    fn by_name(name: &str) -> TopicRef {
        TopicRef { name: Some(name.into()), id: None }
    }

    fn by_id(id: Uuid) -> TopicRef {
        TopicRef { name: None, id: Some(id) }
    }

    fn run(cluster: &mut Cluster, topics: Vec<TopicRef>) -> Vec<DeletedTopic> {
        let Reply::Deleted(results) = cluster.run(&Command::DeleteTopics { topics }) else { panic!() };
        results
    }

    fn codes(results: &[DeletedTopic]) -> Vec<Option<ErrorCode>> {
        results.iter().map(|deleted| deleted.result.as_ref().err().map(|error| error.code)).collect()
    }

    #[test]
    fn by_name_and_by_id_and_the_name_is_free_again() {
        let mut cluster = Cluster::of(1);
        let (a, b) = (cluster.topic("a", 2, 1), cluster.topic("b.c", 2, 1));
        let results = run(&mut cluster, vec![by_name("a"), by_id(b)]);
        assert_eq!(codes(&results), [None, None]);
        assert_eq!((results[0].id, results[1].name.as_deref()), (Some(a), Some("b.c")));
        assert_eq!((cluster.image.topic_count(), cluster.image.partition_count()), (0, 0));
        let again = cluster.topic("b_c", 1, 1);
        assert_ne!(again, b, "a topic of the same name is another topic");
    }

    #[test]
    fn refusals() {
        let mut cluster = Cluster::of(1);
        let id = cluster.topic("t", 1, 1);
        cluster.topic("__consumer_offsets", 1, 1);
        let unknown = Uuid::from_u128(77);
        let both = TopicRef { name: Some("t".into()), id: Some(id) };
        let neither = TopicRef { name: None, id: None };
        let requests = vec![by_name("none"), by_id(unknown), both, neither, by_name("__consumer_offsets")];
        let invalid = Some(ErrorCode::INVALID_REQUEST);
        let unknowns = [Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Some(ErrorCode::UNKNOWN_TOPIC_ID)];
        assert_eq!(
            codes(&run(&mut cluster, requests)),
            [unknowns[0], unknowns[1], invalid, invalid, invalid]
        );
        assert_eq!(codes(&run(&mut cluster, vec![by_name("t"), by_name("t")])), [invalid; 2]);
        assert_eq!(cluster.image.topic_count(), 2);
        assert_eq!(codes(&run(&mut cluster, vec![by_name("t"), by_id(id)])), [None, invalid]);
    }

    #[test]
    fn deletion_can_be_switched_off() {
        let mut cluster = Cluster::of(1).set("delete.topic.enable", "false");
        cluster.topic("t", 1, 1);
        let codes = codes(&run(&mut cluster, vec![by_name("t")]));
        assert_eq!(codes, [Some(ErrorCode::TOPIC_DELETION_DISABLED)]);
    }
}
