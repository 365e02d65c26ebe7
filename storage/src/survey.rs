//! What a shard's checkpoints and log say together, read without changing anything, also where the log has a hole;
//! and cutting the log at such a hole. For tools that look at the files of a stopped broker.

mod partition;

use crate::PartitionKey;
use crate::batch::peek;
use crate::checkpoint::{Checkpoint, PartitionState};
use crate::chunk::AlignedBuffer;
use crate::disk::{BLOCK, Disk, Open, make_dirs_durably, read_file, replace_file};
use crate::layout;
use crate::recovery::{Checkpoints, Error, References, read_checkpoints, read_direct, read_wal_heads};
use crate::wal::Lsn;
use crate::wal::format::{COMMIT_HEAD, COMMIT_MAGIC, CommitInfo, FileUse, Frame, Frames};
use crate::wal::scan::{Found, decide, find_commits};
use std::collections::BTreeMap;
use std::io;

pub use partition::Surveyed;

/// Acknowledged frames that are missing from a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub first_missing: Lsn,
    /// Everything up to here was durable.
    pub durable: Lsn,
    /// The log file, or the folder where even that is not known.
    pub path: String,
    /// Where in it the hole begins.
    pub position: Option<u64>,
    /// Partitions of which frames are missing or lie behind the hole, with the offset after the last record of each
    /// that is known of.
    pub touched: BTreeMap<PartitionKey, i64>,
    /// Log start offsets that frames behind the hole set: segments below may be gone already.
    pub starts: BTreeMap<PartitionKey, i64>,
    /// Whether `touched` may lack some: the frames in the hole could not be read. It then holds every partition of
    /// the shard.
    pub is_vague: bool,
}

/// A shard's checkpoints and log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Its partitions, as of the log's end or the hole in it.
    pub partitions: BTreeMap<PartitionKey, Surveyed>,
    /// Frames that a recovery would replay.
    pub frames: u64,
    /// Commits behind the log's end, torn and never acknowledged.
    pub torn: usize,
    /// Damage.
    pub hole: Option<Hole>,
}

/// The log's files and the commits in them.
struct Log {
    files: Vec<(String, FileUse)>,
    bytes: Vec<AlignedBuffer>,
    found: Vec<Found>,
}

impl Log {
    fn read(disk: &dyn Disk, generation: u64, shard: u32, covered: Lsn) -> Result<Log, Error> {
        let files = read_wal_heads(disk, generation, shard, covered)?;
        let mut bytes = Vec::new();
        let mut found = Vec::new();
        for (at, (path, usage)) in files.iter().enumerate() {
            let file = read_direct(disk, path)?;
            found.extend(find_commits(&file, usage).into_iter().map(|info| Found { file: at, info }));
            bytes.push(file);
        }
        found.sort_by_key(|f: &Found| (f.info.first_lsn, f.info.frames));
        Ok(Log { files, bytes, found })
    }

    fn frames(&self, commit: &Found) -> impl Iterator<Item = (Lsn, PartitionKey, Frame<'_>)> {
        let start = commit.info.position as usize + COMMIT_HEAD;
        let body = &self.bytes[commit.file][start..start + commit.info.body_len as usize];
        (commit.info.first_lsn..).zip(Frames::of(body)).map(|(lsn, (key, frame))| (lsn, key, frame))
    }

    /// Looks at what was written to segments directly. Returns the last LSN that a recovery would replay.
    fn check_references(
        &self,
        disk: &dyn Disk,
        replay: &[Found],
        checkpoints: &Checkpoints,
    ) -> Result<Lsn, Error> {
        let mut references = References::default();
        for (lsn, key, frame) in replay.iter().flat_map(|commit| self.frames(commit)) {
            if lsn > checkpoints.applied(&key) {
                references.note(lsn, key, &frame);
            }
        }
        let end = replay.last().map_or(checkpoints.covered, |commit| commit.info.last_lsn());
        let stated = self.found.iter().map(|f| f.info.durable_lsn).max().unwrap_or(0);
        references.judge(disk, end, stated.max(checkpoints.durable))
    }

