//! Snapshots in chunks: a few under way to a peer, taken in order, sent again from the last one taken when nothing
//! is heard. A stream always ends with a report, also when it failed, or raft would never send to that peer again.

use super::frame::{Chunk, Frame, Verdict};
use super::log::Snapshot;
use super::member::Peer;
use bytes::Bytes;

/// Chunks under way to one peer.
const WINDOW: u64 = 4;
/// A chunk that nothing was heard of for so long is sent again.
const RESEND_MS: u64 = 300;

/// A snapshot on its way to a peer.
pub(super) struct Sending {
    pub(super) to: Peer,
    pub(super) stream: u64,
    term: u64,
    index: u64,
    bytes: Bytes,
    crc: u32,
    taken: u64,
    sent: u64,
    progress_ms: u64,
    sent_ms: u64,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    UnderWay,
    Finished,
    Failed,
}

impl Sending {
    pub(super) fn new(to: Peer, stream: u64, term: u64, snapshot: &Snapshot, now_ms: u64) -> Sending {
        let bytes = Bytes::from(snapshot.encode());
        let crc = crc32fast::hash(&bytes);
        Sending {
            to,
            stream,
            term,
            index: snapshot.index,
            bytes,
            crc,
            taken: 0,
            sent: 0,
            progress_ms: now_ms,
            sent_ms: now_ms,
        }
    }

    /// The snapshot is of the state after this entry.
    pub(super) fn index(&self) -> u64 {
        self.index
    }

    /// The chunks to send now.
    pub(super) fn chunks(&mut self, chunk_bytes: usize, now_ms: u64) -> Vec<Bytes> {
        let whole = self.bytes.len() as u64;
        if self.sent > self.taken && now_ms >= self.sent_ms + RESEND_MS {
            self.sent = self.taken;
        }
        let mut frames = Vec::new();
        while self.sent < whole && self.sent < self.taken + WINDOW * chunk_bytes as u64 {
            let end = (self.sent + chunk_bytes as u64).min(whole);
            let bytes = self.bytes.slice(self.sent as usize..end as usize);
            let chunk =
                Chunk { term: self.term, stream: self.stream, whole, crc: self.crc, from: self.sent, bytes };
            frames.push(Frame::Chunk(chunk).encode());
            (self.sent, self.sent_ms) = (end, now_ms);
        }
        frames
    }

    /// The peer has taken bytes, or said no.
    pub(super) fn heard(&mut self, verdict: Verdict, bytes: u64, now_ms: u64) -> Outcome {
        match verdict {
            Verdict::Refused => return Outcome::Failed,
            Verdict::Done => return Outcome::Finished,
            Verdict::More => {}
        }
        if bytes > self.taken && bytes <= self.bytes.len() as u64 {
            self.taken = bytes;
            self.sent = self.sent.max(bytes);
            self.progress_ms = now_ms;
        }
        Outcome::UnderWay
    }

    /// Whether it has stood still for too long.
    pub(super) fn has_failed(&self, now_ms: u64, stream_ms: u64) -> bool {
        now_ms >= self.progress_ms + stream_ms
    }
}

/// A snapshot that comes in.
pub(super) struct Receiving {
    from: Peer,
    stream: u64,
    term: u64,
    whole: u64,
    crc: u32,
    bytes: Vec<u8>,
}

/// What a chunk led to.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// Say this, and wait for more.
    Answer(Frame),
    /// The snapshot is whole.
    Whole(Snapshot),
}

