//! Repairs that get a broker going again, each giving up no more than was accepted by name.
//!
//! Indexes that are wrong are removed: they are built again. A hole in a log is cut, if every partition that loses by
//! it is named; then the data are recovered as at a start, and every partition that is named and damaged is cut
//! before its first damage by writing the checkpoint that recovery made once more. What is cut off is copied to
//! `stray/damaged/` first, and removed from its place last, so that a crash in between loses nothing and doing it
//! again is right.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ringlog_storage::PartitionKey;
use ringlog_storage::checkpoint::{Checkpoint, Entry, PartitionState, SegmentState};
use ringlog_storage::disk::{Disk, Open, make_dirs_durably, parent, read_file, replace_file};
use ringlog_storage::layout::{self, Current};
use ringlog_storage::recovery::{FIRST_FILE_BYTES, Plan, recover};
use ringlog_storage::salvage::{Part, SegmentWalk};
use ringlog_storage::survey::{copy_range, cut};
use uuid::Uuid;

use super::look::{Folder, look};
use super::report::{Offsets, Repair, Report};
use crate::cli::failure::Failure;
use crate::machine::metadata::Image;
use crate::node::shard_of;
use crate::version_file;

/// Repairs what was found and accepted. Returns a line for each thing done.
pub fn repair(
    disk: &dyn Disk,
    folder: &Folder,
    report: &Report,
    accept_loss: &[String],
) -> Result<Vec<String>, Failure> {
    let accepted = accepted(folder, accept_loss)?;
    if folder.blind || !folder.has_image {
        return Err(Failure::failed(
            "nothing was changed: metadata, wal/CURRENT, a checkpoint or the head of a log file is damaged, which this \
             program cannot repair; `ringlog check` without --repair says where",
        ));
    }
    let cuts = cuts_wanted(report, &accepted)?;
    let truncates = report.findings.iter().any(|f| {
        matches!(f.repair, Repair::Truncate { .. }) && f.loses.iter().all(|o| accepted.contains(&o.key))
    });
    let failed = |e: io::Error| Failure::failed(format!("repairing failed: {e}; run it again"));
    let mut done = Vec::new();
    for finding in report.findings.iter().filter(|f| f.repair == Repair::RemoveIndex) {
        disk.remove_file(&finding.path).map_err(failed)?;
        disk.sync_dir(parent(&finding.path)).map_err(failed)?;
        done.push(format!("removed {}, which is built again", finding.path));
    }
    let Some(current) = folder.current.filter(|_| truncates || !cuts.is_empty()) else { return Ok(done) };
    for shard in &cuts {
        let hole = &folder.holes[shard];
        let aside = format!("{}/damaged/wal-{}-{shard}", layout::STRAY, current.generation);
        cut(disk, current.generation, *shard, hole, &aside)
            .map_err(|e| Failure::failed(format!("cutting the log failed: {e}; run it again")))?;
        done.push(format!(
            "cut the log of shard {shard} before LSN {}; its files are in {aside}",
            hole.first_missing
        ));
    }
    let generation = drain(disk, &folder.image, current)?;
    let current = Current { generation, ..current };
    let starts: BTreeMap<PartitionKey, i64> = folder
        .holes
        .values()
        .flat_map(|hole| hole.starts.iter().map(|(key, start)| (*key, *start)))
        .collect();
    change_states(disk, current, |state| {
        starts.get(&state.key).is_some_and(|start| raise_start(state, *start))
    })
    .map_err(failed)?;
    let (_, now) = look(disk).map_err(failed)?;
    let damaged_now = damaged(&now);
    for key in damaged(report).difference(&damaged_now) {
        let name = Offsets::new(&folder.image, *key, 0, 0).name();
        done.push(format!("{name} is whole again: the log still held what was damaged; nothing is lost"));
    }
    for finding in &now.findings {
        if let (Repair::Truncate { segment, bytes, end }, Some(loses)) =
            (&finding.repair, finding.loses.first())
            && accepted.contains(&loses.key)
        {
            let place = Place { segment: *segment, bytes: *bytes, end: *end };
            done.push(truncate(disk, current, loses, place).map_err(failed)?);
        }
    }
    Ok(done)
}

/// Partitions that are to be cut.
fn damaged(report: &Report) -> BTreeSet<PartitionKey> {
    let cut = report.findings.iter().filter(|finding| matches!(finding.repair, Repair::Truncate { .. }));
    cut.filter_map(|finding| finding.loses.first()).map(|loses| loses.key).collect()
}

