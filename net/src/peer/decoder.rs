//! Cuts received bytes into frames.

use super::error::FrameError;
use super::format::{HANDSHAKE_VERSION, HEAD_BYTES, Head, Kind, MAGIC, Stream, open_head};
use bytes::Bytes;

/// Which frames may come next on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A hello, on a connection just accepted.
    Hello,
    /// A welcome or a refusal, after a hello was sent.
    HelloAnswer,
    /// What belongs to this stream, in the version agreed on.
    Open {
        /// What the handshake said the connection is for.
        stream: Stream,
        /// What the handshake agreed on.
        version: u16,
    },
}

impl Expect {
    fn check(self, head: &Head) -> Result<(), FrameError> {
        let kind = head.kind;
        let expected = match self {
            Expect::Hello => kind == Kind::Hello,
            Expect::HelloAnswer => matches!(kind, Kind::Welcome | Kind::Refusal),
            Expect::Open { stream, .. } => kind.belongs_to(stream),
        };
        if !expected {
            return Err(FrameError::NotExpected { kind });
        }
        let agreed = match self {
            Expect::Open { version, .. } if !kind.is_handshake() => version,
            _ => HANDSHAKE_VERSION,
        };
        if head.version == agreed { Ok(()) } else { Err(FrameError::Version { found: head.version, agreed }) }
    }
}

/// A whole frame whose checksums are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// What it answers or how it is answered; 0 in kinds that have none.
    pub correlation: u64,
    /// What it holds.
    pub payload: Bytes,
}

#[derive(Debug)]
enum State {
    /// So many bytes of a head are there.
    Head {
        bytes: [u8; HEAD_BYTES],
        have: usize,
    },
    /// So many bytes of the payload are there; `payload` has its announced length from the beginning.
    Payload {
        head: Head,
        payload: Vec<u8>,
        have: usize,
    },
    Failed(FrameError),
}

impl State {
    fn start() -> State {
        State::Head { bytes: [0; HEAD_BYTES], have: 0 }
    }
}

/// Cuts the bytes of one connection into frames, however they arrive. Between frames it holds no memory; within one,
/// exactly the announced payload, which was checked against the limit of its kind before.
#[derive(Debug)]
pub struct Decoder {
    expect: Expect,
    state: State,
}

impl Decoder {
    /// A decoder for a new connection.
    #[must_use]
    pub fn new(expect: Expect) -> Decoder {
        Decoder { expect, state: State::start() }
    }

    /// Says what may come from now on: after a hello or a welcome was taken, before the bytes behind it are.
    ///
    /// # Panics
    /// In the middle of a frame, which was judged by what was expected when it began.
    pub fn expect(&mut self, expect: Expect) {
        assert!(self.is_between_frames(), "expectations change between frames");
        self.expect = expect;
    }

    /// Whether no part of a frame is held: a connection that ends here ends in order.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Head { have: 0, .. })
    }

    /// Takes bytes from the front of `input` until a frame is whole or the input is used up. A frame leaves the bytes
    /// behind it in `input`: call again until there is none.
    ///
    /// # Errors
    /// What is wrong with the bytes; the connection is to be closed. Later calls say the same.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        let result = self.step(input);
        if let Err(error) = result {
            self.state = State::Failed(error);
        }
        result
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        if let State::Head { bytes, have } = &mut self.state {
            *have += take(input, &mut bytes[*have..]);
            // A stranger is told by its first bytes: nobody waits for a whole head of it.
            let magic = (*have).min(MAGIC.len());
            if bytes[..magic] != MAGIC[..magic] {
                return Err(FrameError::NotAPeer);
            }
            if *have < HEAD_BYTES {
                return Ok(None);
            }
            let head = open_head(bytes)?;
            self.expect.check(&head)?;
            self.state = State::Payload { head, payload: vec![0; head.length], have: 0 };
        }
        match &mut self.state {
            State::Payload { payload, have, .. } => {
                *have += take(input, &mut payload[*have..]);
                if *have < payload.len() {
                    return Ok(None);
                }
            }
            State::Failed(error) => return Err(*error),
            State::Head { .. } => unreachable!("a whole head was replaced by its payload"),
        }
        let State::Payload { head, payload, .. } = std::mem::replace(&mut self.state, State::start()) else {
            unreachable!("the payload is whole");
        };
        if head.payload_crc != crc32fast::hash(&payload) {
            return Err(FrameError::PayloadChecksum { kind: head.kind });
        }
        Ok(Some(Frame { kind: head.kind, correlation: head.correlation, payload: payload.into() }))
    }
}

/// Moves what fits from the front of `input` to the front of `out`, and says how much that was.
fn take(input: &mut &[u8], out: &mut [u8]) -> usize {
    let count = input.len().min(out.len());
    let (taken, rest) = input.split_at(count);
    out[..count].copy_from_slice(taken);
    *input = rest;
    count
}
