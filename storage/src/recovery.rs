//! Starting over what a former process left: checkpoint and WAL of the current generation are drained into
//! synced segments, a new generation is prepared, and one rename makes it the current one.
//!
//! A crash before the rename repeats all of it; a crash after it finds nothing to replay. One path serves a
//! clean restart, a crash and another number of shards. Segments are never scanned.

mod replay;

use crate::checkpoint::{Bad, Checkpoint, Entry, Kind, PartitionState};
use crate::chunk::AlignedBuffer;
use crate::disk::{BLOCK, Disk, Open, make_dirs_durably, read_file, remove_tree, replace_file};
use crate::job::{prepare_wal, use_id};
use crate::layout::{self, Current};
use crate::mutant::{self, Mutant};
use crate::store::StoreState;
use crate::wal::Lsn;
use crate::wal::format::{COMMIT_HEAD, FileUse, Frames};
use crate::wal::scan::{Damage, Found, decide, find_commits, holds_commits_beyond};
use crate::wal::writer::FileRequest;
use crate::{PartitionKey, disk};
use replay::Replay;
use std::collections::BTreeMap;
use std::io;
use uuid::Uuid;

/// Bytes of a generation's first WAL file: small, so that starting is quick.
pub const FIRST_FILE_BYTES: u64 = 4 << 20;

/// Why a data folder cannot be opened.
#[derive(Debug)]
pub enum Error {
    /// The disk said no.
    Io(io::Error),
    /// Acknowledged data are damaged. Nothing was changed.
    Damaged {
        /// The file.
        path: String,
        /// Where in it, in bytes, as far as known.
        position: Option<u64>,
        /// What is wrong.
        what: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Io(e) => write!(f, "{e}"),
            Error::Damaged { path, position: Some(at), what } => write!(f, "{path} at byte {at}: {what}"),
            Error::Damaged { path, position: None, what } => write!(f, "{path}: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        Error::Io(e)
    }
}

/// What recovery is asked to do.
pub struct Plan<'a> {
    /// Shards of the generation to come.
    pub shards: u32,
    /// Which of them a partition belongs to.
    pub shard_of: &'a dyn Fn(&PartitionKey) -> u32,
    /// Whether the metadata know a topic. Data of unknown ones are set aside.
    pub knows: &'a dyn Fn(Uuid) -> bool,
    /// Whether the metadata know any topic: the folder cannot be a fresh one then.
    pub expects_data: bool,
    /// Random numbers, for use ids.
    pub random: &'a mut dyn FnMut() -> u64,
    /// Bytes of each shard's first WAL file.
    pub first_file_bytes: u64,
}

/// What recovery found and did.
#[derive(Debug, Default)]
pub struct Report {
    /// Frames replayed from the WAL.
    pub frames: u64,
    /// Bytes of records written to segments.
    pub bytes: u64,
    /// Commits cut from the log's end: torn, never acknowledged.
    pub discarded: usize,
    /// Topics whose data were set aside.
    pub strays: Vec<Uuid>,
    /// Partitions found.
    pub partitions: usize,
}

/// A recovered data folder.
pub struct Recovered {
    /// What each shard's store starts with.
    pub shards: Vec<StoreState>,
    /// The new generation.
    pub generation: u64,
    /// What was done.
    pub report: Report,
}

/// Recovers a data folder, fresh or not.
///
/// # Errors
/// [`Error`]; the folder is then as usable as it was before.
pub fn recover(disk: &dyn Disk, plan: &mut Plan<'_>) -> Result<Recovered, Error> {
    for dir in [layout::WAL, layout::CHECKPOINT, layout::TOPICS, layout::STRAY] {
        disk.make_dirs(dir)?;
    }
    disk.sync_dir("")?;
    let current = read_current(disk)?;
    if current.is_none() && plan.expects_data {
        return Err(damaged_current(&format!(
            "it is missing, but the folder holds topics: {RESTORE_CURRENT}"
        )));
    }
    let mut report = Report::default();
    let mut partitions = BTreeMap::new();
    for shard in 0..current.map_or(0, |c| c.shards) {
        let generation = current.expect("it has shards").generation;
        drain_shard(disk, generation, shard, &mut partitions, &mut report)?;
    }
    partitions.retain(|key, _| (plan.knows)(key.topic));
    report.partitions = partitions.len();
    let same = mutant::on(Mutant::SameGeneration);
    let generation = current.map_or(1, |c| c.generation + u64::from(!same));
    if mutant::on(Mutant::OldGenerationRemovedEarly) {
        remove_other_generations(disk, generation)?;
    }
    let shards = begin_generation(disk, plan, generation, partitions)?;
    layout::write_current(disk, Current { generation, shards: plan.shards })?;
    remove_other_generations(disk, generation)?;
    set_strays_aside(disk, plan, &mut report)?;
    Ok(Recovered { shards, generation, report })
}

