//! The rows of the table: what is run, and which figures of it are kept.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::Outcome;
use super::peers::{Peer, RINGLOG};

/// How long and how much.
pub struct Scale {
    /// Measured seconds of a row.
    pub seconds: u64,
    /// Unmeasured seconds before them.
    pub warmup_s: u64,
    /// Seconds of full load before the first row, so that a JVM has compiled what it is going to run.
    pub warm_s: u64,
    /// Seconds without load.
    pub idle_s: u64,
    /// Rate of the open loop.
    pub rate: &'static str,
    /// Seconds at that rate that fill the topic which is read.
    pub fill_s: u64,
}

impl Scale {
    /// What figures are taken from.
    pub fn full(seconds: u64) -> Scale {
        Scale { seconds, warmup_s: 3, warm_s: 15, idle_s: 10, rate: "200MB/s", fill_s: 10 }
    }

    /// What shows that everything runs.
    pub fn quick() -> Scale {
        Scale { seconds: 1, warmup_s: 0, warm_s: 1, idle_s: 1, rate: "5MB/s", fill_s: 1 }
    }
}

/// One kind of work.
pub struct Row {
    /// Its name in results and `--only`.
    pub name: &'static str,
    /// Options of `ringlog bench produce`.
    produce: Vec<String>,
    /// Whether what was written is then read, and only that is measured.
    read_back: bool,
    /// Fields of the generator's JSON that are kept.
    metrics: &'static [&'static str],
}

/// All rows, in the order of the table.
pub fn rows(scale: &Scale) -> Vec<Row> {
    let timed = |options: &str, seconds: u64| -> Vec<String> {
        let timing = format!("--duration {seconds}s --warmup {}s", scale.warmup_s);
        options.split_whitespace().chain(timing.split_whitespace()).map(str::to_owned).collect()
    };
    let common = "--connections 2 --partitions 4 --record-size 1KiB";
    vec![
        Row {
            name: "produce-64k",
            produce: timed(&format!("{common} --batch-bytes 64KiB --in-flight 4"), scale.seconds),
            read_back: false,
            metrics: &["broker_cpu_s_per_gb", "mb_per_s", "p99_us"],
        },
        Row {
            name: "produce-one-record",
            produce: timed(&format!("{common} --records-per-request 1 --in-flight 64"), scale.seconds),
            read_back: false,
            metrics: &["requests_per_s", "broker_cpu_us_per_request", "p99_us"],
        },
        Row {
            name: "produce-one-in-flight",
            produce: timed(
                "--connections 1 --partitions 1 --record-size 1KiB --records-per-request 1 --in-flight 1",
                scale.seconds,
            ),
            read_back: false,
            metrics: &["p50_us", "p99_us"],
        },
        Row {
            name: "produce-open-loop",
            produce: timed(&format!("{common} --batch-bytes 64KiB --rate {}", scale.rate), scale.seconds),
            read_back: false,
            metrics: &["p50_us", "p99_us", "p999_us", "mb_per_s", "errors"],
        },
        Row {
            name: "consume-second-pass",
            produce: timed(&format!("{common} --batch-bytes 64KiB --rate {}", scale.rate), scale.fill_s),
            read_back: true,
            metrics: &["broker_cpu_s_per_gb", "mb_per_s", "first_pass_cpu_s_per_gb", "first_pass_mb_per_s"],
        },
    ]
}

/// Full load that nobody measures, of both sizes of request.
pub fn warm(peer: &Peer, scale: &Scale) -> Outcome<()> {
    let seconds = scale.warm_s.div_ceil(2);
    for shape in ["--batch-bytes 64KiB --in-flight 4", "--records-per-request 1 --in-flight 64"] {
        let options = format!("produce --topic warm --warmup 0s --duration {seconds}s {shape}");
        generate(peer, &options.split_whitespace().map(str::to_owned).collect::<Vec<_>>())?;
    }
    delete_topic(peer, "warm")
}

impl Row {
    /// Runs it against a warm broker, with a topic of its own that is deleted after.
    pub fn run(&self, peer: &Peer) -> Outcome<Vec<(&'static str, f64)>> {
        let mut options = vec!["produce".to_owned(), "--topic".into(), self.name.into()];
        options.extend(self.produce.iter().cloned());
        let mut found = generate(peer, &options)?;
        if self.read_back {
            let options = ["consume", "--passes", "2", "--connections", "2", "--topic", self.name];
            found = generate(peer, &options.map(str::to_owned))?;
            found["first_pass_cpu_s_per_gb"] = found["passes"][0]["broker_cpu_s_per_gb"].clone();
            found["first_pass_mb_per_s"] = found["passes"][0]["mb_per_s"].clone();
        }
        delete_topic(peer, self.name)?;
        let number = |metric: &&'static str| match found[*metric].as_f64() {
            Some(value) => Ok((*metric, value)),
            None => Err(format!("{}: no `{metric}` in {found}", self.name).into()),
        };
        self.metrics.iter().map(number).collect()
    }
}

/// Runs `ringlog bench` and returns its JSON.
fn generate(peer: &Peer, options: &[String]) -> Outcome<Value> {
    let mut command = Command::new(RINGLOG);
    command.arg("bench").args(options).args(["--json", "--bootstrap", &peer.bootstrap]);
    for pid in &peer.pids {
        command.args(["--broker-pid", &pid.to_string()]);
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("ringlog bench {} failed: {}", options.join(" "), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn delete_topic(peer: &Peer, topic: &str) -> Outcome<()> {
    let status = Command::new(RINGLOG)
        .args(["topic", "delete", topic, "--bootstrap", &peer.bootstrap])
        .stdout(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("topic {topic} was not deleted: {status}").into()) }
}
