//! Starting and stopping: what the host or the data folder lacks is one line that says what to change, and exit 1.

use ringlog_tests::broker::{Start, binary, folder};
use ringlog_tests::confine;
use ringlog_tests::requests::{KEPT_FROM, record};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A user without rights.
const NOBODY: u32 = 65_534;

/// The one line that a refused start leaves, checked to be one, with exit code 1.
fn refusal(start: Start) -> String {
    let (code, errors) = start.refused();
    let lines: Vec<&str> = errors.lines().filter(|line| !line.contains("signal-hook")).collect();
    assert_eq!(lines.len(), 1, "one line is due: {errors}");
    assert_eq!(code, Some(1), "{errors}");
    assert!(lines[0].starts_with("ringlog: "), "{errors}");
    lines[0].to_owned()
}

#[track_caller]
fn refused(start: Start, what: &str) {
    let line = refusal(start);
    assert!(line.contains(what), "{what:?} was due in {line:?}");
}

/// A copy of the binary and an empty data folder that any user may use, and a start as a user without rights.
/// Where this user cannot become another one it has no more rights itself, and the start is as this user.
struct Unprivileged {
    folder: TempDir,
}

impl Unprivileged {
    fn new() -> Unprivileged {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let all = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), all).unwrap();
        std::fs::copy(binary(), folder.path().join("ringlog")).unwrap();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        Unprivileged { folder }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Start {
        let mut start = Start::with_binary(&self.folder.path().join("ringlog"), &self.data());
        let may = std::process::Command::new("true").uid(NOBODY).gid(NOBODY).status().is_ok();
        if may {
            start.command().uid(NOBODY).gid(NOBODY);
        }
        start
    }
}

#[test]
fn the_ready_line_is_as_documented() {
    let data = folder();
    let path = data.path().join("made/on/the/way");
    let broker = Start::new(&path).shards(3).ready();
    let line = &broker.ready_line;
    let words: Vec<&str> = line.split(' ').collect();
    let expected = format!(
        "ringlog ready: {} node 1, 3 shards, 0 partitions, http {}, data {}, {} ms",
        broker.address,
        broker.http,
        path.display(),
        words[words.len() - 2]
    );
    assert_eq!(*line, expected);
    words[words.len() - 2].parse::<u64>().unwrap();
    broker.client().ping();
    assert_eq!(broker.get("/health/live").0, 200);
    assert_eq!(broker.get("/health/ready").0, 200);
    assert!(broker.get("/metrics").1.contains("# EOF"));
    broker.stop();
}

#[test]
fn http_can_be_off() {
    let data = folder();
    let broker = Start::new(data.path()).args(&["--http", "off"]).ready();
    assert!(broker.ready_line.contains(", http off, "), "{}", broker.ready_line);
    broker.client().ping();
    broker.stop();
}

#[test]
fn a_second_signal_changes_nothing() {
    let data = folder();
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let mut broker = Start::new(data.path()).ready();
        let idle = broker.client();
        broker.signal(first);
        broker.signal(second);
        assert_eq!(broker.wait().code(), Some(0), "{}", broker.stderr());
        drop(idle);
    }
}

#[test]
fn a_folder_that_cannot_be_used() {
    let data = folder();
    let file = data.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    refused(Start::new(&file), &file.display().to_string());
    refused(Start::new(&file.join("below")), "cannot be made");
    assert_eq!(std::fs::read(&file).unwrap(), b"not a folder");
    refused(Start::new(Path::new("/dev/shm/ringlog-it")), "file system in memory");
    let _ = std::fs::remove_dir(Path::new("/dev/shm/ringlog-it"));
}

#[test]
fn a_folder_that_may_not_be_written() {
    let place = Unprivileged::new();
    std::fs::set_permissions(place.data(), PermissionsExt::from_mode(0o555)).unwrap();
    refused(place.start(), "cannot be written");
}

#[test]
fn an_address_in_use() {
    let data = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(Start::new(data.path()).args(&["--http", &address]), "is in use by another process");
    let start = Start::new(data.path()).args(&["--listen", &address]);
    refused(start, &format!("{address} is in use by another process"));
    refused(Start::new(data.path()).args(&["--listen", "0.0.0.0:0"]), "--advertise");
}

#[test]
fn a_second_process_on_the_same_data() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    refused(Start::new(data.path()), "is in use by another ringlog process");
    broker.client().ping();
    broker.stop();
}

