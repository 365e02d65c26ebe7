"""Kafka's own command-line tools, through tools/peers."""

import json
import os
import re
import tempfile
import time

from harness import eventually, same, test

GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
CONFIGS = "kafka.admin.ConfigCommand"


def tool(t, name, *args, **kwargs):
    return t.tool(name, "--bootstrap-server", t.bootstrap, *args, **kwargs)


def produce(t, topic, lines, *args):
    tool(t, "ConsoleProducer", "--topic", topic, *args, input="".join(f"{line}\n" for line in lines))


def consume(t, topic, count, *args):
    """The next `count` lines that the console consumer prints."""
    return tool(t, CONSUMER, "--topic", topic, "--max-messages", count, "--timeout-ms", "20000", *args).lines()


def java_hash(text):
    """The absolute value of Java's String.hashCode (0 for the lowest of all): it says which partition of `__consumer_offsets` holds a group."""
    value = 0
    for character in text:
        value = (value * 31 + ord(character)) & 0xFFFFFFFF
    return min(value, 0x1_0000_0000 - value) & 0x7FFFFFFF


def documents(text):
    """The JSON documents that stand in a text one after the other, without anything between them."""
    at, found = text.find("{"), []
    while 0 <= at < len(text) and text[at] == "{":
        document, at = json.JSONDecoder().raw_decode(text, at)
        found.append(document)
    return found


def temporary(text):
    path = tempfile.NamedTemporaryFile("w", suffix=".json", delete=False)
    path.write(text)
    path.close()
    return path.name


@test(timeout_s=60)
def topics(t):
    """kafka-topics: create, refuse twice, list, describe with configs, alter partitions, delete."""
    name = t.name()
    out = tool(t, "TopicCommand", "--create", "--topic", name, "--partitions", "3", "--replication-factor", "1",
               "--config", "retention.ms=50000")
    assert f"Created topic {name}" in out.out, out
    again = tool(t, "TopicCommand", "--create", "--topic", name, check=False)
    assert again.code == 1 and "already exists" in again.out + again.err, again
    tool(t, "TopicCommand", "--create", "--topic", name, "--if-not-exists")
    assert name in tool(t, "TopicCommand", "--list").lines()
    shown = tool(t, "TopicCommand", "--describe", "--topic", name).out
    assert re.search(rf"Topic: {name}\s+TopicId: \S{{22}}\s+PartitionCount: 3\s+ReplicationFactor: 1", shown), shown
    assert "retention.ms=50000" in shown and len(re.findall(r"Leader: \d+", shown)) == 3, shown
    tool(t, "TopicCommand", "--alter", "--topic", name, "--partitions", "5")
    eventually(lambda: "PartitionCount: 5" in tool(t, "TopicCommand", "--describe", "--topic", name).out, "five partitions")
    tool(t, "TopicCommand", "--delete", "--topic", name)
    eventually(lambda: name not in tool(t, "TopicCommand", "--list").lines(), "gone")


@test(timeout_s=60)
def console_producer_and_consumer(t):
    """Keys, headers, null values and codecs through the console tools; offset and partition selection."""
    topic = t.topic()
    produce(t, topic, ["h1:x,h2:y\tkey1\tone", "h1:z\tkey2\tNULL"], "--reader-property", "parse.headers=true", "--reader-property",
            "parse.key=true", "--reader-property", "null.marker=NULL", "--compression-codec", "zstd")
    shown = consume(t, topic, 2, "--from-beginning", "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true",
                    "--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true")
    same([re.sub(r"\s+", " ", line) for line in shown],
         ["Partition:0 Offset:0 h1:x,h2:y key1 one", "Partition:0 Offset:1 h1:z key2 null"])
    produce(t, topic, [str(n) for n in range(50)], "--command-property", "acks=1", "--command-property",
            "enable.idempotence=false")
    same(consume(t, topic, 3, "--partition", "0", "--offset", "49"), ["47", "48", "49"])


