//! What recovery decides from the commits that it finds in a shard's WAL files.
//!
//! Let D be the highest durable LSN that any valid commit (or the checkpoint) states, and walk the commits in
//! LSN order from the first frame that the checkpoint does not cover:
//!
//! | the next LSN is | and | then |
//! |---|---|---|
//! | in a valid commit | – | take it |
//! | missing | at or below D | **damage**: acknowledged data are gone; reported, never cut |
//! | missing | above D | **torn tail**: cut here; what lies behind was never acknowledged |
//!
//! The rule cannot see damage to the last few commits whose durability no later commit has recorded: those look
//! like a torn tail. At most the commits in flight, or a few milliseconds, are concerned.

use crate::disk::BLOCK;
use crate::mutant::{self, Mutant};
use crate::wal::Lsn;
use crate::wal::format::{CommitInfo, FileUse, open_commit, open_own_commit};

/// A valid commit and the file it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of the file among those scanned.
    pub file: usize,
    /// The commit.
    pub info: CommitInfo,
}

/// Damage to data that were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// First LSN that is missing.
    pub first_missing: Lsn,
    /// Everything up to here was durable.
    pub durable: Lsn,
    /// The commit before the hole, if there is one: the damage begins behind it.
    pub after: Option<Found>,
}

/// What to do with the commits found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Commits to replay, in LSN order, without a gap.
    pub replay: Vec<Found>,
    /// The last LSN to replay.
    pub end: Lsn,
    /// Commits beyond the cut, discarded.
    pub discarded: usize,
    /// The highest durable LSN seen.
    pub durable: Lsn,
}

/// Finds every valid commit of a file. `bytes` is the whole file, its head included.
#[must_use]
pub fn find_commits(bytes: &[u8], file: &FileUse) -> Vec<CommitInfo> {
    let mut found = Vec::new();
    let mut at = BLOCK;
    while at < bytes.len() {
        match open_commit(&bytes[at..], file, at as u64) {
            Some(info) => {
                at += usize::try_from(info.disk_len()).expect("a commit fits its file");
                found.push(info);
            }
            None => at += BLOCK,
        }
    }
    found
}

/// Whether bytes, whose file head cannot be read, hold a commit of a generation with frames beyond `covered`. A
/// commit names its use id, so that it can be checked without the head.
#[must_use]
pub fn holds_commits_beyond(bytes: &[u8], generation: u64, covered: Lsn) -> bool {
    (BLOCK..bytes.len()).step_by(BLOCK).any(|at| {
        open_own_commit(&bytes[at..], generation, at as u64)
            .is_some_and(|info| info.frames > 0 && info.last_lsn() > covered)
    })
}

