"""Who waits for the fold is woken for the fact that it waits for, and hears when it does not come."""

from __future__ import annotations

import asyncio

from salus.contracts.fold_waits import FoldWaits


async def test_nobody_is_woken_for_the_fact_of_another() -> None:
    waits, folded, asked = FoldWaits(), set[int](), [0, 0, 0]

    async def until(number: int) -> bool:
        def fact() -> bool:
            asked[number] += 1
            return number in folded

        return await waits.until(fact, seconds=60)

    waiting = [asyncio.create_task(until(number)) for number in range(3)]
    await asyncio.sleep(0)
    folded.add(1)
    waits.tell()
    await waiting[1]
    assert [task.done() for task in waiting] == [False, True, False]
    # Once before waiting, once told, and the woken one once more.
    assert asked == [2, 3, 2]

    folded.update((0, 2))
    waits.tell()
    assert await asyncio.gather(*waiting) == [True, True, True]


async def test_what_is_so_already_is_not_waited_for_and_what_never_is_ends() -> None:
    waits = FoldWaits()

    assert await waits.until(lambda: True, seconds=0)
    assert not await waits.until(lambda: False, seconds=0.01)
    assert waits._waiting == {}


async def test_a_fact_that_ended_before_the_waiter_ran_is_waited_for_again() -> None:
    waits, folded = FoldWaits(), set[int]()
    waiting = asyncio.create_task(waits.until(lambda: 1 in folded, seconds=60))
    await asyncio.sleep(0)
    folded.add(1)
    waits.tell()
    folded.clear()
    await asyncio.sleep(0)
    assert not waiting.done()

    folded.add(1)
    waits.tell()
    assert await waiting


async def test_who_is_woken_in_vain_waits_no_longer_for_it() -> None:
    """Case readD8 10: each wake began the deadline anew."""
    waits, is_so = FoldWaits(), False
    waiting = asyncio.create_task(waits.until(lambda: is_so, seconds=0.2))
    for _ in range(200):
        await asyncio.sleep(0.01)
        is_so = True
        waits.tell()
        is_so = False
        if waiting.done():
            break

    assert waiting.done()
    assert not await waiting


async def test_who_gives_up_is_forgotten() -> None:
    waits = FoldWaits()
    waiting = asyncio.create_task(waits.until(lambda: False, seconds=60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    waits.tell()

    assert (waiting.cancelled(), waits._waiting) == (True, {})
