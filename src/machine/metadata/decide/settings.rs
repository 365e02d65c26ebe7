//! AlterConfigs and IncrementalAlterConfigs.

use super::{Context, repeated};
use crate::machine::config::{
    Kind, OptionDef, Settings, broker_option, check_broker_settings, check_topic_settings, topic_option,
};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::command::{AlterOp, ApiError, ConfigResource, GivenSettings, SettingChange};
use crate::machine::metadata::image::Image;
use crate::machine::metadata::record::{Partition, Record, Topic};

type Results = Vec<(ConfigResource, Result<(), ApiError>)>;

/// AlterConfigs: a resource's settings become exactly what is given.
pub(super) fn replace(
    image: &Image,
    context: &Context<'_>,
    resources: &[(ConfigResource, GivenSettings)],
    records: &mut Vec<Record>,
) -> Results {
    let results = each(resources, |resource, settings| {
        check_names(resource, settings.iter().map(|(name, _)| name.as_str()))?;
        check_nulls(settings.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()))?;
        let given = settings.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        alter(image, context, resource, &given.collect(), records)
    });
    clear_elr(image, context, records);
    results
}

/// IncrementalAlterConfigs: a resource's settings are changed one by one.
pub(super) fn change(
    image: &Image,
    context: &Context<'_>,
    resources: &[(ConfigResource, Vec<SettingChange>)],
    records: &mut Vec<Record>,
) -> Results {
    let results = each(resources, |resource, changes| {
        check_names(resource, changes.iter().map(|change| change.name.as_str()))?;
        let needs_value = |change: &&SettingChange| change.op != AlterOp::Delete && change.value.is_none();
        check_nulls(changes.iter().filter(needs_value).map(|change| change.name.as_str()))?;
        let mut settings = current(image, resource)?.clone();
        for change in changes {
            apply_change(resource, &mut settings, change)?;
        }
        alter(image, context, resource, &settings, records)
    });
    clear_elr(image, context, records);
    results
}

fn each<T>(
    resources: &[(ConfigResource, T)],
    mut run: impl FnMut(&ConfigResource, &T) -> Result<(), ApiError>,
) -> Results {
    let twice = repeated(resources.iter().map(|(resource, _)| resource));
    resources
        .iter()
        .map(|(resource, request)| {
            let result = if twice.contains(resource) {
                Err(invalid_request("Each resource must appear at most once."))
            } else {
                run(resource, request)
            };
            (resource.clone(), result)
        })
        .collect()
}

fn invalid_request(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::INVALID_REQUEST, message)
}

fn check_names<'a>(resource: &ConfigResource, names: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    if *resource == ConfigResource::Topic(String::new()) {
        return Err(invalid_request("Default topic resources are not allowed."));
    }
    let twice: Vec<&str> = repeated(names).into_iter().collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(invalid_request(format!("Error due to duplicate config keys : {}", twice.join(","))))
}

fn check_nulls<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), ApiError> {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(invalid_request(format!("Null value not supported for : {}", names.join(","))))
}

/// What is set on a resource now.
fn current<'a>(image: &'a Image, resource: &ConfigResource) -> Result<&'a Settings, ApiError> {
    match resource {
        ConfigResource::Topic(name) => topic(image, name).map(|topic| &topic.settings),
        ConfigResource::Cluster => Ok(image.cluster_settings()),
        ConfigResource::Broker(id) if image.broker(*id).is_some() => Ok(image.broker_settings(*id)),
        ConfigResource::Broker(id) => {
            let message = format!("No broker with id {id} found.");
            Err(ApiError::new(ErrorCode::BROKER_ID_NOT_REGISTERED, message))
        }
    }
}

fn topic<'a>(image: &'a Image, name: &str) -> Result<&'a Topic, ApiError> {
    image.topic_named(name).map(|topic| &**topic).ok_or_else(|| {
        let message = format!("The topic '{name}' does not exist.");
        ApiError::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message)
    })
}

fn option(resource: &ConfigResource, name: &str) -> Option<&'static OptionDef> {
    match resource {
        ConfigResource::Topic(_) => topic_option(name),
        ConfigResource::Cluster | ConfigResource::Broker(_) => broker_option(name),
    }
}

