//! Topics and settings: commands to the metadata machine, answered once every shard has applied them.

use super::{Call, HandlerError};
use crate::api::{
    Outcomes, alter_configs, create_partitions, create_topics, delete_topics, describe_configs,
    incremental_alter_configs, list_config_resources,
};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Command, ConfigResource, Reply};
use bytes::Bytes;

/// Has a command decided, in the time that the request gives.
async fn propose(call: &Call, timeout_ms: i32, command: Command) -> Result<Reply, ErrorCode> {
    call.shard.within(timeout_ms, call.shard.propose(command)).await?
}

pub(super) async fn create_topics(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let command = create_topics::plan(&request);
    let decided = propose(call, request.timeout_ms, command).await;
    let created = decided.map(|reply| match reply {
        Reply::Created(created) => created,
        _ => unreachable!("CreateTopics is answered by what was created"),
    });
    let image = call.shard.image();
    call.encode(&create_topics::reply(call.version(), &request, created, call.view(&image)))
}

pub(super) async fn delete_topics(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (version, request) = (call.version(), call.decode(body)?);
    let command = delete_topics::plan(version, &request);
    let decided = propose(call, request.timeout_ms, command).await;
    let deleted = decided.map(|reply| match reply {
        Reply::Deleted(deleted) => deleted,
        _ => unreachable!("DeleteTopics is answered by what was deleted"),
    });
    call.encode(&delete_topics::reply(version, &request, deleted))
}

pub(super) async fn create_partitions(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let command = create_partitions::plan(&request);
    let decided = propose(call, request.timeout_ms, command).await;
    let results = decided.map(|reply| match reply {
        Reply::Partitions(results) => results,
        _ => unreachable!("CreatePartitions is answered by topics"),
    });
    call.encode(&create_partitions::reply(&request, results))
}

pub(super) fn describe_configs(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let image = call.shard.image();
    call.encode(&describe_configs::reply(call.version(), &request, call.view(&image)))
}

pub(super) async fn alter_configs(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut changes = alter_configs::plan(&request);
    let command = alter_configs::command(&request, &mut changes);
    let results = alter(call, command).await;
    call.encode(&alter_configs::reply(changes, results))
}

pub(super) async fn incremental_alter_configs(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut changes = incremental_alter_configs::plan(&request);
    let command = incremental_alter_configs::command(&request, &mut changes);
    let results = alter(call, command).await;
    call.encode(&incremental_alter_configs::reply(changes, results))
}

/// Each resource of the command with its result; none where everything was refused before.
async fn alter(call: &Call, command: Option<Command>) -> Outcomes<ConfigResource, ()> {
    let Some(command) = command else { return Ok(Vec::new()) };
    match call.shard.propose(command).await? {
        Reply::Altered(results) => Ok(results),
        _ => unreachable!("settings are answered by resources"),
    }
}

pub(super) fn list_config_resources(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let image = call.shard.image();
    call.encode(&list_config_resources::reply(call.version(), &request, call.view(&image)))
}
