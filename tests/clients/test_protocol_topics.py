"""Topics, configs and the cluster, request by request."""

import batches
import harness
import wire
from harness import eventually, same, test
from protocol import *  # noqa: F403 - error codes and bodies


# ---- Metadata and topics ----

@test()
def metadata_auto_creates_from_v4(t):
    """With AllowAutoTopicCreation a topic comes into being (v4 and up, and always below v4); without it, it does not."""
    with t.connect() as c:
        for version, allow, wanted in ((4, False, False), (12, False, False), (4, True, True), (12, True, True), (1, True, True)):
            name = t.name("auto")

            def ask():
                return c.call("Metadata", version, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": allow}).Topics[0]
            first = ask().ErrorCode
            if wanted:
                eventually(lambda: ask().ErrorCode == NONE and ask().Partitions, f"v{version} creates")
            else:
                same(first, UNKNOWN_TOPIC_OR_PARTITION, f"v{version} with auto creation refused")
                names = [n.Name for n in c.call("Metadata", 12, {"Topics": None}).Topics]
                assert name not in names, "created although not allowed"


@test()
def metadata_all_none_and_unknown(t):
    """A null topic list means all, an empty one none (v1 and up; all in v0); unknown ids and names give their errors."""
    topic = t.topic(partitions=3)
    with t.connect() as c:
        everything = {x.Name: x for x in c.call("Metadata", 12, {"Topics": None}).Topics}
        same([p.PartitionIndex for p in sorted(everything[topic].Partitions, key=lambda p: p.PartitionIndex)], [0, 1, 2])
        same(c.call("Metadata", 12, {"Topics": []}).Topics, [], "topics for an empty list")
        assert topic in [x.Name for x in c.call("Metadata", 0, {"Topics": []}).Topics], "v0 with an empty list"
        by_id = c.call("Metadata", 12, {"Topics": [{"TopicId": everything[topic].TopicId, "Name": None}]}).Topics[0]
        same((by_id.ErrorCode, by_id.Name), (NONE, topic), "by id")
        strange = c.call("Metadata", 12, {"Topics": [{"TopicId": wire.uuid.uuid4(), "Name": None}]}).Topics[0]
        same(strange.ErrorCode, UNKNOWN_TOPIC_ID, "unknown id")
        reply = c.call("Metadata", 12, {"Topics": []})
        assert reply.ClusterId and reply.ControllerId in [b.NodeId for b in reply.Brokers], reply


@test()
def illegal_topic_names(t):
    """Metadata and CreateTopics answer INVALID_TOPIC_EXCEPTION to an illegal name."""
    with t.connect() as c:
        for name in ("a b", "a/b", "..", ".", "x" * 250, ""):
            got = c.call("Metadata", 8, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}).Topics[0]
            same(got.ErrorCode, INVALID_TOPIC_EXCEPTION, f"Metadata for {name[:10]!r}")
            got = c.call("CreateTopics", 5, {"Topics": [{"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}],
                                             "timeoutMs": 5000}).Topics[0]
            same(got.ErrorCode, INVALID_TOPIC_EXCEPTION, f"CreateTopics for {name[:10]!r}")


@test()
def create_topics_rules(t):
    """validate_only creates nothing; -1/-1 take defaults; every refusal has its code; topics stand or fail one by one."""
    def create(c, *topics, validate=False):
        reply = c.call("CreateTopics", 7, {"Topics": topics, "timeoutMs": 15000, "validateOnly": validate})
        return {x.Name: x for x in reply.Topics}

    def named(n, partitions=1, factor=1, **configs):
        return {"Name": n, "NumPartitions": partitions, "ReplicationFactor": factor,
                "Configs": [{"Name": k.replace("_", "."), "Value": v} for k, v in configs.items()]}
    with t.connect() as c:
        dry, default, bad = t.name("dry"), t.name("default"), t.name("bad")
        same(create(c, named(dry), validate=True)[dry].ErrorCode, NONE, "validate_only")
        found = c.call("Metadata", 12, {"Topics": [{"Name": dry}], "AllowAutoTopicCreation": False}).Topics[0]
        same(found.ErrorCode, UNKNOWN_TOPIC_OR_PARTITION, "after validate_only")
        made = create(c, named(default, -1, -1))[default]
        same(made.ErrorCode, NONE, "defaults")
        assert made.NumPartitions >= 1 and made.ReplicationFactor >= 1 and made.TopicId != wire.NO_UUID, made
        assert any(e.Name == "retention.ms" and e.Value for e in made.Configs), "configs in the answer"
        same(create(c, named(default))[default].ErrorCode, TOPIC_ALREADY_EXISTS, "again")
        same(create(c, named(bad, 0))[bad].ErrorCode, INVALID_PARTITIONS, "zero partitions")
        same(create(c, named(bad, 1, 0))[bad].ErrorCode, INVALID_REPLICATION_FACTOR, "factor 0")
        same(create(c, named(bad, 1, 99))[bad].ErrorCode, INVALID_REPLICATION_FACTOR, "factor 99")
        same(create(c, named(bad, no_such_config="1"))[bad].ErrorCode, INVALID_CONFIG, "unknown config")
        same(create(c, named(bad, retention_ms="soon"))[bad].ErrorCode, INVALID_CONFIG, "bad value")
        same(create(c, named(bad, cleanup_policy="shred"))[bad].ErrorCode, INVALID_CONFIG, "bad policy")
        ok = t.name("ok")
        both = create(c, named(bad, 0), named(ok))
        same((both[bad].ErrorCode, both[ok].ErrorCode), (INVALID_PARTITIONS, NONE), "one bad, one good")
        twice = c.call("CreateTopics", 7, {"Topics": [named(bad), named(bad)], "timeoutMs": 5000}).Topics
        same({x.ErrorCode for x in twice}, {INVALID_REQUEST}, "one name twice")


@test()
def create_many_partitions_at_once(t):
    """A topic with 100 partitions has a leader for each when CreateTopics and Metadata have answered."""
    topic = t.topic(partitions=100)
    with t.connect() as c:
        found = c.call("Metadata", 12, {"Topics": [{"Name": topic}]}).Topics[0]
        same(sorted(p.PartitionIndex for p in found.Partitions), list(range(100)))


@test()
def delete_topics_by_name_and_id(t):
    """Deleted topics are gone from Metadata; unknown names and ids have their codes; a new one of that name is empty."""
    with t.connect() as c:
        by_name, by_id = t.topic(), t.topic()
        fill(c, by_name, 3)
        first_id, second_id = topic_id(c, by_name), topic_id(c, by_id)
        gone = c.call("DeleteTopics", 6, {"Topics": [{"Name": by_name}, {"Name": None, "TopicId": second_id}],
                                          "TimeoutMs": 15000}).Responses
        same([g.ErrorCode for g in gone], [NONE, NONE])
        for name in (by_name, by_id):
            eventually(lambda: c.call("Metadata", 12, {"Topics": [{"Name": name}], "AllowAutoTopicCreation": False}
                                      ).Topics[0].ErrorCode == UNKNOWN_TOPIC_OR_PARTITION, "gone")
        again = c.call("DeleteTopics", 6, {"Topics": [{"Name": by_name}, {"Name": None, "TopicId": second_id}],
                                           "TimeoutMs": 5000}).Responses
        same({x.Name: x.ErrorCode for x in again}, {by_name: UNKNOWN_TOPIC_OR_PARTITION, None: UNKNOWN_TOPIC_ID}, "again")
        assert harness.create_topic(c, by_name) != first_id, "a re-created topic has a new id"
        same(offset_of(c, by_name, -1).Offset, 0, "end of the re-created topic")
        old = c.call("Fetch", 13, fetch_body("", topic_id=first_id)).Responses[0].Partitions[0]
        same(old.ErrorCode, UNKNOWN_TOPIC_ID, "fetch by the old id")


@test()
def create_partitions_rules(t):
    """The count grows; the same or a smaller count and unknown topics are refused; validate_only changes nothing."""
    topic = t.topic(partitions=2)

    def grow(c, count, name=topic, validate=False):
        return c.call("CreatePartitions", 3, {"Topics": [{"Name": name, "Count": count, "Assignments": None}],
                                              "TimeoutMs": 15000, "ValidateOnly": validate}).Results[0].ErrorCode

    with t.connect() as c:
        same(grow(c, 4, validate=True), NONE, "validate_only")
        same(len(c.call("Metadata", 12, {"Topics": [{"Name": topic}]}).Topics[0].Partitions), 2, "after validate_only")
        same(grow(c, 2), INVALID_PARTITIONS, "same count")
        same(grow(c, 1), INVALID_PARTITIONS, "fewer")
        same(grow(c, 2, t.name("none")), UNKNOWN_TOPIC_OR_PARTITION, "unknown topic")
        same(grow(c, 5), NONE, "more")
        eventually(lambda: len(c.call("Metadata", 12, {"Topics": [{"Name": topic}]}).Topics[0].Partitions) == 5, "five")
        eventually(lambda: produced(c, topic, batches.batch([(None, b"x")]), partition=4).ErrorCode == NONE, "writable")


@test()
def describe_topic_partitions_pages(t):
    """DescribeTopicPartitions: a limit gives a cursor, the cursor gives the rest; unknown topics have their code."""
    topic = t.topic(partitions=5)
    with t.connect() as c:
        ask = {"Topics": [{"Name": topic}], "ResponsePartitionLimit": 3, "Cursor": None}
        first = c.call("DescribeTopicPartitions", 0, ask)
        same([p.PartitionIndex for p in first.Topics[0].Partitions], [0, 1, 2])
        same((first.NextCursor.TopicName, first.NextCursor.PartitionIndex), (topic, 3), "cursor")
        ask["Cursor"] = {"TopicName": topic, "PartitionIndex": 3}
        rest = c.call("DescribeTopicPartitions", 0, ask)
        same([p.PartitionIndex for p in rest.Topics[0].Partitions], [3, 4])
        same(rest.NextCursor, None, "cursor at the end")
        none = {"Topics": [{"Name": t.name("none")}], "ResponsePartitionLimit": 3, "Cursor": None}
        same(c.call("DescribeTopicPartitions", 0, none).Topics[0].ErrorCode, UNKNOWN_TOPIC_OR_PARTITION)


@test()
def consumer_offsets_is_internal(t):
    """`__consumer_offsets` is in Metadata and DescribeTopicPartitions, marked internal, once a group was used."""
    with t.connect() as c:
        coordinator(c, t.name("g"))
        listed = {x.Name: x for x in c.call("Metadata", 12, {"Topics": None}).Topics}
        assert listed["__consumer_offsets"].IsInternal and listed["__consumer_offsets"].Partitions, "in Metadata"
        described = c.call("DescribeTopicPartitions", 0, {"Topics": [{"Name": "__consumer_offsets"}],
                                                          "ResponsePartitionLimit": 100, "Cursor": None}).Topics[0]
        same((described.ErrorCode, described.IsInternal), (NONE, True))
        same(listed[t.topic()].IsInternal if t.topic() in listed else False, False, "a topic of ours")


# ---- configs ----

def described(c, kind, name, keys=None, version=4):
    reply = c.call("DescribeConfigs", version, {"Resources": [{
        "ResourceType": kind, "ResourceName": name, "ConfigurationKeys": keys}],
        "IncludeSynonyms": True, "IncludeDocumentation": True}).Results[0]
    return reply.ErrorCode, {e.Name: e for e in reply.Configs or []}


@test()
def describe_configs_of_a_topic(t):
    """Entries have source, synonyms, type and documentation; keys filter; an unknown topic has its code."""
    topic = t.topic(retention_ms=777000)
    with t.connect() as c:
        code, entries = described(c, 2, topic)
        same(code, NONE)
        for name in ("cleanup.policy", "compression.type", "max.message.bytes", "message.timestamp.type", "min.insync.replicas",
                     "retention.bytes", "retention.ms", "segment.bytes", "segment.ms", "delete.retention.ms", "flush.ms",
                     "message.timestamp.before.max.ms", "message.timestamp.after.max.ms", "unclean.leader.election.enable"):
            assert name in entries, f"{name} is missing"
            assert entries[name].Documentation, f"documentation of {name}"
            # Kafka has no synonyms to show where the broker's own entry has no value (log.roll.ms, log.flush.interval.ms).
            assert entries[name].Synonyms or name in ("segment.ms", "flush.ms"), f"synonyms of {name}"
        mine = entries["retention.ms"]
        same((mine.Value, mine.ConfigSource, mine.ConfigType, mine.ReadOnly, mine.IsSensitive), ("777000", 1, 5, False, False))
        same((mine.Synonyms[0].Name, mine.Synonyms[0].Value, mine.Synonyms[0].Source), ("retention.ms", "777000", 1))
        same([(s.Name, s.Source) for s in entries["max.message.bytes"].Synonyms], [("message.max.bytes", 5)], "a default")
        same((entries["segment.ms"].ConfigSource, entries["cleanup.policy"].ConfigType, entries["max.message.bytes"].ConfigType),
             (5, 7, 3), "default source, list and int types")
        same(entries["unclean.leader.election.enable"].ConfigType, 1, "boolean type")
        same(set(described(c, 2, topic, ["retention.ms", "segment.ms"])[1]), {"retention.ms", "segment.ms"}, "filtered")
        same(described(c, 2, t.name("none"))[0], UNKNOWN_TOPIC_OR_PARTITION, "unknown topic")


@test()
def describe_configs_of_the_broker(t):
    """The broker's entries under Kafka's names, with the values that other tests rely on."""
    with t.connect() as c:
        node = c.call("Metadata", 12, {"Topics": []}).Brokers[0].NodeId
        code, entries = described(c, 4, str(node))
        same(code, NONE)
        for name in ("num.partitions", "auto.create.topics.enable", "log.retention.ms", "message.max.bytes", "log.segment.bytes",
                     "group.min.session.timeout.ms", "group.max.session.timeout.ms", "offsets.retention.minutes",
                     "default.replication.factor", "socket.request.max.bytes", "producer.id.expiration.ms"):
            assert name in entries, f"{name} is missing"
            assert entries[name].Documentation, f"documentation of {name}"
        same(entries["group.min.session.timeout.ms"].Value, "6000")
        same(entries["group.min.session.timeout.ms"].ReadOnly, True)
        same(entries["auto.create.topics.enable"].ConfigType, 1)


@test()
def alter_configs_legacy_and_incremental(t):
    """Incremental sets, deletes, appends and subtracts; legacy replaces all; bad names and values change nothing."""
    topic = t.topic(retention_ms=5000)

    def change(c, *ops, validate=False):
        return c.call("IncrementalAlterConfigs", 1, {"ValidateOnly": validate, "Resources": [{
            "ResourceType": 2, "ResourceName": topic,
            "Configs": [{"Name": n, "ConfigOperation": op, "Value": v} for n, op, v in ops]}]}).Responses[0].ErrorCode

    def value(c, name):
        entry = described(c, 2, topic, [name])[1][name]
        return entry.Value, entry.ConfigSource
    with t.connect() as c:
        same(change(c, ("segment.ms", 0, "60000"), ("retention.ms", 0, "9000")), NONE, "set")
        eventually(lambda: value(c, "retention.ms") == ("9000", 1), "set")
        same(change(c, ("retention.ms", 0, "1"), validate=True), NONE, "validate_only")
        same(value(c, "retention.ms"), ("9000", 1), "after validate_only")
        same(change(c, ("cleanup.policy", 2, "compact")), NONE, "append")
        eventually(lambda: set(value(c, "cleanup.policy")[0].split(",")) == {"delete", "compact"}, "appended")
        same(change(c, ("cleanup.policy", 3, "delete")), NONE, "subtract")
        eventually(lambda: value(c, "cleanup.policy")[0] == "compact", "subtracted")
        same(change(c, ("retention.ms", 1, None)), NONE, "delete")
        eventually(lambda: value(c, "retention.ms")[1] == 5, "back to the default")
        same(change(c, ("no.such.name", 0, "1")), INVALID_CONFIG, "unknown name")
        same(change(c, ("segment.ms", 0, "1"), ("max.message.bytes", 0, "many")), INVALID_CONFIG, "bad value")
        same(value(c, "segment.ms"), ("60000", 1), "nothing of a refused change is done")
        legacy = c.call("AlterConfigs", 1, {"Resources": [{"ResourceType": 2, "ResourceName": topic, "Configs": [
            {"Name": "retention.bytes", "Value": "12345"}]}], "ValidateOnly": False}).Responses[0].ErrorCode
        same(legacy, NONE, "legacy")
        eventually(lambda: value(c, "retention.bytes") == ("12345", 1), "legacy sets")
        same(value(c, "segment.ms")[1], 5, "legacy clears what it does not name")
        listed = c.call("ListConfigResources", 1, {"ResourceTypes": [2]}).ConfigResources
        assert topic in [r.ResourceName for r in listed], "ListConfigResources names the topic"


# ---- the cluster ----

@test()
def describe_cluster_and_log_dirs(t):
    """DescribeCluster names the brokers of Metadata; DescribeLogDirs gives a partition's size."""
    topic = t.topic()
    with t.connect() as c:
        metadata, cluster = c.call("Metadata", 12, {"Topics": []}), c.call("DescribeCluster", 1, {"EndpointType": 1})
        same(cluster.ClusterId, metadata.ClusterId)
        same([(b.BrokerId, b.Host, b.Port) for b in cluster.Brokers], [(b.NodeId, b.Host, b.Port) for b in metadata.Brokers])
        fill(c, topic, 10, size=1000)

        def size():
            found = c.call("DescribeLogDirs", 4, {"Topics": [{"Topic": topic, "Partitions": [0]}]}).Results
            return sum(p.PartitionSize for d in found for x in d.Topics if x.Name == topic for p in x.Partitions)
        assert size() >= 10_000, f"size {size()}"
