//! Unsafe code lives in a few named files, and every piece of it says why it is sound.

use super::files::{self, report};
use super::rust::{code_only, line_of, words};

/// Files (or folders, ending in `/`) that may hold unsafe code, each with the reason.
const MAY: &[(&str, &str)] = &[
    ("net/tests/guard/allocator.rs", "a global allocator that counts, to prove what the guard bounds"),
    (
        "storage/src/chunk.rs",
        "the tail chunk: one owner appends beyond the published length, others read below it",
    ),
    ("storage/src/disk/", "O_DIRECT needs aligned memory, mapping and preallocation need system calls"),
    ("src/host.rs", "limits, file systems and io_uring are asked about by system calls"),
    ("tests/lib/confine.rs", "limits and seccomp filters for a child, set between fork and exec"),
    ("src/shard/watchdog.rs", "interrupts a shard's thread with a signal (tgkill)"),
];

/// How far above an unsafe block its SAFETY comment may begin.
const SAFETY_LINES: usize = 8;

fn listed(path: &str) -> bool {
    MAY.iter().any(|(may, _)| path == *may || (may.ends_with('/') && path.starts_with(may)))
}

/// Lines of unsafe blocks, functions and impls.
fn unsafe_lines(text: &str) -> Vec<usize> {
    let code = code_only(text);
    words(&code, "unsafe").map(|at| line_of(&code, at)).collect()
}

fn is_explained(lines: &[&str], line: usize) -> bool {
    let above = &lines[line.saturating_sub(1 + SAFETY_LINES)..line];
    above.iter().any(|text| text.contains("SAFETY:") || text.contains("# Safety"))
}

#[test]
fn unsafe_code_is_in_named_files_only() {
    let mut found = Vec::new();
    for file in files::rust().iter().filter(|file| !listed(&file.path)) {
        found.extend(unsafe_lines(&file.text).iter().map(|line| format!("{}:{line}", file.path)));
    }
    report("unsafe code in a file that tests/tidy/unsafe_code.rs does not name", &found);
}

#[test]
fn named_files_that_exist_hold_unsafe_code() {
    let files = files::rust();
    let mut found = Vec::new();
    for (may, _) in MAY {
        let mut named =
            files.iter().filter(|file| file.path == *may || file.path.starts_with(may)).peekable();
        if named.peek().is_some() && !named.any(|file| !unsafe_lines(&file.text).is_empty()) {
            found.push(format!("{may} has none: take it off the list"));
        }
    }
    report("unsafe code that is no longer there", &found);
}

#[test]
fn unsafe_code_says_why_it_is_sound() {
    let mut found = Vec::new();
    for file in files::rust() {
        let lines: Vec<&str> = file.text.lines().collect();
        for line in unsafe_lines(&file.text) {
            if !is_explained(&lines, line) {
                found.push(format!("{}:{line}", file.path));
            }
        }
    }
    report("unsafe code without a SAFETY comment", &found);
}

#[test]
fn unsafe_code_and_its_reason_are_found() {
    let text = "// unsafe {}\n// SAFETY: it is mine\nlet x = unsafe { *p };\n\n\n\n\n\n\n\n\nunsafe { *q }";
    assert_eq!(unsafe_lines(text), [3, 12]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(is_explained(&lines, 3));
    assert!(!is_explained(&lines, 12));
}
