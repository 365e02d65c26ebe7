//! `ringlog group`: list, describe, reset, delete.

mod reset;
mod show;

use clap::{Args, Subcommand};
use kafka_protocol::messages::{DeleteGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;
use serde_json::json;

use super::client::{caps, check};
use super::failure::Failure;
use super::output::{print_json, print_line};
use super::{ConnectArgs, units};

/// Options of `ringlog group`.
#[derive(Args, Debug)]
pub struct GroupArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: GroupCommand,
}

#[derive(Subcommand, Debug)]
enum GroupCommand {
    /// List consumer groups
    List(ListArgs),
    /// Show members, offsets and lag of groups
    Describe(DescribeArgs),
    /// Set the offsets of a group that has no members
    Reset(ResetArgs),
    /// Delete groups that have no members, with their offsets
    Delete(DeleteArgs),
}

/// Options of `ringlog group list`.
#[derive(Args, Debug)]
struct ListArgs {
    /// Only groups in this state (Empty, Stable, PreparingRebalance, ...); repeatable
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
}

/// Options of `ringlog group describe`.
#[derive(Args, Debug)]
struct DescribeArgs {
    /// Groups to describe
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

/// Options of `ringlog group reset`.
#[derive(Args, Debug)]
struct ResetArgs {
    /// Group to reset
    #[arg(value_name = "GROUP")]
    group: String,
    /// Topic to reset; repeatable
    #[arg(long = "topic", value_name = "TOPIC", required_unless_present = "all_topics")]
    topics: Vec<String>,
    /// All topics that the group has offsets for
    #[arg(long, conflicts_with = "topics")]
    all_topics: bool,
    /// Only this partition; repeatable
    #[arg(long = "partition", value_name = "N")]
    partitions: Vec<i32>,
    /// New position: earliest, latest, an offset, -N (N before the end), @MILLISECONDS,
    /// @2026-01-31T12:00:00Z or @-1h
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = units::position)]
    to: units::Position,
    /// Only show what would change
    #[arg(long)]
    dry_run: bool,
}

/// Options of `ringlog group delete`.
#[derive(Args, Debug)]
struct DeleteArgs {
    /// Groups to delete
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
}

/// Runs one of the subcommands.
pub fn run(args: GroupArgs) -> Result<(), Failure> {
    let connect = &args.connect;
    match args.command {
        GroupCommand::List(args) => show::list(connect, &args),
        GroupCommand::Describe(args) => show::describe(connect, &args),
        GroupCommand::Reset(args) => reset::run(connect, &args),
        GroupCommand::Delete(args) => delete(connect, &args),
    }
}

fn delete(connect: &ConnectArgs, args: &DeleteArgs) -> Result<(), Failure> {
    let mut client = connect.client()?;
    for group in &args.groups {
        let names = vec![GroupId(StrBytes::from_string(group.clone()))];
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        client.retry(|client| {
            for result in client.call_coordinator(group, &request, caps::ANY)?.results {
                check(result.error_code, || format!("group `{group}`"), None)?;
            }
            Ok(())
        })?;
        if !connect.json {
            print_line(&format!("deleted {group}"))?;
        }
    }
    if connect.json { print_json(&json!({ "deleted": args.groups })) } else { Ok(()) }
}
