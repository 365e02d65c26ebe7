"""librdkafka (through confluent-kafka): producing, consuming and errors. Groups and admin have files of their own."""

import time

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness import eventually, raises, same, test

TAIL = -2000  # RD_KAFKA_OFFSET_TAIL_BASE: this minus n is n before the end


def producer(t, **conf):
    return Producer({"bootstrap.servers": t.bootstrap, **{k.replace("_", "."): v for k, v in conf.items()}})


def consumer(t, **conf):
    settings = {"group.id": t.name("g"), "auto.offset.reset": "earliest", "enable.auto.commit": False}
    return Consumer({"bootstrap.servers": t.bootstrap, **settings, **{k.replace("_", "."): v for k, v in conf.items()}})


def send(p, topic, records, **kwargs):
    """Produces (key, value) pairs and waits; returns the reported messages, raising on the first error."""
    reports = []

    def report(error, message):
        if error:
            raise KafkaException(error)
        reports.append(message)
    for key, value in records:
        p.produce(topic, value, key, on_delivery=report, **kwargs)
        p.poll(0)
    same(p.flush(30), 0, "messages left after the flush")
    return reports


def read(c, count, timeout_s=25):
    """The next `count` messages; fails on an error message or when they do not come."""
    got, deadline = [], time.monotonic() + timeout_s
    while len(got) < count:
        for m in c.consume(count - len(got), 0.5):
            if m.error():
                raise KafkaException(m.error())
            got.append(m)
        assert time.monotonic() < deadline, f"{len(got)} of {count} messages"
    return got


def assigned(t, topic, offset=ck.OFFSET_BEGINNING, partitions=1, **conf):
    c = consumer(t, **conf)
    c.assign([TopicPartition(topic, p, offset) for p in range(partitions)])
    return c


def delivery_error(p, topic, value, key=None, **kwargs):
    errors = []
    p.produce(topic, value, key, on_delivery=lambda e, m: errors.append(e), **kwargs)
    same(p.flush(20), 0)
    return errors[0]


@test()
def codecs_keys_headers_timestamps(t):
    """Every codec: keys, values, headers, nulls, timestamps and offsets come back as sent, in order."""
    stamp = 1_700_000_000_000
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = t.topic(codec)
        p = producer(t, compression_type=codec, linger_ms=20)
        reports = []
        for n in range(500):
            value = None if n % 50 == 0 else b"value %d " % n * (n % 40)
            headers = [("n", str(n).encode()), ("empty", b""), ("null", None)]
            p.produce(topic, value, b"k%d" % n, headers=headers, timestamp=stamp + n,
                      on_delivery=lambda e, m: reports.append((e, m.offset())))
        same(p.flush(20), 0)
        same(reports, [(None, n) for n in range(500)], f"delivery reports with {codec}")
        c = assigned(t, topic)
        for n, m in enumerate(read(c, 500)):
            want = (n, b"k%d" % n, None if n % 50 == 0 else b"value %d " % n * (n % 40), (ck.TIMESTAMP_CREATE_TIME, stamp + n))
            same((m.offset(), m.key(), m.value(), m.timestamp()), want, codec)
            same(m.headers(), [("n", str(n).encode()), ("empty", b""), ("null", None)], codec)
        c.close()


@test()
def acks_modes(t):
    """acks 0, 1 and all: all records are stored, in order."""
    topic = t.topic()
    for n, acks in enumerate(("0", "1", "all")):
        reports = send(producer(t, acks=acks), topic, [(None, b"%d" % n)] * 50)
        same(len(reports), 50)
        if acks != "0":
            assert all(r.offset() >= 50 for r in reports)
        c = assigned(t, topic)
        same([m.value() for m in read(c, 50 * (n + 1))][-50:], [b"%d" % n] * 50)
        c.close()


@test()
def idempotent_producer_in_order(t):
    """20,000 records, small batches, five in flight: offsets without a gap, values in order, none twice."""
    topic = t.topic()
    p = producer(t, enable_idempotence=True, linger_ms=0, batch_num_messages=50)
    reports = []
    for n in range(20_000):
        p.produce(topic, b"%d" % n, on_delivery=lambda e, m: reports.append((e, m.offset())))
        p.poll(0)
    same(p.flush(30), 0)
    same(reports, [(None, n) for n in range(20_000)])
    c = assigned(t, topic)
    same([m.value() for m in read(c, 20_000)], [b"%d" % n for n in range(20_000)])
    same(c.get_watermark_offsets(TopicPartition(topic, 0)), (0, 20_000))
    c.close()


