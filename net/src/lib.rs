//! Kafka bytes: framing, the guard, codecs of the hot path. Knows nothing of partitions.
//!
//! Nothing here owns a socket. A shell reads bytes, asks [`frame`] where a request ends and what its header says,
//! then either uses the decoders of the hot path ([`produce`], [`fetch`]), which borrow from the frame, or
//! [`guard::decode`], which lets the `kafka-protocol` crate see a body only after the guard has walked it.
//! Answers are made by [`produce::ProduceResponseWriter`], [`fetch::FetchResponseWriter`] and [`response::encode`].
//! What brokers say to each other on the peer port has a format of its own: [`peer`].

pub mod fetch;
pub mod frame;
pub mod guard;
pub mod peer;
pub mod produce;
pub mod response;
mod wire;

pub use wire::{Cause, GuardError, NodeEndpoint, TopicRef};