#[test]
fn limits_of_the_host() {
    let data = folder();
    let mut few_files = Start::new(data.path());
    confine::limit(few_files.command(), libc::RLIMIT_NOFILE, 256);
    refused(few_files, "only 256 files may be open");
    let mut blocked = Start::new(data.path());
    confine::block_io_uring(blocked.command());
    refused(blocked, "io_uring is blocked");
    // Root may lock what it likes: the limit holds for others.
    let place = Unprivileged::new();
    std::fs::set_permissions(place.data(), PermissionsExt::from_mode(0o777)).unwrap();
    let mut little_memory = place.start();
    confine::limit(little_memory.command(), libc::RLIMIT_MEMLOCK, 64 << 10);
    refused(little_memory, "only 64 KiB of memory may be locked, 3 executors need 1536 KiB");
    place.start().ready().stop();
}

#[test]
fn settings_that_make_no_sense() {
    let data = folder();
    let start = || Start::new(data.path());
    refused(start().set("log.retenton.ms", 1), "the nearest one is log.retention.ms");
    refused(start().set("num.partitions", "many"), "Invalid value many for configuration num.partitions");
    refused(start().set("ringlog.memory.bytes", 1), "ringlog.memory.bytes");
    let file = data.path().join("ringlog.toml");
    refused(start().args(&["--config", &file.display().to_string()]), "ringlog.toml: cannot be read");
    std::fs::write(&file, "num.partition = 3").unwrap();
    refused(start().args(&["--config", &file.display().to_string()]), "the nearest one is num.partitions");
    assert!(!data.path().join("VERSION").exists(), "nothing was written");
}

/// Every file below a folder with its bytes, but the lock and the probe.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

#[track_caller]
fn unchanged(folder: &Path, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let after = contents(folder);
    let names = before.keys().chain(after.keys());
    let changed: Vec<_> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
    assert!(changed.is_empty(), "a refused start changed {changed:?}");
}

#[test]
fn the_data_of_others() {
    let data = folder();
    Start::new(data.path()).ready().stop();
    refused(Start::new(data.path()).args(&["--node-id", "2"]), "belongs to node 1, not to node 2");
    let version = data.path().join("VERSION");
    let text = std::fs::read_to_string(&version).unwrap();
    let before = contents(data.path());
    std::fs::write(&version, text.replace("format = 2", "format = 99\nnew = true")).unwrap();
    refused(Start::new(data.path()), "has format 99, this binary knows formats up to 2");
    let line = text.lines().find(|line| line.starts_with("cluster_id")).unwrap();
    let other = text.replace(line, "cluster_id = \"0b7c9a5e-3f1d-4c52-9a57-8b1f8b0d2a11\"");
    std::fs::write(&version, other).unwrap();
    refused(Start::new(data.path()), "belong to another cluster");
    std::fs::write(&version, &text[..text.len() / 2]).unwrap();
    refused(Start::new(data.path()), "VERSION is damaged");
    std::fs::remove_file(&version).unwrap();
    refused(Start::new(data.path()), "no VERSION file");
    std::fs::write(&version, text).unwrap();
    unchanged(data.path(), &before);
    Start::new(data.path()).ready().stop();
}

#[test]
fn a_folder_of_an_earlier_format_is_taken_over() {
    let data = killed_with_records(3);
    let version = data.path().join("VERSION");
    let now = std::fs::read_to_string(&version).unwrap();
    std::fs::write(&version, now.replace("format = 2", "format = 1")).unwrap();
    let broker = Start::new(data.path()).ready();
    assert_eq!(std::fs::read_to_string(&version).unwrap(), now);
    assert_eq!(broker.client().produce("t", 0, record(b"next")), (0, 3));
    broker.stop();
}

/// A folder with some records whose broker was killed: all of it is in the WAL.
fn killed_with_records(records: usize) -> TempDir {
    let data = folder();
    let broker = Start::new(data.path()).shards(1).ready();
    let mut client = broker.client();
    client.create_topic("t", 1, &[]);
    for n in 0..records {
        assert_eq!(client.produce("t", 0, record(&n.to_be_bytes().repeat(100))), (0, n as i64));
    }
    broker.kill();
    data
}

fn wal_files(data: &Path) -> Vec<PathBuf> {
    let all = contents(&data.join("wal"));
    all.into_keys().filter(|path| path.extension().is_some_and(|ext| ext == "wal")).collect()
}

