//! Checking a partition's segments, batch by batch, and their indexes against them.

use std::io;

use indicatif::ProgressBar;
use ringlog_storage::batch::{BatchInfo, HEADER_BYTES, RecordIter};
use ringlog_storage::checkpoint::SegmentState;
use ringlog_storage::compression::Codec;
use ringlog_storage::disk::{Disk, Open, read_file};
use ringlog_storage::index::{Place, SegmentIndex};
use ringlog_storage::layout;
use ringlog_storage::salvage::{Part, SegmentWalk};
use ringlog_storage::survey::Surveyed;

use super::report::{Finding, Offsets, Repair, Report};
use crate::machine::metadata::Image;

/// Something wrong in a segment.
struct Wrong {
    position: u64,
    what: String,
    /// Offset after the last good record before it.
    from: i64,
    /// First offset that is known to be good again.
    to: i64,
}

/// Checks one partition.
pub fn check_partition(
    disk: &dyn Disk,
    image: &Image,
    partition: &Surveyed,
    bar: &ProgressBar,
    report: &mut Report,
) -> io::Result<()> {
    let key = partition.state.key;
    let mut is_cut = false;
    let mut previous: Option<&SegmentState> = None;
    let last = partition.state.segments.len() - 1;
    for (at, segment) in partition.state.segments.iter().enumerate() {
        // Below the log start files may be gone already.
        if at < last && segment.end <= partition.log_start {
            continue;
        }
        let path = layout::segment_file(&key, segment.base);
        let mut wrongs = Vec::new();
        if let Some(before) = previous.filter(|before| before.end != segment.base) {
            let what =
                format!("the segment before it ends at offset {}, not where this one starts", before.end);
            wrongs.push(Wrong { position: 0, what, from: before.end, to: segment.base });
        }
        previous = Some(segment);
        check_segment(disk, &path, segment, at < last, bar, report, &mut wrongs)?;
        if at < last {
            check_index(disk, &layout::index_file(&key, segment.base), segment, &path, report)?;
        }
        for wrong in wrongs {
            let end = partition.end.max(partition.log_start);
            let repair = if is_cut {
                Repair::WithEarlier
            } else {
                Repair::Truncate { segment: segment.base, bytes: wrong.position, end: wrong.from }
            };
            let loses = if is_cut { Vec::new() } else { vec![Offsets::new(image, key, wrong.from, end)] };
            is_cut = true;
            report.findings.push(Finding {
                path: path.clone(),
                position: Some(wrong.position),
                what: wrong.what,
                touches: vec![Offsets::new(image, key, wrong.from, wrong.to)],
                repair,
                loses,
            });
        }
    }
    report.partitions += 1;
    Ok(())
}

