"""Servers of a test's own, which it may stop, fill up or starve."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.devkit.kafka_server import kafka_needs
from salus.devkit.minio_server import minio_needs
from salus.devkit.narration import PlainNarrator
from salus.devkit.parts import LocalParts
from salus.devkit.processes import Place


@pytest.fixture
async def own_parts(session_folder: Path, tmp_path: Path) -> AsyncIterator[LocalParts]:
    """Kafka and MinIO as processes of this test, not started."""
    if absent := [*kafka_needs(), *minio_needs()]:
        pytest.skip(f"needs servers of its own; {', '.join(absent)} is missing")
    folder = session_folder / tmp_path.name
    parts = LocalParts(Place(folder, folder / "logs", detached=False), PlainNarrator())
    yield parts
    await parts.stop()
