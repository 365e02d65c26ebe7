//! `ringlog topic`: create, list, describe, delete, alter, trim.

mod change;
mod show;

use clap::{Args, Subcommand};

pub(super) use change::partitions_of;

use super::failure::Failure;
use super::{ConnectArgs, units};

/// Options of `ringlog topic`.
#[derive(Args, Debug)]
pub struct TopicArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Subcommand, Debug)]
enum TopicCommand {
    /// Create topics
    Create(CreateArgs),
    /// List topics
    List(ListArgs),
    /// Show partitions, offsets and settings of topics
    Describe(DescribeArgs),
    /// Delete topics and all their data
    Delete(DeleteArgs),
    /// Add partitions or change settings
    Alter(AlterArgs),
    /// Delete the oldest records of partitions
    Trim(TrimArgs),
}

/// Options of `ringlog topic create`.
#[derive(Args, Debug)]
struct CreateArgs {
    /// Topics to create
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Number of partitions [default: the broker's num.partitions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Number of replicas of each partition [default: the broker's default.replication.factor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// Setting of the topics, under Kafka's name; repeatable
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = units::name_value)]
    configs: Vec<(String, String)>,
    /// A topic that exists is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it would be possible
    #[arg(long)]
    validate_only: bool,
}

/// Options of `ringlog topic list`.
#[derive(Args, Debug)]
struct ListArgs {
    /// Also those in which brokers keep their own state
    #[arg(long)]
    internal: bool,
}

/// Options of `ringlog topic describe`.
#[derive(Args, Debug)]
struct DescribeArgs {
    /// Topics to describe
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// All settings, defaults too
    #[arg(long)]
    all_configs: bool,
}

/// Options of `ringlog topic delete`.
#[derive(Args, Debug)]
struct DeleteArgs {
    /// Topics to delete
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// A topic that does not exist is no error
    #[arg(long)]
    if_exists: bool,
}

/// Options of `ringlog topic alter`.
#[derive(Args, Debug)]
struct AlterArgs {
    /// Topics to change
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// New number of partitions; it can only grow
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Setting to change, under Kafka's name; repeatable
    #[arg(long = "config", value_name = "NAME=VALUE", value_parser = units::name_value)]
    configs: Vec<(String, String)>,
    /// Setting to give its default again; repeatable
    #[arg(long = "delete-config", value_name = "NAME")]
    delete_configs: Vec<String>,
}

/// Options of `ringlog topic trim`.
#[derive(Args, Debug)]
struct TrimArgs {
    /// Topic to trim
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Partition to trim; repeatable [default: all]
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// Position before which all records go: `end` empties the partition, an offset, -N keeps the last N,
    /// @MILLISECONDS, @2026-01-31T12:00:00Z or @-1h keep what is newer
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = units::position)]
    before: units::Position,
}

/// Runs one of the subcommands.
pub fn run(args: TopicArgs) -> Result<(), Failure> {
    let connect = &args.connect;
    match args.command {
        TopicCommand::Create(args) => change::create(connect, &args),
        TopicCommand::List(args) => show::list(connect, &args),
        TopicCommand::Describe(args) => show::describe(connect, &args),
        TopicCommand::Delete(args) => change::delete(connect, &args),
        TopicCommand::Alter(args) => change::alter(connect, &args),
        TopicCommand::Trim(args) => change::trim(connect, &args),
    }
}
