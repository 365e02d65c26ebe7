//! `ringlog group reset`: new offsets for a group that has no members.

use serde_json::{Value, json};

use super::ResetArgs;
use super::show::describe_one;
use crate::cli::ConnectArgs;
use crate::cli::client::offsets::{Committer, Offsets};
use crate::cli::client::{Client, TopicPartition};
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print_json};
use crate::cli::topic::partitions_of;
use crate::cli::units::Position;
use crate::machine::error::ErrorCode;

/// `group reset`.
pub fn run(connect: &ConnectArgs, args: &ResetArgs) -> Result<(), Failure> {
    let mut client = connect.client()?;
    refuse_members(&mut client, &args.group)?;
    let before = client.committed(&args.group)?;
    let partitions = partitions_to_reset(&mut client, args, &before)?;
    if partitions.is_empty() {
        return Err(Failure::failed(format!(
            "group `{}` has no offsets; name topics with --topic",
            args.group
        )));
    }
    let mut after = client.resolve(&partitions, args.to)?;
    if let Position::Offset(_) = args.to {
        clamp(&mut client, &partitions, &mut after)?;
    }
    if !args.dry_run {
        client.commit(&args.group, &Committer::tool(), &after)?;
    }
    report(connect, args, &before, &after)
}

/// Offsets committed under running members would be overwritten by them at once; the broker refuses it too,
/// but with a code that does not say so. A group that does not exist yet may be given offsets.
fn refuse_members(client: &mut Client, group: &str) -> Result<(), Failure> {
    match client.retry(|client| describe_one(client, group)) {
        Ok(found) if !found.members.is_empty() => Err(Failure::failed(format!(
            "group `{group}` has {} running members; stop them first",
            found.members.len()
        ))),
        Err(error) if error.code() != Some(ErrorCode::GROUP_ID_NOT_FOUND) => Err(error.into()),
        _ => Ok(()),
    }
}

fn partitions_to_reset(
    client: &mut Client,
    args: &ResetArgs,
    committed: &Offsets,
) -> Result<Vec<TopicPartition>, Failure> {
    if args.all_topics {
        let all = committed.keys().cloned();
        return Ok(all
            .filter(|at| args.partitions.is_empty() || args.partitions.contains(&at.partition))
            .collect());
    }
    let mut partitions = Vec::new();
    for topic in &args.topics {
        partitions.extend(partitions_of(client, topic, &args.partitions)?);
    }
    Ok(partitions)
}

/// A fixed offset is moved to where the log begins or ends, as Kafka's own tool does.
fn clamp(client: &mut Client, partitions: &[TopicPartition], offsets: &mut Offsets) -> Result<(), Failure> {
    let (first, last) = (client.earliest(partitions)?, client.latest(partitions)?);
    for (at, offset) in offsets {
        let inside = (*offset).clamp(first[at], last[at]);
        if inside != *offset {
            eprintln!("{at}: offset {offset} is outside the log, taking {inside}");
            *offset = inside;
        }
    }
    Ok(())
}

fn report(connect: &ConnectArgs, args: &ResetArgs, before: &Offsets, after: &Offsets) -> Result<(), Failure> {
    if connect.json {
        let list: Vec<Value> = after
            .iter()
            .map(|(at, offset)| {
                json!({
                    "topic": at.topic,
                    "partition": at.partition,
                    "before": before.get(at),
                    "after": offset,
                })
            })
            .collect();
        return print_json(&json!({ "group": args.group, "dry_run": args.dry_run, "partitions": list }));
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "BEFORE", "AFTER"]);
    for (at, offset) in after {
        let old = before.get(at).map_or("-".to_owned(), i64::to_string);
        table.row(vec![at.topic.clone(), at.partition.to_string(), old, offset.to_string()]);
    }
    table.print()?;
    if args.dry_run {
        eprintln!("nothing was changed (--dry-run)");
    }
    Ok(())
}
