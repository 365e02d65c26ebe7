//! Frames between brokers: what is encoded decodes, however it arrives; what was changed on the way is refused; and
//! nothing that anyone sends panics or makes the decoder take memory beyond what a checked head announced.

#[path = "../guard/allocator.rs"]
mod allocator;
mod generate;

use allocator::peak_of;
use bytes::Bytes;
use generate::{hello, identity, message};
use proptest::prelude::*;
use ringlog_net::peer::{
    Decoder, Expect, Frame, FrameError, HEAD_BYTES, Kind, Message, Refusal, RefusalReason, Stream,
    VERSION_HIGHEST,
};

const VERSION: u16 = VERSION_HIGHEST;

fn bytes_of(message: &Message) -> Vec<u8> {
    let encoded = message.encode(VERSION);
    [&encoded.head[..], &encoded.body].concat()
}

/// A frame with right checksums, made by the drawing in `format.rs` and not by the code under test.
fn forged(kind: u16, version: u16, correlation: u64, announced: u32, payload: &[u8]) -> Vec<u8> {
    let mut head = b"RLPF\0\0\0\0".to_vec();
    head.extend(version.to_le_bytes());
    head.extend(kind.to_le_bytes());
    head.extend(announced.to_le_bytes());
    head.extend(correlation.to_le_bytes());
    head.extend(crc32fast::hash(payload).to_le_bytes());
    head.extend([0; 4]);
    let crc = crc32fast::hash(&head[8..]);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head.extend(payload);
    head
}

fn code(kind: Kind) -> u16 {
    Kind::ALL.iter().position(|known| *known == kind).expect("all kinds are there") as u16 + 1
}

/// What lets a frame of this kind pass.
fn expecting(kind: Kind) -> Expect {
    match kind {
        Kind::Hello => Expect::Hello,
        Kind::Welcome | Kind::Refusal => Expect::HelloAnswer,
        _ => {
            let stream = Stream::ALL.into_iter().find(|stream| kind.belongs_to(*stream));
            let stream = stream.expect("every kind belongs to a stream");
            Expect::Open { stream, version: VERSION }
        }
    }
}

/// Feeds the bytes in pieces, each as long as the next of `cuts` says, and gives the frames before the first error.
fn feed(
    decoder: &mut Decoder,
    bytes: &[u8],
    cuts: &[usize],
    frames: &mut Vec<Frame>,
) -> Result<(), FrameError> {
    let mut rest = bytes;
    for cut in cuts.iter().chain(std::iter::repeat(&usize::MAX)) {
        let (mut piece, behind) = rest.split_at(rest.len().min(*cut));
        rest = behind;
        while let Some(frame) = decoder.feed(&mut piece)? {
            frames.push(frame);
        }
        assert!(piece.is_empty());
        if rest.is_empty() {
            return Ok(());
        }
    }
    unreachable!("the cuts never end")
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1usize..4, 1usize..100, Just(HEAD_BYTES)], 0..40)
}

/// What may go over one open stream.
fn conversation() -> impl Strategy<Value = (Stream, Vec<Message>)> {
    prop::sample::select(&Stream::ALL[..]).prop_flat_map(|stream| {
        let belongs = move |message: &Message| message.kind().belongs_to(stream);
        (Just(stream), prop::collection::vec(message().prop_filter("of the stream", belongs), 1..6))
    })
}

