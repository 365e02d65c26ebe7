//! `ringlog bench consume`: reads a topic from its start to its end, several times over, with raw fetches.
//! Records are counted from the headers of their batches; nothing is decoded or copied.

use std::io::{self, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use kafka_protocol::messages::FetchRequest;
use serde_json::{Map, Value, json};

use super::answers::Answers;
use super::meter::{self, Watch};
use super::report::Report;
use super::request;
use super::stats::{Counts, Stats, Window};
use super::{ConsumeArgs, Share, deal, leaders_of};
use crate::cli::ConnectArgs;
use crate::cli::client::TopicPartition;
use crate::cli::client::connection::Connection;
use crate::cli::client::error::ClientError;
use crate::cli::client::offsets::Offsets;
use crate::cli::client::records::BatchHeader;
use crate::cli::failure::Failure;
use crate::cli::output::{print_json, progress};
use crate::cli::stop::Stop;
use crate::cli::topic::partitions_of;
use crate::clock::monotonic_ns;
use crate::machine::error::ErrorCode;

/// A fetch that is not answered for so long ends its connection.
const ANSWER_NS: u64 = 30_000_000_000;

/// How far one partition is read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cursor {
    partition: i32,
    next: i64,
    end: i64,
}

/// Runs the passes and prints them.
pub fn run(connect: &ConnectArgs, args: &ConsumeArgs) -> Result<(), Failure> {
    let stop = Stop::install()?;
    let mut client = connect.client()?;
    let partitions = partitions_of(&mut client, &args.common.topic, &[])?;
    let (first, last) = (client.earliest(&partitions)?, client.latest(&partitions)?);
    let full: Vec<TopicPartition> = partitions.into_iter().filter(|at| first[at] < last[at]).collect();
    if full.is_empty() {
        return Err(Failure::failed(format!(
            "topic `{}` is empty; fill it with `ringlog bench produce`",
            args.common.topic
        )));
    }
    let shares = deal(&leaders_of(&mut client, &full)?, usize::from(args.common.connections).min(full.len()));
    meter::sharpen_sleep();
    let mut passes = Vec::new();
    for pass in 1..=args.passes {
        if stop.asked() {
            break;
        }
        let report = one_pass(connect, args, &shares, &(&first, &last), pass, &stop)?;
        if !connect.json {
            report.print(false)?;
        }
        passes.push(report);
    }
    match passes.last() {
        Some(last) if connect.json => {
            let mut document = last.document();
            document["passes"] = passes.iter().map(Report::document).collect();
            print_json(&document)
        }
        _ => Ok(()),
    }
}

fn one_pass(
    connect: &ConnectArgs,
    args: &ConsumeArgs,
    shares: &[Share],
    bounds: &(&Offsets, &Offsets),
    pass: u16,
    stop: &Stop,
) -> Result<Report, Failure> {
    let mut streams = Vec::new();
    for share in shares {
        let connection = Connection::open(&share.peer, connect.timeout)?;
        if connection.version::<FetchRequest>(request::FETCH_VERSION)? != request::FETCH_VERSION {
            return Err(ClientError::Unsupported { peer: share.peer.clone(), api: "Fetch 4".into() }.into());
        }
        streams.push(connection.into_stream());
    }
    let window = Window { from_ns: monotonic_ns(), to_ns: u64::MAX };
    let stats: Vec<Stats> = shares.iter().map(|_| Stats::new(window)).collect();
    let bar = progress(None, "{elapsed} {spinner} {msg}");
    let measured = thread::scope(|scope| {
        let spawn = |((stream, share), stats): ((TcpStream, &Share), _)| {
            let cursors = cursors(&args.common.topic, share, bounds);
            scope.spawn(move || read(stream, args, cursors, stats, stop))
        };
        let threads: Vec<_> = streams.into_iter().zip(shares).zip(&stats).map(spawn).collect();
        let watch = Watch {
            stats: &stats,
            window,
            broker_pids: &args.common.broker_pids,
            hdr: args.common.hdr.as_deref(),
            stop,
            bar: &bar,
        };
        let measured = watch.run(&threads);
        // Exact where the watch, which looks now and then, is not.
        let ended_ns =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| monotonic_ns())).max();
        measured.map(|measured| (measured, ended_ns.unwrap_or_default()))
    })
    .map(|(mut measured, ended_ns)| {
        measured.window_ns = ended_ns.saturating_sub(window.from_ns);
        measured
    })?;
    bar.finish_and_clear();
    let title = format!(
        "consume {} from the start, pass {pass}: {} connections, answers of up to {} bytes",
        args.common.topic,
        shares.len(),
        args.max_bytes
    );
    let settings = settings(args, shares.len(), pass);
    Ok(Report { title, settings, counts: Counts::sum(stats.iter().map(Stats::counts)), measured })
}

fn cursors(topic: &str, share: &Share, bounds: &(&Offsets, &Offsets)) -> Vec<Cursor> {
    let cursor = |partition: &i32| {
        let at = TopicPartition::new(topic, *partition);
        Cursor { partition: *partition, next: bounds.0[&at], end: bounds.1[&at] }
    };
    share.partitions.iter().map(cursor).collect()
}

fn settings(args: &ConsumeArgs, connections: usize, pass: u16) -> Map<String, Value> {
    let settings = json!({
        "bench": "consume",
        "topic": args.common.topic,
        "connections": connections,
        "pass": pass,
        "max_bytes": args.max_bytes,
        "partition_max_bytes": args.partition_max_bytes,
    });
    let Value::Object(settings) = settings else { unreachable!("it was written as an object") };
    settings
}

