//! Bad input: whatever a client sends, it gets an answer or a closed connection and one line in the log, and the
//! others notice nothing.

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use ringlog_tests::broker::{Broker, Start, folder};
use ringlog_tests::client::{Client, frame, read_frame};
use ringlog_tests::requests::{FETCH, PRODUCE, fetch, produce, produced, record};
use ringlog_tests::rng::Rng;
use std::io::Write;
use std::net::Shutdown;

/// Bytes that a broker may grow by while it is told nonsense: far below what the frames announce.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// A frame of these bytes, with its right length.
fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// A request header of version 1 without a client id.
fn head(key: i16, version: i16) -> Vec<u8> {
    [&key.to_be_bytes()[..], &version.to_be_bytes(), &7i32.to_be_bytes(), &(-1i16).to_be_bytes()].concat()
}

/// Sends bytes that make no sense on a fresh connection: it is closed, with one more line on stderr.
fn is_closed_with_a_line(broker: &Broker, lines: &mut usize, what: &str, bytes: &[u8]) {
    let mut client = broker.client();
    let _ = client.send_raw(bytes);
    assert!(client.is_closed(), "{what}: an answer came");
    *lines += 1;
    broker.wait_stderr("closing 127.0.0.1", *lines);
}

/// A client that works all the while.
fn works(client: &mut Client) {
    let (error, _) = client.produce("t", 0, record(b"meanwhile"));
    assert_eq!(error, 0);
}

#[test]
fn nonsense_closes_the_connection_with_one_line() {
    let data = folder();
    let broker = Start::new(data.path()).set("socket.request.max.bytes", 1 << 20).ready();
    let mut other = broker.client();
    other.create_topic("t", 4, &[]);
    let before = broker.resident_bytes();
    let good = frame(&produce(-1, &[("t", 0, record(&[1; 100]))]), PRODUCE, 1);
    let with_length = |length: i32| [&length.to_be_bytes()[..], &good[4..]].concat();
    let many = i32::MAX.to_be_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("TLS", [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x55; 500]].concat()),
        ("a negative length", with_length(-1)),
        ("the most negative length", with_length(i32::MIN)),
        ("the greatest length", with_length(i32::MAX)),
        ("a length over the limit", with_length((1 << 20) + 1)),
        ("no header", framed(&[])),
        ("half a header", framed(&[0, 3, 0])),
        ("a client id beyond the frame", framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, 1])),
        ("an unknown API", framed(&head(4, 0))),
        ("a negative API", framed(&head(-1, 0))),
        ("an API that is not there yet", framed(&head(24, 0))),
        ("a version too high", framed(&head(3, 99))),
        ("a version too low", framed(&head(0, 2))),
        ("Metadata with 2^31 topics", framed(&[head(3, 1), many.to_vec()].concat())),
        ("CreateTopics with 2^31 topics", framed(&[head(19, 2), many.to_vec()].concat())),
        ("Fetch with 2^31 topics", framed(&[head(1, 4), vec![0xff; 4], vec![0; 13], many.to_vec()].concat())),
        ("JoinGroup that ends early", framed(&[head(11, 0), vec![0, 9, b'g']].concat())),
        ("a null array where none may be", framed(&[head(8, 2), vec![0, 1, b'g'], vec![0xff; 4]].concat())),
        ("an ApiVersions of one byte too few", framed(&frame(&ApiVersionsRequest::default(), 3, 1)[4..12])),
    ];
    let mut lines = 0;
    for (what, bytes) in &cases {
        is_closed_with_a_line(&broker, &mut lines, what, bytes);
        works(&mut other);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    println!("{} kinds of nonsense: memory grew by {grown} bytes", cases.len());
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes for nonsense");
    broker.stop();
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    for version in [5i16, 99, i16::MAX] {
        let mut client = broker.client();
        client.send_raw(&framed(&[head(18, version), vec![0]].concat())).unwrap();
        let answer = read_frame(&mut client.stream).unwrap();
        assert_eq!(answer[..6], [0, 0, 0, 7, 0, 35], "correlation id, then UNSUPPORTED_VERSION");
        let count = i32::from_be_bytes(answer[6..10].try_into().unwrap());
        let own = (0..count as usize).map(|i| &answer[10 + 6 * i..16 + 6 * i]);
        let own: Vec<_> = own.filter(|api| api[..2] == [0, 18]).collect();
        assert_eq!(own, [[0, 18, 0, 0, 0, 4]], "it says which versions there are");
        client.ping();
    }
    broker.stop();
}

