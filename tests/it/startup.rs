//! Starting and stopping: what the host or the data folder lacks is one line that says what to change, and exit 1.

use ringlog_tests::broker::{Broker, Start, binary, folder};
use ringlog_tests::confine;
use ringlog_tests::requests::{KEPT_FROM, record};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

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

/// The binary where every user can run it, for tests that give up their rights.
fn binary_for_all(folder: &Path) -> PathBuf {
    let copy = folder.join("ringlog");
    std::fs::copy(binary(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    copy
}

/// A broker of a user without rights over a folder of theirs; `None` where this user cannot become another.
fn start_as_nobody(data: &Path) -> Option<Start> {
    let probe = std::process::Command::new("true").uid(NOBODY).gid(NOBODY).status();
    if probe.is_err() {
        return None;
    }
    let mut start = Start::new(data);
    start.command().uid(NOBODY).gid(NOBODY);
    Some(start)
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
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(data.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let binary = binary_for_all(data.path());
    let locked = data.path().join("data");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).unwrap();
    let mut start = Start::with_binary(&binary, &locked);
    if !become_nobody(&mut start) && is_root() {
        panic!("root could not become another user");
    }
    refused(start, "cannot be written");
}

#[test]
fn an_address_in_use() {
    let data = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(Start::new(data.path()).args(&["--http", &address]), "is in use by another process");
    let start = Start::listening(data.path(), &address);
    refused(start, &format!("{address} is in use by another process"));
    refused(Start::listening(data.path(), "0.0.0.0:0"), "--advertise");
}

#[test]
fn a_second_process_on_the_same_data() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    refused(Start::new(data.path()), "is in use by another ringlog process");
    broker.client().ping();
    broker.stop();
}