/// Reads until every partition is at its end. Returns when that was.
fn read(stream: TcpStream, args: &ConsumeArgs, cursors: Vec<Cursor>, stats: &Stats, stop: &Stop) -> u64 {
    if let Err(error) = read_io(stream, args, cursors, stats, stop) {
        stats.failed(|| format!("connection: {error}"));
    }
    monotonic_ns()
}

fn read_io(
    mut stream: TcpStream,
    args: &ConsumeArgs,
    mut cursors: Vec<Cursor>,
    stats: &Stats,
    stop: &Stop,
) -> io::Result<()> {
    let mut answers = Answers::new(stream.try_clone()?)?;
    stream.set_write_timeout(Some(Duration::from_nanos(ANSWER_NS)))?;
    for id in 0.. {
        // Partitions take turns at the front: a broker fills its answer in the order of the request.
        cursors.retain(|cursor| cursor.next < cursor.end);
        if cursors.is_empty() || stop.asked() {
            return Ok(());
        }
        cursors.rotate_left(1);
        let at: Vec<(i32, i64)> = cursors.iter().map(|cursor| (cursor.partition, cursor.next)).collect();
        let mut frame = request::fetch(&args.common.topic, &at, args.max_bytes, args.partition_max_bytes);
        request::patch(&mut frame, id);
        let sent_ns = monotonic_ns();
        stream.write_all(&frame)?;
        let answer = loop {
            if let Some(answer) = answers.ready()? {
                break Answer::parse(answer, &mut cursors);
            }
            if !answers.wait()? && monotonic_ns() > sent_ns + ANSWER_NS {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "a fetch was not answered for 30 s"));
            }
        };
        match answer {
            Ok(answer) => stats.answered(sent_ns, monotonic_ns(), answer.records, answer.bytes),
            Err(what) => return Err(io::Error::new(io::ErrorKind::InvalidData, what)),
        }
    }
    unreachable!("the ids do not end")
}

/// What one answer held.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    records: u64,
    bytes: u64,
}

impl Answer {
    /// Walks an answer (Fetch version 4, from its correlation id on) and moves the cursors.
    fn parse(answer: &[u8], cursors: &mut [Cursor]) -> Result<Answer, String> {
        let mut walk = Walk(answer);
        let mut sum = Answer::default();
        walk.skip(8)?;
        for _ in 0..walk.i32()? {
            let name = walk.i16()?;
            walk.skip(usize::try_from(name).unwrap_or(0))?;
            for _ in 0..walk.i32()? {
                let partition = walk.i32()?;
                let code = walk.i16()?;
                if code != 0 {
                    return Err(format!("partition {partition}: {}", ErrorCode(code)));
                }
                walk.skip(16)?;
                let aborted = walk.i32()?;
                walk.skip(usize::try_from(aborted).unwrap_or(0) * 16)?;
                let size = walk.i32()?;
                let mut records = walk.take(usize::try_from(size).unwrap_or(0))?;
                while let Some(batch) = BatchHeader::parse(records)? {
                    sum.records += u64::try_from(batch.count).unwrap_or(0);
                    sum.bytes += batch.size as u64;
                    records = &records[batch.size..];
                    if let Some(cursor) = cursors.iter_mut().find(|cursor| cursor.partition == partition) {
                        cursor.next = batch.next_offset().max(cursor.next);
                    }
                }
            }
        }
        Ok(sum)
    }
}

/// Reads an answer with every length checked.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("an answer that is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(drop)
    }

    fn i16(&mut self) -> Result<i16, String> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("two bytes were taken")))
    }

    fn i32(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, Bytes, BytesMut};
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    fn answer(partitions: Vec<PartitionData>) -> BytesMut {
        let topic = FetchableTopicResponse::default()
            .with_topic(crate::cli::client::topic_name("t"))
            .with_partitions(partitions);
        let mut out = BytesMut::new();
        out.put_i32(0);
        FetchResponse::default()
            .with_responses(vec![topic])
            .encode(&mut out, request::FETCH_VERSION)
            .unwrap();
        out
    }

    fn batch_at(offset: i64, count: usize) -> Vec<u8> {
        let mut batch = request::random_batch(count, 10, 1).to_vec();
        batch[..8].copy_from_slice(&offset.to_be_bytes());
        batch
    }

    #[test]
    fn whole_batches_are_counted_and_stepped_over() {
        let (one, two, cut) = (batch_at(5, 3), batch_at(8, 2), batch_at(10, 4));
        let bytes = [&one[..], &two, &cut[..70]].concat();
        let data = PartitionData::default().with_partition_index(1).with_records(Some(Bytes::from(bytes)));
        let empty = PartitionData::default().with_partition_index(0).with_records(None);
        let mut cursors =
            [Cursor { partition: 0, next: 7, end: 9 }, Cursor { partition: 1, next: 5, end: 99 }];
        let sum = Answer::parse(&answer(vec![data, empty]), &mut cursors).unwrap();
        assert_eq!(sum, Answer { records: 5, bytes: (one.len() + two.len()) as u64 });
        assert_eq!((cursors[0].next, cursors[1].next), (7, 10));
    }

    #[test]
    fn an_error_is_not_taken_for_an_empty_partition() {
        let data = PartitionData::default().with_error_code(1).with_records(None);
        assert!(Answer::parse(&answer(vec![data]), &mut []).unwrap_err().contains("OFFSET_OUT_OF_RANGE"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
            let _ = Answer::parse(&bytes, &mut []);
            let whole = answer(vec![PartitionData::default().with_records(Some(Bytes::from(batch_at(0, 2))))]);
            let _ = Answer::parse(&whole[..cut.min(whole.len())], &mut []);
        }
    }
}
