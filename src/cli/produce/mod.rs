//! `ringlog produce`: records from standard input, one a line.
//!
//! A thread reads lines; the main thread sends what is there. While one request is under way the next lines
//! gather, so batches grow with the load and a single typed line leaves at once.

mod input;
mod sender;

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::codec::{self, Codec};
use super::failure::Failure;
use super::output::{print_json, progress};
use super::record_json::Line;
use super::stop::Stop;
use super::{ConnectArgs, units};
use input::Input;
use sender::Sender;

/// Options of `ringlog produce`.
#[derive(Args, Debug)]
pub struct ProduceArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Topic to write to
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Partition for all records [default: by the key's hash, as Java's producer; without key in turn]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// What a line of standard input is
    #[arg(long, value_name = "FORMAT", default_value = "lines")]
    format: InputFormat,
    /// Splits each line into key and value at the first such text; \t, \n, \x1f and the like are understood
    #[arg(long, value_name = "TEXT", value_parser = units::separator)]
    key_separator: Option<Separator>,
    /// Key for all records
    #[arg(long, value_name = "KEY", conflicts_with = "key_separator")]
    key: Option<String>,
    /// Header for all records; repeatable
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = units::name_value)]
    headers: Vec<(String, String)>,
    /// An empty value is written as null (a tombstone), an empty key as none
    #[arg(long)]
    empty_as_null: bool,
    /// Compression of the batches
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = codec::parser())]
    compression: Codec,
    /// Who must have a record before it counts as written
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: Acks,
    /// Bytes of records in one batch at most
    #[arg(long, value_name = "SIZE", default_value = "512KiB", value_parser = units::bytes_i32)]
    batch_bytes: i32,
    /// Send without sequence numbers: a record may be written twice when an answer is lost
    #[arg(long)]
    no_idempotence: bool,
}

/// Bytes of a separator. An alias, because clap takes a plain `Vec` for a repeatable option.
type Separator = Vec<u8>;

/// What a line of standard input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// A value, or key and value with --key-separator
    Lines,
    /// A JSON document as `consume --json` prints it
    Json,
}

/// Who must have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Acks {
    /// All replicas in sync
    #[value(alias = "-1")]
    All,
    /// The leader
    #[value(name = "1")]
    One,
    /// Nobody: no answer, no errors
    #[value(name = "0")]
    None,
}

impl Acks {
    /// As Produce has it.
    pub(in crate::cli) fn code(self) -> i16 {
        match self {
            Acks::All => -1,
            Acks::One => 1,
            Acks::None => 0,
        }
    }
}

/// Lines read ahead of the sender.
const LINES_AHEAD_MAX: usize = 16 * 1024;

/// Reads and writes until the input ends or Ctrl-C.
pub fn run(args: &ProduceArgs) -> Result<(), Failure> {
    let stop = Stop::install()?;
    let mut sender = Sender::open(args.connect.client()?, args)?;
    let input = Input::new(args);
    let (lines, received) = mpsc::sync_channel(LINES_AHEAD_MAX);
    // Not joined: a read from a terminal cannot be interrupted, and the process may end without it.
    let reader = thread::Builder::new().name("stdin".into()).spawn(move || input.read(&lines));
    reader.map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let bar = match io::stdin().is_terminal() {
        true => indicatif::ProgressBar::hidden(),
        false => progress(None, "{spinner} {human_pos} records sent  {per_sec}"),
    };
    let pumped = pump(&mut sender, &received, &stop, &bar);
    bar.finish_and_clear();
    // What came before a bad line is written; the line is what the command fails with.
    let flushed = sender.flush();
    report(args, &sender)?;
    flushed.map_err(Failure::from).and(pumped)
}

fn pump(
    sender: &mut Sender,
    received: &mpsc::Receiver<Result<Line, Failure>>,
    stop: &Stop,
    bar: &indicatif::ProgressBar,
) -> Result<(), Failure> {
    while !stop.asked() {
        let next = match received.try_recv() {
            Err(TryRecvError::Empty) => {
                sender.flush()?;
                bar.set_position(sender.written());
                received.recv_timeout(Duration::from_millis(100))
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
            Ok(line) => Ok(line),
        };
        match next {
            Ok(line) => sender.add(line?)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
    Ok(())
}

fn report(args: &ProduceArgs, sender: &Sender) -> Result<(), Failure> {
    if args.connect.json {
        let partitions: Vec<Value> = sender
            .report()
            .iter()
            .map(|(partition, written)| {
                json!({
                    "partition": partition,
                    "records": written.records,
                    "first_offset": written.first_offset,
                    "last_offset": written.last_offset,
                })
            })
            .collect();
        return print_json(&json!({
            "topic": args.topic,
            "records": sender.written(),
            "partitions": partitions,
        }));
    }
    if io::stderr().is_terminal() {
        eprintln!("{} records written to {}", sender.written(), args.topic);
    }
    Ok(())
}
