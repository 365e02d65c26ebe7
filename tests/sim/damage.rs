//! Damage to what is on the disk: flipped bits, of which recovery must speak and which it must never cut away.

use crate::disk::SimDisk;
use crate::rng::Rng;
use ringlog_storage::checkpoint::Checkpoint;
use ringlog_storage::disk::BLOCK;
use ringlog_storage::layout::read_current;
use ringlog_storage::wal::format::{COMMIT_HEAD, CommitInfo, FileUse};
use ringlog_storage::wal::scan::find_commits;

/// Where a bit was flipped.
pub struct Flipped {
    pub path: String,
    pub byte: u64,
    /// The commit that was damaged, and whether another one stands before it in its file.
    commit: CommitInfo,
    is_first: bool,
}

impl Flipped {
    /// Recovery's report names the place: the end of what is whole, which is where the damaged commit begins. A
    /// file's first commit has only the file before it to name.
    pub fn check_report(&self, path: &str, position: Option<u64>, what: &str) {
        assert!(what.contains("acknowledged"), "the report says what it is: {what}");
        if !self.is_first {
            assert_eq!((path, position), (self.path.as_str(), Some(self.commit.position)), "{what}");
        }
    }
}

/// Every WAL file with a valid head.
pub fn heads(disk: &SimDisk) -> Vec<(String, FileUse)> {
    let mut heads = Vec::new();
    for path in disk.files("wal").into_iter().filter(|path| path.ends_with(".wal")) {
        let bytes = disk.contents(&path).unwrap_or_default();
        heads.extend(FileUse::decode(&bytes[..BLOCK.min(bytes.len())]).map(|usage| (path, usage)));
    }
    heads
}

/// Flips a bit in a commit of the current generation that holds acknowledged frames which no checkpoint covers.
pub fn flip_in_wal(disk: &SimDisk, rng: &mut Rng) -> Option<Flipped> {
    let current = read_current(disk).expect("a readable folder")?;
    let shard = rng.below(u64::from(current.shards)) as u32;
    let (mut covered, mut durable) = (0, 0);
    let checkpoints = disk.files(&format!("checkpoint/{}/{shard}", current.generation));
    for path in checkpoints.into_iter().filter(|path| path.ends_with(".ckpt")) {
        let bytes = disk.contents(&path).unwrap_or_default();
        if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
            (covered, durable) = (checkpoint.covered.max(covered), checkpoint.durable.max(durable));
        }
    }
    let mut commits = Vec::new();
    let own = |usage: &FileUse| usage.generation == current.generation && usage.shard == shard;
    for (path, usage) in heads(disk).into_iter().filter(|(_, usage)| own(usage)) {
        let found = find_commits(&disk.contents(&path).expect("just listed"), &usage);
        durable = found.iter().map(|info| info.durable_lsn).fold(durable, u64::max);
        let live = found.into_iter().filter(|info| info.frames > 0 && info.last_lsn() > covered);
        commits.extend(live.enumerate().map(|(n, info)| (path.clone(), info, n == 0)));
    }
    commits.retain(|(_, info, _)| info.first_lsn <= durable);
    let (path, commit, is_first) = commits.get(rng.index(commits.len().max(1)))?.clone();
    let byte = commit.position + rng.below(COMMIT_HEAD as u64 + u64::from(commit.body_len));
    disk.flip(&path, byte, rng.below(8) as u8);
    Some(Flipped { path, byte, commit, is_first })
}
