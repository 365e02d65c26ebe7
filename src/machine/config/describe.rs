//! DescribeConfigs: for each option its value, where that comes from, every layer that has a say (synonyms), type
//! and documentation, as Kafka reports them.

use super::aliases::aliases;
use super::layers::{Layers, Settings, TopicLayers};
use super::option::{OptionDef, Update};
use super::{BROKER_OPTIONS, Kind, TOPIC_OPTIONS, TopicConfig};

/// Where a value comes from. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set while running, for one broker.
    DynamicBroker = 2,
    /// Set while running, for all brokers.
    DynamicDefaultBroker = 3,
    /// From the file or the command line.
    StaticBroker = 4,
    /// Not set anywhere.
    Default = 5,
}

/// One layer's value for an option, strongest first in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name under which that layer sets it.
    pub name: &'static str,
    /// Its value there.
    pub value: String,
    /// Which layer.
    pub source: Source,
}

/// One option as DescribeConfigs answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: &'static str,
    /// Value; none where Kafka's is null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// Whether it can be changed while running.
    pub read_only: bool,
    /// Every layer that sets it or its default, strongest first. To be left out of the answer unless asked for.
    pub synonyms: Vec<Synonym>,
    /// Type of the value.
    pub kind: Kind,
    /// What it does. To be left out of the answer unless asked for.
    pub doc: &'static str,
}

/// Describes a topic's options. `replicas` is its replication factor, which the default of `min.insync.replicas`
/// follows; `keys` restricts the answer, and names that do not exist are left out as in Kafka.
#[must_use]
pub fn topic(own: &Settings, broker: Layers<'_>, replicas: usize, keys: Option<&[String]>) -> Vec<Entry> {
    let layers = TopicLayers { topic: own, broker };
    let mut entries: Vec<Entry> =
        selected(TOPIC_OPTIONS, keys).map(|def| topic_entry(def, own, &layers)).collect();
    let min_insync = entries.iter_mut().find(|entry| entry.name == "min.insync.replicas");
    if let Some(entry) = min_insync.filter(|entry| entry.source == Source::Default) {
        entry.value = Some(TopicConfig::resolve(own, broker).min_insync(replicas).to_string());
    }
    entries
}

/// Describes a broker's options with every layer.
#[must_use]
pub fn broker(layers: Layers<'_>, keys: Option<&[String]>) -> Vec<Entry> {
    selected(BROKER_OPTIONS, keys)
        .map(|def| {
            let synonyms = broker_synonyms(def.name, layers);
            let value = layers.text(def.name).map(str::to_owned);
            entry(def, value, synonyms, def.update == Update::ReadOnly)
        })
        .collect()
}

/// Describes what is set cluster-wide (the broker resource with an empty name): only that, as in Kafka.
#[must_use]
pub fn cluster(cluster: &Settings, keys: Option<&[String]>) -> Vec<Entry> {
    selected(BROKER_OPTIONS, keys)
        .filter_map(|def| {
            let value = cluster.get(def.name)?.clone();
            let source = Source::DynamicDefaultBroker;
            let synonyms = vec![Synonym { name: def.name, value: value.clone(), source }];
            Some(entry(def, Some(value), synonyms, def.update == Update::ReadOnly))
        })
        .collect()
}

fn selected<'a>(
    options: &'static [OptionDef],
    keys: Option<&'a [String]>,
) -> impl Iterator<Item = &'static OptionDef> + 'a {
    options.iter().filter(move |def| keys.is_none_or(|keys| keys.iter().any(|key| key == def.name)))
}

fn topic_entry(def: &'static OptionDef, own: &Settings, layers: &TopicLayers<'_>) -> Entry {
    let mut synonyms = def.synonym.map_or_else(Vec::new, |name| broker_synonyms(name, layers.broker));
    if let Some(value) = own.get(def.name) {
        let source = Source::DynamicTopic;
        synonyms.insert(0, Synonym { name: def.name, value: value.clone(), source });
    }
    let value = match def.kind {
        Kind::Int | Kind::Long => layers.number(def.name).to_string(),
        Kind::Boolean | Kind::Double | Kind::String | Kind::List => layers.word(def.name).to_owned(),
    };
    entry(def, Some(value), synonyms, false)
}

