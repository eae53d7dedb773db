"""Large bodies over HTTP/1.1 with little work of the client, so that what is measured is who answers."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPResponse
from urllib.parse import urlsplit

BUFFER_BYTES = 1024 * 1024
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Transferred:
    """One transfer: its status, the bytes of the body, and how long until the first of them and the last."""

    status: int
    size: int
    first_s: float
    seconds: float


def transfer(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body_bytes: int = 0,
    block: bytes = b"",
) -> Transferred:
    """Send one request on a connection of its own, its body made of a block again and again; read the answer.

    Raises:
        OSError: it does not answer.
    """
    split = urlsplit(url)
    target = split.path + (f"?{split.query}" if split.query else "")
    fields = {"Host": split.netloc, "Connection": "close", **(headers or {})}
    if body_bytes:
        fields["Content-Length"] = str(body_bytes)
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""])
    began = time.perf_counter()
    with socket.create_connection((split.hostname or "", split.port or 80), TIMEOUT_S) as connection:
        connection.sendall(head.encode())
        _send(connection, body_bytes, block)
        return _received(connection, began)


def _send(connection: socket.socket, left: int, block: bytes) -> None:
    view = memoryview(block)
    while left > 0:
        connection.sendall(view[:left])
        left -= min(left, len(block))


def _received(connection: socket.socket, began: float) -> Transferred:
    with HTTPResponse(connection) as answer:
        answer.begin()
        buffer, size, first_s = memoryview(bytearray(BUFFER_BYTES)), 0, 0.0
        while count := answer.readinto(buffer):
            first_s = first_s or time.perf_counter() - began
            size += count
        return Transferred(answer.status, size, first_s, time.perf_counter() - began)
