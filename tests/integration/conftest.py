"""Integration tests use real Kafka and real MinIO: the fixture `parts` of tests/conftest.py."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.postgres import new_database, running_server

from salus.devkit.postgres_server import PostgresServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """What a test forgot to close warns when it is collected: here, so that this test fails."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
async def postgres_server() -> AsyncIterator[PostgresServer]:
    """A real PostgreSQL for the whole run."""
    async with running_server() as server:
        yield server


@pytest.fixture
async def postgres(postgres_server: PostgresServer) -> str:
    """The URL of an empty database on a real PostgreSQL."""
    return postgres_server.url(await new_database(postgres_server))
