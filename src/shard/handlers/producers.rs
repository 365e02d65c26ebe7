//! Ids of idempotent producers.

use super::{Call, HandlerError};
use crate::api::init_producer_id;
use bytes::Bytes;

pub(super) async fn init_producer_id(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let producer_id = match init_producer_id::plan(&call.decode(body)?) {
        Ok(()) => call.shard.producer_id().await,
        Err(error) => Err(error),
    };
    call.encode(&init_producer_id::reply(producer_id))
}
