//! The real binary: each test starts its own broker over its own folder and talks to it with a raw client.
//!
//! | file | what it shows |
//! |---|---|
//! | `kill` | kill -9 under load: what was acknowledged is there |
//! | `order` | one connection's order over shards and acks |
//! | `startup` | what the broker refuses to start with, each in one line, and what it takes |

mod kill;
mod order;
mod startup;
