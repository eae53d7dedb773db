"""A small HTTP/1.1 client: a general one would use more processor time than the service that it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit


class KeptConnection:
    """One connection that is kept alive; one request at a time. Use it as an async context manager."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        self._host, self._port = split.hostname or "", split.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        """Connect."""
        self._streams = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        if self._streams is not None:
            self._streams[1].close()
            await self._streams[1].wait_closed()

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body; the server must say the body's length.

        Raises:
            OSError, asyncio.IncompleteReadError: the connection broke.
        """
        return await self.send(self.request("GET", path))

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        token: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Return the bytes of a request, which can be made before it is sent."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}"]
        if token:
            lines.append(f"Authorization: Bearer {token}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and return status and body as `get` does."""
        if self._streams is None:
            raise ConnectionError("not connected")
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)
