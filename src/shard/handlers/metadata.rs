//! What the metadata image alone answers, and topics that Metadata creates on the way.

use super::{Call, HandlerError};
use crate::api::{api_versions, describe_cluster, describe_topic_partitions, metadata};
use crate::machine::metadata::{Command, Reply};
use bytes::Bytes;

pub(super) fn api_versions(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let image = call.shard.image();
    call.encode(&api_versions::reply(call.version(), &request, call.view(&image)))
}

pub(super) async fn metadata(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (version, request) = (call.version(), call.decode(body)?);
    let wanted = match metadata::plan(version, &request) {
        Ok(wanted) => wanted,
        Err(refused) => return call.encode(&refused),
    };
    let image = call.shard.image();
    let topics = metadata::to_create(&wanted, &request, call.view(&image));
    if topics.is_empty() {
        let answer = metadata::reply(version, &wanted, &request, &Ok(Vec::new()), call.view(&image));
        return call.encode(&answer);
    }
    let command = Command::CreateTopics { topics, validate_only: false };
    let created = call.shard.propose(command).await.map(|reply| match reply {
        Reply::Created(created) => created,
        _ => unreachable!("CreateTopics is answered by what was created"),
    });
    let image = call.shard.image();
    call.encode(&metadata::reply(version, &wanted, &request, &created, call.view(&image)))
}

pub(super) fn describe_cluster(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let image = call.shard.image();
    call.encode(&describe_cluster::reply(call.version(), &request, call.view(&image)))
}

pub(super) fn describe_topic_partitions(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let image = call.shard.image();
    call.encode(&describe_topic_partitions::reply(&request, call.view(&image)))
}
