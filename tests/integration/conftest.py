"""Integration tests use real Kafka and real MinIO: the fixture `parts` of tests/conftest.py."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

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
