"""Produce, Fetch, ListOffsets and DeleteRecords, request by request."""

import time

import batches
import wire
from harness import eventually, same, test
from protocol import *  # noqa: F403 - error codes and bodies


# ---- Produce ----

@test()
def produce_to_unknown_partitions(t):
    """UNKNOWN_TOPIC_OR_PARTITION at once for an unknown partition or topic, UNKNOWN_TOPIC_ID for an unknown id."""
    topic = t.topic()
    with t.connect() as c:
        for version in range(3, 13):
            for name, partition in ((topic, 7), (topic, -1), (t.name("none"), 0), ("not a legal name", 0)):
                got = produced(c, name, batches.batch([(None, b"x")]), version, partition=partition)
                same(got.ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, f"v{version} to {name}[{partition}]")
        got = produced(c, "", batches.batch([(None, b"x")]), 13, topic_id=wire.uuid.uuid4())
        same(got.ErrorCode, UNKNOWN_TOPIC_ID, "v13")


@test()
def produce_record_errors_in_compacted_topic(t):
    """A record without key in a compacted topic: INVALID_RECORD, naming that record from v8; nothing is appended."""
    topic = t.topic(cleanup_policy="compact")
    records = batches.batch([(b"a", b"1"), (None, b"2"), (b"c", b"3"), (None, b"4")])
    with t.connect() as c:
        for version in (3, 7, 8, 9, 12):
            got = produced(c, topic, records, version)
            same(got.ErrorCode, INVALID_RECORD, f"v{version}")
            same(got.BaseOffset, -1, f"base offset in v{version}")
            if version >= 8:
                same([r.BatchIndex for r in got.RecordErrors], [1, 3], f"records named in v{version}")
                assert got.ErrorMessage, "an error message"
        same(offset_of(c, topic, -1).Offset, 0, "log end")
        same(produced(c, topic, batches.batch([(b"a", None)])).ErrorCode, NONE, "a tombstone")


@test()
def produce_refuses_bad_batches(t):
    """Wrong CRC, magic, counts, sizes, two batches, control batches, none at all: each its code, nothing appended."""
    topic = t.topic()
    good = batches.batch([(b"k", b"v")])
    cases = {
        "CRC": (batches.batch([(b"k", b"v")], crc=1), CORRUPT_MESSAGE),
        "magic 1": (batches.batch([(b"k", b"v")], magic=1), INVALID_RECORD),
        "two batches": (good + good, INVALID_RECORD),
        "no batch": (b"", INVALID_RECORD),
        "last delta": (batches.batch([(b"k", b"v")], last_delta=5), INVALID_RECORD),
        "count": (batches.batch([(b"k", b"v")], count=9, last_delta=8), INVALID_RECORD),
        "control batch": (batches.batch([(b"\0\0\0\1", b"\0\0\0\0\0\0")], attributes=batches.CONTROL), INVALID_RECORD),
    }
    wrong = []
    with t.connect() as c:
        for what, (records, want) in cases.items():
            got = produced(c, topic, records)
            if got.ErrorCode != want:
                wrong.append(f"{what}: got {got.ErrorCode}, want {want}")
        same(wrong, [])
        same(offset_of(c, topic, -1).Offset, 0, "log end")


@test()
def produce_transactional_batch_without_transaction(t):
    """A transactional batch of a producer that began no transaction is refused for good and not appended."""
    topic = t.topic()
    with t.connect() as c:
        pid = producer_id(c)
        records = batches.batch([(b"k", b"v")], attributes=batches.TRANSACTIONAL, producer_id=pid.ProducerId,
                                epoch=pid.ProducerEpoch, sequence=0)

        def answer():
            # A broker with transactions first looks for the coordinator, and meanwhile answers with retriable errors.
            c.call("FindCoordinator", 3, {"Key": "t", "KeyType": 1})
            code = produced(c, topic, records, 9, transactional_id="t").ErrorCode
            return code if code not in (6, 19) else None
        # A broker with transactions may say instead that it does not know this transactional id.
        assert eventually(answer, "a final answer") in (INVALID_TXN_STATE, INVALID_PRODUCER_ID_MAPPING)
        same(offset_of(c, topic, -1).Offset, 0, "log end")


