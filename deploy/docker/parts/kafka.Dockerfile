# Kafka from the jars that `make parts` fetched, for where apache/kafka cannot be pulled. The context is their folder.
# It is set up from KAFKA_* variables by Kafka's own wrapper, as apache/kafka is, and keeps its data in the same place.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install --yes --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 1000 --no-create-home appuser \
    && install -d -o appuser -g appuser /var/lib/kafka/data /opt/kafka/config /mnt/shared/config /etc/kafka/docker
COPY *.jar /opt/kafka/libs/
# As apache/kafka's own start script: the wrapper also formats the data folder, which it refuses to do twice.
RUN printf '%s\n' \
    'set -eu' \
    'told=$(java -Xmx128m -XX:TieredStopAtLevel=1 -cp "/opt/kafka/libs/*" kafka.docker.KafkaDockerWrapper setup \' \
    '  --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \' \
    '  --final-configs-dir /opt/kafka/config 2>&1) || printf "%s" "$told" | grep -qi "already formatted" \' \
    '  || { printf "%s\n" "$told" >&2; exit 1; }' \
    'exec java ${KAFKA_HEAP_OPTS} -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError \' \
    '  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "/opt/kafka/libs/*" kafka.Kafka \' \
    '  /opt/kafka/config/server.properties' >/opt/kafka/run.sh
USER appuser
WORKDIR /opt/kafka
VOLUME /var/lib/kafka/data
EXPOSE 9092
ENV CLUSTER_ID=5L6g3nShT-eMCtK--X86sw KAFKA_HEAP_OPTS="-Xmx1G -Xms1G"
CMD ["sh", "/opt/kafka/run.sh"]
