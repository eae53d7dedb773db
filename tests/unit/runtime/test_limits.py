"""Limits per account: what one does for ever, it may do so often, and nobody pays for another."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from salus.runtime import problems
from salus.runtime.limits import AccountLimit, Rate, TooManyRequestsError


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_account_may_do_a_burst_and_then_so_many_a_minute() -> None:
    clock = Clock()
    limit = AccountLimit("commands", Rate(burst=3, per_minute=6), clock=clock)
    for _ in range(3):
        limit.take("a")

    with pytest.raises(TooManyRequestsError) as refused:
        limit.take("a")
    assert (refused.value.status, refused.value.code) == (429, "too-many-requests")
    assert refused.value.headers == {"Retry-After": "10"}
    limit.take("b")
    clock.now += refused.value.retry_after_s
    limit.take("a")
    with pytest.raises(TooManyRequestsError):
        limit.take("a")


def test_what_is_known_afterwards_is_counted_afterwards() -> None:
    limit = AccountLimit("denials", Rate(burst=1, per_minute=1), clock=Clock())
    limit.require("a")
    limit.count("a")
    limit.count("a")

    with pytest.raises(TooManyRequestsError) as refused:
        limit.require("a")
    assert refused.value.retry_after_s == 120


def test_accounts_without_debt_are_forgotten_and_those_with_debt_never() -> None:
    clock = Clock()
    limit = AccountLimit("commands", Rate(burst=1, per_minute=60), accounts_max=2, clock=clock)
    limit.take("a")
    limit.take("b")

    with pytest.raises(TooManyRequestsError):
        limit.take("c")
    limit.count("c")
    with pytest.raises(TooManyRequestsError):
        limit.take("a")
    clock.now += 1
    limit.take("c")


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
            limit.take("a")
        except TooManyRequestsError:
            continue
        done += 1

        assert done <= burst + (clock.now - begun) * per_minute / 60 + 1e-6


async def test_the_answer_says_when_to_come_back() -> None:
    app = FastAPI()
    problems.install(app)
    limit = AccountLimit("commands", Rate(burst=1, per_minute=2), clock=Clock())

    @app.post("/things")
    async def make() -> None:
        limit.take("a")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.post("/things")
        answer = await client.post("/things")

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "30"
    assert answer.json()["code"] == "too-many-requests"
