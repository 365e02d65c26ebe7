//! Write-ahead log files: the head, every commit with its frames, and what lies between them.

use ringlog_storage::PartitionKey;
use ringlog_storage::batch::peek;
use ringlog_storage::disk::BLOCK;
use ringlog_storage::wal::Lsn;
use ringlog_storage::wal::format::{
    COMMIT_HEAD, COMMIT_MAGIC, CommitInfo, FileUse, Frame, Frames, open_commit, open_own_commit,
};
use serde_json::{Map, Value, json};

use super::{Lines, Source, records};
use crate::cli::failure::Failure;

/// Prints a file.
pub fn dump(source: &Source, with_records: bool, out: &mut Lines) -> Result<(), Failure> {
    let bytes = source.read()?;
    let usage = FileUse::decode(&bytes);
    print_head(usage.as_ref(), out)?;
    for part in parts(&bytes, usage.as_ref()) {
        match part {
            Part::Commit(info) => print_commit(&bytes, &info, with_records, out)?,
            Part::Gap { kind, from, to } => {
                let len = to - from;
                out.line(
                    || format!("{from:>10}  {len} bytes: {}", kind.text()),
                    || json!({ "type": kind.name(), "position": from, "bytes": len, "what": kind.text() }),
                )?;
            }
        }
    }
    Ok(())
}

/// Prints what a file's first block says.
pub fn print_head(usage: Option<&FileUse>, out: &mut Lines) -> Result<(), Failure> {
    let Some(usage) = usage else {
        let what = "the file's head is damaged, or it was not used yet";
        return out.line(
            || format!("{:>10}  DAMAGED: {what}", 0),
            || json!({ "type": "damage", "position": 0, "bytes": BLOCK, "what": what }),
        );
    };
    out.line(
        || {
            format!(
                "{:>10}  head: generation {}, shard {}, use {} (id {:016x}), first LSN {}, {} bytes",
                0,
                usage.generation,
                usage.shard,
                usage.sequence,
                usage.use_id,
                usage.first_lsn,
                usage.file_bytes
            )
        },
        || {
            json!({ "type": "head", "position": 0, "generation": usage.generation, "shard": usage.shard,
                "sequence": usage.sequence, "use_id": format!("{:016x}", usage.use_id),
                "first_lsn": usage.first_lsn, "file_bytes": usage.file_bytes })
        },
    )
}

/// What the bytes between commits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// Zeros.
    Empty,
    /// Of a former use of the file.
    Former,
    /// A commit of this use whose checksum is wrong.
    Damaged,
}

impl GapKind {
    fn name(self) -> &'static str {
        match self {
            GapKind::Empty => "empty",
            GapKind::Former => "former_use",
            GapKind::Damaged => "damage",
        }
    }

    fn text(self) -> &'static str {
        match self {
            GapKind::Empty => "empty",
            GapKind::Former => "left from a former use of the file",
            GapKind::Damaged => "DAMAGED: a commit whose checksum is wrong (torn, if nothing valid follows)",
        }
    }
}

/// A part of a file behind its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A valid commit.
    Commit(CommitInfo),
    /// What lies between two commits.
    Gap {
        /// What it is.
        kind: GapKind,
        /// Its first byte.
        from: u64,
        /// The byte after it.
        to: u64,
    },
}

/// The parts of a file in their order. Without a head every whole commit counts, of whichever use.
pub fn parts(bytes: &[u8], usage: Option<&FileUse>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut at = BLOCK;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let found = match usage {
            Some(usage) => open_commit(rest, usage, at as u64),
            None => number(rest, 16).and_then(|generation| open_own_commit(rest, generation, at as u64)),
        };
        let Some(info) = found else {
            let to = (at + BLOCK).min(bytes.len());
            let kind = kind_of(&bytes[at..to], usage, at as u64);
            match parts.last_mut() {
                Some(Part::Gap { kind: last, to: end, .. }) if merges(*last, kind, rest) => *end = to as u64,
                _ => parts.push(Part::Gap { kind, from: at as u64, to: to as u64 }),
            }
            at = to;
            continue;
        };
        at += usize::try_from(info.disk_len()).expect("a commit fits its file");
        parts.push(Part::Commit(info));
    }
    parts
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().expect("eight bytes")))
}

/// Whether a block goes on with what the one before it is: the inside of a commit looks like anything.
fn merges(last: GapKind, kind: GapKind, block: &[u8]) -> bool {
    last == kind || (last != GapKind::Empty && kind == GapKind::Former && !block.starts_with(&COMMIT_MAGIC))
}

