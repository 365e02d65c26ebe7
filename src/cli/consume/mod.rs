//! `ringlog consume`: records to standard output, alone or as a member of a consumer group.

mod fetch;
mod format;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};

use clap::Args;

use super::ConnectArgs;
use super::client::membership::Member;
use super::client::offsets::Offsets;
use super::client::{Client, TopicPartition};
use super::failure::Failure;
use super::output::reader_is_gone;
use super::stop::Stop;
use super::topic::partitions_of;
use super::units::{self, Position};
use crate::clock::monotonic_ms;
use fetch::{FailingSince, Fetched};
use format::Format;

/// Options of `ringlog consume`.
#[derive(Args, Debug)]
pub struct ConsumeArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Topics to read
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only this partition; repeatable
    #[arg(long = "partition", value_name = "N", conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Where to start: beginning, end, an offset, -N (N before the end), @MILLISECONDS,
    /// @2026-01-31T12:00:00Z or @-1h. A group starts there only where it has committed nothing
    #[arg(long, value_name = "POSITION", default_value = "beginning", allow_hyphen_values = true,
        value_parser = units::position)]
    from: Position,
    /// Read as a member of this group and commit what was printed
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop at the end that each partition has at the start
    #[arg(long)]
    exit_at_end: bool,
    /// Print the key and this text before each value; \t and the like are understood
    #[arg(long, value_name = "TEXT", value_parser = units::separator, conflicts_with_all = ["format", "json"])]
    key_separator: Option<Separator>,
    /// Print each record so, as kcat: %s value, %k key, %h headers, %t topic, %p partition, %o offset,
    /// %T timestamp in ms, %S and %K size of value and key (-1 for null), \n and the like
    #[arg(long, value_name = "FORMAT", value_parser = format::parse, conflicts_with = "json")]
    format: Option<Format>,
}

/// Bytes of a separator. An alias, because clap takes a plain `Vec` for a repeatable option.
type Separator = Vec<u8>;

/// Offsets of a group are committed so often while it reads.
const COMMIT_MS: u64 = 5_000;

/// Reads until Ctrl-C, `--count` or `--exit-at-end`.
pub fn run(args: &ConsumeArgs) -> Result<(), Failure> {
    let stop = Stop::install()?;
    let mut client = args.connect.client()?;
    for topic in &args.topics {
        client.retry(|client| client.topic(topic, false))?;
    }
    let mut printer = Printer::new(args);
    let count = match &args.group {
        None => read_alone(&mut client, args, &stop, &mut printer)?,
        Some(group) => {
            let mut member = Member::join(&mut client, group, &args.topics)?;
            let result = read_as_member(&mut client, args, &stop, &mut printer, group, &mut member);
            // Also after an error: the others need not wait for our session to end.
            let left = member.leave(&mut client);
            let count = result?;
            left?;
            count
        }
    };
    if io::stderr().is_terminal() && !io::stdout().is_terminal() {
        eprintln!("{count} records");
    }
    Ok(())
}

/// What is being read, and how far.
struct Progress {
    next: Offsets,
    /// With `--exit-at-end`: where to stop.
    ends: Option<Offsets>,
    failing: FailingSince,
}

impl Progress {
    fn start(client: &mut Client, args: &ConsumeArgs, next: Offsets) -> Result<Progress, Failure> {
        let partitions: Vec<TopicPartition> = next.keys().cloned().collect();
        let ends = if args.exit_at_end { Some(client.latest(&partitions)?) } else { None };
        Ok(Progress { next, ends, failing: None })
    }

    fn at_end(&self) -> bool {
        let Some(ends) = &self.ends else { return false };
        self.next.iter().all(|(at, next)| *next >= ends[at])
    }

    /// The partitions that are not at their end.
    fn unread(&self) -> Offsets {
        let unread = |at: &TopicPartition, next: i64| self.ends.as_ref().is_none_or(|ends| next < ends[at]);
        self.next
            .iter()
            .filter(|(at, next)| unread(at, **next))
            .map(|(at, next)| (at.clone(), *next))
            .collect()
    }
}

fn read_alone(
    client: &mut Client,
    args: &ConsumeArgs,
    stop: &Stop,
    printer: &mut Printer,
) -> Result<u64, Failure> {
    let mut partitions = Vec::new();
    for topic in &args.topics {
        partitions.extend(partitions_of(client, topic, &args.partitions)?);
    }
    let next = client.resolve(&partitions, args.from)?;
    let mut progress = Progress::start(client, args, next)?;
    while !stop.asked() && !printer.full() && !progress.at_end() {
        read_round(client, &mut progress, printer)?;
    }
    Ok(printer.count)
}

