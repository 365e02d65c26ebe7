//! CreateTopics.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Context, partitions, repeated};
use crate::limits::{PARTITIONS_PER_COMMAND_MAX, PARTITIONS_PER_TOPIC_MAX};
use crate::machine::config::{BrokerConfig, Settings, check_topic_settings};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::command::{ApiError, CreatedTopic, NewTopic};
use crate::machine::metadata::image::Image;
use crate::machine::metadata::names::{check_topic_name, fold};
use crate::machine::metadata::record::{Partition, Record};
use crate::machine::placement::Candidate;

/// What holds for the whole command, and what its topics before this one took up.
struct Progress<'a> {
    repeated: BTreeSet<&'a str>,
    folded: BTreeSet<String>,
    partitions: usize,
    candidates: Vec<Candidate>,
    defaults: BrokerConfig,
}

pub(super) fn create_topics(
    image: &Image,
    context: &mut Context<'_>,
    topics: &[NewTopic],
    records: &mut Vec<Record>,
) -> Vec<(String, Result<CreatedTopic, ApiError>)> {
    let mut progress = Progress {
        repeated: repeated(topics.iter().map(|topic| topic.name.as_str())),
        folded: BTreeSet::new(),
        partitions: 0,
        candidates: partitions::candidates(image),
        defaults: image.broker_config(context.node_id, context.settings),
    };
    topics
        .iter()
        .map(|topic| (topic.name.clone(), create_topic(image, context, topic, &mut progress, records)))
        .collect()
}

fn create_topic(
    image: &Image,
    context: &mut Context<'_>,
    topic: &NewTopic,
    progress: &mut Progress<'_>,
    records: &mut Vec<Record>,
) -> Result<CreatedTopic, ApiError> {
    check_name(image, topic, progress)?;
    let settings = check_settings(image, context, topic)?;
    let replicas = if topic.assignments.is_empty() {
        place(image, context, topic, progress)?
    } else {
        assigned(image, context, topic)?
    };
    if progress.partitions + replicas.len() > PARTITIONS_PER_COMMAND_MAX {
        let message = "Excessively large number of partitions per request.";
        return Err(ApiError::new(ErrorCode::POLICY_VIOLATION, message));
    }
    let id = (context.new_id)();
    assert!(image.topic(id).is_none(), "random ids do not repeat");
    progress.partitions += replicas.len();
    progress.folded.insert(fold(&topic.name));
    partitions::charge(&mut progress.candidates, &replicas);
    let created = CreatedTopic {
        id,
        partitions: i32::try_from(replicas.len()).expect("bounded by the limit of a command"),
        replication_factor: i16::try_from(replicas[0].len()).expect("bounded by the number of brokers"),
        settings,
    };
    records.push(Record::Topic { id, name: topic.name.clone() });
    records.extend(created.settings.iter().map(|(name, value)| Record::TopicSetting {
        topic: id,
        name: name.clone(),
        value: Some(value.clone()),
    }));
    records.extend((0..).zip(replicas).map(|(index, replicas)| {
        let partition = new_partition(image, replicas);
        Record::Partition { topic: id, index, partition }
    }));
    Ok(created)
}

/// A partition that holds nothing yet: whoever is in service is in sync.
pub(super) fn new_partition(image: &Image, replicas: Vec<i32>) -> Partition {
    let isr: Vec<i32> = replicas.iter().copied().filter(|id| image.is_unfenced(*id)).collect();
    let leader = isr.first().copied();
    assert!(leader.is_some(), "placement and assignments leave a broker that can lead");
    Partition {
        replicas,
        isr,
        elr: Vec::new(),
        last_known_leader: None,
        leader,
        leader_epoch: 0,
        partition_epoch: 0,
    }
}

fn check_name(image: &Image, topic: &NewTopic, progress: &Progress<'_>) -> Result<(), ApiError> {
    let name = topic.name.as_str();
    if progress.repeated.contains(name) {
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name."));
    }
    if name == "__cluster_metadata" {
        let message = format!("Creation of internal topic {name} is prohibited.");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    }
    check_topic_name(name).map_err(|message| ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message))?;
    if image.topic_id(name).is_some() {
        let message = format!("Topic '{name}' already exists.");
        return Err(ApiError::new(ErrorCode::TOPIC_ALREADY_EXISTS, message));
    }
    let folded = fold(name);
    let existing = image.folded_names.get(&folded).map(Arc::as_ref);
    if let Some(other) = existing.or_else(|| progress.folded.get(&folded).map(String::as_str)) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(ApiError::new(ErrorCode::INVALID_TOPIC_EXCEPTION, message));
    }
    Ok(())
}

fn check_settings(image: &Image, context: &Context<'_>, topic: &NewTopic) -> Result<Settings, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::INVALID_CONFIG, message);
    let nulls: Vec<&str> =
        topic.settings.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        return Err(invalid(format!("Null value not supported for topic configs: {}", nulls.join(","))));
    }
    let settings: Settings =
        topic.settings.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    check_topic_settings(&settings, image.layers(context.node_id, context.settings)).map_err(invalid)?;
    Ok(settings)
}