@test(timeout_s=60)
def consumer_groups(t):
    """kafka-consumer-groups: list with state, describe lag and members, reset, delete offsets, delete."""
    topic, group = t.topic(partitions=2), t.name("g")
    produce(t, topic, [str(n) for n in range(20)])
    consume(t, topic, 20, "--group", group, "--from-beginning")
    assert group in tool(t, GROUPS, "--list").lines()
    assert re.search(rf"{group}\s+.*Empty", tool(t, GROUPS, "--list", "--state").out)

    def rows():
        found = [line.split() for line in tool(t, GROUPS, "--describe", "--group", group).lines() if f" {topic} " in line]
        return sum(int(r[3]) for r in found), sum(int(r[5]) for r in found)
    same(rows(), (20, 0), "offset and lag")
    assert "Empty" in tool(t, GROUPS, "--describe", "--group", group, "--state").out
    args = ["--group", group, "--topic", topic, "--reset-offsets", "--to-earliest"]
    dry = tool(t, GROUPS, *args, "--dry-run").out
    assert topic in dry, dry
    same(rows(), (20, 0), "after the dry run")
    tool(t, GROUPS, *args, "--execute")
    same(rows(), (0, 20), "after the reset")
    same(sorted(map(int, consume(t, topic, 20, "--group", group))), list(range(20)), "read again")
    tool(t, GROUPS, "--group", group, "--delete-offsets", "--topic", topic)
    tool(t, GROUPS, "--group", group, "--delete")
    assert group not in tool(t, GROUPS, "--list").lines()


@test(timeout_s=60)
def configs(t):
    """kafka-configs: alter, describe and delete of a topic's; the broker's with all defaults."""
    topic = t.topic()
    entity = ["--entity-type", "topics", "--entity-name", topic]
    tool(t, CONFIGS, *entity, "--alter", "--add-config", "retention.ms=12345,cleanup.policy=[compact,delete]")
    shown = tool(t, CONFIGS, *entity, "--describe").out
    assert "retention.ms=12345" in shown and "cleanup.policy=compact,delete" in shown, shown
    assert "DYNAMIC_TOPIC_CONFIG:retention.ms=12345" in shown, shown
    tool(t, CONFIGS, *entity, "--alter", "--delete-config", "retention.ms")
    eventually(lambda: "retention.ms=12345" not in tool(t, CONFIGS, *entity, "--describe").out, "deleted")
    bad = tool(t, CONFIGS, *entity, "--alter", "--add-config", "no.such=1", check=False)
    assert bad.code == 1, bad
    with t.connect() as c:
        node = c.call("Metadata", 12, {"Topics": []}).Brokers[0].NodeId
    broker = tool(t, CONFIGS, "--entity-type", "brokers", "--entity-name", node, "--describe", "--all").out
    assert "log.retention.ms" in broker and "group.min.session.timeout.ms=6000" in broker, broker[:2000]


@test(timeout_s=60)
def verifiable_producer_and_consumer(t):
    """2,000 numbered messages are acknowledged; a verifiable consumer reads and commits them all."""
    topic = t.topic(partitions=3)
    sent = t.tool("VerifiableProducer", "--bootstrap-server", t.bootstrap, "--topic", topic, "--max-messages", "2000",
                  "--acks", "-1").json_lines()
    data = [e for e in sent if e["name"] == "producer_send_success"]
    same(sorted(int(e["value"]) for e in data), list(range(2000)), "acknowledged")
    same([(e["sent"], e["acked"]) for e in sent if e["name"] == "tool_data"], [(2000, 2000)])
    events = t.tool("VerifiableConsumer", "--bootstrap-server", t.bootstrap, "--topic", topic, "--group-id", t.name("g"),
                    "--max-messages", "2000", "--reset-policy", "earliest").json_lines()
    same(sum(e["count"] for e in events if e["name"] == "records_consumed"), 2000, "consumed")
    committed = [e for e in events if e["name"] == "offsets_committed"]
    assert committed and all(e["success"] for e in committed), committed


@test(timeout_s=60)
def performance_tools(t):
    """20,000 records of 1 KiB by ProducerPerformance and back by ConsumerPerformance."""
    topic = t.topic(partitions=2)
    out = t.tool("ProducerPerformance", "--topic", topic, "--num-records", "20000", "--record-size", "1024", "--throughput",
                 "-1", "--producer-props", f"bootstrap.servers={t.bootstrap}", "acks=all").out
    assert re.search(r"20000 records sent.*records/sec.*99\.9th", out), out
    out = tool(t, "ConsumerPerformance", "--topic", topic, "--num-records", "20000", "--timeout", "20000").out
    columns = [c.strip() for c in out.splitlines()[-1].split(",")]
    assert int(columns[4]) >= 20000, out


