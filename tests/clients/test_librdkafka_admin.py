"""librdkafka's admin client: topics, configs, offsets, groups."""

from confluent_kafka import ConsumerGroupTopicPartitions, ConsumerGroupState, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions,
                                   NewTopic, OffsetSpec, ResourceType)

from harness import eventually, raises, same, test
from test_librdkafka import producer, send
from test_librdkafka_groups import Member, read_all


def admin(t):
    return AdminClient({"bootstrap.servers": t.bootstrap})


def only(futures, timeout_s=15):
    """The result of the one future in a dict of futures."""
    same(len(futures), 1, "futures")
    return next(iter(futures.values())).result(timeout_s)


def code(error):
    return error.args[0].code()


@test()
def topics(t):
    """Create (validate only, configs), refuse twice, describe with ids, grow, delete; list shows each step."""
    a, name = admin(t), t.name()
    only(a.create_topics([NewTopic(name, 2, 1)], validate_only=True))
    assert name not in a.list_topics(timeout=10).topics, "validate_only"
    only(a.create_topics([NewTopic(name, 2, 1, config={"retention.ms": "4000"})]))
    error = raises(KafkaException, lambda: only(a.create_topics([NewTopic(name, 2, 1)])))
    same(code(error), KafkaError.TOPIC_ALREADY_EXISTS)
    error = raises(KafkaException, lambda: only(a.create_topics([NewTopic(t.name(), 1, 1, config={"retention.ms": "x"})])))
    same(code(error), KafkaError.INVALID_CONFIG)
    eventually(lambda: name in a.list_topics(timeout=10).topics, "listed")
    described = only(a.describe_topics(TopicCollection([name])))
    same((described.name, described.is_internal, len(described.partitions)), (name, False, 2))
    assert str(described.topic_id) not in ("", "AAAAAAAAAAAAAAAAAAAAAA"), described.topic_id
    same([p.leader.id for p in described.partitions], [a.list_topics(timeout=10).controller_id] * 2)
    only(a.create_partitions([NewPartitions(name, 5)]))
    eventually(lambda: len(a.list_topics(name, timeout=10).topics[name].partitions) == 5, "five partitions")
    error = raises(KafkaException, lambda: only(a.create_partitions([NewPartitions(name, 3)])))
    same(code(error), KafkaError.INVALID_PARTITIONS)
    only(a.delete_topics([name]))
    eventually(lambda: name not in a.list_topics(timeout=10).topics, "gone")
    error = raises(KafkaException, lambda: only(a.delete_topics([name])))
    same(code(error), KafkaError.UNKNOWN_TOPIC_OR_PART)
    error = raises(KafkaException, lambda: only(a.describe_topics(TopicCollection([name]))))
    same(code(error), KafkaError.UNKNOWN_TOPIC_OR_PART)


@test()
def cluster(t):
    """describe_cluster: an id, a controller, the nodes that list_topics names."""
    a = admin(t)
    found = a.describe_cluster().result(15)
    listed = a.list_topics(timeout=10)
    same(found.cluster_id, listed.cluster_id)
    same([(n.id, f"{n.host}:{n.port}") for n in found.nodes], [(b.id, f"{b.host}:{b.port}") for b in listed.brokers.values()])


@test()
def configs(t):
    """Describe, legacy alter and incremental alter of a topic, describe of the broker."""
    a, topic = admin(t), t.topic(retention_ms=5000)

    def entries(resource=None):
        return only(a.describe_configs([ConfigResource(ResourceType.TOPIC, topic) if resource is None else resource]))

    def change(*config):
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[
            ConfigEntry(n, v, incremental_operation=op) for n, op, v in config])
        only(a.incremental_alter_configs([resource]))
    same((entries()["retention.ms"].value, entries()["retention.ms"].source), ("5000", ConfigSource.DYNAMIC_TOPIC_CONFIG.value))
    same(entries()["segment.bytes"].is_default, True)
    change(("retention.ms", AlterConfigOpType.SET, "9000"), ("cleanup.policy", AlterConfigOpType.APPEND, "compact"))
    eventually(lambda: entries()["retention.ms"].value == "9000", "set")
    same(set(entries()["cleanup.policy"].value.split(",")), {"compact", "delete"})
    change(("cleanup.policy", AlterConfigOpType.SUBTRACT, "compact"), ("retention.ms", AlterConfigOpType.DELETE, None))
    eventually(lambda: entries()["retention.ms"].source == ConfigSource.DEFAULT_CONFIG.value, "deleted")
    error = raises(KafkaException, change, ("no.such", AlterConfigOpType.SET, "1"))
    same(code(error), KafkaError.INVALID_CONFIG)
    only(a.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config={"segment.ms": "60000"})]))
    eventually(lambda: entries()["segment.ms"].value == "60000", "legacy alter")
    broker = entries(ConfigResource(ResourceType.BROKER, str(a.list_topics(timeout=10).controller_id)))
    same(broker["group.min.session.timeout.ms"].value, "6000")


@test()
def list_offsets(t):
    """Earliest, latest, by time and max timestamp, after deleting records as well."""
    a, topic, stamp = admin(t), t.topic(), 1_700_000_000_000
    p = producer(t)
    for n in range(10):
        p.produce(topic, b"x", timestamp=stamp + n * 1000)
        p.flush()
    tp = TopicPartition(topic, 0)

    def offset(spec):
        return only(a.list_offsets({tp: spec}, isolation_level=IsolationLevel.READ_COMMITTED)).offset
    same([offset(s) for s in (OffsetSpec.earliest(), OffsetSpec.latest(), OffsetSpec.for_timestamp(stamp + 3500),
                              OffsetSpec.max_timestamp(), OffsetSpec.for_timestamp(stamp * 2))], [0, 10, 4, 9, -1])
    same(only(a.delete_records([TopicPartition(topic, 0, 6)])).low_watermark, 6)
    same((offset(OffsetSpec.earliest()), offset(OffsetSpec.for_timestamp(stamp))), (6, 6))
    error = raises(KafkaException, lambda: only(a.delete_records([TopicPartition(topic, 0, 99)])))
    same(code(error), KafkaError.OFFSET_OUT_OF_RANGE)


@test()
def groups(t):
    """List, describe, list and alter offsets, delete: with members and without."""
    a, topic, group = admin(t), t.topic(partitions=2), t.name("g")
    send(producer(t), topic, [(None, b"%d" % n) for n in range(20)])
    m = Member(t, group, [topic])
    read_all([m], range(20))
    m.consumer.commit(asynchronous=False)
    listed = {g.group_id: g for g in a.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(15).valid}
    assert group in listed, "listed as stable"
    found = only(a.describe_consumer_groups([group]))
    same((found.state, found.partition_assignor, len(found.members)), (ConsumerGroupState.STABLE, "range", 1))
    same(sorted(p.partition for p in found.members[0].assignment.topic_partitions), [0, 1])
    offsets = only(a.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])).topic_partitions
    same(sum(p.offset for p in offsets), 20)
    error = raises(KafkaException, lambda: only(a.delete_consumer_groups([group])))
    same(code(error), KafkaError.NON_EMPTY_GROUP)
    m.consumer.close()
    moved = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0, 3)])]
    only(a.alter_consumer_group_offsets(moved))
    offsets = only(a.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 0)])]))
    same(offsets.topic_partitions[0].offset, 3)
    only(a.delete_consumer_groups([group]))
    same(code(raises(KafkaException, lambda: only(a.delete_consumer_groups([group])))), KafkaError.GROUP_ID_NOT_FOUND)
