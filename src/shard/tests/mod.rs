//! Tests of whole shards: a broker in the test's own process, real sockets and files, and what is done off the
//! shards paused, reordered or held still.
//!
//! | file | what it shows |
//! |---|---|
//! | `lab` | the broker, and how a test looks into it |
//! | `order`, `peer` | requests take effect in the order sent, whatever overtakes what; rules undone are found |
//! | `turns` | requests that wait for their turn find what those before them left |
//! | `budgets` | each class of memory filled, and progress |
//! | `lifetimes` | what a connection holds goes back when it is done or closed |
//! | `proposals` | proposals that come while an image is published |
//! | `deletion` | topics that go while their segments are at work, and are made again |

mod budgets;
mod deletion;
pub mod lab;
mod lifetimes;
mod order;
mod peer;
mod proposals;
mod turns;
