//! Segments and their indexes.

use ringlog_storage::index::{IndexError, SegmentIndex};
use ringlog_storage::salvage::{Part, SegmentWalk};
use serde_json::{Map, json};

use super::{Lines, Source, records};
use crate::cli::failure::Failure;

/// Prints a segment, batch by batch.
pub fn dump(source: &Source, with_records: bool, out: &mut Lines) -> Result<(), Failure> {
    let base = source.base_offset().unwrap_or(0);
    let mut walk =
        SegmentWalk::open(source.disk(), &source.name, base, None).map_err(|e| source.failure(&e))?;
    let (mut expected, mut batches, mut damaged, end) = (base, 0u64, 0u64, walk.end());
    let mut behind_damage = false;
    while let Some(part) = walk.next_part() {
        match part {
            Part::Batch { position, info, bytes } => {
                batches += 1;
                if info.base_offset != expected && !std::mem::take(&mut behind_damage) {
                    let found = info.base_offset;
                    out.line(
                        || format!("{position:>12}  OFFSETS do not go on: {found} where {expected} should be"),
                        || json!({ "type": "offset_gap", "position": position, "expected": expected, "found": found }),
                    )?;
                }
                behind_damage = false;
                expected = info.last_offset() + 1;
                out.line(
                    || format!("{position:>12}  batch {}", records::header_text(&info)),
                    || {
                        let mut object = Map::new();
                        object.insert("type".into(), json!("batch"));
                        object.insert("position".into(), json!(position));
                        records::header_json(object, &info)
                    },
                )?;
                if with_records {
                    records::print(bytes, out)?;
                }
            }
            Part::Damage(found) => {
                behind_damage = true;
                let bytes = found.to - found.from;
                let kind = if found.is_zero { "zeros" } else { "damage" };
                damaged += if found.is_zero { 0 } else { bytes };
                out.line(
                    || {
                        let what = if found.is_zero {
                            "zeros (never written)".to_owned()
                        } else {
                            found.what.clone()
                        };
                        let word = if found.is_zero { "" } else { "DAMAGED: " };
                        format!("{:>12}  {bytes} bytes {word}{what}", found.from)
                    },
                    || json!({ "type": kind, "position": found.from, "bytes": bytes, "what": found.what }),
                )?;
            }
        }
    }
    let unreadable = walk.unreadable().to_vec();
    out.line(
        || format!("{end:>12}  end: {batches} batches, offsets {base}..{expected}, {damaged} bytes damaged"),
        || {
            json!({ "type": "end", "bytes": end, "batches": batches, "base_offset": base, "end_offset": expected,
                "damaged_bytes": damaged, "unreadable_blocks": unreadable })
        },
    )
}

/// Prints an index, entry by entry.
pub fn dump_index(source: &Source, out: &mut Lines) -> Result<(), Failure> {
    let bytes = source.read()?;
    match decode(&bytes, source.base_offset()) {
        Ok(index) => {
            out.line(
                || {
                    format!(
                        "index of offsets {}..{}, {} bytes of log, max time {}",
                        index.base_offset(),
                        index.end_offset(),
                        index.log_bytes(),
                        super::time_text(index.max_timestamp())
                    )
                },
                || {
                    json!({ "type": "index", "base_offset": index.base_offset(), "end_offset": index.end_offset(),
                        "log_bytes": index.log_bytes(), "max_timestamp_ms": index.max_timestamp() })
                },
            )?;
            for (place, before) in places(&index) {
                out.line(
                    || {
                        format!(
                            "  offset {} at {}, max time before {}",
                            place.0,
                            place.1,
                            super::time_text(before)
                        )
                    },
                    || {
                        json!({ "type": "entry", "offset": place.0, "position": place.1,
                            "max_timestamp_before_ms": before })
                    },
                )?;
            }
            Ok(())
        }
        Err(error) => {
            let what = format!("{error}; the broker builds it again from the segment at its first use");
            out.line(
                || format!("DAMAGED: {what}"),
                || json!({ "type": "damage", "position": 0, "what": what }),
            )
        }
    }
}

/// The index, for whatever log it says it is of.
fn decode(bytes: &[u8], base: Option<i64>) -> Result<SegmentIndex, IndexError> {
    match SegmentIndex::decode(bytes, base.unwrap_or(0), 0) {
        // The length of its log is not known here, nor its base where the file was renamed.
        Err(IndexError::OtherLog { base_offset, log_bytes })
            if base.is_none_or(|base| base == base_offset) =>
        {
            SegmentIndex::decode(bytes, base_offset, log_bytes)
        }
        other => other,
    }
}

/// The entries: offset and position of each, and the greatest timestamp of all batches before it.
fn places(index: &SegmentIndex) -> Vec<((i64, u64), i64)> {
    index.entries().map(|(place, before)| ((place.offset, place.position), before)).collect()
}
