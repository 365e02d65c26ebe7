//! `ringlog bench`: a load generator for any Kafka broker that costs little itself: requests are built once
//! and sent again and again with only their correlation id changed, answers are read no further than needed.
//!
//! Open loop (`--rate 200MB/s`): every request has a due time, fixed before the run, and its latency counts
//! from then, whether or not the generator could send it: a broker that stalls cannot hide it (coordinated
//! omission). Closed loop (`--rate max`): so many in flight on each connection; the next leaves when one is
//! answered.
//!
//! Bytes are those of record batches as they travel; MB and GB are powers of ten.

mod answers;
mod consume;
mod cpu;
mod meter;
mod produce;
mod report;
mod request;
mod stats;

use std::thread;
use std::time::Duration;

use clap::{Args, Subcommand};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;

use super::client::error::Result as ClientResult;
use super::client::{Client, TopicPartition, caps, check, topic_name};
use super::failure::Failure;
use super::{ConnectArgs, units};
use crate::clock::monotonic_ms;
use crate::machine::error::ErrorCode;

/// Options of `ringlog bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand, Debug)]
enum BenchCommand {
    /// Write to a topic at a fixed rate or as fast as answers come
    Produce(ProduceArgs),
    /// Read a topic from its start to its end
    Consume(ConsumeArgs),
}

/// What both benchmarks take.
#[derive(Args, Debug)]
struct CommonArgs {
    /// Topic to use; produce creates it if absent
    #[arg(long, value_name = "TOPIC", default_value = "ringlog-bench")]
    topic: String,
    /// Connections; each has partitions of its own as far as there are enough
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Process whose CPU time is the broker's; repeatable, they are added up
    #[arg(long = "broker-pid", value_name = "PID")]
    broker_pids: Vec<u32>,
    /// Write an HdrHistogram log (V2), one interval a second
    #[arg(long, value_name = "FILE")]
    hdr: Option<std::path::PathBuf>,
}

/// Options of `ringlog bench produce`.
#[derive(Args, Debug)]
struct ProduceArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Partitions of the topic, when it is created, and to write to
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    partitions: i32,
    /// What to offer, over all connections: max (closed loop), 200MB/s or 50000/s (records)
    #[arg(long, value_name = "RATE", default_value = "max", value_parser = units::rate)]
    rate: units::Rate,
    /// Requests in flight on each connection in a closed loop
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
    /// Bytes of each record's value; they are random and do not compress
    #[arg(long, value_name = "SIZE", default_value = "1KiB", value_parser = units::bytes_i32)]
    record_size: i32,
    /// Bytes of the one batch of each request: as many records as fit, at least one
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = units::bytes_i32)]
    batch_bytes: i32,
    /// Records of each request, in place of --batch-bytes
    #[arg(long, value_name = "N", conflicts_with = "batch_bytes", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    records_per_request: Option<u32>,
    /// Who must have a batch before it is answered: all, 1 or 0 (no answer; latency is that of the send)
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: super::produce::Acks,
    /// Length of what is measured
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::duration_ms)]
    duration: u64,
    /// Run unmeasured for so long first
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = units::duration_ms)]
    warmup: u64,
}

/// Options of `ringlog bench consume`.
#[derive(Args, Debug)]
struct ConsumeArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Times to read all of it; each pass is reported, the last one is the result
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1000))]
    passes: u16,
    /// Bytes of one answer at most
    #[arg(long, value_name = "SIZE", default_value = "50MiB", value_parser = units::bytes_i32)]
    max_bytes: i32,
    /// Bytes of one partition in an answer at most
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = units::bytes_i32)]
    partition_max_bytes: i32,
}

/// Runs one of the benchmarks.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    match args.command {
        BenchCommand::Produce(produce) => produce::run(&args.connect, &produce),
        BenchCommand::Consume(consume) => consume::run(&args.connect, &consume),
    }
}

/// One connection's share of the work.
#[derive(Debug, PartialEq, Eq)]
struct Share {
    /// Address of the leader of these partitions.
    peer: String,
    /// Partitions it works on.
    partitions: Vec<i32>,
}

