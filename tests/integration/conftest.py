"""Integration tests use real Kafka and real MinIO: the fixture `parts` of tests/conftest.py."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.integration.postgres import Server, new_database, running_server

from salus.devkit.kafka_server import kafka_needs
from salus.devkit.minio_server import minio_needs
from salus.devkit.narration import PlainNarrator
from salus.devkit.parts import LocalParts
from salus.devkit.processes import Place

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
async def postgres_server() -> AsyncIterator[Server]:
    """A real PostgreSQL for the whole run."""
    async with running_server() as server:
        yield server


@pytest.fixture
async def postgres(postgres_server: Server) -> str:
    """The URL of an empty database on a real PostgreSQL."""
    return postgres_server.url(await new_database(postgres_server))


@pytest.fixture
async def own_parts(session_folder: Path, tmp_path: Path) -> AsyncIterator[LocalParts]:
    """Kafka and MinIO as processes of this test, not started: it may stop, fill up or starve them."""
    if absent := [*kafka_needs(), *minio_needs()]:
        pytest.skip(f"needs servers of its own; {', '.join(absent)} is missing")
    folder = session_folder / tmp_path.name
    parts = LocalParts(Place(folder, folder / "logs", detached=False), PlainNarrator())
    yield parts
    await parts.stop()
