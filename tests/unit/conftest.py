"""Tests of this folder touch no network, and leave no connection to SQLite open.

A socket, other than the event loop's own, fails the test.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_socket import disable_socket, enable_socket

from salus.runtime.sqlite_connection import StatementConnection


@pytest.fixture(scope="session")
def sqlite_connections() -> Iterator[weakref.WeakSet[StatementConnection]]:
    """Every connection that was made and is not collected yet."""
    made: weakref.WeakSet[StatementConnection] = weakref.WeakSet()
    original = StatementConnection.__init__

    def remembered(self: StatementConnection, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        made.add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StatementConnection, "__init__", remembered)
        yield made


@pytest.fixture(autouse=True)
def no_connection_left_open(sqlite_connections: weakref.WeakSet[StatementConnection]) -> Iterator[None]:
    """What a test forgot to close warns when it is collected: here, and not in a test that comes later."""
    yield
    if any(connection.is_open for connection in sqlite_connections):
        gc.collect()


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Forbid sockets; Unix ones stay because asyncio wakes its loop with a pair of them."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