/// Deals partitions out over connections, so that each connection talks to one leader only. There are at
/// least as many connections as leaders; connections without a partition of their own share one.
fn deal(leaders: &[(String, Vec<i32>)], connections: usize) -> Vec<Share> {
    let connections = connections.max(leaders.len());
    let mut shares = Vec::new();
    for (index, (peer, partitions)) in leaders.iter().enumerate() {
        let mine = connections / leaders.len() + usize::from(index < connections % leaders.len());
        for connection in 0..mine {
            let own: Vec<i32> = partitions.iter().copied().skip(connection).step_by(mine).collect();
            let partitions =
                if own.is_empty() { vec![partitions[connection % partitions.len()]] } else { own };
            shares.push(Share { peer: peer.clone(), partitions });
        }
    }
    shares
}

/// The leaders' addresses with their partitions of the topic.
fn leaders_of(client: &mut Client, partitions: &[TopicPartition]) -> ClientResult<Vec<(String, Vec<i32>)>> {
    client.retry(|client| {
        let leaders = client.by_leader(partitions)?;
        let with_peer = leaders.into_iter().map(|(node, list)| {
            Ok((client.peer_of(node)?, list.into_iter().map(|at| at.partition).collect()))
        });
        with_peer.collect()
    })
}

/// Creates the topic if it is not there, and returns its partitions, as many as asked for.
fn prepare_topic(client: &mut Client, topic: &str, partitions: i32) -> Result<Vec<TopicPartition>, Failure> {
    let wanted = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(-1);
    let request =
        CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(client.timeout_i32());
    client.retry(|client| {
        for result in client.call_controller(&request, caps::ANY)?.topics {
            if result.error_code != ErrorCode::TOPIC_ALREADY_EXISTS.0 {
                check(result.error_code, || format!("topic `{topic}`"), result.error_message.as_ref())?;
            }
        }
        Ok(())
    })?;
    let have = client.topic_made_by_use(topic)?.partitions.len() as i32;
    if have < partitions {
        return Err(Failure::failed(format!(
            "topic `{topic}` has {have} partitions, {partitions} are asked for; \
             `ringlog topic alter {topic} --partitions {partitions}` adds them"
        )));
    }
    let list: Vec<TopicPartition> = (0..partitions).map(|p| TopicPartition::new(topic, p)).collect();
    await_leaders(client, &list)?;
    Ok(list)
}

/// Waits until the leaders of a fresh topic know that they lead: a broker's metadata name it before that, and
/// the first requests would be refused.
fn await_leaders(client: &mut Client, partitions: &[TopicPartition]) -> ClientResult<()> {
    let deadline = monotonic_ms() + client.timeout_ms();
    loop {
        match client.latest(partitions) {
            Err(error)
                if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                    && monotonic_ms() < deadline =>
            {
                thread::sleep(Duration::from_millis(20));
            }
            done => return done.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(peer: &str, partitions: &[i32]) -> Share {
        Share { peer: peer.into(), partitions: partitions.to_vec() }
    }

    #[test]
    fn connections_have_partitions_of_their_own() {
        let leaders = [("a".to_owned(), vec![0, 1, 2, 3])];
        assert_eq!(deal(&leaders, 2), [share("a", &[0, 2]), share("a", &[1, 3])]);
        assert_eq!(deal(&[("a".to_owned(), vec![7])], 2), [share("a", &[7]), share("a", &[7])]);
    }

    #[test]
    fn every_leader_has_a_connection() {
        let leaders = [("a".to_owned(), vec![0]), ("b".to_owned(), vec![1]), ("c".to_owned(), vec![2])];
        assert_eq!(deal(&leaders, 1), [share("a", &[0]), share("b", &[1]), share("c", &[2])]);
    }

    proptest! {
        #[test]
        fn no_partition_is_left_out(counts in proptest::collection::vec(1usize..9, 1..5), connections in 1usize..20) {
            let mut next = 0..;
            let leaders: Vec<(String, Vec<i32>)> = counts
                .iter()
                .enumerate()
                .map(|(node, count)| (node.to_string(), next.by_ref().take(*count).collect()))
                .collect();
            let shares = deal(&leaders, connections);
            prop_assert_eq!(shares.len(), connections.max(leaders.len()));
            for (peer, partitions) in &leaders {
                for partition in partitions {
                    prop_assert!(shares.iter().any(|s| s.peer == *peer && s.partitions.contains(partition)));
                }
            }
        }
    }
}