fn kind_of(block: &[u8], usage: Option<&FileUse>, position: u64) -> GapKind {
    let is_own = usage.is_none_or(|usage| number(block, 24) == Some(usage.use_id));
    if block.starts_with(&COMMIT_MAGIC) && is_own && number(block, 32) == Some(position) {
        GapKind::Damaged
    } else if block.iter().all(|byte| *byte == 0) {
        GapKind::Empty
    } else {
        GapKind::Former
    }
}

fn print_commit(bytes: &[u8], info: &CommitInfo, with_records: bool, out: &mut Lines) -> Result<(), Failure> {
    let position = info.position;
    let lsns = if info.frames == 0 {
        "no frames".to_owned()
    } else {
        format!("LSN {}..{}", info.first_lsn, info.last_lsn())
    };
    out.line(
        || {
            format!(
                "{position:>10}  commit: {lsns}, {} frames, {} bytes, durable LSN {}",
                info.frames, info.body_len, info.durable_lsn
            )
        },
        || {
            json!({ "type": "commit", "position": position, "first_lsn": info.first_lsn, "frames": info.frames,
                "body_bytes": info.body_len, "disk_bytes": info.disk_len(), "durable_lsn": info.durable_lsn })
        },
    )?;
    let start = usize::try_from(position).expect("it was read from memory") + COMMIT_HEAD;
    let body = &bytes[start..start + info.body_len as usize];
    let mut at = start;
    for ((key, frame), lsn) in Frames::of(body).zip(info.first_lsn..) {
        print_frame(lsn, at, &key, &frame, out)?;
        if let Frame::Append { batch, .. } = frame
            && with_records
        {
            records::print(batch.0, out)?;
        }
        at += frame.encoded_len();
    }
    Ok(())
}

fn print_frame(
    lsn: Lsn,
    at: usize,
    key: &PartitionKey,
    frame: &Frame<'_>,
    out: &mut Lines,
) -> Result<(), Failure> {
    let text = match frame {
        Frame::Append { segment, position, batch } => {
            let header =
                peek(batch.0).map_or_else(|e| format!("DAMAGED: {e}"), |info| records::header_text(&info));
            format!("append to segment {segment} at {position}: {header}")
        }
        Frame::LogStart { start } => format!("log start offset {start}"),
        Frame::Roll { segment } => format!("segment {segment} begins"),
        Frame::Delete => "partition deleted".to_owned(),
        Frame::Truncate { segment, position, end, producers, .. } => {
            let producers = if producers.is_empty() {
                "producers unchanged".to_owned()
            } else {
                format!("{} bytes of producers", producers.len())
            };
            format!("truncated to offset {end}: segment {segment} ends at {position}, {producers}")
        }
        Frame::Restart { start } => format!("truncated wholly: goes on at offset {start}"),
        Frame::EpochStart { epoch, start } => format!("leader epoch {epoch} begins at offset {start}"),
        Frame::HighWatermark { offset } => format!("high watermark {offset}"),
        Frame::Reference { segment, position, crc, header } => {
            let header =
                peek(header).map_or_else(|e| format!("DAMAGED: {e}"), |info| records::header_text(&info));
            format!("append in segment {segment} at {position}, CRC {crc:08x}: {header}")
        }
        Frame::BlockImage { segment, position, bytes } => {
            format!("image of segment {segment} at {position}, {} bytes", bytes.len())
        }
    };
    out.line(|| format!("{at:>10}    {lsn}  {key}  {text}"), || frame_json(lsn, at, key, frame))
}

fn frame_json(lsn: Lsn, at: usize, key: &PartitionKey, frame: &Frame<'_>) -> Value {
    let mut object = Map::new();
    object.insert("type".into(), json!("frame"));
    object.insert("lsn".into(), json!(lsn));
    object.insert("position".into(), json!(at));
    object.insert("bytes".into(), json!(frame.encoded_len()));
    object.insert("topic_id".into(), json!(key.topic));
    object.insert("partition".into(), json!(key.partition));
    let mut kind = |name: &str| object.insert("kind".into(), json!(name));
    match frame {
        Frame::Append { segment, position, batch } => {
            kind("append");
            object.insert("segment".into(), json!(segment));
            object.insert("segment_position".into(), json!(position));
            object.insert("batch".into(), batch_json(batch.0));
        }
        Frame::LogStart { start } => {
            kind("log_start");
            object.insert("log_start_offset".into(), json!(start));
        }
        Frame::Roll { segment } => {
            kind("roll");
            object.insert("segment".into(), json!(segment));
        }
        Frame::Delete => {
            kind("delete");
        }
        Frame::Truncate { segment, position, end, max_timestamp, producers } => {
            kind("truncate");
            object.insert("segment".into(), json!(segment));
            object.insert("segment_position".into(), json!(position));
            object.insert("log_end_offset".into(), json!(end));
            object.insert("max_timestamp_ms".into(), json!(max_timestamp));
            object.insert("producer_bytes".into(), json!(producers.len()));
        }
        Frame::Restart { start } => {
            kind("restart");
            object.insert("log_start_offset".into(), json!(start));
        }
        Frame::EpochStart { epoch, start } => {
            kind("epoch_start");
            object.insert("leader_epoch".into(), json!(epoch));
            object.insert("start_offset".into(), json!(start));
        }
        Frame::HighWatermark { offset } => {
            kind("high_watermark");
            object.insert("high_watermark".into(), json!(offset));
        }
        Frame::Reference { segment, position, crc, header } => {
            kind("reference");
            object.insert("segment".into(), json!(segment));
            object.insert("segment_position".into(), json!(position));
            object.insert("crc".into(), json!(format!("{crc:08x}")));
            object.insert("batch".into(), batch_json(header));
        }
        Frame::BlockImage { segment, position, bytes } => {
            kind("block_image");
            object.insert("segment".into(), json!(segment));
            object.insert("segment_position".into(), json!(position));
            object.insert("image_bytes".into(), json!(bytes.len()));
        }
    }
    Value::Object(object)
}

