// The Java client: producing and consuming.

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.internals.RecordHeader;

final class Data {
    /** Every codec: keys, values, nulls, headers, timestamps and offsets come back as sent. */
    static void codecs(ClientTest t) throws Exception {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            String topic = t.topic(1);
            try (KafkaProducer<String, String> producer = t.producer("compression.type", codec)) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int n = 0; n < 500; n++) {
                    sent.add(producer.send(new ProducerRecord<>(topic, 0, 1_700_000_000_000L + n, "k" + n, value(n),
                            List.of(new RecordHeader("n", String.valueOf(n).getBytes()), new RecordHeader("null", null)))));
                }
                for (int n = 0; n < 500; n++) ClientTest.same("offset with " + codec, (long) n, sent.get(n).get().offset());
            }
            try (KafkaConsumer<String, String> reader = t.reader(topic, 1)) {
                int n = 0;
                for (ConsumerRecord<String, String> r : ClientTest.read(reader, 500)) {
                    ClientTest.same("key", "k" + n, r.key());
                    ClientTest.same("value", value(n), r.value());
                    ClientTest.same("timestamp", 1_700_000_000_000L + n, r.timestamp());
                    ClientTest.same("header", String.valueOf(n), new String(r.headers().lastHeader("n").value()));
                    ClientTest.same("null header", null, r.headers().lastHeader("null").value());
                    n++;
                }
            }
        }
    }

    private static String value(int n) {
        return n % 50 == 0 ? null : ("value " + n + " ").repeat(n % 30);
    }

    /** acks 0, 1 and all, and 20,000 records of the idempotent producer in small batches: in order, none twice. */
    static void acksAndIdempotence(ClientTest t) throws Exception {
        String topic = t.topic(1);
        int start = 0;
        for (String acks : List.of("0", "1", "all")) {
            try (KafkaProducer<String, String> producer = t.producer("acks", acks, "enable.idempotence", false)) {
                for (int n = 0; n < 100; n++) producer.send(new ProducerRecord<>(topic, String.valueOf(start + n)));
            }
            start += 100;
            int end = start;
            TopicPartition partition = new TopicPartition(topic, 0);
            try (KafkaConsumer<String, String> reader = t.reader(topic, 1)) {
                ClientTest.eventually("all with acks " + acks, () -> reader.endOffsets(List.of(partition)).get(partition) == end);
            }
        }
        try (KafkaProducer<String, String> producer = t.producer("batch.size", 500, "linger.ms", 0)) {
            for (int n = 0; n < 20_000; n++) producer.send(new ProducerRecord<>(topic, String.valueOf(start + n)));
        }
        try (KafkaConsumer<String, String> reader = t.reader(topic, 1)) {
            int n = 0;
            for (ConsumerRecord<String, String> r : ClientTest.read(reader, 20_300)) {
                ClientTest.same("offset", (long) n, r.offset());
                ClientTest.same("value", String.valueOf(n++), r.value());
            }
        }
    }

    /** Large records and many small ones, over several partitions, with fetch sizes below a record. */
    static void sizes(ClientTest t) throws Exception {
        String topic = t.topic(3);
        Map<String, Integer> want = new HashMap<>();
        try (KafkaProducer<String, String> producer = t.producer("batch.size", 900_000, "linger.ms", 50)) {
            for (int n = 0; n < 3000; n++) {
                int size = n % 500 == 0 ? 900_000 : n % 100;
                want.put("k" + n, size);
                producer.send(new ProducerRecord<>(topic, "k" + n, "x".repeat(size)));
            }
        }
        try (KafkaConsumer<String, String> reader = t.reader(topic, 3, "fetch.max.bytes", 1000, "max.partition.fetch.bytes", 1000)) {
            Map<String, Integer> got = new HashMap<>();
            for (ConsumerRecord<String, String> r : ClientTest.read(reader, 3000)) got.put(r.key(), r.value().length());
            ClientTest.same("sizes by key", want, got);
        }
    }

    /** RecordTooLarge, InvalidTopic, InvalidRecord with its reason, InvalidTimestamp. */
    static void errors(ClientTest t) throws Exception {
        String small = t.topic(1, Map.of("max.message.bytes", "1000"));
        String compacted = t.topic(1, Map.of("cleanup.policy", "compact"));
        String bounded = t.topic(1, Map.of("message.timestamp.after.max.ms", "60000"));
        try (KafkaProducer<String, String> producer = t.producer()) {
            ClientTest.fails(RecordTooLargeException.class, () -> ClientTest.send(producer, small, null, "x".repeat(5000)));
            ClientTest.fails(InvalidTopicException.class, () -> ClientTest.send(producer, "not legal", null, "x"));
            Throwable invalid = ClientTest.fails(KafkaException.class, () -> ClientTest.send(producer, compacted, null, "x"));
            ClientTest.same("class", "InvalidRecordException", invalid.getClass().getSimpleName());
            long future = System.currentTimeMillis() + 7_200_000;
            ClientTest.fails(InvalidTimestampException.class,
                    () -> producer.send(new ProducerRecord<>(bounded, 0, future, null, "x")).get());
            ClientTest.same("the next one", 0L, ClientTest.send(producer, small, null, "x").offset());
            ClientTest.fails(TimeoutException.class, () -> t.producer("max.block.ms", 2000).send(
                    new ProducerRecord<>(small, 7, null, "x")).get());
        }
    }

    /** offsetsForTimes, begin and end offsets, seek, and a position out of range with each reset policy. */
    static void positions(ClientTest t) throws Exception {
        String topic = t.topic(1);
        TopicPartition p = new TopicPartition(topic, 0);
        long stamp = 1_700_000_000_000L;
        try (KafkaProducer<String, String> producer = t.producer("linger.ms", 0)) {
            for (int n = 0; n < 30; n++) producer.send(new ProducerRecord<>(topic, 0, stamp + n * 1000, null, "" + n)).get();
        }
        t.admin.deleteRecords(Map.of(p, RecordsToDelete.beforeOffset(5))).all().get();
        try (KafkaConsumer<String, String> c = t.reader(topic, 1)) {
            ClientTest.same("begin", 5L, c.beginningOffsets(List.of(p)).get(p));
            ClientTest.same("end", 30L, c.endOffsets(List.of(p)).get(p));
            ClientTest.same("by time", 13L, c.offsetsForTimes(Map.of(p, stamp + 12_500)).get(p).offset());
            ClientTest.same("its timestamp", stamp + 13_000, c.offsetsForTimes(Map.of(p, stamp + 12_500)).get(p).timestamp());
            ClientTest.same("beyond", null, c.offsetsForTimes(Map.of(p, stamp * 2)).get(p));
            c.seek(p, 28);
            ClientTest.same("after seek", 28L, ClientTest.read(c, 2).get(0).offset());
            c.seek(p, 2);
            ClientTest.same("below the start", 5L, ClientTest.read(c, 25).get(0).offset());
            c.seek(p, 9999);
            ClientTest.same("beyond the end", 5L, ClientTest.read(c, 25).get(0).offset());
            c.pause(List.of(p));
            c.seekToBeginning(List.of(p));
            ClientTest.same("paused", 0, c.poll(Duration.ofMillis(300)).count());
            c.resume(List.of(p));
            ClientTest.read(c, 25);
        }
        try (KafkaConsumer<String, String> c = t.reader(topic, 1, "auto.offset.reset", "none")) {
            c.seek(p, 9999);
            ClientTest.fails(OffsetOutOfRangeException.class, () -> ClientTest.read(c, 1));
        }
        try (KafkaConsumer<String, String> c = t.reader(topic, 1, "auto.offset.reset", "latest")) {
            c.seek(p, 9999);
            c.poll(Duration.ofMillis(500));
            ClientTest.eventually("position at the end", () -> c.position(p) == 30);
        }
    }

    /** A consumer in a long poll on an empty topic gets the record by the append; read_committed does too. */
    static void longPoll(ClientTest t) throws Exception {
        for (String level : List.of("read_uncommitted", "read_committed")) {
            String topic = t.topic(1);
            try (KafkaConsumer<String, String> c = t.reader(topic, 1, "fetch.max.wait.ms", 200_000, "request.timeout.ms", 250_000,
                    "isolation.level", level); KafkaProducer<String, String> producer = t.producer()) {
                ClientTest.same("an empty topic", 0, c.poll(Duration.ofMillis(1000)).count());
                for (int n = 0; n < 3; n++) {
                    ClientTest.send(producer, topic, null, "" + n);
                    ClientTest.same("value", "" + n, ClientTest.read(c, 1).get(0).value());
                }
                c.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ZERO));
            }
        }
    }

    /** 100 partitions in one fetch session: every record of every partition, some paused, some idle. */
    static void manyPartitions(ClientTest t) throws Exception {
        String topic = t.topic(100);
        try (KafkaConsumer<String, String> c = t.reader(topic, 100); KafkaProducer<String, String> producer = t.producer()) {
            for (int round = 0; round < 3; round++) {
                for (int n = round; n < 100; n += round + 1) producer.send(new ProducerRecord<>(topic, n, null, "" + round));
                producer.flush();
                int count = 0;
                for (int n = round; n < 100; n += round + 1) count++;
                for (ConsumerRecord<String, String> r : ClientTest.read(c, count)) ClientTest.same("value", "" + round, r.value());
            }
        }
    }

    /** Deleting and re-creating a topic under a producer: it goes on into the new one, which starts empty. */
    static void recreatedTopic(ClientTest t) throws Exception {
        String topic = t.topic(1);
        try (KafkaProducer<String, String> producer = t.producer("metadata.max.age.ms", 1000)) {
            for (int n = 0; n < 5; n++) ClientTest.send(producer, topic, null, "old");
            t.admin.deleteTopics(List.of(topic)).all().get();
            ClientTest.eventually("created again", () -> {
                try {
                    t.admin.createTopics(List.of(new NewTopic(topic, 1, (short) -1))).all().get();
                    return true;
                } catch (java.util.concurrent.ExecutionException e) {
                    return false;
                }
            });
            ClientTest.eventually("sent", () -> {
                try {
                    ClientTest.send(producer, topic, null, "new");
                    return true;
                } catch (java.util.concurrent.ExecutionException e) {
                    return false;
                }
            });
        }
        try (KafkaConsumer<String, String> reader = t.reader(topic, 1)) {
            ConsumerRecord<String, String> first = ClientTest.read(reader, 1).get(0);
            ClientTest.same("the first record", "0 new", first.offset() + " " + first.value());
        }
    }

    /** LogAppendTime and a topic's own codec. */
    static void logAppendTime(ClientTest t) throws Exception {
        String topic = t.topic(1, Map.of("message.timestamp.type", "LogAppendTime", "compression.type", "gzip"));
        long before = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = t.producer("compression.type", "lz4")) {
            RecordMetadata sent = producer.send(new ProducerRecord<>(topic, 0, 1000L, null, "x".repeat(500))).get();
            if (sent.timestamp() < before) throw new AssertionError("timestamp of the answer: " + sent.timestamp());
        }
        try (KafkaConsumer<String, String> reader = t.reader(topic, 1)) {
            ConsumerRecord<String, String> got = ClientTest.read(reader, 1).get(0);
            ClientTest.same("type", "LogAppendTime", got.timestampType().toString());
            if (got.timestamp() < before) throw new AssertionError("timestamp: " + got.timestamp());
        }
    }

    /** Commit, abort, offsets in the transaction, fencing by a second producer. */
    static void transactions(ClientTest t) throws Exception {
        String topic = t.topic(1);
        String id = t.unique("txn");
        String group = t.unique("g");
        try (KafkaProducer<String, String> one = t.producer("transactional.id", id);
             KafkaProducer<String, String> two = t.producer("transactional.id", id);
             KafkaConsumer<String, String> member = t.consumer("group.id", group)) {
            one.initTransactions();
            one.beginTransaction();
            one.send(new ProducerRecord<>(topic, "a"));
            one.sendOffsetsToTransaction(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(77)), member.groupMetadata());
            one.commitTransaction();
            one.beginTransaction();
            one.send(new ProducerRecord<>(topic, "b"));
            one.abortTransaction();
            two.initTransactions();
            two.beginTransaction();
            two.send(new ProducerRecord<>(topic, "c"));
            two.commitTransaction();
            one.beginTransaction();
            ClientTest.fails(KafkaException.class, () -> {
                one.send(new ProducerRecord<>(topic, "fenced")).get();
                one.commitTransaction();
                return null;
            });
            TopicPartition p = new TopicPartition(topic, 0);
            ClientTest.same("offset", 77L, member.committed(java.util.Set.of(p)).get(p).offset());
        }
        try (KafkaConsumer<String, String> reader = t.reader(topic, 1, "isolation.level", "read_committed")) {
            List<ConsumerRecord<String, String>> got = ClientTest.read(reader, 2);
            ClientTest.same("values", "a c", got.get(0).value() + " " + got.get(1).value());
        }
    }

    /** initTransactions ends at once with an error that says why, not with a timeout. */
    static void transactionsRefused(ClientTest t) throws Exception {
        KafkaProducer<String, String> producer = t.producer("transactional.id", t.unique("txn"), "max.block.ms", 30000);
        Throwable error = ClientTest.fails(KafkaException.class, () -> {
            producer.initTransactions();
            return null;
        });
        System.out.println(error);
        if (error instanceof TimeoutException || error.getMessage() == null) throw new AssertionError("unclear", error);
    }
}
