"""Hosts keep their promises on real Kafka, with SQLite and with PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.databases import Databases
from tests.integration.contracts.kafka_bench import opened_bench

from salus.contracts.testing.host_promises import HostBench, HostPromises
from salus.devkit.addresses import Addresses


class TestHostOnKafka(HostPromises):
    @pytest.fixture
    async def bench(self, parts: Addresses, databases: Databases) -> AsyncIterator[HostBench]:
        async with opened_bench(parts.kafka_bootstrap, databases) as bench:
            yield bench