@test()
def producer_without_idempotence(t):
    """Without idempotence, over eight partitions, nothing is lost and nothing comes twice on a healthy broker."""
    topic = t.topic(partitions=8)
    send(producer(t, enable_idempotence=False, linger_ms=5), topic, [(b"%d" % n, b"%d" % n) for n in range(5000)])
    c = assigned(t, topic, partitions=8)
    same(sorted(int(m.value()) for m in read(c, 5000)), list(range(5000)))
    same([m for m in c.consume(1, 0.5) if not m.error()], [], "anything more")
    c.close()


@test()
def batches_large_and_small(t):
    """A batch of nearly 1 MB, single records and 900 KB records all pass; fetch sizes below them do not matter."""
    topic = t.topic()
    records = [(None, b"s")] * 3 + [(None, b"m" * 1000)] * 900 + [(None, b"l" * 900_000)] * 3
    send(producer(t, linger_ms=100, batch_size=1_000_000, message_max_bytes=1_000_000), topic, records)
    c = assigned(t, topic, fetch_message_max_bytes=1024, fetch_max_bytes=1_000_000)
    same([len(m.value()) for m in read(c, len(records))], [len(v) for _, v in records])
    c.close()


@test()
def errors_reach_the_delivery_report(t):
    """Too large, unknown partition, illegal name, keyless into a compacted topic, timestamp out of bounds."""
    small, compacted = t.topic(max_message_bytes=1000), t.topic(cleanup_policy="compact")
    bounded = t.topic(message_timestamp_before_max_ms=60000)
    p = producer(t)
    same(delivery_error(p, small, b"x" * 5000).code(), KafkaError.MSG_SIZE_TOO_LARGE)
    same(delivery_error(p, compacted, b"x").code(), KafkaError.INVALID_RECORD)
    same(delivery_error(p, compacted, b"x", b"key"), None)
    same(delivery_error(p, bounded, b"x", timestamp=1000).code(), KafkaError.INVALID_TIMESTAMP)
    # Once the topic is known, produce itself says so.
    unknown = raises(KafkaException, delivery_error, p, small, b"x", partition=7)
    same(unknown.args[0].code(), KafkaError._UNKNOWN_PARTITION)
    # The answer about the topic's name may come while the record is on its way into the queue: then produce says so.
    try:
        illegal = delivery_error(p, "not legal", b"x").code()
    except KafkaException as refused:
        illegal = refused.args[0].code()
    assert illegal in (KafkaError.TOPIC_EXCEPTION, KafkaError._UNKNOWN_TOPIC), illegal


@test()
def log_append_time_and_recompression(t):
    """LogAppendTime replaces the producer's timestamps; a topic's own codec takes any other one and none."""
    topic = t.topic(message_timestamp_type="LogAppendTime", compression_type="zstd")
    before = int(time.time() * 1000)
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        send(producer(t, compression_type=codec, linger_ms=10), topic, [(b"k", codec.encode() * 50)] * 20, timestamp=before - 5000)
    c = assigned(t, topic)
    got = read(c, 100)
    c.close()
    same(sorted({m.value()[:6] for m in got}), sorted({(x.encode() * 50)[:6] for x in ("none", "gzip", "snappy", "lz4", "zstd")}))
    same([m.offset() for m in got], list(range(100)))
    assert all(m.timestamp()[0] == ck.TIMESTAMP_LOG_APPEND_TIME and m.timestamp()[1] >= before for m in got), got[0].timestamp()


@test()
def positions(t):
    """From the beginning, the end, an offset, N before the end, a time; seek moves; watermarks are right."""
    topic, stamp = t.topic(), 1_700_000_000_000
    p = producer(t)
    for n in range(100):
        p.produce(topic, b"%d" % n, timestamp=stamp + n * 1000)
        p.flush()
    for offset, want in ((ck.OFFSET_BEGINNING, 0), (37, 37), (TAIL - 3, 97)):
        c = assigned(t, topic, offset)
        same(read(c, 1)[0].value(), b"%d" % want, f"from {offset}")
        c.close()
    c = assigned(t, topic)
    found = c.offsets_for_times([TopicPartition(topic, 0, stamp + 41_500)], timeout=10)
    same((found[0].error, found[0].offset), (None, 42))
    same(c.offsets_for_times([TopicPartition(topic, 0, stamp + 10**9)], timeout=10)[0].offset, ck.OFFSET_END, "beyond")
    same(c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10), (0, 100))
    read(c, 1)
    c.seek(TopicPartition(topic, 0, 90))
    same(read(c, 10)[0].offset(), 90, "after seek")
    same(c.position([TopicPartition(topic, 0)])[0].offset, 100, "position")
    c.close()