/// Positions of the commits in a WAL file that have frames.
fn commits(file: &Path) -> Vec<u64> {
    let bytes = std::fs::read(file).unwrap();
    let starts = (0..bytes.len()).step_by(4096);
    let full = starts.filter(|at| bytes[*at..].starts_with(b"RLCOMMIT") && bytes[at + 56..at + 60] != [0; 4]);
    full.map(|at| at as u64).collect()
}

#[test]
fn damage_below_what_is_durable_is_refused_and_nothing_changes() {
    let data = killed_with_records(50);
    let file = wal_files(data.path()).into_iter().find(|file| commits(file).len() > 20).unwrap();
    let at = commits(&file)[10];
    let flip = || {
        let handle = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let mut byte = [0];
        handle.read_exact_at(&mut byte, at + 200).unwrap();
        handle.write_all_at(&[byte[0] ^ 0x10], at + 200).unwrap();
    };
    flip();
    let before = contents(data.path());
    for _ in 0..2 {
        let (code, errors) = Start::new(data.path()).refused();
        assert_eq!(code, Some(1));
        let line = errors.lines().last().unwrap();
        let name = file.strip_prefix(data.path()).unwrap().display().to_string();
        for what in ["acknowledged data are damaged", &name, &at.to_string(), "nothing was changed"] {
            assert!(line.contains(what), "{what:?} was due in {line:?}");
        }
    }
    unchanged(data.path(), &before);
    flip();
    let broker = Start::new(data.path()).ready();
    assert_eq!(broker.client().read_all("t", 0, 0).len(), 50);
    broker.stop();
}

#[test]
fn a_torn_tail_is_cut_and_the_rest_is_there() {
    let data = killed_with_records(20);
    let file = wal_files(data.path()).into_iter().find(|file| commits(file).len() > 10).unwrap();
    // A commit that was being written when the power went: its head is there, its frames are not.
    let last = *commits(&file).last().unwrap();
    let handle = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    let mut head = [0; 64];
    handle.read_exact_at(&mut head, last).unwrap();
    let end = {
        let bytes = std::fs::read(&file).unwrap();
        let starts = (4096..bytes.len()).step_by(4096);
        starts.filter(|at| bytes[*at..].starts_with(b"RLCOMMIT")).max().unwrap() as u64 + 8192
    };
    handle.write_all_at(&head, end).unwrap();
    let broker = Start::new(data.path()).ready();
    let all = broker.client().read_all("t", 0, 0);
    assert_eq!(all.len(), 20);
    broker.stop();
}

#[test]
fn data_of_unknown_topics_are_set_aside() {
    let data = killed_with_records(3);
    let stranger = "5c1d2d5e-97c4-4f4e-8f5b-d41a5a3f9a77";
    let from = data.path().join("topics").join(stranger).join("0");
    std::fs::create_dir_all(&from).unwrap();
    std::fs::write(from.join("00000000000000000000.log"), "records of somebody").unwrap();
    let broker = Start::new(data.path()).ready();
    broker.wait_stderr(&format!("data of unknown topic {stranger} were set aside"), 1);
    assert_eq!(broker.client().read_all("t", 0, 0).len(), 3);
    broker.stop();
    assert!(!from.exists());
    let aside = contents(&data.path().join("stray"));
    assert!(aside.values().any(|bytes| bytes == b"records of somebody"), "{:?}", aside.keys());
}

#[test]
fn any_number_of_shards_serves_the_same_data() {
    let data = folder();
    let mut sent = Vec::new();
    for (life, shards) in [2, 1, 4, 3, 2].into_iter().enumerate() {
        let broker = Start::new(data.path()).shards(shards).ready();
        let mut client = broker.client();
        if life == 0 {
            client.create_topic("t", 6, &[]);
        }
        for partition in 0..6 {
            let value = [life as u8, partition as u8].repeat(50);
            let batch = record(&value);
            assert_eq!(client.produce("t", partition, batch.clone()), (0, life as i64));
            sent.push((partition, batch));
        }
        for partition in 0..6 {
            let stored = client.read_all("t", partition, 0);
            let expected = sent.iter().filter(|(p, _)| *p == partition);
            assert!(expected.map(|(_, b)| &b[KEPT_FROM..]).eq(stored.iter().map(|s| &s.bytes[KEPT_FROM..])));
        }
        if life % 2 == 0 { broker.stop() } else { broker.kill() }
    }
}
