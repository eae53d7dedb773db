"""Members' witnesses over HTTP, each on a connection that is kept.

A general client takes 2 to 4 ms of processor time for a request, and this takes 0.2: with each checkpoint all
witnesses are asked at once, so what that costs comes as many times as there are witnesses.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import httptools
import httpx

from salus.anchoring.domain import cosigning_request
from salus.anchoring.ports import OtherSizeError, WitnessError
from salus.ledger.base import int_of_decimal
from salus.runtime.negotiation import media_type

# A few ML-DSA-44 signatures and the headers; an answer beyond this is none.
ANSWER_BYTES_MAX = 40_960
READ_BYTES = 16_384
SIZE = "text/x.tlog.size"
_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HttpWitness:
    """One witness, asked one thing at a time; whoever made it closes it."""

    def __init__(self, url: str) -> None:
        split = urlsplit(url)
        secure = split.scheme == "https"
        if not split.hostname or not (secure or split.scheme == "http"):
            raise ValueError(f"{url!r} is not the HTTP address of a witness")
        self._host = split.hostname
        self._port = split.port or (443 if secure else 80)
        self._tls = httpx.create_ssl_context(trust_env=False) if secure else None
        self._head = (
            f"POST {split.path.rstrip('/')}/add-checkpoint HTTP/1.1\r\n"
            f"Host: {split.netloc.rpartition('@')[2]}\r\nUser-Agent: salus-anchoring\r\nAccept: */*\r\n"
        )
        self._streams: _Streams | None = None
        # A thread that asks for an address cannot be given up, and who runs the witness's name server decides
        # how long it takes: among the threads that all share, such ones would leave none to sign with.
        self._resolver = ThreadPoolExecutor(1, thread_name_prefix="witness-address")

    async def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
        """Return its signature lines."""
        body = cosigning_request(old_size, proof, note)
        try:
            answer = await self._ask(body)
        except (OSError, EOFError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise WitnessError(f"it does not answer: {type(error).__name__}") from error
        if answer.status == HTTPStatus.OK:
            return bytes(answer.body)
        if answer.status == HTTPStatus.CONFLICT:
            kind = media_type(answer.content_type.decode("latin-1"))
            if kind != SIZE:
                raise WitnessError(f"it refuses: 409 of type {kind or 'none'}, not {SIZE}")
            try:
                size = int_of_decimal(answer.body.decode("ascii").removesuffix("\n"))
            except ValueError:
                raise WitnessError("it tells a size that is none") from None
            raise OtherSizeError(size)
        raise WitnessError(f"it refuses: {answer.status}")

    async def close(self) -> None:
        """Disconnect."""
        if self._streams is not None:
            self._drop()
            await asyncio.sleep(0)

    async def _ask(self, body: bytes) -> _Answer:
        """Ask, once more where a kept connection turns out to be closed: asking twice changes nothing."""
        request = f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        if self._streams is not None and not self._streams[0].at_eof():
            try:
                return await self._exchange(self._streams, request)
            except (OSError, EOFError):
                pass
        self._drop()
        self._streams = await self._connected()
        return await self._exchange(self._streams, request)

    async def _connected(self) -> _Streams:
        """Connect to the first address that takes it; one question for addresses is under way at a time."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._resolver, partial(socket.getaddrinfo, self._host, self._port, type=socket.SOCK_STREAM)
        )
        failed = OSError("the name has no address")
        name = self._host if self._tls else None
        for *_, (address, *_) in found:
            try:
                return await asyncio.open_connection(
                    str(address), self._port, ssl=self._tls, server_hostname=name
                )
            except OSError as error:
                failed = error
        raise failed

    async def _exchange(self, streams: _Streams, request: bytes) -> _Answer:
        reader, writer = streams
        answer = _Answer()
        try:
            writer.write(request)
            while not answer.complete:
                answer.take(await reader.read(READ_BYTES))
        except BaseException:
            # Also when cancelled: the rest of this answer must not be taken for the next one.
            self._drop()
            raise
        if not answer.keeps:
            self._drop()
        return answer

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


class _Answer:
    """An answer as it comes in; `keeps` says whether another request may be sent on the connection."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.content_type = b""
        self.complete = False
        self.keeps = False
        self._left = ANSWER_BYTES_MAX
        self._framed = False
        self._headed = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def status(self) -> int:
        """The status code."""
        return int(self._parser.get_status_code())

    def take(self, data: bytes) -> None:
        """Take what was read, nothing at the end of the connection.

        Raises:
            EOFError: the connection ended within the answer.
            HttpParserError: this is not HTTP.
            HttpParserUpgrade: it goes on in another protocol; this is no HttpParserError.
            WitnessError: it is too long.
        """
        self._left -= len(data)
        if self._left < 0:
            raise WitnessError(f"its answer has more than {ANSWER_BYTES_MAX} bytes")
        if data:
            self._parser.feed_data(data)
        elif self._headed and not self._framed:
            self.complete = True
        else:
            raise EOFError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; httptools calls this."""
        name = name.lower()
        if name == b"content-type":
            self.content_type = value
        self._framed |= name in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        """Note that the body begins; httptools calls this."""
        self._headed = True

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body; httptools calls this."""
        self.body += data

    def on_message_complete(self) -> None:
        """Note that the answer has ended; httptools calls this."""
        self.complete = True
        # Afterwards the parser is at the beginning of another answer.
        self.keeps = self._framed and bool(self._parser.should_keep_alive())
