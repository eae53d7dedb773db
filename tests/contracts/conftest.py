"""Tests of this folder touch no network: a socket, other than the event loop's own, fails the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Forbid sockets; Unix ones stay because asyncio wakes its loop with a pair of them."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