    /// Commits of these files whose checksum is wrong, by what their heads say.
    fn damaged(&self) -> Vec<Found> {
        let number = |b: &[u8], at: usize| u64::from_le_bytes(b[at..at + 8].try_into().expect("eight bytes"));
        let small = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes"));
        let mut damaged = Vec::new();
        for (file, bytes) in self.bytes.iter().enumerate() {
            for position in (BLOCK..bytes.len()).step_by(BLOCK) {
                let head = &bytes[position..position + BLOCK];
                let own = head.starts_with(&COMMIT_MAGIC)
                    && number(head, 24) == self.files[file].1.use_id
                    && number(head, 32) == position as u64;
                let known = |f: &Found| f.file == file && f.info.position == position as u64;
                let (body_len, frames) = (small(head, 56), small(head, 60));
                let fits = position + COMMIT_HEAD + body_len as usize <= bytes.len();
                if own && fits && frames > 0 && !self.found.iter().any(known) {
                    let info = CommitInfo {
                        position: position as u64,
                        first_lsn: number(head, 40),
                        durable_lsn: number(head, 48),
                        body_len,
                        frames,
                    };
                    damaged.push(Found { file, info });
                }
            }
        }
        damaged.sort_by_key(|f| f.info.first_lsn);
        damaged
    }
}

/// Reads a shard's checkpoints and log.
///
/// # Errors
/// What the disk says, and damage that leaves nothing to look at: a checkpoint, or the head of a log file.
pub fn survey(disk: &dyn Disk, generation: u64, shard: u32) -> Result<Survey, Error> {
    let checkpoints = read_checkpoints(disk, generation, shard)?;
    let log = Log::read(disk, generation, shard, checkpoints.covered)?;
    let mut survey = Survey::default();
    for (key, state) in &checkpoints.states {
        survey.partitions.insert(*key, Surveyed::of(state.clone()));
    }
    let (replay, damage) = match decide(log.found.clone(), checkpoints.covered, checkpoints.durable) {
        Ok(verdict) => {
            survey.torn = verdict.discarded;
            (verdict.replay, None)
        }
        Err(damage) => {
            let before = |f: &&Found| {
                f.info.frames > 0
                    && f.info.last_lsn() > checkpoints.covered
                    && f.info.last_lsn() < damage.first_missing
            };
            (log.found.iter().filter(before).copied().collect(), Some(damage))
        }
    };
    let end = log.check_references(disk, &replay, &checkpoints)?;
    let mut deleted = checkpoints.deleted;
    for commit in &replay {
        for (lsn, key, frame) in log.frames(commit).filter(|(lsn, ..)| *lsn <= end) {
            survey.apply(lsn, key, &frame, &mut deleted, checkpoints.covered).map_err(|what| {
                Error::Damaged {
                    path: log.files[commit.file].0.clone(),
                    position: Some(commit.info.position),
                    what,
                }
            })?;
        }
    }
    if let Some(damage) = damage {
        let (path, position) = match damage.after {
            Some(f) => (log.files[f.file].0.clone(), Some(f.info.position + f.info.disk_len())),
            None => (layout::wal_dir(generation, shard), None),
        };
        let mut hole = Hole {
            first_missing: damage.first_missing,
            durable: damage.durable,
            path,
            position,
            touched: BTreeMap::new(),
            starts: BTreeMap::new(),
            is_vague: false,
        };
        survey.look_into(&log, &mut hole);
        survey.hole = Some(hole);
    }
    Ok(survey)
}

impl Survey {
    fn apply(
        &mut self,
        lsn: Lsn,
        key: PartitionKey,
        frame: &Frame<'_>,
        deleted: &mut BTreeMap<PartitionKey, Lsn>,
        covered: Lsn,
    ) -> Result<(), String> {
        let applied = match self.partitions.get(&key) {
            Some(partition) => partition.state.applied,
            None => deleted.get(&key).copied().unwrap_or(covered),
        };
        if lsn <= applied {
            return Ok(());
        }
        self.frames += 1;
        let fresh = || {
            let mut partition = Surveyed::of(PartitionState::fresh(key));
            partition.log_segments.insert(0);
            partition
        };
        let partition = self.partitions.entry(key).or_insert_with(fresh);
        if !partition.follow(frame) {
            return Err(format!("{key}: frame {lsn} does not go on where the partition's log ends"));
        }
        if *frame == Frame::Delete {
            self.partitions.remove(&key);
            deleted.insert(key, lsn);
        }
        Ok(())
    }

