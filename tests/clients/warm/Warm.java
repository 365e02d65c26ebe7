// Loads what Kafka's tools and clients load, so that tests/setup can dump those classes as an archive for the JVM.
// Nothing listens where it connects to.

import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

@SuppressWarnings("deprecation")
public final class Warm {
    public static void main(String[] args) throws Exception {
        for (String tool : List.of("org.apache.kafka.tools.TopicCommand", "kafka.admin.ConfigCommand",
                "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "org.apache.kafka.tools.GetOffsetShell",
                "org.apache.kafka.tools.ConsoleProducer", "org.apache.kafka.tools.consumer.ConsoleConsumer",
                "org.apache.kafka.tools.VerifiableProducer", "org.apache.kafka.tools.VerifiableConsumer",
                "org.apache.kafka.tools.ProducerPerformance", "org.apache.kafka.tools.ConsumerPerformance")) {
            try {
                Class.forName(tool);
            } catch (ClassNotFoundException e) {
                System.err.println("not there: " + tool);
            }
        }
        Map<String, Object> common = Map.of("bootstrap.servers", "127.0.0.1:1");
        try (Admin admin = Admin.create(common)) {
            admin.listTopics();
            admin.close(Duration.ofMillis(200));
        }
        KafkaProducer<String, String> producer = new KafkaProducer<>(
                Map.of("bootstrap.servers", "127.0.0.1:1", "max.block.ms", 200), new StringSerializer(), new StringSerializer());
        try {
            producer.send(new ProducerRecord<>("warm", "k", "v"));
        } catch (RuntimeException e) {
            System.err.println(e.getMessage());
        }
        producer.close(Duration.ZERO);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(
                Map.of("bootstrap.servers", "127.0.0.1:1", "group.id", "warm"), new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of("warm"));
            consumer.poll(Duration.ofMillis(200));
            consumer.close(Duration.ZERO);
        }
    }
}
