//! Logs that refer to appends which were written to their segments directly: what recovery makes of them. No store
//! writes such logs, so they are written here by hand.

use crate::disk::{SimDisk, Survives};
use crate::rng::Rng;
use crate::shard::Buffer;
use ringlog_storage::PartitionKey;
use ringlog_storage::batch::{BatchBuilder, HEADER_BYTES};
use ringlog_storage::checkpoint::PartitionState;
use ringlog_storage::chunk::AlignedBuffer;
use ringlog_storage::compression::Codec;
use ringlog_storage::disk::{Disk, Open, block_ceil, read_file};
use ringlog_storage::layout;
use ringlog_storage::recovery::{Error, Plan, recover};
use ringlog_storage::survey::survey;
use ringlog_storage::wal::format::{FileUse, Frame};
use ringlog_storage::wal::writer::{WalSettings, WalWriter};
use uuid::Uuid;

const KEY: PartitionKey = PartitionKey { topic: Uuid::from_u128(1), partition: 0 };
const OTHER: PartitionKey = PartitionKey { topic: Uuid::from_u128(1), partition: 1 };

fn start(disk: &SimDisk) -> Result<(FileUse, Option<PartitionState>), Error> {
    let mut plan = Plan {
        shards: 1,
        shard_of: &|_| 0,
        knows: &|_| true,
        expects_data: false,
        random: &mut || 77,
        first_file_bytes: 1 << 20,
    };
    let shard = recover(disk, &mut plan)?.shards.remove(0);
    Ok((shard.first_file, shard.partitions.into_iter().find(|state| state.key == KEY)))
}

/// A batch of ten records and `bytes` bytes of a producer.
fn batch(offset: i64, bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).producer(7, 0, i32::try_from(offset).expect("small"));
    (0..10).for_each(|n| builder.push(n, None, Some(&vec![offset as u8 + 1; bytes / 10]), &[]));
    builder.build(offset, 3)
}

fn reference(batch: &[u8], position: u64) -> Frame<'_> {
    let crc = crc32fast::hash(batch);
    Frame::Reference { segment: 0, position, crc, header: &batch[..HEADER_BYTES] }
}

fn append(batch: &[u8], position: u64) -> Frame<'_> {
    Frame::Append { segment: 0, position, batch: (batch, &[]) }
}

