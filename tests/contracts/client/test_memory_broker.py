"""The fake broker of the publisher's unit tests is a `Sender`."""

from __future__ import annotations

import pytest
from tests.contracts.client.sender import CHECKS, Check
from tests.unit.client.samples import MemoryBroker

from salus.messaging import Position


@pytest.mark.parametrize("check", CHECKS)
async def test_the_memory_broker_keeps_the_contract(check: Check) -> None:
    broker = MemoryBroker(partitions=3)

    async def stored(position: Position) -> tuple[bytes | None, bytes | None, dict[str, bytes]]:
        sent = broker.stored[position.offset]
        return sent.key, sent.value, sent.headers

    await check(broker, "salus.clinical.events", stored)
