// The Java client: classic consumer groups.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

final class Groups {
    private static final int PARTITIONS = 6;

    /** A subscribed member, polled by the test's own thread. */
    private static final class Member implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final List<Integer> values = new ArrayList<>();
        final List<Integer> revoked = new ArrayList<>();

        Member(ClientTest t, String group, String topic, String assignor, Object... settings) {
            List<Object> all = new ArrayList<>(List.of("group.id", group, "partition.assignment.strategy",
                    "org.apache.kafka.clients.consumer." + assignor, "session.timeout.ms", 6000, "heartbeat.interval.ms", 300,
                    "metadata.max.age.ms", 2000));
            all.addAll(List.of(settings));
            consumer = t.consumer(all.toArray());
            consumer.subscribe(List.of(topic), this);
        }

        @Override public void onPartitionsAssigned(Collection<TopicPartition> partitions) { }

        @Override public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked.add(partitions.size());
        }

        void poll() {
            for (ConsumerRecord<String, String> r : consumer.poll(Duration.ofMillis(30))) values.add(Integer.valueOf(r.value()));
        }
    }

    private static void settle(String topic, List<Member> members) throws Exception {
        ClientTest.eventually(members.size() + " members share all partitions", () -> {
            Set<TopicPartition> owned = new HashSet<>();
            boolean even = true;
            int sum = 0;
            for (Member m : members) {
                m.poll();
                Set<TopicPartition> mine = m.consumer.assignment();
                even &= mine.size() == PARTITIONS / members.size();
                sum += mine.size();
                owned.addAll(mine);
            }
            return even && sum == PARTITIONS && owned.size() == PARTITIONS;
        });
    }

    private static void fill(ClientTest t, String topic, int start) {
        try (KafkaProducer<String, String> producer = t.producer()) {
            for (int n = start; n < start + 60; n++) producer.send(new ProducerRecord<>(topic, n % PARTITIONS, null, "" + n));
        }
    }

    private static void readAll(List<Member> members, int end) throws Exception {
        Set<Integer> all = new TreeSet<>();
        ClientTest.eventually("values up to " + end, () -> {
            for (Member m : members) {
                m.poll();
                all.addAll(m.values);
            }
            return all.size() >= end;
        });
    }

    private static void growAndShrink(ClientTest t, String assignor) throws Exception {
        String topic = t.topic(PARTITIONS);
        String group = t.unique("g");
        fill(t, topic, 0);
        List<Member> members = new ArrayList<>();
        for (int n = 0; n < 3; n++) members.add(new Member(t, group, topic, assignor));
        settle(topic, members);
        readAll(members, 60);
        for (Member m : members) m.consumer.commitSync();
        Member left = members.remove(0);
        left.consumer.close();
        List<Member> three = new ArrayList<>(members);
        three.add(new Member(t, group, topic, assignor));
        settle(topic, three);
        // This one goes silently, as a killed process would: its session has to run out.
        Member killed = three.remove(2);
        killed.consumer.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP));
        fill(t, topic, 60);
        List<Member> two = new ArrayList<>(three);
        ClientTest.eventually("two members read all", () -> {
            Set<Integer> all = new TreeSet<>(left.values);
            all.addAll(killed.values);
            for (Member m : two) {
                m.poll();
                all.addAll(m.values);
            }
            return all.size() >= 120;
        });
        settle(topic, two);
        if (assignor.startsWith("Cooperative")) {
            for (Member m : two) for (int n : m.revoked) if (n == PARTITIONS) throw new AssertionError("gave up everything");
        }
        for (Member m : two) m.consumer.close();
    }

    /** RangeAssignor: three members, one leaves, one joins, one dies; all records are read. */
    static void range(ClientTest t) throws Exception {
        growAndShrink(t, "RangeAssignor");
    }

    /** The same with RoundRobinAssignor. */
    static void roundRobin(ClientTest t) throws Exception {
        growAndShrink(t, "RoundRobinAssignor");
    }

    /** The same with StickyAssignor. */
    static void sticky(ClientTest t) throws Exception {
        growAndShrink(t, "StickyAssignor");
    }

    /** The same with CooperativeStickyAssignor. */
    static void cooperative(ClientTest t) throws Exception {
        growAndShrink(t, "CooperativeStickyAssignor");
    }

    /** A static member restarts without a rebalance; a second one of its id fences the first. */
    static void staticMembers(ClientTest t) throws Exception {
        String topic = t.topic(PARTITIONS);
        String group = t.unique("g");
        Object[] idA = {"group.instance.id", group + "-a", "session.timeout.ms", 30000};
        Object[] idB = {"group.instance.id", group + "-b", "session.timeout.ms", 30000};
        Member a = new Member(t, group, topic, "RangeAssignor", idA);
        Member b = new Member(t, group, topic, "RangeAssignor", idB);
        settle(topic, List.of(a, b));
        Set<TopicPartition> before = b.consumer.assignment();
        int revocations = a.revoked.size();
        b.consumer.close();
        Member again = new Member(t, group, topic, "RangeAssignor", idB);
        ClientTest.eventually("the same partitions", () -> {
            a.poll();
            again.poll();
            return again.consumer.assignment().equals(before);
        });
        ClientTest.same("rebalances of the other", revocations, a.revoked.size());
        Member twin = new Member(t, group, topic, "RangeAssignor", idB);
        ClientTest.fails(FencedInstanceIdException.class, () -> {
            ClientTest.eventually("fenced", () -> {
                twin.poll();
                a.poll();
                again.poll();
                return false;
            });
            return null;
        });
    }

    /** Commits with metadata and leader epoch; resume; a group that committed nothing; a commit after being removed. */
    static void commits(ClientTest t) throws Exception {
        String topic = t.topic(PARTITIONS);
        String group = t.unique("g");
        TopicPartition p = new TopicPartition(topic, 0);
        fill(t, topic, 0);
        Member m = new Member(t, group, topic, "RangeAssignor");
        readAll(List.of(m), 60);
        m.consumer.commitSync();
        m.consumer.commitSync(Map.of(p, new OffsetAndMetadata(4, java.util.Optional.of(0), "four")));
        OffsetAndMetadata found = m.consumer.committed(Set.of(p)).get(p);
        ClientTest.same("committed", "4 four", found.offset() + " " + found.metadata());
        t.admin.removeMembersFromConsumerGroup(group,
                new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions()).all().get();
        ClientTest.fails(KafkaException.class, () -> {
            m.consumer.commitSync(Map.of(p, new OffsetAndMetadata(1)));
            return null;
        });
        m.consumer.close();
        Member next = new Member(t, group, topic, "RangeAssignor");
        ClientTest.eventually("the six records left", () -> {
            next.poll();
            return next.values.size() >= 6;
        });
        ClientTest.same("values", List.of(24, 30, 36, 42, 48, 54), next.values);
        next.consumer.close();
        try (KafkaConsumer<String, String> none = t.consumer("group.id", t.unique("g"))) {
            ClientTest.same("nothing committed", null, none.committed(Set.of(p)).get(p));
        }
    }
}
