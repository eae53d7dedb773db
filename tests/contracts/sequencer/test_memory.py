"""The ports in memory keep the laws that the fault model relies on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.contracts.sequencer import laws

from salus.objects.memory import MemoryObjects
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.memory import MemoryClock, MemoryLog, MemoryTopics
from salus.sequencer.adapters.patience import Patience

AT = ("topic", 0)


@pytest.mark.parametrize("law", laws.ARCHIVE_LAWS)
async def test_the_archive_in_memory_keeps_the_laws(law: Callable[[Any], Awaitable[None]]) -> None:
    await law(ObjectArchive(MemoryObjects(), Patience()))


def log_in_memory() -> tuple[MemoryLog, Callable[[bytes], Awaitable[None]], MemoryTopics]:
    topics = MemoryTopics({AT: []})

    async def append(value: bytes) -> None:
        topics.append(*AT, key=None, value=value, headers=[("number", value)])

    return MemoryLog(topics, MemoryClock()), append, topics


@pytest.mark.parametrize("law", laws.LOG_LAWS)
async def test_the_log_in_memory_keeps_the_laws(law: Callable[..., Awaitable[None]]) -> None:
    log, append, _ = log_in_memory()
    await law(log, AT, append)


async def test_the_log_in_memory_refuses_what_retention_removed() -> None:
    log, append, topics = log_in_memory()

    async def retire(beginning: int) -> None:
        topics.retire(*AT, beginning=beginning)

    await laws.a_position_before_the_beginning_is_refused(log, AT, append, retire)
