//! Pure state machines: inputs and a clock value in, outputs out. No sockets, files, timers, threads,
//! randomness or `async`; the simulator runs exactly this code.

pub mod error;
pub mod group;