/// What to do about a generation file that says nothing.
const RESTORE_CURRENT: &str = "restore it from a copy, nothing was changed";

fn damaged_current(what: &str) -> Error {
    Error::Damaged { path: layout::CURRENT.to_owned(), position: None, what: what.to_owned() }
}

fn read_current(disk: &dyn Disk) -> Result<Option<Current>, Error> {
    layout::read_current(disk).map_err(|e| match e.kind() {
        io::ErrorKind::InvalidData => damaged_current(&format!("{e}: {RESTORE_CURRENT}")),
        _ => Error::Io(e),
    })
}

/// Replays one shard's log over its checkpoints and adds its partitions.
fn drain_shard(
    disk: &dyn Disk,
    generation: u64,
    shard: u32,
    partitions: &mut BTreeMap<PartitionKey, PartitionState>,
    report: &mut Report,
) -> Result<(), Error> {
    let checkpoints = read_checkpoints(disk, generation, shard)?;
    let covered = checkpoints.covered;
    let files = read_wal_heads(disk, generation, shard, covered)?;
    let mut found = Vec::new();
    for (at, (path, usage)) in files.iter().enumerate() {
        let bytes = read_direct(disk, path)?;
        found.extend(find_commits(&bytes, usage).into_iter().map(|info| Found { file: at, info }));
    }
    let verdict = decide(found, covered, checkpoints.durable)
        .map_err(|damage| describe(&damage, &files, generation, shard))?;
    report.discarded += verdict.discarded;
    let mut replay = Replay::new(disk, checkpoints.states, checkpoints.deleted, covered);
    let mut open: Option<(usize, AlignedBuffer)> = None;
    for commit in &verdict.replay {
        let bytes = match open.take() {
            Some((file, bytes)) if file == commit.file => bytes,
            _ => read_direct(disk, &files[commit.file].0)?,
        };
        let start = usize::try_from(commit.info.position).map_err(io::Error::other)? + COMMIT_HEAD;
        let body = &bytes[start..start + commit.info.body_len as usize];
        let mut lsn = commit.info.first_lsn;
        for (key, frame) in Frames::of(body) {
            replay.apply(lsn, key, &frame)?;
            lsn += 1;
        }
        assert_eq!(
            lsn,
            commit.info.last_lsn() + 1,
            "a commit with a right checksum has the frames it counts"
        );
    }
    report.frames += replay.frames();
    report.bytes += replay.bytes();
    for state in replay.finish()? {
        let twice = partitions.insert(state.key, state);
        assert!(twice.is_none(), "a partition belongs to one shard");
    }
    Ok(())
}

fn describe(damage: &Damage, files: &[(String, FileUse)], generation: u64, shard: u32) -> Error {
    let what = format!(
        "frames {}..{} of the log were acknowledged and are missing or damaged",
        damage.first_missing, damage.durable
    );
    match damage.after {
        Some(found) => Error::Damaged {
            path: files[found.file].0.clone(),
            position: Some(found.info.position + found.info.disk_len()),
            what,
        },
        None => Error::Damaged { path: layout::wal_dir(generation, shard), position: None, what },
    }
}

/// What a shard's checkpoints say together.
#[derive(Default)]
pub(crate) struct Checkpoints {
    pub(crate) states: BTreeMap<PartitionKey, PartitionState>,
    /// Deleted partitions, with the frame that says so.
    pub(crate) deleted: BTreeMap<PartitionKey, Lsn>,
    pub(crate) covered: Lsn,
    pub(crate) durable: Lsn,
}

