//! Links of the documents lead somewhere, and the README's code map is whole.

use std::path::Path;

use super::files::{self, report, root};

/// Targets of `[text](target)` outside code blocks, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, tail)) = after.split_once(')') else { break };
            found.push((number + 1, target.to_owned()));
            rest = tail;
        }
    }
    found
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Why a link of the document at `path` leads nowhere, if so.
fn broken(path: &str, text: &str, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let linked = root().join(folder).join(file);
    if !linked.exists() {
        return Some(format!("no file {target}"));
    }
    if heading.is_empty() || !(file.is_empty() || file.ends_with(".md")) {
        return None;
    }
    let other = if file.is_empty() { Some(text.to_owned()) } else { std::fs::read_to_string(linked).ok() };
    let has = other?.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
    (!has).then(|| format!("no heading {target}"))
}

#[test]
fn links_lead_somewhere() {
    let mut found = Vec::new();
    for file in files::all().iter().filter(|file| file.path.ends_with(".md")) {
        for (line, target) in links(&file.text) {
            if let Some(why) = broken(&file.path, &file.text, &target) {
                found.push(format!("{}:{line}: {why}", file.path));
            }
        }
    }
    report("links that lead nowhere", &found);
}

#[test]
fn the_code_map_names_every_folder() {
    let files = files::all();
    let Some(readme) = files.iter().find(|file| file.path == "README.md") else { return };
    let mut folders: Vec<&str> = files.iter().filter_map(|file| Some(file.path.split_once('/')?.0)).collect();
    folders.dedup();
    folders.retain(|folder| !folder.starts_with('.') && !readme.text.contains(&format!("{folder}/")));
    let found: Vec<String> = folders.iter().map(|folder| format!("{folder}/")).collect();
    report("folders that README.md does not name", &found);
}

#[test]
fn broken_links_are_found() {
    let text = "# A heading, yes\n[a](Cargo.toml) [b](#a-heading-yes)\n```\n[c](nowhere)\n```\n[d](gone.md)";
    assert_eq!(links(text).len(), 3);
    assert_eq!(broken("README.md", text, "Cargo.toml"), None);
    assert_eq!(broken("README.md", text, "#a-heading-yes"), None);
    assert_eq!(broken("src/a.md", text, "../Cargo.toml"), None);
    assert!(broken("README.md", text, "#other").is_some());
    assert!(broken("README.md", text, "gone.md").is_some());
}
