//! Checks that `docs/options.md`, the reference of what `--set` and `--config` take, says of every option what the
//! tables say. With `RINGLOG_BLESS=1` the file is written anew. It is here and not beside the tables because those are
//! pure and know no files.

use std::fmt::Write;
use std::path::Path;

use crate::machine::config::{BROKER_OPTIONS, Check, Kind, OptionDef, TOPIC_OPTIONS, Unit, Update};

const HEAD: &str = "\
# Options

This file is generated from the tables in `src/machine/config/broker_options.rs` and `topic_options.rs`, and a test
keeps it equal to them: after a change, `RINGLOG_BLESS=1 cargo test -p ringlog --lib options_doc` writes it anew.
[Operating Ringlog](operating.md) explains how options are set and which of them matter first.

A default of `null` means that there is no value, and `\"\"` is the empty text.
";

const BROKER: &str = "
## Broker options

Set by `--set NAME=VALUE` or in the file of `--config`. Those with the update mode *cluster-wide* may also be changed
while the broker runs, by AlterConfigs or IncrementalAlterConfigs for one broker or for all; *read-only* ones need a
restart.

| Name | Type | Values | Default | Update | What it does |
|---|---|---|---|---|---|
";

const TOPIC: &str = "
## Topic options

Set when a topic is created or altered; each may be changed at any time. Where a topic does not set an option, the
broker option in the last column gives its default.

| Name | Type | Values | Default | What it does | Default from |
|---|---|---|---|---|---|
";

fn render() -> String {
    let mut out = String::from(HEAD);
    out.push_str(BROKER);
    for option in BROKER_OPTIONS {
        let update = match option.update {
            Update::ReadOnly => "read-only",
            Update::ClusterWide => "cluster-wide",
        };
        row(&mut out, &[&name(option), &kind(option), &values(option), &default(option), update, option.doc]);
    }
    out.push_str(TOPIC);
    for option in TOPIC_OPTIONS {
        let from = option.synonym.map_or_else(String::new, |synonym| format!("`{synonym}`"));
        row(&mut out, &[&name(option), &kind(option), &values(option), &default(option), option.doc, &from]);
    }
    out
}

fn row(out: &mut String, cells: &[&str]) {
    for cell in cells {
        write!(out, "| {} ", cell.replace('|', "\\|")).expect("writing to a String cannot fail");
    }
    out.push_str("|\n");
}

fn name(option: &OptionDef) -> String {
    format!("`{}`", option.name)
}

fn kind(option: &OptionDef) -> String {
    let kind = match option.kind {
        Kind::Boolean => "boolean",
        Kind::Int => "int",
        Kind::Long => "long",
        Kind::Double => "double",
        Kind::String => "string",
        Kind::List => "list",
    };
    let unit = match option.unit {
        Unit::None => return kind.to_owned(),
        Unit::Bytes => "bytes",
        Unit::Milliseconds => "ms",
        Unit::Minutes => "minutes",
        Unit::Hours => "hours",
    };
    format!("{kind}, {unit}")
}

fn values(option: &OptionDef) -> String {
    match option.check {
        Check::Any => String::new(),
        Check::AtLeast(min) => format!("{min} or more"),
        Check::Between(min, max) => format!("{min} to {max}"),
        Check::OneOf(words) => words.join(", "),
        Check::EachOf(words) => format!("any of {}", words.join(", ")),
        Check::ThrottledReplicas => "`*`, or partition:broker pairs".to_owned(),
        Check::GzipLevel => "1 to 9, or -1".to_owned(),
        Check::OnlyDefault => "only the default".to_owned(),
    }
}

fn default(option: &OptionDef) -> String {
    match option.default {
        None => "null".to_owned(),
        Some("") => "\"\"".to_owned(),
        Some(text) => text.to_owned(),
    }
}

#[test]
fn the_reference_says_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
    let wanted = render();
    if std::env::var_os("RINGLOG_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &wanted).expect("docs/options.md can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (found, wanted)) in found.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(found, wanted, "docs/options.md:{}: RINGLOG_BLESS=1 writes it anew", number + 1);
    }
    assert_eq!(found.len(), wanted.len(), "docs/options.md has other lines: RINGLOG_BLESS=1 writes it anew");
}

#[test]
fn every_option_has_a_row_with_all_columns() {
    let text = render();
    for option in BROKER_OPTIONS.iter().chain(TOPIC_OPTIONS) {
        let start = format!("| `{}` |", option.name);
        // Some names are in both tables, each with a documentation of its own.
        let row = text.lines().find(|line| line.starts_with(&start) && line.contains(option.doc));
        let columns = row.map(|row| row.replace("\\|", "").matches('|').count());
        assert_eq!(columns, Some(7), "{}", option.name);
    }
}
