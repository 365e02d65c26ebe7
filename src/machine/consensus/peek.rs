//! What a frame promises, for traces and for tests that compare it with what is durable.

use super::frame::Frame;
use super::member::node_of;
use bytes::Bytes;
use raft::eraftpb::MessageType;

/// The part of a frame that binds its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// The term that the sender says it is in; none where it only asks.
    pub term: Option<u64>,
    /// It is a vote for this node.
    pub votes_for: Option<i32>,
    /// It says that the log up to here is durable.
    pub holds: Option<u64>,
}

/// Reads the promises of a frame; none of one that promises nothing.
#[must_use]
pub fn peek(frame: &Bytes) -> Option<Peek> {
    let Some(Frame::Raft(message)) = Frame::decode(frame) else { return None };
    let kind = message.get_msg_type();
    let asks = matches!(
        kind,
        MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse | MessageType::MsgReadIndex
    );
    let votes = kind == MessageType::MsgRequestVoteResponse && !message.reject;
    let campaigns = kind == MessageType::MsgRequestVote;
    let holds = kind == MessageType::MsgAppendResponse && !message.reject;
    Some(Peek {
        term: (!asks).then_some(message.term),
        votes_for: if votes {
            node_of(message.to)
        } else if campaigns {
            node_of(message.from)
        } else {
            None
        },
        holds: holds.then_some(message.index),
    })
}
