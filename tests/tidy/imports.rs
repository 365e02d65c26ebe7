//! Who may use what: dependencies point down only, decisions are pure, one file reads the clock.

use super::files::{self, File, report};
use super::rust::{UsedPath, code_only, line_of, paths, words};

/// In these folders, these paths are not used.
struct Rule {
    folders: &'static [&'static str],
    but_not: &'static [&'static str],
    forbidden: &'static [&'static str],
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        folders: &["storage"],
        but_not: &[],
        forbidden: &["ringlog", "ringlog_net", "glommio", "tracing"],
        why: "storage knows nothing of requests, replication or sockets",
    },
    Rule {
        folders: &["net"],
        but_not: &[],
        forbidden: &["ringlog", "ringlog_storage", "glommio"],
        why: "net knows nothing of partitions, and its users drive the sockets",
    },
    Rule {
        folders: &["src/machine"],
        but_not: &[],
        forbidden: &[
            "crate::api",
            "crate::cli",
            "crate::clock",
            "crate::control",
            "crate::shard",
            "crate::telemetry",
            "ringlog_net",
            "glommio",
            "futures_lite",
            "hyper",
            "kafka_protocol",
            "libc",
            "signal_hook",
            "tracing",
            "tracing_subscriber",
            "std::env",
            "std::fs",
            "std::net",
            "std::os",
            "std::process",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::sync::mpsc",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "uuid::Uuid::new_v4",
            "Uuid::new_v4",
        ],
        why: "machines are pure: no sockets, files, clocks, threads or randomness, and no wire structs",
    },
    Rule {
        folders: &["src"],
        but_not: &["src/machine/consensus"],
        forbidden: &["raft", "slog"],
        why: "only the consensus machine knows raft-rs",
    },
    Rule {
        folders: &["src/api"],
        but_not: &[],
        forbidden: &["crate::shard", "crate::control", "crate::cli", "crate::telemetry", "glommio"],
        why: "an API is check, plan and reply; the shell waits",
    },
    Rule {
        folders: &["src"],
        but_not: &["src/shard", "src/control", "src/broker.rs", "src/broker/executors.rs"],
        forbidden: &["glommio"],
        why: "only the shells await; broker/ starts their executors",
    },
    Rule {
        folders: &["src/shard", "src/api"],
        but_not: &["src/shard/watchdog.rs"],
        forbidden: &["std::sync::Mutex", "std::sync::RwLock", "std::sync::Condvar"],
        why: "shards share nothing: Rc and RefCell inside, messages between",
    },
    Rule {
        folders: &["src/telemetry"],
        but_not: &[],
        forbidden: &["crate::shard", "crate::control", "crate::api"],
        why: "telemetry is told; it never asks a shard",
    },
    Rule {
        folders: &["tests/sim"],
        but_not: &[],
        forbidden: &[
            "glommio",
            "ringlog::shard",
            "ringlog::control",
            "ringlog::api",
            "ringlog::clock",
            "std::thread",
        ],
        why: "the simulator runs machines and pure storage, repeatably",
    },
];

/// Paths that a folder may use although a rule forbids what they lie in.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "tests/sim",
        "ringlog::control::raft_log",
        "the files of the consensus log know no glommio: the simulator runs them over its own disk",
    ),
    ("tests/sim", "ringlog::control::metadata_log", "so do those that they take over from"),
];

/// The one file that reads clocks.
const CLOCK: &str = "src/clock.rs";

fn module_path(file: &str) -> Vec<&str> {
    let Some(inside) = file.strip_prefix("src/") else { return Vec::new() };
    let inside = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(inside, "lib" | "main") { Vec::new() } else { inside.split('/').collect() }
}

/// The path with `self` and `super` at its start resolved, seen from the file's top module.
fn resolved(file: &str, path: &str) -> String {
    let mut module = module_path(file);
    let mut rest = path;
    let mut relative = false;
    while let Some((first, tail)) = rest.split_once("::") {
        match first {
            "super" => drop(module.pop()),
            "self" => {}
            _ => break,
        }
        relative = true;
        rest = tail;
    }
    if !relative {
        return path.to_owned();
    }
    let mut whole = vec!["crate"];
    whole.extend(module);
    whole.push(rest);
    whole.join("::")
}

fn starts_with_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn violations(file: &File, used: &[UsedPath]) -> Vec<String> {
    let mut found = Vec::new();
    for rule in RULES {
        let concerned = rule.folders.iter().any(|folder| file.is_in(folder))
            && !rule.but_not.iter().any(|folder| file.is_in(folder));
        if !concerned {
            continue;
        }
        for UsedPath { path, line } in used {
            let path = resolved(&file.path, path);
            let is_excepted = EXCEPTIONS
                .iter()
                .any(|(folder, excepted, _)| file.is_in(folder) && starts_with_path(&path, excepted));
            if is_excepted {
                continue;
            }
            if rule.forbidden.iter().any(|forbidden| starts_with_path(&path, forbidden)) {
                found.push(format!("{}:{line}: {path} ({})", file.path, rule.why));
            }
        }
    }
    found
}

#[test]
fn imports_follow_the_table() {
    let mut found = Vec::new();
    for file in files::rust() {
        found.extend(violations(&file, &paths(&code_only(&file.text))));
    }
    report("paths that this folder may not use", &found);
}

#[test]
fn machines_never_await() {
    let mut found = Vec::new();
    for file in files::rust().iter().filter(|file| file.is_in("src/machine")) {
        let code = code_only(&file.text);
        for word in ["async", "await"] {
            found
                .extend(words(&code, word).map(|at| format!("{}:{}: {word}", file.path, line_of(&code, at))));
        }
    }
    report("a machine never awaits", &found);
}

#[test]
fn one_file_reads_the_clock() {
    let mut found = Vec::new();
    for file in files::rust().iter().filter(|file| file.path != CLOCK) {
        for UsedPath { path, line } in paths(&code_only(&file.text)) {
            if path.ends_with("Instant::now") || path.ends_with("SystemTime::now") {
                found.push(format!("{}:{line}: {path}", file.path));
            }
        }
    }
    report("time is an argument; only src/clock.rs reads it", &found);
}

#[test]
fn forbidden_paths_are_found() {
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    for (path, text, is_found) in [
        ("src/machine/a.rs", "use glommio::Task;", true),
        ("src/machine/a.rs", "use crate::{error, shard::Mesh};", true),
        ("src/machine/a/b.rs", "use super::super::super::api::x;", true),
        ("src/machine/a/b.rs", "use super::super::error::ErrorCode;", false),
        ("src/machine/a.rs", "// glommio::Task\nuse std::collections::BTreeMap;", false),
        ("src/machine/a.rs", "fn f() { std::fs::read(p) }", true),
        ("src/machine/group.rs", "use raft::RawNode;", true),
        ("src/machine/consensus/node.rs", "use raft::RawNode;", false),
        ("net/src/lib.rs", "use ringlog_storage::wal;", true),
        ("src/shard/mod.rs", "use glommio::Task;", false),
        ("tests/sim/disk.rs", "use ringlog::shard::Mesh;", true),
        ("tests/sim/disk.rs", "use ringlog::control::run;", true),
        ("tests/sim/disk.rs", "use ringlog::control::raft_log::{self, RaftLog};", false),
        ("src/control/raft_log.rs", "use raft::Entry;", true),
    ] {
        let file = file(path, text);
        let found = violations(&file, &paths(&code_only(text)));
        assert_eq!(!found.is_empty(), is_found, "{path}: {text}: {found:?}");
    }
}
