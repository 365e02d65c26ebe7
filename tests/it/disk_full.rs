//! A full disk: produce is refused, reading and deleting go on, and it works again when there is room; also across
//! a kill. On a small ext4 of its own, mounted from a file.
//!
//! Where this user may not mount, the test fails and says so, unless `RINGLOG_NO_MOUNT=1` says that it may be left
//! out.

use kafka_protocol::messages::ProduceRequest;
use ringlog_tests::broker::{Broker, Start, folder};
use ringlog_tests::client::{Client, decode, frame, read_frame};
use ringlog_tests::requests::{KEPT_FROM, PRODUCE, produce, produced, record};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const STORAGE_ERROR: i16 = 56;
const DISK_BYTES: u64 = 256 << 20;
/// More than the disk takes: a broker that never refuses is found.
const TRIES: usize = 600;

/// A mounted file system, gone with the value.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

pub(crate) fn run(command: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(command).args(args).output().map_err(|e| format!("{command}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl SmallDisk {
    fn new() -> Result<SmallDisk, String> {
        let disk = SmallDisk { folder: folder() };
        let image = disk.folder.path().join("image");
        std::fs::create_dir(disk.mount_point()).map_err(|e| e.to_string())?;
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(DISK_BYTES).map_err(|e| e.to_string())?;
        let (image, point) = (image.display().to_string(), disk.mount_point().display().to_string());
        run("mkfs.ext4", &["-q", "-m", "0", &image])?;
        run("mount", &["-o", "loop", &image, &point])?;
        Ok(disk)
    }

    pub(crate) fn mount_point(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.mount_point().join("data")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A killed process's ring holds the files for a moment longer than the process is there.
        let _ = run("umount", &["--lazy", &self.mount_point().display().to_string()]);
    }
}

fn start(data: &Path) -> Broker {
    Start::new(data).set("wal.max.bytes", 16 << 20).set("ringlog.memory.bytes", 16 << 20).ready()
}

/// Produces until it is refused for want of room; gives what was taken.
fn fill(client: &mut Client, topic: &str) -> Vec<Vec<u8>> {
    let (mut taken, mut first) = (Vec::new(), None);
    for n in 0..TRIES {
        let batch = record(&n.to_be_bytes().repeat(100_000));
        match client.produce(topic, 0, batch.clone()) {
            (0, offset) => assert_eq!(offset - *first.get_or_insert(offset), taken.len() as i64),
            (error, _) => {
                assert_eq!(error, STORAGE_ERROR);
                return taken;
            }
        }
        taken.push(batch[KEPT_FROM..].to_vec());
    }
    panic!("{TRIES} records of 800 KB were taken by a disk of {DISK_BYTES} bytes");
}

fn holds(client: &mut Client, topic: &str, from: i64, taken: &[Vec<u8>]) {
    let stored = client.read_all(topic, 0, from);
    let expected = &taken[from as usize..];
    assert_eq!(stored.len(), expected.len());
    assert!(stored.iter().zip(expected).all(|(stored, taken)| stored.bytes[KEPT_FROM..] == taken[..]));
}

/// Produce works again once the broker has seen that there is room.
fn works_again(client: &mut Client, topic: &str) {
    let deadline = ringlog::clock::monotonic_ms() + 20_000;
    while ringlog::clock::monotonic_ms() < deadline {
        if client.produce(topic, 0, record(b"again")).0 == 0 {
            return;
        }
    }
    panic!("produce is still refused though there is room");
}

pub(crate) fn with_small_disk(test: impl FnOnce(&SmallDisk)) {
    match SmallDisk::new() {
        Ok(disk) => test(&disk),
        Err(why) if std::env::var_os("RINGLOG_NO_MOUNT").is_some() => {
            println!("NOT RUN: no small file system can be mounted here: {why}");
        }
        Err(why) => panic!(
            "NOT RUN: no small file system can be mounted here ({why}); RINGLOG_NO_MOUNT=1 leaves it out"
        ),
    }
}

#[test]
fn a_full_disk_refuses_produce_and_nothing_else() {
    with_small_disk(|disk| {
        let broker = start(&disk.data());
        let mut client = broker.client();
        let configs = [("segment.bytes", "8388608"), ("file.delete.delay.ms", "0")];
        client.create_topic("kept", 1, &configs);
        client.create_topic("spare", 1, &configs);
        assert_eq!(client.produce("spare", 0, record(&[1; 900_000])), (0, 0));
        let taken = fill(&mut client, "kept");
        broker.wait_stderr("produce is refused until there is room", 1);
        let (status, why) = broker.get("/health/ready");
        assert_eq!((status, why.contains("disk is full")), (503, true), "{why}");
        assert_eq!(broker.get("/health/live").0, 200);
        holds(&mut client, "kept", 0, &taken);
        // kill -9 and start while it is full. What recovery gave back of the log is soon taken again.
        broker.kill();
        let broker = start(&disk.data());
        let mut client = broker.client();
        holds(&mut client, "kept", 0, &taken);
        let taken = [taken, fill(&mut client, "kept")].concat();
        broker.wait_stderr("produce is refused until there is room", 1);
        assert_eq!(broker.get("/health/ready").0, 503);
        // Deleting makes room.
        assert_eq!(client.delete_topic("spare"), 0);
        let start_at = taken.len() as i64 / 2;
        assert_eq!(client.delete_records("kept", 0, start_at), (0, start_at));
        works_again(&mut client, "kept");
        assert_eq!(client.fetch("kept", 0, start_at - 1).error_code, 1);
        let stored = client.read_all("kept", 0, start_at);
        let old = stored.iter().zip(&taken[start_at as usize..]);
        assert!(old.clone().count() == taken.len() - start_at as usize);
        assert!(old.clone().all(|(stored, taken)| stored.bytes[KEPT_FROM..] == taken[..]));
        broker.stop();
    });
}

/// Appends are taken until there is no room for what must be written because of them; a stop then ends, and what
/// was acknowledged is there when there is room again.
#[test]
fn a_stop_on_a_full_disk_ends_in_order() {
    const CONNECTIONS: usize = 4;
    with_small_disk(|disk| {
        let broker = start(&disk.data());
        let mut client = broker.client();
        client.create_topic("t", 4, &[("segment.bytes", "8388608")]);
        let (tell, told) = std::sync::mpsc::channel();
        let floods: Vec<_> = (0..CONNECTIONS as i32)
            .map(|partition| {
                let (mut client, tell) = (broker.client(), tell.clone());
                std::thread::spawn(move || flood(&mut client, partition, &tell))
            })
            .collect();
        // They are at work. Then somebody takes all the room there is.
        (0..20).for_each(|_| told.recv().unwrap());
        let (ballast, rest) = (disk.mount_point().join("ballast"), disk.mount_point().join("rest"));
        let avail = format!("df -BM --output=avail {} | tail -1 | tr -dc 0-9", disk.mount_point().display());
        run("sh", &["-c", &format!("fallocate -l $(($({avail}) - 30))M {}", ballast.display())]).unwrap();
        run("sh", &["-c", &format!("cat /dev/zero 2> /dev/null > {} || true", rest.display())]).unwrap();
        broker.wait_stderr("produce is refused until there is room", 1);
        broker.stop();
        let acknowledged: Vec<i64> = floods.into_iter().map(|flood| flood.join().unwrap()).collect();
        std::fs::remove_file(&ballast).unwrap();
        std::fs::remove_file(&rest).unwrap();
        let broker = start(&disk.data());
        let mut client = broker.client();
        for (partition, acknowledged) in acknowledged.into_iter().enumerate() {
            assert!(client.read_all("t", partition as i32, 0).len() as i64 >= acknowledged);
        }
        broker.stop();
    });
}

/// Produces, several requests at a time, until the connection ends; gives how many were acknowledged.
fn flood(client: &mut Client, partition: i32, tell: &std::sync::mpsc::Sender<()>) -> i64 {
    const AHEAD: i32 = 8;
    let request = produce(-1, &[("t", partition, record(&[1; 800_000]))]);
    let mut acknowledged = 0;
    for id in 1.. {
        if client.send_raw(&frame(&request, PRODUCE, id)).is_err() {
            break;
        }
        if id <= AHEAD {
            continue;
        }
        let Ok(answer) = read_frame(&mut client.stream) else { break };
        acknowledged += i64::from(produced(&decode::<ProduceRequest>(answer, PRODUCE).1)[0].0 == 0);
        let _ = tell.send(());
    }
    acknowledged
}

#[test]
fn room_that_others_take_and_give_back() {
    with_small_disk(|disk| {
        let broker = start(&disk.data());
        let mut client = broker.client();
        client.create_topic("t", 1, &[]);
        assert_eq!(client.produce("t", 0, record(b"before")), (0, 0));
        let ballast = disk.mount_point().join("ballast");
        // All but a part of the broker's reserve, which is an eighth of so small a disk.
        let left = (DISK_BYTES / 16) >> 20;
        let point = disk.mount_point().display().to_string();
        let room = format!("$(($(df -BM --output=avail {point} | tail -1 | tr -dc 0-9) - {left}))M");
        run("sh", &["-c", &format!("fallocate -l {room} {}", ballast.display())]).unwrap();
        broker.wait_stderr("produce is refused until there is room", 1);
        assert_eq!(client.produce("t", 0, record(b"full")).0, STORAGE_ERROR);
        assert_eq!(client.read_all("t", 0, 0).len(), 1);
        broker.kill();
        let broker = start(&disk.data());
        let mut client = broker.client();
        assert_eq!(client.read_all("t", 0, 0).len(), 1);
        assert_eq!(client.produce("t", 0, record(b"full")).0, STORAGE_ERROR);
        std::fs::remove_file(&ballast).unwrap();
        works_again(&mut client, "t");
        assert_eq!(broker.get("/health/ready").0, 200);
        assert_eq!(client.read_all("t", 0, 0).len(), 2);
        broker.stop();
    });
}
