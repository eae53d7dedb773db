"""Large answers over real connections, plain and encrypted: dribbled, split, and ended in the middle."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest
from aiokafka import client
from aiokafka import conn as library
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import salus.messaging  # noqa: F401  # what is under test is what importing it does
from salus.messaging.receiving import BYTES_MIN, AnswerReader

HOST = "127.0.0.1"
BYTES = Random(7).randbytes(3_000_000)
SIZES = [5, BYTES_MIN, len(BYTES), 0, 17, BYTES_MIN - 1, 1_000_000]
Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]
Serve = Callable[[asyncio.StreamWriter], Awaitable[None]]


def framed(size: int) -> bytes:
    return struct.pack(">i", size) + BYTES[:size]


@pytest.fixture(params=["plain", "encrypted"])
def contexts(request: pytest.FixtureRequest, tmp_path: Path) -> Contexts:
    """What the server and the client encrypt with."""
    if request.param == "plain":
        return None, None
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "server.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=path)


@asynccontextmanager
async def connected(contexts: Contexts, serve: Serve) -> AsyncIterator[AnswerReader]:
    """Connect as the library does to somebody who serves so."""
    served = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(writer)
        finally:
            writer.close()
            served.set()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(accept, HOST, 0, ssl=contexts[0])
    async with server, asyncio.timeout(60):
        closed: asyncio.Future[None] = loop.create_future()
        reader = asyncio.StreamReader(limit=library.READER_LIMIT, loop=loop)
        protocol = library.AIOKafkaProtocol(closed, reader, loop=loop)
        address = server.sockets[0].getsockname()
        transport, _ = await loop.create_connection(lambda: protocol, *address, ssl=contexts[1])
        try:
            assert isinstance(reader, AnswerReader)
            yield reader
        finally:
            transport.close()
            await closed
            await served.wait()


async def answers(reader: AnswerReader, count: int) -> list[bytes]:
    found = []
    for _ in range(count):
        (size,) = struct.unpack(">i", await reader.readexactly(4))
        found.append(await reader.readexactly(size))
    return found


@pytest.mark.parametrize("step", [999, 100_003, 5_000_000])
async def test_answers_arrive_however_they_are_split(contexts: Contexts, step: int) -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        data = b"".join(map(framed, SIZES))
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            await asyncio.sleep(0)

    async with connected(contexts, serve) as reader:
        found = await answers(reader, len(SIZES))

    assert [*map(len, found)] == SIZES
    assert found == [BYTES[:size] for size in SIZES]


@pytest.mark.parametrize("come", [3, 4, BYTES_MIN // 2, 1_000_000])
async def test_a_server_that_closes_in_the_middle_of_an_answer_is_noticed(
    contexts: Contexts, come: int
) -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(framed(17) + framed(len(BYTES))[:come])
        await writer.drain()

    async with connected(contexts, serve) as reader:
        assert await answers(reader, 1) == [BYTES[:17]]
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await answers(reader, 1)
        assert reader.at_eof()

    assert error.value.partial in (framed(len(BYTES))[:come], BYTES[: come - 4])


async def test_a_server_that_breaks_off_is_noticed() -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(framed(len(BYTES))[:500_000])
        await writer.drain()
        await begun.wait()
        # No farewell: the other side is told that the connection is reset.
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()

    begun = asyncio.Event()
    async with connected((None, None), serve) as reader:
        reading = asyncio.create_task(answers(reader, 1))
        while not reader.lent():  # noqa: ASYNC110  # turns of the loop are what is waited for
            await asyncio.sleep(0)
        begun.set()
        with pytest.raises(ConnectionResetError):
            await reading


async def test_who_stops_reading_in_the_middle_can_go_on(contexts: Contexts) -> None:
    async def serve(writer: asyncio.StreamWriter) -> None:
        writer.write(BYTES[:1_000_000])
        await writer.drain()
        await cancelled.wait()
        writer.write(BYTES[1_000_000:])
        await writer.drain()

    cancelled = asyncio.Event()
    async with connected(contexts, serve) as reader:
        reading = asyncio.create_task(reader.readexactly(len(BYTES)))
        while not (rest := reader.lent()) or len(rest) > len(BYTES) - 500_000:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        cancelled.set()
        assert await reader.readexactly(len(BYTES)) == BYTES


@pytest.mark.parametrize("contexts", ["encrypted"], indirect=True)
async def test_who_is_cancelled_while_a_connection_is_made_ends_it_at_once(contexts: Contexts) -> None:
    """Else it is there until the other side says that it ends it as well, also when the loop is closed."""
    encrypting, trusting = contexts
    assert encrypting is not None
    # An end that the other side does not announce is an error then: Python takes it for an announced one.
    encrypting.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def ended_at_once(listening: socket.socket) -> bool:
        accepted, _ = listening.accept()
        accepted.settimeout(60)
        with encrypting.wrap_socket(accepted, server_side=True, suppress_ragged_eofs=False) as told:
            told.recv(1000)
            loop.call_soon_threadsafe(asked.set)
            try:
                while told.recv(1000):
                    pass
            except (ssl.SSLError, ConnectionResetError):
                return True
            return False

    with socket.create_server((HOST, 0)) as listening:
        listening.settimeout(60)
        serving = asyncio.create_task(asyncio.to_thread(ended_at_once, listening))
        options = {"security_protocol": "SSL", "ssl_context": trusting}
        making = asyncio.create_task(client.create_conn(*listening.getsockname(), **options))
        await asked.wait()
        making.cancel()
        await asyncio.wait([making])

        assert making.cancelled()
        assert await serving