fn changed(bytes: &mut Vec<u8>, at: prop::sample::Index, how: u8, value: u8) {
    let at = at.index(bytes.len());
    match how % 5 {
        0 => bytes[at] ^= 1 << (value % 8),
        1 => bytes[at] = value,
        2 => bytes.insert(at, value),
        3 => drop(bytes.remove(at)),
        _ => bytes.truncate(at),
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_however_it_arrives((stream, messages) in conversation(), cuts in cuts()) {
        let bytes: Vec<u8> = messages.iter().flat_map(bytes_of).collect();
        let mut decoder = Decoder::new(Expect::Open { stream, version: VERSION });
        let mut frames = Vec::with_capacity(messages.len());
        let (result, spent) = peak_of(|| feed(&mut decoder, &bytes, &cuts, &mut frames));
        prop_assert_eq!(result, Ok(()));
        prop_assert!(decoder.is_between_frames());
        let payloads: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        prop_assert_eq!(spent, payloads, "payloads and nothing else");
        let opened: Result<Vec<Message>, _> = frames.into_iter().map(Message::open).collect();
        prop_assert_eq!(opened, Ok(messages));
    }

    #[test]
    fn a_handshake_decodes(message in message(), cuts in cuts()) {
        let expect = expecting(message.kind());
        let mut frames = Vec::new();
        let mut decoder = Decoder::new(expect);
        prop_assert_eq!(feed(&mut decoder, &bytes_of(&message), &cuts, &mut frames), Ok(()));
        prop_assert_eq!(frames.into_iter().map(Message::open).collect::<Vec<_>>(), [Ok(message)]);
    }

    /// Whatever changes on the way, no frame comes out that did not go in, and no memory is taken for one.
    #[test]
    fn changed_bytes_are_refused(
        (stream, messages) in conversation(),
        cuts in cuts(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(bytes_of).collect();
        let sent = bytes.clone();
        for (at, how, value) in changes {
            if !bytes.is_empty() {
                changed(&mut bytes, at, how, value);
            }
        }
        let mut decoder = Decoder::new(Expect::Open { stream, version: VERSION });
        let mut frames = Vec::with_capacity(messages.len() + 4);
        let (result, spent) = peak_of(|| feed(&mut decoder, &bytes, &cuts, &mut frames));
        let payloads: usize = messages.iter().map(|message| bytes_of(message).len() - HEAD_BYTES).sum();
        prop_assert!(spent <= payloads, "{spent} bytes for {payloads} sent");
        if result.is_ok() && decoder.is_between_frames() {
            prop_assert!(sent.starts_with(&bytes), "the change was not seen");
        }
        for (frame, message) in frames.into_iter().zip(&messages) {
            prop_assert_eq!(&Message::open(frame), &Ok(message.clone()));
        }
        if let Err(error) = result {
            prop_assert_eq!(decoder.feed(&mut &sent[..]), Err(error), "an error is for good");
        }
    }

    /// Payloads with right checksums and wrong contents are refused or say something that can be said again.
    #[test]
    fn any_payload_is_refused_or_understood(
        message in message(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 0..4),
    ) {
        let kind = message.kind();
        let mut payload = bytes_of(&message).split_off(HEAD_BYTES);
        for (at, how, value) in changes {
            if !payload.is_empty() {
                changed(&mut payload, at, how, value);
            }
        }
        let frame = Frame { kind, correlation: 0, payload: payload.into() };
        match Message::open(frame) {
            Ok(opened) => {
                prop_assert_eq!(opened.kind(), kind);
                let again = Frame { kind, correlation: 0, payload: bytes_of(&opened).split_off(HEAD_BYTES).into() };
                prop_assert_eq!(Message::open(again), Ok(opened));
            }
            Err(error) => {
                let malformed = matches!(error, FrameError::Malformed { kind: of, .. } if of == kind);
                prop_assert!(malformed, "{}", error);
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>, with_magic: bool, cuts in cuts()) {
        let bytes = if with_magic { [b"RLPF", &bytes[..]].concat() } else { bytes };
        for expect in [Expect::Hello, Expect::HelloAnswer, Expect::Open { stream: Stream::Data, version: VERSION }] {
            let mut decoder = Decoder::new(expect);
            let mut frames = Vec::new();
            let (result, spent) = peak_of(|| feed(&mut decoder, &bytes, &cuts, &mut frames));
            prop_assert_eq!((frames.len(), spent), (0, 0));
            prop_assert!(result.is_err() || bytes.len() < HEAD_BYTES);
        }
    }
}

fn refused(expect: Expect, bytes: &[u8]) -> FrameError {
    let mut decoder = Decoder::new(expect);
    let (result, spent) = peak_of(|| decoder.feed(&mut &bytes[..]));
    assert_eq!(spent, 0, "memory was taken for {bytes:?}");
    result.expect_err("it is refused")
}

#[test]
fn every_flipped_bit_is_seen() {
    let whole = bytes_of(&Message::Raft(Bytes::from_static(b"a raft message")));
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = Decoder::new(expecting(Kind::Raft)).feed(&mut &bytes[..]).expect_err("it is refused");
        match bit / 8 {
            0..4 => assert_eq!(error, FrameError::NotAPeer),
            4..HEAD_BYTES => assert_eq!(error, FrameError::HeadChecksum),
            _ => assert_eq!(error, FrameError::PayloadChecksum { kind: Kind::Raft }),
        }
    }
}

#[test]
fn a_length_beyond_the_limit_of_its_kind_takes_no_memory() {
    for kind in Kind::ALL {
        let max = kind.payload_bytes_max();
        for announced in [max as u32 + 1, u32::MAX] {
            let error = refused(expecting(kind), &forged(code(kind), 1, 0, announced, &[]));
            assert_eq!(error, FrameError::TooLong { kind, length: announced as usize, max });
        }
        // The limit itself is waited for.
        let (frame, spent) = peak_of(|| {
            Decoder::new(expecting(kind)).feed(&mut &forged(code(kind), 1, 0, max as u32, &[])[..]).unwrap()
        });
        assert_eq!(frame.is_some(), max == 0);
        assert!(spent <= max + 2 * HEAD_BYTES, "{kind:?}: {spent}");
    }
}

#[test]
fn a_frame_comes_only_where_it_belongs() {
    let open = |stream| Expect::Open { stream, version: VERSION };
    let stages =
        [Expect::Hello, Expect::HelloAnswer].into_iter().chain(Stream::ALL.map(open)).collect::<Vec<_>>();
    // One column for each stage: hello, its answer, then raft, bulk, requests, data.
    let table = [
        (Kind::Hello, [true, false, false, false, false, false]),
        (Kind::Welcome, [false, true, false, false, false, false]),
        (Kind::Refusal, [false, true, true, true, true, true]),
        (Kind::Ping, [false, false, true, true, true, true]),
        (Kind::Pong, [false, false, true, true, true, true]),
        (Kind::Raft, [false, false, true, true, false, false]),
        (Kind::SnapshotChunk, [false, false, false, true, false, false]),
        (Kind::Request, [false, false, false, false, true, true]),
        (Kind::Answer, [false, false, false, true, true, true]),
        (Kind::Control, [false, false, false, false, true, true]),
    ];
    assert_eq!(table.map(|(kind, _)| kind), Kind::ALL);
    for (kind, taken) in table {
        for (expect, taken) in stages.iter().zip(taken) {
            let bytes = forged(code(kind), 1, 0, 0, &[]);
            let result = Decoder::new(*expect).feed(&mut &bytes[..]);
            assert_eq!(result.is_ok(), taken, "{kind:?} {expect:?}");
            if !taken {
                assert_eq!(result, Err(FrameError::NotExpected { kind }));
            }
        }
    }
}

#[test]
fn versions_and_reserved_fields_are_checked() {
    let open = Expect::Open { stream: Stream::Raft, version: 7 };
    assert_eq!(refused(open, &forged(4, 6, 1, 0, &[])), FrameError::Version { found: 6, agreed: 7 });
    assert!(Decoder::new(open).feed(&mut &forged(4, 7, 1, 0, &[])[..]).is_ok());
    // Frames of the handshake keep version 1 for ever, a refusal later on too.
    assert!(Decoder::new(open).feed(&mut &forged(3, 1, 0, 0, &[])[..]).is_ok());
    assert_eq!(refused(Expect::Hello, &forged(1, 2, 0, 0, &[])), FrameError::Version { found: 2, agreed: 1 });
    assert_eq!(refused(open, &forged(11, 7, 0, 0, &[])), FrameError::UnknownKind { code: 11 });
    assert_eq!(refused(open, &forged(0, 7, 0, 0, &[])), FrameError::UnknownKind { code: 0 });
    let correlation = FrameError::Malformed { kind: Kind::Raft, field: "correlation" };
    assert_eq!(refused(open, &forged(6, 7, 1, 0, &[])), correlation);
    let mut bytes = forged(6, 7, 0, 0, &[]);
    bytes[28] = 1;
    let crc = crc32fast::hash(&bytes[8..HEAD_BYTES]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(refused(open, &bytes), FrameError::Malformed { kind: Kind::Raft, field: "zero" });
}

#[test]
fn a_stranger_is_known_by_its_first_bytes() {
    // What a Kafka client, a browser and a TLS client begin with.
    for bytes in [&[0, 0, 0, 35][..], b"G", &[0x16, 3, 1]] {
        assert_eq!(refused(Expect::Hello, bytes), FrameError::NotAPeer);
    }
    assert_eq!(Decoder::new(Expect::Hello).feed(&mut &b"RLP"[..]), Ok(None));
}

#[test]
fn what_follows_a_welcome_in_the_same_bytes_is_read_as_the_stream_says() {
    let welcome = generate::welcome_of(VERSION);
    let bytes = [bytes_of(&Message::Welcome(welcome)), bytes_of(&Message::Ping(9))].concat();
    let mut input = &bytes[..];
    let mut decoder = Decoder::new(Expect::HelloAnswer);
    let frame = decoder.feed(&mut input).unwrap().unwrap();
    assert_eq!(Message::open(frame), Ok(Message::Welcome(welcome)));
    decoder.expect(Expect::Open { stream: Stream::Raft, version: VERSION });
    let frame = decoder.feed(&mut input).unwrap().unwrap();
    assert_eq!(Message::open(frame), Ok(Message::Ping(9)));
    assert_eq!(decoder.feed(&mut input), Ok(None));
}

/// The layout is what other versions of Ringlog rely on: these bytes may never change.
#[test]
fn a_hello_is_laid_out_as_drawn() {
    let mut payload = Vec::new();
    payload.extend(7i32.to_le_bytes());
    payload.extend([0; 4]);
    payload.extend((-1i64).to_le_bytes());
    payload.extend([0; 16]);
    payload.extend([0xdd; 16]);
    payload.extend([0xcc; 16]);
    for number in [1u16, 3, 4, 25, 2, 0] {
        payload.extend(number.to_le_bytes());
    }
    payload.extend((-1i32).to_le_bytes());
    payload.extend(5u32.to_le_bytes());
    payload.extend(8u32.to_le_bytes());
    assert_eq!(payload.len(), 88);
    let bytes = forged(1, 1, 0, 88, &payload);
    assert_eq!(bytes, bytes_of(&Message::Hello(hello())));
    // A later version says more.
    payload.extend([1, 2, 3]);
    let frame = Frame { kind: Kind::Hello, correlation: 0, payload: payload.into() };
    assert_eq!(Message::open(frame), Ok(Message::Hello(hello())));
}

#[test]
fn fields_that_cannot_be_are_refused() {
    let payload = bytes_of(&Message::Hello(hello())).split_off(HEAD_BYTES);
    for (at, bytes, field) in [
        (0, &(-1i32).to_le_bytes()[..], "node id"),
        (8, &(-2i64).to_le_bytes(), "broker epoch"),
        (32, &[0; 16], "directory id or incarnation"),
        (48, &[0; 16], "directory id or incarnation"),
        (64, &4u16.to_le_bytes(), "version"),
        (68, &26u16.to_le_bytes(), "metadata level"),
        (72, &5u16.to_le_bytes(), "stream"),
        (76, &(-2i32).to_le_bytes(), "expected node id"),
        (84, &0u32.to_le_bytes(), "shards"),
    ] {
        let mut payload = payload.clone();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        let frame = Frame { kind: Kind::Hello, correlation: 0, payload: payload.into() };
        assert_eq!(Message::open(frame), Err(FrameError::Malformed { kind: Kind::Hello, field }));
    }
    let mut chunk = [0; 32];
    chunk[16..24].fill(0xff);
    let frame =
        Frame { kind: Kind::SnapshotChunk, correlation: 1, payload: [&chunk[..], &[1]].concat().into() };
    let offset = FrameError::Malformed { kind: Kind::SnapshotChunk, field: "offset" };
    assert_eq!(Message::open(frame), Err(offset));
}

#[test]
fn a_reason_of_a_later_version_is_kept() {
    let known = Refusal { identity: identity(), reason: RefusalReason::WrongCluster };
    let mut payload = bytes_of(&Message::Refusal(known)).split_off(HEAD_BYTES);
    payload[64] = 99;
    let frame = Frame { kind: Kind::Refusal, correlation: 0, payload: Bytes::from(payload) };
    let Ok(Message::Refusal(refusal)) = Message::open(frame) else { panic!() };
    assert_eq!(refusal.reason, RefusalReason::Other(99));
}