/// The partitions that were named.
fn accepted(folder: &Folder, names: &[String]) -> Result<BTreeSet<PartitionKey>, Failure> {
    let key = |name: &String| {
        let (topic, partition) = name.rsplit_once('/')?;
        let partition = partition.parse().ok()?;
        let topic = folder.image.topic_id(topic).or_else(|| Uuid::try_parse(topic).ok())?;
        let key = PartitionKey { topic, partition };
        let is_known =
            folder.partitions.contains_key(&key) || folder.image.partition(topic, partition).is_some();
        is_known.then_some(key)
    };
    let wrong = |name: &String| {
        Failure::failed(format!("nothing was changed: there is no partition {name}; write it as TOPIC/INDEX"))
    };
    names.iter().map(|name| key(name).ok_or_else(|| wrong(name))).collect()
}

/// The shards whose logs are to be cut: all that have a hole, or it is refused.
fn cuts_wanted(report: &Report, accepted: &BTreeSet<PartitionKey>) -> Result<Vec<u32>, Failure> {
    let mut shards = Vec::new();
    for finding in &report.findings {
        let Repair::CutLog { shard } = finding.repair else { continue };
        let missing: Vec<String> = finding
            .loses
            .iter()
            .filter(|o| !accepted.contains(&o.key))
            .map(|o| format!("--accept-loss {}", o.name()))
            .collect();
        if !missing.is_empty() {
            return Err(Failure::failed(format!(
                "nothing was changed: {} is damaged, and cutting it there may lose records of partitions that were \
                 not named: {}",
                finding.path,
                missing.join(" ")
            )));
        }
        shards.push(shard);
    }
    Ok(shards)
}

/// Recovers the data as a start does, so that all that is good is in segments and in one checkpoint a shard.
fn drain(disk: &dyn Disk, image: &Image, current: Current) -> Result<u64, Failure> {
    let shards = current.shards as usize;
    version_file::upgrade(disk).map_err(|e| Failure::failed(format!("VERSION cannot be written: {e}")))?;
    let mut plan = Plan {
        shards: current.shards,
        shard_of: &|key| u32::try_from(shard_of(key, shards)).expect("below the number of shards"),
        knows: &|topic| image.topic(topic).is_some(),
        expects_data: image.topic_count() > 0,
        random: &mut || Uuid::new_v4().as_u64_pair().0,
        first_file_bytes: FIRST_FILE_BYTES,
    };
    let recovered =
        recover(disk, &mut plan).map_err(|e| Failure::failed(format!("recovering failed: {e}")))?;
    Ok(recovered.generation)
}

/// Writes each shard's checkpoint, which recovery has just made, with some of the states changed. `change` says
/// whether it changed the state.
fn change_states(
    disk: &dyn Disk,
    current: Current,
    mut change: impl FnMut(&mut PartitionState) -> bool,
) -> io::Result<()> {
    for shard in 0..current.shards {
        let path = layout::checkpoint_file(current.generation, shard, 0);
        let mut checkpoint = Checkpoint::decode(&read_file(disk, &path)?)
            .map_err(|bad| io::Error::other(format!("{path}, just written: {bad:?}")))?;
        let mut is_changed = false;
        for entry in &mut checkpoint.entries {
            if let Entry::State(state) = entry {
                is_changed |= change(state);
            }
        }
        if is_changed {
            replace_file(disk, &path, &checkpoint.encode())?;
        }
    }
    Ok(())
}

fn empty(base: i64) -> SegmentState {
    SegmentState { base, end: base, bytes: 0, max_timestamp: -1 }
}

/// The log starts at `start` or later; segments wholly below it are no part of it any more.
fn raise_start(state: &mut PartitionState, start: i64) -> bool {
    if start <= state.log_start {
        return false;
    }
    state.log_start = start;
    state.high_watermark = state.high_watermark.max(start);
    state.segments.retain(|segment| segment.end > start);
    if state.segments.is_empty() {
        state.segments.push(empty(start));
    }
    true
}

/// Where a partition is cut.
#[derive(Clone, Copy)]
struct Place {
    /// Base offset of the damaged segment.
    segment: i64,
    /// Bytes of it that are kept.
    bytes: u64,
    /// Offset after the last record that is kept.
    end: i64,
}

/// Cuts a state; `max_timestamp` is that of what is kept of the damaged segment.
fn cut_state(state: &mut PartitionState, place: Place, max_timestamp: i64) {
    state.segments.retain(|segment| segment.base < place.segment);
    if place.bytes > 0 {
        state.segments.push(SegmentState {
            base: place.segment,
            end: place.end,
            bytes: place.bytes,
            max_timestamp,
        });
    } else {
        state.segments.push(empty(place.end));
    }
    if state.end() < state.log_start {
        // The damage lies below the log start, in a segment that holds it: offsets are never given out twice.
        state.segments = vec![empty(state.log_start)];
    }
    let (mut epochs, mut producers) = (state.decode_epochs(), state.decode_producers());
    epochs.truncate_from_end(place.end);
    producers.truncate(place.end);
    state.epochs.clear();
    epochs.encode(&mut state.epochs);
    state.producers.clear();
    producers.snapshot(&mut state.producers);
    state.high_watermark = state.high_watermark.min(state.end());
}

