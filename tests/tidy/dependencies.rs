//! Few dependencies, each with its reason; licences we may use; no version twice without cause.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::files::{self, report, root};
use super::licence;

/// Packages of which the tree holds more than one version, each with who brings them.
const TWICE: &[(&str, &str)] = &[
    ("bitflags", "build time only: raft-proto's build script is on 1"),
    (
        "getrandom",
        "ahash (by way of glommio) is on 0.3; rand, tempfile and uuid are on 0.4; raft's rand is on 0.2",
    ),
    ("hashbrown", "indexmap is on 0.17, which has no raw entries; ours is 0.16"),
    ("rand", "raft is on 0.8 (its draws are replaced by ours); proptest is newer"),
    ("rand_core", "as rand"),
    ("spin", "flume (by way of glommio) is on 0.9; crc-fast is on 0.10"),
    ("syn", "build time only: half of the derive macros have not moved to 3 yet"),
];

/// The one place that dependencies come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What Cargo says of all packages built for this platform.
fn packages() -> Vec<Value> {
    let host = output(Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("-vV"));
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let metadata = output(Command::new(cargo).current_dir(root()).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--filter-platform",
        host,
    ]));
    let mut metadata: Value = serde_json::from_str(&metadata).expect("cargo metadata prints JSON");
    match metadata["packages"].take() {
        Value::Array(packages) => packages,
        other => panic!("cargo metadata has a list of packages, not {other}"),
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the toolchain runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

#[test]
fn licences_are_ones_we_may_use() {
    let mut found = Vec::new();
    for package in packages() {
        let expression = text(&package, "license");
        if !licence::is_allowed(expression) {
            let (name, version) = (text(&package, "name"), text(&package, "version"));
            found.push(format!("{name} {version}: {expression:?}"));
        }
    }
    report("licences that are not allowed", &found);
}

#[test]
fn no_package_is_there_twice_without_cause() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let version = text(&package, "version").to_owned();
        versions.entry(text(&package, "name").to_owned()).or_default().insert(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let mut found: Vec<String> = Vec::new();
    for (name, versions) in &versions {
        if !TWICE.iter().any(|(twice, _)| twice == name) {
            found.push(format!("{name}: {versions:?}"));
        }
    }
    for (name, why) in TWICE {
        if !versions.contains_key(*name) {
            found.push(format!("{name} is there once now, take it off the list ({why})"));
        }
    }
    report("packages in more than one version", &found);
}

#[test]
fn packages_come_from_the_public_registry() {
    let lock = files::all().into_iter().find(|file| file.path == "Cargo.lock").expect("Cargo.lock is kept");
    let mut found = Vec::new();
    for line in lock.text.lines() {
        if let Some(source) = line.strip_prefix("source = ")
            && source.trim_matches('"') != REGISTRY
        {
            found.push(source.to_owned());
        }
    }
    report("packages from elsewhere", &found);
}

/// Lines of a manifest's dependency sections, with what stands before the dot of a section's name.
fn dependency_lines(manifest: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    manifest.lines().enumerate().filter(move |(_, line)| {
        if line.starts_with('[') {
            inside = line.trim_end().ends_with("dependencies]");
            return false;
        }
        inside && line.contains('=') && !line.trim_start().starts_with('#')
    })
}

#[test]
fn every_dependency_has_its_reason() {
    let mut found = Vec::new();
    for file in files::all().iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        for (number, line) in dependency_lines(&file.text) {
            let ours = line.starts_with("ringlog");
            let reasoned = line.contains("# ") || line.contains(".workspace = true") || ours;
            if !reasoned {
                found.push(format!("{}:{}: {line}", file.path, number + 1));
            }
            let own_version = file.path != "Cargo.toml" && !line.contains("workspace = true");
            if own_version {
                found.push(format!("{}:{}: not from the workspace: {line}", file.path, number + 1));
            }
        }
    }
    report("dependencies without a reason in the root's Cargo.toml", &found);
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    let takes = |text: &str| text.contains("[lints]\nworkspace = true");
    let files = files::all();
    let manifests = files.iter().filter(|file| file.path.ends_with("Cargo.toml"));
    let found: Vec<String> =
        manifests.filter(|file| !takes(&file.text)).map(|file| file.path.clone()).collect();
    report("packages without the workspace's lints", &found);
}

#[test]
fn dependency_lines_are_found() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n# b = \"1\"\n\n[dev-dependencies]\nc = \"2\"\n[lints]\nd = 1";
    let lines: Vec<usize> = dependency_lines(manifest).map(|(number, _)| number).collect();
    assert_eq!(lines, [3, 7]);
}
