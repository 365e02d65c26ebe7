//! Tests of finding the place to cut a segment at, and of cutting its file.

use super::*;
use crate::batch::BatchBuilder;
use crate::chunk::Chunk;
use crate::compression::Codec;
use crate::disk::RealDisk;
use crate::producer::Verdict;
use proptest::prelude::*;

const BASE: i64 = 100;
const PATH: &str = "segment.log";

/// Batches one behind the other, of the given numbers of records, all of producer 7; with their bytes' ends.
fn segment(batches: &[i32]) -> (Vec<u8>, Vec<(i64, u64)>) {
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    let (mut offset, mut sequence) = (BASE, 0);
    for records in batches {
        let mut builder = BatchBuilder::new(Codec::None).producer(7, 0, sequence);
        (0..*records).for_each(|n| builder.push(i64::from(n), None, Some(&[1; 40]), &[]));
        bytes.extend(builder.build(offset, 3));
        offset += i64::from(*records);
        sequence += records;
        ends.push((offset, bytes.len() as u64));
    }
    (bytes, ends)
}

fn write(disk: &RealDisk, bytes: &[u8]) {
    let mut blocks = AlignedBuffer::zeroed(block_ceil(bytes.len() as u64).max(BLOCK as u64) as usize);
    blocks[..bytes.len()].copy_from_slice(bytes);
    disk.open(PATH, Open::Direct).unwrap().write_at(0, &blocks).unwrap();
}

/// A search in a segment of which the first `file_bytes` bytes are in its file and the rest in chunks.
fn search(bytes: &[u8], file_bytes: usize, to: i64) -> Search {
    let memory = bytes[file_bytes..].chunks(BLOCK).map(|part| {
        let chunk = Chunk::new(BLOCK);
        chunk.append(part);
        chunk.slice(0, part.len())
    });
    Search {
        path: PATH.to_owned(),
        file_bytes: file_bytes as u64,
        memory: memory.collect(),
        base: BASE,
        bytes: bytes.len() as u64,
        to,
        index_interval_bytes: 200,
        rebuild: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Wherever the bytes are, the cut comes before the batch that holds the offset.
    #[test]
    fn the_cut_comes_before_the_batch_that_holds_the_offset(
        batches in prop::collection::vec(1i32..40, 1..30),
        in_file in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
    ) {
        let (bytes, ends) = segment(&batches);
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(dir.path());
        let in_file = in_file.index(bytes.len() + 1);
        write(&disk, &bytes[..in_file]);
        let end = ends.last().unwrap().0;
        let to = BASE + at.index((end - BASE) as usize) as i64;
        let point = find(&disk, search(&bytes, in_file, to)).unwrap();
        let left = ends.iter().copied().take_while(|(end, _)| *end <= to).last().unwrap_or((BASE, 0));
        prop_assert_eq!((point.end, point.position), left);
        prop_assert_eq!((point.index.end_offset(), point.index.log_bytes()), left);
        prop_assert!(point.producers.is_empty(), "nobody asked for producers");
    }
}

fn rebuilt(disk: &RealDisk, before: Before, remembered: Producers) -> Producers {
    let (bytes, _) = segment(&[1; 8]);
    let mut search = search(&bytes, bytes.len(), BASE + 4);
    search.rebuild = Some(Rebuild { before, remembered });
    write(disk, &bytes);
    let point = find(disk, search).unwrap();
    Producers::restore(&point.producers, PRODUCERS_MAX).unwrap()
}

fn is_duplicate(producers: &Producers, at: usize) -> bool {
    let (bytes, ends) = segment(&[1; 8]);
    let start = if at == 0 { 0 } else { ends[at - 1].1 as usize };
    matches!(producers.check(&peek(&bytes[start..]).unwrap()), Verdict::Duplicate { .. })
}

/// Five batches are remembered: of eight, the last four cut, the first four must come back.
#[test]
fn batches_that_the_cut_ones_had_displaced_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path());
    let producers = rebuilt(&disk, Before::Memory(Vec::new()), Producers::new(PRODUCERS_MAX));
    let known: Vec<bool> = (0..8).map(|at| is_duplicate(&producers, at)).collect();
    assert_eq!(known, [true, true, true, true, false, false, false, false]);
}

/// With a snapshot the producers before the segment are those of the snapshot; without one, or with one of another
/// segment, those that are remembered from below the segment.
#[test]
fn producers_from_before_the_segment_stay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path());
    let mut earlier = BatchBuilder::new(Codec::None).producer(9, 0, 0);
    earlier.push(1, None, None, &[]);
    let info = peek(&earlier.build(BASE - 1, 3)).unwrap();
    let (empty, mut with) = (Producers::new(PRODUCERS_MAX), Producers::new(PRODUCERS_MAX));
    with.apply(&info, BASE - 1);
    let mut encoded = Vec::new();
    with.snapshot(&mut encoded);
    let knows = |producers: &Producers| producers.active().any(|producer| producer.producer_id == 9);
    assert!(knows(&rebuilt(&disk, Before::Memory(encoded.clone()), empty.clone())));
    let file = || Before::File("snapshot".to_owned());
    assert!(!knows(&rebuilt(&disk, file(), empty.clone())), "there is none");
    assert!(knows(&rebuilt(&disk, file(), with.clone())), "there is none, but it is remembered");
    crate::disk::replace_file(&disk, "snapshot", &snapshot::encode(BASE, &encoded)).unwrap();
    assert!(knows(&rebuilt(&disk, file(), empty.clone())));
    crate::disk::replace_file(&disk, "snapshot", &snapshot::encode(BASE + 1, &encoded)).unwrap();
    assert!(!knows(&rebuilt(&disk, file(), empty)), "of another segment");
}

#[test]
fn a_damaged_segment_is_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path());
    let (mut bytes, ends) = segment(&[3, 3, 3]);
    bytes[ends[0].1 as usize + 16] = 9;
    write(&disk, &bytes);
    let error = find(&disk, search(&bytes, bytes.len(), BASE + 7)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    let point = find(&disk, search(&bytes, bytes.len(), BASE + 2)).unwrap();
    assert_eq!(point.end, BASE, "damage behind the place does not matter");
    let mut longer = search(&bytes, bytes.len(), BASE + 2);
    longer.file_bytes = 1 << 20;
    disk.open(PATH, Open::Direct).unwrap().set_len(0).unwrap();
    assert_eq!(find(&disk, longer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn who_has_a_sealed_segment_open_keeps_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path());
    let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 7) as u8).collect();
    write(&disk, &bytes);
    let before = disk.open(PATH, Open::Read).unwrap();
    for part in [1, 5000, COPY_BYTES as u64, COPY_BYTES as u64 + 4097] {
        let keep = Some(Keep { log: PATH.to_owned(), bytes: part, is_sealed: true });
        let work = CutFiles { dir: String::new(), cuts: 1, keep, remove: vec!["not there".to_owned()] };
        write(&disk, &bytes);
        cut(&disk, &Files::new(1), &work).unwrap();
        let now = read_file(&disk, PATH).unwrap();
        assert_eq!(now.len() as u64, block_ceil(part));
        assert!(
            now[..part as usize] == bytes[..part as usize] && now[part as usize..].iter().all(|b| *b == 0)
        );
        let mut seen = vec![0; bytes.len()];
        assert_eq!(before.read_at(0, &mut seen).unwrap(), bytes.len(), "the old file is whole");
        assert!(seen == bytes);
    }
}
