//! Tests of the store's jobs and their limits.

use super::*;
use crate::store::LogSettings;
use crate::store::fixture::{batch, commit_all, open, store, take_jobs};

#[test]
fn removing_many_partitions_leaves_flushing_its_room() {
    const PARTITIONS: i32 = 100;
    let mut store = store();
    let gone: Vec<_> =
        (0..PARTITIONS).map(|partition| open(&mut store, partition, LogSettings::default())).collect();
    let kept = PARTITIONS..PARTITIONS + FLUSHES_MAX as i32;
    let kept: Vec<_> = kept.map(|partition| open(&mut store, partition, LogSettings::default())).collect();
    for ix in gone {
        store.delete(ix);
    }
    commit_all(&mut store);
    let mut out = take_jobs(&mut store);
    let count = |out: &[(JobId, &str)], name: &str| out.iter().filter(|job| job.1 == name).count();
    assert_eq!(count(&out, "remove partition"), REMOVALS_MAX);
    // It fills a partition's first chunk, which is then to be written.
    let large = batch(1, 20 << 10);
    for ix in kept {
        assert!(!store.must_load_block(ix));
        store.append(ix, &large, 0, 1);
    }
    commit_all(&mut store);
    out.extend(take_jobs(&mut store));
    assert_eq!(count(&out, "write segment"), FLUSHES_MAX, "as many as without the removals");
    let mut removed = 0;
    while let Some(at) = out.iter().position(|job| job.1 == "remove partition") {
        store.job_done(out.remove(at).0, Output::Done);
        store.check();
        removed += 1;
        out.extend(take_jobs(&mut store));
        assert!(count(&out, "remove partition") <= REMOVALS_MAX);
    }
    assert_eq!(removed, PARTITIONS, "each comes to its turn");
}
