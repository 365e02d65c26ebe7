//! Tests of the coordinator as a whole: what it answers in each state, what it writes, and a simulation.

mod sim;
