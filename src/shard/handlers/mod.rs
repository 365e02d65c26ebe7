//! The APIs that are not hot: decode, plan, wait, reply, encode. What is decided is decided in `api` and in the
//! machines; a handler only carries it between them.

mod admin;
mod groups;
mod metadata;
mod offsets;
mod partitions;
mod producers;

use crate::api::table::Kind;
use crate::api::{View, api_versions};
use crate::machine::metadata::Image;
use crate::shard::{Context, Shard};
use bytes::Bytes;
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use ringlog_net::{GuardError, guard, response};
use std::fmt;
use std::rc::Rc;

/// Why a request has no answer: its connection is closed, with one logged line.
#[derive(Debug)]
pub enum HandlerError {
    /// The bytes are not what the API and version say.
    Malformed(GuardError),
    /// The answer cannot be expressed in the version: a bug of this broker's.
    Unencodable(response::EncodeError),
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerError::Malformed(error) => write!(f, "malformed request: {error}"),
            HandlerError::Unencodable(error) => write!(f, "the answer cannot be encoded: {error}"),
        }
    }
}

impl std::error::Error for HandlerError {}

/// A request on its way. Its body is not part of it: a group's member may wait for minutes, without the frame.
struct Call {
    shard: Rc<Shard>,
    context: Context,
}

impl Call {
    fn version(&self) -> i16 {
        self.context.api_version
    }

    fn decode<T: Request>(&self, body: Bytes) -> Result<T, HandlerError> {
        guard::decode(self.version(), body).map_err(HandlerError::Malformed)
    }

    fn encode<T: Encodable + HeaderVersion>(&self, answer: &T) -> Result<Bytes, HandlerError> {
        response::encode(self.version(), self.context.correlation_id, answer)
            .map_err(HandlerError::Unencodable)
    }

    /// The metadata in `image` as this broker sees it.
    fn view<'a>(&'a self, image: &'a Image) -> View<'a> {
        View { node_id: self.shard.node.node_id, file: &self.shard.node.file, image }
    }
}

/// Answers one request: the whole response frame, length included.
///
/// # Errors
/// [`HandlerError`]: the connection is to be closed.
///
/// # Panics
/// For Produce and Fetch, which have a path of their own.
pub async fn handle(
    shard: Rc<Shard>,
    context: Context,
    kind: Kind,
    body: Bytes,
) -> Result<Bytes, HandlerError> {
    let call = Call { shard, context };
    match kind {
        Kind::Produce | Kind::Fetch => unreachable!("the hot path has no handler"),
        Kind::ApiVersions => metadata::api_versions(&call, body),
        Kind::Metadata => metadata::metadata(&call, body).await,
        Kind::DescribeCluster => metadata::describe_cluster(&call, body),
        Kind::DescribeTopicPartitions => metadata::describe_topic_partitions(&call, body),
        Kind::ListOffsets => partitions::list_offsets(&call, body).await,
        Kind::DeleteRecords => partitions::delete_records(&call, body).await,
        Kind::OffsetForLeaderEpoch => partitions::offset_for_leader_epoch(&call, body).await,
        Kind::DescribeLogDirs => partitions::describe_log_dirs(&call, body).await,
        Kind::DescribeProducers => partitions::describe_producers(&call, body).await,
        Kind::FindCoordinator => groups::find_coordinator(&call, body).await,
        Kind::JoinGroup => groups::join_group(&call, body).await,
        Kind::Heartbeat => groups::heartbeat(&call, body).await,
        Kind::LeaveGroup => groups::leave_group(&call, body).await,
        Kind::SyncGroup => groups::sync_group(&call, body).await,
        Kind::DescribeGroups => groups::describe_groups(&call, body).await,
        Kind::ListGroups => groups::list_groups(&call, body).await,
        Kind::DeleteGroups => groups::delete_groups(&call, body).await,
        Kind::OffsetCommit => offsets::offset_commit(&call, body).await,
        Kind::OffsetFetch => offsets::offset_fetch(&call, body).await,
        Kind::OffsetDelete => offsets::offset_delete(&call, body).await,
        Kind::InitProducerId => producers::init_producer_id(&call, body).await,
        Kind::CreateTopics => admin::create_topics(&call, body).await,
        Kind::DeleteTopics => admin::delete_topics(&call, body).await,
        Kind::CreatePartitions => admin::create_partitions(&call, body).await,
        Kind::DescribeConfigs => admin::describe_configs(&call, body),
        Kind::AlterConfigs => admin::alter_configs(&call, body).await,
        Kind::IncrementalAlterConfigs => admin::incremental_alter_configs(&call, body).await,
        Kind::ListConfigResources => admin::list_config_resources(&call, body),
    }
}

/// The answer to an ApiVersions request of a version that is not served: a whole frame, as version 0.
///
/// # Errors
/// [`HandlerError::Unencodable`].
pub fn unsupported_api_versions(correlation_id: i32) -> Result<Bytes, HandlerError> {
    response::encode(0, correlation_id, &api_versions::unsupported_version())
        .map_err(HandlerError::Unencodable)
}