fn entry(def: &'static OptionDef, value: Option<String>, synonyms: Vec<Synonym>, read_only: bool) -> Entry {
    let source = synonyms.first().map_or(Source::Default, |strongest| strongest.source);
    Entry { name: def.name, value, source, read_only, synonyms, kind: def.kind, doc: def.doc }
}

/// Layer by layer, and within a layer alias by alias, as Kafka lists them.
fn broker_synonyms(name: &'static str, layers: Layers<'_>) -> Vec<Synonym> {
    let names: Vec<&'static str> = aliases(name).into_iter().map(|(alias, _)| alias).collect();
    let set = [
        (layers.broker, Source::DynamicBroker),
        (layers.cluster, Source::DynamicDefaultBroker),
        (layers.file, Source::StaticBroker),
    ];
    let mut synonyms = Vec::new();
    for (settings, source) in set {
        for name in &names {
            synonyms.extend(settings.get(*name).map(|value| Synonym { name, value: value.clone(), source }));
        }
    }
    for name in &names {
        let default = super::broker_option(name).and_then(|def| def.default);
        let source = Source::Default;
        synonyms.extend(default.map(|value| Synonym { name, value: value.to_owned(), source }));
    }
    synonyms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    fn find(entries: &[Entry], name: &str) -> Entry {
        entries.iter().find(|entry| entry.name == name).unwrap().clone()
    }

    fn names(entry: &Entry) -> Vec<(&str, &str, Source)> {
        entry.synonyms.iter().map(|s| (s.name, s.value.as_str(), s.source)).collect()
    }

    #[test]
    fn topic_entries_list_every_layer() {
        let (none, cluster) = (Settings::new(), settings(&[("log.retention.ms", "9")]));
        let file = settings(&[("log.retention.minutes", "2")]);
        let own = settings(&[("retention.ms", "5")]);
        let layers = Layers { broker: &none, cluster: &cluster, file: &file };
        let entry = find(&topic(&own, layers, 1, None), "retention.ms");
        assert_eq!((entry.value.as_deref(), entry.source), (Some("5"), Source::DynamicTopic));
        assert_eq!(
            names(&entry),
            [
                ("retention.ms", "5", Source::DynamicTopic),
                ("log.retention.ms", "9", Source::DynamicDefaultBroker),
                ("log.retention.minutes", "2", Source::StaticBroker),
                ("log.retention.hours", "168", Source::Default),
            ]
        );
        let entry = find(&topic(&none, layers, 1, None), "retention.ms");
        assert_eq!((entry.value.as_deref(), entry.source), (Some("9"), Source::DynamicDefaultBroker));
    }

    #[test]
    fn defaults() {
        let none = Settings::new();
        let layers = Layers { broker: &none, cluster: &none, file: &none };
        let entries = topic(&none, layers, 3, None);
        assert_eq!(entries.len(), TOPIC_OPTIONS.len());
        assert!(entries.iter().all(|entry| entry.source == Source::Default && entry.value.is_some()));
        assert_eq!(find(&entries, "retention.ms").value.as_deref(), Some("604800000"));
        assert_eq!(find(&entries, "min.insync.replicas").value.as_deref(), Some("2"));
        let entries = broker(layers, None);
        assert_eq!(find(&entries, "log.retention.ms").value, None);
        assert!(find(&entries, "node.id").read_only);
        assert!(!find(&entries, "log.retention.ms").read_only);
        assert!(cluster(&none, None).is_empty());
    }

    #[test]
    fn keys_restrict_the_answer() {
        let none = Settings::new();
        let layers = Layers { broker: &none, cluster: &none, file: &none };
        let keys = ["retention.ms".to_owned(), "no.such".to_owned()];
        assert_eq!(topic(&none, layers, 1, Some(&keys)).len(), 1);
    }
}
