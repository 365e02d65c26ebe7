// The Java client's tests: `java ClientTest BOOTSTRAP PREFIX CLASS.METHOD` runs one of them and fails by throwing.
//
// This file holds what they share: clients with settings, unique names, reading, waiting, equality.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public final class ClientTest {
    final String bootstrap;
    final String prefix;
    final Admin admin;
    private int counter;

    ClientTest(String bootstrap, String prefix) {
        this.bootstrap = bootstrap;
        this.prefix = prefix;
        this.admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    public static void main(String[] args) throws Throwable {
        String[] name = args[2].split("\\.");
        ClientTest test = new ClientTest(args[0], args[1]);
        try {
            Class.forName(name[0]).getDeclaredMethod(name[1], ClientTest.class).invoke(null, test);
        } catch (java.lang.reflect.InvocationTargetException e) {
            e.getCause().printStackTrace();
            Runtime.getRuntime().halt(1);
        }
        System.out.println("done");
        System.out.flush();
        Runtime.getRuntime().halt(0); // what a test left open is not worth waiting for
    }

    String unique(String what) {
        return prefix + "-" + what + "-j" + ++counter;
    }

    /** Creates a topic and waits until its partitions can be listed. */
    String topic(int partitions, Map<String, String> configs) throws Exception {
        String name = unique("t");
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) -1).configs(configs))).all().get();
        eventually("partitions of " + name, () -> {
            try {
                return admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().stream()
                        .filter(p -> p.leader() != null).count() == partitions;
            } catch (ExecutionException e) {
                return false;
            }
        });
        return name;
    }

    String topic(int partitions) throws Exception {
        return topic(partitions, Map.of());
    }

    KafkaProducer<String, String> producer(Object... settings) {
        Map<String, Object> all = settings(settings);
        all.putIfAbsent("delivery.timeout.ms", 20000);
        all.putIfAbsent("request.timeout.ms", 10000);
        all.putIfAbsent("max.block.ms", 15000);
        all.putIfAbsent("linger.ms", 5);
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Object... settings) {
        Map<String, Object> all = settings(settings);
        all.putIfAbsent("auto.offset.reset", "earliest");
        all.putIfAbsent("enable.auto.commit", false);
        all.putIfAbsent("group.protocol", "classic");
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** A consumer without a group, assigned to all partitions from the beginning. */
    KafkaConsumer<String, String> reader(String topic, int partitions, Object... settings) {
        KafkaConsumer<String, String> consumer = consumer(settings);
        List<TopicPartition> all = new ArrayList<>();
        for (int n = 0; n < partitions; n++) all.add(new TopicPartition(topic, n));
        consumer.assign(all);
        consumer.seekToBeginning(all);
        return consumer;
    }

    private Map<String, Object> settings(Object... pairs) {
        Map<String, Object> all = new HashMap<>();
        all.put("bootstrap.servers", bootstrap);
        for (int n = 0; n < pairs.length; n += 2) all.put((String) pairs[n], pairs[n + 1]);
        return all;
    }

    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> got = new ArrayList<>();
        eventually(count + " records", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(got::add);
            return got.size() >= count;
        });
        same("records", count, got.size());
        return got;
    }

    static RecordMetadata send(KafkaProducer<String, String> producer, String topic, String key, String value) throws Exception {
        return producer.send(new ProducerRecord<>(topic, key, value)).get();
    }

    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + 25_000_000_000L;
        while (!condition.call()) {
            if (System.nanoTime() > deadline) throw new AssertionError("not within 25 s: " + what);
            Thread.sleep(10);
        }
    }

    static void same(String what, Object want, Object got) {
        if (!Objects.equals(want, got)) throw new AssertionError(what + ": got " + got + ", want " + want);
    }

    /** Runs what must fail with this class, be it as the cause of an ExecutionException. */
    static Throwable fails(Class<? extends Throwable> kind, Callable<?> action) {
        try {
            Object value = action.call();
            throw new AssertionError("no " + kind.getSimpleName() + ", but " + value);
        } catch (AssertionError e) {
            throw e;
        } catch (Throwable e) {
            Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
            if (!kind.isInstance(cause)) throw new AssertionError("wanted " + kind.getSimpleName(), cause);
            return cause;
        }
    }
}
