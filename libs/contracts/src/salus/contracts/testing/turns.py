"""An aggregate's turn at a host that a test holds, so that commands wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from salus.contracts.contract import ContractHost
from salus.events.event_types import EventData
from salus.runtime.refusal import Refusal

_HELD = "held"
# So many looks around let everybody go on who waits for nothing but memory.
_LOOKS = 200


@asynccontextmanager
async def turn_held(host: ContractHost[Any], aggregate: str) -> AsyncIterator[None]:
    """Hold an aggregate's turn, as a command does that is being decided and is refused then."""
    began, ends = asyncio.Event(), asyncio.Event()

    async def decide(_: Any) -> EventData:
        began.set()
        await ends.wait()
        raise Refusal(_HELD, "a test held the turn")

    holding = asyncio.create_task(host.execute(aggregate, decide))
    await began.wait()
    try:
        yield
    finally:
        ends.set()
        with suppress(Refusal):
            await holding


async def settled() -> None:
    """Let everybody go on until they wait for somebody, as for a turn."""
    for _ in range(_LOOKS):
        await asyncio.sleep(0)
