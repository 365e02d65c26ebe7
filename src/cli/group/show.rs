//! `ringlog group list` and `describe`.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::{DescribeGroupsRequest, GroupId, ListGroupsRequest};
use kafka_protocol::protocol::StrBytes;
use serde_json::{Value, json};

use super::{DescribeArgs, ListArgs};
use crate::cli::ConnectArgs;
use crate::cli::client::error::{ClientError, Result};
use crate::cli::client::membership::decode_assignment;
use crate::cli::client::offsets::Offsets;
use crate::cli::client::{Client, TopicPartition, caps, check};
use crate::cli::failure::Failure;
use crate::cli::output::{Table, print_json, print_line};
use crate::machine::error::ErrorCode;

/// DescribeGroups' state of a group that does not exist.
const DEAD: &str = "Dead";

/// `group list`.
pub fn list(connect: &ConnectArgs, args: &ListArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let states = args.states.iter().map(|state| StrBytes::from_string(state.clone())).collect();
    let request = ListGroupsRequest::default().with_states_filter(states);
    let mut groups = BTreeMap::new();
    client.retry(|client| {
        for response in client.call_all(&request, caps::ANY)? {
            check(response.error_code, || "list of groups".to_owned(), None)?;
            for group in response.groups {
                groups.insert(group.group_id.to_string(), group);
            }
        }
        Ok(())
    })?;
    if connect.json {
        let list: Vec<Value> = groups
            .iter()
            .map(|(name, group)| {
                json!({
                    "group": name,
                    "state": group.group_state.as_str(),
                    "type": group.group_type.as_str(),
                    "protocol_type": group.protocol_type.as_str(),
                })
            })
            .collect();
        return print_json(&json!({ "groups": list }));
    }
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL"]);
    for (name, group) in &groups {
        let cells =
            [&group.group_state, &group.group_type, &group.protocol_type].map(|cell| cell.to_string());
        table.row([name.clone()].into_iter().chain(cells).collect());
    }
    table.print()
}

/// One partition that a group has an offset for or reads.
struct Line {
    at: TopicPartition,
    committed: Option<i64>,
    end: Option<i64>,
    /// Index into the members.
    member: Option<usize>,
}

impl Line {
    fn lag(&self) -> Option<i64> {
        self.end.zip(self.committed).map(|(end, committed)| (end - committed).max(0))
    }
}

/// `group describe`.
pub fn describe(connect: &ConnectArgs, args: &DescribeArgs) -> std::result::Result<(), Failure> {
    let mut client = connect.client()?;
    let mut documents = Vec::new();
    for (index, name) in args.groups.iter().enumerate() {
        let group = client.retry(|client| describe_one(client, name))?;
        let lines = lines_of(&mut client, name, &group)?;
        if connect.json {
            documents.push(document(name, &group, &lines));
        } else {
            if index > 0 {
                print_line("")?;
            }
            print_group(name, &group, &lines)?;
        }
    }
    if connect.json { print_json(&json!({ "groups": documents })) } else { Ok(()) }
}

/// The group as its coordinator sees it. One that is not there is an error.
pub fn describe_one(client: &mut Client, name: &str) -> Result<DescribedGroup> {
    let id = GroupId(StrBytes::from_string(name.to_owned()));
    let request = DescribeGroupsRequest::default().with_groups(vec![id]);
    let response = client.call_coordinator(name, &request, caps::ANY)?;
    let missing = || ClientError::kafka(ErrorCode::GROUP_ID_NOT_FOUND.0, format!("group `{name}`"));
    let group = response.groups.into_iter().next().ok_or_else(missing)?;
    check(group.error_code, || format!("group `{name}`"), group.error_message.as_ref())?;
    // Up to version 5 a group that does not exist is "Dead" and no error.
    if group.group_state.as_str() == DEAD { Err(missing()) } else { Ok(group) }
}

fn lines_of(client: &mut Client, name: &str, group: &DescribedGroup) -> Result<Vec<Line>> {
    let committed = client.committed(name)?;
    let mut readers: BTreeMap<TopicPartition, Option<usize>> =
        committed.keys().map(|at| (at.clone(), None)).collect();
    for (index, member) in group.members.iter().enumerate() {
        // Groups of other protocols (Connect, for one) have assignments of their own form.
        let assigned = decode_assignment(&member.member_assignment).unwrap_or_default();
        readers.extend(assigned.into_iter().map(|at| (at, Some(index))));
    }
    // Offsets may be left of topics that are gone: those have no end.
    let mut ends = Offsets::new();
    let mut topics: Vec<&str> = readers.keys().map(|at| at.topic.as_str()).collect();
    topics.dedup();
    for topic in topics {
        let list: Vec<TopicPartition> = readers.keys().filter(|at| at.topic == topic).cloned().collect();
        match client.latest(&list) {
            Ok(found) => ends.extend(found),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {}
            Err(error) => return Err(error),
        }
    }
    let lines = readers.into_iter().map(|(at, member)| Line {
        committed: committed.get(&at).copied(),
        end: ends.get(&at).copied(),
        member,
        at,
    });
    Ok(lines.collect())
}

fn document(name: &str, group: &DescribedGroup, lines: &[Line]) -> Value {
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            json!({
                "member_id": member.member_id.as_str(),
                "client_id": member.client_id.as_str(),
                "host": member.client_host.as_str(),
            })
        })
        .collect();
    let partitions: Vec<Value> = lines
        .iter()
        .map(|line| {
            json!({
                "topic": line.at.topic,
                "partition": line.at.partition,
                "committed_offset": line.committed,
                "end_offset": line.end,
                "lag": line.lag(),
                "member_id": line.member.map(|index| group.members[index].member_id.as_str()),
            })
        })
        .collect();
    json!({
        "group": name,
        "state": group.group_state.as_str(),
        "protocol": group.protocol_data.as_str(),
        "members": members,
        "partitions": partitions,
        "lag": lines.iter().filter_map(Line::lag).sum::<i64>(),
    })
}

fn print_group(name: &str, group: &DescribedGroup, lines: &[Line]) -> std::result::Result<(), Failure> {
    let lag: i64 = lines.iter().filter_map(Line::lag).sum();
    let protocol = match group.protocol_data.as_str() {
        "" => String::new(),
        protocol => format!("  assignor {protocol}"),
    };
    print_line(&format!(
        "group {name}  {}{protocol}  {} members  lag {lag}",
        group.group_state.as_str(),
        group.members.len()
    ))?;
    if lines.is_empty() {
        return Ok(());
    }
    let shown = |offset: Option<i64>| offset.map_or("-".to_owned(), |offset| offset.to_string());
    let mut table = Table::new(&["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"]);
    for line in lines {
        let member = line.member.map(|index| &group.members[index]);
        table.row(vec![
            line.at.topic.clone(),
            line.at.partition.to_string(),
            shown(line.committed),
            shown(line.end),
            shown(line.lag()),
            member.map_or("-".to_owned(), |member| member.member_id.to_string()),
            member.map_or("-".to_owned(), |member| member.client_host.to_string()),
        ]);
    }
    table.print()
}
