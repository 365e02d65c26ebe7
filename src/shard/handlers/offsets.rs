//! Offsets of groups: committed, fetched and deleted by the groups' coordinators.

use super::groups::{ask, ask_each};
use super::{Call, HandlerError};
use crate::api::{offset_commit, offset_delete, offset_fetch};
use crate::machine::group::{FetchRequest, Reply, Request};
use bytes::Bytes;

pub(super) async fn offset_commit(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (commit, plan) = offset_commit::plan(call.version(), &call.decode(body)?, &call.shard.image());
    let Some(commit) = commit else { return call.encode(&offset_commit::reply(plan, None)) };
    let group = commit.group.clone();
    let Reply::Commit(reply) = ask(call, &group, Request::Commit(commit)).await else {
        unreachable!("a commit is answered by a commit")
    };
    call.encode(&offset_commit::reply(plan, Some(&reply)))
}

pub(super) async fn offset_fetch(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (version, request) = (call.version(), call.decode(body)?);
    let fetched = ask_each(
        call,
        offset_fetch::groups(version, &request),
        |group| &group.group,
        |groups| {
            // What this connection committed before may still be on its way to the log: it is waited for, also where
            // the client does not ask for that.
            let fetch = offset_fetch::plan(version, &request, groups);
            Request::Fetch(FetchRequest { require_stable: true, ..fetch })
        },
        |reply| match reply {
            Reply::Fetch(reply) => reply.groups,
            _ => unreachable!("a fetch is answered by a fetch"),
        },
    );
    let fetched = fetched.await;
    call.encode(&offset_fetch::reply(version, &request, &fetched))
}

pub(super) async fn offset_delete(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let (delete, plan) = offset_delete::plan(&call.decode(body)?, &call.shard.image());
    let Some(delete) = delete else { return call.encode(&offset_delete::reply(plan, None)) };
    let group = delete.group.clone();
    let Reply::OffsetDelete(reply) = ask(call, &group, Request::OffsetDelete(delete)).await else {
        unreachable!("a deletion of offsets is answered by one")
    };
    call.encode(&offset_delete::reply(plan, Some(&reply)))
}
