//! The guard: no body reaches `kafka-protocol` before its lengths and counts are known to be honest.
//!
//! The library reserves arrays by the count that a request announces, before it reads them: twenty bytes from anyone
//! could ask for gigabytes. So every API has a *skeleton*, a constant table of which fields follow each other in
//! which versions, and [`check`] walks the raw bytes along it without allocating. It refuses what is
//! longer than the message, what is null and must not be, strings that are not UTF-8, arrays over their own limits,
//! and messages whose decoded form would take more memory than the API may use: an element costs far more memory
//! than bytes.
//!
//! Bytes behind the message are ignored, as Kafka ignores them.

mod schema;
mod table;
mod walk;

use crate::wire::{Cause, GuardError};
use bytes::Bytes;
use kafka_protocol::protocol::Request;
use schema::Api;

/// The API key of Produce.
pub const PRODUCE: i16 = 0;
/// The API key of Fetch.
pub const FETCH: i16 = 1;
/// The API key of ApiVersions.
pub const API_VERSIONS: i16 = 18;

/// Which versions of an API the guard has a skeleton for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The API key.
    pub key: i16,
    /// The API's name in Kafka's documentation.
    pub name: &'static str,
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
    /// The most memory that a decoded request may take, in bytes, the received frame not counted.
    pub heap_bytes_max: usize,
}

/// Every API that the guard has a skeleton for, by ascending key.
pub fn served() -> impl Iterator<Item = Served> {
    table::APIS.iter().map(|api| Served {
        key: api.key,
        name: api.name,
        min: api.min,
        max: api.max,
        heap_bytes_max: api.heap_bytes_max as usize,
    })
}

/// Whether the guard has a skeleton for this version of this API.
pub fn serves(api_key: i16, api_version: i16) -> bool {
    find(api_key).is_some_and(|api| (api.min..=api.max).contains(&api_version))
}

/// Whether requests of this API and version are in the flexible format (KIP-482), header included. Also says so for
/// versions above those that are served; an API without a skeleton counts as not flexible.
pub fn is_flexible(api_key: i16, api_version: i16) -> bool {
    find(api_key).is_some_and(|api| api_version >= api.flexible_since)
}

/// Walks the body of a request and gives an upper bound of the heap memory, in bytes, that decoding it with
/// `kafka-protocol` takes beyond the frame itself, whose bytes the decoded strings share.
///
/// # Errors
/// [`GuardError`] says which field is wrong. Kafka closes the connection on such a request.
pub fn check(api_key: i16, api_version: i16, body: &[u8]) -> Result<usize, GuardError> {
    let not_served = |field| GuardError { field, cause: Cause::NotServed };
    let api = find(api_key).ok_or(not_served("request_api_key"))?;
    if !(api.min..=api.max).contains(&api_version) {
        return Err(not_served("request_api_version"));
    }
    walk::walk(api, api_version, body)
}

/// Decodes the body of a request with `kafka-protocol`, once the guard let it pass.
///
/// # Errors
/// As [`check`].
pub fn decode<T: Request>(api_version: i16, mut body: Bytes) -> Result<T, GuardError> {
    check(T::KEY, api_version, &body)?;
    T::decode(&mut body, api_version).map_err(|_| GuardError { field: "body", cause: Cause::Library })
}

/// The skeleton of an API.
fn find(api_key: i16) -> Option<&'static Api> {
    let at = table::APIS.binary_search_by_key(&api_key, |api| api.key).ok()?;
    Some(&table::APIS[at])
}
