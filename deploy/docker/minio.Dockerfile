# MinIO from source: upstream ships no images any more.
# BUILD_IMAGE needs Go 1.24 or newer, BASE_IMAGE only a C library.
ARG BUILD_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
ARG MINIO_VERSION=v0.0.0-20260212201848-7aac2a2c5b7c
RUN CGO_ENABLED=0 GOBIN=/out go install github.com/minio/minio@${MINIO_VERSION}

FROM ${BASE_IMAGE}
RUN groupadd --gid 10001 minio && useradd --uid 10001 --gid minio --no-create-home minio && install -d -o minio -g minio /data
COPY --from=build /out/minio /usr/local/bin/minio
USER 10001:10001
VOLUME /data
EXPOSE 9000
CMD ["minio", "server", "/data", "--address", ":9000"]
