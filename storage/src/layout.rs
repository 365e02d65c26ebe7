//! Names of files and folders below the data folder, and the file that says which WAL generation is current.
//!
//! ```text
//! VERSION  LOCK                        format, cluster and node id; lock against a second process
//! wal/CURRENT                          the current generation and its number of shards
//! wal/<generation>/<shard>/<n>.wal     write-ahead log
//! checkpoint/<generation>/<shard>/<n>.ckpt
//! topics/<topic id>/<partition>/<base offset>.log, .idx
//! stray/                               data of topics that the metadata do not know
//! metadata/                            metadata log and snapshots
//! ```

use crate::PartitionKey;
use crate::disk::{Disk, read_file, replace_file};
use std::io;
use uuid::Uuid;

/// Folder of all partitions' data.
pub const TOPICS: &str = "topics";
/// Folder of data that belong to no known topic.
pub const STRAY: &str = "stray";
/// Folder of all WAL generations.
pub const WAL: &str = "wal";
/// Folder of all checkpoints.
pub const CHECKPOINT: &str = "checkpoint";
/// The file that says which WAL generation is current.
pub const CURRENT: &str = "wal/CURRENT";

/// Folder of a shard's WAL files.
#[must_use]
pub fn wal_dir(generation: u64, shard: u32) -> String {
    format!("{WAL}/{generation}/{shard}")
}

/// A WAL file.
#[must_use]
pub fn wal_file(generation: u64, shard: u32, file: u32) -> String {
    format!("{WAL}/{generation}/{shard}/{file:08}.wal")
}

/// Folder of a shard's checkpoints.
#[must_use]
pub fn checkpoint_dir(generation: u64, shard: u32) -> String {
    format!("{CHECKPOINT}/{generation}/{shard}")
}

/// A checkpoint file.
#[must_use]
pub fn checkpoint_file(generation: u64, shard: u32, sequence: u64) -> String {
    format!("{CHECKPOINT}/{generation}/{shard}/{sequence:012}.ckpt")
}

/// Folder of a topic.
#[must_use]
pub fn topic_dir(topic: Uuid) -> String {
    format!("{TOPICS}/{topic}")
}

/// Folder of a partition.
#[must_use]
pub fn partition_dir(key: &PartitionKey) -> String {
    format!("{TOPICS}/{}/{}", key.topic, key.partition)
}

/// A segment's records.
#[must_use]
pub fn segment_file(key: &PartitionKey, base: i64) -> String {
    format!("{}/{base:020}.log", partition_dir(key))
}

/// A sealed segment's index.
#[must_use]
pub fn index_file(key: &PartitionKey, base: i64) -> String {
    format!("{}/{base:020}.idx", partition_dir(key))
}

/// The current WAL generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its number.
    pub generation: u64,
    /// How many shards wrote it.
    pub shards: u32,
}

/// Reads which generation is current; `None` in a fresh folder.
///
/// # Errors
/// What the disk says; `InvalidData` where the file is damaged.
pub fn read_current(disk: &dyn Disk) -> io::Result<Option<Current>> {
    let bytes = match read_file(disk, CURRENT) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split_whitespace();
    let parsed = (|| {
        let (generation, shards) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let crc: u32 = words.next()?.parse().ok()?;
        (crc == current_crc(generation, shards)).then_some(Current { generation, shards })
    })();
    parsed
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: it says {text:?}")))
}

/// Makes a generation the current one, atomically and durably.
///
/// # Errors
/// What the disk says; the old generation is then still current, or the new one already is.
pub fn write_current(disk: &dyn Disk, current: Current) -> io::Result<()> {
    let Current { generation, shards } = current;
    let text = format!("{generation} {shards} {}\n", current_crc(generation, shards));
    replace_file(disk, CURRENT, text.as_bytes())
}

fn current_crc(generation: u64, shards: u32) -> u32 {
    crc32fast::hash(format!("{generation} {shards}").as_bytes())
}
