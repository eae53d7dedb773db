"""What anchoring makes of a witness's HTTP, whoever wrote the witness, over real connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from salus.anchoring.adapters.witnesses import ANSWER_BYTES_MAX, HttpWitness
from salus.anchoring.ports import OtherSizeError, WitnessError

REQUEST = b"old 3\nAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\nnote\n"
Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Answers each request by the next reply, and with the last one from then on."""

    replies: list[Reply]
    url: str = ""
    connections: int = 0
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)

    serving: list[asyncio.Task[None] | None] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.serving.append(asyncio.current_task())
        # A cancelled task of asyncio's own server would be logged as an error.
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                self.asked.append((head, await reader.readexactly(length)))
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await reply(writer)
        writer.transport.abort()


def says(text: bytes, *, then_closes: bool = False) -> Reply:
    async def reply(writer: asyncio.StreamWriter) -> None:
        # In two pieces, as a network may deliver it.
        writer.write(text[:20])
        await writer.drain()
        writer.write(text[20:])
        await writer.drain()
        if then_closes:
            writer.close()

    return reply


def plain(status: str, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status.encode(), b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@asynccontextmanager
async def witness_that(*replies: Reply) -> AsyncIterator[tuple[Server, HttpWitness]]:
    """Serve these replies, and yield whom to ask."""
    server = Server(list(replies))
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    witness = HttpWitness(f"{server.url}/w/")
    try:
        yield server, witness
    finally:
        await witness.close()
        listening.close()
        await listening.wait_closed()
        tasks = [task for task in server.serving if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def ask(witness: HttpWitness) -> bytes:
    return await asyncio.wait_for(witness.add_checkpoint(3, [b"\x01" * 32], b"note\n"), timeout=60)


async def test_one_connection_carries_one_request_after_the_other() -> None:
    async with witness_that(says(plain("200 OK", b"one")), says(plain("200 OK", b"two"))) as (
        server,
        witness,
    ):
        answers = [await ask(witness), await ask(witness)]

    assert answers == [b"one", b"two"]
    assert server.connections == 1
    assert [body for _, body in server.asked] == [REQUEST, REQUEST]
    assert server.asked[0][0].startswith(b"POST /w/add-checkpoint HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\non\r\n1\r\ne\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none",
        b"HTTP/1.0 200 OK\r\n\r\none",
        plain("200 OK", b"one", b"Connection: close"),
    ],
)
async def test_an_answer_may_be_framed_in_any_way_and_end_its_connection(answer: bytes) -> None:
    closes = b"chunked" not in answer
    async with witness_that(says(answer, then_closes=closes)) as (server, witness):
        answers = [await ask(witness), await ask(witness)]

    assert answers == [b"one", b"one"]
    assert server.connections == (2 if closes else 1)


async def test_a_kept_connection_that_was_closed_is_opened_again() -> None:
    async with witness_that(says(plain("200 OK", b"one"), then_closes=True)) as (server, witness):
        answers = [await ask(witness) for _ in range(3)]

    assert answers == [b"one"] * 3
    assert server.connections == 3


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "does not answer"),
        (b"SSH-2.0-OpenSSH_9.6 and so on, and so on\r\n\r\n", "does not answer"),
        # Case HIGH 1 of red team B, for httptools this is no error of HTTP
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            "does not answer: HttpParserUpgrade",
        ),
        (plain("422 Unprocessable", b"no"), "refuses: 422"),
        (plain("302 Found", b"", b"Location: /elsewhere"), "refuses: 302"),
        (plain("409 Conflict", b"7\n"), "refuses: 409 of type none, not text/x.tlog.size"),
        (
            plain("409 Conflict", b"{}", b"Content-Type: application/json;x=y"),
            "409 of type application/json,",
        ),
        (plain("409 Conflict", b"seven\n", b"Content-Type: text/x.tlog.size"), "a size that is none"),
        (plain("200 OK", bytes(ANSWER_BYTES_MAX)), "more than"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * ANSWER_BYTES_MAX, "more than"),
    ],
)
async def test_an_answer_that_is_none_says_why_and_the_next_one_counts(answer: bytes, why: str) -> None:
    replies = says(answer, then_closes=True), says(plain("200 OK", b"one"))
    async with witness_that(*replies) as (_, witness):
        with pytest.raises(WitnessError, match=why):
            await ask(witness)

        assert await ask(witness) == b"one"


# case L4
@pytest.mark.parametrize(
    "kind",
    [b"text/x.tlog.size", b"text/x.tlog.size; charset=utf-8", b'Text/X.tlog.size ;charset="a,b"'],
)
async def test_a_witness_of_another_size_tells_it(kind: bytes) -> None:
    answer = plain("409 Conflict", b"7\n", b"Content-Type: " + kind)
    async with witness_that(says(answer)) as (_, witness):
        with pytest.raises(OtherSizeError) as told:
            await ask(witness)

    assert told.value.size == 7


async def test_the_answer_to_a_request_that_was_given_up_is_not_taken_for_the_next_one() -> None:
    begun = asyncio.Event()

    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\no")
        await writer.drain()
        begun.set()
        await asyncio.Event().wait()

    async with witness_that(half, says(plain("200 OK", b"two"))) as (server, witness):
        asking = asyncio.create_task(ask(witness))
        await begun.wait()
        asking.cancel()
        await asyncio.wait([asking])

        assert await ask(witness) == b"two"

    assert server.connections == 2


async def test_a_witness_that_is_not_there_does_not_answer() -> None:
    async with witness_that(says(plain("200 OK", b"one"))) as (_, witness):
        assert await ask(witness) == b"one"
    with pytest.raises(WitnessError, match="does not answer"):
        await ask(witness)


async def test_a_witness_behind_https_has_to_show_a_certificate_of_its_name() -> None:
    async def hangs_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    listening = await asyncio.start_server(hangs_up, "127.0.0.1", 0)
    witness = HttpWitness(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    with pytest.raises(WitnessError, match="does not answer"):
        await ask(witness)
    await witness.close()
    listening.close()
    await listening.wait_closed()

    assert isinstance(witness._tls, ssl.SSLContext)
    assert witness._tls.check_hostname
    assert witness._tls.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("url", ["ftp://w.example", "w.example:80", "https://", "/w"])
def test_what_is_no_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="not the HTTP address"):
        HttpWitness(url)
