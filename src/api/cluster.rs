//! Brokers and partitions as clients see them: where a broker can be reached, and what a client may know of a
//! partition's leader and replicas.

use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Broker, BrokerState, Endpoint, Image, Partition};

/// The listener for clients.
const CLIENT_LISTENER: &str = "PLAINTEXT";

/// Where clients reach a broker.
pub(super) fn endpoint(broker: &Broker) -> Option<&Endpoint> {
    broker.endpoints.iter().find(|endpoint| endpoint.listener == CLIENT_LISTENER)
}

/// The brokers in service that clients can reach, by id.
pub(super) fn in_service(image: &Image) -> impl Iterator<Item = (&Broker, &Endpoint)> {
    image
        .brokers()
        .filter(|broker| broker.state != BrokerState::Fenced)
        .filter_map(|broker| Some((&**broker, endpoint(broker)?)))
}

/// Whether clients can reach a broker.
pub(super) fn is_reachable(image: &Image, id: i32) -> bool {
    image.broker(id).is_some_and(|broker| broker.state != BrokerState::Fenced && endpoint(broker).is_some())
}

/// The replicas that clients cannot reach.
pub(super) fn offline(image: &Image, partition: &Partition) -> Vec<i32> {
    partition.replicas.iter().copied().filter(|id| !is_reachable(image, *id)).collect()
}

/// The leader, if clients can reach it; else why not. A leader without the client's listener is LISTENER_NOT_FOUND
/// for those who know that code.
pub(super) fn leader(
    image: &Image,
    partition: &Partition,
    knows_listener_not_found: bool,
) -> Result<i32, ErrorCode> {
    let Some(leader) = partition.leader else { return Err(ErrorCode::LEADER_NOT_AVAILABLE) };
    if is_reachable(image, leader) {
        return Ok(leader);
    }
    if knows_listener_not_found && image.is_unfenced(leader) {
        return Err(ErrorCode::LISTENER_NOT_FOUND);
    }
    Err(ErrorCode::LEADER_NOT_AVAILABLE)
}
