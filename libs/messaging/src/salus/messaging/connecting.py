"""Starts and stops a client of the library so that nothing stays open, whoever is cancelled and whenever.

Each connection shows the account as its files are when it begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

from aiokafka import client as library
from aiokafka.conn import AIOKafkaConnection

from salus.messaging.brokers import ACCOUNT_OPTION, credentials
from salus.messaging.errors import AccountFileError

# The connections that a start under way has made, in its own task and in those that it began.
_made: ContextVar[WeakSet[AIOKafkaConnection] | None] = ContextVar("made", default=None)
_create, _close = library.create_conn, AIOKafkaConnection.close


async def start(begin: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
    """Run `begin`; if it fails or is cancelled, run `stop` and close every connection it had made.

    The library forgets the connection that it asks for the first metadata when it is cancelled meanwhile.

    Raises:
        BaseException: what `begin` raised; what `stop` raises then is a note of that.
    """
    made: WeakSet[AIOKafkaConnection] = WeakSet()
    token = _made.set(made)
    try:
        await begin()
    except BaseException as error:
        try:
            await to_the_end(stop())
        except Exception as another:  # noqa: BLE001  # why it did not start is what the caller needs to hear
            error.add_note(f"nor could it be stopped: {another!r}")
        finally:
            for connection in list(made):
                connection.close()
        raise
    finally:
        _made.reset(token)


async def to_the_end(stopping: Awaitable[None]) -> None:
    """Wait until `stopping` has ended, however often cancelled meanwhile; then the cancellation goes on.

    The library cancels tasks of its own and waits for them, so `stopping` may end as cancelled though nobody
    cancelled its caller: that is an end like any other, for the caller would take it for its own.

    Raises:
        BaseException: what `stopping` raised, of a cancellation its cause.
    """
    task = asyncio.ensure_future(stopping)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    if not task.cancelled():
        task.result()


class _TlsWriter(asyncio.StreamWriter):
    """Ends a TLS connection without waiting for the other side to say that it ends it as well.

    While an answer is under way that wait lasts up to 30 s, and who stops a client waits for it. Whoever
    closes a connection to Kafka waits for nothing that was sent on it.
    """

    def close(self) -> None:
        """End the connection at once."""
        self.transport.abort()


async def _remembered(*args: Any, **options: Any) -> AIOKafkaConnection:
    account = options.get(ACCOUNT_OPTION)
    if account is not None:
        try:
            # The library keeps what it was told at first, and certificates end and passwords change.
            options |= await asyncio.to_thread(credentials, account)
        except AccountFileError as error:
            # One who renews them may be half way: like any connection that fails, it is tried again.
            raise ConnectionError(str(error)) from error
    connection = await _create(*args, **options)
    made = _made.get()
    if made is not None:
        made.add(connection)
    return connection


def _end_at_once(connection: AIOKafkaConnection, *args: Any, **options: Any) -> Any:
    """Close a connection of the library, whether it was ever made, for it closes half made ones as well."""
    writer = connection._writer  # noqa: SLF001  # the library has no hook for how it closes
    if writer is not None and writer.get_extra_info("ssl_object") is not None:
        writer.__class__ = _TlsWriter
    return _close(connection, *args, **options)


library.create_conn = _remembered
AIOKafkaConnection.close = _end_at_once
