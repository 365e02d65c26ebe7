//! Limits: connections, idle time, request size, and each memory budget filled while work goes on.

use kafka_protocol::messages::{FetchRequest, FetchResponse, ProduceRequest};
use ringlog_tests::broker::{Start, folder};
use ringlog_tests::client::Client;
use ringlog_tests::requests::{
    FETCH, KEPT_FROM, PRODUCE, batch, batches, fetch, fetched, produce, produced, record,
};
use ringlog_tests::rng::Rng;

/// Most memory that an idle connection may cost; it is a few KiB.
const IDLE_BYTES_MAX: u64 = 16 << 10;

fn bytes_of(response: &FetchResponse) -> usize {
    fetched(response).map(|(_, data)| data.records.as_ref().map_or(0, |records| records.len())).sum()
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let data = folder();
    let broker = Start::new(data.path()).set("max.connections", 5).ready();
    let mut clients: Vec<Client> = (0..5).map(|_| broker.client()).collect();
    clients.iter_mut().for_each(Client::ping);
    assert!(broker.client().is_closed());
    broker.wait_stderr("refusing 127.0.0.1", 1);
    clients.iter_mut().for_each(Client::ping);
    // One leaves: there is room for another, once the broker has seen it.
    clients.pop();
    let ping = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let came_in = (0..10_000).any(|_| {
        let mut client = broker.client();
        client.send_raw(&ping).is_ok() && !client.is_closed()
    });
    assert!(came_in, "no room after a client left");
    broker.stop();
}

#[test]
fn connections_of_one_address_beyond_the_limit_are_closed() {
    let data = folder();
    let broker = Start::new(data.path()).set("max.connections.per.ip", 3).ready();
    let mut clients: Vec<Client> = (0..3).map(|_| broker.client()).collect();
    clients.iter_mut().for_each(Client::ping);
    assert!(broker.client().is_closed());
    clients.iter_mut().for_each(Client::ping);
    broker.stop();
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let data = folder();
    let broker = Start::new(data.path()).set("connections.max.idle.ms", 1500).ready();
    let mut idle = broker.client();
    idle.ping();
    let mut busy = broker.client();
    idle.stream.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let closed = loop {
        busy.ping();
        match std::io::Read::read(&mut idle.stream, &mut byte) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            other => break other.is_ok_and(|n| n == 0),
        }
    };
    assert!(closed, "the idle connection ended otherwise");
    busy.ping();
    broker.stop();
}

#[test]
fn requests_up_to_the_limit_are_taken_and_larger_ones_close_the_connection() {
    let data = folder();
    let start = Start::new(data.path()).set("socket.request.max.bytes", 3 << 20);
    let broker = start.set("message.max.bytes", 4 << 20).ready();
    let mut client = broker.client();
    client.create_topic("t", 1, &[]);
    assert_eq!(client.produce("t", 0, record(&vec![1; (3 << 20) - 1000])), (0, 0));
    let _ = client.send_raw(&[&((3i32 << 20) + 1).to_be_bytes()[..], &[0, 0, 0, 12, 0, 0, 0, 1]].concat());
    assert!(client.is_closed());
    broker.stop();
}

#[test]
fn a_thousand_idle_connections_cost_little() {
    const COUNT: usize = 1000;
    let data = folder();
    let broker = Start::new(data.path()).ready();
    let mut first = broker.client();
    first.ping();
    let before = broker.resident_bytes();
    let mut clients: Vec<Client> = (0..COUNT).map(|_| broker.client()).collect();
    clients.iter_mut().for_each(Client::ping);
    let each = broker.resident_bytes().saturating_sub(before) / COUNT as u64;
    println!("{COUNT} idle connections: {each} bytes each");
    assert!(each < IDLE_BYTES_MAX, "{each} bytes for an idle connection");
    first.ping();
    broker.stop();
}

/// A broker with every budget at its smallest.
fn tight(data: &std::path::Path) -> Start {
    let budgets = ["produce", "response", "peer", "request"];
    let start = Start::new(data).set("ringlog.memory.bytes", 16 << 20);
    let start = start.set("ringlog.request.max.bytes", 1 << 20);
    budgets.iter().fold(start, |start, class| start.set(&format!("ringlog.budget.{class}.bytes"), 1 << 20))
}

