//! `ringlog start`: run a broker.

use super::failure::Failure;
use super::start_args::StartArgs;

/// Runs a broker until it is told to stop.
pub fn run(args: StartArgs) -> Result<(), Failure> {
    Err(Failure::failed(format!("this build has no broker to listen at {}", args.listen)))
}
