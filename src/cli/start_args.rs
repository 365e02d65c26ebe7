//! The options of `ringlog start`, as cli.md fixes them. What they mean to the broker is `start.rs`' business.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::units;

/// Options of `ringlog start`.
#[derive(Args, Debug, Clone)]
pub struct StartArgs {
    /// Folder of all data; created if absent, locked against a second process
    #[arg(long, value_name = "DIR", default_value = "./ringlog-data")]
    pub data_dir: PathBuf,
    /// Address for clients; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092", value_parser = units::address)]
    pub listen: String,
    /// Address that Metadata tells clients [default: the listen address]
    #[arg(long, value_name = "HOST:PORT", value_parser = units::address)]
    pub advertise: Option<String>,
    /// Address of /metrics, /health/live and /health/ready; `off` for none
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9640", value_parser = units::address_or_off)]
    pub http: String,
    /// Id of this broker in its cluster
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(0..))]
    pub node_id: i32,
    /// Address for Raft and broker-to-broker traffic [default: off on a single node]
    #[arg(long, value_name = "HOST:PORT", value_parser = units::address)]
    pub peer_listen: Option<String>,
    /// The metadata quorum by peer addresses [default: this node alone]
    #[arg(long, value_name = "ID@HOST:PORT,...", value_delimiter = ',', value_parser = units::voter)]
    pub voters: Vec<Voter>,
    /// For a broker that is no voter: peers to register with
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = units::address)]
    pub join: Vec<String>,
    /// Rack of this broker, for placement and for reads from the nearest replica
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
    /// Number of data shards [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub shards: Option<u32>,
    /// Cores to run on, such as 0-3,6 [default: all; pinned where there are 4 or more]
    #[arg(long, value_name = "LIST", value_parser = units::core_list)]
    pub cores: Option<CoreList>,
    /// Core of the control executor
    #[arg(long, value_name = "N")]
    pub control_core: Option<u32>,
    /// TOML file of settings under Kafka's names, dotted or quoted
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting; repeatable; wins over the file
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = units::name_value)]
    pub settings: Vec<(String, String)>,
    /// Log level: error, warn, info, debug, trace, or a filter such as info,ringlog::shard=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: String,
    /// How log lines are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// One member of `--voters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Node id.
    pub id: i32,
    /// Peer address, `host:port`.
    pub address: String,
}

/// The cores of `--cores`, ascending and without doubles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreList(pub Vec<u32>);

/// Form of log lines on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON document a line.
    Json,
}
