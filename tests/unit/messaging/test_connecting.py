"""A client that does not start leaves nothing open, whatever fails or is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from salus.messaging import connecting


class Connection:
    """A connection that the library made."""

    closed = False

    def close(self) -> None:
        self.closed = True


async def test_connections_are_closed_and_the_cause_is_told_also_when_stopping_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connection = Connection()

    async def create(*_: Any, **__: Any) -> Connection:
        return connection

    monkeypatch.setattr(connecting, "_create", create)

    async def begin() -> None:
        await connecting._remembered()
        raise ValueError("the first")

    async def stop() -> None:
        raise RuntimeError("the second")

    with pytest.raises(ValueError, match="the first") as raised:
        await connecting.start(begin, stop)

    assert connection.closed
    assert "the second" in raised.value.__notes__[0]


@pytest.mark.parametrize("error", [None, RuntimeError("stopping failed")])
async def test_stopping_ends_however_often_it_is_cancelled(
    error: RuntimeError | None,
) -> None:
    gate, ended = asyncio.Event(), []

    async def stop() -> None:
        await gate.wait()
        ended.append(True)
        if error is not None:
            raise error

    task = asyncio.create_task(connecting.to_the_end(stop()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError) as raised:
        await task

    assert ended == [True]
    assert raised.value.__cause__ is error


async def test_what_stopping_raised_is_told() -> None:
    async def stop() -> None:
        raise RuntimeError("stopping failed")

    with pytest.raises(RuntimeError, match="stopping failed"):
        await connecting.to_the_end(stop())
