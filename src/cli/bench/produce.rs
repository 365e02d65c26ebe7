//! `ringlog bench produce`.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kafka_protocol::messages::ProduceRequest;
use serde_json::{Map, Value, json};

use super::answers::Answers;
use super::meter::{self, Measured, Watch};
use super::report::Report;
use super::request;
use super::stats::{Counts, Pace, Stats, Window};
use super::{ProduceArgs, Share, deal, leaders_of, prepare_topic};
use crate::cli::ConnectArgs;
use crate::cli::client::connection::Connection;
use crate::cli::client::error::ClientError;
use crate::cli::failure::Failure;
use crate::cli::output::progress;
use crate::cli::stop::Stop;
use crate::cli::units::Rate;
use crate::clock::{monotonic_ns, sleep_until_ns};
use crate::machine::error::ErrorCode;

/// After the measured time answers are waited for so long.
const DRAIN_NS: u64 = 30_000_000_000;
/// Between connecting and the first request, so that all threads stand ready.
const READY_NS: u64 = 20_000_000;
/// Small requests that are due together go out in writes of up to this size.
const WRITE_BYTES: usize = 64 << 10;

/// What all connections share.
struct Plan {
    window: Window,
    /// When the last answers are given up.
    give_up_ns: u64,
    in_flight: usize,
    acks: i16,
    records: u64,
    batch_bytes: u64,
    error_at: usize,
    stop: Stop,
}

/// One connection and its prepared frames.
struct Worker {
    stream: TcpStream,
    frames: Frames,
}

/// Prepared requests, one a partition, sent in turn.
struct Frames {
    frames: Vec<Vec<u8>>,
    next_id: i32,
    /// Small frames waiting for one write.
    staged: Vec<u8>,
}

impl Frames {
    fn new(topic: &str, share: &Share, acks: i16, records: usize, record_bytes: usize) -> Frames {
        let frame = |partition: &i32| {
            let batch = request::random_batch(records, record_bytes, *partition as u64 + 1);
            request::produce(topic, *partition, acks, &batch)
        };
        Frames { frames: share.partitions.iter().map(frame).collect(), next_id: 0, staged: Vec::new() }
    }

    /// Sends the next request, or keeps it for [`Self::flush`] if it is small.
    fn send(&mut self, stream: &mut impl Write) -> io::Result<()> {
        // Partitions are taken by the id, so that they take turns whatever is staged.
        let index = self.next_id as u32 as usize % self.frames.len();
        let size = self.frames[index].len();
        request::patch(&mut self.frames[index], self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        if self.staged.len() + size > WRITE_BYTES {
            self.flush(stream)?;
        }
        if size > WRITE_BYTES / 2 {
            return stream.write_all(&self.frames[index]);
        }
        self.staged.extend_from_slice(&self.frames[index]);
        Ok(())
    }

    fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        if !self.staged.is_empty() {
            stream.write_all(&self.staged)?;
            self.staged.clear();
        }
        Ok(())
    }
}

/// Runs the benchmark and prints what it found.
pub fn run(connect: &ConnectArgs, args: &ProduceArgs) -> Result<(), Failure> {
    let stop = Stop::install()?;
    let mut client = connect.client()?;
    let topic = &args.common.topic;
    let partitions = prepare_topic(&mut client, topic, args.partitions)?;
    let shares = deal(&leaders_of(&mut client, &partitions)?, usize::from(args.common.connections));
    let record_bytes = args.record_size as usize;
    let records = match args.records_per_request {
        Some(records) => records as usize,
        None => request::records_that_fit(record_bytes, args.batch_bytes as usize),
    };
    if records.saturating_mul(record_bytes) > 1 << 30 {
        return Err(Failure::usage("a request of over 1 GiB; take fewer or smaller records"));
    }
    meter::sharpen_sleep();
    let acks = args.acks.code();
    let mut workers = Vec::new();
    for share in &shares {
        let connection = Connection::open(&share.peer, connect.timeout)?;
        if connection.version::<ProduceRequest>(request::PRODUCE_VERSION)? != request::PRODUCE_VERSION {
            return Err(ClientError::Unsupported { peer: share.peer.clone(), api: "Produce 8".into() }.into());
        }
        let frames = Frames::new(topic, share, acks, records, record_bytes);
        workers.push(Worker { stream: connection.into_stream(), frames });
    }
    let start_ns = monotonic_ns() + READY_NS;
    let from_ns = start_ns + args.warmup * 1_000_000;
    let window = Window { from_ns, to_ns: from_ns + args.duration * 1_000_000 };
    let plan = Plan {
        window,
        give_up_ns: window.to_ns + DRAIN_NS,
        in_flight: usize::from(args.in_flight),
        acks,
        records: records as u64,
        batch_bytes: request::random_batch(records, record_bytes, 1).len() as u64,
        error_at: request::produce_error_at(topic),
        stop,
    };
    let paces = paces(args.rate, &plan, start_ns, workers.len());
    let (counts, measured) = drive(args, &plan, workers, &paces)?;
    let report =
        Report { title: title(args, &plan, shares.len()), settings: settings(args, &plan), counts, measured };
    report.print(connect.json)
}

