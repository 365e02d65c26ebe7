//! The subcommands of `ringlog topic` that only look.

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;
use serde_json::{Value, json};

use super::change::TOPIC_RESOURCE;
use super::{DescribeArgs, ListArgs};
use crate::cli::ConnectArgs;
use crate::cli::client::error::Result;
use crate::cli::client::offsets::Offsets;
use crate::cli::client::{Client, TopicInfo, TopicPartition, caps, check, shown_id};
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print_json, print_line};

/// DescribeConfigs' source of a setting made on the topic itself.
const SOURCE_TOPIC: i8 = 1;

/// `topic list`.
pub fn list(connect: &ConnectArgs, args: &ListArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let mut topics = client.retry(Client::all_topics)?;
    topics.retain(|topic| args.internal || !topic.internal);
    if connect.json {
        let list: Vec<Value> = topics.iter().map(summary).collect();
        return print_json(&json!({ "topics": list }));
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICATION FACTOR"]);
    for topic in &topics {
        let partitions = topic.partitions.len().to_string();
        table.row(vec![topic.name.clone(), partitions, replication_factor(topic).to_string()]);
    }
    table.print()
}

fn replication_factor(topic: &TopicInfo) -> usize {
    topic.partitions.first().map_or(0, |partition| partition.replicas.len())
}

fn summary(topic: &TopicInfo) -> Value {
    json!({
        "topic": topic.name,
        "id": shown_id(&topic.id),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "replication_factor": replication_factor(topic),
    })
}

/// `topic describe`.
pub fn describe(connect: &ConnectArgs, args: &DescribeArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let mut documents = Vec::new();
    for (index, name) in args.topics.iter().enumerate() {
        let topic = client.retry(|client| client.topic(name, false))?;
        let led = topic.partitions.iter().filter(|p| p.leader >= 0);
        let partitions: Vec<TopicPartition> = led.map(|p| TopicPartition::new(name, p.index)).collect();
        let bounds = (client.earliest(&partitions)?, client.latest(&partitions)?);
        let mut configs = client.retry(|client| configs_of(client, name))?;
        configs.retain(|config| args.all_configs || config.config_source == SOURCE_TOPIC);
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        if connect.json {
            documents.push(document(&topic, &bounds, &configs));
        } else {
            if index > 0 {
                print_line("")?;
            }
            print_topic(&topic, &bounds, &configs)?;
        }
    }
    if connect.json { print_json(&json!({ "topics": documents })) } else { Ok(()) }
}

fn configs_of(client: &mut Client, topic: &str) -> Result<Vec<DescribeConfigsResourceResult>> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let mut configs = Vec::new();
    for result in client.call_any(&request, caps::ANY)?.results {
        check(result.error_code, || format!("settings of `{topic}`"), result.error_message.as_ref())?;
        configs.extend(result.configs);
    }
    Ok(configs)
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 | 3 => "dynamic broker",
        4 => "static broker",
        5 => "default",
        _ => "other",
    }
}

fn document(
    topic: &TopicInfo,
    bounds: &(Offsets, Offsets),
    configs: &[DescribeConfigsResourceResult],
) -> Value {
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .map(|p| {
            let at = TopicPartition::new(&topic.name, p.index);
            json!({
                "partition": p.index,
                "leader": p.leader,
                "leader_epoch": p.leader_epoch,
                "replicas": p.replicas,
                "isr": p.isr,
                "log_start_offset": bounds.0.get(&at),
                "end_offset": bounds.1.get(&at),
            })
        })
        .collect();
    let configs: Vec<Value> = configs
        .iter()
        .map(|c| {
            json!({
                "name": c.name.as_str(),
                "value": c.value.as_ref().map(|value| value.as_str()),
                "source": source_name(c.config_source),
            })
        })
        .collect();
    let mut document = summary(topic);
    document["partitions"] = json!(partitions);
    document["configs"] = json!(configs);
    document
}

fn print_topic(
    topic: &TopicInfo,
    bounds: &(Offsets, Offsets),
    configs: &[DescribeConfigsResourceResult],
) -> std::result::Result<(), Failure> {
    print_line(&format!(
        "topic {}  id {}  {} partitions",
        topic.name,
        shown_id(&topic.id),
        topic.partitions.len()
    ))?;
    let list = |nodes: &[i32]| nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    let shown = |offset: Option<&i64>| offset.map_or("-".to_owned(), i64::to_string);
    let mut table = Table::new(&["PARTITION", "LEADER", "REPLICAS", "ISR", "START", "END", "RECORDS"]);
    for p in &topic.partitions {
        let at = TopicPartition::new(&topic.name, p.index);
        let (start, end) = (bounds.0.get(&at), bounds.1.get(&at));
        let records = start.zip(end).map(|(start, end)| end - start);
        table.row(vec![
            p.index.to_string(),
            if p.leader < 0 { "none".to_owned() } else { p.leader.to_string() },
            list(&p.replicas),
            list(&p.isr),
            shown(start),
            shown(end),
            shown(records.as_ref()),
        ]);
    }
    table.print()?;
    if configs.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["SETTING", "VALUE", "SOURCE"]);
    for config in configs {
        let value = config.value.as_ref().map_or("-", |value| value.as_str());
        table.row(vec![
            config.name.to_string(),
            value.to_owned(),
            source_name(config.config_source).to_owned(),
        ]);
    }
    table.print()
}
