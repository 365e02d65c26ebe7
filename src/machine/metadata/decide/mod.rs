//! Deciding commands: a command and the image it is decided on in, records and an answer out. Nothing changes here.

mod brokers;
mod create;
mod delete;
mod partitions;
mod settings;

use std::collections::BTreeSet;

use uuid::Uuid;

use super::command::{ApiError, Command, Reply};
use super::image::Image;
use super::record::{Record, Topic};
use crate::limits::PRODUCER_ID_BLOCK;
use crate::machine::config::{Settings, TopicConfig};
use crate::machine::error::ErrorCode;

/// What a decision needs to know beside the image.
pub struct Context<'a> {
    /// The node that decides.
    pub node_id: i32,
    /// What it was started with.
    pub settings: &'a Settings,
    /// Most replicas that a partition may have: 1 while Ringlog does not replicate.
    pub replication_factor_max: i16,
    /// Gives a random id for each topic, usable in the sense of [`super::is_usable_id`].
    pub new_id: &'a mut dyn FnMut() -> Uuid,
}

impl Context<'_> {
    fn topic_config(&self, image: &Image, topic: &Topic) -> TopicConfig {
        image.topic_config(topic, self.node_id, self.settings)
    }
}

/// What a command leads to: records to be made durable and applied together, and the answer to give after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// None where nothing changes; the answer may then be given once what it was decided on is durable.
    pub records: Vec<Record>,
    /// The answer.
    pub reply: Reply,
}

/// Decides a command on an image.
#[must_use]
pub fn decide(image: &Image, context: &mut Context<'_>, command: &Command) -> Decision {
    let mut records = Vec::new();
    let mut dry = false;
    let reply = match command {
        Command::FormCluster { cluster_id } => Reply::Formed(form(image, *cluster_id, &mut records)),
        Command::RegisterBroker(registration) => {
            Reply::Registered(brokers::register(image, context, registration, &mut records))
        }
        Command::CreateTopics { topics, validate_only } => {
            dry = *validate_only;
            Reply::Created(create::create_topics(image, context, topics, &mut records))
        }
        Command::DeleteTopics { topics } => {
            Reply::Deleted(delete::delete_topics(image, context, topics, &mut records))
        }
        Command::CreatePartitions { topics, validate_only } => {
            dry = *validate_only;
            Reply::Partitions(partitions::create_partitions(image, context, topics, &mut records))
        }
        Command::AlterConfigs { resources, validate_only } => {
            dry = *validate_only;
            Reply::Altered(settings::replace(image, context, resources, &mut records))
        }
        Command::IncrementalAlterConfigs { resources, validate_only } => {
            dry = *validate_only;
            Reply::Altered(settings::change(image, context, resources, &mut records))
        }
        Command::AllocateProducerIds => Reply::ProducerIds(allocate_producer_ids(image, &mut records)),
    };
    if dry {
        records.clear();
    }
    Decision { records, reply }
}

fn form(image: &Image, id: Uuid, records: &mut Vec<Record>) -> Result<(), ApiError> {
    if image.cluster_id.is_some() {
        return Err(ApiError::new(ErrorCode::INVALID_REQUEST, "The cluster is already formed."));
    }
    records.push(Record::Cluster { id });
    Ok(())
}

fn allocate_producer_ids(image: &Image, records: &mut Vec<Record>) -> Result<(i64, i64), ApiError> {
    let first = image.next_producer_id;
    let Some(next) = first.checked_add(PRODUCER_ID_BLOCK) else {
        return Err(ApiError::new(ErrorCode::UNKNOWN_SERVER_ERROR, "All producer ids have been handed out."));
    };
    records.push(Record::ProducerIds { next });
    Ok((first, PRODUCER_ID_BLOCK))
}