/// Decides. `covered` is the LSN up to which the checkpoint holds everything; `known_durable` what the
/// checkpoint itself knew to be durable.
///
/// # Errors
/// [`Damage`] where frames that were durable are missing.
pub fn decide(mut found: Vec<Found>, covered: Lsn, known_durable: Lsn) -> Result<Verdict, Damage> {
    found.sort_by_key(|f| (f.info.first_lsn, f.info.frames));
    let durable = found.iter().map(|f| f.info.durable_lsn).max().unwrap_or(0).max(known_durable).max(covered);
    let mut replay: Vec<Found> = Vec::new();
    let mut end = covered;
    let mut discarded = 0;
    let mut after = None;
    for commit in found {
        let info = commit.info;
        if info.last_lsn() <= end {
            after = Some(commit);
            continue;
        }
        if info.frames == 0 {
            continue;
        }
        if info.first_lsn > end + 1 {
            if end < durable && !mutant::on(Mutant::CutBelowDurable) {
                return Err(Damage { first_missing: end + 1, durable, after });
            }
            discarded += 1;
            continue;
        }
        assert!(
            discarded == 0,
            "commits are sorted: none beyond a hole reaches back before it (LSN {})",
            info.first_lsn
        );
        assert!(
            replay.is_empty() || info.first_lsn == end + 1,
            "commits of one log do not overlap (LSN {})",
            info.first_lsn
        );
        end = info.last_lsn();
        after = Some(commit);
        replay.push(commit);
    }
    if end < durable && !mutant::on(Mutant::CutBelowDurable) {
        return Err(Damage { first_missing: end + 1, durable, after });
    }
    Ok(Verdict { replay, end, discarded, durable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit(first_lsn: Lsn, frames: u32, durable_lsn: Lsn) -> Found {
        Found { file: 0, info: CommitInfo { position: 0, first_lsn, durable_lsn, body_len: 1, frames } }
    }

    #[test]
    fn a_whole_log_is_replayed_from_where_the_checkpoint_ends() {
        let all = vec![commit(1, 3, 0), commit(4, 2, 3), commit(6, 1, 3)];
        let verdict = decide(all.clone(), 0, 0).unwrap();
        assert_eq!((verdict.replay.len(), verdict.end, verdict.discarded), (3, 6, 0));
        let verdict = decide(all, 4, 0).unwrap();
        assert_eq!((verdict.replay.len(), verdict.end), (2, 6), "the commit that holds LSN 5 is taken whole");
    }

    #[test]
    fn a_hole_above_the_durable_lsn_is_a_torn_tail() {
        let verdict = decide(vec![commit(1, 3, 0), commit(6, 1, 3)], 0, 0).unwrap();
        assert_eq!((verdict.end, verdict.discarded), (3, 1));
    }

    #[test]
    fn a_hole_at_or_below_the_durable_lsn_is_damage() {
        let damage = decide(vec![commit(1, 3, 0), commit(6, 1, 4)], 0, 0).unwrap_err();
        assert_eq!((damage.first_missing, damage.durable), (4, 4));
        let damage = decide(vec![commit(1, 3, 0)], 0, 5).unwrap_err();
        assert_eq!(damage.first_missing, 4, "the checkpoint's word counts too");
        assert!(decide(vec![commit(4, 1, 3)], 0, 0).is_err(), "a missing beginning is damage");
        assert!(decide(vec![commit(4, 1, 3)], 3, 0).is_ok());
    }

    #[test]
    fn an_empty_commit_only_states_what_is_durable() {
        let verdict = decide(vec![commit(1, 2, 0), commit(3, 0, 2)], 0, 0).unwrap();
        assert_eq!((verdict.end, verdict.durable), (2, 2));
        assert!(decide(vec![commit(3, 0, 2)], 0, 0).is_err());
    }

    proptest! {
        /// For any log and any set of commits lost: recovery keeps everything durable or reports damage, and
        /// keeps a gapless prefix.
        #[test]
        fn nothing_durable_is_cut(
            sizes in proptest::collection::vec((0u32..4, 0u64..3), 1..20),
            lost in proptest::collection::vec(any::<bool>(), 20),
            covered in 0u64..10,
        ) {
            let (mut next, mut durable, mut all) = (1, 0, Vec::new());
            for (frames, lag) in &sizes {
                all.push(commit(next, *frames, durable));
                next += u64::from(*frames);
                durable = durable.max((next - 1).saturating_sub(*lag));
            }
            let covered = covered.min(next - 1);
            let kept: Vec<_> = all.iter().zip(&lost).filter(|(_, lost)| !**lost).map(|(c, _)| *c).collect();
            let stated = kept.iter().map(|c| c.info.durable_lsn).max().unwrap_or(0).max(covered);
            match decide(kept, covered, 0) {
                Ok(verdict) => {
                    prop_assert!(verdict.end >= stated);
                    let mut end = covered;
                    for f in &verdict.replay {
                        prop_assert!(f.info.first_lsn <= end + 1);
                        end = f.info.last_lsn();
                    }
                    prop_assert_eq!(end, verdict.end);
                }
                Err(damage) => prop_assert!(damage.first_missing <= stated),
            }
        }
    }
}