@test()
def produce_acks_rules(t):
    """acks 0 has no answer but appends; acks 2 is INVALID_REQUIRED_ACKS; an error under acks 0 closes the connection."""
    topic = t.topic()
    with t.connect() as c:
        c.send("Produce", 9, produce_body(topic, batches.batch([(None, b"x")]), acks=0))
        same(c.call("ApiVersions", 0).ErrorCode, NONE, "the next answer is the next request's")
        eventually(lambda: offset_of(c, topic, -1).Offset == 1, "appended")
        same(produced(c, topic, batches.batch([(None, b"x")]), acks=1).BaseOffset, 1, "acks 1")
        same(produced(c, topic, batches.batch([(None, b"x")]), acks=2).ErrorCode, INVALID_REQUIRED_ACKS, "acks 2")
    with t.connect() as c:
        c.send("Produce", 9, produce_body(topic, batches.batch([(None, b"x")]), acks=0, partition=9))
        assert c.closed_by_broker(), "answered"


@test()
def produce_size_and_timestamp_limits(t):
    """max.message.bytes: MESSAGE_TOO_LARGE; timestamps beyond message.timestamp.*.max.ms: INVALID_TIMESTAMP."""
    small = t.topic(max_message_bytes=1000)
    bounded = t.topic(message_timestamp_before_max_ms=60000, message_timestamp_after_max_ms=60000)
    now = int(time.time() * 1000)
    with t.connect() as c:
        same(produced(c, small, batches.batch([(None, b"x" * 2000)])).ErrorCode, MESSAGE_TOO_LARGE)
        same(produced(c, small, batches.batch([(None, b"x" * 500)])).ErrorCode, NONE)
        for stamp, want in ((now, NONE), (now - 3_600_000, INVALID_TIMESTAMP), (now + 3_600_000, INVALID_TIMESTAMP)):
            got = produced(c, bounded, batches.batch([(None, b"x")], timestamp=stamp))
            same(got.ErrorCode, want, f"timestamp now{stamp - now:+d}")


@test()
def log_append_time(t):
    """With LogAppendTime the answer carries the time, and the stored batch has it with the type bit and a valid CRC."""
    topic = t.topic(message_timestamp_type="LogAppendTime")
    with t.connect() as c:
        got = produced(c, topic, batches.batch([(None, b"x")], timestamp=1000))
        assert got.LogAppendTimeMs > 1_600_000_000_000, got
        data = c.call("Fetch", 12, fetch_body(topic)).Responses[0].Partitions[0].Records
        assert batches.read(data)[0][3] & 0x08, "timestamp type bit"
        same(batches.HEADER.unpack_from(data)[8], got.LogAppendTimeMs, "max timestamp")
        plain = t.topic()
        same(produced(c, plain, batches.batch([(None, b"x")])).LogAppendTimeMs, -1, "with CreateTime")


# ---- idempotence ----

