//! Requests that ask one thing of each of many partitions: which of them can be asked, and the answers put back
//! in the order of the request.

use crate::machine::error::ErrorCode;
use crate::machine::metadata::{Image, Topic};
use ringlog_storage::PartitionKey;

/// A question about one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<Q> {
    /// Which partition.
    pub key: PartitionKey,
    /// The leader epoch that the client knows; -1 if none.
    pub leader_epoch: i32,
    /// What is asked.
    pub question: Q,
}

/// What becomes of each partition of a request: it is asked about, or it is refused at once.
#[derive(Debug)]
pub struct Plan<Q> {
    questions: Vec<About<Q>>,
    topics: Vec<(String, Vec<(i32, Option<ErrorCode>)>)>,
}

/// A topic with each partition's answer.
pub(super) type Answered<A> = (String, Vec<(i32, Result<A, ErrorCode>)>);

impl<Q> Default for Plan<Q> {
    fn default() -> Self {
        Plan { questions: Vec::new(), topics: Vec::new() }
    }
}

impl<Q> Plan<Q> {
    /// Partitions added from now on belong to this topic.
    pub(super) fn topic(&mut self, name: &str) {
        self.topics.push((name.to_owned(), Vec::new()));
    }

    /// The partition is asked about.
    pub(super) fn ask(&mut self, partition: i32, about: About<Q>) {
        self.questions.push(about);
        self.partition(partition, None);
    }

    /// The partition is refused.
    pub(super) fn refuse(&mut self, partition: i32, error: ErrorCode) {
        assert!(error.is_error(), "a refusal has a reason");
        self.partition(partition, Some(error));
    }

    fn partition(&mut self, partition: i32, refused: Option<ErrorCode>) {
        let (_, partitions) = self.topics.last_mut().expect("a topic comes before its partitions");
        partitions.push((partition, refused));
    }

    /// Takes the questions out, to be answered in this order.
    pub fn take_questions(&mut self) -> Vec<About<Q>> {
        std::mem::take(&mut self.questions)
    }

    /// Puts the answers, which are in the order of the questions, to their partitions.
    pub(super) fn answered<A>(self, answers: Vec<Result<A, ErrorCode>>) -> Vec<Answered<A>> {
        let mut answers = answers.into_iter();
        let topics = self
            .topics
            .into_iter()
            .map(|(name, partitions)| {
                let mut answer = |refused: Option<ErrorCode>| match refused {
                    Some(error) => Err(error),
                    None => answers.next().expect("every question has an answer"),
                };
                let partitions =
                    partitions.into_iter().map(|(index, refused)| (index, answer(refused))).collect();
                (name, partitions)
            })
            .collect();
        assert!(answers.next().is_none(), "every answer has a question");
        topics
    }
}

/// Finds a partition by its topic's name.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION.
pub(super) fn find<'a>(
    image: &'a Image,
    topic: &str,
    partition: i32,
) -> Result<(&'a Topic, PartitionKey), ErrorCode> {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topic = image.topic_named(topic).ok_or(unknown)?;
    image.partition(topic.id, partition).ok_or(unknown)?;
    Ok((topic, PartitionKey { topic: topic.id, partition }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn answers_meet_their_partitions() {
        let about = |partition| About {
            key: PartitionKey { topic: Uuid::nil(), partition },
            leader_epoch: -1,
            question: (),
        };
        let mut plan = Plan::default();
        plan.topic("a");
        plan.refuse(7, ErrorCode::INVALID_REQUEST);
        plan.ask(1, about(1));
        plan.topic("b");
        plan.ask(2, about(2));
        assert_eq!(plan.take_questions(), [about(1), about(2)]);
        let answered = plan.answered(vec![Ok("one"), Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)]);
        assert_eq!(
            answered,
            [
                ("a".to_owned(), vec![(7, Err(ErrorCode::INVALID_REQUEST)), (1, Ok("one"))]),
                ("b".to_owned(), vec![(2, Err(ErrorCode::NOT_LEADER_OR_FOLLOWER))]),
            ]
        );
    }
}