/// The due times of each connection's requests, interleaved; none in a closed loop.
fn paces(rate: Rate, plan: &Plan, start_ns: u64, connections: usize) -> Vec<Option<Pace>> {
    let requests_per_s = match rate {
        Rate::Max => return vec![None; connections],
        Rate::Bytes(bytes) => bytes / plan.batch_bytes as f64,
        Rate::Records(records) => records / plan.records as f64,
    };
    let apart_ns = 1e9 / requests_per_s;
    let pace = |index: usize| Pace {
        start_ns: start_ns + (apart_ns * index as f64) as u64,
        interval_ns: apart_ns * connections as f64,
    };
    (0..connections).map(|index| Some(pace(index))).collect()
}

fn drive(
    args: &ProduceArgs,
    plan: &Plan,
    workers: Vec<Worker>,
    paces: &[Option<Pace>],
) -> Result<(Counts, Measured), Failure> {
    let stats: Vec<Stats> = workers.iter().map(|_| Stats::new(plan.window)).collect();
    let bar = progress(Some(args.duration / 1000), "{elapsed} [{bar:30}] {pos}/{len} s  {msg}");
    let ends: Vec<OpenEnds> = workers.iter().map(|_| OpenEnds::default()).collect();
    let measured = thread::scope(|scope| {
        let mut threads = Vec::new();
        for (((worker, stats), pace), ends) in workers.into_iter().zip(&stats).zip(paces).zip(&ends) {
            match *pace {
                None => threads.push(scope.spawn(move || closed_loop(worker, plan, stats))),
                Some(pace) => {
                    let reader = worker.stream.try_clone();
                    if plan.acks != 0 {
                        threads.push(scope.spawn(move || open_reader(reader, plan, pace, stats, ends)));
                    }
                    threads.push(scope.spawn(move || open_writer(worker, plan, pace, stats, ends)));
                }
            }
        }
        let watch = Watch {
            stats: &stats,
            window: plan.window,
            broker_pids: &args.common.broker_pids,
            hdr: args.common.hdr.as_deref(),
            stop: &plan.stop,
            bar: &bar,
        };
        watch.run(&threads)
    });
    bar.finish_and_clear();
    Ok((Counts::sum(stats.iter().map(Stats::counts)), measured?))
}

/// What the writer of an open loop tells the reader.
#[derive(Default)]
struct OpenEnds {
    sent: AtomicU64,
    writer_ended: AtomicBool,
}

/// Counts one answer.
fn take(plan: &Plan, stats: &Stats, answer: &[u8], due_ns: u64, now_ns: u64) {
    let code = answer.get(plan.error_at..plan.error_at + 2).map(|b| i16::from_be_bytes([b[0], b[1]]));
    match code {
        Some(0) => stats.answered(due_ns, now_ns, plan.records, plan.batch_bytes),
        Some(code) => stats.failed(|| format!("the broker answered {}", ErrorCode(code))),
        None => stats.failed(|| "an answer that is too short".to_owned()),
    }
}

/// One thread sends and receives: it waits for an answer, then sends as many as were answered.
fn closed_loop(mut worker: Worker, plan: &Plan, stats: &Stats) {
    let mut in_flight = VecDeque::with_capacity(plan.in_flight);
    let result = closed_loop_io(&mut worker, plan, stats, &mut in_flight);
    let now = monotonic_ns();
    if let Err(error) = result {
        stats.failed(|| format!("connection: {error}"));
    }
    in_flight.into_iter().for_each(|sent_ns| stats.gave_up(sent_ns, now));
}

