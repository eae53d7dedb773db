"""The head of a request is bounded before anybody is asked who sends it (red team 3, 6): a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import Request, Response
from pydantic import BaseModel
from uvicorn.protocols.http import httptools_impl

from salus.devkit.free_ports import free_ports
from salus.devkit.waiting import until
from salus.runtime import bodies, http_protocol, service
from salus.runtime.http_protocol import (
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    REST_BYTES_MAX,
    SINGLE_FIELDS,
    URL_BYTES_MAX,
    WAITING_MAX,
    BoundedHttpProtocol,
)
from salus.runtime.settings import ServiceSettings

ALIVE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PIECE = b"A" * 65_536
PIECES = 3200
LARGE = 32 * 1024 * 1024
HELD = b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n"
READ_BYTES = 256 * 1024


class Person(BaseModel):
    age: int


class Connection:
    """One connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *pieces: bytes) -> int:
        """Return how many bytes the server took before it hung up."""
        sent = 0
        for piece in pieces:
            try:
                self.writer.write(piece)
                await self.writer.drain()
            except ConnectionError:
                break
            sent += len(piece)
        return sent

    async def answer(self) -> tuple[int, bytes]:
        """Return status and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(head.split(b" ")[1]), await self.reader.readexactly(size)

    async def ends(self) -> bool:
        """Wait for the end of the connection."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


class Server:
    """The address of a running service."""

    def __init__(self, port: int, running: uvicorn.Server, held: asyncio.Event) -> None:
        self.port, self.running, self.held = port, running, held
        self.opened: list[Connection] = []

    def connections(self) -> list[BoundedHttpProtocol]:
        """Return the server's ends of its connections."""
        return [*self.running.server_state.connections]  # type: ignore[list-item]  # they are ours

    async def connect(self) -> Connection:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        self.opened.append(connection)
        return connection

    async def is_up(self) -> bool:
        try:
            return await self.status(ALIVE) == 200
        except OSError:
            return False

    async def status(self, *pieces: bytes) -> int:
        connection = await self.connect()
        await connection.send(*pieces)
        return (await connection.answer())[0]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    [port] = free_ports(1)
    settings = ServiceSettings(
        service_name="runtime",
        kafka_bootstrap="127.0.0.1:1",
        network_file=Path("n"),
        signing_key_file=Path("k"),
        http_port=port,
    )
    app = service.create_app(settings, title="test", checks={}, streams=("/objects", "/refused"))
    held = asyncio.Event()

    @app.get("/held")
    async def held_until_told() -> str:
        await held.wait()
        return "told"

    @app.put("/refused")
    async def refused() -> str:
        return "no byte of it was read"

    @app.post("/headers")
    async def headers(request: Request) -> list[str]:
        await request.body()
        return [name for name, _ in request.headers.items()]

    @app.get("/large")
    async def large() -> Response:
        return Response(b"A" * LARGE)

    @app.put("/objects")
    async def objects(request: Request) -> int:
        return sum([len(piece) async for piece in request.stream()])

    @app.post("/people")
    async def people(person: Person) -> int:
        return person.age

    running = service._server(app, settings)  # `serve` would take the signals of the tests
    serving = asyncio.create_task(running._serve())
    found = Server(port, running, held)
    assert await until(found.is_up, deadline_s=60)
    yield found
    for connection in found.opened:
        connection.writer.close()
    running.should_exit = True
    await serving


def get(target: bytes = b"/healthz", *fields: bytes) -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""])


