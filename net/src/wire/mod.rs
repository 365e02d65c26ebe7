//! The primitive types of the Kafka protocol over borrowed bytes: what the guard and the hot path's codecs share.

mod reader;
mod writer;

pub(crate) use reader::{At, Reader};
pub(crate) use writer::{array_len, begin_frame, end_frame, node_endpoints, nullable_string, string, tag};

use std::fmt;
use uuid::Uuid;

/// How a request names a topic: by name in the older versions, by id in the newer ones (KIP-516).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicRef<'a> {
    /// The topic's name: Produce up to version 12, Fetch up to version 12.
    Name(&'a str),
    /// The topic's id: Produce from version 13, Fetch from version 13.
    Id(Uuid),
}

/// Where clients reach a broker that a response named as a new leader (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    /// The broker's id.
    pub node_id: i32,
    /// The host name or address that it advertises.
    pub host: &'a str,
    /// The port that it advertises.
    pub port: i32,
    /// The rack it stands in, where one is configured.
    pub rack: Option<&'a str>,
}

/// Why a request was refused before anything was allocated for it: which field, and what is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardError {
    /// The field as Kafka's schema names it, in snake case.
    pub field: &'static str,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The message ends before the field does, or announces more elements than bytes are left.
    Truncated,
    /// A length below -1.
    NegativeLength,
    /// Null where the schema of this version allows none.
    Null,
    /// A variable-length integer that does not fit in 32 bits.
    VarintTooLong,
    /// A string longer than the 32,767 bytes that Kafka allows.
    StringTooLong,
    /// A string that is not UTF-8.
    NotUtf8,
    /// A byte that says whether a structure follows is neither 1 nor -1.
    BadPresence,
    /// More elements than Ringlog takes in this field.
    TooMany {
        /// How many the request announces.
        count: u32,
        /// How many are taken.
        max: u32,
    },
    /// A known tagged field whose announced size is not the size of its content.
    TagSize,
    /// A tagged field that this version does not have, though another one does.
    TagNotInVersion,
    /// The decoded message would take more memory than this API may use.
    TooMuchMemory,
    /// This API, or this version of it, is not served.
    NotServed,
    /// The library refused what the guard let pass: a fault of the guard's tables.
    Library,
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.cause)
    }
}

impl std::error::Error for GuardError {}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Truncated => f.write_str("longer than the message"),
            Cause::NegativeLength => f.write_str("negative length"),
            Cause::Null => f.write_str("null is not allowed"),
            Cause::VarintTooLong => f.write_str("variable-length integer does not fit in 32 bits"),
            Cause::StringTooLong => f.write_str("string longer than 32767 bytes"),
            Cause::NotUtf8 => f.write_str("string is not UTF-8"),
            Cause::BadPresence => f.write_str("presence byte is neither 1 nor -1"),
            Cause::TooMany { count, max } => write!(f, "{count} elements, at most {max} are taken"),
            Cause::TagSize => f.write_str("size of the tagged field is not that of its content"),
            Cause::TagNotInVersion => f.write_str("tagged field of another version"),
            Cause::TooMuchMemory => f.write_str("decoding would take too much memory"),
            Cause::NotServed => f.write_str("not served"),
            Cause::Library => f.write_str("refused by the decoder"),
        }
    }
}
