"""Limits per account: what one does for ever, it may do so often, and nobody pays for another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from salus.events.parties import Party
from salus.runtime import problems
from salus.runtime.limits import ORGANISATION_ACCOUNTS, AccountLimit, Buckets, Rate, TooManyRequestsError


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def account(name: str, member: str | None = None) -> Party:
    return Party(f"did:web:{name}", "person", frozenset(), member)


async def test_accounts_of_one_member_have_together_what_twenty_have() -> None:
    # The fourth red team: a member registers as many accounts as it likes.
    limit = AccountLimit("denials", Rate(burst=2, per_minute=1), clock=Clock())
    own = [account(f"n{number}", "did:web:hospital") for number in range(100)]
    taken = []
    for who in own:
        with contextlib.suppress(TooManyRequestsError):
            limit.take(who)
            taken.append(who)
    async with limit.reserved(account("z")) as reservation:
        reservation.use()

    assert len(taken) == 2 * ORGANISATION_ACCOUNTS
    for who in (own[-1], account("z", "did:web:hospital"), account("hospital")):
        with pytest.raises(TooManyRequestsError, match="by this organisation"):
            await use_of(limit, who)
    limit.take(account("z"))


def test_many_at_once_are_counted_as_many() -> None:
    clock = Clock()
    limit = AccountLimit("bytes", Rate(burst=100, per_minute=60), clock=clock)
    limit.take(account("a"), 90)

    with pytest.raises(TooManyRequestsError) as refused:
        limit.take(account("a"), 20)
    assert refused.value.retry_after_s == 10
    limit.take(account("a"), 10)
    clock.now += 20
    limit.take(account("a"), 20)


def test_an_account_may_do_a_burst_and_then_so_many_a_minute() -> None:
    clock = Clock()
    limit = AccountLimit("commands", Rate(burst=3, per_minute=6), clock=clock)
    for _ in range(3):
        limit.take(account("a"))

    with pytest.raises(TooManyRequestsError) as refused:
        limit.take(account("a"))
    assert (refused.value.status, refused.value.code) == (429, "too-many-requests")
    assert refused.value.headers == {"Retry-After": "10"}
    limit.take(account("b"))
    clock.now += refused.value.retry_after_s
    limit.take(account("a"))
    with pytest.raises(TooManyRequestsError):
        limit.take(account("a"))


async def use(limit: AccountLimit, name: str = "a", *, happens: bool = True) -> None:
    await use_of(limit, account(name), happens=happens)


async def use_of(limit: AccountLimit, who: Party, *, happens: bool = True) -> None:
    async with limit.reserved(who) as reservation:
        await asyncio.sleep(0)
        if happens:
            reservation.use()


async def test_what_is_known_afterwards_is_counted_afterwards() -> None:
    limit = AccountLimit("denials", Rate(burst=2, per_minute=1), clock=Clock())
    await use(limit, happens=False)
    await use(limit)
    await use(limit)

    with pytest.raises(TooManyRequestsError) as refused:
        await use(limit)
    assert refused.value.retry_after_s == 60
    await use(limit, "b")


async def test_requests_at_the_same_moment_do_not_pass_the_limit() -> None:
    """The third red team: each was checked before any was counted."""
    limit = AccountLimit("denials", Rate(burst=5, per_minute=1), clock=Clock())
    answers = await asyncio.gather(*(use(limit) for _ in range(200)), return_exceptions=True)

    assert answers.count(None) == 5
    assert {type(answer) for answer in answers if answer is not None} == {TooManyRequestsError}


async def test_what_does_not_happen_is_never_too_many_however_many_come_at_once() -> None:
    limit = AccountLimit("denials", Rate(burst=5, per_minute=1), clock=Clock())
    for _ in range(4):
        await use(limit)

    assert await asyncio.gather(*(use(limit, happens=False) for _ in range(200))) == [None] * 200
    await use(limit)


async def test_who_gives_up_waiting_hands_its_turn_on() -> None:
    limit = AccountLimit("denials", Rate(burst=1, per_minute=1), clock=Clock())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group, limit.reserved(account("a")):
        waiting = [group.create_task(use(limit, happens=False)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await use(limit)

    assert [task.cancelled() for task in waiting] == [True, False, False]


async def test_a_turn_that_came_while_its_owner_gave_up_is_the_next_one_s() -> None:
    limit = AccountLimit("denials", Rate(burst=1, per_minute=1), clock=Clock())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        async with limit.reserved(account("a")):
            waiting = [group.create_task(use(limit, happens=False)) for _ in range(2)]
            await asyncio.sleep(0)
        waiting[0].cancel()

    assert [task.cancelled() for task in waiting] == [True, False]


async def test_who_may_have_to_be_remembered_has_a_place() -> None:
    limit = AccountLimit("denials", Rate(burst=1, per_minute=1), accounts_max=2, clock=Clock())
    async with limit.reserved(account("a")) as first, limit.reserved(account("b")):
        with pytest.raises(TooManyRequestsError):
            limit.take(account("c"))
        first.use()
    limit.take(account("c"))

    with pytest.raises(TooManyRequestsError):
        await use(limit, "a")


async def test_accounts_without_debt_are_forgotten_and_those_with_debt_never() -> None:
    clock = Clock()
    limit = AccountLimit("commands", Rate(burst=1, per_minute=60), accounts_max=2, clock=clock)
    limit.take(account("a"))
    limit.take(account("b"))

    with pytest.raises(TooManyRequestsError):
        limit.take(account("c"))
    with pytest.raises(TooManyRequestsError):
        await use(limit, "c")
    with pytest.raises(TooManyRequestsError):
        limit.take(account("a"))
    clock.now += 1
    limit.take(account("c"))


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 5), st.integers(1, 120))
def test_no_pattern_of_requests_gets_more_than_the_burst_and_the_rate(
    pauses: list[float], burst: int, per_minute: int
) -> None:
    clock = Clock()
    limit = AccountLimit("commands", Rate(burst=burst, per_minute=per_minute), clock=clock)
    begun, done = clock.now, 0
    for pause in pauses:
        clock.now += pause
        try:
            limit.take(account("a"))
        except TooManyRequestsError:
            continue
        done += 1

        assert done <= burst + (clock.now - begun) * per_minute / 60 + 1e-6


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 30]), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.integers(1, 120),
)
async def test_no_pattern_of_reservations_gets_more_than_the_burst_and_the_rate(
    requests: list[tuple[int, bool]], burst: int, per_minute: int
) -> None:
    clock = Clock()
    limit = AccountLimit("denials", Rate(burst=burst, per_minute=per_minute), clock=clock)
    begun, done = clock.now, 0

    async def one(*, happens: bool) -> None:
        nonlocal done
        async with limit.reserved(account("a")) as reservation:
            await asyncio.sleep(0)
            if happens:
                reservation.use()
                done += 1
                assert done <= burst + (clock.now - begun) * per_minute / 60 + 1e-6

    async with asyncio.TaskGroup() as group:
        for pause, happens in requests:
            clock.now += pause
            group.create_task(refusable(one(happens=happens)))
            for _ in range(pause % 3):
                await asyncio.sleep(0)


async def refusable(request: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(TooManyRequestsError):
        await request


async def test_the_answer_says_when_to_come_back() -> None:
    app = FastAPI()
    problems.install(app)
    limit = AccountLimit("commands", Rate(burst=1, per_minute=2), clock=Clock())

    @app.post("/things")
    async def make() -> None:
        limit.take(account("a"))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.post("/things")
        answer = await client.post("/things")

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "30"
    assert answer.json()["code"] == "too-many-requests"


# red team 5, A4
def test_the_names_of_one_organisation_keep_out_no_other_s() -> None:
    keys = Buckets("keys", Rate(burst=1, per_minute=1), whose="organisation", names_max=1000, clock=Clock())
    for number in range(500):
        keys.take(f"evil {number}", of="evil")
    with pytest.raises(TooManyRequestsError):
        keys.take("evil x", of="evil")
    keys.take("hospital a", of="hospital")

    with pytest.raises(TooManyRequestsError):
        keys.take("evil x", of="evil")


# red team 5, A4
def test_a_refusal_looks_at_no_name_that_stays() -> None:
    clock = Clock()
    keys = Buckets("keys", Rate(burst=1, per_minute=1), whose="organisation", names_max=1000, clock=clock)
    for number in range(500):
        keys.take(f"evil {number}", of="evil")

    class Counted(dict[str, float]):
        looked_at = 0

        def __getitem__(self, name: str) -> float:
            self.looked_at += 1
            return super().__getitem__(name)

        def items(self) -> Any:
            self.looked_at += len(self)
            return super().items()

    keys._debts._full_at = counted = Counted(keys._debts._full_at)
    for _ in range(100):
        with pytest.raises(TooManyRequestsError):
            keys.take("evil x", of="evil")
    assert counted.looked_at == 0
    clock.now += 60
    keys.take("evil x", of="evil")

    assert counted.looked_at == 500


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3), st.floats(0, 90), st.booleans()), max_size=60),
    st.integers(2, 12),
)
async def test_no_more_names_are_remembered_than_may_be(
    steps: list[tuple[int, int, float, bool]], names_max: int
) -> None:
    clock = Clock()
    buckets = Buckets("x", Rate(burst=2, per_minute=1), whose="account", names_max=names_max, clock=clock)
    for number, organisation, later, happens in steps:
        clock.now += later
        name, of = f"{organisation} {number}", str(organisation)
        with contextlib.suppress(TooManyRequestsError):
            if happens:
                buckets.take(name, of=of)
            else:
                async with buckets.reserved(name, of=of):
                    pass
        debts = buckets._debts

        assert len(debts._organisation_of) == debts._names_of.total() <= names_max
        assert set(debts._full_at) == set(debts._organisation_of)
        assert sorted(name for _, name in debts._queue) == sorted(debts._full_at)
