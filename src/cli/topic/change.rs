//! The subcommands of `ringlog topic` that change something.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;
use serde_json::{Value, json};

use super::{AlterArgs, CreateArgs, DeleteArgs, TrimArgs};
use crate::cli::ConnectArgs;
use crate::cli::client::error::{ClientError, Result};
use crate::cli::client::offsets::Offsets;
use crate::cli::client::{Client, TopicPartition, caps, check, shown_id, topic_name};
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print_json, print_line};
use crate::machine::error::ErrorCode;

/// Resource type of topics in the config APIs.
pub const TOPIC_RESOURCE: i8 = 2;
/// IncrementalAlterConfigs' operations.
const SET: i8 = 0;
const DELETE: i8 = 1;

/// How one topic of several came out.
struct Outcome {
    topic: String,
    error: Option<ClientError>,
    detail: Value,
}

/// Prints what became of each topic; the first error is the command's own.
fn report(connect: &ConnectArgs, done: &str, outcomes: Vec<Outcome>) -> std::result::Result<(), Failure> {
    let mut first = None;
    let mut documents = Vec::new();
    for outcome in outcomes {
        let mut document = json!({ "topic": outcome.topic });
        if let Value::Object(detail) = outcome.detail {
            document.as_object_mut().expect("it was made an object").extend(detail);
        }
        match outcome.error {
            None if !connect.json => print_line(&format!("{done} {}", outcome.topic))?,
            None => {}
            Some(error) => {
                document["error"] = json!(error.code().map_or("FAILED", |code| code.name()));
                match first {
                    None => first = Some(error),
                    Some(_) => eprintln!("ringlog: {error}"),
                }
            }
        }
        documents.push(document);
    }
    if connect.json {
        print_json(&json!({ "topics": documents }))?;
    }
    first.map_or(Ok(()), |error| Err(error.into()))
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// `topic create`.
pub fn create(connect: &ConnectArgs, args: &CreateArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let outcomes = args.topics.iter().map(|topic| {
        let mut detail = Value::Null;
        let created = client.retry(|client| create_one(client, topic, args)).map(|made| detail = made);
        let error = match created {
            Err(error) if args.if_not_exists && error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => None,
            other => other.err(),
        };
        Outcome { topic: topic.clone(), error, detail }
    });
    let outcomes = outcomes.collect();
    report(connect, if args.validate_only { "would create" } else { "created" }, outcomes)
}

fn create_one(client: &mut Client, topic: &str, args: &CreateArgs) -> Result<Value> {
    let configs = args.configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    });
    let wanted = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(args.partitions.unwrap_or(-1))
        .with_replication_factor(args.replication_factor.unwrap_or(-1))
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        .with_timeout_ms(client.timeout_i32())
        .with_validate_only(args.validate_only);
    let response = client.call_controller(&request, caps::ANY)?;
    let result = response.topics.first().ok_or_else(|| no_answer(topic))?;
    check(result.error_code, || format!("topic `{topic}`"), result.error_message.as_ref())?;
    Ok(json!({
        "id": shown_id(&result.topic_id),
        "partitions": result.num_partitions,
        "replication_factor": result.replication_factor,
    }))
}

fn no_answer(topic: &str) -> ClientError {
    ClientError::Malformed { peer: "the broker".into(), what: format!("nothing about `{topic}`") }
}

/// `topic delete`.
pub fn delete(connect: &ConnectArgs, args: &DeleteArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let outcomes = args.topics.iter().map(|topic| {
        let error = match client.retry(|client| delete_one(client, topic)) {
            Err(error) if args.if_exists && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                None
            }
            other => other.err(),
        };
        Outcome { topic: topic.clone(), error, detail: Value::Null }
    });
    let outcomes = outcomes.collect();
    report(connect, "deleted", outcomes)
}

fn delete_one(client: &mut Client, topic: &str) -> Result<()> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(topic)])
        .with_timeout_ms(client.timeout_i32());
    let response = client.call_controller(&request, caps::DELETE_TOPICS)?;
    let result = response.responses.first().ok_or_else(|| no_answer(topic))?;
    check(result.error_code, || format!("topic `{topic}`"), result.error_message.as_ref())
}

