//! Questions to partitions, on whatever shards they are.

use super::{Call, HandlerError};
use crate::api::partitions::About;
use crate::api::{
    delete_records, describe_log_dirs, describe_producers, list_offsets, offset_for_leader_epoch,
};
use crate::host;
use crate::machine::error::ErrorCode;
use crate::shard::ask::{ActiveProducer, Ask, Question, Told};
use bytes::Bytes;
use std::sync::Arc;

/// Asks, and takes each answer apart; none from `answer` means that it is not of the question's kind.
async fn ask<Q, A>(
    call: &Call,
    questions: Vec<About<Q>>,
    question: impl Fn(Q) -> Question,
    answer: impl Fn(Told) -> Option<A>,
) -> Vec<Result<A, ErrorCode>> {
    let asks = questions.into_iter().map(|about| Ask {
        key: about.key,
        leader_epoch: about.leader_epoch,
        question: question(about.question),
    });
    let told = call.shard.ask(asks.collect()).await;
    let told = told.into_iter().map(|told| match told {
        Told::Error(error) => Err(error),
        told => Ok(answer(told).expect("a question is answered in its kind")),
    });
    told.collect()
}

pub(super) async fn list_offsets(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut plan = list_offsets::plan(call.version(), &request, &call.shard.image());
    let question = |timestamp| Question::Offset { timestamp };
    let answers = ask(call, plan.take_questions(), question, |told| match told {
        Told::Offset { offset, timestamp, leader_epoch } => {
            Some(list_offsets::Found { offset, timestamp, leader_epoch })
        }
        _ => None,
    });
    let answers = answers.await;
    call.encode(&list_offsets::reply(call.version(), plan, answers))
}

pub(super) async fn delete_records(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut plan = delete_records::plan(&request, call.view(&call.shard.image()));
    let questions = plan.take_questions();
    let count = questions.len();
    let question = |offset| Question::DeleteBefore { offset };
    let answers = ask(call, questions, question, |told| match told {
        Told::LogStart(offset) => Some(offset),
        _ => None,
    });
    let answers = call.shard.within(request.timeout_ms, answers).await;
    let answers = answers.unwrap_or_else(|code| vec![Err(code); count]);
    call.encode(&delete_records::reply(plan, answers))
}

pub(super) async fn offset_for_leader_epoch(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut plan = offset_for_leader_epoch::plan(&request, &call.shard.image());
    let question = |epoch| Question::EpochEnd { epoch };
    let answers = ask(call, plan.take_questions(), question, |told| match told {
        Told::EpochEnd { epoch, end_offset } => Some(offset_for_leader_epoch::EpochEnd { epoch, end_offset }),
        _ => None,
    });
    let answers = answers.await;
    call.encode(&offset_for_leader_epoch::reply(plan, answers))
}

pub(super) async fn describe_log_dirs(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut plan = describe_log_dirs::plan(&request, call.view(&call.shard.image()));
    let answers = ask(
        call,
        plan.take_questions(),
        |()| Question::Size,
        |told| match told {
            Told::Size(bytes) => Some(bytes),
            _ => None,
        },
    );
    let answers = answers.await;
    let disk = Arc::clone(&call.shard.node.disk);
    // Asking the file system may block.
    let dir = call.shard.node.data_dir.clone();
    let look = move || (host::file_system_bytes(&dir), disk.free_bytes().ok());
    let (total_bytes, usable_bytes) = glommio::executor().spawn_blocking(look).await;
    let path = call.shard.node.data_dir.to_string_lossy();
    let log_dir = describe_log_dirs::LogDir { path: &path, total_bytes, usable_bytes };
    call.encode(&describe_log_dirs::reply(call.version(), plan, answers, log_dir))
}

pub(super) async fn describe_producers(call: &Call, body: Bytes) -> Result<Bytes, HandlerError> {
    let request = call.decode(body)?;
    let mut plan = describe_producers::plan(&request, &call.shard.image());
    let producer = |producer: ActiveProducer| describe_producers::Producer {
        id: producer.producer_id,
        epoch: producer.producer_epoch,
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
    };
    let answers = ask(
        call,
        plan.take_questions(),
        |()| Question::Producers,
        |told| match told {
            Told::Producers(producers) => Some(producers.into_iter().map(producer).collect()),
            _ => None,
        },
    );
    let answers = answers.await;
    call.encode(&describe_producers::reply(plan, answers))
}