fn apply_change(
    resource: &ConfigResource,
    settings: &mut Settings,
    change: &SettingChange,
) -> Result<(), ApiError> {
    let name = &change.name;
    let value = change.value.as_deref().unwrap_or_default();
    match change.op {
        AlterOp::Set => {
            settings.insert(name.clone(), value.to_owned());
        }
        AlterOp::Delete => {
            settings.remove(name);
        }
        AlterOp::Append | AlterOp::Subtract => {
            let def = option(resource, name).filter(|def| def.kind == Kind::List);
            let Some(def) = def else {
                let op = if change.op == AlterOp::Append { "APPEND" } else { "SUBTRACT" };
                let message = format!("Can't {op} to key {name} because its type is not LIST.");
                return Err(ApiError::new(ErrorCode::INVALID_CONFIG, message));
            };
            let before = settings.get(name).map(String::as_str).or(def.default).unwrap_or_default();
            let list = change_list(before, change.op, value);
            settings.insert(name.clone(), list);
        }
    }
    Ok(())
}

fn change_list(before: &str, op: AlterOp, value: &str) -> String {
    let words = |text: &'_ str| -> Vec<String> {
        text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let mut list = words(before);
    for word in words(value) {
        match op {
            AlterOp::Append if !list.contains(&word) => list.push(word),
            AlterOp::Subtract => list.retain(|other| *other != word),
            _ => {}
        }
    }
    list.join(",")
}

/// Checks what a resource's settings would become, and records the difference.
fn alter(
    image: &Image,
    context: &Context<'_>,
    resource: &ConfigResource,
    after: &Settings,
    records: &mut Vec<Record>,
) -> Result<(), ApiError> {
    let before = current(image, resource)?;
    let changes = difference(before, after);
    match resource {
        ConfigResource::Topic(name) => {
            let topic = topic(image, name)?;
            check_topic_settings(after, image.layers(context.node_id, context.settings))
                .map_err(|message| ApiError::new(ErrorCode::INVALID_CONFIG, message))?;
            records.extend(changes.into_iter().map(|(name, value)| Record::TopicSetting {
                topic: topic.id,
                name,
                value,
            }));
        }
        ConfigResource::Cluster | ConfigResource::Broker(_) => {
            let names: Vec<&str> = changes.iter().map(|(name, _)| name.as_str()).collect();
            check_broker_settings(after, &names).map_err(|(code, message)| ApiError::new(code, message))?;
            let broker = if let ConfigResource::Broker(id) = resource { Some(*id) } else { None };
            records.extend(changes.into_iter().map(|(name, value)| Record::BrokerSetting {
                broker,
                name,
                value,
            }));
        }
    }
    Ok(())
}

/// Each setting that differs, with its new value.
fn difference(before: &Settings, after: &Settings) -> Vec<(String, Option<String>)> {
    let set = after.iter().filter(|(name, value)| before.get(*name) != Some(value));
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    set.map(|(name, value)| (name.clone(), Some(value.clone())))
        .chain(removed.map(|name| (name.clone(), None)))
        .collect()
}

