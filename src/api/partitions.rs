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

/// The partitions of a request in its order, by topic, each with why it is refused, if it is.
type Places = Vec<(String, Vec<(i32, Option<ErrorCode>)>)>;

/// A topic with each partition's answer.
pub(super) type Answered<A> = (String, Vec<(i32, Result<A, ErrorCode>)>);

/// What becomes of each partition of a request: it is asked about, or it is refused at once.
#[derive(Debug, Default)]
pub struct Outline {
    topics: Places,
}

impl Outline {
    /// Partitions added from now on belong to this topic.
    pub(super) fn topic(&mut self, name: &str) {
        self.topics.push((name.to_owned(), Vec::new()));
    }

    /// The partition is asked about, or refused with an error.
    pub(super) fn partition(&mut self, partition: i32, refused: Option<ErrorCode>) {
        assert!(refused.is_none_or(ErrorCode::is_error), "a refusal has a reason");
        let (_, partitions) = self.topics.last_mut().expect("a topic comes before its partitions");
        partitions.push((partition, refused));
    }

    /// Puts the answers, which are in the order in which partitions are asked about, to their partitions.
    pub(super) fn answered<A>(
        self,
        answers: impl IntoIterator<Item = Result<A, ErrorCode>>,
    ) -> Vec<Answered<A>> {
        let mut answers = answers.into_iter();
        let mut answer = |refused: Option<ErrorCode>| match refused {
            Some(error) => Err(error),
            None => answers.next().expect("every partition asked about has an answer"),
        };
        let mut topics = Vec::with_capacity(self.topics.len());
        for (name, partitions) in self.topics {
            let answered = partitions.into_iter().map(|(index, refused)| (index, answer(refused)));
            topics.push((name, answered.collect()));
        }
        assert!(answers.next().is_none(), "every answer belongs to a partition");
        topics
    }
}

/// An outline with its questions.
#[derive(Debug)]
pub struct Plan<Q> {
    questions: Vec<About<Q>>,
    outline: Outline,
}

impl<Q> Default for Plan<Q> {
    fn default() -> Self {
        Plan { questions: Vec::new(), outline: Outline::default() }
    }
}

impl<Q> Plan<Q> {
    /// Partitions added from now on belong to this topic.
    pub(super) fn topic(&mut self, name: &str) {
        self.outline.topic(name);
    }

    /// The partition is asked about.
    pub(super) fn ask(&mut self, partition: i32, about: About<Q>) {
        self.questions.push(about);
        self.outline.partition(partition, None);
    }

    /// The partition is asked about where it was found, else refused.
    pub(super) fn ask_or_refuse(&mut self, partition: i32, about: Result<About<Q>, ErrorCode>) {
        match about {
            Ok(about) => self.ask(partition, about),
            Err(error) => self.outline.partition(partition, Some(error)),
        }
    }

    /// Takes the questions out, to be answered in this order.
    pub fn take_questions(&mut self) -> Vec<About<Q>> {
        std::mem::take(&mut self.questions)
    }

    /// Puts the answers, which are in the order of the questions, to their partitions.
    pub(super) fn answered<A>(self, answers: Vec<Result<A, ErrorCode>>) -> Vec<Answered<A>> {
        self.outline.answered(answers)
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
        plan.ask_or_refuse(7, Err(ErrorCode::INVALID_REQUEST));
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
