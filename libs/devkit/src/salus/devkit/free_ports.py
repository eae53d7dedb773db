"""Free TCP ports on the loopback address."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Say whether nothing listens on the port right now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int, *, preferred: Sequence[int] = ()) -> list[int]:
    """Return distinct free ports: the preferred ones if all are free, so that addresses stay the same.

    Another program may take one before it is used; who binds it must be ready to try again.
    """
    if len(preferred) == count and len(set(preferred)) == count and all(map(is_free, preferred)):
        return list(preferred)
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


async def listens(port: int) -> bool:
    """Say whether something accepts connections on the port."""
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
