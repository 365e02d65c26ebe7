//! Appends that were written to their segments directly: which of those that a log refers to must be whole, and
//! whether they are. Looked at before anything is replayed.
//!
//! A direct append is written beyond the segment's recorded end before the commit that refers to it is, so:
//!
//! | the bytes are | and the frame is | then |
//! |---|---|---|
//! | whole | – | it is replayed |
//! | not whole | cut away, restarted or deleted by a later frame | it is replayed as zeros, which go with what is cut |
//! | not there with their segment | below the log start | as zeros: retention has removed the segment |
//! | not whole otherwise | at or below the durable LSN | **damage**: acknowledged data are gone |
//! | not whole otherwise | above it | **torn tail**: the log ends before the frame |

use super::Error;
use crate::PartitionKey;
use crate::batch::{BatchInfo, peek};
use crate::chunk::AlignedBuffer;
use crate::disk::{Disk, Open, block_ceil, block_floor};
use crate::layout;
use crate::wal::Lsn;
use crate::wal::format::Frame;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A frame that counts here: a reference, or what makes earlier ones void.
struct Mark {
    lsn: Lsn,
    key: PartitionKey,
    what: What,
}

enum What {
    Reference {
        segment: i64,
        position: u64,
        crc: u32,
        info: BatchInfo,
    },
    /// Records from here on are gone.
    Cut(i64),
    /// The log starts here: what lies below may be gone.
    Start(i64),
}

/// The references of a log, gathered frame by frame and then judged.
#[derive(Default)]
pub(crate) struct References {
    marks: Vec<Mark>,
    /// References whose bytes are whole.
    whole: BTreeSet<Lsn>,
}

impl References {
    /// Takes note of a frame that no checkpoint holds.
    pub fn note(&mut self, lsn: Lsn, key: PartitionKey, frame: &Frame<'_>) {
        let what = match *frame {
            Frame::Reference { segment, position, crc, header } => {
                let info = peek(header).expect("a commit with a right checksum holds whole headers");
                What::Reference { segment, position, crc, info }
            }
            Frame::Truncate { end, .. } => What::Cut(end),
            Frame::Restart { .. } | Frame::Delete => What::Cut(i64::MIN),
            Frame::LogStart { start } => What::Start(start),
            _ => return,
        };
        self.marks.push(Mark { lsn, key, what });
    }

    /// Reads what must be whole. Returns the last LSN to replay, `end` or less.
    ///
    /// # Errors
    /// [`Error::Damaged`] where acknowledged bytes are not whole, and what the disk says.
    pub fn judge(&mut self, disk: &dyn Disk, mut end: Lsn, durable: Lsn) -> Result<Lsn, Error> {
        loop {
            match self.first_bad(disk, end)? {
                None => return Ok(end),
                Some((lsn, damage)) if lsn <= durable => return Err(damage),
                // What was cut by a frame behind the new end is not cut after all: look again.
                Some((lsn, _)) => end = lsn - 1,
            }
        }
    }

    /// The first reference up to `end` that must be whole and is not.
    fn first_bad(&mut self, disk: &dyn Disk, end: Lsn) -> Result<Option<(Lsn, Error)>, Error> {
        let (mut cut, mut starts) = (BTreeMap::new(), BTreeMap::new());
        let mut first = None;
        self.whole.clear();
        for Mark { lsn, key, what } in self.marks.iter().rev().filter(|mark| mark.lsn <= end) {
            match what {
                What::Cut(at) => {
                    let known = cut.entry(*key).or_insert(*at);
                    *known = (*known).min(*at);
                }
                What::Start(at) => {
                    let known = starts.entry(*key).or_insert(*at);
                    *known = (*known).max(*at);
                }
                What::Reference { info, .. } if cut.get(key).is_some_and(|at| info.last_offset() >= *at) => {}
                What::Reference { segment, position, crc, info } => {
                    let path = layout::segment_file(key, *segment);
                    let is_below = starts.get(key).is_some_and(|start| info.last_offset() < *start);
                    match read(disk, &path, *position, info.size) {
                        Ok(bytes) if crc32fast::hash(&bytes) == *crc => {
                            self.whole.insert(*lsn);
                        }
                        Err(e) if e.kind() == io::ErrorKind::NotFound && is_below => {}
                        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::Io(e)),
                        _ => first = Some((*lsn, damaged(path, *position, info))),
                    }
                }
            }
        }
        Ok(first)
    }
}

fn damaged(path: String, position: u64, info: &BatchInfo) -> Error {
    let what = format!(
        "the append of offsets {} to {}, which was acknowledged and is only here, is damaged",
        info.base_offset,
        info.last_offset()
    );
    Error::Damaged { path, position: Some(position), what }
}

/// The bytes of a reference to replay: those in the segment, or zeros for one that goes again.
pub(super) fn bytes(
    disk: &dyn Disk,
    references: &References,
    lsn: Lsn,
    key: &PartitionKey,
    (segment, position): (i64, u64),
    header: &[u8],
) -> io::Result<Vec<u8>> {
    let size = peek(header).expect("a commit with a right checksum holds whole headers").size;
    if references.whole.contains(&lsn) {
        return read(disk, &layout::segment_file(key, segment), position, size);
    }
    let mut batch = vec![0; size];
    batch[..header.len()].copy_from_slice(header);
    Ok(batch)
}

/// Reads bytes of a segment; fewer where the file ends before.
fn read(disk: &dyn Disk, path: &str, position: u64, len: usize) -> io::Result<Vec<u8>> {
    let start = block_floor(position);
    let mut buffer = AlignedBuffer::zeroed((block_ceil(position + len as u64) - start) as usize);
    let read = disk.open(path, Open::ReadDirect)?.read_at(start, &mut buffer)?;
    let skip = (position - start) as usize;
    Ok(buffer[skip.min(read)..(skip + len).min(read)].to_vec())
}
