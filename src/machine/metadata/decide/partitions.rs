//! Placing new partitions, and CreatePartitions.

use std::collections::BTreeMap;

use super::create::new_partition;
use super::{Context, repeated};
use crate::limits::{PARTITIONS_PER_COMMAND_MAX, PARTITIONS_PER_TOPIC_MAX};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::command::{ApiError, MorePartitions};
use crate::machine::metadata::image::Image;
use crate::machine::metadata::names::is_internal;
use crate::machine::metadata::record::{BrokerState, Record};
use crate::machine::placement::{self, Candidate};

/// Brokers that may get replicas, with what they carry.
pub(super) fn candidates(image: &Image) -> Vec<Candidate> {
    image
        .brokers()
        .filter(|broker| broker.state == BrokerState::Unfenced)
        .map(|broker| {
            let load = image.load(broker.id);
            Candidate {
                id: broker.id,
                rack: broker.rack.clone(),
                replicas: load.replicas,
                leaders: load.leaders,
            }
        })
        .collect()
}

/// Counts what was just placed, so that the next topic of the command goes elsewhere.
pub(super) fn charge(candidates: &mut [Candidate], placed: &[Vec<i32>]) {
    let mut at: BTreeMap<i32, &mut Candidate> =
        candidates.iter_mut().map(|candidate| (candidate.id, candidate)).collect();
    for replicas in placed {
        for id in replicas {
            // A fenced broker may be in a manual assignment; it is no candidate.
            if let Some(candidate) = at.get_mut(id) {
                candidate.replicas += 1;
                candidate.leaders += u64::from(replicas[0] == *id);
            }
        }
    }
}

/// Brokers for new partitions.
pub(super) fn place(
    image: &Image,
    context: &Context<'_>,
    candidates: Vec<Candidate>,
    count: usize,
    factor: usize,
) -> Result<Vec<Vec<i32>>, ApiError> {
    let refuse = |why: String| {
        let message = format!("Unable to replicate the partition {factor} time(s): {why}");
        Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, message))
    };
    if candidates.is_empty() {
        return refuse("All brokers are currently fenced.".into());
    }
    let registered = image.brokers().count();
    if factor > registered {
        return refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {registered} broker(s) are \
             registered."
        ));
    }
    check_factor(context, factor)?;
    if factor > candidates.len() {
        return refuse(format!(
            "The target replication factor of {factor} cannot be reached because only {} broker(s) are in service.",
            candidates.len()
        ));
    }
    Ok(placement::place(candidates, count, factor))
}

/// Refuses more replicas than Ringlog keeps.
fn check_factor(context: &Context<'_>, factor: usize) -> Result<(), ApiError> {
    let max = context.replication_factor_max;
    if factor <= usize::try_from(max).expect("the maximum is 1 or more") {
        return Ok(());
    }
    let message = format!(
        "Ringlog does not replicate partitions yet: the replication factor may be at most {max}, not {factor}."
    );
    Err(ApiError::new(ErrorCode::INVALID_REPLICATION_FACTOR, message))
}

/// Checks the brokers that a client assigned to new partitions, the first of which has index `first`.
pub(super) fn check_assignments(
    image: &Image,
    context: &Context<'_>,
    first: usize,
    assignments: &[Vec<i32>],
    factor: usize,
) -> Result<(), ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
    for (index, replicas) in (first..).zip(assignments) {
        if replicas.is_empty() {
            return invalid("The manual partition assignment includes an empty replica list.".into());
        }
        if let Some(id) = repeated(replicas.iter()).first() {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
        if let Some(id) = replicas.iter().find(|id| image.broker(**id).is_none()) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if replicas.len() != factor {
            return invalid(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not \
                 consistent with previous partitions, which have {factor} replica(s).",
                replicas.len()
            ));
        }
        if !replicas.iter().any(|id| image.is_unfenced(*id)) {
            return invalid(format!(
                "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                 controlled shutdown."
            ));
        }
    }
    check_factor(context, factor)
}

pub(super) fn create_partitions(
    image: &Image,
    context: &Context<'_>,
    topics: &[MorePartitions],
    records: &mut Vec<Record>,
) -> Vec<(String, Result<(), ApiError>)> {
    let twice = repeated(topics.iter().map(|topic| topic.name.as_str()));
    let mut candidates = candidates(image);
    let mut left = PARTITIONS_PER_COMMAND_MAX;
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let result = if twice.contains(topic.name.as_str()) {
            Err(ApiError::new(ErrorCode::INVALID_REQUEST, "Duplicate topic name."))
        } else {
            add_partitions(image, context, topic, &mut candidates, &mut left, records)
        };
        results.push((topic.name.clone(), result));
    }
    results
}

