"""A client that does not start leaves nothing open, whatever fails or is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from salus.messaging import Account, Brokers, Protocol, connecting, reader
from salus.messaging.brokers import options


class Connection:
    """A connection that the library made."""

    closed = False
    # Without TLS, or not connected.
    _writer = None

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


# red team 5, A3
async def test_a_stop_that_others_cancelled_cancels_nobody() -> None:
    async def stop() -> None:
        raise asyncio.CancelledError

    await connecting.to_the_end(stop())


class Consumer:
    """A consumer whose stop ends with `error`."""

    def __init__(self, error: BaseException | None) -> None:
        self._error = error
        self._client = self
        self.stopped = self.closed = False

    async def stop(self) -> None:
        self.stopped = True
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        self.closed = True


# red team 5, A3
@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("stopping failed")])
async def test_each_consumer_is_stopped_and_its_connections_closed(error: BaseException) -> None:
    first, second = Consumer(error), Consumer(None)
    stopping: Any = reader._stopped([first, second])
    if isinstance(error, Exception):
        with pytest.raises(RuntimeError, match="stopping failed"):
            await stopping
    else:
        await stopping

    assert (first.stopped, first.closed, second.stopped, second.closed) == (True, True, True, False)


# readC6, 7
async def test_each_connection_of_a_client_shows_the_password_that_its_file_has_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown: list[str] = []

    async def create(**given: Any) -> Connection:
        shown.append(given["sasl_plain_password"])
        return Connection()

    monkeypatch.setattr(connecting, "_create", create)
    file = tmp_path / "password"
    file.write_text("first")
    account = Account(Protocol.SASL_PLAINTEXT, user="lab", password_file=file)
    client = options(Brokers("kafka:9093", account))

    await connecting._remembered(**client)
    file.write_text("")
    # The library takes what is no OSError for a fault of its own, and ends.
    with pytest.raises(OSError, match=str(file)):
        await connecting._remembered(**client)
    file.write_text("second")
    await connecting._remembered(**client)

    assert shown == ["first", "second"]
