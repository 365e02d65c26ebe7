"""kafka-python 3: producer, consumer, groups, admin."""

import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from kafka.structs import OffsetAndMetadata

from harness import eventually, raises, same, test

PARTITIONS = 6


def producer(t, **conf):
    return KafkaProducer(bootstrap_servers=t.bootstrap, **conf)


def consumer(t, *topics, **conf):
    settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, **conf}
    return KafkaConsumer(*topics, bootstrap_servers=t.bootstrap, **settings)


def assigned(t, topic, partitions=1, **conf):
    c = consumer(t, **conf)
    c.assign([TopicPartition(topic, n) for n in range(partitions)])
    return c


def read(c, count, timeout_s=20):
    got, deadline = [], time.monotonic() + timeout_s
    while len(got) < count:
        for records in c.poll(timeout_ms=500, max_records=count - len(got)).values():
            got += records
        assert time.monotonic() < deadline, f"{len(got)} of {count} records"
    return got


@test()
def codecs_keys_headers_timestamps(t):
    """Every codec: keys, values, headers, null values, timestamps and offsets come back as sent."""
    stamp = 1_700_000_000_000
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        topic = t.topic(codec or "none")
        p = producer(t, compression_type=codec, linger_ms=20)
        sent = [p.send(topic, None if n % 50 == 0 else b"value %d" % n * (n % 9), b"k%d" % n, [("n", b"%d" % n)],
                       timestamp_ms=stamp + n) for n in range(300)]
        p.flush(20)
        same([s.get(10).offset for s in sent], list(range(300)), codec)
        p.close()
        c = assigned(t, topic)
        for n, r in enumerate(read(c, 300)):
            same((r.offset, r.key, r.value, r.timestamp, list(r.headers)),
                 (n, b"k%d" % n, None if n % 50 == 0 else b"value %d" % n * (n % 9), stamp + n, [("n", b"%d" % n)]), codec)
        c.close()


@test()
def acks_and_idempotence(t):
    """acks 0, 1 and all without idempotence, and the idempotent producer: each record is stored once."""
    topic = t.topic()
    for n, conf in enumerate(({"acks": 0, "enable_idempotence": False}, {"acks": 1, "enable_idempotence": False},
                              {"acks": "all", "enable_idempotence": False}, {"enable_idempotence": True})):
        p = producer(t, **conf)
        for i in range(500):
            p.send(topic, b"%d %d" % (n, i))
        p.flush(20)
        p.close()
        c = assigned(t, topic)
        same([r.value for r in read(c, 500 * (n + 1))[500 * n:]], [b"%d %d" % (n, i) for i in range(500)], conf)
        c.close()


@test()
def positions(t):
    """Beginning and end offsets, seek, offsets_for_times; an offset out of range resets or raises."""
    topic, stamp = t.topic(), 1_700_000_000_000
    tp = TopicPartition(topic, 0)
    p = producer(t)
    for n in range(50):
        p.send(topic, b"%d" % n, timestamp_ms=stamp + n * 1000).get(10)
    c = assigned(t, topic)
    same((c.beginning_offsets([tp])[tp], c.end_offsets([tp])[tp]), (0, 50))
    found = c.offsets_for_times({tp: stamp + 20_500})[tp]
    same((found.offset, found.timestamp), (21, stamp + 21_000))
    same(c.offsets_for_times({tp: stamp * 2})[tp], None, "beyond the end")
    c.seek(tp, 45)
    same([r.offset for r in read(c, 5)], [45, 46, 47, 48, 49], "seek")
    c.seek_to_beginning(tp)
    same(read(c, 1)[0].offset, 0)
    c.seek_to_end(tp)
    same(c.position(tp), 50)
    c.seek(tp, 4000)
    same(read(c, 1)[0].offset, 0, "out of range starts at the earliest")
    c.close()
    c = assigned(t, topic, auto_offset_reset="none")
    c.seek(tp, 4000)
    raises(errors.OffsetOutOfRangeError, read, c, 1)
    c.close()


@test()
def long_poll_on_an_empty_topic(t):
    """A consumer waiting at the end gets the record by the append alone."""
    topic = t.topic()
    c = assigned(t, topic, fetch_max_wait_ms=200_000, request_timeout_ms=250_000, isolation_level="read_committed")
    same(c.poll(timeout_ms=1000), {}, "an empty topic")
    producer(t).send(topic, b"x").get(10)
    same(read(c, 1)[0].value, b"x")


@test()
def errors_are_raised(t):
    """Too large for the topic, keyless into a compacted topic, an illegal name."""
    small, compacted = t.topic(max_message_bytes=1000), t.topic(cleanup_policy="compact")
    p = producer(t)
    raises(errors.MessageSizeTooLargeError, p.send(small, b"x" * 5000).get, 15)
    same(producer(t).send(small, b"x").get(15).offset, 0)
    raises(errors.InvalidRecordError, producer(t).send(compacted, b"x").get, 15)
    raises((errors.InvalidTopicError, errors.KafkaTimeoutError, ValueError), lambda: producer(t, max_block_ms=8000).send("not legal", b"x").get(15))


class Member(threading.Thread):
    """A group member in a thread of its own: kafka-python joins and heartbeats while it polls."""

    def __init__(self, t, group, topic, assignor, **conf):
        super().__init__(daemon=True)
        self.consumer = consumer(t, topic, group_id=group, partition_assignment_strategy=[assignor], session_timeout_ms=6000,
                                 heartbeat_interval_ms=500, **conf)
        self.values, self.owned, self.stopping, self.error = [], set(), False, None
        self.start()

    def run(self):
        try:
            while not self.stopping:
                for records in self.consumer.poll(timeout_ms=100).values():
                    self.values += [int(r.value) for r in records]
                self.owned = {tp.partition for tp in self.consumer.assignment()}
            self.consumer.commit()
            self.consumer.close()
        except Exception as error:  # shown by `settled`
            self.error = error

    def stop(self):
        self.stopping = True
        self.join(20)
        same((self.error, self.is_alive()), (None, False), "the member's end")


