//! Whole sets of settings: unknown names, values out of bounds, and values that contradict each other.

use super::layers::{Layers, Settings, TopicLayers};
use super::option::Update;
use super::{BrokerConfig, broker_option, nearest_broker_option, nearest_topic_option, topic_option};
use crate::machine::error::ErrorCode;

/// Checks the settings that a topic would have, over those of its broker.
///
/// # Errors
/// One line in Kafka's words for the first setting that cannot be; its code is INVALID_CONFIG.
pub fn check_topic_settings(topic: &Settings, broker: Layers<'_>) -> Result<(), String> {
    for (name, value) in topic {
        let Some(def) = topic_option(name) else {
            let nearest = nearest_topic_option(name);
            return Err(format!("Unknown topic config name: {name}; the nearest one is {nearest}"));
        };
        def.validate(value)?;
    }
    let layers = TopicLayers { topic, broker };
    let (min, max) = (layers.number("min.compaction.lag.ms"), layers.number("max.compaction.lag.ms"));
    if min > max {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        ));
    }
    Ok(())
}

/// Checks the settings that a broker (or, as cluster-wide default, every broker) would have while running.
/// `changed` are the names that the request sets or deletes.
///
/// # Errors
/// The code and one line for the first setting that cannot be.
pub fn check_broker_settings(settings: &Settings, changed: &[&str]) -> Result<(), (ErrorCode, String)> {
    let mut read_only = Vec::new();
    for name in changed {
        let Some(def) = broker_option(name) else {
            return Err((ErrorCode::INVALID_CONFIG, unknown_broker_option(name)));
        };
        if def.update == Update::ReadOnly {
            read_only.push(def.name);
        }
    }
    if !read_only.is_empty() {
        let names = read_only.join(", ");
        return Err((
            ErrorCode::INVALID_REQUEST,
            format!("Cannot update these configs dynamically: {names}"),
        ));
    }
    for (name, value) in settings {
        if let Some(def) = broker_option(name) {
            def.validate(value).map_err(|message| (ErrorCode::INVALID_CONFIG, message))?;
        }
    }
    Ok(())
}

/// Checks the settings of the file and the command line, alone and together.
///
/// # Errors
/// One line for the first setting that cannot be.
pub fn check_static_settings(file: &Settings) -> Result<(), String> {
    for (name, value) in file {
        let def = broker_option(name).ok_or_else(|| unknown_broker_option(name))?;
        def.validate(value)?;
    }
    let none = Settings::new();
    let config = BrokerConfig::resolve(Layers { broker: &none, cluster: &none, file });
    let (min, max) = (config.group_min_session_timeout_ms, config.group_max_session_timeout_ms);
    if min > max {
        return Err(format!(
            "group.min.session.timeout.ms ({min}) is above group.max.session.timeout.ms ({max})"
        ));
    }
    if u64::from(config.small_request_max_bytes) > config.budget_request_bytes {
        return Err(format!(
            "ringlog.request.max.bytes ({}) is above ringlog.budget.request.bytes ({})",
            config.small_request_max_bytes, config.budget_request_bytes
        ));
    }
    if let (Some(node), Some(broker)) = (file.get("node.id"), file.get("broker.id"))
        && node != broker
    {
        return Err(format!("node.id ({node}) and broker.id ({broker}) must be the same"));
    }
    Ok(())
}

fn unknown_broker_option(name: &str) -> String {
    format!("Unknown broker config name: {name}; the nearest one is {}", nearest_broker_option(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let none = Settings::new();
        let layers = Layers { broker: &none, cluster: &none, file: &none };
        let error = check_topic_settings(&settings(&[("retention.msec", "1")]), layers).unwrap_err();
        assert_eq!(error, "Unknown topic config name: retention.msec; the nearest one is retention.ms");
        let error = check_static_settings(&settings(&[("log.retention.mins", "1")])).unwrap_err();
        assert_eq!(
            error,
            "Unknown broker config name: log.retention.mins; the nearest one is log.retention.ms"
        );
    }

    #[test]
    fn contradictions_are_refused_across_layers() {
        let (none, topic) = (Settings::new(), settings(&[("min.compaction.lag.ms", "10")]));
        let file = settings(&[("log.cleaner.max.compaction.lag.ms", "5")]);
        let check = |file| check_topic_settings(&topic, Layers { broker: &none, cluster: &none, file });
        assert!(check(&none).is_ok());
        assert!(check(&file).unwrap_err().contains("(10) > max.compaction.lag.ms (5)"));
        assert!(check_static_settings(&settings(&[("group.min.session.timeout.ms", "2000000")])).is_err());
        assert!(check_static_settings(&settings(&[("node.id", "2"), ("broker.id", "3")])).is_err());
    }

    #[test]
    fn read_only_options_cannot_change_while_running() {
        let error = check_broker_settings(&settings(&[("node.id", "3")]), &["node.id"]).unwrap_err();
        assert_eq!(error.0, ErrorCode::INVALID_REQUEST);
        assert_eq!(error.1, "Cannot update these configs dynamically: node.id");
        let ok = check_broker_settings(&settings(&[("log.retention.ms", "3")]), &["log.retention.ms"]);
        assert!(ok.is_ok());
        let bad = check_broker_settings(&settings(&[("message.max.bytes", "-3")]), &["message.max.bytes"]);
        assert_eq!(bad.unwrap_err().0, ErrorCode::INVALID_CONFIG);
    }
}
