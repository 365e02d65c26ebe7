//! `ringlog dump`: what is in a file of a data folder. What is damaged is shown as such, with its position, and the
//! dump goes on behind it where it can. Reads only; works beside a running broker too, which may then be writing.

mod checkpoint;
mod metadata;
mod records;
mod segment;
mod wal;

use std::io::{BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ringlog_storage::disk::{Disk, RealDisk, read_file};
use serde_json::Value;

use super::failure::Failure;

/// What `ringlog dump` takes.
#[derive(Args, Debug)]
pub struct DumpArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A write-ahead log file: wal/GENERATION/SHARD/N.wal
    Wal(RecordArgs),
    /// A segment: topics/TOPIC_ID/PARTITION/BASE_OFFSET.log
    Segment(RecordArgs),
    /// A segment's index: topics/TOPIC_ID/PARTITION/BASE_OFFSET.idx
    Index(FileArgs),
    /// The metadata: metadata/snapshot or metadata/N.log
    Metadata(FileArgs),
    /// A checkpoint: checkpoint/GENERATION/SHARD/N.ckpt
    Checkpoint(FileArgs),
}

#[derive(Args, Debug)]
struct FileArgs {
    /// The file
    file: PathBuf,
    /// Print a JSON object on each line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct RecordArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Show every record of every batch, compressed ones opened
    #[arg(long)]
    records: bool,
}

/// Runs the subcommand.
pub fn run(args: &DumpArgs) -> Result<(), Failure> {
    let (What::Wal(RecordArgs { file, .. })
    | What::Segment(RecordArgs { file, .. })
    | What::Index(file)
    | What::Metadata(file)
    | What::Checkpoint(file)) = &args.what;
    let source = Source::of(&file.file)?;
    let mut out = Lines::new(file.json);
    match &args.what {
        What::Wal(args) => wal::dump(&source, args.records, &mut out)?,
        What::Segment(args) => segment::dump(&source, args.records, &mut out)?,
        What::Index(_) => segment::dump_index(&source, &mut out)?,
        What::Metadata(_) => metadata::dump(&source, &mut out)?,
        What::Checkpoint(_) => checkpoint::dump(&source, &mut out)?,
    }
    out.finish()
}

/// The file to be dumped, through the storage's seam.
struct Source {
    disk: RealDisk,
    name: String,
    /// As the user gave it, for messages.
    shown: String,
}

impl Source {
    fn of(path: &Path) -> Result<Source, Failure> {
        let shown = path.display().to_string();
        if !path.is_file() {
            return Err(Failure::failed(format!("{shown} is no file: give one of a ringlog data folder")));
        }
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Failure::failed(format!("{shown}: its name is not UTF-8")))?.to_owned();
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Source { disk: RealDisk::new(folder), name, shown })
    }

    fn disk(&self) -> &dyn Disk {
        &self.disk
    }

    /// The whole file: not for segments.
    fn read(&self) -> Result<Vec<u8>, Failure> {
        read_file(&self.disk, &self.name).map_err(|e| self.failure(&e))
    }

    fn failure(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::failed(format!("{} cannot be read: {error}", self.shown))
    }

    /// The base offset that a segment's or an index's name tells.
    fn base_offset(&self) -> Option<i64> {
        self.name.split_once('.')?.0.parse().ok().filter(|base| *base >= 0)
    }
}

/// Lines of standard output: text for people, or JSON objects.
struct Lines {
    out: BufWriter<Stdout>,
    json: bool,
}

impl Lines {
    fn new(json: bool) -> Lines {
        Lines { out: BufWriter::new(std::io::stdout()), json }
    }

    /// Prints one line, of whichever kind is wanted.
    fn line(&mut self, text: impl FnOnce() -> String, json: impl FnOnce() -> Value) -> Result<(), Failure> {
        let line = if self.json { json().to_string() } else { text() };
        writeln!(self.out, "{line}").map_err(|e| Failure::of_stdout(&e))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|e| Failure::of_stdout(&e))
    }
}

/// A time in milliseconds since 1970, -1 for none.
fn time_text(ms: i64) -> String {
    if ms < 0 { "none".to_owned() } else { format!("{ms} ms") }
}
