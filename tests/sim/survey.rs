//! What `ringlog check` goes by, compared with what is on the disk. The caller compares it with what recovery finds.

use crate::disk::SimDisk;
use ringlog_storage::PartitionKey;
use ringlog_storage::layout::{partition_dir, read_current, segment_file};
use ringlog_storage::survey::{Surveyed, survey};
use std::collections::BTreeMap;

/// Log start, log end and high watermark of every partition.
pub fn surveyed(disk: &SimDisk) -> BTreeMap<PartitionKey, (i64, i64, i64)> {
    let mut all = BTreeMap::new();
    let Some(current) = read_current(disk).expect("a readable folder") else { return all };
    for shard in 0..current.shards {
        let survey = survey(disk, current.generation, shard).unwrap_or_else(|e| panic!("survey: {e}"));
        for (key, partition) in survey.partitions {
            all.insert(key, (partition.log_start, partition.end, partition.high_watermark));
            check_files(disk, &key, &partition);
        }
    }
    all
}

/// What is called synced is there, and every file is known.
fn check_files(disk: &SimDisk, key: &PartitionKey, partition: &Surveyed) {
    let segments = &partition.state.segments;
    for segment in segments.iter().filter(|s| s.bytes > 0 && s.end > partition.log_start) {
        let path = segment_file(key, segment.base);
        let len = disk.contents(&path).map_or(0, |bytes| bytes.len() as u64);
        assert!(len >= segment.bytes, "{path}: {} bytes were synced, {len} are there", segment.bytes);
    }
    for path in disk.files(&partition_dir(key)) {
        let name = path.rsplit('/').next().expect("a path has a name");
        let base: i64 = name[..20].parse().expect("a base offset");
        let is_known = segments.iter().any(|s| s.base == base)
            || partition.log_segments.contains(&base)
            || partition.cut_segments.contains(&base);
        assert!(is_known, "{path}: a survey does not know it");
    }
}
