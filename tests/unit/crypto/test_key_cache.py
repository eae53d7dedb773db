"""A key that was unwrapped is held for its time and no longer; a destroyed one stops working in seconds."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.crypto import key_cache
from salus.crypto.key_cache import KeyCache
from salus.devkit.waiting import until

KEY = bytes(32)
SECONDS = st.floats(min_value=0, max_value=60)


@given(seconds=SECONDS, asked=SECONDS, answered=SECONDS, later=SECONDS)
def test_a_key_is_held_for_as_long_as_since_it_was_asked_for(
    seconds: float, asked: float, answered: float, later: float
) -> None:
    now = asked + answered

    async def run() -> bytes | None:
        nonlocal now
        cache = KeyCache(seconds, clock=lambda: now)
        cache.put(b"wrapped", KEY, context="c", asked=asked)
        now += later
        return cache.get(b"wrapped", context="c")

    held = asyncio.run(run())

    assert held == (KEY if asked + answered + later < asked + seconds else None)


async def test_a_key_is_held_for_its_own_use_only() -> None:
    cache = KeyCache(60, clock=lambda: 0.0)
    cache.put(b"wrapped", KEY, context="patient 1", asked=0.0)

    assert cache.get(b"wrapped", context="patient 2") is None
    assert cache.get(b"wrapped anew", context="patient 1") is None
    assert cache.get(b"wrapped", context="patient 1") == KEY


async def test_a_key_that_nobody_asks_for_again_goes_as_well() -> None:
    cache = KeyCache(0.01, clock=asyncio.get_running_loop().time)
    cache.put(b"wrapped", KEY, context="c", asked=asyncio.get_running_loop().time())

    assert await until(lambda: len(cache) == 0, deadline_s=60)


async def test_so_many_keys_are_held_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_cache, "KEYS_MAX", 2)
    cache = KeyCache(60, clock=lambda: 0.0)
    for name in (b"1", b"2", b"3"):
        cache.put(name, KEY, context="c", asked=0.0)

    assert [cache.get(name, context="c") for name in (b"1", b"2", b"3")] == [None, KEY, KEY]
