"""Whatever a store, or somebody on the way to it, answers: callers see errors of this package alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from salus.objects import ObjectsError, S3Objects, open_store


def xml(text: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text


ANSWERS = {
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
    "redirect to no address": b"HTTP/1.1 307 X\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "not HTTP": b"\xff\xfe\x00" * 100,
    "no content": b"HTTP/1.1 204 X\r\n\r\n",
    "a length beyond integers": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\nabc",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
    "no encoding of text": xml(b"<?xml version='1.0' encoding='zlib'?><a/>"),
    "unknown encoding": xml(b"<?xml version='1.0' encoding='x-y'?><a/>"),
    "a size of too many digits": xml(
        b"<a><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>%s</Size></Contents></a>"
        % (b"9" * 5000)
    ),
    "an error that is not text": b"HTTP/1.1 403 X\r\nContent-Length: 11\r\n\r\n<Code>\xff\xff</C",
}


async def drained(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        pass


OPERATIONS: dict[str, Callable[[S3Objects], Awaitable[object]]] = {
    "get": lambda store: store.get("a/b", bytes_max=9),
    "stream": lambda store: drained(store.stream("a/b")),
    "head": lambda store: store.head("a/b"),
    "put": lambda store: store.put("a/b", b"x"),
    "create": lambda store: store.create("a/b", b"x"),
    "list": lambda store: drained(store.list("a/", on_stray=lambda _: None)),
    "delete": lambda store: store.delete("a/b"),
    "destroy": lambda store: store.destroy("a/b"),
    "require_bucket": lambda store: store.require_bucket(),
}


# Found beside red team B's HIGH 1: listing and destroying caught the errors of two families only.
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_whatever_is_answered_is_an_error_of_ours_or_none(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = open_store(
            endpoint=f"http://127.0.0.1:{port}",
            access_key="access",
            secret_key="secret-key",
            region="us-east-1",
            bucket="bucket",
            deadline_s=0.1,
        )
        outcomes = await asyncio.gather(*(outcome(ask(store)) for ask in OPERATIONS.values()))

    assert dict(zip(OPERATIONS, outcomes, strict=True)) == dict.fromkeys(OPERATIONS)


async def outcome(asking: Awaitable[object]) -> Exception | None:
    """Return the error that callers do not expect, None if there is none."""
    try:
        await asking
    except ObjectsError:
        return None
    except Exception as error:  # noqa: BLE001  # what should not escape is what is looked for
        return error
    return None
