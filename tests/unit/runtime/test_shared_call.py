"""Many callers share a call, and none gets an answer from before it asked."""

from __future__ import annotations

import asyncio

import pytest

from salus.messaging.errors import BrokerAwayError
from salus.runtime.shared_call import SharedCall


async def test_those_who_ask_meanwhile_share_the_next_call() -> None:
    calls, go = 0, asyncio.Event()

    async def count() -> int:
        nonlocal calls
        calls += 1
        mine = calls
        await go.wait()
        return mine

    shared = SharedCall(count)
    first = asyncio.create_task(shared())
    await asyncio.sleep(0)
    others = [asyncio.create_task(shared()) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()

    assert await first == 1
    assert {await each for each in others} == {2}
    assert await shared() == 3


async def test_a_failure_is_the_answer_of_all_who_asked_before_the_call() -> None:
    # Else the last of a hundred would wait for a hundred deadlines while the broker is away.
    calls, go = 0, asyncio.Event()

    async def fail() -> str:
        nonlocal calls
        calls += 1
        await go.wait()
        if calls < 3:
            raise ConnectionError("away")
        return "there"

    shared = SharedCall(fail)
    first = asyncio.create_task(shared())
    await asyncio.sleep(0)
    others = [asyncio.create_task(shared()) for _ in range(50)]
    await asyncio.sleep(0)
    go.set()
    failed = await asyncio.gather(first, *others, return_exceptions=True)

    assert {type(each) for each in failed} == {ConnectionError}
    assert calls == 2
    assert await shared() == "there"


async def test_who_gives_up_leaves_the_others_their_turn() -> None:
    go = asyncio.Event()

    async def wait() -> str:
        await go.wait()
        return "there"

    shared = SharedCall(wait)
    first, second = asyncio.create_task(shared()), asyncio.create_task(shared())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    go.set()

    assert await second == "there"


# red team 5, A3
async def test_what_a_call_waited_for_cancels_nobody_who_asked() -> None:
    calls = 0

    async def ended_by_another() -> str:
        nonlocal calls
        calls += 1
        if calls > 1:
            return "there"
        other = asyncio.get_running_loop().create_future()
        other.cancel()
        await other
        return "never"

    shared = SharedCall(ended_by_another)
    first = asyncio.create_task(shared())
    await asyncio.sleep(0)
    second = asyncio.create_task(shared())

    with pytest.raises(BrokerAwayError):
        await first
    assert await second == "there"


async def test_a_call_that_is_cancelled_itself_leaves_nobody_waiting() -> None:
    async def wait() -> str:
        await asyncio.Event().wait()
        return "never"

    shared = SharedCall(wait)
    asked = [asyncio.create_task(shared()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert shared._calling is not None
    shared._calling.cancel()
    await asyncio.wait(asked)

    assert all(each.cancelled() for each in asked)