    /// Finds out which partitions lose something with the hole and what lies behind it.
    fn look_into(&self, log: &Log, hole: &mut Hole) {
        let behind: Vec<&Found> =
            log.found.iter().filter(|f| f.info.frames > 0 && f.info.first_lsn > hole.first_missing).collect();
        let until = behind.first().map_or(hole.durable, |f| f.info.first_lsn - 1);
        let mut ends = self.partitions.clone();
        let mut next = hole.first_missing;
        for commit in log.damaged() {
            if commit.info.first_lsn != next || next > until {
                continue;
            }
            let mut walked = 0;
            for (_, key, frame) in log.frames(&commit) {
                // A damaged frame may name a wrong partition: it counts only where it goes on with that one.
                let goes_on = ends.get_mut(&key).is_some_and(|partition| partition.follow(&frame));
                if !goes_on {
                    break;
                }
                walked += 1;
                hole.touched.insert(key, ends[&key].end);
            }
            if walked == commit.info.frames {
                next = commit.info.last_lsn() + 1;
            }
        }
        hole.is_vague = next <= until;
        for commit in behind {
            for (_, key, frame) in log.frames(commit) {
                let end =
                    hole.touched.entry(key).or_insert_with(|| self.partitions.get(&key).map_or(0, |p| p.end));
                match frame {
                    Frame::Append { batch, .. } => {
                        *end = peek(batch.0).map_or(*end, |info| (info.last_offset() + 1).max(*end));
                    }
                    Frame::LogStart { start } => {
                        let known = hole.starts.entry(key).or_insert(start);
                        *known = (*known).max(start);
                    }
                    Frame::Reference { header, .. } => {
                        *end = peek(header).map_or(*end, |info| (info.last_offset() + 1).max(*end));
                    }
                    Frame::Restart { start } => {
                        let known = hole.starts.entry(key).or_insert(start);
                        *known = (*known).max(start);
                    }
                    Frame::Delete
                    | Frame::BlockImage { .. }
                    | Frame::Roll { .. }
                    | Frame::Truncate { .. }
                    | Frame::EpochStart { .. }
                    | Frame::HighWatermark { .. } => {}
                }
            }
        }
        if hole.is_vague {
            for (key, partition) in &self.partitions {
                hole.touched.entry(*key).or_insert(partition.end);
            }
        }
    }
}

/// Cuts a shard's log at its hole, so that a recovery ends there. The log's files are copied to `aside` first. A
/// crash in between leaves a hole, as before, and doing it again is right.
///
/// # Errors
/// What the disk says.
pub fn cut(disk: &dyn Disk, generation: u64, shard: u32, hole: &Hole, aside: &str) -> Result<(), Error> {
    make_dirs_durably(disk, aside)?;
    let checkpoints = read_checkpoints(disk, generation, shard)?;
    let log = Log::read(disk, generation, shard, checkpoints.covered)?;
    for ((path, _), bytes) in log.files.iter().zip(&log.bytes) {
        let name = path.rsplit('/').next().expect("a path has a name");
        replace_file(disk, &format!("{aside}/{name}"), bytes)?;
    }
    // The log first: while one commit states what was durable, the hole is still seen.
    let zeros = AlignedBuffer::zeroed(BLOCK);
    for (at, (path, _)) in log.files.iter().enumerate() {
        let file = disk.open(path, Open::Direct)?;
        for f in log.found.iter().filter(|f| f.file == at && f.info.first_lsn >= hole.first_missing) {
            file.write_at(f.info.position, &zeros)?;
        }
        file.sync()?;
    }
    let dir = layout::checkpoint_dir(generation, shard);
    for entry in disk.list(&dir)?.into_iter().filter(|entry| entry.name.ends_with(".ckpt")) {
        let path = format!("{dir}/{}", entry.name);
        let bytes = read_file(disk, &path)?;
        let Ok(mut checkpoint) = Checkpoint::decode(&bytes) else { continue };
        if checkpoint.durable >= hole.first_missing {
            replace_file(disk, &format!("{aside}/{}", entry.name), &bytes)?;
            checkpoint.durable = hole.first_missing - 1;
            replace_file(disk, &path, &checkpoint.encode())?;
        }
    }
    Ok(())
}

