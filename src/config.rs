//! The broker's static settings: a TOML file whose keys are Kafka's option names, and `--set NAME=VALUE`, which
//! wins. Names and values are checked against the table of options, so that a typo stops the start.

use std::fmt;
use std::path::Path;

use crate::machine::config::{Settings, check_static_settings};

/// Why the settings cannot be used: one line that says what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reads the file, if one is given, and puts the overrides over it.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses what is in it.
pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Settings, ConfigError> {
    let Some(path) = file else { return parse("", overrides) };
    let named = |what: String| ConfigError(format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| named(format!("cannot be read: {error}")))?;
    parse(&text, overrides).map_err(|error| named(error.0))
}

/// Settings from the text of a file and `NAME=VALUE` overrides.
///
/// # Errors
/// Text that is not TOML, an override without `=`, an unknown name (the nearest one is offered), a value that the
/// option does not take, or settings that contradict each other.
pub fn parse(text: &str, overrides: &[String]) -> Result<Settings, ConfigError> {
    let table: toml::Table = text.parse().map_err(|error| ConfigError(not_toml(&error)))?;
    let mut settings = Settings::new();
    flatten("", table, &mut settings)?;
    for item in overrides {
        let Some((name, value)) = item.split_once('=') else {
            return Err(ConfigError(format!("--set {item}: write it as NAME=VALUE")));
        };
        settings.insert(name.trim().to_owned(), value.trim().to_owned());
    }
    check_static_settings(&settings).map_err(ConfigError)?;
    // Both name the same number; whichever was given holds for both, so that tools see one answer.
    for (given, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
        if let Some(value) = settings.get(given).cloned() {
            settings.insert(other.to_owned(), value);
        }
    }
    Ok(settings)
}

/// TOML's message on one line, with a hint where Kafka's names and TOML's tables disagree: `max.connections = 1`
/// makes a number of what `max.connections.per.ip = 1` needs as a table.
fn not_toml(error: &toml::de::Error) -> String {
    let message = error.message();
    let hint = if message.contains("dotted key") || message.contains("duplicate key") {
        " (where one name begins with another, put both in quotes: \"max.connections.per.ip\" = 10)"
    } else {
        ""
    };
    format!("is not valid TOML: {message}{hint}")
}

fn flatten(prefix: &str, table: toml::Table, settings: &mut Settings) -> Result<(), ConfigError> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        if let toml::Value::Table(inner) = value {
            flatten(&name, inner, settings)?;
            continue;
        }
        let text = as_text(value).ok_or_else(|| {
            ConfigError(format!("{name}: write the value as text, a number, true, false or a list of those"))
        })?;
        if settings.insert(name.clone(), text).is_some() {
            return Err(ConfigError(format!("{name} is given twice, once dotted and once quoted")));
        }
    }
    Ok(())
}

/// The value as Kafka's properties would have it; none for what an option cannot be.
fn as_text(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<String>> =
                items.into_iter().map(|item| if item.is_array() { None } else { as_text(item) }).collect();
            Some(items?.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str, overrides: &[&str]) -> Result<Settings, String> {
        let overrides: Vec<String> = overrides.iter().map(|item| (*item).to_owned()).collect();
        parse(text, &overrides).map_err(|error| error.to_string())
    }

    #[test]
    fn dotted_quoted_and_nested_keys_are_one_name() {
        for text in [
            "log.retention.ms = 5",
            "\"log.retention.ms\" = 5",
            "[log.retention]\nms = 5",
            "[log]\nretention.ms = '5'",
        ] {
            assert_eq!(get(text, &[]).unwrap()["log.retention.ms"], "5", "{text}");
        }
    }

    #[test]
    fn overrides_win() {
        let settings =
            get("num.partitions = 3", &["num.partitions=4", "log.cleanup.policy = compact"]).unwrap();
        assert_eq!(settings["num.partitions"], "4");
        assert_eq!(settings["log.cleanup.policy"], "compact");
        assert_eq!(get("num.partitions = 'bad'", &["num.partitions=4"]).unwrap()["num.partitions"], "4");
    }

    #[test]
    fn every_type_of_value() {
        let text = "log.cleanup.policy = ['compact', 'delete']\nlog.cleaner.min.cleanable.ratio = 0.25\n\
                    auto.create.topics.enable = false";
        let settings = get(text, &[]).unwrap();
        assert_eq!(settings["log.cleanup.policy"], "compact,delete");
        assert_eq!(settings["log.cleaner.min.cleanable.ratio"], "0.25");
        assert_eq!(settings["auto.create.topics.enable"], "false");
        assert!(get("num.partitions = 1979-05-27", &[]).unwrap_err().starts_with("num.partitions: write"));
        assert!(get("log.cleanup.policy = [['compact']]", &[]).is_err());
    }

    #[test]
    fn errors_are_one_line_that_helps() {
        let unknown = get("log.retenton.ms = 1", &[]).unwrap_err();
        assert_eq!(
            unknown,
            "Unknown broker config name: log.retenton.ms; the nearest one is log.retention.ms"
        );
        let bad = get("", &["num.partitions=none"]).unwrap_err();
        assert_eq!(bad, "Invalid value none for configuration num.partitions: Not a number of type INT");
        assert_eq!(get("", &["num.partitions"]).unwrap_err(), "--set num.partitions: write it as NAME=VALUE");
        let twice = get("log.retention.ms = 1\n\"log.retention.ms\" = 2", &[]).unwrap_err();
        assert_eq!(twice, "log.retention.ms is given twice, once dotted and once quoted");
        for text in ["= 3", "a = ", "max.connections = 1\nmax.connections.per.ip = 2"] {
            let error = get(text, &[]).unwrap_err();
            assert!(error.starts_with("is not valid TOML: ") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_name_that_begins_another_must_be_quoted_and_the_error_says_so() {
        let error = get("max.connections = 1\nmax.connections.per.ip = 2", &[]).unwrap_err();
        assert!(error.contains("put both in quotes"), "{error}");
        let settings = get("'max.connections' = 1\n'max.connections.per.ip' = 2", &[]).unwrap();
        assert_eq!(
            (settings["max.connections"].as_str(), settings["max.connections.per.ip"].as_str()),
            ("1", "2")
        );
    }

    #[test]
    fn node_and_broker_id_are_one() {
        assert_eq!(get("broker.id = 7", &[]).unwrap()["node.id"], "7");
        assert_eq!(get("node.id = 7", &[]).unwrap()["broker.id"], "7");
        assert!(get("", &[]).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ringlog.toml");
        let error = load(Some(&path), &[]).unwrap_err().to_string();
        assert!(error.contains("ringlog.toml: cannot be read"), "{error}");
        std::fs::write(&path, "num.partitions = 0").unwrap();
        let error = load(Some(&path), &[]).unwrap_err().to_string();
        assert!(error.contains("ringlog.toml: Invalid value 0 for configuration num.partitions"), "{error}");
    }
}
