//! A small cluster for the tests of the APIs: one broker, `orders` with three partitions, `compacted` with one, and
//! `__consumer_offsets`. Everything in it was decided and applied by the metadata machine.

use crate::api::View;
use crate::machine::config::Settings;
use crate::machine::metadata::{
    Batch, Capacity, Command, Context, Endpoint, Image, NewTopic, Registration, decide,
};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) struct Fixture {
    pub(super) image: Image,
    file: Settings,
    ids: u128,
}

impl Fixture {
    /// The cluster without a topic.
    pub(super) fn empty() -> Fixture {
        let mut fixture = Fixture { image: Image::default(), file: Settings::new(), ids: 100 };
        fixture.run(&Command::FormCluster { cluster_id: Uuid::from_u128(7) });
        fixture.run(&Command::RegisterBroker(registration(1)));
        fixture
    }

    /// The cluster with its topics.
    pub(super) fn new() -> Fixture {
        let mut fixture = Fixture::empty();
        fixture.topic("orders", 3, &[]);
        fixture.topic("compacted", 1, &[("cleanup.policy", "compact")]);
        fixture.topic("__consumer_offsets", 4, &[("cleanup.policy", "compact")]);
        fixture
    }

    /// The cluster with a second broker that left, and a topic `shared` on both.
    pub(super) fn with_a_fenced_broker() -> Fixture {
        let mut fixture = Fixture::new();
        fixture.run(&Command::RegisterBroker(registration(2)));
        let assignments = vec![(0, vec![1, 2])];
        let topic = NewTopic {
            name: "shared".into(),
            partitions: -1,
            replication_factor: -1,
            assignments,
            settings: vec![],
        };
        fixture.run(&Command::CreateTopics { topics: vec![topic], validate_only: false });
        let again = Registration { unfenced: false, incarnation: Uuid::from_u128(99), ..registration(2) };
        fixture.run(&Command::RegisterBroker(again));
        fixture
    }

    /// The same with an option of the broker's file.
    pub(super) fn set(mut self, name: &str, value: &str) -> Fixture {
        self.file.insert(name.into(), value.into());
        self
    }

    pub(super) fn view(&self) -> View<'_> {
        View { node_id: 1, file: &self.file, image: &self.image }
    }

    fn topic(&mut self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), Some((*value).into()))).collect();
        let topic =
            NewTopic { name: name.into(), partitions, replication_factor: 1, assignments: vec![], settings };
        self.run(&Command::CreateTopics { topics: vec![topic], validate_only: false });
    }

    fn run(&mut self, command: &Command) {
        let ids = &mut self.ids;
        let mut new_id = || {
            *ids += 1;
            Uuid::from_u128(*ids)
        };
        let mut context =
            Context { node_id: 1, settings: &self.file, replication_factor_max: 3, new_id: &mut new_id };
        let decision = decide(&self.image, &mut context, command);
        assert!(!decision.records.is_empty(), "{:?}", decision.reply);
        let offset = self.image.offset().map_or(0, |offset| offset + 1);
        let batch = Batch { offset, timestamp_ms: 0, records: decision.records };
        self.image.apply_batch(&batch);
    }
}

fn registration(id: i32) -> Registration {
    let number = u128::try_from(id).expect("ids are positive");
    Registration {
        id,
        cluster_id: None,
        directory: Uuid::from_u128(number),
        incarnation: Uuid::from_u128(number),
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: "127.0.0.1".into(),
            port: 9091 + u16::try_from(id).expect("ids are small"),
        }],
        rack: Some("a".into()),
        features: BTreeMap::from([("group.version".into(), (0, 1))]),
        capacity: Capacity::default(),
        clean: true,
        lost: vec![],
        unfenced: true,
    }
}
