"""Fixtures that every kind of test may ask for; nothing starts until one does."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from salus.devkit.addresses import Addresses
from salus.devkit.narration import PlainNarrator
from salus.devkit.parts import find_parts
from salus.devkit.processes import Place


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for the servers of this test run, away from pytest's own, whose paths can be too long."""
    folder = Path(tempfile.mkdtemp(prefix="salus-test-"))
    yield folder
    if os.environ.get("SALUS_KEEP_TEST_DATA") != "1":
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def parts(session_folder: Path) -> AsyncIterator[Addresses]:
    """Real Kafka and real MinIO for the whole run: `.kafka_bootstrap` and `.s3`.

    They are shared, so a test uses topics and buckets with names of its own.
    """
    folder = session_folder / "parts"
    provider = await find_parts(Place(folder, folder / "logs", detached=False), PlainNarrator())
    try:
        yield await provider.start(None)
    finally:
        await provider.stop()