@test(timeout_s=60)
def offsets_topic_in_kafkas_format(t):
    """Kafka's formatters read a group's commit and its metadata from its partition of `__consumer_offsets`."""
    topic, group = t.topic(), t.name("g")
    produce(t, topic, ["a", "b", "c"])
    consume(t, topic, 3, "--group", group, "--from-beginning")

    with t.connect() as c:
        count = len(c.call("Metadata", 12, {"Topics": [{"Name": "__consumer_offsets"}]}).Topics[0].Partitions)

    def formatted(which):
        out = tool(t, CONSUMER, "--topic", "__consumer_offsets", "--partition", java_hash(group) % count, "--offset", "earliest",
                   "--timeout-ms", "2000", "--formatter", f"org.apache.kafka.tools.consumer.{which}", check=False)
        return [e for e in documents(out.out) if e["key"]["data"]["group"] == group]
    commits = formatted("OffsetsMessageFormatter")
    same({(e["key"]["type"], e["key"]["data"]["topic"], e["key"]["data"]["partition"]) for e in commits}, {(1, topic, 0)})
    same(commits[-1]["value"]["data"]["offset"], 3, "the last commit")
    states = [e["value"]["data"] for e in formatted("GroupMetadataMessageFormatter") if e["value"]]
    assert any(s["protocol"] == "range" and len(s["members"]) == 1 for s in states), states
    same((states[-1]["protocolType"], states[-1]["members"]), ("consumer", []), "the last state")


@test()
def get_offsets(t):
    """GetOffsetShell: latest, earliest, max timestamp and by time."""
    topic = t.topic(partitions=2)
    produce(t, topic, [str(n) for n in range(10)])

    def total(when):
        lines = tool(t, "GetOffsetShell", "--topic", topic, "--time", when).lines()
        return sum(int(line.split(":")[2] or 0) for line in lines if line.startswith(topic))
    same((total("latest"), total("earliest")), (10, 0))
    same(total(str(int(time.time() * 1000) - 3_600_000)), 0, "an hour ago")
    assert tool(t, "GetOffsetShell", "--topic", topic, "--time", "max-timestamp").lines()


@test()
def delete_records(t):
    """kafka-delete-records moves the log start."""
    topic = t.topic()
    produce(t, topic, [str(n) for n in range(10)])
    path = temporary(json.dumps({"version": 1, "partitions": [{"topic": topic, "partition": 0, "offset": 7}]}))
    out = tool(t, "DeleteRecordsCommand", "--offset-json-file", path).out
    os.unlink(path)
    assert "low_watermark: 7" in out, out
    same(consume(t, topic, 3, "--from-beginning"), ["7", "8", "9"])


@test()
def cluster_versions_and_log_dirs(t):
    """kafka-cluster, kafka-broker-api-versions, kafka-log-dirs and kafka-groups answer."""
    topic = t.topic()
    produce(t, topic, ["x" * 1000])
    assert re.search(r"Cluster ID: \S+", t.tool("ClusterTool", "cluster-id", "--bootstrap-server", t.bootstrap).out)
    versions = tool(t, "BrokerApiVersionsCommand").out
    assert "Produce(0): 0 to" in versions and "UNKNOWN" not in versions.split("usable")[0], versions[:500]
    dirs = json.loads(next(x for x in tool(t, "LogDirsCommand", "--describe", "--topic-list", topic).lines() if x.startswith("{")))
    found = [p for b in dirs["brokers"] for d in b["logDirs"] for p in d["partitions"]]
    same([p["partition"] for p in found], [f"{topic}-0"])
    assert found[0]["size"] >= 1000, found
    tool(t, "GroupsCommand", "--list")


@test()
def end_to_end_latency(t):
    """EndToEndLatency: 200 records, one in flight, each read back before the next."""
    topic = t.topic()
    out = tool(t, "EndToEndLatency", "--topic", topic, "--num-records", "200", "--producer-acks", "all", "--record-size",
               "100").out
    assert "Percentiles" in out, out