impl Receiving {
    /// Takes a chunk. `current` is the stream under way, if there is one; a chunk of a new stream replaces it.
    pub(super) fn take(
        current: &mut Option<Receiving>,
        from: Peer,
        chunk: &Chunk,
        bytes_max: u64,
    ) -> Received {
        let stream = chunk.stream;
        let answer = |verdict, bytes| Received::Answer(Frame::Taken { stream, verdict, bytes });
        if chunk.whole > bytes_max || chunk.bytes.is_empty() {
            return answer(Verdict::Refused, 0);
        }
        let is_current = |r: &Receiving| r.from == from && r.stream == stream && r.term == chunk.term;
        if !current.as_ref().is_some_and(is_current) {
            if current.as_ref().is_some_and(|r| r.term > chunk.term) {
                return answer(Verdict::Refused, 0);
            }
            let (whole, crc) = (chunk.whole, chunk.crc);
            *current = Some(Receiving { from, stream, term: chunk.term, whole, crc, bytes: Vec::new() });
        }
        let receiving = current.as_mut().expect("a stream was begun");
        let held = receiving.bytes.len() as u64;
        if chunk.from == held && held + chunk.bytes.len() as u64 <= receiving.whole {
            receiving.bytes.extend_from_slice(&chunk.bytes);
        }
        let held = receiving.bytes.len() as u64;
        if held < receiving.whole {
            return answer(Verdict::More, held);
        }
        let whole = current.take().expect("the stream under way");
        let bytes = Bytes::from(whole.bytes);
        match Snapshot::decode(&bytes) {
            Some(snapshot) if crc32fast::hash(&bytes) == whole.crc => Received::Whole(snapshot),
            _ => answer(Verdict::Refused, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::member::Members;
    use super::*;
    use uuid::Uuid;

    const FROM: Peer = Peer { node: 1, directory: Uuid::nil() };

    fn snapshot(bytes: usize) -> Snapshot {
        let members = Members::founding(Uuid::nil(), &[FROM]);
        Snapshot { index: 5, term: 2, members, data: vec![7; bytes].into() }
    }

    fn chunk(frame: &Bytes) -> Chunk {
        match Frame::decode(frame) {
            Some(Frame::Chunk(chunk)) => chunk,
            other => panic!("a chunk, not {other:?}"),
        }
    }

    /// Chunks lost, doubled and out of order, until the snapshot is whole.
    #[test]
    fn a_snapshot_arrives_over_a_bad_line() {
        let snapshot = snapshot(1000);
        let mut sending = Sending::new(FROM, 1, 2, &snapshot, 0);
        let (mut receiving, mut now_ms, mut lost) = (None, 0, 0);
        let arrived = 'all: loop {
            let mut frames = sending.chunks(64, now_ms);
            assert!(frames.len() as u64 <= WINDOW);
            frames.reverse();
            for frame in frames {
                lost = (lost + 1) % 3;
                if lost == 0 {
                    continue;
                }
                for _ in 0..2 {
                    match Receiving::take(&mut receiving, FROM, &chunk(&frame), 1 << 20) {
                        Received::Whole(whole) => break 'all whole,
                        Received::Answer(Frame::Taken { verdict, bytes, .. }) => {
                            assert_eq!(sending.heard(verdict, bytes, now_ms), Outcome::UnderWay);
                        }
                        Received::Answer(other) => panic!("{other:?}"),
                    }
                }
            }
            now_ms += RESEND_MS;
            assert!(now_ms < 1_000_000, "the stream ends");
        };
        assert_eq!(arrived, snapshot);
        assert_eq!(sending.heard(Verdict::Done, 0, now_ms), Outcome::Finished);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let refused = Received::Answer(Frame::Taken { stream: 1, verdict: Verdict::Refused, bytes: 0 });
        let mut sending = Sending::new(FROM, 1, 2, &snapshot(10), 0);
        let mut whole = chunk(&sending.chunks(1 << 20, 0)[0]);
        assert_eq!(Receiving::take(&mut None, FROM, &whole, 10), refused, "larger than allowed");
        whole.crc ^= 1;
        assert_eq!(Receiving::take(&mut None, FROM, &whole, 1 << 20), refused, "a wrong checksum");
        let mut newer = None;
        let mut part = chunk(&Sending::new(FROM, 9, 3, &snapshot(10), 0).chunks(8, 0)[0]);
        Receiving::take(&mut newer, FROM, &part, 1 << 20);
        part = Chunk { term: 2, stream: 1, ..part };
        assert_eq!(Receiving::take(&mut newer, FROM, &part, 1 << 20), refused, "of an older leader");
        assert!(!sending.has_failed(99, 100) && sending.has_failed(100, 100));
        assert_eq!(sending.heard(Verdict::Refused, 0, 0), Outcome::Failed);
    }
}