@test()
def idempotent_producer_rules(t):
    """Duplicates get the original offset; a gap is out of order; an old epoch is refused; a new epoch starts at 0."""
    topic = t.topic()
    with t.connect() as c:
        ids = [producer_id(c) for _ in range(5)]
        same(len({i.ProducerId for i in ids}), 5, "distinct producer ids")
        same({(i.ErrorCode, i.ProducerEpoch) for i in ids}, {(NONE, 0)})
        pid = ids[0].ProducerId

        def send(sequence, count=1, epoch=0, producer=pid):
            records = [(None, b"%d" % n) for n in range(count)]
            got = produced(c, topic, batches.batch(records, producer_id=producer, epoch=epoch, sequence=sequence))
            return got.ErrorCode, got.BaseOffset
        same(send(0, 3), (NONE, 0), "first")
        same(send(3, 2), (NONE, 3), "second")
        same(send(5), (NONE, 5), "third")
        same(send(3, 2), (NONE, 3), "duplicate of the second")
        same(send(0, 3), (NONE, 0), "duplicate of the first")
        same(send(9)[0], OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap")
        same(send(6), (NONE, 6), "goes on after the refusal")
        same(send(1, epoch=1)[0], OUT_OF_ORDER_SEQUENCE_NUMBER, "a new epoch that does not start at 0")
        same(send(0, epoch=1), (NONE, 7), "a new epoch")
        same(send(7, epoch=0)[0], INVALID_PRODUCER_EPOCH, "the old epoch")
        same(send(42, producer=ids[1].ProducerId), (NONE, 8), "an unknown producer's first sequence")
        same(offset_of(c, topic, -1).Offset, 9, "log end")
        state = c.call("DescribeProducers", 0, {"Topics": [{"Name": topic, "PartitionIndexes": [0]}]})
        active = {p.ProducerId: (p.ProducerEpoch, p.LastSequence) for p in state.Topics[0].Partitions[0].ActiveProducers}
        same(active, {pid: (1, 0), ids[1].ProducerId: (0, 42)}, "DescribeProducers")


@test()
def idempotent_pipelined_duplicates(t):
    """Five batches in flight, each sent twice in a row without waiting, are stored once; both get one offset."""
    topic = t.topic()
    with t.connect() as c:
        pid = producer_id(c).ProducerId
        for round_ in range(20):
            sent = []
            for n in range(5):
                body = produce_body(topic, batches.batch([(None, b"x")], producer_id=pid, epoch=0, sequence=round_ * 5 + n))
                sent += [c.send("Produce", 9, body), c.send("Produce", 9, body)]
            got = [c.receive("Produce", 9, s).Responses[0].PartitionResponses[0] for s in sent]
            same({g.ErrorCode for g in got}, {NONE})
            same([g.BaseOffset for g in got], [round_ * 5 + n for n in range(5) for _ in "ab"])
        same(offset_of(c, topic, -1).Offset, 100, "log end")


@test()
def transactional_init_is_refused(t):
    """FindCoordinator for a transaction and InitProducerId with a transactional id: a final error, not a retriable one."""
    retriable = {NONE, 5, 6, 7, 14, 15, 16, 51}
    with t.connect() as c:
        for version in (1, 2, 3):
            found = c.call("FindCoordinator", version, {"Key": t.name("txn"), "KeyType": 1})
            assert found.ErrorCode not in retriable and found.ErrorMessage, found
        found = c.call("FindCoordinator", 4, {"KeyType": 1, "CoordinatorKeys": [t.name("txn")]}).Coordinators[0]
        assert found.ErrorCode not in retriable and found.ErrorMessage, found
        for version in (0, 4):
            made = c.call("InitProducerId", version, {"TransactionalId": t.name("txn"), "TransactionTimeoutMs": 60000})
            assert made.ErrorCode not in retriable, made


# ---- ListOffsets, Fetch, DeleteRecords ----

@test()
def list_offsets_rules(t):
    """Earliest, latest, max timestamp, by time, beyond the end; unknown partitions and epochs have their codes."""
    topic = t.topic()
    with t.connect() as c:
        for n in range(10):
            produced(c, topic, batches.batch([(None, b"a"), (None, b"b")], timestamp=1_700_000_000_000 + n * 1000))
        base = 1_700_000_000_000
        for stamp, want in ((-1, 20), (-2, 0), (base, 0), (base + 1, 2), (base + 4000, 8), (base + 9000, 18), (0, 0)):
            got = offset_of(c, topic, stamp)
            same((got.ErrorCode, got.Offset), (NONE, want), f"offset for {stamp}")
        got = offset_of(c, topic, base + 3500)
        same((got.Timestamp, got.Offset), (base + 4000, 8), "timestamp of the record found")
        same((offset_of(c, topic, base + 9001).ErrorCode, offset_of(c, topic, base + 9001).Offset), (NONE, -1), "beyond")
        got = offset_of(c, topic, -3)
        same((got.Timestamp, got.Offset), (base + 9000, 18), "max timestamp")
        same(offset_of(c, topic, -4, version=8).Offset, 0, "earliest local")
        for version in range(1, 11):
            for partition in (5, -1):
                got = offset_of(c, topic, -1, partition, version)
                same((got.ErrorCode, got.Offset), (UNKNOWN_TOPIC_OR_PARTITION, -1), f"v{version}, partition {partition}")
            same(offset_of(c, t.name("none"), -1, 0, version).ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, "unknown topic")
        body = {"ReplicaId": -1, "Topics": [{"Name": topic, "Partitions": [
            {"PartitionIndex": 0, "Timestamp": -1, "CurrentLeaderEpoch": 1000}]}]}
        same(c.call("ListOffsets", 5, body).Topics[0].Partitions[0].ErrorCode, UNKNOWN_LEADER_EPOCH, "future epoch")
        empty = t.topic()
        same((offset_of(c, empty, -1).Offset, offset_of(c, empty, 5).Offset, offset_of(c, empty, -3).Offset), (0, -1, -1))


@test()
def offset_for_leader_epoch(t):
    """The current epoch ends at the log end; an epoch from the future has no end."""
    topic = t.topic()
    with t.connect() as c:
        fill(c, topic, 4)
        epoch = c.call("Metadata", 12, {"Topics": [{"Name": topic}]}).Topics[0].Partitions[0].LeaderEpoch

        def end(asked, current=-1):
            return c.call("OffsetForLeaderEpoch", 4, {"ReplicaId": -1, "Topics": [{"Topic": topic, "Partitions": [
                {"Partition": 0, "CurrentLeaderEpoch": current, "LeaderEpoch": asked}]}]}).Topics[0].Partitions[0]
        same((end(epoch).ErrorCode, end(epoch).LeaderEpoch, end(epoch).EndOffset), (NONE, epoch, 4))
        same((end(epoch + 5).LeaderEpoch, end(epoch + 5).EndOffset), (-1, -1), "future epoch")
        same(end(epoch, current=epoch + 5).ErrorCode, UNKNOWN_LEADER_EPOCH, "future current epoch")


@test()
def fetch_errors(t):
    """Out of range below and above, unknown partition, topic, id and epoch; at the end it is empty and no error."""
    topic = t.topic()
    with t.connect() as c:
        fill(c, topic, 5)
        uid = topic_id(c, topic)

        def code(version=12, **kwargs):
            return c.call("Fetch", version, fetch_body(**{"topic": topic, "topic_id": uid, **kwargs})).Responses[0].Partitions[0]
        for version in (4, 11, 12, 13, wire.versions("Fetch")[1] - 1):
            same((code(version, offset=5).ErrorCode, code(version, offset=5).HighWatermark), (NONE, 5), f"v{version}, at the end")
            for offset in (6, -1):
                same(code(version, offset=offset).ErrorCode, OFFSET_OUT_OF_RANGE, f"v{version}, offset {offset}")
            same(code(version, partition=3).ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, f"v{version}, unknown partition")
        same(code(topic=t.name("none")).ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, "unknown topic")
        same(code(13, topic_id=wire.uuid.uuid4()).ErrorCode, UNKNOWN_TOPIC_ID, "unknown id")
        same(code(leader_epoch=1000).ErrorCode, UNKNOWN_LEADER_EPOCH, "future epoch")


@test()
def fetch_returns_what_was_stored(t):
    """Fetching at any offset gives the batch that holds it, with offsets assigned and the CRC intact, in order."""
    topic = t.topic()
    with t.connect() as c:
        for n in range(30):
            produced(c, topic, batches.batch([(b"k", b"%d" % (n * 3 + i)) for i in range(3)]))
        for offset in (0, 1, 2, 3, 44, 88, 89):
            found = batches.read(c.call("Fetch", 12, fetch_body(topic, offset)).Responses[0].Partitions[0].Records)
            same(found[0][:3], (offset - offset % 3, offset - offset % 3 + 2, 3), f"first batch at {offset}")
            same([b[0] for b in found], list(range(offset - offset % 3, 90, 3)), f"batches from {offset}")


@test()
def fetch_limits(t):
    """The first batch comes whole however small max_bytes is; the response's and a partition's limit hold otherwise."""
    topic = t.topic(partitions=3)
    with t.connect() as c:
        for partition in range(3):
            for _ in range(10):
                produced(c, topic, batches.batch([(None, b"x" * 5000)]), partition=partition)

        def sizes(max_bytes, partition_max):
            body = fetch_body(topic, max_bytes=max_bytes, partition_max_bytes=partition_max)
            body["Topics"][0]["Partitions"] = [{"Partition": p, "FetchOffset": 0, "PartitionMaxBytes": partition_max}
                                               for p in range(3)]
            parts = c.call("Fetch", 12, body).Responses[0].Partitions
            return [len(batches.read(p.Records or b"")) for p in sorted(parts, key=lambda p: p.PartitionIndex)]
        same(sum(sizes(1, 1 << 20)), 1, "batches under max_bytes 1")
        got = sizes(1 << 20, 1)
        same(sum(got), 1, "batches under a partition limit of 1: the first batch of the response only")
        same(sizes(1 << 20, 1 << 20), [10, 10, 10], "all")
        assert 1 <= sum(sizes(20000, 1 << 20)) <= 4, "max_bytes holds over the whole response"
        got = sizes(1 << 20, 11000)
        assert all(1 <= n <= 2 for n in got), f"a partition's limit: {got}"


@test()
def fetch_long_poll_wakes_on_append(t):
    """A fetch waiting for bytes is answered by an append, long before its wait is over; min_bytes is respected."""
    topic = t.topic()
    with t.connect(timeout_s=30) as waiting, t.connect() as c:
        # The wait is far beyond the socket's patience: only the append can end it in time.
        sent = waiting.send("Fetch", 12, fetch_body(topic, max_wait_ms=300_000, min_bytes=1))
        produced(c, topic, batches.batch([(None, b"x")]))
        got = waiting.receive("Fetch", 12, sent).Responses[0].Partitions[0]
        same(len(batches.read(got.Records)), 1)
        sent = waiting.send("Fetch", 12, fetch_body(topic, offset=1, max_wait_ms=300_000, min_bytes=5000))
        for _ in range(3):
            produced(c, topic, batches.batch([(None, b"x" * 2000)]))
        got = waiting.receive("Fetch", 12, sent).Responses[0].Partitions[0]
        assert len(batches.read(got.Records)) >= 3, "min_bytes waits for enough"
        empty = waiting.call("Fetch", 12, fetch_body(topic, offset=4, max_wait_ms=200, min_bytes=1)).Responses[0].Partitions[0]
        same((empty.ErrorCode, empty.Records or b""), (NONE, b""), "an empty answer when the wait is over")


@test()
def fetch_sessions(t):
    """A session remembers its partitions, sends only what changed, and refuses wrong ids and epochs."""
    topic = t.topic(partitions=3)
    with t.connect() as c:
        body = fetch_body(topic, epoch=0)
        body["Topics"][0]["Partitions"] = [{"Partition": p, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20} for p in range(3)]
        full = c.call("Fetch", 12, body)
        assert full.SessionId > 0, "a session id"
        same(len(full.Responses[0].Partitions), 3, "partitions of the full answer")
        session = full.SessionId

        def incremental(epoch, topics=(), forget=(), session=session):
            return c.call("Fetch", 12, {"MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 1 << 20, "SessionId": session,
                                        "SessionEpoch": epoch, "ReplicaId": -1, "Topics": list(topics),
                                        "ForgottenTopicsData": list(forget)})
        same(incremental(1).Responses, [], "nothing changed")
        produced(c, topic, batches.batch([(None, b"x")]), partition=1)
        changed = incremental(2)
        same([p.PartitionIndex for p in changed.Responses[0].Partitions], [1], "the partition that changed")
        moved = [{"Topic": topic, "Partitions": [{"Partition": 1, "FetchOffset": 1, "PartitionMaxBytes": 1 << 20}]}]
        same(incremental(3, moved).Responses, [], "after moving on")
        produced(c, topic, batches.batch([(None, b"x")]), partition=2)
        same(incremental(4, forget=[{"Topic": topic, "Partitions": [2]}]).Responses, [], "a forgotten partition")
        same(incremental(99).ErrorCode, INVALID_FETCH_SESSION_EPOCH, "wrong epoch")
        same(incremental(1, session=0x7FFFFFF0).ErrorCode, FETCH_SESSION_ID_NOT_FOUND, "unknown session")
        with t.connect() as other:
            body["SessionId"], body["SessionEpoch"] = session, -1
            same(other.call("Fetch", 12, body).ErrorCode, NONE, "closing the session from another connection")
        same(incremental(5).ErrorCode, FETCH_SESSION_ID_NOT_FOUND, "after closing")


@test()
def delete_records_rules(t):
    """The log start moves and stays; -1 means the high watermark; beyond it is out of range; reads below fail."""
    topic = t.topic()

    def trim(c, offset, partition=0):
        return c.call("DeleteRecords", 2, {"Topics": [{"Name": topic, "Partitions": [
            {"PartitionIndex": partition, "Offset": offset}]}], "TimeoutMs": 15000}).Topics[0].Partitions[0]
    with t.connect() as c:
        fill(c, topic, 10)
        same((trim(c, 4).ErrorCode, trim(c, 4).LowWatermark), (NONE, 4))
        same((offset_of(c, topic, -2).Offset, offset_of(c, topic, -1).Offset), (4, 10))
        same(trim(c, 2).LowWatermark, 4, "never goes back")
        same(trim(c, 11).ErrorCode, OFFSET_OUT_OF_RANGE, "beyond the end")
        same(trim(c, 0, partition=9).ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, "unknown partition")
        got = c.call("Fetch", 12, fetch_body(topic, 3)).Responses[0].Partitions[0]
        same(got.ErrorCode, OFFSET_OUT_OF_RANGE, "below the log start")
        got = c.call("Fetch", 12, fetch_body(topic, 4)).Responses[0].Partitions[0]
        same((got.ErrorCode, got.LogStartOffset, batches.read(got.Records)[0][0]), (NONE, 4, 4))
        same(trim(c, -1).LowWatermark, 10, "all")
        same(fill(c, topic, 1), 10, "goes on after it")
