//! The real binary: each test starts its own broker over its own folder and talks to it with a raw client.
//!
//! | file | what it shows |
//! |---|---|
//! | `disk_full` | produce is refused, the rest goes on, room brings it back |
//! | `fetch` | waiting, limits, sessions, times, cold reads |
//! | `frames` | bad input: a clear answer, or one line and a closed connection |
//! | `frozen` | a disk that takes nothing for a while: timeouts, what `async` may answer |
//! | `health` | what the broker says of itself and of its disk |
//! | `kill` | kill -9 under load: what was acknowledged is there |
//! | `limits` | connections, idle time, request size, memory budgets |
//! | `order` | one connection's order over shards and acks |
//! | `settings` | settings that change while the broker runs |
//! | `startup` | what the broker refuses to start with, each in one line, and what it takes |
//! | `wal_room` | files of the log that are not needed are given back |
#![allow(clippy::unwrap_used)] // a test that cannot go on fails

mod disk_full;
mod fetch;
mod frames;
mod frozen;
mod health;
mod kill;
mod limits;
mod order;
mod settings;
mod startup;
mod wal_room;
