//! The checkers, one property each. They see what nodes do from outside and remember it for the whole run, across
//! crashes.

pub mod acknowledged;
pub mod election;
pub mod history;
pub mod logs;
pub mod promises;
