//! The check itself: reads everything, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use ringlog_storage::PartitionKey;
use ringlog_storage::disk::{Disk, read_file};
use ringlog_storage::layout::{self, Current};
use ringlog_storage::recovery::Error;
use ringlog_storage::survey::{Hole, Surveyed, survey};
use uuid::Uuid;

use super::report::{Finding, Offsets, Repair, Report};
use super::segments::check_partition;
use crate::cli::output;
use crate::control::metadata_log;
use crate::machine::metadata::Image;
use crate::version_file::VersionFile;

const RESTORE: &str = "restore it from a copy; with replicas, start this node with an empty data folder";

/// What the data folder holds, as far as it could be read.
#[derive(Default)]
pub struct Folder {
    /// The metadata.
    pub image: Image,
    /// Whether the metadata could be read.
    pub has_image: bool,
    /// Which generation is current.
    pub current: Option<Current>,
    /// All partitions.
    pub partitions: BTreeMap<PartitionKey, Surveyed>,
    /// Holes in the shards' logs.
    pub holes: BTreeMap<u32, Hole>,
    /// Shards that could not be surveyed: nothing is known of their partitions.
    pub blind: bool,
}

/// Checks everything.
pub fn look(disk: &dyn Disk) -> io::Result<(Folder, Report)> {
    let (mut folder, mut report) = (Folder::default(), Report::default());
    match metadata_log::read(disk).map(|committed| committed.image) {
        Ok(image) => (folder.image, folder.has_image) = (image, true),
        Err(error) => report.findings.push(Finding::new("metadata", error.to_string(), RESTORE)),
    }
    check_version(disk, &folder, &mut report);
    match layout::read_current(disk) {
        Ok(None) if folder.image.topic_count() > 0 => {
            folder.blind = true;
            let what = "it is missing, but the metadata know topics";
            report.findings.push(Finding::new(layout::CURRENT, what, RESTORE));
        }
        Ok(current) => folder.current = current,
        Err(error) => {
            folder.blind = true;
            report.findings.push(Finding::new(layout::CURRENT, error.to_string(), RESTORE));
        }
    }
    if let Some(Current { generation, shards }) = folder.current {
        for shard in 0..shards {
            look_at_shard(disk, generation, shard, &mut folder, &mut report)?;
        }
    }
    let total = folder.partitions.values().flat_map(|p| &p.state.segments).map(|s| s.bytes).sum();
    let bar = output::progress(Some(total), "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}");
    for partition in folder.partitions.values() {
        check_partition(disk, &folder.image, partition, &bar, &mut report)?;
    }
    bar.finish_and_clear();
    look_for_strangers(disk, &folder, &mut report)?;
    Ok((folder, report))
}

fn check_version(disk: &dyn Disk, folder: &Folder, report: &mut Report) {
    let bytes = match read_file(disk, "VERSION") {
        Ok(bytes) => bytes,
        Err(error) => {
            report.findings.push(Finding::new("VERSION", format!("cannot be read: {error}"), RESTORE));
            return;
        }
    };
    let wrong = match toml::from_str::<VersionFile>(&String::from_utf8_lossy(&bytes)) {
        Err(error) => Some(format!("is damaged: {}", error.message())),
        Ok(version) if version.format > crate::version_file::FORMAT => {
            Some(format!("names format {}, newer than this binary", version.format))
        }
        Ok(version) if folder.image.cluster_id().is_some_and(|id| id != version.cluster_id) => {
            Some("names another cluster than the metadata".to_owned())
        }
        Ok(_) => None,
    };
    report.findings.extend(wrong.map(|what| Finding::new("VERSION", what, RESTORE)));
}

fn look_at_shard(
    disk: &dyn Disk,
    generation: u64,
    shard: u32,
    folder: &mut Folder,
    report: &mut Report,
) -> io::Result<()> {
    let survey = match survey(disk, generation, shard) {
        Ok(survey) => survey,
        Err(Error::Io(e)) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        Err(error) => {
            folder.blind = true;
            let (path, position, what) = match error {
                Error::Damaged { path, position, what } => (path, position, what),
                Error::Io(e) => (layout::checkpoint_dir(generation, shard), None, e.to_string()),
            };
            let mut finding = Finding::new(path, what, RESTORE);
            finding.position = position;
            report.findings.push(finding);
            return Ok(());
        }
    };
    if survey.torn > 0 {
        report.notes.push(format!(
            "shard {shard}: {} torn commits at the log's end, never acknowledged: the next start cuts them",
            survey.torn
        ));
    }
    if let Some(hole) = survey.hole {
        report.findings.push(hole_finding(&hole, shard, &survey.partitions, &folder.image));
        folder.holes.insert(shard, hole);
    }
    folder.partitions.extend(survey.partitions);
    Ok(())
}

