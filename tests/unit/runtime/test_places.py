"""Places at once: no account and no organisation holds up others, however many accounts it makes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.parties import Party
from salus.runtime.places import Places, organisation_places
from salus.runtime.problems import ProblemError


def account(name: str, member: str | None = None) -> Party:
    return Party(f"did:web:{name}", "person", frozenset(), member)


def of(member: str, count: int) -> list[Party]:
    return [account(f"{member}-{number}", member) for number in range(count)]


async def test_accounts_of_one_member_leave_places_to_others() -> None:
    # Red team 4: twenty accounts of one member held all places of audit's search, and nobody else got one.
    places = Places(most=6, of_one_max=2, wait_s_max=0.01)
    async with AsyncExitStack() as held:
        for who in of("evil", 4):
            await held.enter_async_context(places.taken(who))
        with pytest.raises(ProblemError, match="busy"):
            await held.enter_async_context(places.taken(account("x", "evil")))
        for who in of("honest", 2):
            await held.enter_async_context(places.taken(who))
        with pytest.raises(ProblemError, match="busy"):
            await held.enter_async_context(places.taken(account("y")))


async def test_of_those_who_wait_the_organisation_that_has_least_is_next() -> None:
    places = Places(most=4, of_one_max=2, wait_s_max=30)
    got: list[str] = []

    async def work(who: Party) -> None:
        async with places.taken(who):
            got.append(who.did)

    async with asyncio.TaskGroup() as group, AsyncExitStack() as held:
        for who in (*of("evil", 3), account("else")):
            await held.enter_async_context(places.taken(who))
        for who in (*of("evil", 40), account("else"), account("honest-1", "honest"), account("honest")):
            group.create_task(work(who))
            await asyncio.sleep(0)
        assert not got

    assert got[:2] == ["did:web:else", "did:web:honest-1"]
    assert "did:web:honest" in got[:8]
    assert len(got) == 43


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    places = Places(most=1, of_one_max=1)
    async with places.taken(account("a")):
        waiting = [asyncio.ensure_future(hold(places, account(name))) for name in "bcd"]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.wait([waiting[0]])
    # Its turn comes in the moment when it gives up.
    waiting[1].cancel()
    await waiting[2]

    assert [task.cancelled() for task in waiting] == [True, True, False]
    async with places.taken(account("a")):
        pass


async def hold(places: Places, who: Party, turns: int = 0) -> None:
    async with places.taken(who):
        for _ in range(turns):
            await asyncio.sleep(0)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 4), st.booleans()), max_size=40),
    st.integers(1, 5),
    st.integers(1, 3),
)
async def test_no_pattern_takes_more_than_there_is_or_loses_a_place(
    requests: list[tuple[int, int, int, bool]], most: int, of_one_max: int
) -> None:
    places = Places(most=most, of_one_max=of_one_max, wait_s_max=30)
    held: list[Party] = []

    async def one(who: Party, turns: int) -> None:
        async with places.taken(who):
            held.append(who)
            assert len(held) <= most
            assert held.count(who) <= of_one_max
            assert sum(other.member == who.member for other in held) <= organisation_places(most, of_one_max)
            try:
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                held.remove(who)

    tasks = []
    for number, member, turns, gives_up in requests:
        who = account(f"{member}-{number}", f"did:web:member-{member}")
        tasks.append(asyncio.ensure_future(one(who, turns)))
        await asyncio.sleep(0)
        if gives_up:
            tasks[-1].cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    async with AsyncExitStack() as all_of_them:
        for number in range(most):
            await all_of_them.enter_async_context(places.taken(account(f"z{number}")))
