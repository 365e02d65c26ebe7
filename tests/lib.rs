//! Helpers shared by the tests across crates: a broker of one's own, a raw client, small tools.

#[path = "lib/broker.rs"]
pub mod broker;
#[path = "lib/client.rs"]
pub mod client;
#[path = "lib/confine.rs"]
pub mod confine;
#[path = "lib/requests.rs"]
pub mod requests;
#[path = "lib/rng.rs"]
pub mod rng;