@test()
def end_then_new_messages(t):
    """A consumer at the end of an empty topic, in a long poll, gets the first message by the append alone."""
    topic = t.topic()
    # The poll would last longer than this test may: the append has to end it.
    c = assigned(t, topic, ck.OFFSET_END, fetch_wait_max_ms=200_000, socket_timeout_ms=250_000, session_timeout_ms=200_000,
                 max_poll_interval_ms=300_000)
    same(c.consume(1, 1.0), [], "an empty topic")
    for n in range(3):
        send(producer(t), topic, [(None, b"%d" % n)])
        same(read(c, 1, 15)[0].value(), b"%d" % n)
    c.close()


@test()
def out_of_range_resets(t):
    """An offset beyond the end or below the log start: earliest, latest, or an error, as configured."""
    from confluent_kafka.admin import AdminClient
    topic = t.topic()
    send(producer(t), topic, [(None, b"%d" % n) for n in range(10)])
    admin = AdminClient({"bootstrap.servers": t.bootstrap})
    low = admin.delete_records([TopicPartition(topic, 0, 4)])
    same([f.result(15).low_watermark for f in low.values()], [4])
    for offset in (2, 5000):
        c = assigned(t, topic, offset, auto_offset_reset="earliest")
        same(read(c, 1)[0].offset(), 4, f"earliest from {offset}")
        c.close()
    c = assigned(t, topic, 5000, auto_offset_reset="error")
    error = eventually(lambda: next((m.error() for m in c.consume(1, 0.5) if m.error()), None), "an error")
    same(error.code(), KafkaError._AUTO_OFFSET_RESET)
    c.close()
    c = assigned(t, topic, 5000, auto_offset_reset="latest", enable_partition_eof=True)
    end = eventually(lambda: next((m for m in c.consume(1, 0.5)), None), "the end of the partition")
    same((end.error().code(), end.offset()), (KafkaError._PARTITION_EOF, 10), "latest")
    c.close()


@test()
def read_committed(t):
    """read_committed and read_uncommitted see the same plain records, up to the end."""
    topic = t.topic()
    send(producer(t), topic, [(None, b"%d" % n) for n in range(100)])
    for level in ("read_committed", "read_uncommitted"):
        c = assigned(t, topic, isolation_level=level, enable_partition_eof=True)
        got = []
        while not got or not got[-1].error():
            got += c.consume(100, 0.2)
        same((got[-1].error().code(), len(got) - 1), (KafkaError._PARTITION_EOF, 100), level)
        c.close()


@test()
def many_partitions_one_consumer(t):
    """100 partitions in one assignment (incremental fetches): every record of every partition, also later ones."""
    topic = t.topic(partitions=100)
    p = producer(t)
    c = assigned(t, topic, partitions=100)
    for round_ in range(3):
        for partition in range(100):
            p.produce(topic, b"%d" % round_, partition=partition)
        same(p.flush(20), 0)
        same(sorted((m.partition(), m.value()) for m in read(c, 100)), [(n, b"%d" % round_) for n in range(100)])
    c.close()


@test()
def topic_recreated_under_a_producer(t):
    """Delete and create the topic: the producer goes on into the new one, which starts at offset 0."""
    from confluent_kafka.admin import AdminClient, NewTopic
    admin = AdminClient({"bootstrap.servers": t.bootstrap})
    topic = t.topic()
    p = producer(t, topic_metadata_refresh_interval_ms=500)
    send(p, topic, [(None, b"old")] * 5)
    list(admin.delete_topics([topic]).values())[0].result(15)

    def create():
        future = admin.create_topics([NewTopic(topic, 1)])[topic]
        try:
            return future.result(15) is None
        except KafkaException as error:
            same(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)  # until the deletion is through
            return False
    eventually(create, "the topic again")

    def again():
        error = delivery_error(p, topic, b"new")
        return error is None
    eventually(again, "producing into the new topic")
    c = assigned(t, topic)
    first = read(c, 1)[0]
    same((first.offset(), first.value()), (0, b"new"))
    c.close()


@test()
def transactions_commit_and_abort(t):
    """Committed records are seen by read_committed, aborted ones are not."""
    topic = t.topic()
    p = producer(t, transactional_id=t.name("txn"))
    p.init_transactions(20)
    for n, end in enumerate((p.commit_transaction, p.abort_transaction, p.commit_transaction)):
        p.begin_transaction()
        p.produce(topic, b"%d" % n)
        end(20)
    c = assigned(t, topic, isolation_level="read_committed")
    same([m.value() for m in read(c, 2)], [b"0", b"2"])
    c.close()


@test()
def transactional_producer_is_refused(t):
    """init_transactions fails at once and for good, with a message, instead of retrying until its timeout."""
    p = producer(t, transactional_id=t.name("txn"))
    error = raises(KafkaException, p.init_transactions, 35).args[0]
    print(error)
    assert error.fatal() and not error.retriable(), error
    assert error.code() not in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT), error
    assert error.str(), "a message"
