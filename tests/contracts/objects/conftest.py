"""The fake; tests/integration/objects runs the same promises against MinIO."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from salus.objects.memory import MemoryObjects


@pytest.fixture
def store() -> MemoryObjects:
    return MemoryObjects()


@pytest.fixture
def plant(store: MemoryObjects) -> Callable[[str], Awaitable[None]]:
    async def planted(key: str) -> None:
        store.plant(key, b"stray")

    return planted