fn closed_loop_io(
    worker: &mut Worker,
    plan: &Plan,
    stats: &Stats,
    in_flight: &mut VecDeque<u64>,
) -> io::Result<()> {
    let mut answers = Answers::new(worker.stream.try_clone()?)?;
    worker.stream.set_write_timeout(Some(Duration::from_nanos(DRAIN_NS)))?;
    loop {
        if monotonic_ns() < plan.window.to_ns && !plan.stop.asked() {
            while in_flight.len() < plan.in_flight {
                let now = monotonic_ns();
                worker.frames.send(&mut worker.stream)?;
                in_flight.push_back(now);
            }
            worker.frames.flush(&mut worker.stream)?;
        } else if in_flight.is_empty() || monotonic_ns() >= plan.give_up_ns {
            return Ok(());
        }
        if plan.acks == 0 {
            let now = monotonic_ns();
            let sent = in_flight.drain(..);
            sent.for_each(|sent_ns| stats.answered(sent_ns, now, plan.records, plan.batch_bytes));
            continue;
        }
        if answers.wait()? {
            let now = monotonic_ns();
            while let Some(answer) = answers.ready()? {
                let unasked = || io::Error::new(io::ErrorKind::InvalidData, "an answer to no request");
                let sent_ns = in_flight.pop_front().ok_or_else(unasked)?;
                take(plan, stats, answer, sent_ns, now);
            }
        }
    }
}

/// Sends every request when it is due, or as soon after that as the socket takes it.
fn open_writer(mut worker: Worker, plan: &Plan, pace: Pace, stats: &Stats, ends: &OpenEnds) {
    if let Err(error) = open_writer_io(&mut worker, plan, pace, stats, ends) {
        stats.failed(|| format!("connection: {error}"));
    }
    ends.writer_ended.store(true, Ordering::Release);
}

fn open_writer_io(
    worker: &mut Worker,
    plan: &Plan,
    pace: Pace,
    stats: &Stats,
    ends: &OpenEnds,
) -> io::Result<()> {
    worker.stream.set_write_timeout(Some(Duration::from_nanos(DRAIN_NS)))?;
    let total = pace.count_before(plan.window.to_ns);
    let mut index = 0;
    while index < total && !plan.stop.asked() {
        sleep_until_ns(pace.due_ns(index));
        let now = monotonic_ns();
        if now >= plan.give_up_ns {
            return Ok(());
        }
        let first = index;
        while index < total && pace.due_ns(index) <= now && index - first < 256 {
            worker.frames.send(&mut worker.stream)?;
            index += 1;
        }
        worker.frames.flush(&mut worker.stream)?;
        ends.sent.store(index, Ordering::Release);
        if plan.acks == 0 {
            let now = monotonic_ns();
            (first..index).for_each(|i| stats.answered(pace.due_ns(i), now, plan.records, plan.batch_bytes));
        }
    }
    Ok(())
}

/// Reads the answers; each one's due time follows from its place in the order.
fn open_reader(stream: io::Result<TcpStream>, plan: &Plan, pace: Pace, stats: &Stats, ends: &OpenEnds) {
    let mut index = 0;
    if let Err(error) = open_reader_io(stream, plan, pace, stats, ends, &mut index) {
        stats.failed(|| format!("connection: {error}"));
    }
    // What was due and is not answered took at least until now. After Ctrl-C nobody waits for the rest.
    let now = monotonic_ns();
    let due = if plan.stop.asked() {
        ends.sent.load(Ordering::Acquire)
    } else {
        pace.count_before(plan.window.to_ns)
    };
    (index..due).for_each(|i| stats.gave_up(pace.due_ns(i), now));
}