def settled(members):
    def even():
        for m in members:
            same(m.error, None, "a member")
        owned = sorted(p for m in members for p in m.owned)
        return owned == list(range(PARTITIONS)) and all(len(m.owned) == PARTITIONS // len(members) for m in members)
    eventually(even, f"{len(members)} members share all partitions", 30)


def grow_and_shrink(t, assignor):
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    p = producer(t)

    def fill(start):
        for n in range(start, start + 60):
            p.send(topic, b"%d" % n, partition=n % PARTITIONS)
        p.flush(20)
    fill(0)
    members = [Member(t, group, topic, assignor) for _ in range(2)]
    settled(members)
    eventually(lambda: set(members[0].values + members[1].values) >= set(range(60)), "60 values")
    members.append(Member(t, group, topic, assignor))
    settled(members)
    fill(60)
    eventually(lambda: {v for m in members for v in m.values} == set(range(120)), "120 values")
    members.pop(0).stop()
    settled(members)
    fill(120)
    eventually(lambda: {v for m in members for v in m.values} >= set(range(120, 180)), "the last 60 values")
    for m in members:
        m.stop()
    last = consumer(t, topic, group_id=group)
    same([r for records in last.poll(timeout_ms=3000).values() for r in records], [], "after all was committed")
    last.close()


@test(timeout_s=60)
def range_assignor(t):
    """Two members, a third joins, one leaves: all partitions shared, all records read, commits kept."""
    grow_and_shrink(t, RangePartitionAssignor)


@test(timeout_s=60)
def roundrobin_assignor(t):
    """As above with roundrobin."""
    grow_and_shrink(t, RoundRobinPartitionAssignor)


@test(timeout_s=60)
def sticky_assignor(t):
    """As above with sticky."""
    grow_and_shrink(t, StickyPartitionAssignor)


@test(timeout_s=60)
def cooperative_assignor(t):
    """As above with cooperative-sticky."""
    grow_and_shrink(t, CooperativeStickyAssignor)


@test()
def commit_and_resume(t):
    """Commits with metadata are read back, and the next consumer goes on there."""
    topic, group = t.topic(), t.name("g")
    tp, p = TopicPartition(topic, 0), producer(t)
    for n in range(20):
        p.send(topic, b"%d" % n)
    p.flush(20)
    c = consumer(t, topic, group_id=group)
    read(c, 20)
    c.commit({tp: OffsetAndMetadata(7, "seven", -1)})
    found = c.committed(tp, metadata=True)
    same((found.offset, found.metadata), (7, "seven"))
    c.close()
    c = consumer(t, topic, group_id=group)
    same(read(c, 1)[0].offset, 7)
    c.close()
    c = consumer(t, group_id=t.name("unknown"))
    same(c.committed(tp), None, "a group that committed nothing")
    c.close()


@test()
def admin(t):
    """Topics, partitions, configs, records, groups and cluster through the admin client."""
    a, name, group = KafkaAdminClient(bootstrap_servers=t.bootstrap), t.name(), t.name("g")
    a.create_topics({name: {"num_partitions": 2, "replication_factor": 1, "configs": {"retention.ms": "4000"}}})
    raises(errors.TopicAlreadyExistsError, a.create_topics, {name: {"num_partitions": 2, "replication_factor": 1}})
    eventually(lambda: name in a.list_topics(), "listed")
    same(len(a.describe_topics([name])[0]["partitions"]), 2)
    a.create_partitions({name: 4})
    eventually(lambda: len(a.describe_topics([name])[0]["partitions"]) == 4, "four partitions")

    def retention():
        found = a.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": None})], config_filter="all")
        return found["topic"][name]["retention.ms"]["value"]
    same(retention(), "4000")
    a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "70000"})])
    eventually(lambda: retention() == "70000", "altered")
    a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "80000"})], incremental=False)
    eventually(lambda: retention() == "80000", "altered the old way")

    p, tp = producer(t), TopicPartition(name, 0)
    for n in range(10):
        p.send(name, b"%d" % n, partition=0)
    p.flush(20)
    a.delete_records({tp: 4})
    c = consumer(t, group_id=group)
    same((c.beginning_offsets([tp])[tp], c.end_offsets([tp])[tp]), (4, 10))
    c.assign([tp])
    read(c, 6)
    c.commit()
    c.close()
    assert group in [g["group_id"] for g in a.list_groups()], "group is listed"
    same(a.describe_groups([group])[group]["group_state"], "Empty")
    same({k: v.offset for k, v in a.list_group_offsets([group])[group].items()}, {tp: 10})
    a.delete_groups([group])
    assert group not in [g["group_id"] for g in a.list_groups()], "group is gone"
    assert a.describe_cluster()["cluster_id"], "a cluster id"
    a.delete_topics([name])
    eventually(lambda: name not in a.list_topics(), "gone")
    raises(errors.UnknownTopicOrPartitionError, a.delete_topics, [name])
    a.close()


@test()
def transaction_commits(t):
    """Committed records reach read_committed, aborted ones do not."""
    topic = t.topic()
    p = producer(t, transactional_id=t.name("txn"))
    p.init_transactions()
    for n, end in enumerate((p.commit_transaction, p.abort_transaction, p.commit_transaction)):
        p.begin_transaction()
        p.send(topic, b"%d" % n)
        end()
    c = assigned(t, topic, isolation_level="read_committed")
    same([r.value for r in read(c, 2)], [b"0", b"2"])
    c.close()
