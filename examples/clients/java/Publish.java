import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Publishes documents of a patient to Salus as one signed batch, with nothing but the JDK and kafka-clients.
 *
 * <p>Written from docs/integrators.md alone.
 *
 * <pre>java -cp kafka-clients.jar:slf4j-api.jar Publish.java BOOTSTRAP KEY.pem DID#KEY DATASCHEMA PATIENT OBJECT...</pre>
 *
 * Prints one line for each event: its id, topic, partition and offset.
 */
public final class Publish {
    private static final String TOPIC = "salus.clinical.events";
    private static final String TYPE = "salus.clinical.document-registered.v1";

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        PrivateKey key = readKey(Path.of(args[1]));
        String method = args[2];
        String dataschema = args[3];
        String patient = args[4];

        List<String> ids = new ArrayList<>();
        List<byte[]> values = new ArrayList<>();
        for (int i = 5; i < args.length; i++) {
            String id = UUID.randomUUID().toString();
            ids.add(id);
            values.add(event(id, method.substring(0, method.indexOf('#')), dataschema, patient, args[i]));
        }
        List<byte[]> signatures = sign(values, key, method);

        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("acks", "all");
        // Another member could make Kafka take an idempotent producer's events for repetitions of its own. One request
        // at a time keeps the order, and of what a retry doubles the ledger takes the first.
        settings.put("enable.idempotence", "false");
        settings.put("max.in.flight.requests.per.connection", "1");
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> answers = new ArrayList<>();
            for (int i = 0; i < values.size(); i++) {
                byte[] recordKey = patient.getBytes(StandardCharsets.UTF_8);
                var record = new ProducerRecord<>(TOPIC, recordKey, values.get(i));
                record.headers().add("salus-signature", signatures.get(i));
                record.headers().add("content-type", "application/cloudevents+json".getBytes(StandardCharsets.UTF_8));
                answers.add(producer.send(record));
            }
            for (int i = 0; i < values.size(); i++) {
                // An event whose answer is an error was not delivered, or its answer was lost: send it again
                // with the same id, for the ledger takes the first only.
                RecordMetadata at = answers.get(i).get();
                System.out.println(ids.get(i) + " " + at.topic() + " " + at.partition() + " " + at.offset());
            }
        }
    }

    /** The Kafka value: the whole CloudEvent. The strings here hold nothing that JSON escapes. */
    private static byte[] event(String id, String source, String dataschema, String patient, String object) {
        return ("{\"specversion\":\"1.0\",\"id\":\"" + id + "\",\"source\":\"" + source
                + "\",\"type\":\"" + TYPE + "\",\"subject\":\"" + patient
                + "\",\"time\":\"" + Instant.now().truncatedTo(ChronoUnit.MICROS)
                + "\",\"datacontenttype\":\"application/json\",\"dataschema\":\"" + dataschema
                + "\",\"data\":{\"patient\":\"" + patient + "\",\"object\":\"" + object
                + "\",\"media_type\":\"application/fhir+json\"}}").getBytes(StandardCharsets.UTF_8);
    }

    /** One Ed25519 signature over the RFC 6962 root of all values, and each value's path to it. */
    static List<byte[]> sign(List<byte[]> values, PrivateKey key, String method) throws Exception {
        List<List<byte[]>> levels = new ArrayList<>();
        List<byte[]> level = new ArrayList<>();
        for (byte[] value : values) {
            level.add(sha256((byte) 0, value, new byte[0]));
        }
        levels.add(level);
        while (level.size() > 1) {
            List<byte[]> above = new ArrayList<>();
            for (int i = 0; i + 1 < level.size(); i += 2) {
                above.add(sha256((byte) 1, level.get(i), level.get(i + 1)));
            }
            if (level.size() % 2 == 1) {
                above.add(level.get(level.size() - 1)); // without a sibling a node moves up as it is
            }
            level = above;
            levels.add(level);
        }
        Base64.Encoder base64 = Base64.getEncoder();
        String text = "salus.health/event-batch/v1\n" + values.size() + "\n" + base64.encodeToString(level.get(0)) + "\n";
        Signature ed25519 = Signature.getInstance("Ed25519");
        ed25519.initSign(key);
        ed25519.update(text.getBytes(StandardCharsets.US_ASCII));
        String signature = base64.encodeToString(ed25519.sign());

        List<byte[]> headers = new ArrayList<>();
        for (int index = 0; index < values.size(); index++) {
            var path = new java.io.ByteArrayOutputStream();
            for (int height = 0, at = index; height + 1 < levels.size(); height++, at /= 2) {
                int sibling = at ^ 1;
                if (sibling < levels.get(height).size()) {
                    path.write(levels.get(height).get(sibling));
                }
            }
            String header = "v1 " + method + " " + index + "/" + values.size() + " " + signature
                    + (path.size() == 0 ? "" : " " + base64.encodeToString(path.toByteArray()));
            headers.add(header.getBytes(StandardCharsets.US_ASCII));
        }
        return headers;
    }

    private static byte[] sha256(byte prefix, byte[] left, byte[] right) throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        digest.update(prefix);
        digest.update(left);
        return digest.digest(right);
    }

    private static PrivateKey readKey(Path pem) throws Exception {
        String body = Files.readString(pem).replaceAll("-----[A-Z ]+-----|\\s", "");
        return KeyFactory.getInstance("Ed25519").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(body)));
    }
}
