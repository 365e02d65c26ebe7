//! Options as data: every topic and broker option under Kafka's name with type, unit, default, bounds and
//! documentation; the layers that set them; and the typed views that the data path reads.
//!
//! A value is text in every layer, as in Kafka. It is checked once, where it enters (the file, `--set`, a
//! CreateTopics or AlterConfigs request), and parsed when a typed view is resolved.

mod aliases;
mod broker;
mod broker_options;
pub mod describe;
mod layers;
mod lookup;
mod option;
mod topic;
mod topic_options;
mod validate;

pub use broker::BrokerConfig;
pub use broker_options::BROKER_OPTIONS;
pub use layers::{Layers, Settings};
pub use lookup::{broker_option, nearest_broker_option, nearest_topic_option, topic_option};
pub use option::{Check, Kind, OptionDef, Unit, Update};
pub use topic::{CleanupPolicy, Compression, Durability, TimestampType, TopicConfig};
pub use topic_options::TOPIC_OPTIONS;
pub use validate::{check_broker_settings, check_static_settings, check_topic_settings};
