//! The command line. One file or folder per subcommand; cli.md's promises to scripts are kept here.

mod bench;
mod check;
mod client;
mod completions;
mod consume;
mod doctor;
mod dump;
mod failure;
mod group;
#[cfg(test)]
mod options_doc;
mod output;
mod produce;
mod record_json;
mod start;
pub mod start_args;
mod stop;
mod topic;
pub mod units;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use client::Client;
use failure::Failure;
use start_args::StartArgs;

/// A durable message broker that speaks the Apache Kafka protocol, and its tools.
#[derive(Parser, Debug)]
#[command(name = "ringlog", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a broker
    Start(StartArgs),
    /// Create, list, describe, delete, change or trim topics
    Topic(topic::TopicArgs),
    /// Write records from standard input
    Produce(produce::ProduceArgs),
    /// Read records to standard output
    Consume(consume::ConsumeArgs),
    /// List, describe, reset or delete consumer groups
    Group(group::GroupArgs),
    /// Measure a broker under load
    Bench(bench::BenchArgs),
    /// Check, and repair, a stopped broker's data
    Check(check::CheckArgs),
    /// Show what is in a file of a data folder
    Dump(dump::DumpArgs),
    /// Check whether this host suits a broker
    Doctor(doctor::DoctorArgs),
    /// Print a shell's completion script
    Completions(completions::CompletionsArgs),
}

/// What every client of a cluster takes.
#[derive(Args, Debug, Clone)]
struct ConnectArgs {
    /// Brokers to start from
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT,...",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        value_parser = units::address
    )]
    bootstrap: Vec<String>,
    /// Print JSON on standard output and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// How long one operation may take, retries included
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = units::duration_ms)]
    timeout: u64,
}

impl ConnectArgs {
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.bootstrap, self.timeout)?)
    }
}

/// Runs the command line of this process and returns its exit status: 0 done, 1 failed, 2 wrong usage.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to stdout with status 0, wrong usage to stderr with status 2. A closed
            // pipe is no reason for noise.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Command::Start(args) => start::run(args),
        Command::Topic(args) => topic::run(args),
        Command::Produce(args) => produce::run(&args),
        Command::Consume(args) => consume::run(&args),
        Command::Group(args) => group::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => check::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::StdoutClosed) {
                eprintln!("ringlog: {failure}");
            }
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn start_takes_everything_that_cli_md_names() {
        let line = "ringlog start --data-dir d --listen 127.0.0.1:0 --advertise h:1 --http off --node-id 7 \
            --peer-listen h:2 --voters 1@h:3,2@h:4 --join h:5,h:6 --rack r --shards 2 --cores 0-1 \
            --control-core 1 --config f.toml --set a.b=c --set d= --log debug --log-format json";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Start(args) = cli.command else { panic!("start") };
        assert_eq!((args.voters.len(), args.join.len(), args.settings.len()), (2, 2, 2));
        assert_eq!((args.http.as_str(), args.node_id, args.shards), ("off", 7, Some(2)));
    }

    #[test]
    fn the_defaults_of_start_are_those_of_cli_md() {
        let cli = Cli::try_parse_from(["ringlog", "start"]).unwrap();
        let Command::Start(args) = cli.command else { panic!("start") };
        assert_eq!(args.data_dir.to_str(), Some("./ringlog-data"));
        assert_eq!((args.listen.as_str(), args.http.as_str()), ("127.0.0.1:9092", "127.0.0.1:9640"));
        assert_eq!((args.node_id, args.log.as_str()), (1, "info"));
        assert!(args.voters.is_empty() && args.peer_listen.is_none());
    }

    #[test]
    fn common_options_stand_before_or_behind_the_subcommand() {
        for line in
            ["ringlog topic --json --bootstrap h:1,g:2 list", "ringlog topic list --bootstrap h:1,g:2 --json"]
        {
            let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
            let Command::Topic(args) = cli.command else { panic!("topic") };
            assert!(args.connect.json);
            assert_eq!(args.connect.bootstrap, ["h:1", "g:2"]);
        }
    }
}