fn max_timestamp(disk: &dyn Disk, path: &str, place: Place) -> io::Result<i64> {
    let mut max = -1;
    if place.bytes > 0 {
        let mut walk = SegmentWalk::open(disk, path, place.segment, Some(place.bytes))?;
        while let Some(Part::Batch { info, .. }) = walk.next_part() {
            max = max.max(info.max_timestamp);
        }
    }
    Ok(max)
}

/// Cuts a partition, after its bytes from there on are safe elsewhere.
fn truncate(disk: &dyn Disk, current: Current, loses: &Offsets, place: Place) -> io::Result<String> {
    let key = loses.key;
    let aside = format!("{}/damaged/{}/{}", layout::STRAY, key.topic, key.partition);
    make_dirs_durably(disk, &aside)?;
    let max = max_timestamp(disk, &layout::segment_file(&key, place.segment), place)?;
    // What was recorded before, and what is from now on.
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let shard = u32::try_from(shard_of(&key, current.shards as usize)).map_err(io::Error::other)?;
    let recorded =
        Checkpoint::decode(&read_file(disk, &layout::checkpoint_file(current.generation, shard, 0))?)
            .map_err(|bad| io::Error::other(format!("the checkpoint just written: {bad:?}")))?;
    for entry in recorded.entries {
        if let Entry::State(mut state) = entry
            && state.key == key
        {
            before = state.segments.clone();
            cut_state(&mut state, place, max);
            after = state.segments;
        }
    }
    let kept = |base: i64| after.iter().find(|s| s.base == base).map_or(0, |s| s.bytes);
    for segment in &before {
        let path = layout::segment_file(&key, segment.base);
        if kept(segment.base) == segment.bytes || !exists(disk, &path)? {
            continue;
        }
        let from = kept(segment.base);
        copy_range(disk, &path, from, &format!("{aside}/{:020}.from-{from}", segment.base))?;
    }
    change_states(disk, current, |state| {
        let is_it = state.key == key;
        if is_it {
            cut_state(state, place, max);
        }
        is_it
    })?;
    for segment in &before {
        let path = layout::segment_file(&key, segment.base);
        let bytes = kept(segment.base);
        if (bytes == segment.bytes && bytes > 0) || !exists(disk, &path)? {
            continue;
        }
        if bytes > 0 {
            let file = disk.open(&path, Open::Direct)?;
            file.set_len(bytes)?;
            file.sync()?;
        } else {
            disk.remove_file(&path)?;
        }
        let index = layout::index_file(&key, segment.base);
        let snapshot = layout::snapshot_file(&key, segment.base);
        // The producers before a segment's first record stay what they were while it has a record.
        let derived = [Some(index), Some(snapshot).filter(|_| bytes == 0)];
        for path in derived.into_iter().flatten() {
            if exists(disk, &path)? {
                disk.remove_file(&path)?;
            }
        }
        disk.sync_dir(parent(&path))?;
    }
    Ok(format!("cut {} at offset {}; what was behind it is in {aside}", loses.name(), place.end))
}

fn exists(disk: &dyn Disk, path: &str) -> io::Result<bool> {
    match disk.open(path, Open::Read) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> PartitionState {
        let mut state = PartitionState::fresh(PartitionKey { topic: Uuid::from_u128(1), partition: 0 });
        state.segments = vec![
            SegmentState { base: 0, end: 10, bytes: 100, max_timestamp: 5 },
            SegmentState { base: 10, end: 30, bytes: 200, max_timestamp: 9 },
        ];
        state
    }

    #[test]
    fn a_cut_keeps_what_lies_before_it() {
        let mut cut = state();
        cut_state(&mut cut, Place { segment: 10, bytes: 50, end: 14 }, 7);
        assert_eq!(cut.segments[1], SegmentState { base: 10, end: 14, bytes: 50, max_timestamp: 7 });
        let mut at_start = state();
        cut_state(&mut at_start, Place { segment: 10, bytes: 0, end: 10 }, -1);
        assert_eq!(at_start.segments, [state().segments[0], empty(10)]);
    }

    #[test]
    fn offsets_below_the_log_start_are_never_given_out_again() {
        let mut cut = state();
        cut.log_start = 20;
        cut_state(&mut cut, Place { segment: 10, bytes: 50, end: 14 }, 7);
        assert_eq!((cut.segments.clone(), cut.end()), (vec![empty(20)], 20));
    }

    #[test]
    fn a_raised_start_lets_go_of_what_lies_below() {
        let mut raised = state();
        assert!(raise_start(&mut raised, 12) && !raise_start(&mut raised, 12));
        assert_eq!((raised.log_start, raised.segments.len(), raised.segments[0].base), (12, 1, 10));
        assert!(raise_start(&mut raised, 50));
        assert_eq!(raised.segments, [empty(50)], "the log ended before it");
    }
}