fn read_as_member(
    client: &mut Client,
    args: &ConsumeArgs,
    stop: &Stop,
    printer: &mut Printer,
    group: &str,
    member: &mut Member,
) -> Result<u64, Failure> {
    let mut progress = start_assigned(client, args, group, member)?;
    let mut committed = progress.next.clone();
    let mut commit_due = monotonic_ms() + COMMIT_MS;
    loop {
        let done = stop.asked() || printer.full() || progress.at_end();
        let rejoin = !done && member.must_rejoin();
        if done || rejoin || monotonic_ms() >= commit_due {
            let fresh = progress.next.iter().filter(|(at, next)| committed.get(at) != Some(next));
            let fresh: Offsets = fresh.map(|(at, next)| (at.clone(), *next)).collect();
            match client.commit(group, &member.committer(), &fresh) {
                // Out of the group already: whoever took over reads these records again.
                Err(error) if rejoin && error.code().is_some() => eprintln!("ringlog: {error}"),
                result => result?,
            }
            committed.extend(fresh);
            commit_due = monotonic_ms() + COMMIT_MS;
        }
        if done {
            return Ok(printer.count);
        }
        if rejoin {
            member.rejoin(client)?;
            progress = start_assigned(client, args, group, member)?;
            committed = progress.next.clone();
        }
        read_round(client, &mut progress, printer)?;
    }
}

/// Starts at the committed offsets, where there are some.
fn start_assigned(
    client: &mut Client,
    args: &ConsumeArgs,
    group: &str,
    member: &Member,
) -> Result<Progress, Failure> {
    let committed = client.committed(group)?;
    let (known, fresh): (Vec<TopicPartition>, Vec<TopicPartition>) =
        member.assignment().iter().cloned().partition(|at| committed.contains_key(at));
    let mut next = client.resolve(&fresh, args.from)?;
    next.extend(known.into_iter().map(|at| {
        let offset = committed[&at];
        (at, offset)
    }));
    if io::stderr().is_terminal() {
        let list: Vec<String> = next.keys().map(ToString::to_string).collect();
        eprintln!("assigned: {}", if list.is_empty() { "nothing".to_owned() } else { list.join(" ") });
    }
    Progress::start(client, args, next)
}

/// Fetches once from all leaders and prints what came.
fn read_round(client: &mut Client, progress: &mut Progress, printer: &mut Printer) -> Result<(), Failure> {
    let fetched: BTreeMap<TopicPartition, Fetched> =
        fetch::round(client, &progress.unread(), &mut progress.failing)?;
    for (at, fetched) in fetched {
        let end = progress.ends.as_ref().map(|ends| ends[&at]);
        let next = progress.next.get_mut(&at).expect("only what was asked for is returned");
        let mut whole = true;
        for record in fetched.records {
            if printer.full() || end.is_some_and(|end| record.offset >= end) {
                whole = false;
                break;
            }
            printer.print(&at, &record)?;
            *next = record.offset + 1;
        }
        // Offsets without records (control records, what compaction took) are stepped over.
        if whole {
            *next = fetched.next_offset.max(*next);
        }
    }
    printer.flush()?;
    if reader_is_gone() { Err(Failure::StdoutClosed) } else { Ok(()) }
}

/// Writes records to standard output and counts them.
struct Printer {
    out: BufWriter<io::StdoutLock<'static>>,
    style: Style,
    count: u64,
    count_max: u64,
    line: Vec<u8>,
}

enum Style {
    Json,
    Format(Format),
}

impl Printer {
    fn new(args: &ConsumeArgs) -> Printer {
        let style = match (&args.format, &args.key_separator) {
            _ if args.connect.json => Style::Json,
            (Some(format), _) => Style::Format(format.clone()),
            (None, Some(separator)) => Style::Format(Format::key_and_value(separator)),
            (None, None) => Style::Format(Format::value()),
        };
        let out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        Printer { out, style, count: 0, count_max: args.count.unwrap_or(u64::MAX), line: Vec::new() }
    }

    fn full(&self) -> bool {
        self.count >= self.count_max
    }

    fn print(&mut self, at: &TopicPartition, record: &super::client::records::Record) -> Result<(), Failure> {
        let written = match &self.style {
            Style::Json => writeln!(self.out, "{}", super::record_json::to_json(at, record)),
            Style::Format(format) => {
                self.line.clear();
                format.write(at, record, &mut self.line);
                self.out.write_all(&self.line)
            }
        };
        self.count += 1;
        written.map_err(|error| Failure::of_stdout(&error))
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::of_stdout(&error))
    }
}
