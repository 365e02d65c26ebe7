//! A store for tests, driven by hand.

use super::{LogSettings, PartitionIx, Store, StoreSettings, StoreState};
use crate::PartitionKey;
use crate::batch::{BatchBuilder, Checked, Compression, Rules, TimestampType, check};
use crate::checkpoint::PartitionState;
use crate::compression::Codec;
use crate::job::JobId;
use crate::wal::format::FileUse;
use crate::wal::writer::WalSettings;
use uuid::Uuid;

/// A fresh store; its WAL has files of 1 MiB and may take 4.
pub fn store() -> Store<Vec<u8>> {
    store_of(Vec::new())
}

/// The same with what recovery found.
pub fn store_of(partitions: Vec<PartitionState>) -> Store<Vec<u8>> {
    let wal = WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: 4 };
    let settings =
        StoreSettings { wal, memory_bytes: 1 << 20, checkpoint_bytes: 1 << 20, checkpoint_ms: 1000 };
    let first_file =
        FileUse { generation: 1, use_id: 1, sequence: 1, file_bytes: 1 << 20, first_lsn: 1, shard: 0 };
    Store::new(settings, StoreState { shard: 0, first_file, partitions, next_checkpoint: 1 }, 7)
}

/// Opens a partition of the one topic.
pub fn open(store: &mut Store<Vec<u8>>, partition: i32, settings: LogSettings) -> PartitionIx {
    store.open(PartitionKey { topic: Uuid::from_u128(1), partition }, settings)
}

/// A batch with one record of this time and size.
pub fn batch(time: i64, bytes: usize) -> Checked<'static> {
    let rules = Rules {
        max_message_bytes: 1 << 20,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: i64::MAX,
        compression: Compression::Producer,
        keys_required: false,
        decompressed_max_bytes: 1 << 20,
        zstd_allowed: true,
        from_coordinator: false,
    };
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(time, None, Some(&vec![7; bytes]), &[]);
    check(&builder.build(0, -1), &rules, time).expect("a good batch").into_owned()
}

/// Makes all that was appended durable.
pub fn commit_all(store: &mut Store<Vec<u8>>) {
    while let Some((submission, _)) = store.next_commit() {
        store.commit_written(submission.commit);
    }
}

/// The jobs that are due, by name.
pub fn take_jobs(store: &mut Store<Vec<u8>>) -> Vec<(JobId, &'static str)> {
    std::iter::from_fn(|| store.next_job().map(|(id, job)| (id, job.name()))).collect()
}
