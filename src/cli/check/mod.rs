//! `ringlog check`: reads every byte of a stopped broker's data and reports what is wrong, what it touches and what a
//! repair would lose. Changes nothing, unless it is told to repair.

mod look;
mod repair;
mod report;
mod segments;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;
use ringlog_storage::disk::RealDisk;
use serde_json::{Value, json};

use super::failure::Failure;
use super::output;
use crate::host;
use report::{Finding, Report};

/// What `ringlog check` takes.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The data folder of a broker that is stopped
    #[arg(long, value_name = "DIR", default_value = "./ringlog-data")]
    data_dir: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Repair what can be; damaged bytes are kept in stray/damaged/
    #[arg(long)]
    repair: bool,
    /// A partition of which records may be given up: TOPIC/INDEX or TOPIC_ID/INDEX; may be repeated
    #[arg(long, value_name = "PARTITION", requires = "repair")]
    accept_loss: Vec<String>,
}

/// Runs the subcommand.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let dir = &args.data_dir;
    if !dir.join("VERSION").exists() && !dir.join("wal").is_dir() {
        return Err(Failure::failed(format!(
            "{} is no data folder: name one with --data-dir",
            dir.display()
        )));
    }
    // The file is there wherever a broker ever ran; a check makes none.
    let _lock = if args.repair || dir.join("LOCK").exists() {
        Some(host::lock(dir).map_err(Failure::failed)?)
    } else {
        None
    };
    let disk = RealDisk::new(dir);
    let failed = |e: std::io::Error| Failure::failed(format!("{} cannot be checked: {e}", dir.display()));
    let (folder, report) = look::look(&disk).map_err(failed)?;
    if !args.repair {
        print(&report, None, args)?;
        return verdict(&report);
    }
    if report.findings.is_empty() {
        print(&report, None, args)?;
        return Ok(());
    }
    let done = repair::repair(&disk, &folder, &report, &args.accept_loss)?;
    // What is left is what counts.
    let (_, after) = look::look(&disk).map_err(failed)?;
    print(&report, Some((&done, &after)), args)?;
    verdict(&after)
}

fn verdict(report: &Report) -> Result<(), Failure> {
    match report.findings.len() {
        0 => Ok(()),
        1 => Err(Failure::failed("there is a finding, reported on standard output")),
        n => Err(Failure::failed(format!("there are {n} findings, reported on standard output"))),
    }
}

fn print(
    report: &Report,
    repaired: Option<(&Vec<String>, &Report)>,
    args: &CheckArgs,
) -> Result<(), Failure> {
    let (repairs, left) = repaired.map_or((&[][..], None), |(done, left)| (done.as_slice(), Some(left)));
    if args.json {
        let list = |report: &Report| report.findings.iter().map(Finding::json).collect::<Vec<Value>>();
        return output::print_json(&json!({
            "data_dir": args.data_dir.display().to_string(), "findings": list(report), "notes": report.notes,
            "partitions": report.partitions, "segments": report.segments, "batches": report.batches,
            "bytes": report.bytes, "repairs": repairs, "left_after_repair": left.map(list),
        }));
    }
    for finding in &report.findings {
        output::print_line(&finding.text())?;
    }
    for note in &report.notes {
        output::print_line(&format!("note: {note}"))?;
    }
    for repair in repairs {
        output::print_line(&format!("repaired: {repair}"))?;
    }
    for finding in left.map_or(&[][..], |left| &left.findings) {
        output::print_line(&format!("left: {}", finding.text()))?;
    }
    let report = left.unwrap_or(report);
    output::print_line(&format!(
        "{} partitions, {} segments, {} batches, {} bytes checked: {}",
        report.partitions,
        report.segments,
        report.batches,
        report.bytes,
        match report.findings.len() {
            0 => "all is right".to_owned(),
            1 => "1 finding".to_owned(),
            n => format!("{n} findings"),
        }
    ))
}