async def test_a_body_that_came_with_its_head_is_watched_by_nobody_and_another_is(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, receive = asyncio.Event(), bodies._received

    async def watch(*arguments: Any) -> Any:
        watched.set()
        return await receive(*arguments)

    monkeypatch.setattr(bodies, "_received", watch)
    head = b"POST /people HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    connection = await server.connect()
    for _ in range(2):
        await connection.send(head + b'{"age":7}')
        assert await connection.answer() == (200, b"7")
    assert not watched.is_set()

    await connection.send(head + b'{"age"')
    async with asyncio.timeout(60):
        await watched.wait()
    await connection.send(b":8}")
    assert await connection.answer() == (200, b"8")


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        (get(b"/" + b"a" * URL_BYTES_MAX), 414, b"target-too-long"),
        (get(b"/healthz?" + b"a" * URL_BYTES_MAX), 414, b"target-too-long"),
        (get(b"/healthz", b"X: " + b"a" * HEAD_BYTES_MAX), 431, b"head-too-large"),
        (get(b"/healthz", b"a" * HEAD_BYTES_MAX + b": x"), 431, b"head-too-large"),
        (get(b"/healthz", *[b"x: y"] * HEADERS_MAX), 431, b"head-too-large"),
        (b"nonsense\r\n\r\n", 400, b"malformed-request"),
    ],
)
@pytest.mark.parametrize("before", [b"", ALIVE])
async def test_a_head_beyond_its_bounds_is_refused_by_name(
    server: Server, before: bytes, head: bytes, status: int, code: bytes
) -> None:
    connection = await server.connect()
    if before:
        await connection.send(before)
        assert (await connection.answer())[0] == 200
    await connection.send(head)
    answer = await connection.answer()

    assert answer[0] == status
    assert b'"code":"' + code in answer[1]
    assert await connection.ends()
    assert await server.status(ALIVE) == 200


async def test_heads_up_to_their_bounds_are_read(server: Server) -> None:
    target = b"/healthz?" + b"a" * (URL_BYTES_MAX - 9)
    field = b"X: " + b"a" * (HEAD_BYTES_MAX - len(b"Hostx") - 1)

    assert await server.status(get(target)) == 200
    assert await server.status(get(b"/healthz", field)) == 200
    assert await server.status(*[bytes([byte]) for byte in ALIVE]) == 200


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n",
        b"GET /",
        b"PUT /objects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"PUT /objects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
    ],
    ids=["value", "name", "target", "trailer", "chunk extension"],
)
async def test_what_never_ends_is_cut_off_early(server: Server, begun: bytes) -> None:
    connection = await server.connect()
    await connection.send(begun)
    sent = await connection.send(*[PIECE] * PIECES)

    # Some of it stands in buffers of the kernel.
    assert sent < PIECES * len(PIECE) / 4
    assert await server.status(ALIVE) == 200


