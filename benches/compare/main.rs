//! Ringlog and Kafka, one after the other, on the same machine with the same generator (`ringlog bench`):
//! medians, spread and ratios as a Markdown table and as JSON.
//!
//! ```sh
//! cargo bench --bench compare                      # five rounds of Ringlog and un-synced Kafka
//! cargo bench --bench compare -- --peers ringlog,kafka,kafka-synced --rounds 3 --only produce-64k
//! cargo bench --bench compare -- --quick           # small, Ringlog alone, says only that everything runs
//! ```
//!
//! In every round each peer starts over fresh data, is left idle, warmed and then measured row by row. Peers
//! take turns within a round, so that a slow hour of the machine meets all of them.

mod peers;
mod rows;
mod table;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use peers::{Peer, PeerKind};
use rows::Scale;
use table::Results;

/// What a step of the harness may fail with; the text says at which.
type Outcome<T> = Result<T, Box<dyn Error>>;

#[derive(Parser, Debug)]
#[command(name = "compare", about = "Ringlog and Kafka in turn, with the same generator")]
struct Args {
    /// Rounds; every peer is started and measured once in each
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Who takes part, in this order
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "ringlog,kafka")]
    peers: Vec<PeerKind>,
    /// Only rows whose name contains this text; repeatable
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Measured seconds of each row
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Small form: one round of Ringlog alone, one second a row, no figure to be believed
    #[arg(long)]
    quick: bool,
    /// The script that runs Kafka
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/peers/kafka/kafka"))]
    kafka: PathBuf,
    /// Folder of data and results; data are deleted after each peer's turn
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/compare"))]
    out: PathBuf,
    /// Port to listen on; Kafka's quorum takes the one 100 above. Below the range that outgoing connections use
    #[arg(long, value_name = "PORT", default_value_t = 28092)]
    port: u16,
    /// Given by `cargo bench`. Without it (`cargo test --benches`) the small form runs
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    let (rounds, peers, scale) = if args.quick || !args.bench {
        (1, vec![PeerKind::Ringlog], Scale::quick())
    } else {
        (args.rounds, args.peers.clone(), Scale::full(args.seconds))
    };
    fs::create_dir_all(&args.out)?;
    let mut results = Results::default();
    for round in 1..=rounds {
        for kind in &peers {
            eprintln!("round {round} of {rounds}: {}", kind.name());
            let mut peer = Peer::start(*kind, args)?;
            turn(&mut peer, args, &scale, &mut results)?;
            peer.stop()?;
        }
        // After every round, so that an interrupted night is not lost.
        fs::write(args.out.join("compare.json"), format!("{:#}\n", results.document()))?;
        fs::write(args.out.join("compare.md"), results.markdown(&peers))?;
    }
    print!("{}", results.markdown(&peers));
    eprintln!("written to {}/compare.md and compare.json", args.out.display());
    Ok(())
}

/// One peer's turn: idle, warm, row by row.
fn turn(peer: &mut Peer, args: &Args, scale: &Scale, results: &mut Results) -> Outcome<()> {
    let wanted =
        |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text.as_str()));
    if wanted("idle") {
        for (metric, value) in peer.at_rest(scale.idle_s)? {
            results.add(peer.kind, "idle", metric, value);
        }
    }
    rows::warm(peer, scale)?;
    for row in rows::rows(scale) {
        if wanted(row.name) {
            eprintln!("  {}", row.name);
            for (metric, value) in row.run(peer)? {
                results.add(peer.kind, row.name, metric, value);
            }
        }
    }
    Ok(())
}
