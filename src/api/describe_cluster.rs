//! DescribeCluster (60): the cluster's id and its brokers (KIP-700).

use crate::api::metadata::controller;
use crate::api::wire::{some_text, text};
use crate::api::{View, cluster, operations};
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{BrokerState, id_text};
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

/// Kafka's numbers for the ends that a client may want (KIP-919).
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

const MISMATCHED_ENDPOINT_TYPE: ErrorCode = ErrorCode(114);
const UNSUPPORTED_ENDPOINT_TYPE: ErrorCode = ErrorCode(115);

/// The response.
#[must_use]
pub fn reply(version: i16, request: &DescribeClusterRequest, view: View<'_>) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return refuse(MISMATCHED_ENDPOINT_TYPE, message);
        }
        other => return refuse(UNSUPPORTED_ENDPOINT_TYPE, &format!("Unsupported endpoint type {other}")),
    }
    let with_fenced = version >= 2 && request.include_fenced_brokers;
    let brokers = view.image.brokers().filter_map(|broker| {
        let fenced = broker.state == BrokerState::Fenced;
        let endpoint = cluster::endpoint(broker).filter(|_| with_fenced || !fenced)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.id))
                .with_host(text(&endpoint.host))
                .with_port(i32::from(endpoint.port))
                .with_rack(some_text(broker.rack.as_deref()))
                .with_is_fenced(fenced),
        )
    });
    let asked = request.include_cluster_authorized_operations;
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(text(&view.image.cluster_id().map(id_text).unwrap_or_default()))
        .with_controller_id(BrokerId(controller(view)))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations::if_asked(asked, operations::CLUSTER))
}

fn refuse(error: ErrorCode, message: &str) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(error.0)
        .with_error_message(Some(text(message)))
        .with_endpoint_type(BROKERS)
        .with_controller_id(BrokerId(-1))
        .with_cluster_authorized_operations(operations::NOT_ASKED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fixture::Fixture;

    fn request() -> DescribeClusterRequest {
        DescribeClusterRequest::default().with_endpoint_type(BROKERS)
    }

    #[test]
    fn fenced_brokers_only_where_asked() {
        let fixture = Fixture::with_a_fenced_broker();
        let all =
            request().with_include_fenced_brokers(true).with_include_cluster_authorized_operations(true);
        for version in 0..=2 {
            let response = reply(version, &all, fixture.view());
            let brokers: Vec<_> = response.brokers.iter().map(|b| (b.broker_id.0, b.is_fenced)).collect();
            let expected: &[_] = if version >= 2 { &[(1, false), (2, true)] } else { &[(1, false)] };
            assert_eq!(brokers, expected);
            assert_eq!((response.controller_id.0, response.cluster_id.len()), (1, 22));
            assert_eq!(response.cluster_authorized_operations, operations::CLUSTER);
        }
        let response = reply(2, &request(), fixture.view());
        assert_eq!((response.brokers.len(), response.cluster_authorized_operations), (1, i32::MIN));
    }

    #[test]
    fn only_brokers_live_here() {
        let fixture = Fixture::new();
        for (kind, code) in [(2, 114), (3, 115), (0, 115)] {
            let response = reply(1, &request().with_endpoint_type(kind), fixture.view());
            assert_eq!(response.error_code, code);
            assert!(response.error_message.is_some() && response.brokers.is_empty());
        }
    }
}
