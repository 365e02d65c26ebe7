//! Finding an option by name, and the nearest name for one that does not exist.

use super::{BROKER_OPTIONS, OptionDef, TOPIC_OPTIONS};

/// The topic option of this name.
#[must_use]
pub fn topic_option(name: &str) -> Option<&'static OptionDef> {
    TOPIC_OPTIONS.iter().find(|def| def.name == name)
}

/// The broker option of this name.
#[must_use]
pub fn broker_option(name: &str) -> Option<&'static OptionDef> {
    BROKER_OPTIONS.iter().find(|def| def.name == name)
}

/// The topic option whose name comes closest.
#[must_use]
pub fn nearest_topic_option(name: &str) -> &'static str {
    nearest(TOPIC_OPTIONS, name)
}

/// The broker option whose name comes closest.
#[must_use]
pub fn nearest_broker_option(name: &str) -> &'static str {
    nearest(BROKER_OPTIONS, name)
}

fn nearest(options: &'static [OptionDef], name: &str) -> &'static str {
    let distance = |def: &&OptionDef| strsim::damerau_levenshtein(def.name, name);
    options.iter().min_by_key(distance).expect("the tables are not empty").name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_offers() {
        assert_eq!(topic_option("retention.ms").unwrap().name, "retention.ms");
        assert!(topic_option("log.retention.ms").is_none());
        assert!(broker_option("log.retention.ms").is_some());
        assert_eq!(nearest_topic_option("retenton.ms"), "retention.ms");
        assert_eq!(nearest_broker_option("log.retention.msec"), "log.retention.ms");
    }

    #[test]
    fn names_are_unique() {
        for options in [TOPIC_OPTIONS, BROKER_OPTIONS] {
            let mut names: Vec<_> = options.iter().map(|def| def.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before);
        }
    }

    #[test]
    fn every_default_passes_its_own_check_and_every_synonym_exists() {
        for def in TOPIC_OPTIONS.iter().chain(BROKER_OPTIONS) {
            if let Some(default) = def.default {
                def.validate(default).unwrap();
            }
            assert!(def.doc.ends_with('.'), "{} is documented in sentences", def.name);
            if let Some(synonym) = def.synonym {
                assert!(broker_option(synonym).is_some(), "{synonym}");
            }
        }
    }
}
