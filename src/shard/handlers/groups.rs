//! Consumer groups: requests go to the coordinator of the group's partition of `__consumer_offsets`. Before that
//! topic is there every group is somebody else's: NOT_COORDINATOR makes clients look for the coordinator, which
//! creates it.

use super::{Call, HandlerError};
use crate::api::groups::{Part, join, split};
use crate::api::{
    Client, delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, sync_group,
};
use crate::machine::error::ErrorCode;
use crate::machine::group::{ListReply, Reply, Request};
use crate::machine::metadata::Command;
use crate::shard::Shard;
use crate::shard::all::all;
use bytes::Bytes;
use std::rc::Rc;

/// Asks the coordinator of one partition; none is that of a topic that does not exist yet.
async fn coordinator(shard: &Rc<Shard>, partition: Option<i32>, request: Request) -> Reply {
    match partition {
        Some(partition) => shard.group(partition, request).await,
        None => request.refuse(ErrorCode::NOT_COORDINATOR),
    }
}

/// Asks the coordinator of a group.
pub(super) async fn ask(call: &Call, group: &str, request: Request) -> Reply {
    let partition = find_coordinator::offsets_partition(&call.shard.image(), group);
    coordinator(&call.shard, partition, request).await
}

/// Asks the coordinators of several groups at the same time; answers in the order asked.
pub(super) async fn ask_each<T, R>(
    call: &Call,
    items: Vec<T>,
    group: impl Fn(&T) -> &str,
    request: impl Fn(Vec<T>) -> Request,
    answers: impl Fn(Reply) -> Vec<R>,
) -> Vec<R> {
    let parts = split(&call.shard.image(), items, group);
    let (mut places, mut asked) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
    for (partition, items, place) in parts.into_iter().map(Part::into_parts) {
        places.push(place);
        asked.push(coordinator(&call.shard, partition, request(items)));
    }
    let replies = all(asked).await.into_iter().map(answers);
    join(places.into_iter().zip(replies))
}

pub(super) async fn find_coordinator(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let topic = find_coordinator::to_create(&request, call.view(&call.shard.image()));
    if let Some(topic) = topic {
        // If it fails, or somebody else was first, the image says what there is.
        let command = Command::CreateTopics { topics: vec![topic], validate_only: false };
        if let Err(error) = call.shard.propose(command).await {
            tracing::warn!(%error, "__consumer_offsets could not be created");
        }
    }
    let image = call.shard.image();
    call.encode(&find_coordinator::reply(call.version(), &request, call.view(&image)))
}

pub(super) async fn join_group(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let client = Client { id: call.context.client_id.as_deref(), host: &call.context.client_host };
    let request = join_group::plan(call.version(), &call.decode(body)?, client, call.shard.random_uuid());
    let group = request.group.clone();
    let Reply::Join(reply) = ask(call, &group, Request::Join(request)).await else {
        unreachable!("a join is answered by a join")
    };
    call.encode(&join_group::reply(call.version(), &reply))
}

pub(super) async fn heartbeat(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = heartbeat::plan(&call.decode(body)?);
    let group = request.group.clone();
    let Reply::Heartbeat(error) = ask(call, &group, Request::Heartbeat(request)).await else {
        unreachable!("a heartbeat is answered by a heartbeat")
    };
    call.encode(&heartbeat::reply(error))
}

pub(super) async fn leave_group(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = leave_group::plan(call.version(), &call.decode(body)?);
    let group = request.group.clone();
    let Reply::Leave(reply) = ask(call, &group, Request::Leave(request)).await else {
        unreachable!("a leave is answered by a leave")
    };
    call.encode(&leave_group::reply(call.version(), &reply))
}

pub(super) async fn sync_group(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = match sync_group::plan(call.version(), &call.decode(body)?) {
        Ok(request) => request,
        Err(error) => return call.encode(&sync_group::refuse(error)),
    };
    let group = request.group.clone();
    let Reply::Sync(reply) = ask(call, &group, Request::Sync(request)).await else {
        unreachable!("a sync is answered by a sync")
    };
    call.encode(&sync_group::reply(call.version(), &reply))
}

pub(super) async fn describe_groups(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (version, request) = (call.version(), call.decode(body)?);
    let described = ask_each(
        call,
        describe_groups::groups(&request),
        |group| group,
        |groups| Request::Describe(describe_groups::plan(version, groups)),
        |reply| match reply {
            Reply::Describe(groups) => groups,
            _ => unreachable!("groups are described by descriptions"),
        },
    );
    let described = described.await;
    call.encode(&describe_groups::reply(version, &request, &described))
}

pub(super) async fn list_groups(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let list = list_groups::plan(&call.decode(body)?);
    let partitions = find_coordinator::offsets_partitions(&call.shard.image()).unwrap_or(0);
    let ask = |partition| coordinator(&call.shard, Some(partition), Request::List(list.clone()));
    let replies = all((0..partitions).map(ask).collect()).await;
    let lists: Vec<ListReply> = replies
        .into_iter()
        .map(|reply| match reply {
            Reply::List(list) => list,
            _ => unreachable!("a list is answered by a list"),
        })
        .collect();
    call.encode(&list_groups::reply(call.version(), &lists))
}

pub(super) async fn delete_groups(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let groups = delete_groups::groups(&call.decode(body)?);
    let deleted = ask_each(
        call,
        groups,
        |group| group,
        Request::Delete,
        |reply| match reply {
            Reply::Delete(results) => results,
            _ => unreachable!("a deletion is answered by a deletion"),
        },
    );
    let deleted = deleted.await;
    call.encode(&delete_groups::reply(&deleted))
}