fn add_partitions(
    image: &Image,
    context: &Context<'_>,
    more: &MorePartitions,
    candidates: &mut [Candidate],
    left: &mut usize,
    records: &mut Vec<Record>,
) -> Result<(), ApiError> {
    let Some(topic) = image.topic_named(&more.name) else {
        let message = "This server does not host this topic-partition.";
        return Err(ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
    };
    let have = topic.partitions.len();
    let added = check_count(&more.name, have, more.count)?;
    if added > *left {
        let message = "Excessively large number of partitions per request.";
        return Err(ApiError::new(ErrorCode::POLICY_VIOLATION, message));
    }
    let factor = topic.replication_factor();
    let placed = match &more.assignments {
        None => place(image, context, candidates.to_vec(), added, factor)?,
        Some(assignments) if assignments.len() != added => {
            let message = format!(
                "Attempted to add {added} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(ApiError::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
        Some(assignments) => {
            check_assignments(image, context, have, assignments, factor)?;
            assignments.clone()
        }
    };
    *left -= added;
    charge(candidates, &placed);
    records.extend((have..).zip(placed).map(|(index, replicas)| Record::Partition {
        topic: topic.id,
        index: i32::try_from(index).expect("bounded by the limit of a topic"),
        partition: new_partition(image, replicas),
    }));
    Ok(())
}

/// How many partitions are to be added.
fn check_count(name: &str, have: usize, count: i32) -> Result<usize, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::INVALID_PARTITIONS, message));
    if is_internal(name) {
        // Groups find their partition by this number: with another one they would lose their offsets.
        let message = format!("The number of partitions of the internal topic {name} cannot be changed.");
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, message));
    }
    let wanted = usize::try_from(count).unwrap_or(0);
    if wanted == have {
        return invalid(format!("Topic already has {have} partition(s)."));
    }
    if wanted < have {
        return invalid(format!(
            "The topic {name} currently has {have} partition(s); {count} would not be an increase."
        ));
    }
    if count > PARTITIONS_PER_TOPIC_MAX {
        return invalid(format!(
            "A topic may have at most {PARTITIONS_PER_TOPIC_MAX} partitions, not {count}."
        ));
    }
    Ok(wanted - have)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::Cluster;
    use crate::machine::metadata::{Command, Reply};

    fn more(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> MorePartitions {
        let assignments = assignments.map(|lists| lists.iter().map(|list| list.to_vec()).collect());
        MorePartitions { name: name.into(), count, assignments }
    }

    fn run(cluster: &mut Cluster, topics: Vec<MorePartitions>) -> Vec<Result<(), ErrorCode>> {
        let command = Command::CreatePartitions { topics, validate_only: false };
        let Reply::Partitions(results) = cluster.run(&command) else { panic!() };
        results.into_iter().map(|(_, result)| result.map_err(|error| error.code)).collect()
    }

    #[test]
    fn partitions_are_added_evenly() {
        let mut cluster = Cluster::of(3);
        let id = cluster.topic("t", 1, 1);
        assert_eq!(run(&mut cluster, vec![more("t", 6, None)]), [Ok(())]);
        assert_eq!(cluster.image.topic(id).unwrap().partitions.len(), 6);
        assert!((1..=3).all(|broker| cluster.image.load(broker).leaders == 2));
        assert_eq!(run(&mut cluster, vec![more("t", 7, Some(&[&[2]]))]), [Ok(())]);
        assert_eq!(cluster.image.partition(id, 6).unwrap().replicas, [2]);
    }

    #[test]
    fn refusals() {
        let mut cluster = Cluster::of(3);
        for name in ["t", "__consumer_offsets"] {
            cluster.topic(name, 3, 1);
        }
        let cases = [
            (more("none", 5, None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (more("t", 3, None), ErrorCode::INVALID_PARTITIONS),
            (more("t", 2, None), ErrorCode::INVALID_PARTITIONS),
            (more("t", -1, None), ErrorCode::INVALID_PARTITIONS),
            (more("t", 100_001, None), ErrorCode::INVALID_PARTITIONS),
            (more("t", 5, Some(&[&[1]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (more("t", 4, Some(&[&[1, 2]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (more("t", 4, Some(&[&[9]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (more("__consumer_offsets", 9, None), ErrorCode::INVALID_REQUEST),
        ];
        for (request, code) in cases {
            assert_eq!(run(&mut cluster, vec![request.clone()]), [Err(code)], "{request:?}");
        }
        let twice = run(&mut cluster, vec![more("t", 5, None), more("t", 6, None)]);
        assert_eq!(twice, [Err(ErrorCode::INVALID_REQUEST); 2]);
        assert_eq!(cluster.image.partition_count(), 6);
    }

    #[test]
    fn validate_only_changes_nothing() {
        let mut cluster = Cluster::of(1);
        cluster.topic("t", 1, 1);
        let command = Command::CreatePartitions { topics: vec![more("t", 2, None)], validate_only: true };
        assert!(cluster.decide(&command).records.is_empty());
    }
}
