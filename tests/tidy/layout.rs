//! Where things live, and what every file must or must not hold.

use super::files::{self, File, report};
use super::rust::{code_only, line_of, words};

/// What may lie in the root.
const ROOT: &[&str] = &[
    ".ci",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "benches",
    "clippy.toml",
    "docs",
    "net",
    "rustfmt.toml",
    "src",
    "storage",
    "tests",
    "tools",
];
/// What may lie in `src/`.
const SRC: &[&str] = &[
    "api",
    "broker",
    "broker.rs",
    "cli",
    "clock.rs",
    "config.rs",
    "control",
    "host.rs",
    "lib.rs",
    "limits.rs",
    "machine",
    "main.rs",
    "node.rs",
    "shard",
    "telemetry",
    "version_file.rs",
];
/// What may lie in `tests/`.
const TESTS: &[&str] =
    &["Cargo.toml", "chaos", "clients", "it", "lib.rs", "lib", "run", "setup", "sim", "tidy", "tidy.rs"];

/// Words that must not be written anywhere: paths of one machine.
const WORDS: &[&str] = &["/work/", "/root/"];

fn strangers(files: &[File], folder: &str, may: &[&str]) -> Vec<String> {
    let inside = files.iter().filter_map(|file| file.path.strip_prefix(folder));
    let mut names: Vec<&str> = inside.filter_map(|path| path.split('/').next()).collect();
    names.dedup();
    names.retain(|name| !may.contains(name));
    names.iter().map(|name| format!("{folder}{name}")).collect()
}

#[test]
fn everything_has_its_place() {
    let files = files::all();
    let mut found = strangers(&files, "", ROOT);
    found.extend(strangers(&files, "src/", SRC));
    found.extend(strangers(&files, "tests/", TESTS));
    report("files or folders without a place (style: where things live)", &found);
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let silent = |file: &&File| !file.text.starts_with("//!");
    let found: Vec<String> = files::rust().iter().filter(silent).map(|file| file.path.clone()).collect();
    report("Rust files that do not start with //!", &found);
}

#[test]
fn nothing_is_left_for_later() {
    let mut found = Vec::new();
    for file in files::rust() {
        let code = code_only(&file.text);
        for word in ["todo", "unimplemented", "dbg"] {
            let calls = words(&code, word).filter(|at| code[at + word.len()..].starts_with('!'));
            found.extend(calls.map(|at| format!("{}:{}: {word}!", file.path, line_of(&code, at))));
        }
    }
    report("left for later", &found);
}

#[test]
fn ignored_tests_say_why() {
    let mut found = Vec::new();
    for file in files::rust() {
        let code = code_only(&file.text);
        for (at, _) in code.match_indices("#[ignore]") {
            found.push(format!("{}:{}", file.path, line_of(&code, at)));
        }
    }
    report("#[ignore] without a reason", &found);
}

#[test]
fn no_file_names_one_machine() {
    let mut found = Vec::new();
    for file in files::all().iter().filter(|file| file.path != "tests/tidy/layout.rs") {
        for (number, line) in file.text.lines().enumerate() {
            if let Some(word) = WORDS.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    report("paths of a particular machine", &found);
}

#[test]
fn strangers_are_found() {
    let file = |path: &str| File { path: path.to_owned(), text: String::new() };
    let files = [file("README.md"), file("src/lib.rs"), file("src/util/mod.rs"), file("notes.txt")];
    assert_eq!(strangers(&files, "", ROOT), ["notes.txt"]);
    assert_eq!(strangers(&files, "src/", SRC), ["src/util"]);
}
