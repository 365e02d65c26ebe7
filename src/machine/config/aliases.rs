//! Broker options that say one thing in several units, or fall back on one another, in Kafka's order of
//! preference: `log.retention.ms` before `.minutes` before `.hours`.

/// A name and what its value is multiplied with to reach the unit of the group's first name.
pub(super) type Alias = (&'static str, i64);

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const GROUPS: &[&[Alias]] = &[
    &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)],
    &[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)],
    &[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", HOUR_MS)],
    &[("log.flush.interval.ms", 1), ("log.flush.scheduler.interval.ms", 1)],
];

/// The group that a broker option belongs to, most preferred first; the option alone if it has none.
pub(super) fn aliases(name: &'static str) -> Vec<Alias> {
    GROUPS
        .iter()
        .find(|group| group.iter().any(|(alias, _)| *alias == name))
        .map_or_else(|| vec![(name, 1)], |group| group.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::config::broker_option;

    #[test]
    fn every_alias_is_an_option() {
        for (name, _) in GROUPS.iter().copied().flatten() {
            assert!(broker_option(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_last_of_a_group_has_a_default() {
        for group in GROUPS {
            let last = group.last().unwrap().0;
            assert!(broker_option(last).unwrap().default.is_some(), "{last}");
        }
    }

    #[test]
    fn alone_or_in_a_group() {
        assert_eq!(aliases("log.retention.hours")[0].0, "log.retention.ms");
        assert_eq!(aliases("message.max.bytes"), [("message.max.bytes", 1)]);
    }
}
