//! What peers send each other: one byte that says what it is, then the rest.
//!
//! ```text
//! frame     kind u8 | ...
//!   1 raft        protobuf of a message, never a snapshot or a proposal
//!   2 announce    count u64 | run u64                          "my folder has counted so far, in this run"
//!   3 remember    count u64 | run u64 | known count u64 | run  the answer: what was known before
//!   4 chunk       term u64 | stream u64 | whole u64 | CRC-32 of the whole u32 | from u64 | bytes
//!   5 chunk taken stream u64 | verdict u8 | bytes taken u64
//! ```
//!
//! A frame's size was bounded and its origin proved before it comes here: protobuf 2 recurses as deep as its input
//! says.

use super::codec::{Put, Take};
use super::log::Remembered;
use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::Message;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    More,
    /// The snapshot is whole and was taken over.
    Done,
    /// It is not wanted, or cannot be stored.
    Refused,
}

/// One chunk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) term: u64,
    pub(super) stream: u64,
    pub(super) whole: u64,
    pub(super) crc: u32,
    pub(super) from: u64,
    pub(super) bytes: Bytes,
}

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Frame {
    Raft(Box<Message>),
    Announce { count: u64, run: u64 },
    Remember { count: u64, run: u64, known: Remembered },
    Chunk(Chunk),
    Taken { stream: u64, verdict: Verdict, bytes: u64 },
}

impl Frame {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Frame::Raft(message) => {
                out.put_u8(1);
                message.write_to_vec(&mut out).expect("writing to memory cannot fail");
            }
            Frame::Announce { count, run } => {
                out.put_u8(2);
                out.put_u64(*count);
                out.put_u64(*run);
            }
            Frame::Remember { count, run, known } => {
                out.put_u8(3);
                [*count, *run, known.count, known.run].into_iter().for_each(|n| out.put_u64(n));
            }
            Frame::Chunk(chunk) => {
                out.put_u8(4);
                [chunk.term, chunk.stream, chunk.whole].into_iter().for_each(|n| out.put_u64(n));
                out.put_u32(chunk.crc);
                out.put_u64(chunk.from);
                out.extend_from_slice(&chunk.bytes);
            }
            Frame::Taken { stream, verdict, bytes } => {
                out.put_u8(5);
                out.put_u64(*stream);
                out.put_u8(match verdict {
                    Verdict::More => 0,
                    Verdict::Done => 1,
                    Verdict::Refused => 2,
                });
                out.put_u64(*bytes);
            }
        }
        out.into()
    }

    /// Reads a frame; none where the bytes are none.
    pub(super) fn decode(bytes: &Bytes) -> Option<Frame> {
        let mut take = Take(bytes);
        let kind = take.u8()?;
        if kind == 1 {
            return Message::parse_from_bytes(take.0).ok().map(|message| Frame::Raft(Box::new(message)));
        }
        let frame = match kind {
            2 => Frame::Announce { count: take.u64()?, run: take.u64()? },
            3 => {
                let (count, run) = (take.u64()?, take.u64()?);
                Frame::Remember { count, run, known: Remembered { count: take.u64()?, run: take.u64()? } }
            }
            4 => {
                let (term, stream, whole) = (take.u64()?, take.u64()?, take.u64()?);
                let (crc, from) = (take.u32()?, take.u64()?);
                let rest = bytes.slice(bytes.len() - take.0.len()..);
                take.raw(rest.len())?;
                Frame::Chunk(Chunk { term, stream, whole, crc, from, bytes: rest })
            }
            5 => {
                let stream = take.u64()?;
                let verdict = match take.u8()? {
                    0 => Verdict::More,
                    1 => Verdict::Done,
                    2 => Verdict::Refused,
                    _ => return None,
                };
                Frame::Taken { stream, verdict, bytes: take.u64()? }
            }
            _ => return None,
        };
        take.is_done().then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_travel_whole_and_cut_ones_are_none() {
        let mut message = Message::default();
        (message.to, message.from, message.term) = (1, 2, 3);
        let chunk =
            Chunk { term: 1, stream: 2, whole: 3, crc: 4, from: 0, bytes: Bytes::from_static(b"abc") };
        for frame in [
            Frame::Raft(Box::new(message)),
            Frame::Announce { count: 1, run: 2 },
            Frame::Remember { count: 1, run: 2, known: Remembered { count: 3, run: 4 } },
            Frame::Chunk(chunk),
            Frame::Taken { stream: 1, verdict: Verdict::Refused, bytes: 9 },
        ] {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes), Some(frame.clone()));
            let least = if matches!(frame, Frame::Chunk(_)) { 37 } else { bytes.len() };
            for len in (1..least).filter(|_| !matches!(frame, Frame::Raft(_))) {
                assert_eq!(Frame::decode(&bytes.slice(..len)), None, "{frame:?} cut to {len}");
            }
        }
        assert_eq!(Frame::decode(&Bytes::new()), None);
        assert_eq!(Frame::decode(&Bytes::from_static(&[99])), None);
    }
}
