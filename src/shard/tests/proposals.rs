//! Proposals that come while an image is on its way to the shards.

use super::lab::{Lab, wait};
use crate::control::ControlMessage;
use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Command, NewTopic, Reply};
use crate::shard::Message;
use crate::shard::perturb::Perturbation;
use futures_channel::oneshot::{self, Receiver};
use std::sync::mpsc;

type Outcome = Result<Reply, ErrorCode>;

fn create(lab: &Lab, name: &str) -> Receiver<Outcome> {
    let topic =
        NewTopic { name: name.to_owned(), partitions: 1, replication_factor: 1, ..NewTopic::default() };
    let command = Command::CreateTopics { topics: vec![topic], validate_only: false };
    let (tell, told) = oneshot::channel();
    lab.node().control.send(ControlMessage::Propose { command, tell });
    told
}

/// The error that a creation was answered with, waited for.
fn error(mut told: Receiver<Outcome>) -> Option<ErrorCode> {
    let mut outcome = None;
    wait("a proposal is answered", || {
        outcome = told.try_recv().expect("it is answered");
        outcome.is_some()
    });
    let Some(Ok(Reply::Created(created))) = outcome else { panic!("a creation is answered by one") };
    created[0].1.as_ref().err().map(|error| error.code)
}

#[test]
fn proposals_that_come_while_an_image_is_published_are_decided_on_it_and_answered() {
    let lab = Lab::start(2, &[], Perturbation::default());
    // One shard does nothing until it is told to: the image waits for it.
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let busy = Message::Run(Box::new(move |_| {
        let _ = may_go_on.recv();
    }));
    lab.node().mailboxes[1].send(busy);
    let mut first = create(&lab, "t");
    wait("the other shard has the topic", || lab.on(0, |shard| shard.image().topic_count()) == 1);
    let (again, other) = (create(&lab, "t"), create(&lab, "other"));
    assert!(matches!(first.try_recv(), Ok(None)), "it is answered once all shards have it");
    go_on.send(()).unwrap();
    wait("all shards have it", || lab.on(1, |shard| shard.image().topic_count()) >= 1);
    // Nothing else is said to the control executor from here on.
    assert_eq!(error(first), None);
    assert_eq!(error(again), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(error(other), None);
    assert_eq!(lab.on_all(|shard| shard.image().topic_count()), [2, 2]);
}