/// A folder whose log has these frames, each in a commit of its own, and whose first segment has these bytes. The last
/// commit states that the first `durable` frames are.
fn folder(frames: &[Frame<'_>], durable: usize, segment: &[u8]) -> SimDisk {
    let frames: Vec<_> = frames.iter().map(|frame| (KEY, *frame)).collect();
    folder_of_two(&frames, durable, segment)
}

/// As [`folder`], with the partitions of the frames.
fn folder_of_two(frames: &[(PartitionKey, Frame<'_>)], durable: usize, segment: &[u8]) -> SimDisk {
    let disk = SimDisk::new(Rng::new(3));
    let (usage, _) = start(&disk).expect("an empty disk");
    let settings = WalSettings { file_bytes: 1 << 20, max_bytes: 4 << 20, commits_in_flight: 100 };
    let mut wal: WalWriter<Buffer> = WalWriter::new(settings, usage);
    let write = |wal: &mut WalWriter<Buffer>| {
        let submission = wal.submit().expect("room for a commit");
        let path = layout::wal_file(usage.generation, 0, submission.file);
        let write = disk.submit(&path, submission.position, &submission.buffer.0).expect("no crash is set");
        disk.complete(write).expect("no crash is set");
        submission.commit
    };
    for (n, (key, frame)) in frames.iter().enumerate() {
        wal.append(key, frame);
        let commit = write(&mut wal);
        if n < durable {
            wal.written(commit);
        }
    }
    if durable == frames.len() {
        wal.state_durable();
        write(&mut wal);
    }
    if !segment.is_empty() {
        let path = layout::segment_file(&KEY, 0);
        disk.make_dirs(&layout::partition_dir(&KEY)).expect("no crash is set");
        let mut blocks = AlignedBuffer::zeroed(block_ceil(segment.len() as u64) as usize);
        blocks[..segment.len()].copy_from_slice(segment);
        disk.open(&path, Open::Direct)
            .expect("no crash is set")
            .write_at(0, &blocks)
            .expect("no crash is set");
    }
    disk.power_on(Survives::Written);
    disk
}

/// What a survey says of the log's end is what recovery then finds.
fn recovered(disk: &SimDisk) -> PartitionState {
    let surveyed = survey(disk, 1, 0).expect("nothing is damaged").partitions[&KEY].clone();
    let state = start(disk).expect("nothing is damaged").1.expect("the partition is there");
    assert_eq!((surveyed.end, surveyed.log_start), (state.end(), state.log_start));
    state
}

fn stored(disk: &SimDisk, state: &PartitionState) -> Vec<u8> {
    let active = state.active();
    let mut bytes = read_file(disk, &layout::segment_file(&KEY, active.base)).unwrap_or_default();
    bytes.truncate(active.bytes as usize);
    bytes
}

/// Three batches: appended, referred to, appended; none at a block's start but the first.
fn three() -> [Vec<u8>; 3] {
    [batch(0, 500), batch(10, 20_000), batch(20, 300)]
}

#[test]
fn a_reference_is_replayed_like_an_append_wherever_a_crash_comes() {
    let all = three();
    let ends = [all[0].len(), all[0].len() + all[1].len()].map(|at| at as u64);
    let frames = [append(&all[0], 0), reference(&all[1], ends[0]), append(&all[2], ends[1])];
    // The direct write has the bytes before it in its first block as they are, or not yet.
    for before in [all[0].clone(), vec![0; all[0].len()]] {
        for crash_in in 0..40 {
            let disk = folder(&frames, 3, &[&before[..], &all[1]].concat());
            disk.crash_in(Some(crash_in));
            let crashed = start(&disk).is_err();
            disk.power_on(Survives::Percent(50));
            let state = start(&disk).expect("no crash is set").1.expect("the partition is there");
            assert_eq!(state.end(), 30);
            assert!(stored(&disk, &state) == all.concat(), "crash at operation {crash_in}");
            let producers = state.decode_producers();
            assert_eq!(producers.active().map(|p| p.last_sequence).collect::<Vec<_>>(), [29]);
            if !crashed {
                break;
            }
        }
    }
}

#[test]
fn a_damaged_reference_is_damage_below_the_durable_lsn_and_a_torn_tail_above_it() {
    let all = three();
    let ends = [all[0].len(), all[0].len() + all[1].len()].map(|at| at as u64);
    let frames = [append(&all[0], 0), reference(&all[1], ends[0]), append(&all[2], ends[1])];
    let whole = [&all[0][..], &all[1]].concat();
    for at in [ends[0], ends[0] + 70, ends[1] - 1] {
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 1;
        let disk = folder(&frames, 2, &bytes);
        for result in [start(&disk).map(|_| ()), survey(&disk, 1, 0).map(|_| ())] {
            let Err(Error::Damaged { path, position, what }) = result else { panic!("byte {at} is damaged") };
            assert_eq!((path, position), (layout::segment_file(&KEY, 0), Some(ends[0])));
            assert!(what.contains("offsets 10 to 19"), "{what}");
        }
        let state = recovered(&folder(&frames, 1, &bytes));
        assert_eq!(
            (state.end(), state.active().bytes),
            (10, ends[0]),
            "torn: nothing of it was acknowledged"
        );
    }
    // Cut short, and not there at all.
    let disk = folder(&frames, 2, &whole[..whole.len() - 8000]);
    assert!(matches!(start(&disk), Err(Error::Damaged { .. })));
    assert!(matches!(start(&folder(&frames, 2, &[])), Err(Error::Damaged { .. })));
    assert_eq!(recovered(&folder(&frames, 1, &[])).end(), 10);
}

#[test]
fn a_reference_that_was_cut_need_not_be_whole() {
    let all = three();
    let start = all[0].len() as u64;
    let cut = Frame::Truncate { segment: 0, position: start, end: 10, max_timestamp: 9, producers: &[] };
    let image = Frame::BlockImage { segment: 0, position: 0, bytes: &all[0] };
    let other = batch(10, 700);
    let frames = [
        append(&all[0], 0),
        reference(&all[1], start),
        append(&all[2], start + all[1].len() as u64),
        cut,
        image,
        append(&other, start),
    ];
    let disk = folder(&frames, frames.len(), &all[0]);
    let state = recovered(&disk);
    assert_eq!(state.end(), 20);
    assert!(stored(&disk, &state) == [&all[0][..], &other].concat(), "the second batch is the later one");
    // A cut that is torn away with a reference of another partition covers nothing.
    let other = batch(0, 5000);
    let frames = [
        (KEY, append(&all[0], 0)),
        (KEY, reference(&all[1], start)),
        (OTHER, reference(&other, 0)),
        (KEY, cut),
        (KEY, Frame::LogStart { start: 5 }),
    ];
    let state = recovered(&folder_of_two(&frames, 1, &all[0]));
    assert_eq!((state.end(), state.log_start), (10, 0));
    // Only what is cut need not be whole.
    let whole = [&all[0][..], &all[1]].concat();
    let third = batch(20, 9000);
    let behind = reference(&third, whole.len() as u64);
    let frames = [append(&all[0], 0), reference(&all[1], start), behind, cut];
    assert_eq!(recovered(&folder(&frames, 1, &all[0])).end(), 10, "a cut makes both void");
    let below = Frame::Truncate {
        segment: 0,
        position: whole.len() as u64,
        end: 20,
        max_timestamp: 9,
        producers: &[],
    };
    let frames = [append(&all[0], 0), reference(&all[1], start), behind, below];
    assert_eq!(recovered(&folder(&frames, 1, &whole)).end(), 20, "the first one is whole and not cut");
    assert_eq!(recovered(&folder(&frames, 1, &all[0])).end(), 10, "it is not cut, so it must be whole");
}

#[test]
fn a_reference_whose_segment_was_removed_or_whose_partition_went_is_not_missed() {
    let all = three();
    let end = all[0].len() as u64;
    let next = Frame::Append { segment: 20, position: 0, batch: (&all[2], &[]) };
    let frames = |last| [append(&all[0], 0), reference(&all[1], end), next, last];
    let moved = frames(Frame::LogStart { start: 20 });
    let state = recovered(&folder(&moved, 4, &[]));
    assert_eq!((state.log_start, state.end(), state.segments.len()), (20, 30, 1));
    let inside = frames(Frame::LogStart { start: 15 });
    assert!(matches!(start(&folder(&inside, 4, &[])), Err(Error::Damaged { .. })), "some of it may be read");
    let restarted = frames(Frame::Restart { start: 90 });
    assert_eq!(recovered(&folder(&restarted, 4, &[])).end(), 90);
    let (_, deleted) = start(&folder(&frames(Frame::Delete), 4, &[])).expect("nothing is damaged");
    assert_eq!(deleted, None);
}
