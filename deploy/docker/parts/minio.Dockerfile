# MinIO from the program that `make parts` built, for where there is no image with Go. The context is its folder.
ARG BASE_IMAGE=debian:bookworm-slim
FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 minio && useradd --uid 10001 --gid minio --no-create-home minio && install -d -o minio -g minio /data
COPY minio /usr/local/bin/minio
USER 10001:10001
VOLUME /data
EXPOSE 9000
CMD ["minio", "server", "/data", "--address", ":9000"]
