"""A call that hangs keeps its own thread and nothing else: neither other threads, nor memory, nor the end."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from salus.crypto import call_thread
from salus.crypto.call_thread import CALL_S_MAX, CallThread
from salus.crypto.errors import KmsAwayError


class Hang:
    """A call that hangs until it is let go."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self.may_end.wait(120)
        return "ended"

    async def has_begun(self) -> None:
        """Return once the thread is in it."""
        assert await asyncio.to_thread(self.begun.wait, 60)


@pytest.fixture
def hang() -> Iterator[Hang]:
    call = Hang()
    yield call
    call.may_end.set()


async def test_while_a_call_hangs_others_are_refused_at_once_and_every_other_thread_serves(
    hang: Hang,
) -> None:
    now = 0.0
    calls = CallThread(clock=lambda: now)
    first = asyncio.create_task(calls.run(hang))
    await hang.has_begun()
    waiting = [asyncio.create_task(calls.run(lambda: 1)) for _ in range(40)]
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await asyncio.to_thread(lambda: 2) == 2
    now = CALL_S_MAX + 1
    with pytest.raises(KmsAwayError, match="has not ended"):
        async with asyncio.timeout(60):
            await calls.run(lambda: 3)

    hang.may_end.set()
    assert await first == "ended"
    assert await asyncio.gather(*waiting) == [1] * 40
    assert await calls.run(lambda: 4) == 4
    await calls.end(lambda: None)


async def test_a_call_whose_caller_has_gone_is_not_begun(hang: Hang) -> None:
    calls, made = CallThread(), list[int]()
    first = asyncio.create_task(calls.run(hang))
    await hang.has_begun()
    second = asyncio.create_task(calls.run(lambda: made.append(1)))
    await asyncio.sleep(0)
    for task in (first, second):
        task.cancel()
    await asyncio.wait([first, second])
    hang.may_end.set()
    await calls.run(lambda: made.append(2))

    assert made == [2]
    await calls.end(lambda: None)


async def test_no_more_calls_wait_than_the_maximum(hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_thread, "CALLS_WAITING_MAX", 2)
    calls = CallThread()
    first = asyncio.create_task(calls.run(hang))
    await hang.has_begun()
    waiting = [asyncio.create_task(calls.run(lambda: 1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(KmsAwayError, match="2 calls wait"):
        await calls.run(lambda: 1)

    hang.may_end.set()
    assert await asyncio.gather(first, *waiting) == ["ended", 1, 1]
    await calls.end(lambda: None)


async def test_the_end_does_not_wait_for_a_call_that_hangs(
    hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_thread, "END_S_MAX", 0.01)
    calls = CallThread()
    first = asyncio.create_task(calls.run(hang))
    await hang.has_begun()
    async with asyncio.timeout(60):
        await calls.end(lambda: None)

    thread = calls._thread
    assert thread is not None
    # Nor does the end of the process.
    assert thread.daemon
    hang.may_end.set()
    assert await first == "ended"


async def test_an_error_is_its_callers_and_nothing_of_a_call_is_kept() -> None:
    class Key:
        pass

    def fails() -> None:
        raise ZeroDivisionError

    calls, key = CallThread(), Key()
    kept = weakref.ref(key)
    with pytest.raises(ZeroDivisionError):
        await calls.run(fails)
    assert await calls.run(lambda key=key: key) is key  # type: ignore[misc]  # a default binds it early
    del key
    async with asyncio.timeout(60):
        # The thread returns from the call after its caller has the answer.
        while kept() is not None:
            await asyncio.sleep(0.01)
            gc.collect()
    await calls.end(lambda: None)
