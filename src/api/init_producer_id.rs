//! InitProducerId (22): an id for an idempotent producer.
//!
//! There are no transactions yet. A producer with a transactional id is refused with
//! TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which is fatal for Java and librdkafka alike; the response has no room for
//! a message, but a client that gets here was told by FindCoordinator already.

use crate::machine::error::ErrorCode;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};

/// Whether the producer gets an id. An idempotent producer that already had one gets a new one, as in Kafka.
///
/// # Errors
/// Why it gets none.
pub fn plan(request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    match request.transactional_id.as_ref().map(|id| id.as_str()) {
        Some("") => return Err(ErrorCode::INVALID_REQUEST),
        Some(_) => return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        None => {}
    }
    // Either both are given or neither is.
    if (request.producer_id.0 == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(())
}

/// The response.
#[must_use]
pub fn reply(producer_id: Result<i64, ErrorCode>) -> InitProducerIdResponse {
    match producer_id {
        Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
        Err(error) => InitProducerIdResponse::default()
            .with_error_code(error.0)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::text;
    use kafka_protocol::messages::TransactionalId;

    #[test]
    fn who_gets_an_id() {
        let request = |transactional: Option<&str>, id, epoch| {
            InitProducerIdRequest::default()
                .with_transactional_id(transactional.map(|id| TransactionalId(text(id))))
                .with_producer_id(ProducerId(id))
                .with_producer_epoch(epoch)
        };
        let invalid = Err(ErrorCode::INVALID_REQUEST);
        assert_eq!(plan(&request(None, -1, -1)), Ok(()));
        assert_eq!(plan(&request(None, 4, 2)), Ok(()));
        assert_eq!(plan(&request(None, 4, -1)), invalid);
        assert_eq!(plan(&request(None, -1, 2)), invalid);
        assert_eq!(plan(&request(Some(""), -1, -1)), invalid);
        let refused = Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        assert_eq!(plan(&request(Some("t"), -1, -1)), refused);
    }

    #[test]
    fn an_id_begins_with_epoch_zero() {
        let response = reply(Ok(1000));
        assert_eq!((response.error_code, response.producer_id.0, response.producer_epoch), (0, 1000, 0));
        let response = reply(Err(ErrorCode::REQUEST_TIMED_OUT));
        assert_eq!((response.error_code, response.producer_id.0, response.producer_epoch), (7, -1, -1));
    }
}