fn hole_finding(
    hole: &Hole,
    shard: u32,
    partitions: &BTreeMap<PartitionKey, Surveyed>,
    image: &Image,
) -> Finding {
    let mut what = format!(
        "frames {}..{} of shard {shard}'s log were acknowledged and are missing or damaged",
        hole.first_missing, hole.durable
    );
    if hole.is_vague {
        what.push_str("; which partitions they are of cannot be told, it may be any of the shard");
    }
    let touches: Vec<Offsets> = hole
        .touched
        .iter()
        .map(|(key, end)| Offsets::new(image, *key, partitions.get(key).map_or(0, |p| p.end), *end))
        .collect();
    Finding {
        path: hole.path.clone(),
        position: hole.position,
        what,
        loses: touches.clone(),
        touches,
        repair: Repair::CutLog { shard },
    }
}

fn names(disk: &dyn Disk, dir: &str) -> io::Result<Vec<(String, bool)>> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.into_iter().map(|e| (e.name, e.is_dir)).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Reports what nobody knows, and notes what is waiting to be removed or was set aside.
fn look_for_strangers(disk: &dyn Disk, folder: &Folder, report: &mut Report) -> io::Result<()> {
    const KNOWN: [&str; 8] =
        ["VERSION", "LOCK", "RESERVE", "metadata", "wal", "checkpoint", "topics", "stray"];
    const UNKNOWN: &str = "ringlog does not know it and leaves it alone: move it elsewhere";
    let mut strangers = Vec::new();
    for (name, _) in names(disk, "")? {
        if !KNOWN.contains(&name.as_str()) {
            strangers.push(name);
        }
    }
    for (name, is_dir) in names(disk, "metadata")? {
        if is_dir || !(name == "snapshot" || name.ends_with(".log")) {
            strangers.push(format!("metadata/{name}"));
        }
    }
    if let (Some(current), false) = (folder.current, folder.blind) {
        for (dir, ending) in [(layout::WAL, ".wal"), (layout::CHECKPOINT, ".ckpt")] {
            look_at_generations(disk, dir, ending, current, &mut strangers, report)?;
        }
        look_at_topics(disk, folder, &mut strangers, report)?;
    }
    for (name, _) in names(disk, layout::STRAY)? {
        report.notes.push(format!("{}/{name} was set aside", layout::STRAY));
    }
    for path in strangers {
        if path.ends_with(".tmp") {
            report.notes.push(format!("{path} was being written when a former process ended"));
        } else {
            report.findings.push(Finding::new(path, "nobody knows this file", UNKNOWN));
        }
    }
    Ok(())
}

fn look_at_generations(
    disk: &dyn Disk,
    dir: &str,
    ending: &str,
    current: Current,
    strangers: &mut Vec<String>,
    report: &mut Report,
) -> io::Result<()> {
    for (name, is_dir) in names(disk, dir)? {
        let path = format!("{dir}/{name}");
        match name.parse::<u64>() {
            Ok(generation) if is_dir && generation == current.generation => {}
            Ok(_) if is_dir => {
                report.notes.push(format!("{path} is of another generation: the next start removes it"));
                continue;
            }
            _ if path == "wal/CURRENT" => continue,
            _ => {
                strangers.push(path);
                continue;
            }
        }
        for (shard, is_dir) in names(disk, &path)? {
            let inside = format!("{path}/{shard}");
            if !is_dir || !shard.parse::<u32>().is_ok_and(|shard| shard < current.shards) {
                strangers.push(inside);
                continue;
            }
            let files = names(disk, &inside)?;
            strangers.extend(
                files.iter().filter(|f| f.1 || !f.0.ends_with(ending)).map(|f| format!("{inside}/{}", f.0)),
            );
        }
    }
    Ok(())
}

fn look_at_topics(
    disk: &dyn Disk,
    folder: &Folder,
    strangers: &mut Vec<String>,
    report: &mut Report,
) -> io::Result<()> {
    for (name, is_dir) in names(disk, layout::TOPICS)? {
        let path = format!("{}/{name}", layout::TOPICS);
        let Some(topic) = Uuid::try_parse(&name).ok().filter(|_| is_dir) else {
            strangers.push(path);
            continue;
        };
        if folder.has_image && folder.image.topic(topic).is_none() {
            report
                .notes
                .push(format!("{path}: the metadata know no such topic, the next start sets it aside"));
            continue;
        }
        for (name, is_dir) in names(disk, &path)? {
            let inside = format!("{path}/{name}");
            let key = name.parse().ok().map(|partition| PartitionKey { topic, partition });
            let known = key.and_then(|key| folder.partitions.get(&key)).filter(|_| is_dir);
            let Some(partition) = known else {
                strangers.push(inside);
                continue;
            };
            let files = known_files(partition);
            let there = names(disk, &inside)?;
            strangers.extend(
                there.into_iter().map(|f| format!("{inside}/{}", f.0)).filter(|f| !files.contains(f)),
            );
        }
    }
    Ok(())
}

fn known_files(partition: &Surveyed) -> BTreeSet<String> {
    let bases = partition.state.segments.iter().map(|s| s.base).chain(partition.log_segments.iter().copied());
    let key = &partition.state.key;
    bases.flat_map(|base| [layout::segment_file(key, base), layout::index_file(key, base)]).collect()
}