#[test]
fn half_a_frame_and_half_a_connection_hurt_nobody() {
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut other = broker.client();
    other.create_topic("t", 2, &[]);
    let request = frame(&produce(-1, &[("t", 1, record(&[1; 100_000]))]), PRODUCE, 1);
    let mut rng = Rng::from_env("frames");
    let mut held = Vec::new();
    for _ in 0..50 {
        // A frame cut anywhere, and then silence, or the end.
        let mut client = broker.client();
        client.send_raw(&request[..1 + rng.below(request.len() - 1)]).unwrap();
        match rng.below(3) {
            0 => drop(client),
            1 => {
                client.stream.shutdown(Shutdown::Write).unwrap();
                assert!(client.is_closed());
            }
            _ => held.push(client),
        }
    }
    assert_eq!(other.list_offset("t", 1, -1).2, 0, "half a request did something");
    // A frame in single bytes, and one that closes its sending side and still gets its answer.
    let small = frame(&produce(-1, &[("t", 1, record(b"slow"))]), PRODUCE, 9);
    let mut slow = broker.client();
    small.iter().for_each(|byte| slow.stream.write_all(&[*byte]).unwrap());
    assert_eq!(produced(&slow.receive::<ProduceRequest>(PRODUCE, 9)), [(0, 0)]);
    works(&mut other);
    drop(held);
    broker.stop();
}

#[test]
fn mutations_of_good_frames() {
    let data = folder();
    let broker = Start::new(data.path()).set("auto.create.topics.enable", false).ready();
    let mut other = broker.client();
    other.create_topic("t", 2, &[]);
    let before = broker.resident_bytes();
    let frames = [
        frame(&produce(-1, &[("t", 0, record(&[1; 300])), ("t", 1, record(&[2; 30]))]), PRODUCE, 1),
        frame(&fetch(0, 0, &[("t", 0, 0), ("t", 1, 0)]), FETCH, 1),
        frame(&FetchRequest::default().with_session_epoch(-1), 16, 1),
        frame(&MetadataRequest::default(), 12, 1),
        frame(&ringlog_tests::requests::create_topic("x", 1, &[("retention.ms", "1")]), 6, 1),
        frame(&ApiVersionsRequest::default(), 3, 1),
    ];
    let mut rng = Rng::from_env("mutations");
    for round in 0..600 {
        let mut bytes = frames[rng.below(frames.len())].clone();
        for _ in 0..1 + rng.below(3) {
            let at = 4 + rng.below(bytes.len() - 4);
            match rng.below(4) {
                0 => bytes[at] = 0xff,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at, rng.next_u64() as u8),
            }
        }
        let length = (bytes.len() as i32 - 4).to_be_bytes();
        bytes[..4].copy_from_slice(&length);
        let mut client = broker.client();
        let _ = client.send_raw(&bytes);
        // Answered, or closed; a request that now asks not to be answered, or to wait, ends with our half.
        let _ = client.stream.shutdown(Shutdown::Write);
        let _ = client.is_closed();
        if round % 50 == 0 {
            works(&mut other);
        }
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    println!("600 mutations: memory grew by {grown} bytes");
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes for mutations");
    works(&mut other);
    broker.stop();
}

#[test]
fn a_client_that_never_reads_is_closed_and_costs_little() {
    let data = folder();
    let broker = Start::new(data.path()).set("ringlog.client.write.timeout.ms", 1500).ready();
    let mut other = broker.client();
    other.create_topic("t", 2, &[]);
    for _ in 0..30 {
        assert_eq!(other.produce("t", 1, record(&[5; 1_000_000])).0, 0);
    }
    let before = broker.resident_bytes();
    let mut deaf = broker.client();
    // 400 answers of 30 MB each.
    let request = frame(&fetch(0, 0, &[("t", 1, 0)]), FETCH, 1);
    deaf.stream.set_write_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    for _ in 0..400 {
        if deaf.send_raw(&request).is_err() {
            break;
        }
    }
    works(&mut other);
    broker.wait_stderr("it reads nothing", 1);
    let grown = broker.resident_bytes().saturating_sub(before);
    println!("a client that never reads: memory grew by {grown} bytes");
    assert!(grown < 4 * GROWTH_BYTES_MAX, "{grown} bytes for one client");
    works(&mut other);
    broker.stop();
}
