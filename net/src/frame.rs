//! Where a request ends and what its header says: the first look at bytes from a stranger.
//!
//! ```text
//!   0        4         6             8                12             n
//!   +--------+---------+-------------+----------------+--------------+------...
//!   | length | api key | api version | correlation id | client id    | body
//!   +--------+---------+-------------+----------------+--------------+------...
//!              `- header version 1; version 2 adds tagged fields behind the client id
//! ```

use crate::guard;
use crate::wire::{At, Cause, GuardError, Reader};
use std::fmt;

/// Bytes of the length in front of every frame, which the length does not count.
pub const LENGTH_BYTES: usize = 4;

/// The shortest header: API key, API version and correlation id.
const HEADER_BYTES_MIN: usize = 8;

/// Bytes that must be there before the limit for a frame is known: length and API key.
const LIMIT_KNOWN_AT: usize = LENGTH_BYTES + 2;

/// The most tagged fields a request header may carry. Kafka defines none.
const HEADER_TAGS_MAX: u32 = 64;

/// How long a frame may be, in bytes, its length prefix not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// The limit for Produce: `socket.request.max.bytes`.
    pub produce_bytes_max: usize,
    /// The limit for every other API, far below it.
    pub other_bytes_max: usize,
}

/// What the bytes at hand say about the frame that they start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// Look again when this many bytes are there, those already at hand included. Once the length of the frame is
    /// known this is exactly its end, so it is also the size of the buffer that the whole frame takes.
    Need(usize),
    /// The frame is whole: `len` bytes, its length prefix included.
    Frame {
        /// Bytes of the frame, its length prefix included.
        len: usize,
    },
}

/// Why a connection must be closed: where the next frame starts is not known any more, or never to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length is negative.
    Negative {
        /// The length as it was sent.
        len: i32,
    },
    /// The length leaves no room for a request header.
    TooShort {
        /// The length as it was sent.
        len: usize,
    },
    /// The length is over the limit of this API.
    TooLong {
        /// The API key of the request.
        api_key: i16,
        /// The length as it was sent.
        len: usize,
        /// The limit that it is over.
        max: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Negative { len } => write!(f, "frame of negative length {len}"),
            FrameError::TooShort { len } => write!(f, "frame of {len} bytes has no room for a header"),
            FrameError::TooLong { api_key, len, max } => {
                write!(f, "frame of {len} bytes for API key {api_key}, at most {max} are taken")
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// Says whether `unread`, which starts with a frame, holds it whole.
///
/// The limit depends on the API, which follows the length: it is applied as soon as both are there, before anyone
/// makes room for the rest.
///
/// # Errors
/// [`FrameError`] when the length cannot be right or is over the limit; the connection is to be closed, as Kafka does.
pub fn scan(unread: &[u8], limits: &FrameLimits) -> Result<Scan, FrameError> {
    let Some((length, rest)) = unread.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Scan::Need(LIMIT_KNOWN_AT));
    };
    let announced = i32::from_be_bytes(*length);
    let len = usize::try_from(announced).map_err(|_| FrameError::Negative { len: announced })?;
    if len < HEADER_BYTES_MIN {
        return Err(FrameError::TooShort { len });
    }
    let Some((api_key, _)) = rest.split_first_chunk::<2>() else {
        return Ok(Scan::Need(LIMIT_KNOWN_AT));
    };
    let api_key = i16::from_be_bytes(*api_key);
    let max = if api_key == guard::PRODUCE { limits.produce_bytes_max } else { limits.other_bytes_max };
    if len > max {
        return Err(FrameError::TooLong { api_key, len, max });
    }
    let total = LENGTH_BYTES + len;
    Ok(if unread.len() < total { Scan::Need(total) } else { Scan::Frame { len: total } })
}

/// A request header (versions 1 and 2), borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Which API is asked for.
    pub api_key: i16,
    /// In which version.
    pub api_version: i16,
    /// What the response carries so that the client knows what it answers.
    pub correlation_id: i32,
    /// What the client calls itself. Bytes that are not UTF-8 end it: it is for people, and Kafka takes them too.
    pub client_id: Option<&'a str>,
    /// Where the body starts in the bytes that were parsed.
    pub body_at: usize,
}

