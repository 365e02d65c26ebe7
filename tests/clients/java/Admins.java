// The Java client: the admin client.

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ClassicGroupDescription;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class Admins {
    /** Create, validate only, defaults, describe by name and id, grow, delete, with every refusal. */
    static void topics(ClientTest t) throws Exception {
        Admin admin = t.admin;
        String name = t.unique("t");
        NewTopic topic = new NewTopic(name, 3, (short) 1).configs(Map.of("retention.ms", "50000"));
        admin.createTopics(List.of(topic), new CreateTopicsOptions().validateOnly(true)).all().get();
        ClientTest.same("after validateOnly", false, admin.listTopics().names().get().contains(name));
        var created = admin.createTopics(List.of(topic));
        created.all().get();
        ClientTest.same("partitions in the answer", 3, created.numPartitions(name).get());
        ClientTest.same("config in the answer", "50000", created.config(name).get().get("retention.ms").value());
        ClientTest.fails(TopicExistsException.class, () -> admin.createTopics(List.of(topic)).all().get());
        ClientTest.fails(InvalidReplicationFactorException.class,
                () -> admin.createTopics(List.of(new NewTopic(t.unique("t"), 1, (short) 50))).all().get());
        ClientTest.fails(InvalidPartitionsException.class,
                () -> admin.createTopics(List.of(new NewTopic(t.unique("t"), 0, (short) 1))).all().get());
        ClientTest.eventually("listed", () -> admin.listTopics().names().get().contains(name));
        TopicDescription described = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        ClientTest.same("partitions", 3, described.partitions().size());
        ClientTest.same("by id", name, admin.describeTopics(TopicCollection.ofTopicIds(Set.of(described.topicId())))
                .allTopicIds().get().get(described.topicId()).name());
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all().get();
        ClientTest.eventually("five", () -> admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().size() == 5);
        ClientTest.fails(InvalidPartitionsException.class,
                () -> admin.createPartitions(Map.of(name, NewPartitions.increaseTo(2))).all().get());
        admin.deleteTopics(TopicCollection.ofTopicIds(Set.of(described.topicId()))).all().get();
        ClientTest.eventually("gone", () -> !admin.listTopics().names().get().contains(name));
        ClientTest.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(name)).all().get());
        ClientTest.fails(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(name)).allTopicNames().get());
    }

    /** Configs with source, synonyms, type and documentation; set, append, subtract, delete; the broker's. */
    static void configs(ClientTest t) throws Exception {
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, t.topic(1, Map.of("retention.ms", "50000")));
        ConfigEntry entry = describe(t, topic).get("retention.ms");
        ClientTest.same("entry", "50000 DYNAMIC_TOPIC_CONFIG LONG", entry.value() + " " + entry.source() + " " + entry.type());
        if (entry.synonyms().isEmpty() || entry.documentation() == null) throw new AssertionError(entry);
        change(t, topic, new AlterConfigOp(new ConfigEntry("retention.ms", "60000"), AlterConfigOp.OpType.SET),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND));
        ClientTest.eventually("set", () -> describe(t, topic).get("retention.ms").value().equals("60000"));
        ClientTest.same("appended", "delete,compact", describe(t, topic).get("cleanup.policy").value());
        change(t, topic, new AlterConfigOp(new ConfigEntry("retention.ms", null), AlterConfigOp.OpType.DELETE),
                new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.SUBTRACT));
        ClientTest.eventually("deleted", () -> describe(t, topic).get("retention.ms").isDefault());
        ClientTest.fails(InvalidConfigurationException.class, () -> {
            change(t, topic, new AlterConfigOp(new ConfigEntry("no.such", "1"), AlterConfigOp.OpType.SET));
            return null;
        });
        String node = t.admin.describeCluster().nodes().get().iterator().next().idString();
        Config broker = describe(t, new ConfigResource(ConfigResource.Type.BROKER, node));
        ClientTest.same("group.min.session.timeout.ms", "6000", broker.get("group.min.session.timeout.ms").value());
        ClientTest.same("listed", true, t.admin.listConfigResources(Set.of(ConfigResource.Type.TOPIC),
                new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get()
                .contains(topic));
    }

    private static Config describe(ClientTest t, ConfigResource resource) throws Exception {
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return t.admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    private static void change(ClientTest t, ConfigResource resource, AlterConfigOp... ops) throws Exception {
        Collection<AlterConfigOp> all = List.of(ops);
        t.admin.incrementalAlterConfigs(Map.of(resource, all)).all().get();
    }

    /** listOffsets of every kind, deleteRecords, describeProducers, describeLogDirs, describeCluster, features. */
    static void offsetsAndCluster(ClientTest t) throws Exception {
        String topic = t.topic(1);
        TopicPartition p = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> producer = t.producer("linger.ms", 0)) {
            for (int n = 0; n < 10; n++) ClientTest.send(producer, topic, null, "x".repeat(100));
            ClientTest.same("active producers", 1, t.admin.describeProducers(List.of(p)).all().get().get(p).activeProducers().size());
        }
        ClientTest.same("low watermark", 4L,
                t.admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(4))).lowWatermarks().get(p).get().lowWatermark());
        ClientTest.fails(OffsetOutOfRangeException.class,
                () -> t.admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(99))).all().get());
        ClientTest.same("earliest", 4L, offset(t, p, OffsetSpec.earliest()));
        ClientTest.same("latest", 10L, offset(t, p, OffsetSpec.latest()));
        ClientTest.same("local", 4L, offset(t, p, OffsetSpec.earliestLocal()));
        ClientTest.same("by time", 4L, offset(t, p, OffsetSpec.forTimestamp(1)));
        if (offset(t, p, OffsetSpec.maxTimestamp()) < 4) throw new AssertionError("max timestamp");
        var nodes = t.admin.describeCluster(new DescribeClusterOptions()).nodes().get();
        int id = nodes.iterator().next().id();
        long size = t.admin.describeLogDirs(List.of(id)).allDescriptions().get().get(id).values().stream()
                .flatMap(d -> d.replicaInfos().entrySet().stream()).filter(e -> e.getKey().equals(p))
                .mapToLong(e -> e.getValue().size()).sum();
        if (size < 1000) throw new AssertionError("size " + size);
        if (t.admin.describeCluster().clusterId().get() == null) throw new AssertionError("no cluster id");
        t.admin.describeFeatures().featureMetadata().get();
    }

    private static long offset(ClientTest t, TopicPartition p, OffsetSpec spec) throws Exception {
        return t.admin.listOffsets(Map.of(p, spec)).all().get().get(p).offset();
    }

    /** Groups: list by state and type, describe, offsets listed, altered and deleted, delete. */
    static void groups(ClientTest t) throws Exception {
        String topic = t.topic(1);
        String group = t.unique("g");
        TopicPartition p = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> c = t.consumer("group.id", group)) {
            c.subscribe(List.of(topic));
            ClientTest.eventually("assigned", () -> {
                c.poll(java.time.Duration.ofMillis(50));
                return c.assignment().size() == 1;
            });
            c.commitSync(Map.of(p, new OffsetAndMetadata(0)));
            ClientTest.same("listed as stable classic", true, t.admin.listGroups(new ListGroupsOptions()
                    .inGroupStates(Set.of(GroupState.STABLE)).withTypes(Set.of(org.apache.kafka.common.GroupType.CLASSIC)))
                    .all().get().stream().anyMatch(g -> g.groupId().equals(group)));
            ClassicGroupDescription found = t.admin.describeClassicGroups(List.of(group)).all().get().get(group);
            ClientTest.same("state", "Stable 1", found.state() + " " + found.members().size());
            ClientTest.same("as a consumer group", "Stable", t.admin.describeConsumerGroups(List.of(group))
                    .all().get().get(group).groupState().toString());
            ClientTest.fails(GroupNotEmptyException.class, () -> t.admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        t.admin.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(12, "moved"))).all().get();
        OffsetAndMetadata offset = t.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(p);
        ClientTest.same("offset", "12 moved", offset.offset() + " " + offset.metadata());
        t.admin.deleteConsumerGroupOffsets(group, Set.of(p)).all().get();
        ClientTest.same("offsets left", 0, t.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().size());
        // Kafka drops a group by itself once it has neither members nor offsets.
        try {
            t.admin.deleteConsumerGroups(List.of(group)).all().get();
        } catch (ExecutionException e) {
            if (!(e.getCause() instanceof GroupIdNotFoundException)) throw e;
        }
        KafkaFuture<Void> again = t.admin.deleteConsumerGroups(List.of(group)).all();
        ClientTest.fails(GroupIdNotFoundException.class, again::get);
    }
}
