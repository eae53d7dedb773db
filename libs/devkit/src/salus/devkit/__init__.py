"""Starts real Kafka, real MinIO and the services on one machine."""
