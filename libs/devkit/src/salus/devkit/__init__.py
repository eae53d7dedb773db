"""Starts real Kafka, real MinIO and the services on one machine, for the demo, tests and development.

`Platform` is what most callers want. Nothing here is needed to run Salus in production.
"""