/// Who is eligible was decided under the old number of in-sync replicas: a change of it clears the ELR in the same
/// batch (KIP-966). Done once for the whole command, since several of its resources may bear on one topic.
fn clear_elr(image: &Image, context: &Context<'_>, records: &mut Vec<Record>) {
    let bears = records.iter().any(|record| match record {
        Record::TopicSetting { name, .. } | Record::BrokerSetting { name, .. } => {
            name == "min.insync.replicas"
        }
        _ => false,
    });
    if !bears {
        return;
    }
    let mut after = image.clone();
    for record in records.iter() {
        after.apply(record);
    }
    for topic in image.topics_by_name() {
        let min_insync = |image: &Image| {
            let topic = image.topic(topic.id).expect("settings delete no topic");
            context.topic_config(image, topic).min_insync(topic.replication_factor())
        };
        if topic.partitions.iter().all(|partition| partition.elr.is_empty())
            || min_insync(image) == min_insync(&after)
        {
            continue;
        }
        for (index, partition) in
            (0..).zip(&topic.partitions).filter(|(_, partition)| !partition.elr.is_empty())
        {
            let partition_epoch = partition.partition_epoch + 1;
            let partition = Partition { elr: Vec::new(), partition_epoch, ..(**partition).clone() };
            records.push(Record::Partition { topic: topic.id, index, partition });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::{Cluster, registration};
    use crate::machine::metadata::{Command, Registration, Reply};
    use uuid::Uuid;

    fn change(name: &str, op: AlterOp, value: &str) -> SettingChange {
        SettingChange { name: name.into(), op, value: Some(value.into()) }
    }

    fn results(cluster: &mut Cluster, command: &Command) -> Vec<Result<(), ErrorCode>> {
        let Reply::Altered(results) = cluster.run(command) else { panic!() };
        results.into_iter().map(|(_, result)| result.map_err(|error| error.code)).collect()
    }

    fn incremental(
        cluster: &mut Cluster,
        resource: ConfigResource,
        changes: Vec<SettingChange>,
    ) -> Result<(), ErrorCode> {
        let resources = vec![(resource, changes)];
        results(cluster, &Command::IncrementalAlterConfigs { resources, validate_only: false })[0]
    }

    fn t() -> ConfigResource {
        ConfigResource::Topic("t".into())
    }

    fn settings(cluster: &Cluster) -> Vec<(&str, &str)> {
        let settings = &cluster.image.topic_named("t").unwrap().settings;
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    #[test]
    fn set_delete_append_subtract() {
        let mut cluster = Cluster::of(1);
        cluster.topic("t", 1, 1);
        let run = |cluster: &mut Cluster, op, value: &str| {
            incremental(cluster, t(), vec![change("cleanup.policy", op, value)]).unwrap();
        };
        run(&mut cluster, AlterOp::Append, "compact");
        assert_eq!(settings(&cluster), [("cleanup.policy", "delete,compact")], "appends to the default");
        run(&mut cluster, AlterOp::Append, "compact");
        assert_eq!(settings(&cluster), [("cleanup.policy", "delete,compact")]);
        run(&mut cluster, AlterOp::Subtract, "delete");
        assert_eq!(settings(&cluster), [("cleanup.policy", "compact")]);
        incremental(&mut cluster, t(), vec![change("retention.ms", AlterOp::Set, "5")]).unwrap();
        run(&mut cluster, AlterOp::Delete, "");
        assert_eq!(settings(&cluster), [("retention.ms", "5")]);
    }

    #[test]
    fn a_resource_is_changed_whole_or_not_at_all() {
        let mut cluster = Cluster::of(1);
        cluster.topic("t", 1, 1);
        let changes =
            vec![change("retention.ms", AlterOp::Set, "5"), change("segment.ms", AlterOp::Set, "never")];
        assert_eq!(incremental(&mut cluster, t(), changes), Err(ErrorCode::INVALID_CONFIG));
        assert!(settings(&cluster).is_empty());
    }

    #[test]
    fn refusals() {
        let mut cluster = Cluster::of(1);
        cluster.topic("t", 1, 1);
        let set = |name: &str| change(name, AlterOp::Set, "5");
        let unknown = ConfigResource::Topic("none".into());
        let no_value = SettingChange { value: None, ..set("retention.ms") };
        let cases = [
            (unknown, vec![set("retention.ms")], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (ConfigResource::Topic(String::new()), vec![set("retention.ms")], ErrorCode::INVALID_REQUEST),
            (ConfigResource::Broker(9), vec![set("message.max.bytes")], ErrorCode::BROKER_ID_NOT_REGISTERED),
            (ConfigResource::Cluster, vec![set("node.id")], ErrorCode::INVALID_REQUEST),
            (ConfigResource::Cluster, vec![set("no.such")], ErrorCode::INVALID_CONFIG),
            (t(), vec![set("no.such")], ErrorCode::INVALID_CONFIG),
            (t(), vec![set("retention.ms"), set("retention.ms")], ErrorCode::INVALID_REQUEST),
            (t(), vec![no_value], ErrorCode::INVALID_REQUEST),
            (t(), vec![change("retention.ms", AlterOp::Append, "5")], ErrorCode::INVALID_CONFIG),
        ];
        for (resource, changes, code) in cases {
            assert_eq!(incremental(&mut cluster, resource, changes.clone()), Err(code), "{changes:?}");
        }
        let resources = vec![(t(), vec![set("retention.ms")]), (t(), vec![set("segment.ms")])];
        let command = Command::IncrementalAlterConfigs { resources, validate_only: false };
        assert_eq!(results(&mut cluster, &command), [Err(ErrorCode::INVALID_REQUEST); 2]);
    }

    #[test]
    fn replacing_takes_away_what_is_not_named() {
        let mut cluster = Cluster::of(1);
        cluster.topic("t", 1, 1);
        let replace = |cluster: &mut Cluster, pairs: &[(&str, &str)], validate_only| {
            let pairs =
                pairs.iter().map(|(name, value)| (name.to_string(), Some(value.to_string()))).collect();
            let resources = vec![(t(), pairs)];
            results(cluster, &Command::AlterConfigs { resources, validate_only })[0]
        };
        replace(&mut cluster, &[("retention.ms", "5"), ("segment.ms", "6")], false).unwrap();
        replace(&mut cluster, &[("segment.ms", "9")], true).unwrap();
        assert_eq!(settings(&cluster), [("retention.ms", "5"), ("segment.ms", "6")]);
        replace(&mut cluster, &[("segment.ms", "7")], false).unwrap();
        assert_eq!(settings(&cluster), [("segment.ms", "7")]);
    }

    #[test]
    fn settings_of_the_cluster_and_of_a_broker() {
        let mut cluster = Cluster::of(1);
        let id = cluster.topic("t", 1, 1);
        let max = |cluster: &Cluster| {
            let topic = cluster.image.topic(id).unwrap();
            cluster.image.topic_config(topic, 1, &cluster.settings).max_message_bytes
        };
        let set = |value| vec![change("message.max.bytes", AlterOp::Set, value)];
        incremental(&mut cluster, ConfigResource::Cluster, set("2000")).unwrap();
        assert_eq!(max(&cluster), 2000);
        incremental(&mut cluster, ConfigResource::Broker(1), set("3000")).unwrap();
        assert_eq!(max(&cluster), 3000);
        let delete = vec![change("message.max.bytes", AlterOp::Delete, "")];
        incremental(&mut cluster, ConfigResource::Broker(1), delete).unwrap();
        assert_eq!(max(&cluster), 2000);
    }

    #[test]
    fn one_command_that_bears_on_a_topic_twice_clears_its_elr_once() {
        let mut cluster = Cluster::of(1);
        let id = cluster.topic("t", 1, 1);
        let fenced = Registration { unfenced: false, incarnation: Uuid::from_u128(7), ..registration(1) };
        cluster.run(&Command::RegisterBroker(fenced));
        let set = || vec![change("min.insync.replicas", AlterOp::Set, "2")];
        let resources =
            vec![(t(), set()), (ConfigResource::Cluster, set()), (ConfigResource::Broker(1), set())];
        let command = Command::IncrementalAlterConfigs { resources, validate_only: false };
        assert_eq!(results(&mut cluster, &command), [Ok(()); 3]);
        assert!(cluster.image.partition(id, 0).unwrap().elr.is_empty());
    }

    #[test]
    fn a_change_of_min_isr_clears_the_elr() {
        for resource in [t(), ConfigResource::Cluster] {
            let mut cluster = Cluster::of(1);
            let id = cluster.topic("t", 1, 1);
            let fenced = Registration { unfenced: false, incarnation: Uuid::from_u128(7), ..registration(1) };
            cluster.run(&Command::RegisterBroker(fenced));
            assert_eq!(cluster.image.partition(id, 0).unwrap().elr, [1]);
            let set = |value| vec![change("min.insync.replicas", AlterOp::Set, value)];
            incremental(&mut cluster, resource.clone(), set("1")).unwrap();
            assert_eq!(cluster.image.partition(id, 0).unwrap().elr, [1], "the same number as before");
            incremental(&mut cluster, resource, set("2")).unwrap();
            let partition = cluster.image.partition(id, 0).unwrap();
            assert!(partition.elr.is_empty());
            assert_eq!(partition.last_known_leader, Some(1));
        }
    }
}