impl<'a> RequestHead<'a> {
    /// Reads the header of `request`: a whole frame without its length prefix.
    ///
    /// An ApiVersions request of a version that is not served gives a header whatever follows the correlation id,
    /// for it is answered (`UNSUPPORTED_VERSION` in version 0), not refused; its body is empty then. Other APIs or
    /// versions that are not served give a header too, so that the refusal can name them; Kafka closes the
    /// connection.
    ///
    /// # Errors
    /// [`GuardError`] when the header is longer than the frame or makes no sense.
    pub fn parse(request: &'a [u8]) -> Result<Self, GuardError> {
        let mut reader = Reader::new(request);
        let api_key = reader.i16().at("request_api_key")?;
        let api_version = reader.i16().at("request_api_version")?;
        let correlation_id = reader.i32().at("correlation_id")?;
        let head = Self { api_key, api_version, correlation_id, client_id: None, body_at: request.len() };
        if api_key == guard::API_VERSIONS && !guard::serves(api_key, api_version) {
            let client_id = read_client_id(&mut reader).unwrap_or(None);
            return Ok(Self { client_id, ..head });
        }
        let client_id = read_client_id(&mut reader).at("client_id")?;
        if guard::is_flexible(api_key, api_version) {
            let count = reader.tagged_fields(|_, _| Ok(false))?;
            if count > HEADER_TAGS_MAX {
                let cause = Cause::TooMany { count, max: HEADER_TAGS_MAX };
                return Err(GuardError { field: "tagged_fields", cause });
            }
        }
        Ok(Self { client_id, body_at: request.len() - reader.rest().len(), ..head })
    }
}