fn open_reader_io(
    stream: io::Result<TcpStream>,
    plan: &Plan,
    pace: Pace,
    stats: &Stats,
    ends: &OpenEnds,
    index: &mut u64,
) -> io::Result<()> {
    let mut answers = Answers::new(stream?)?;
    let total = pace.count_before(plan.window.to_ns);
    while *index < total && monotonic_ns() < plan.give_up_ns {
        let all_read =
            ends.writer_ended.load(Ordering::Acquire) && *index >= ends.sent.load(Ordering::Acquire);
        if all_read {
            return Ok(());
        }
        if answers.wait()? {
            let now = monotonic_ns();
            while let Some(answer) = answers.ready()? {
                take(plan, stats, answer, pace.due_ns(*index), now);
                *index += 1;
            }
        }
    }
    Ok(())
}

fn title(args: &ProduceArgs, plan: &Plan, connections: usize) -> String {
    let load = match args.rate {
        Rate::Max => format!("closed loop, {} in flight", plan.in_flight),
        Rate::Bytes(bytes) => format!("open loop at {:.1} MB/s", bytes / 1e6),
        Rate::Records(records) => format!("open loop at {records} records/s"),
    };
    let acks = if plan.acks == -1 { "all".to_owned() } else { plan.acks.to_string() };
    format!(
        "produce to {}: {} partitions, {connections} connections, {} records of {} bytes a request \
         ({} bytes), acks {acks}, {load}",
        args.common.topic, args.partitions, plan.records, args.record_size, plan.batch_bytes
    )
}

fn settings(args: &ProduceArgs, plan: &Plan) -> Map<String, Value> {
    let rate = match args.rate {
        Rate::Max => json!("max"),
        Rate::Bytes(bytes) => json!(format!("{}MB/s", bytes / 1e6)),
        Rate::Records(records) => json!(format!("{records}/s")),
    };
    let settings = json!({
        "bench": "produce",
        "topic": args.common.topic,
        "partitions": args.partitions,
        "connections": args.common.connections,
        "in_flight": if args.rate == Rate::Max { Some(args.in_flight) } else { None },
        "rate": rate,
        "acks": plan.acks,
        "record_bytes": args.record_size,
        "records_per_request": plan.records,
        "batch_bytes": plan.batch_bytes,
        "warmup_s": args.warmup as f64 / 1e3,
    });
    let Value::Object(settings) = settings else { unreachable!("it was written as an object") };
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(sizes: &[usize]) -> Frames {
        let frames = sizes.iter().map(|size| vec![0; *size]).collect();
        Frames { frames, next_id: 0, staged: Vec::new() }
    }

    fn id_at(bytes: &[u8], at: usize) -> i32 {
        i32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap())
    }

    #[test]
    fn small_requests_leave_together_and_in_order() {
        let (mut frames, mut out) = (frames(&[100, 200]), Vec::new());
        (0..3).for_each(|_| frames.send(&mut out).unwrap());
        assert!(out.is_empty());
        frames.flush(&mut out).unwrap();
        assert_eq!(out.len(), 400);
        assert_eq!((id_at(&out, 0), id_at(&out, 100), id_at(&out, 300)), (0, 1, 2));
    }

    #[test]
    fn a_large_request_does_not_overtake_small_ones() {
        let (mut frames, mut out) = (frames(&[100, WRITE_BYTES]), Vec::new());
        (0..2).for_each(|_| frames.send(&mut out).unwrap());
        assert_eq!((id_at(&out, 0), id_at(&out, 100)), (0, 1));
    }

    #[test]
    fn connections_take_turns_at_the_whole_rate() {
        let plan = Plan {
            window: Window { from_ns: 0, to_ns: 1_000_000_000 },
            give_up_ns: 0,
            in_flight: 1,
            acks: -1,
            records: 10,
            batch_bytes: 1_000,
            error_at: 0,
            stop: Stop::install().unwrap(),
        };
        for rate in [Rate::Bytes(1e6), Rate::Records(1e4)] {
            let paces: Vec<Pace> = paces(rate, &plan, 0, 4).into_iter().map(Option::unwrap).collect();
            let total: u64 = paces.iter().map(|pace| pace.count_before(1_000_000_000)).sum();
            assert_eq!(total, 1_000);
            assert_eq!(
                paces.iter().map(|pace| pace.due_ns(0)).collect::<Vec<_>>(),
                [0, 1_000_000, 2_000_000, 3_000_000]
            );
        }
        assert!(paces(Rate::Max, &plan, 0, 2).iter().all(Option::is_none));
    }
}