fn batch_json(batch: &[u8]) -> Value {
    match peek(batch) {
        Ok(info) => records::header_json(Map::new(), &info),
        Err(error) => json!({ "damage": error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlog_storage::wal::format::seal_commit;

    fn usage(use_id: u64) -> FileUse {
        FileUse { generation: 3, use_id, sequence: 1, file_bytes: 0, first_lsn: 1, shard: 0 }
    }

    fn commit(use_id: u64, position: usize, first_lsn: Lsn) -> Vec<u8> {
        let key = PartitionKey { topic: uuid::Uuid::from_u128(1), partition: 0 };
        let mut bytes = vec![0; BLOCK];
        let len = Frame::LogStart { start: 5 }.encode(&key, &mut bytes[COMMIT_HEAD..]);
        let info = CommitInfo {
            position: position as u64,
            first_lsn,
            durable_lsn: 0,
            body_len: u32::try_from(len).unwrap(),
            frames: 1,
        };
        seal_commit(&mut bytes, &usage(use_id), &info);
        bytes
    }

    #[test]
    fn every_kind_of_frame_is_shown() {
        let key = PartitionKey { topic: uuid::Uuid::from_u128(1), partition: 0 };
        let header = [0; 61];
        let frames = [
            (Frame::Delete, "delete"),
            (Frame::Roll { segment: 7 }, "roll"),
            (
                Frame::Truncate { segment: 7, position: 9, end: 8, max_timestamp: 5, producers: b"them" },
                "truncate",
            ),
            (Frame::Restart { start: 7 }, "restart"),
            (Frame::EpochStart { epoch: 3, start: 7 }, "epoch_start"),
            (Frame::HighWatermark { offset: 7 }, "high_watermark"),
            (Frame::Reference { segment: 7, position: 9, crc: 1, header: &header }, "reference"),
        ];
        for (frame, kind) in frames {
            let json = frame_json(1, 0, &key, &frame);
            assert_eq!(json["kind"], kind);
            let has_seven = json.as_object().unwrap().values().any(|value| *value == json!(7));
            assert!(has_seven || frame == Frame::Delete, "{json}");
        }
    }

    #[test]
    fn commits_damage_former_uses_and_empty_space_are_told_apart() {
        let mut bytes = usage(7).encode();
        bytes.extend(commit(7, BLOCK, 1));
        let mut damaged = commit(7, 2 * BLOCK, 2);
        damaged[COMMIT_HEAD + 30] ^= 1;
        bytes.extend(damaged);
        bytes.extend(commit(7, 3 * BLOCK, 3));
        bytes.extend(commit(6, 4 * BLOCK, 1));
        bytes.extend(vec![0; 2 * BLOCK]);
        let seen = parts(&bytes, Some(&usage(7)));
        let b = BLOCK as u64;
        assert!(matches!(seen[0], Part::Commit(info) if info.position == b));
        assert_eq!(seen[1], Part::Gap { kind: GapKind::Damaged, from: 2 * b, to: 3 * b });
        assert!(matches!(seen[2], Part::Commit(info) if info.first_lsn == 3));
        assert_eq!(seen[3], Part::Gap { kind: GapKind::Former, from: 4 * b, to: 5 * b });
        assert_eq!(seen[4], Part::Gap { kind: GapKind::Empty, from: 5 * b, to: 7 * b });
    }

    #[test]
    fn without_a_head_commits_are_found_by_what_they_say_themselves() {
        let mut bytes = vec![0xaa; BLOCK];
        bytes.extend(commit(9, BLOCK, 4));
        assert!(matches!(parts(&bytes, None)[..], [Part::Commit(info)] if info.first_lsn == 4));
    }
}
