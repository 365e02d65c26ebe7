//! Tests of the coordinator as a whole: what it answers in each state, what it writes, how it fails, and a
//! simulation.

mod admin;
mod failures;
mod joining;
mod lab;
mod offsets;
mod sessions;
mod sim;
mod statics;
