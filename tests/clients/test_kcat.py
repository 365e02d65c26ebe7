"""kcat: the command line around an older librdkafka (Debian's)."""

import json
import time

from harness import eventually, same, test


def kcat(t, *args, **kwargs):
    return t.run("kcat", "-b", t.bootstrap, "-m", "10", *args, **kwargs)


def produce(t, topic, lines, *args, **kwargs):
    return kcat(t, "-P", "-t", topic, *args, input="".join(f"{line}\n" for line in lines), **kwargs)


def consume(t, topic, *args, **kwargs):
    """Reads to the end of the topic; returns kcat's JSON envelopes."""
    return kcat(t, "-C", "-t", topic, "-e", "-q", "-J", *args, **kwargs).json_lines()


@test()
def metadata(t):
    """-L lists the broker that was asked, and the topic with each partition led by it."""
    topic = t.topic(partitions=3)
    listed = json.loads(kcat(t, "-L", "-J").out)
    assert t.bootstrap in [b["name"] for b in listed["brokers"]], listed["brokers"]
    found = next(x for x in listed["topics"] if x["topic"] == topic)
    same([(p["partition"], p["leader"]) for p in found["partitions"]], [(n, listed["brokers"][0]["id"]) for n in range(3)])


@test()
def codecs(t):
    """200 records with each codec and with none come back whole and in order."""
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        topic = t.topic(codec)
        lines = [f"{codec} {n} " + "abc" * (n % 50) for n in range(200)]
        produce(t, topic, lines, "-z", codec)
        same([m["payload"] for m in consume(t, topic, "-o", "beginning")], lines, codec)


@test()
def keys_headers_and_nulls(t):
    """Keys, headers and null values arrive as sent; keys decide the partition."""
    topic = t.topic(partitions=4)
    produce(t, topic, ["a:1", "b:", "a:3"], "-K:", "-Z", "-H", "one=1", "-H", "two=zwei")
    got = consume(t, topic, "-o", "beginning")
    same(sorted((m["key"], m["payload"]) for m in got if m["payload"]), [("a", "1"), ("a", "3")])
    same([(m["key"], m["payload"]) for m in got if not m["payload"]], [("b", None)], "the null value")
    assert all(m["headers"] == ["one", "1", "two", "zwei"] for m in got), got
    same(len({m["partition"] for m in got if m["key"] == "a"}), 1, "partitions of one key")


@test()
def offsets(t):
    """From an offset, from N before the end, from the end, from a timestamp; -Q finds offsets by time."""
    topic = t.topic()
    produce(t, topic, [str(n) for n in range(10)])
    time.sleep(0.01)  # the two halves need different timestamps; nothing waits for this
    between = int(time.time() * 1000)
    time.sleep(0.01)
    produce(t, topic, [str(n) for n in range(10, 15)])

    def values(*args):
        return [m["payload"] for m in consume(t, topic, *args)]
    same(values("-o", "12"), ["12", "13", "14"], "from 12")
    same(values("-o", "-2"), ["13", "14"], "two before the end")
    same(values("-o", "end"), [], "from the end")
    same(values("-o", f"s@{between}"), [str(n) for n in range(10, 15)], "from a time")
    same(values("-o", f"s@{between}", "-c", "2"), ["10", "11"], "two from a time")
    found = kcat(t, "-Q", "-t", f"{topic}:0:{between}").out
    assert "offset 10" in found, found


@test()
def acks_and_idempotence(t):
    """acks 0, 1 and all and the idempotent producer: every record is there, once."""
    topic = t.topic()
    settings = (["acks=0"], ["acks=1"], ["acks=all"], ["enable.idempotence=true"])
    for n, settings_of_one in enumerate(settings):
        produce(t, topic, [f"{n} {i}" for i in range(100)], *[x for s in settings_of_one for x in ("-X", s)])

    def everything():
        return sorted(m["payload"] for m in consume(t, topic, "-o", "beginning")) == sorted(
            f"{n} {i}" for n in range(4) for i in range(100))
    eventually(everything, "all 400 records")


@test(timeout_s=60)
def group_resumes(t):
    """A group reads all, commits when it leaves, and goes on where it stopped."""
    topic, group = t.topic(partitions=2), t.name("g")
    produce(t, topic, [str(n) for n in range(20)])

    def read():
        out = kcat(t, "-G", group, topic, "-e", "-q", "-J", "-X", "auto.offset.reset=earliest", timeout_s=40)
        return sorted(int(m["payload"]) for m in out.json_lines())
    same(read(), list(range(20)), "first")
    produce(t, topic, [str(n) for n in range(20, 25)])
    same(read(), list(range(20, 25)), "second")


@test()
def empty_topic_ends_at_once(t):
    """-e on an empty topic ends; so does read_committed."""
    topic = t.topic()
    same(consume(t, topic, "-o", "beginning"), [])
    produce(t, topic, ["x"])
    same(len(consume(t, topic, "-o", "beginning", "-X", "isolation.level=read_committed")), 1)


@test()
def producing_creates_the_topic(t):
    """Producing to a topic that is not there creates it."""
    topic = t.name("auto")
    produce(t, topic, ["x"])
    same([m["payload"] for m in consume(t, topic, "-o", "beginning")], ["x"])


@test()
def errors_are_told(t):
    """An unknown partition and a message over the topic's limit fail with the right reason; the rest goes on."""
    topic = t.topic(max_message_bytes=1000)
    out = produce(t, topic, ["x"], "-p", "99", check=False)
    assert out.code != 0 and "partition" in out.err.lower(), out
    out = produce(t, topic, ["y" * 5000], "-X", "message.max.bytes=100000", check=False)
    assert "too large" in out.err.lower(), out
    produce(t, topic, ["fine"])
    same([m["payload"] for m in consume(t, topic, "-o", "beginning")], ["fine"])


@test()
def large_messages(t):
    """Messages of 900 KB among small ones pass, also with a small fetch size."""
    topic = t.topic()
    lines = ["a", "b" * 900_000, "c", "d" * 900_000]
    produce(t, topic, lines)
    got = [m["payload"] for m in consume(t, topic, "-o", "beginning", "-X", "fetch.message.max.bytes=1000")]
    same([len(x) for x in got], [len(x) for x in lines])


@test()
def transaction_commits(t):
    """A transactional producer's records are visible to read_committed."""
    topic = t.topic()
    produce(t, topic, ["1", "2"], "-X", f"transactional.id={t.name('txn')}")
    got = consume(t, topic, "-o", "beginning", "-X", "isolation.level=read_committed")
    same([m["payload"] for m in got], ["1", "2"])
