//! The files of the repository, as the rules see them.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are made by building, running or testing.
const MADE: &[&str] = &[
    "target",
    "proptest-regressions",
    ".git",
    "ringlog-data",
    ".venv",
    "node_modules",
    "__pycache__",
    ".cache",
];

/// A text file of the repository.
pub struct File {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl File {
    /// Whether it lies in `folder` (or is it), by whole path components.
    pub fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_owned()
}

/// All text files, sorted by path.
pub fn all() -> Vec<File> {
    let root = root();
    let mut files = Vec::new();
    walk(&root, &root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 10, "the repository is here");
    files
}

/// All Rust files.
pub fn rust() -> Vec<File> {
    all().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository is readable") {
        let entry = entry.expect("a folder of the repository is readable");
        let path = entry.path();
        let kind = entry.file_type().expect("a file of the repository has a type");
        if MADE.iter().any(|made| entry.file_name() == *made) {
            continue;
        }
        if kind.is_dir() {
            walk(root, &path, files);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(root).expect("it was found there");
            files.push(File { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

/// Fails with all that was found, if anything was.
#[track_caller]
pub fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}\n{} found", found.join("\n  "), found.len());
}