impl Checkpoints {
    fn add(&mut self, checkpoint: Checkpoint) {
        if checkpoint.kind == Kind::Base {
            self.states.clear();
            self.deleted.clear();
        }
        self.covered = self.covered.max(checkpoint.covered);
        self.durable = self.durable.max(checkpoint.durable);
        for entry in checkpoint.entries {
            match entry {
                Entry::State(state) => {
                    self.states.insert(state.key, state);
                }
                Entry::Deleted { key, applied } => {
                    self.states.remove(&key);
                    self.deleted.insert(key, applied);
                }
            }
        }
    }
}

/// Reads the newest base and what follows it. Files before it may be left, in part, from before a crash.
pub(crate) fn read_checkpoints(disk: &dyn Disk, generation: u64, shard: u32) -> Result<Checkpoints, Error> {
    let dir = layout::checkpoint_dir(generation, shard);
    let mut all = Checkpoints::default();
    let mut last = None;
    for entry in disk.list(&dir)? {
        if !entry.name.ends_with(".ckpt") {
            continue;
        }
        let path = format!("{dir}/{}", entry.name);
        let checkpoint = Checkpoint::decode(&read_file(disk, &path)?).map_err(|bad| Error::Damaged {
            path: path.clone(),
            position: None,
            what: match bad {
                Bad::Damaged => "the checkpoint is damaged".to_owned(),
                Bad::Newer(version) => format!("the checkpoint has the newer format {version}"),
            },
        })?;
        match checkpoint.kind {
            Kind::Base => last = Some(checkpoint.sequence),
            Kind::Delta if last == Some(checkpoint.sequence.wrapping_sub(1)) => {
                last = Some(checkpoint.sequence)
            }
            // Behind a hole only a base counts.
            Kind::Delta => last = None,
        }
        all.add(checkpoint);
    }
    if last.is_none() {
        let what = "a checkpoint between the last base and the newest one is missing".to_owned();
        return Err(Error::Damaged { path: dir, position: None, what });
    }
    Ok(all)
}

/// The shard's WAL files in the order of their use. A file without a valid head is not in use yet, unless it holds
/// commits that no checkpoint covers: then the head is damaged.
pub(crate) fn read_wal_heads(
    disk: &dyn Disk,
    generation: u64,
    shard: u32,
    covered: Lsn,
) -> Result<Vec<(String, FileUse)>, Error> {
    let dir = layout::wal_dir(generation, shard);
    let mut files = Vec::new();
    for entry in disk.list(&dir)? {
        if !entry.name.ends_with(".wal") {
            continue;
        }
        let path = format!("{dir}/{}", entry.name);
        let mut head = AlignedBuffer::zeroed(BLOCK);
        let read = disk.open(&path, Open::ReadDirect)?.read_at(0, &mut head)?;
        match FileUse::decode(&head[..read]) {
            Some(usage) if usage.generation == generation && usage.shard == shard => {
                files.push((path, usage));
            }
            Some(_) => {}
            None if holds_commits_beyond(&read_direct(disk, &path)?, generation, covered) => {
                let what = "the head of a log file in use, with acknowledged frames, is damaged".to_owned();
                return Err(Error::Damaged { path, position: Some(0), what });
            }
            None => {}
        }
    }
    files.sort_by_key(|(_, usage)| usage.sequence);
    Ok(files)
}

pub(crate) fn read_direct(disk: &dyn Disk, path: &str) -> io::Result<AlignedBuffer> {
    let file = disk.open(path, Open::ReadDirect)?;
    let len = usize::try_from(disk::block_floor(file.size()?)).map_err(io::Error::other)?;
    let mut buffer = AlignedBuffer::zeroed(len.max(BLOCK));
    file.read_at(0, &mut buffer[..len])?;
    Ok(buffer)
}

/// Moves the data of topics that the metadata do not know out of the way, whole: not before the log that they
/// were replayed from is retired, or a repeated recovery would replay some of it once more beside them.
fn set_strays_aside(disk: &dyn Disk, plan: &Plan<'_>, report: &mut Report) -> Result<(), Error> {
    for entry in disk.list(layout::TOPICS)? {
        let topic = Uuid::try_parse(&entry.name).ok().filter(|_| entry.is_dir);
        if topic.is_some_and(|topic| (plan.knows)(topic)) {
            continue;
        }
        let mut to = format!("{}/{}", layout::STRAY, entry.name);
        let taken = disk.list(layout::STRAY)?;
        let mut n = 1;
        while taken.iter().any(|t| to.ends_with(&format!("/{}", t.name))) {
            to = format!("{}/{}.{n}", layout::STRAY, entry.name);
            n += 1;
        }
        disk.rename(&format!("{}/{}", layout::TOPICS, entry.name), &to)?;
        disk.sync_dir(layout::STRAY)?;
        disk.sync_dir(layout::TOPICS)?;
        report.strays.extend(topic);
    }
    Ok(())
}

