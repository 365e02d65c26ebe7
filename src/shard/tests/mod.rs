//! Tests of whole shards: a broker in the test's own process, real sockets and files, and what is done off the
//! shards paused, reordered or held still.
//!
//! | file | what it shows |
//! |---|---|
//! | `lab` | the broker, and how a test looks into it |
//! | `order`, `peer` | requests take effect in the order sent, whatever overtakes what; rules undone are found |
//! | `turns` | requests that wait for their turn find what those before them left |

pub mod lab;
mod order;
mod peer;
mod turns;