#[test]
fn produce_beyond_the_budget_gets_through() {
    const CONNECTIONS: usize = 6;
    const REQUESTS: usize = 12;
    let data = folder();
    let broker = tight(data.path()).set("message.max.bytes", 8 << 20).ready();
    let mut client = broker.client();
    client.create_topic("t", 4, &[]);
    // Each request is close to the budget or over it; all are sent before an answer is read.
    let value = vec![3u8; 900_000];
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let mut client = broker.client();
            let value = value.clone();
            std::thread::spawn(move || {
                let mut reader = Client::over(client.stream.try_clone().unwrap());
                let sender = std::thread::spawn(move || {
                    for request in 0..REQUESTS {
                        let big = if request == 5 { value.repeat(3) } else { value.clone() };
                        let partition = ((number + request) % 4) as i32;
                        client.send(&produce(-1, &[("t", partition, record(&big))]), PRODUCE);
                    }
                });
                for id in 1..=REQUESTS as i32 {
                    let response = reader.receive::<ProduceRequest>(PRODUCE, id);
                    assert_eq!(produced(&response)[0].0, 0);
                }
                sender.join().unwrap();
            })
        })
        .collect();
    // Small requests of other kinds go on meanwhile.
    for _ in 0..50 {
        client.ping();
        assert_eq!(client.list_offset("t", 0, -2), (0, -1, 0));
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let total: i64 = (0..4).map(|p| client.list_offset("t", p, -1).2).sum();
    assert_eq!(total, (CONNECTIONS * REQUESTS) as i64);
    broker.stop();
}

#[test]
fn half_sent_requests_that_fill_the_budget_hold_up_only_produce() {
    let data = folder();
    let broker = tight(data.path()).shards(1).ready();
    let mut client = broker.client();
    client.create_topic("t", 1, &[]);
    let request =
        ringlog_tests::client::frame(&produce(-1, &[("t", 0, record(&[1; 1_000_000]))]), PRODUCE, 1);
    // The first takes the whole class and does not finish.
    let mut half = broker.client();
    half.send_raw(&request[..request.len() / 2]).unwrap();
    let mut waiting = broker.client();
    waiting.send_raw(&request).unwrap();
    client.ping();
    assert_eq!(client.list_offset("t", 0, -1).0, 0);
    client.fetch("t", 0, 0);
    half.send_raw(&request[request.len() / 2..]).unwrap();
    let mut offsets = Vec::new();
    for client in [&mut half, &mut waiting] {
        offsets.extend(produced(&client.receive::<ProduceRequest>(PRODUCE, 1)));
    }
    offsets.sort_unstable();
    assert_eq!(offsets, [(0, 0), (0, 1)]);
    broker.stop();
}

/// Receives a fetch of four partitions and compares what it brought with what was sent.
fn read_as_sent(client: &mut Client, id: i32, sent: &[bytes::Bytes]) {
    let response = client.receive::<FetchRequest>(FETCH, id);
    assert_eq!(fetched(&response).count(), 4);
    for (_, data) in fetched(&response) {
        let first = batches(data.records.clone().unwrap_or_default()).into_iter().next();
        let expected = &sent[data.partition_index as usize];
        assert!(first.is_none_or(|first| first.bytes[KEPT_FROM..] == expected[KEPT_FROM..]));
    }
}

#[test]
fn slow_consumers_that_fill_the_budget_do_not_stop_others() {
    const SLOW: usize = 8;
    let data = folder();
    let broker = tight(data.path()).ready();
    let mut client = broker.client();
    client.create_topic("t", 4, &[]);
    let mut rng = Rng::from_env("budgets");
    let sent: Vec<_> = (0..40).map(|_| record(&rng.bytes(500_000))).collect();
    for (n, batch) in sent.iter().enumerate() {
        assert_eq!(client.produce("t", (n % 4) as i32, batch.clone()).0, 0);
    }
    let parts: Vec<_> = (0..4).map(|p| ("t", p, 0)).collect();
    let mut slow: Vec<(Client, Vec<i32>)> = (0..SLOW)
        .map(|_| {
            let mut client = broker.client();
            let ids = (0..4).map(|_| client.send(&fetch(100, 1, &parts), FETCH)).collect();
            (client, ids)
        })
        .collect();
    // They read nothing yet; produce and small requests go on.
    for _ in 0..20 {
        client.ping();
        assert_eq!(client.produce("t", 0, batch(&[b"on"], 0, None)).0, 0);
    }
    // Each reads for itself: what one holds may be what another one waits for.
    std::thread::scope(|scope| {
        for (client, ids) in &mut slow {
            scope.spawn(|| ids.iter().for_each(|id| read_as_sent(client, *id, &sent)));
        }
    });
    for partition in 0..4 {
        client.read_all("t", partition, 0);
    }
    broker.stop();
}