/// Prepares everything of a new generation but the rename that makes it current.
fn begin_generation(
    disk: &dyn Disk,
    plan: &mut Plan<'_>,
    generation: u64,
    partitions: BTreeMap<PartitionKey, PartitionState>,
) -> Result<Vec<StoreState>, Error> {
    // What a crash in an earlier recovery left of the same generation was never current.
    if !mutant::on(Mutant::SameGeneration) {
        remove_tree(disk, &format!("{}/{generation}", layout::WAL))?;
    }
    remove_tree(disk, &format!("{}/{generation}", layout::CHECKPOINT))?;
    let mut dealt: Vec<Vec<PartitionState>> = (0..plan.shards).map(|_| Vec::new()).collect();
    for (key, mut state) in partitions {
        state.applied = 0;
        dealt[(plan.shard_of)(&key) as usize].push(state);
    }
    let mut shards = Vec::new();
    for (shard, partitions) in (0..plan.shards).zip(dealt) {
        let usage = FileUse {
            generation,
            use_id: use_id((plan.random)()),
            sequence: 1,
            file_bytes: plan.first_file_bytes,
            first_lsn: 1,
            shard,
        };
        let request = FileRequest { file: 0, usage, fresh: true };
        prepare_wal(disk, &layout::wal_file(generation, shard, 0), &request)?;
        make_dirs_durably(disk, &layout::checkpoint_dir(generation, shard))?;
        let base = Checkpoint {
            kind: Kind::Base,
            generation,
            shard,
            sequence: 0,
            covered: 0,
            durable: 0,
            entries: partitions.iter().cloned().map(Entry::State).collect(),
        };
        replace_file(disk, &layout::checkpoint_file(generation, shard, 0), &base.encode())?;
        shards.push(StoreState { shard, first_file: usage, partitions, next_checkpoint: 1 });
    }
    Ok(shards)
}

fn remove_other_generations(disk: &dyn Disk, current: u64) -> io::Result<()> {
    for dir in [layout::WAL, layout::CHECKPOINT] {
        for entry in disk.list(dir)? {
            if entry.is_dir && entry.name != current.to_string() {
                remove_tree(disk, &format!("{dir}/{}", entry.name))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;

    fn recover_in(dir: &std::path::Path, expects_data: bool) -> Result<Recovered, Error> {
        let mut plan = Plan {
            shards: 2,
            shard_of: &|_| 0,
            knows: &|_| true,
            expects_data,
            random: &mut || 7,
            first_file_bytes: 1 << 20,
        };
        recover(&RealDisk::new(dir), &mut plan)
    }

    #[test]
    fn a_folder_that_lost_its_generation_is_not_taken_for_a_fresh_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(recover_in(dir.path(), false).unwrap().generation, 1, "a fresh folder");
        std::fs::remove_file(dir.path().join(layout::CURRENT)).unwrap();
        let error = recover_in(dir.path(), true).err().expect("refused");
        assert!(matches!(&error, Error::Damaged { path, .. } if path == layout::CURRENT), "{error}");
        assert!(dir.path().join("wal/1/0/00000000.wal").exists(), "nothing was changed");
    }

    #[test]
    fn a_damaged_generation_file_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        recover_in(dir.path(), false).unwrap();
        let current = dir.path().join(layout::CURRENT);
        std::fs::write(&current, "1 2 3\n").unwrap();
        let error = recover_in(dir.path(), true).err().expect("refused");
        assert!(matches!(&error, Error::Damaged { path, .. } if path == layout::CURRENT), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("wal/CURRENT: it is damaged") && text.contains("restore it"), "{text}");
        assert_eq!(std::fs::read_to_string(&current).unwrap(), "1 2 3\n", "nothing was changed");
    }
}
