"""The fake; tests/integration/objects runs the same promises against MinIO."""

from __future__ import annotations

import pytest

from salus.objects import ObjectStore
from salus.objects.memory import MemoryObjects


@pytest.fixture
def store() -> ObjectStore:
    return MemoryObjects()