/// The client id: never compact, not even in header version 2.
fn read_client_id<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Cause> {
    let len = match reader.i16()? {
        -1 => return Ok(None),
        len => usize::try_from(len).map_err(|_| Cause::NegativeLength)?,
    };
    let bytes = reader.take(len)?;
    Ok(bytes.utf8_chunks().next().map(|chunk| chunk.valid()).or(Some("")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ApiKey, RequestHeader};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    const LIMITS: FrameLimits = FrameLimits { produce_bytes_max: 1000, other_bytes_max: 100 };

    fn frame(api_key: i16, len: i32, have: usize) -> Vec<u8> {
        let mut bytes = len.to_be_bytes().to_vec();
        bytes.extend(api_key.to_be_bytes());
        bytes.resize(have.max(6), 0);
        bytes.truncate(have);
        bytes
    }

    #[test]
    fn asks_for_the_api_key_and_then_for_the_whole_frame() {
        for have in 0..6 {
            assert_eq!(scan(&frame(3, 20, have), &LIMITS), Ok(Scan::Need(6)), "{have}");
        }
        for have in 6..24 {
            assert_eq!(scan(&frame(3, 20, have), &LIMITS), Ok(Scan::Need(24)), "{have}");
        }
        assert_eq!(scan(&frame(3, 20, 24), &LIMITS), Ok(Scan::Frame { len: 24 }));
        assert_eq!(scan(&frame(3, 20, 90), &LIMITS), Ok(Scan::Frame { len: 24 }));
    }

    #[test]
    fn refuses_impossible_lengths_with_four_bytes() {
        assert_eq!(scan(&[0xff; 4], &LIMITS), Err(FrameError::Negative { len: -1 }));
        assert_eq!(scan(&[0, 0, 0, 7], &LIMITS), Err(FrameError::TooShort { len: 7 }));
        assert_eq!(scan(&[0, 0, 0, 0], &LIMITS), Err(FrameError::TooShort { len: 0 }));
        assert_eq!(scan(&[0, 0, 0, 8], &LIMITS), Ok(Scan::Need(6)));
    }

    #[test]
    fn the_limit_is_that_of_the_api() {
        assert_eq!(scan(&frame(0, 1000, 6), &LIMITS), Ok(Scan::Need(1004)));
        let too_long = FrameError::TooLong { api_key: 0, len: 1001, max: 1000 };
        assert_eq!(scan(&frame(0, 1001, 6), &LIMITS), Err(too_long));
        assert_eq!(scan(&frame(1, 100, 6), &LIMITS), Ok(Scan::Need(104)));
        let too_long = FrameError::TooLong { api_key: 1, len: 101, max: 100 };
        assert_eq!(scan(&frame(1, 101, 6), &LIMITS), Err(too_long));
        // A key that nobody knows has the small limit, whatever sign it carries.
        assert!(matches!(scan(&frame(-1, i32::MAX, 6), &LIMITS), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn api_versions_of_an_unknown_version_still_has_a_header() {
        let bytes = [0, 18, 0, 99, 0, 0, 0, 42, 0x7f, 0xff];
        let head = RequestHead::parse(&bytes).unwrap();
        assert_eq!((head.correlation_id, head.client_id, head.body_at), (42, None, 10));
        let head = RequestHead::parse(&bytes[..8]).unwrap();
        assert_eq!((head.api_version, head.correlation_id, head.body_at), (99, 42, 8));
        // The same bytes for another API are refused.
        let bytes = [0, 3, 0, 99, 0, 0, 0, 42, 0x7f, 0xff];
        assert_eq!(RequestHead::parse(&bytes).unwrap_err().field, "client_id");
    }

    #[test]
    fn a_client_id_ends_where_it_stops_being_utf8() {
        let bytes = [0, 3, 0, 1, 0, 0, 0, 1, 0, 4, b'a', b'b', 0xff, b'c', 77];
        let head = RequestHead::parse(&bytes).unwrap();
        assert_eq!((head.client_id, head.body_at), (Some("ab"), 14));
        let bytes = [0, 3, 0, 1, 0, 0, 0, 1, 0, 0];
        assert_eq!(RequestHead::parse(&bytes).unwrap().client_id, Some(""));
    }

    #[test]
    fn a_header_has_a_bounded_number_of_tagged_fields() {
        let mut bytes = vec![0, 3, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 65];
        for tag in 0..65 {
            bytes.extend([tag, 0]);
        }
        let error = RequestHead::parse(&bytes).unwrap_err();
        assert_eq!(error.cause, Cause::TooMany { count: 65, max: 64 });
    }

    proptest! {
        #[test]
        fn headers_are_read_as_the_library_writes_them(
            key in prop::sample::select(guard::served().map(|api| (api.key, api.max)).collect::<Vec<_>>()),
            version in 0i16..20,
            correlation_id: i32,
            client_id in prop::option::of(".{0,20}"),
            tags in prop::collection::btree_map(0i32..1000, prop::collection::vec(any::<u8>(), 0..20), 0..4),
            body in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let (api_key, version) = (key.0, version.min(key.1));
            let header_version = ApiKey::try_from(api_key).unwrap().request_header_version(version);
            let tags = tags.into_iter().map(|(tag, value)| (tag, value.into())).collect();
            let mut bytes = Vec::new();
            RequestHeader::default()
                .with_request_api_key(api_key)
                .with_request_api_version(version)
                .with_correlation_id(correlation_id)
                .with_client_id(client_id.clone().map(StrBytes::from_string))
                .with_unknown_tagged_fields(tags)
                .encode(&mut bytes, header_version)
                .unwrap();
            let body_at = bytes.len();
            bytes.extend(body);
            let head = RequestHead::parse(&bytes).unwrap();
            let expected = RequestHead {
                api_key, api_version: version, correlation_id, client_id: client_id.as_deref(), body_at,
            };
            prop_assert_eq!(head, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(Scan::Frame { len }) = scan(&bytes, &LIMITS) {
                prop_assert!(len <= bytes.len());
            }
            if let Ok(head) = RequestHead::parse(&bytes) {
                prop_assert!(head.body_at <= bytes.len());
            }
        }
    }
}