/// Reads the recorded bytes of a segment.
fn check_segment(
    disk: &dyn Disk,
    path: &str,
    segment: &SegmentState,
    is_sealed: bool,
    bar: &ProgressBar,
    report: &mut Report,
    wrongs: &mut Vec<Wrong>,
) -> io::Result<()> {
    let mut walk = match SegmentWalk::open(disk, path, segment.base, Some(segment.bytes)) {
        Ok(walk) => walk,
        Err(e) if e.kind() == io::ErrorKind::NotFound && segment.bytes == 0 => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let what = format!("the file is missing, {} bytes of it were synced", segment.bytes);
            wrongs.push(Wrong { position: 0, what, from: segment.base, to: segment.end });
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    report.segments += 1;
    let size = disk.open(path, Open::Read)?.size()?;
    if is_sealed && size > segment.bytes {
        report.notes.push(format!("{path} is sealed with {} bytes and has {size}", segment.bytes));
    }
    let (mut expected, mut is_open) = (segment.base, None::<usize>);
    while let Some(part) = walk.next_part() {
        match part {
            Part::Batch { position, info, bytes } => {
                report.batches += 1;
                if let Some(at) = is_open.take() {
                    wrongs[at].to = info.base_offset.clamp(expected, segment.end.max(expected));
                } else if info.base_offset != expected {
                    let what = format!("offset {} follows where {expected} should", info.base_offset);
                    let to = info.base_offset.clamp(expected, segment.end.max(expected));
                    wrongs.push(Wrong { position, what, from: expected, to });
                } else if let Some(what) = bad_records(&info, bytes) {
                    wrongs.push(Wrong { position, what, from: expected, to: info.last_offset() + 1 });
                }
                expected = info.last_offset() + 1;
            }
            Part::Damage(damage) => {
                is_open = Some(wrongs.len());
                let what = format!("{} ({} bytes)", damage.what, damage.to - damage.from);
                wrongs.push(Wrong { position: damage.from, what, from: expected, to: segment.end });
            }
        }
        bar.set_position(report.bytes + walk.position());
    }
    let end = walk.end();
    if end < segment.bytes {
        let what = format!("the file ends here, {} bytes were synced", segment.bytes);
        wrongs.push(Wrong { position: end, what, from: expected, to: segment.end });
    } else if expected != segment.end && wrongs.is_empty() {
        let what = format!("the records end at offset {expected}, recorded is {}", segment.end);
        wrongs.push(Wrong { position: end, what, from: expected, to: segment.end });
    }
    if !walk.unreadable().is_empty() {
        report.notes.push(format!("{path}: the disk cannot read the blocks at {:?}", walk.unreadable()));
    }
    report.bytes += end;
    Ok(())
}

/// Whether the records of an uncompressed batch, whose checksum is right, are no records.
fn bad_records(info: &BatchInfo, batch: &[u8]) -> Option<String> {
    if info.compression() != Codec::None {
        return None;
    }
    let error = RecordIter::new(&batch[HEADER_BYTES..], info.record_count).find_map(Result::err)?;
    Some(format!("the records of the batch at offset {} cannot be read: {error}", info.base_offset))
}

/// Checks a sealed segment's index; that there is none is fine.
fn check_index(
    disk: &dyn Disk,
    path: &str,
    segment: &SegmentState,
    log: &str,
    report: &mut Report,
) -> io::Result<()> {
    let bytes = match read_file(disk, path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    report.bytes += bytes.len() as u64;
    let wrong = match SegmentIndex::decode(&bytes, segment.base, segment.bytes) {
        Ok(index) => compare(disk, log, segment, &index)?,
        Err(error) => Some(error.to_string()),
    };
    if let Some(what) = wrong {
        let mut finding = Finding::new(path, what, "");
        finding.repair = Repair::RemoveIndex;
        report.findings.push(finding);
    }
    Ok(())
}

/// What differs between an index and the batches of its segment; nothing where those are damaged, too.
fn compare(
    disk: &dyn Disk,
    log: &str,
    segment: &SegmentState,
    index: &SegmentIndex,
) -> io::Result<Option<String>> {
    let mut walk = match SegmentWalk::open(disk, log, segment.base, Some(segment.bytes)) {
        Ok(walk) => walk,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut entries = index.entries().peekable();
    let (mut end, mut max_timestamp) = (segment.base, -1);
    while let Some(part) = walk.next_part() {
        let Part::Batch { position, info, .. } = part else { return Ok(None) };
        if let Some((place, before)) = entries.next_if(|(place, _)| place.position <= position) {
            let right = (Place { offset: info.base_offset, position }, max_timestamp);
            if (place, before) != right {
                return Ok(Some(format!(
                    "the index's entry for byte {} is not what the segment has",
                    place.position
                )));
            }
        }
        end = info.last_offset() + 1;
        max_timestamp = max_timestamp.max(info.max_timestamp);
    }
    let same =
        entries.next().is_none() && (index.end_offset(), index.max_timestamp()) == (end, max_timestamp);
    Ok((!same).then(|| "the index's end, or greatest timestamp, is not the segment's".to_owned()))
}
