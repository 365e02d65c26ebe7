//! Response frames around messages of `kafka-protocol`: length, response header, body, in one allocation.

use crate::wire;
use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use std::fmt;

/// A response that the library cannot encode: a field is set that the version does not have, or the version is not
/// served at all. It is the handler's mistake, found before a byte left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeError(String);

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for EncodeError {}

/// Encodes `response` as a whole frame, length prefix included.
///
/// The response header has tagged fields (version 1) where the API's version is flexible, except that of ApiVersions,
/// which is always version 0: a client must be able to read it before it knows what the broker speaks (KIP-511).
///
/// # Errors
/// [`EncodeError`] when the message cannot be expressed in `api_version`.
pub fn encode<T: Encodable + HeaderVersion>(
    api_version: i16,
    correlation_id: i32,
    response: &T,
) -> Result<Bytes, EncodeError> {
    let refused = |error: &dyn fmt::Display| EncodeError(error.to_string());
    let size = response.compute_size(api_version).map_err(|e| refused(&e))?;
    let flexible = T::header_version(api_version) >= 1;
    let mut buf = BytesMut::with_capacity(4 + 4 + usize::from(flexible) + size);
    let start = wire::begin_frame(&mut buf, flexible, correlation_id);
    response.encode(&mut buf, api_version).map_err(|e| refused(&e))?;
    wire::end_frame(&mut buf, start, 0);
    Ok(buf.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiVersionsResponse, HeartbeatResponse, ResponseHeader};
    use kafka_protocol::protocol::Decodable;

    /// Decodes a frame with the library and checks its length.
    fn read<T: Decodable>(frame: &Bytes, header_version: i16, version: i16) -> (i32, T) {
        let mut rest = frame.slice(4..);
        assert_eq!(frame[..4], (rest.len() as i32).to_be_bytes());
        let header = ResponseHeader::decode(&mut rest, header_version).unwrap();
        let body = T::decode(&mut rest, version).unwrap();
        assert!(rest.is_empty());
        (header.correlation_id, body)
    }

    #[test]
    fn the_header_is_flexible_where_the_version_is() {
        let response = HeartbeatResponse::default().with_error_code(27);
        for (version, header_version) in [(0, 0), (3, 0), (4, 1)] {
            let frame = encode(version, -7, &response).unwrap();
            assert_eq!(read(&frame, header_version, version), (-7, response.clone()));
        }
    }

    #[test]
    fn the_header_of_api_versions_is_never_flexible() {
        let response = ApiVersionsResponse::default().with_error_code(35);
        for version in 0..=4 {
            assert_eq!(read(&encode(version, 5, &response).unwrap(), 0, version), (5, response.clone()));
        }
    }

    #[test]
    fn what_a_version_cannot_say_is_an_error() {
        assert!(encode(99, 1, &HeartbeatResponse::default()).is_err());
    }

    #[test]
    fn a_frame_takes_one_allocation() {
        let frame = encode(4, 1, &HeartbeatResponse::default()).unwrap();
        assert_eq!(frame.try_into_mut().unwrap().capacity(), 4 + 5 + 7);
    }
}