/// Copies a file's bytes from `position` to its end into another file, durably. Returns how many they were.
///
/// # Errors
/// What the disk says.
pub fn copy_range(disk: &dyn Disk, from: &str, position: u64, to: &str) -> io::Result<u64> {
    const PIECE: usize = 1 << 20;
    let source = disk.open(from, Open::Read)?;
    let target = disk.open(to, Open::Replace)?;
    let mut piece = vec![0; PIECE];
    let mut copied = 0;
    loop {
        let read = source.read_at(position + copied, &mut piece)?;
        if read == 0 {
            break;
        }
        target.write_at(copied, &piece[..read])?;
        copied += read as u64;
    }
    target.sync()?;
    disk.sync_dir(crate::disk::parent(to))?;
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use crate::recovery::{Plan, recover};
    use crate::wal::format::seal_commit;
    use uuid::Uuid;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: Uuid::from_u128(1), partition }
    }

    fn start(disk: &RealDisk) -> Result<FileUse, Error> {
        let mut plan = Plan {
            shards: 1,
            shard_of: &|_| 0,
            knows: &|_| true,
            expects_data: false,
            random: &mut || 77,
            first_file_bytes: 1 << 20,
        };
        Ok(recover(disk, &mut plan)?.shards[0].first_file)
    }

    /// Writes commits of one log start frame each, the n-th with LSN n + 1, and returns the file.
    fn write_log(disk: &RealDisk, usage: &FileUse, partitions: &[i32]) -> String {
        let path = layout::wal_file(usage.generation, 0, 0);
        let file = disk.open(&path, Open::Direct).unwrap();
        for (n, partition) in (0u64..).zip(partitions) {
            let mut block = AlignedBuffer::zeroed(BLOCK);
            let start = 10 * (n.cast_signed() + 1);
            let len = Frame::LogStart { start }.encode(&key(*partition), &mut block[COMMIT_HEAD..]);
            let position = BLOCK as u64 * (n + 1);
            let body_len = u32::try_from(len).unwrap();
            let info = CommitInfo { position, first_lsn: n + 1, durable_lsn: n, body_len, frames: 1 };
            seal_commit(&mut block[..COMMIT_HEAD + len], usage, &info);
            file.write_at(position, &block).unwrap();
        }
        path
    }

    /// Flips a byte of a commit (the first is 1).
    fn damage(disk: &RealDisk, path: &str, commit: u64, at: usize) {
        let file = disk.open(path, Open::Direct).unwrap();
        let mut block = AlignedBuffer::zeroed(BLOCK);
        file.read_at(commit * BLOCK as u64, &mut block).unwrap();
        block[at] ^= 4;
        file.write_at(commit * BLOCK as u64, &block).unwrap();
    }

    #[test]
    fn an_undamaged_log_is_followed_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        let usage = start(&disk).unwrap();
        write_log(&disk, &usage, &[0, 1, 0]);
        let survey = survey(&disk, 1, 0).unwrap();
        assert_eq!((survey.frames, survey.torn, survey.hole), (3, 0, None));
        let starts: Vec<_> = survey.partitions.values().map(|p| p.log_start).collect();
        assert_eq!(starts, [30, 20]);
    }

    #[test]
    fn a_hole_tells_whom_it_touches_and_a_cut_lets_recovery_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        let usage = start(&disk).unwrap();
        let path = write_log(&disk, &usage, &[0, 1, 2, 0, 1]);
        // In the frame's payload: the frame still says which partition it is of.
        damage(&disk, &path, 4, COMMIT_HEAD + 28);
        assert!(start(&disk).is_err());
        let found = survey(&disk, 1, 0).unwrap();
        let hole = found.hole.unwrap();
        assert_eq!((hole.first_missing, hole.durable, hole.position), (4, 4, Some(4 * BLOCK as u64)));
        assert_eq!(hole.touched.keys().map(|k| k.partition).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((hole.starts.get(&key(1)), hole.is_vague), (Some(&50), false));

        cut(&disk, 1, 0, &hole, "stray/damaged/x").unwrap();
        assert!(read_file(&disk, "stray/damaged/x/00000000.wal").unwrap().len() >= 6 * BLOCK);
        assert_eq!(survey(&disk, 1, 0).unwrap().hole, None);
        start(&disk).unwrap();
        let states = read_checkpoints(&disk, 2, 0).unwrap().states;
        assert_eq!(states.values().map(|s| s.log_start).collect::<Vec<_>>(), [10, 20, 30]);
    }

    #[test]
    fn a_hole_that_cannot_be_read_touches_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        let usage = start(&disk).unwrap();
        let path = write_log(&disk, &usage, &[0, 1, 2, 0, 1]);
        // The number of the partition: what it says now is not known to the log.
        damage(&disk, &path, 4, COMMIT_HEAD + 8);
        let hole = survey(&disk, 1, 0).unwrap().hole.unwrap();
        assert!(hole.is_vague);
        assert_eq!(hole.touched.len(), 3);
    }
}