/// The items that occur more than once.
fn repeated<'a, T: Ord + ?Sized + 'a>(items: impl Iterator<Item = &'a T>) -> BTreeSet<&'a T> {
    let mut seen = BTreeSet::new();
    items.filter(|item| !seen.insert(*item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::metadata::decide::fixture::Cluster;

    #[test]
    fn a_cluster_is_formed_once() {
        let mut cluster = Cluster::unformed();
        let command = Command::FormCluster { cluster_id: Uuid::from_u128(9) };
        assert_eq!(cluster.run(&command), Reply::Formed(Ok(())));
        assert_eq!(cluster.image.cluster_id(), Some(Uuid::from_u128(9)));
        let Reply::Formed(Err(error)) = cluster.run(&command) else { panic!() };
        assert_eq!(error.code, ErrorCode::INVALID_REQUEST);
    }

    #[test]
    fn producer_ids_come_in_blocks_that_never_overlap() {
        let mut cluster = Cluster::of(1);
        for block in 0..3 {
            assert_eq!(
                cluster.run(&Command::AllocateProducerIds),
                Reply::ProducerIds(Ok((block * 1000, 1000)))
            );
        }
        cluster.image.apply(&Record::ProducerIds { next: i64::MAX - 5 });
        let Reply::ProducerIds(Err(error)) = cluster.run(&Command::AllocateProducerIds) else { panic!() };
        assert_eq!(error.code, ErrorCode::UNKNOWN_SERVER_ERROR);
    }
}

#[cfg(test)]
pub(super) mod fixture {
    //! A small cluster to decide on, for tests.

    use super::*;
    use crate::machine::metadata::{Batch, Capacity, Endpoint, Registration};
    use std::collections::BTreeMap;

    pub(crate) struct Cluster {
        pub(crate) image: Image,
        pub(crate) settings: Settings,
        pub(crate) log: Vec<Batch>,
        pub(crate) replication_factor_max: i16,
        ids: u128,
    }

    impl Cluster {
        pub(crate) fn unformed() -> Cluster {
            Cluster {
                image: Image::default(),
                settings: Settings::new(),
                log: Vec::new(),
                replication_factor_max: 3,
                ids: 100,
            }
        }

        /// Brokers 1 to `brokers`, all in service.
        pub(crate) fn of(brokers: i32) -> Cluster {
            let mut cluster = Cluster::unformed();
            for id in 1..=brokers {
                assert!(matches!(
                    cluster.run(&Command::RegisterBroker(registration(id))),
                    Reply::Registered(Ok(_))
                ));
            }
            cluster
        }

        pub(crate) fn set(mut self, name: &str, value: &str) -> Cluster {
            self.settings.insert(name.into(), value.into());
            self
        }

        pub(crate) fn decide(&mut self, command: &Command) -> Decision {
            let ids = &mut self.ids;
            let mut new_id = || {
                *ids += 1;
                Uuid::from_u128(*ids)
            };
            let mut context = Context {
                node_id: 1,
                settings: &self.settings,
                replication_factor_max: self.replication_factor_max,
                new_id: &mut new_id,
            };
            decide(&self.image, &mut context, command)
        }

        /// Decides, applies, checks.
        pub(crate) fn run(&mut self, command: &Command) -> Reply {
            let Decision { records, reply } = self.decide(command);
            if !records.is_empty() {
                let offset = self.log.len() as i64;
                let batch = Batch { offset, timestamp_ms: 10 * offset, records };
                self.image.apply_batch(&batch);
                self.image.check();
                self.log.push(batch);
            }
            reply
        }

        /// Creates a topic that must be fine.
        pub(crate) fn topic(&mut self, name: &str, partitions: i32, replication_factor: i16) -> Uuid {
            let topic = topic(name, partitions, replication_factor);
            let command = Command::CreateTopics { topics: vec![topic], validate_only: false };
            let Reply::Created(results) = self.run(&command) else { panic!() };
            results[0].1.as_ref().unwrap().id
        }
    }

    pub(crate) fn topic(
        name: &str,
        partitions: i32,
        replication_factor: i16,
    ) -> crate::machine::metadata::NewTopic {
        crate::machine::metadata::NewTopic {
            name: name.into(),
            partitions,
            replication_factor,
            ..Default::default()
        }
    }

    pub(crate) fn registration(id: i32) -> Registration {
        Registration {
            id,
            cluster_id: None,
            directory: Uuid::from_u128(1000 + id as u128),
            incarnation: Uuid::from_u128(2000 + id as u128),
            endpoints: vec![Endpoint { listener: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 9092 }],
            rack: None,
            features: BTreeMap::new(),
            capacity: Capacity::default(),
            clean: true,
            lost: Vec::new(),
            unfenced: true,
        }
    }
}