/// `topic alter`.
pub fn alter(connect: &ConnectArgs, args: &AlterArgs) -> std::result::Result<(), Failure> {
    if args.partitions.is_none() && args.configs.is_empty() && args.delete_configs.is_empty() {
        return Err(Failure::usage("nothing to change; give --partitions, --config or --delete-config"));
    }
    let mut client = connect.client()?;
    let outcomes = args.topics.iter().map(|topic| Outcome {
        topic: topic.clone(),
        error: client.retry(|client| alter_one(client, topic, args)).err(),
        detail: Value::Null,
    });
    let outcomes = outcomes.collect();
    report(connect, "changed", outcomes)
}

fn alter_one(client: &mut Client, topic: &str, args: &AlterArgs) -> Result<()> {
    let set = args.configs.iter().map(|(name, value)| {
        let config = AlterableConfig::default().with_name(text(name)).with_config_operation(SET);
        config.with_value(Some(text(value)))
    });
    let unset = args.delete_configs.iter().map(|name| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(DELETE).with_value(None)
    });
    let configs: Vec<AlterableConfig> = set.chain(unset).collect();
    if !configs.is_empty() {
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configs(configs);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = client.call_controller(&request, caps::ANY)?;
        let result = response.responses.first().ok_or_else(|| no_answer(topic))?;
        check(result.error_code, || format!("topic `{topic}`"), result.error_message.as_ref())?;
    }
    // Settings first: they can be tried again, while a second CreatePartitions is refused.
    if let Some(count) = args.partitions {
        let wanted = CreatePartitionsTopic::default()
            .with_name(topic_name(topic))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![wanted])
            .with_timeout_ms(client.timeout_i32());
        let response = client.call_controller(&request, caps::ANY)?;
        let result = response.results.first().ok_or_else(|| no_answer(topic))?;
        check(result.error_code, || format!("topic `{topic}`"), result.error_message.as_ref())?;
    }
    Ok(())
}

/// `topic trim`.
pub fn trim(connect: &ConnectArgs, args: &TrimArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let partitions = partitions_of(&mut client, &args.topic, &args.partitions)?;
    let offsets = client.resolve(&partitions, args.before)?;
    let trimmed = client.retry(|client| trim_once(client, &offsets))?;
    if connect.json {
        let list: Vec<Value> = trimmed
            .iter()
            .map(|(at, offset)| json!({ "partition": at.partition, "log_start_offset": offset }))
            .collect();
        return print_json(&json!({ "topic": args.topic, "partitions": list }));
    }
    let mut table = Table::new(&["PARTITION", "LOG START OFFSET"]);
    for (at, offset) in &trimmed {
        table.row(vec![at.partition.to_string(), offset.to_string()]);
    }
    table.print()
}

/// The partitions of a topic, or those of them that are asked for.
pub fn partitions_of(client: &mut Client, topic: &str, only: &[i32]) -> Result<Vec<TopicPartition>> {
    let info = client.retry(|client| client.topic(topic, false))?;
    let count = info.partitions.len();
    if let Some(missing) = only.iter().find(|p| !info.partitions.iter().any(|known| known.index == **p)) {
        return Err(ClientError::Kafka {
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            what: format!("partition {missing} of topic `{topic}`"),
            message: Some(format!("it has {count} partitions")),
        });
    }
    let indexes = info.partitions.iter().map(|p| p.index).filter(|p| only.is_empty() || only.contains(p));
    Ok(indexes.map(|partition| TopicPartition::new(topic, partition)).collect())
}

/// Returns the new log start offsets.
fn trim_once(client: &mut Client, offsets: &Offsets) -> Result<Offsets> {
    let all: Vec<TopicPartition> = offsets.keys().cloned().collect();
    let mut trimmed = Offsets::new();
    for (leader, partitions) in client.by_leader(&all)? {
        let mut topics: BTreeMap<&str, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for at in &partitions {
            let partition =
                DeleteRecordsPartition::default().with_partition_index(at.partition).with_offset(offsets[at]);
            topics.entry(&at.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(name, list)| {
            DeleteRecordsTopic::default().with_name(topic_name(name)).with_partitions(list)
        });
        let request = DeleteRecordsRequest::default()
            .with_topics(topics.collect())
            .with_timeout_ms(client.timeout_i32());
        for topic in client.call_node(leader, &request, caps::ANY)?.topics {
            for partition in topic.partitions {
                let at = TopicPartition::new(&topic.name, partition.partition_index);
                check(partition.error_code, || format!("trimming {at}"), None)?;
                trimmed.insert(at, partition.low_watermark);
            }
        }
    }
    Ok(trimmed)
}
