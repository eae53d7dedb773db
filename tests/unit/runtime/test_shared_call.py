"""Many callers share a call, and none gets an answer from before it asked."""

from __future__ import annotations

import asyncio

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