async def test_a_large_body_in_small_chunks_is_no_large_head(server: Server) -> None:
    connection = await server.connect()
    await connection.send(b"PUT /objects HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    await connection.send(*[b"1\r\nA\r\n" * 10_000] * 20, b"0\r\n\r\n" + ALIVE)

    assert await connection.answer() == (200, b"200000")
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\n", b"\r\n"], ids=["nothing", "a line", "blank"])
@pytest.mark.parametrize("before", [b"", ALIVE])
async def test_a_head_has_a_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch, begun: bytes, before: bytes
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_S_MAX", 0.05)
    monkeypatch.setattr(http_protocol, "LINGER_S", 0.05)
    connection = await server.connect()
    if before:
        await connection.send(before)
        assert (await connection.answer())[0] == 200
    await connection.send(begun)
    if before and not begun:
        # Between two requests a connection may be idle, as long as its keep-alive is.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.reader.read(1), timeout=1)
        return

    assert (await connection.answer())[0] == 408
    assert await connection.ends()


async def test_a_body_has_a_deadline(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S_MAX", 0.05)
    head = b"POST /people HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    connection = await server.connect()
    await connection.send(head)
    answer = await connection.answer()

    assert answer[0] == 408
    assert b'"code":"too-slow"' in answer[1]
    assert await connection.ends()


@pytest.fixture
def cycles(monkeypatch: pytest.MonkeyPatch) -> list[httptools_impl.RequestResponseCycle]:
    """The requests that are kept from now on, answered ones included."""
    made: list[httptools_impl.RequestResponseCycle] = []

    class Counted(httptools_impl.RequestResponseCycle):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", Counted)
    return made


def held_by(server: Server) -> BoundedHttpProtocol | None:
    """Return the server's end of the connection whose request is not answered yet."""
    waiting = [one for one in server.connections() if one.cycle and not one.cycle.response_complete]
    return waiting[0] if waiting else None


async def waits(server: Server) -> BoundedHttpProtocol:
    assert await until(lambda: held_by(server) is not None, deadline_s=60)
    found = held_by(server)
    assert found is not None
    return found


# red team 5, A1
async def test_of_a_read_full_of_requests_few_are_kept(
    server: Server, cycles: list[httptools_impl.RequestResponseCycle]
) -> None:
    connection = await server.connect()
    await connection.send((HELD * (READ_BYTES // len(HELD) + 1))[:READ_BYTES])
    end = await waits(server)
    assert await until(lambda: len(end.pipeline) == WAITING_MAX, deadline_s=60)
    server.held.set()

    assert [await connection.answer() for _ in range(1 + WAITING_MAX)] == [(200, b'"told"')] * 2
    assert await connection.ends()
    assert len(cycles) == 1 + WAITING_MAX


# red team 5, A1
async def test_of_the_body_of_a_waiting_request_one_read_is_kept(server: Server) -> None:
    connection = await server.connect()
    put = b"PUT /objects HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (PIECES * len(PIECE))
    await connection.send(HELD + put)
    sending = asyncio.create_task(connection.send(*[PIECE] * PIECES))
    end = await waits(server)
    assert await until(lambda: len(end.pipeline) == WAITING_MAX, deadline_s=60)
    # What an application does that waits for its caller to go away.
    end.flow.resume_reading()
    for _ in range(50):
        assert await server.status(ALIVE) == 200
    assert len(end.pipeline[0][0].body) <= READ_BYTES
    server.held.set()

    assert await connection.answer() == (200, b'"told"')
    assert await connection.answer() == (200, str(PIECES * len(PIECE)).encode())
    assert await sending == PIECES * len(PIECE)


async def test_a_connection_serves_many_requests_one_after_the_other(server: Server) -> None:
    connection = await server.connect()
    for _ in range(500):
        await connection.send(ALIVE)
        assert (await connection.answer())[0] == 200


async def test_two_requests_at_once_are_both_answered_and_the_connection_goes_on(server: Server) -> None:
    connection = await server.connect()
    for _ in range(3):
        await connection.send(ALIVE * 2)
        assert [(await connection.answer())[0] for _ in range(2)] == [200, 200]


# red team 5, A6
@pytest.mark.parametrize(("seconds", "size"), [(0.05, LARGE * 100), (1, LARGE // 2)])
async def test_what_follows_an_answer_is_read_for_a_moment_only(
    server: Server, monkeypatch: pytest.MonkeyPatch, seconds: float, size: int
) -> None:
    monkeypatch.setattr(http_protocol, "REST_S_MAX", seconds)
    monkeypatch.setattr(http_protocol, "REST_BYTES_MAX", size)
    connection = await server.connect()
    await connection.send(b"PUT /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000000\r\n\r\n")
    assert (await connection.answer())[0] == 200
    sent = await connection.send(*[PIECE] * (4 * PIECES if seconds < 1 else PIECES))

    # Some of it stands in buffers of the kernel.
    assert seconds < 1 or sent < PIECES * len(PIECE) / 4
    assert await connection.ends()


async def test_the_rest_of_a_refused_body_does_not_end_its_connection(server: Server) -> None:
    connection = await server.connect()
    size = REST_BYTES_MAX // 2
    await connection.send(b"PUT /refused HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
    assert (await connection.answer())[0] == 200
    await connection.send(b"A" * size + ALIVE)

    assert (await connection.answer())[0] == 200


# red team 5, A6
async def test_an_answer_that_nobody_reads_has_a_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_S_MAX", 0.05)
    before = len(server.connections())
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(get(b"/large"))
        assert await until(lambda: len(server.connections()) > before, deadline_s=60)

        assert await until(lambda: len(server.connections()) == before, deadline_s=60)


async def test_an_answer_that_is_read_is_sent_to_its_end(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "UNREAD_S_MAX", 0.5)
    connection = await server.connect()
    await connection.send(get(b"/large"))

    assert await connection.answer() == (200, b"A" * LARGE)


# red team 5, A6
@pytest.mark.parametrize("name", sorted(SINGLE_FIELDS))
async def test_a_field_that_has_one_value_is_not_sent_twice(server: Server, name: bytes) -> None:
    connection = await server.connect()
    line = name + b": x"
    await connection.send(b"\r\n".join([b"GET /healthz HTTP/1.1", line, line.title(), b"", b""]))
    status, body = await connection.answer()

    assert status == 400
    assert b'"code":"repeated-field"' in body
    assert await connection.ends()


async def test_a_trailer_is_no_header(server: Server) -> None:
    connection = await server.connect()
    await connection.send(
        b"POST /headers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\nA\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
    )

    assert await connection.answer() == (200, b'["host","transfer-encoding"]')
