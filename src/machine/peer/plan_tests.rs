//! Who is wanted, case by case.

use super::*;
use crate::machine::metadata::{Broker, BrokerState, Capacity, Endpoint, Record};
use std::collections::BTreeMap;
use uuid::Uuid;

const CONTROL: [Stream; 2] = [Stream::Raft, Stream::Requests];

fn image(brokers: &[i32]) -> Image {
    let mut image = Image::default();
    image.apply(&Record::Cluster { id: Uuid::from_u128(9) });
    for id in brokers {
        let endpoint = |listener: &str, port| Endpoint {
            listener: listener.to_owned(),
            host: format!("10.0.0.{id}"),
            port,
        };
        image.apply(&Record::Broker(Broker {
            id: *id,
            directory: Uuid::from_u128(1),
            incarnation: Uuid::from_u128(2),
            epoch: i64::from(*id),
            endpoints: vec![endpoint("PLAINTEXT", 9092), endpoint(LISTENER, 9093)],
            rack: None,
            features: BTreeMap::new(),
            capacity: Capacity::default(),
            state: BrokerState::Fenced,
        }));
    }
    image
}

struct Lab {
    me: i32,
    image: Image,
    listed: Vec<Place>,
    voters: BTreeSet<i32>,
    leaders: BTreeSet<i32>,
    snapshots: BTreeSet<i32>,
    alone: bool,
}

/// A broker of a cluster of five, of which three vote.
fn lab(me: i32) -> Lab {
    Lab {
        me,
        image: image(&[1, 2, 3, 4, 5]),
        listed: Vec::new(),
        voters: BTreeSet::from([1, 2, 3]),
        leaders: BTreeSet::new(),
        snapshots: BTreeSet::new(),
        alone: false,
    }
}

impl Lab {
    fn plan(&self) -> Vec<Wanted> {
        let mut discovery = Discovery::new(1);
        discovery.set_places(0, places(self.me, &self.image, &self.listed), &mut Vec::new());
        let situation = Situation {
            me: self.me,
            image: &self.image,
            voters: &self.voters,
            leaders: &self.leaders,
            snapshots: &self.snapshots,
            alone: self.alone,
        };
        plan(&situation, &discovery)
    }

    fn brief(&self) -> Vec<(Peer, Vec<Stream>, bool)> {
        self.plan().into_iter().map(|wanted| (wanted.peer, wanted.streams, wanted.urgent)).collect()
    }
}

fn control(id: i32, urgent: bool) -> (Peer, Vec<Stream>, bool) {
    (Peer::Node(id), CONTROL.to_vec(), urgent)
}

#[test]
fn a_voter_wants_everybody_and_the_others_the_voters() {
    assert_eq!(lab(1).brief(), [control(2, true), control(3, true), control(4, false), control(5, false)]);
    assert_eq!(lab(4).brief(), [control(1, true), control(2, true), control(3, true)]);
    let plan = lab(4).plan();
    assert!(plan.iter().all(|wanted| wanted.registered));
    let addresses: Vec<String> = plan[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1:9093"], "the peer listener's");
}

#[test]
fn who_wants_one_is_wanted_by_it() {
    for a in 1..=5 {
        for wanted in lab(a).plan() {
            let Peer::Node(b) = wanted.peer else { panic!() };
            assert!(lab(b).plan().iter().any(|wanted| wanted.peer == Peer::Node(a)), "{a} and {b}");
            assert!(
                wanted.urgent
                    || lab(b).plan().iter().any(|wanted| wanted.peer == Peer::Node(a) && wanted.urgent)
            );
        }
    }
}

#[test]
fn leaders_and_snapshots_have_streams_of_their_own() {
    let mut lab = lab(4);
    lab.leaders = BTreeSet::from([3, 5]);
    lab.snapshots = BTreeSet::from([2]);
    let streams = |more: &[Stream]| [&CONTROL, more].concat();
    let expected = [
        control(1, true),
        (Peer::Node(2), streams(&[Stream::Bulk]), true),
        (Peer::Node(3), streams(&[Stream::Data]), true),
        (Peer::Node(5), vec![Stream::Data], true),
    ];
    assert_eq!(lab.brief(), expected);
}

#[test]
fn before_there_is_a_cluster_the_static_list_counts() {
    let mut lab = lab(1);
    (lab.image, lab.voters) = (Image::default(), BTreeSet::new());
    lab.listed = ["1@10.0.0.1:9093", "2@10.0.0.2:9093", "10.0.0.2:9093", "10.0.0.8:9093"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    assert_eq!(lab.brief(), [control(2, true)]);
    assert!(!lab.plan()[0].registered);
    // Alone, it asks whoever else is listed; an address that belongs to a node is not asked twice.
    lab.alone = true;
    let seed = (Peer::Seed("10.0.0.8:9093".parse().unwrap()), vec![Stream::Requests], true);
    assert_eq!(lab.brief(), [control(2, true), seed]);
}

#[test]
fn in_a_cluster_the_static_list_says_where_and_not_who() {
    let mut lab = lab(1);
    lab.listed = ["2@10.9.9.9:9093", "7@10.0.0.7:9093"].map(|text| text.parse().unwrap()).to_vec();
    assert_eq!(lab.brief(), [control(2, true), control(3, true), control(4, false), control(5, false)]);
    let addresses: Vec<String> = lab.plan()[0].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.2:9093", "10.9.9.9:9093"]);
    // A voter that never registered is where the list says.
    lab.voters.insert(7);
    let plan = lab.plan();
    let seven = plan.iter().find(|wanted| wanted.peer == Peer::Node(7)).unwrap();
    assert_eq!((seven.registered, seven.addresses.len()), (false, 1));
}

#[test]
fn a_single_broker_wants_nobody() {
    let mut lab = lab(1);
    (lab.image, lab.voters, lab.alone) = (image(&[1]), BTreeSet::from([1]), true);
    assert_eq!(lab.brief(), []);
}

#[test]
fn a_plan_has_its_limit_and_keeps_the_voters() {
    let mut lab = lab(1);
    lab.image = image(&(1..=1_200).collect::<Vec<_>>());
    lab.voters = BTreeSet::from([1, 1_199, 1_200]);
    let plan = lab.plan();
    assert_eq!(plan.len(), PEERS_MAX);
    assert!([1_199, 1_200].iter().all(|id| plan.iter().any(|wanted| wanted.peer == Peer::Node(*id))));
}