#[test]
fn fetches_behind_a_long_poll_of_their_own_hold_no_memory() {
    const BEHIND: usize = 40;
    let data = folder();
    let broker = tight(data.path()).shards(1).ready();
    let mut client = broker.client();
    client.create_topic("full", 1, &[]);
    client.create_topic("idle", 1, &[]);
    for _ in 0..2 {
        assert_eq!(client.produce("full", 0, record(&[5; 500_000])).0, 0);
    }
    // A long poll, and behind it more than the class of responses holds.
    let mut greedy = broker.client();
    let mut ids = vec![greedy.send(&fetch(25_000, 1, &[("idle", 0, 0)]), FETCH)];
    ids.extend((0..BEHIND).map(|_| greedy.send(&fetch(0, 1, &[("full", 0, 0)]), FETCH)));
    while broker.metric("ringlog_fetch_requests_total") < ids.len() as f64 {
        client.ping();
    }
    assert!(client.fetch("full", 0, 0).records.is_some_and(|records| records.len() > 500_000));
    greedy.stream.set_nonblocking(true).unwrap();
    let early = std::io::Read::read(&mut greedy.stream, &mut [0]);
    assert!(early.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "the long poll is still on");
    greedy.stream.set_nonblocking(false).unwrap();
    assert_eq!(client.produce("idle", 0, record(b"go")).0, 0);
    for id in ids {
        let response = greedy.receive::<FetchRequest>(FETCH, id);
        assert!(fetched(&response).all(|(_, data)| data.error_code == 0));
    }
    broker.stop();
}

#[test]
fn what_is_read_from_files_is_charged_before_there_is_memory_for_it() {
    const CLIENTS: usize = 24;
    const GROWTH_MAX: u64 = 256 << 20;
    let data = folder();
    let broker = tight(data.path()).shards(1).ready();
    let mut client = broker.client();
    client.create_topic("t", 2, &[]);
    // More than stays in memory, in segments that are not sealed.
    for n in 0..80 {
        assert_eq!(client.produce("t", n % 2, record(&[n as u8; 900_000])).0, 0);
    }
    let before = broker.resident_bytes_max();
    let mut request = fetch(0, 1, &[("t", 0, 0), ("t", 1, 0)]).with_max_bytes(50 << 20);
    request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = 25 << 20);
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, request) = (broker.client(), request.clone());
            std::thread::spawn(move || bytes_of(&client.call(&request, FETCH)))
        })
        .collect();
    let read: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    let grown = broker.resident_bytes_max() - before;
    assert!(grown < GROWTH_MAX, "{grown} bytes more were in use to read {read} bytes");
    assert!(read as u64 > 2 * GROWTH_MAX, "they read {read} bytes, too few to tell");
    broker.stop();
}

#[test]
fn large_requests_of_groups_and_metadata_get_through() {
    let data = folder();
    let broker = tight(data.path()).shards(1).ready();
    // Metadata for 50,000 names nearly takes the class, and its answer is over it.
    let names = (0..50_000).map(|n| format!("name-{n:06}"));
    let topics = names.map(|name| {
        kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
            .with_name(Some(ringlog_tests::requests::topic(&name)))
    });
    let request = kafka_protocol::messages::MetadataRequest::default()
        .with_topics(Some(topics.collect()))
        .with_allow_auto_topic_creation(false);
    let bytes = ringlog_tests::client::frame(&request, 8, 1);
    let mut half = broker.client();
    half.send_raw(&bytes[..bytes.len() / 2]).unwrap();
    let mut produce = broker.client();
    half.send_raw(&bytes[bytes.len() / 2..]).unwrap();
    let response = half.receive::<kafka_protocol::messages::MetadataRequest>(8, 1);
    assert_eq!(response.topics.len(), 50_000);
    produce.ping();
    broker.stop();
}
