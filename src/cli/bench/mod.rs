//! x
use clap::Args;
/// x
#[derive(Args, Debug)]
pub struct BenchArgs {}
/// x
pub fn run(_: BenchArgs) -> Result<(), super::failure::Failure> {
    Ok(())
}
