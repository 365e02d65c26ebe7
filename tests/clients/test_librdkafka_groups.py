"""librdkafka's consumer groups: assignors, rebalances, static members, commits."""

import os
import signal

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from harness import eventually, raises, same, test

PARTITIONS = 6


def fill(t, topic, count, start=0):
    p = Producer({"bootstrap.servers": t.bootstrap})
    for n in range(start, start + count):
        p.produce(topic, b"%d" % n, partition=n % PARTITIONS)
    same(p.flush(20), 0)


class Member:
    """A subscribed consumer that keeps what it was given and what was taken away."""

    def __init__(self, t, group, topics, assignor="range", **conf):
        self.assigned, self.revoked, self.lost, self.messages, self.errors = set(), [], [], [], []
        self.consumer = Consumer({
            "bootstrap.servers": t.bootstrap, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "partition.assignment.strategy": assignor, "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500, **{k.replace("_", "."): v for k, v in conf.items()}})
        self.consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def _on_assign(self, consumer, partitions):
        self.assigned |= {(p.topic, p.partition) for p in partitions}

    def _on_revoke(self, consumer, partitions):
        self.revoked.append({(p.topic, p.partition) for p in partitions})
        self.assigned -= self.revoked[-1]

    def _on_lost(self, consumer, partitions):
        self.lost.append({(p.topic, p.partition) for p in partitions})
        self.assigned -= self.lost[-1]

    def poll(self, seconds=0.05):
        for m in self.consumer.consume(200, seconds):
            (self.errors if m.error() else self.messages).append(m)


def settle(members, topic, partitions=PARTITIONS, timeout_s=30):
    """Polls all until every partition belongs to exactly one of them and all have an even share."""
    def even():
        for m in members:
            m.poll()
        owned = [p for m in members for p in m.assigned]
        low, rest = divmod(partitions, len(members))
        sizes = sorted(len(m.assigned) for m in members)
        return sorted(owned) == [(topic, n) for n in range(partitions)] and sizes[0] == low and sizes[-1] == low + bool(rest)
    eventually(even, f"{len(members)} members own every partition once", timeout_s, 0)


def read_all(members, want, timeout_s=20):
    """Polls until the members together hold these values; returns them, repeats included."""
    def values():
        return [int(m.value()) for member in members for m in member.messages]

    def complete():
        for m in members:
            m.poll()
        return set(values()) >= set(want)
    eventually(complete, f"{len(want)} values", timeout_s, 0)
    return values()


def grow_and_shrink(t, assignor):
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    fill(t, topic, 60)
    members = [Member(t, group, [topic], assignor)]
    settle(members, topic)
    same(sorted(read_all(members, range(60))), list(range(60)), "each once")
    members[0].consumer.commit(asynchronous=False)
    members += [Member(t, group, [topic], assignor), Member(t, group, [topic], assignor)]
    settle(members, topic)
    fill(t, topic, 60, 60)
    same(sorted(read_all(members, range(120))), list(range(120)), "each once, over three members")
    for m in members:
        m.consumer.commit(asynchronous=False)
    members.pop(1).consumer.close()
    settle(members, topic)
    return topic, group, members


@test(timeout_s=60)
def range_assignor(t):
    """Three members share six partitions, one leaves, two take over; every record is read once."""
    for m in grow_and_shrink(t, "range")[2]:
        m.consumer.close()


@test(timeout_s=60)
def roundrobin_assignor(t):
    """As above with roundrobin."""
    for m in grow_and_shrink(t, "roundrobin")[2]:
        m.consumer.close()


@test(timeout_s=60)
def cooperative_assignor(t):
    """As above with cooperative-sticky; nobody gives up all it has on the way."""
    _, _, members = grow_and_shrink(t, "cooperative-sticky")
    assert all(len(r) < PARTITIONS for m in members for r in m.revoked), [m.revoked for m in members]
    for m in members:
        m.consumer.close()


@test(timeout_s=60)
def killed_member_is_replaced(t):
    """A member's process is killed: after its session the other owns all partitions and reads all records."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    child = os.fork()
    if child == 0:
        victim = Member(t, group, [topic])
        while True:
            victim.poll()
    survivor = Member(t, group, [topic])

    def shared():
        survivor.poll()
        return len(survivor.assigned) == PARTITIONS // 2
    eventually(shared, "both have half", 30, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    fill(t, topic, 60)
    settle([survivor], topic)
    same(sorted(set(read_all([survivor], range(60)))), list(range(60)))
    survivor.consumer.close()


@test(timeout_s=60)
def static_member_returns_without_rebalance(t):
    """A static member that closes and comes back within its session gets the same partitions; the other keeps its own."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")

    def member(n):
        return Member(t, group, [topic], group_instance_id=f"{group}-{n}", session_timeout_ms=30000)
    one, two = member(1), member(2)
    settle([one, two], topic)
    mine, rebalances = set(two.assigned), len(one.revoked)
    two.consumer.close()
    two = member(2)

    def back():
        one.poll()
        two.poll()
        return two.assigned == mine
    eventually(back, "the same partitions again", 15, 0)
    same(len(one.revoked), rebalances, "rebalances seen by the other member")
    one.consumer.close()
    two.consumer.close()


@test()
def second_static_member_of_one_id_fences_the_first(t):
    """Two consumers under one instance id: the first one ends with FENCED_INSTANCE_ID."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    first = Member(t, group, [topic], group_instance_id=f"{group}-x")
    settle([first], topic)
    second = Member(t, group, [topic], group_instance_id=f"{group}-x")

    def fenced():
        second.poll()
        first.poll()
        return first.errors
    same(eventually(fenced, "an error", 25, 0)[0].error().code(), KafkaError._FATAL)
    settle([second], topic)
    second.consumer.close()


@test()
def commit_metadata_and_resume(t):
    """Offsets, with metadata, are committed and read back; a new member goes on there; unknown partitions give -1001."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    fill(t, topic, 60)
    m = Member(t, group, [topic])
    read_all([m], range(60))
    done = m.consumer.commit(offsets=[TopicPartition(topic, 0, 4, "half way"), TopicPartition(topic, 1, 10)], asynchronous=False)
    same([p.error for p in done], [None, None])
    got = m.consumer.committed([TopicPartition(topic, n) for n in range(3)], timeout=10)
    same([(p.offset, p.metadata) for p in got], [(4, "half way"), (10, None if got[1].metadata is None else ""),
                                               (ck.OFFSET_INVALID, got[2].metadata)])
    m.consumer.close()
    m = Member(t, group, [topic])
    # Six records of partition 0 are left, none of 1, all of the rest.
    want = [n for n in range(60) if n % PARTITIONS > 1 or (n % PARTITIONS == 0 and n // PARTITIONS >= 4)]
    same(sorted(read_all([m], want)), want)
    m.consumer.close()


@test()
def auto_commit_resumes(t):
    """enable.auto.commit stores positions on close; the next member reads only what is new."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    fill(t, topic, 60)
    m = Member(t, group, [topic], enable_auto_commit=True, auto_commit_interval_ms=100)
    read_all([m], range(60))
    m.consumer.close()
    fill(t, topic, 6, 60)
    m = Member(t, group, [topic], enable_auto_commit=True)
    same(sorted(read_all([m], range(60, 66))), list(range(60, 66)))
    m.consumer.close()


@test()
def commit_of_a_stale_generation_is_refused(t):
    """A commit by a consumer that missed a rebalance fails; the offsets stay."""
    topic, group = t.topic(partitions=PARTITIONS), t.name("g")
    fill(t, topic, 6)
    sleeper = Member(t, group, [topic], max_poll_interval_ms=6000)
    read_all([sleeper], range(6))
    sleeper.consumer.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    other = Member(t, group, [topic])

    def taken():
        other.poll()
        return len(other.assigned) == PARTITIONS
    eventually(taken, "the other has all when the sleeper exceeds its poll interval", 30, 0)
    error = raises(KafkaException, sleeper.consumer.commit, offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    assert error.args[0].code() in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
                                    KafkaError.REBALANCE_IN_PROGRESS, KafkaError._FENCED, KafkaError._STATE), error
    same(other.consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset, 1)
    other.consumer.close()
    sleeper.consumer.close()


@test(timeout_s=60)
def pattern_subscription_finds_new_topics(t):
    """A pattern finds a topic that is made later."""
    base, group = t.name("pattern"), t.name("g")
    fixed = t.topic("pattern", partitions=PARTITIONS)
    prefix = fixed.rsplit("-", 1)[0]
    m = Member(t, group, [f"^{prefix}-.*"], topic_metadata_refresh_interval_ms=500)
    settle([m], fixed)
    later = t.topic("pattern", partitions=1)

    def found():
        m.poll()
        return (later, 0) in m.assigned
    eventually(found, f"{later} beside {base}", 25, 0)
    m.consumer.close()


@test()
def partitions_added_under_a_group(t):
    """New partitions of a topic are given to its consumers."""
    from confluent_kafka.admin import AdminClient, NewPartitions
    topic, group = t.topic(partitions=2), t.name("g")
    m = Member(t, group, [topic], topic_metadata_refresh_interval_ms=500)
    settle([m], topic, 2)
    admin = AdminClient({"bootstrap.servers": t.bootstrap})
    admin.create_partitions([NewPartitions(topic, PARTITIONS)])[topic].result(15)
    settle([m], topic)
    m.consumer.close()