fn place(
    image: &Image,
    context: &Context<'_>,
    topic: &NewTopic,
    progress: &Progress<'_>,
) -> Result<Vec<Vec<i32>>, ApiError> {
    let factor = match topic.replication_factor {
        -1 => progress.defaults.default_replication_factor,
        factor if factor <= 0 => {
            let message = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        factor => factor,
    };
    let count = match topic.partitions {
        -1 => progress.defaults.num_partitions,
        count if count <= 0 => {
            let message = "Number of partitions was set to an invalid non-positive value.";
            return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
        }
        count => count,
    };
    if count > PARTITIONS_PER_TOPIC_MAX {
        let message = format!("A topic may have at most {PARTITIONS_PER_TOPIC_MAX} partitions, not {count}.");
        return Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
    }
    partitions::place(image, context, progress.candidates.clone(), count as usize, factor as usize)
}

fn assigned(image: &Image, context: &Context<'_>, topic: &NewTopic) -> Result<Vec<Vec<i32>>, ApiError> {
    let unset = |what: &str| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(ApiError::new(ErrorCode::INVALID_REQUEST, message))
    };
    if topic.replication_factor != -1 {
        return unset("replication factor");
    }
    if topic.partitions != -1 {
        return unset("numPartitions");
    }
    let invalid = |message: String| ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message);
    let mut assignments: Vec<&(i32, Vec<i32>)> = topic.assignments.iter().collect();
    assignments.sort_by_key(|(index, _)| *index);
    if let Some(pair) = assignments.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid(format!(
            "Found multiple manual partition assignments for partition {}",
            pair[0].0
        )));
    }
    if (0..).zip(&assignments).any(|(expected, (index, _))| expected != *index) {
        return Err(invalid("partitions should be a consecutive 0-based integer sequence".into()));
    }
    let replicas: Vec<Vec<i32>> = assignments.into_iter().map(|(_, replicas)| replicas.clone()).collect();
    let factor = replicas[0].len();
    partitions::check_assignments(image, context, 0, &replicas, factor)?;
    Ok(replicas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::{Cluster, registration, topic};
    use crate::machine::metadata::{Command, Registration, Reply};

    type Results = Vec<(String, Result<CreatedTopic, ApiError>)>;

    fn create(cluster: &mut Cluster, topics: Vec<NewTopic>) -> Results {
        let Reply::Created(results) = cluster.run(&Command::CreateTopics { topics, validate_only: false })
        else {
            panic!()
        };
        results
    }

    fn refused(cluster: &mut Cluster, topic: NewTopic) -> (ErrorCode, String) {
        let count = cluster.image.topic_count();
        let error = create(cluster, vec![topic]).remove(0).1.unwrap_err();
        assert_eq!(cluster.image.topic_count(), count);
        (error.code, error.message)
    }

    fn assigned(name: &str, assignments: &[(i32, &[i32])]) -> NewTopic {
        let assignments = assignments.iter().map(|(index, replicas)| (*index, replicas.to_vec())).collect();
        NewTopic { assignments, ..topic(name, -1, -1) }
    }

    #[test]
    fn defaults_for_partitions_and_factor() {
        let mut cluster = Cluster::of(3).set("num.partitions", "4").set("default.replication.factor", "2");
        let created = create(&mut cluster, vec![topic("t", -1, -1)]).remove(0).1.unwrap();
        assert_eq!((created.partitions, created.replication_factor), (4, 2));
        let topic = cluster.image.topic_named("t").unwrap();
        assert_eq!((topic.id, topic.partitions.len(), topic.replication_factor()), (created.id, 4, 2));
    }

    #[test]
    fn a_thousand_partitions_are_one_batch() {
        let mut cluster = Cluster::of(1);
        let batches = cluster.log.len();
        cluster.topic("t", 1000, 1);
        assert_eq!(cluster.log.len(), batches + 1);
        assert_eq!(cluster.image.partition_count(), 1000);
        assert_eq!(cluster.image.load(1).leaders, 1000);
    }

    #[test]
    fn each_topic_for_itself() {
        let mut cluster = Cluster::of(1);
        let results = create(&mut cluster, vec![topic("a", 1, 1), topic("b!", 1, 1), topic("c", 1, 1)]);
        let outcome: Vec<bool> = results.iter().map(|(_, result)| result.is_ok()).collect();
        assert_eq!(outcome, [true, false, true]);
        assert_eq!(cluster.image.topic_count(), 2);
    }

    #[test]
    fn validate_only_answers_and_changes_nothing() {
        let mut cluster = Cluster::of(1);
        let command = Command::CreateTopics { topics: vec![topic("t", 2, 1)], validate_only: true };
        let decision = cluster.decide(&command);
        assert!(decision.records.is_empty());
        let Reply::Created(results) = decision.reply else { panic!() };
        assert_eq!(results[0].1.as_ref().unwrap().partitions, 2);
    }

    #[test]
    fn names() {
        let mut cluster = Cluster::of(1);
        cluster.topic("a.b", 1, 1);
        assert_eq!(
            refused(&mut cluster, topic("a.b", 1, 1)),
            (ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 'a.b' already exists.".into())
        );
        assert_eq!(
            refused(&mut cluster, topic("a_b", 1, 1)),
            (ErrorCode::INVALID_TOPIC_EXCEPTION, "Topic 'a_b' collides with existing topic: a.b".into())
        );
        assert_eq!(refused(&mut cluster, topic("", 1, 1)).0, ErrorCode::INVALID_TOPIC_EXCEPTION);
        assert_eq!(refused(&mut cluster, topic("__cluster_metadata", 1, 1)).0, ErrorCode::INVALID_REQUEST);
        let twice = create(
            &mut cluster,
            vec![topic("x", 1, 1), topic("x", 1, 1), topic("y.z", 1, 1), topic("y_z", 1, 1)],
        );
        let codes: Vec<_> = twice.iter().map(|(_, r)| r.as_ref().err().map(|e| e.code)).collect();
        let duplicate = Some(ErrorCode::INVALID_REQUEST);
        assert_eq!(codes, [duplicate, duplicate, None, Some(ErrorCode::INVALID_TOPIC_EXCEPTION)]);
    }

    #[test]
    fn counts_and_factors() {
        let mut cluster = Cluster::of(1);
        assert_eq!(refused(&mut cluster, topic("t", 0, 1)).0, ErrorCode::INVALID_PARTITIONS);
        assert_eq!(refused(&mut cluster, topic("t", -2, 1)).0, ErrorCode::INVALID_PARTITIONS);
        assert_eq!(refused(&mut cluster, topic("t", 100_001, 1)).0, ErrorCode::INVALID_PARTITIONS);
        assert_eq!(refused(&mut cluster, topic("t", 1, 0)).0, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert_eq!(
            refused(&mut cluster, topic("t", 1, 3)).1,
            "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
             because only 1 broker(s) are registered."
        );
        let results = create(&mut cluster, vec![topic("a", 60_000, 1), topic("b", 60_000, 1)]);
        assert_eq!(results[1].1.as_ref().unwrap_err().code, ErrorCode::POLICY_VIOLATION);
    }

    #[test]
    fn more_than_one_replica_is_refused_while_ringlog_does_not_replicate() {
        let mut cluster = Cluster::of(3);
        cluster.replication_factor_max = 1;
        for topic in [topic("t", 1, 2), assigned("t", &[(0, &[1, 2])])] {
            let (code, message) = refused(&mut cluster, topic);
            assert_eq!(code, ErrorCode::INVALID_REPLICATION_FACTOR);
            assert!(message.contains("does not replicate"), "{message}");
        }
    }

    #[test]
    fn nobody_in_service() {
        let mut cluster = Cluster::unformed();
        let fenced = Registration { unfenced: false, ..registration(1) };
        cluster.run(&Command::RegisterBroker(fenced));
        let (code, message) = refused(&mut cluster, topic("t", 1, 1));
        assert_eq!(code, ErrorCode::INVALID_REPLICATION_FACTOR);
        assert_eq!(message, "Unable to replicate the partition 1 time(s): All brokers are currently fenced.");
        assert_eq!(
            refused(&mut cluster, assigned("t", &[(0, &[1])])).0,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT
        );
    }

    #[test]
    fn assignments() {
        let mut cluster = Cluster::of(3);
        let created =
            create(&mut cluster, vec![assigned("ok", &[(1, &[2, 3]), (0, &[1, 2])])]).remove(0).1.unwrap();
        assert_eq!((created.partitions, created.replication_factor), (2, 2));
        assert_eq!(cluster.image.partition(created.id, 1).unwrap().replicas, [2, 3]);
        let bad: [&[(i32, &[i32])]; 6] = [
            &[(0, &[1]), (0, &[2])],
            &[(0, &[1]), (2, &[2])],
            &[(0, &[])],
            &[(0, &[1, 1])],
            &[(0, &[9])],
            &[(0, &[1]), (1, &[1, 2])],
        ];
        for assignments in bad {
            let code = refused(&mut cluster, assigned("t", assignments)).0;
            assert_eq!(code, ErrorCode::INVALID_REPLICA_ASSIGNMENT, "{assignments:?}");
        }
        let both = NewTopic { partitions: 1, ..assigned("t", &[(0, &[1])]) };
        assert_eq!(refused(&mut cluster, both).0, ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn settings() {
        let mut cluster = Cluster::of(1);
        let with = |name: &str, value: Option<&str>| NewTopic {
            settings: vec![(name.into(), value.map(Into::into))],
            ..topic("t", 1, 1)
        };
        for (name, value) in
            [("retention.ms", Some("soon")), ("retention.ms", None), ("no.such.option", Some("1"))]
        {
            assert_eq!(
                refused(&mut cluster, with(name, value)).0,
                ErrorCode::INVALID_CONFIG,
                "{name} {value:?}"
            );
        }
        let created = create(&mut cluster, vec![with("retention.ms", Some("5"))]).remove(0).1.unwrap();
        assert_eq!(created.settings["retention.ms"], "5");
        assert_eq!(cluster.image.topic_named("t").unwrap().settings, created.settings);
    }
}
