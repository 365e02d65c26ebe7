//! The layers that set a broker option, strongest first: this broker's dynamic setting, the cluster-wide
//! dynamic one, the file and command line, the default.

use std::collections::BTreeMap;

use super::aliases::aliases;
use super::option::{OptionDef, parse_bool};
use super::{broker_option, topic_option};

/// Option names with their values as text. Ordered, so that everything made from it is deterministic.
pub type Settings = BTreeMap<String, String>;

/// The settings of one broker.
#[derive(Clone, Copy, Debug)]
pub struct Layers<'a> {
    /// Set while running for this broker alone.
    pub broker: &'a Settings,
    /// Set while running for all brokers.
    pub cluster: &'a Settings,
    /// From the file and the command line.
    pub file: &'a Settings,
}

/// The value, unless the option's own check refuses it (it was written by a version with other bounds): such a
/// setting counts as absent.
fn valid<'a>(settings: &'a Settings, def: &OptionDef) -> Option<&'a str> {
    settings.get(def.name).map(String::as_str).filter(|value| def.validate(value).is_ok()).map(str::trim)
}

impl<'a> Layers<'a> {
    /// What a layer sets for this option, or none where only the default applies.
    pub(super) fn set(&self, name: &str) -> Option<&'a str> {
        let def = broker_option(name).expect("only options of the table are asked for");
        [self.broker, self.cluster, self.file].into_iter().find_map(|layer| valid(layer, def))
    }

    /// The option's value: what a layer sets, else the default.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let def = broker_option(name).expect("only options of the table are asked for");
        self.set(name).or(def.default)
    }

    /// The number that this option, or the one of its aliases that is preferred, has.
    pub(super) fn number(&self, name: &'static str) -> i64 {
        aliases(name)
            .into_iter()
            .find_map(|(alias, scale)| {
                self.text(alias).map(|value| parse_number(value).saturating_mul(scale))
            })
            .expect("the last alias of a group has a default")
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.text(name).and_then(parse_bool).expect("booleans have a default")
    }
}

/// The settings of one topic over those of its broker.
#[derive(Clone, Copy)]
pub(super) struct TopicLayers<'a> {
    pub(super) topic: &'a Settings,
    pub(super) broker: Layers<'a>,
}

impl<'a> TopicLayers<'a> {
    fn own(&self, name: &str) -> (&'static OptionDef, Option<&'a str>) {
        let def = topic_option(name).expect("only options of the table are asked for");
        (def, valid(self.topic, def))
    }

    /// What a layer sets for this option, or none where only the default applies.
    pub(super) fn set(&self, name: &str) -> Option<&'a str> {
        let (def, own) = self.own(name);
        own.or_else(|| def.synonym.and_then(|synonym| self.broker.set(synonym)))
    }

    pub(super) fn word(&self, name: &str) -> &'a str {
        let (def, own) = self.own(name);
        own.or_else(|| def.synonym.and_then(|synonym| self.broker.text(synonym)))
            .or(def.default)
            .expect("topic options have defaults")
    }

    pub(super) fn number(&self, name: &str) -> i64 {
        match self.own(name) {
            (_, Some(value)) => parse_number(value),
            (OptionDef { synonym: Some(synonym), .. }, None) => self.broker.number(synonym),
            (def, None) => parse_number(def.default.expect("topic options have defaults")),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        parse_bool(self.word(name)).expect("the value passed its check")
    }
}

fn parse_number(value: &str) -> i64 {
    value.parse().expect("the value passed its check")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn the_strongest_layer_wins() {
        let (broker, cluster, file) = (
            settings(&[("message.max.bytes", "3")]),
            settings(&[("message.max.bytes", "2"), ("log.segment.bytes", "2000000")]),
            settings(&[
                ("message.max.bytes", "1"),
                ("log.segment.bytes", "1100000"),
                ("num.partitions", "7"),
            ]),
        );
        let layers = Layers { broker: &broker, cluster: &cluster, file: &file };
        assert_eq!(layers.number("message.max.bytes"), 3);
        assert_eq!(layers.number("log.segment.bytes"), 2_000_000);
        assert_eq!(layers.number("num.partitions"), 7);
        assert_eq!(layers.number("default.replication.factor"), 1);
    }

    #[test]
    fn milliseconds_before_minutes_before_hours() {
        let none = Settings::new();
        let number =
            |file: &Settings| Layers { broker: &none, cluster: &none, file }.number("log.retention.ms");
        assert_eq!(number(&none), 604_800_000);
        assert_eq!(number(&settings(&[("log.retention.hours", "2")])), 7_200_000);
        assert_eq!(
            number(&settings(&[("log.retention.hours", "2"), ("log.retention.minutes", "1")])),
            60_000
        );
        let all = [("log.retention.hours", "2"), ("log.retention.minutes", "1"), ("log.retention.ms", "5")];
        assert_eq!(number(&settings(&all)), 5);
    }

    #[test]
    fn a_value_of_another_version_counts_as_absent() {
        let none = Settings::new();
        let cluster = settings(&[("message.max.bytes", "lots")]);
        let layers = Layers { broker: &none, cluster: &cluster, file: &none };
        assert_eq!(layers.number("message.max.bytes"), 1_048_588);
    }
}
