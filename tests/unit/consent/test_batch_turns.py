"""Few batches are decided at once; what waits has a bound, and single questions pass it."""

from __future__ import annotations

import asyncio

import pytest

from salus.consent.batch_turns import QUESTIONS_AT_ONCE, BatchTurns
from salus.runtime.problems import ProblemError


class Batches:
    """Batches that are decided until told to end, and in which order they began."""

    def __init__(self, turns: BatchTurns) -> None:
        self.turns = turns
        self.begun: list[int] = []
        self.may_end = asyncio.Event()

    async def decide(self, number: int) -> None:
        async with self.turns.turn():
            self.begun.append(number)
            await self.may_end.wait()


async def quiet() -> None:
    """Let all that can go on go on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_so_many_are_decided_at_once_and_the_others_in_their_order() -> None:
    batches = Batches(BatchTurns(questions_max=20))
    deciding = [asyncio.create_task(batches.decide(number)) for number in range(12)]
    await quiet()

    assert batches.begun == [*range(QUESTIONS_AT_ONCE // 20)]

    deciding[0].cancel()
    deciding[5].cancel()
    await quiet()

    # Who gave up gave its turn, or its place, to the next one.
    assert batches.begun == [0, 1, 2, 3, 4, 6]

    batches.may_end.set()
    await asyncio.gather(*deciding, return_exceptions=True)

    assert batches.begun == [0, 1, 2, 3, 4, *range(6, 12)]


async def test_too_many_that_wait_are_told_to_come_again() -> None:
    batches = Batches(BatchTurns(questions_max=64, waiting_max=2))
    deciding = [asyncio.create_task(batches.decide(number)) for number in range(3)]
    await quiet()
    with pytest.raises(ProblemError, match="busy") as refused:
        await batches.decide(3)

    assert refused.value.status == 503
    assert refused.value.headers["Retry-After"] == "1"

    batches.may_end.set()
    await asyncio.gather(*deciding)
    await batches.decide(4)

    assert batches.begun == [0, 1, 2, 4]


async def test_whose_turn_does_not_come_in_time_is_told_to_come_again() -> None:
    batches = Batches(BatchTurns(questions_max=64, wait_s_max=0.01))
    deciding = asyncio.create_task(batches.decide(0))
    await quiet()
    with pytest.raises(ProblemError, match="busy"):
        await batches.decide(1)
    batches.may_end.set()
    await deciding
    await batches.decide(2)

    assert batches.begun == [0, 2]


def test_one_batch_has_a_turn_however_large_it_is() -> None:
    assert BatchTurns(questions_max=1000).at_once == 1
