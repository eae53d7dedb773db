"""Lets the client library receive a large answer right into the bytes that it becomes, and leave it there.

By itself it receives pieces, appends each to what it has, takes the answer out in the end, and of that the
records of each partition: every byte is copied three times more, into memory that is new each time, and that
was most of what fetching cost. Here the event loop is given the answer itself to write into, and records stay
where they are in it. Small answers are received the library's way.
"""

from __future__ import annotations

import asyncio
import ctypes
import weakref
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka import conn as library
from aiokafka.protocol import fetch
from aiokafka.protocol.types import Array, Bytes, Int32, Schema

from salus.ledger.records import unwritten

# Of a smaller answer most came along with its size.
BYTES_MIN = 64 * 1024
# Far above what is asked for. For more than that, memory is taken as it comes and not when it is announced.
BYTES_MAX = 256 * 1024 * 1024
PIECE_BYTES = 64 * 1024


class AnswerReader(asyncio.StreamReader):
    """A stream that lends out the bytes that are waited for; with everything else it is the usual one."""

    _rest: memoryview | None = None
    """What has not come yet of the bytes that are waited for; never empty."""
    _end: asyncio.Future[None] | None = None
    """Done when they are all there or when nothing comes any more."""

    async def readexactly(self, n: int) -> bytes:
        """Return what `asyncio.StreamReader` does, with its errors."""
        held: bytearray = self._buffer  # type: ignore[attr-defined]  # there is no other way to know how many
        if not max(BYTES_MIN, len(held) + 1) <= n <= BYTES_MAX or self.exception():
            return await super().readexactly(n)
        # Taking out what there is also lets the transport go on.
        began = await self.read(n) if held else b""
        if self.at_eof():
            raise asyncio.IncompleteReadError(began, n)
        answer = unwritten(n)
        missing = await self._received(_writable(answer), began)
        if error := self.exception():
            raise error
        if missing:
            raise asyncio.IncompleteReadError(answer[: n - missing], n)
        return answer

    async def _received(self, answer: memoryview, began: bytes) -> int:
        """Let the answer be written, and return how much of it is missing after the end."""
        self._end = asyncio.get_running_loop().create_future()
        self._rest = answer
        self.feed_data(began)
        try:
            await self._end
        except asyncio.CancelledError:
            # Whoever reads next finds what has come, before what came after it.
            self._buffer[:0] = answer[: len(answer) - len(self._rest or b"")]  # type: ignore[attr-defined]
            self._rest = None
            raise
        missing, self._rest = len(self._rest or b""), None
        return missing

    def lent(self) -> memoryview | None:
        """Return where what comes next is to be written; None if nobody waits for so much."""
        return self._rest

    def take(self, count: int) -> None:
        """Take note that so much was written to the beginning of what is lent."""
        if self._rest is not None:
            self._rest = self._rest[count:] or None
        if self._rest is None:
            self._ended()

    def feed_data(self, data: bytes | memoryview) -> None:  # type: ignore[override]  # all that is ever fed
        """Take what was written elsewhere."""
        if self._rest is not None:
            count = min(len(data), len(self._rest))
            self._rest[:count] = data[:count]
            self.take(count)
            data = data[count:]
        super().feed_data(data)

    def feed_eof(self) -> None:
        """Take note that nothing comes any more."""
        super().feed_eof()
        self._ended()

    def set_exception(self, exc: Exception) -> None:
        """Let whoever reads fail."""
        super().set_exception(exc)
        self._ended()

    def _ended(self) -> None:
        if self._end is not None and not self._end.done():
            self._end.set_result(None)


class AnswerProtocol(library.AIOKafkaProtocol, asyncio.BufferedProtocol):  # type: ignore[misc]  # the library has no types
    """The library's end of a connection, which says where what comes is to be written."""

    def __init__(self, closed: asyncio.Future[None], reader: asyncio.StreamReader, **named: Any) -> None:
        super().__init__(closed, reader, **named)
        # The library makes the reader itself, and asks nobody of what kind.
        reader.__class__ = AnswerReader
        # As in the library: with a cycle, a connection that nobody closes would stay open.
        self._answers = weakref.ref(reader)
        self._piece = memoryview(bytearray(PIECE_BYTES))
        self._given = self._piece

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        """Return where to write what comes: the answer that is waited for, or a piece for the reader."""
        self._given = self._lent() or self._piece
        return self._given

    def buffer_updated(self, nbytes: int) -> None:
        """Take note that so much was written there."""
        reader, given = self._answers(), self._given
        self._given = self._piece
        if not isinstance(reader, AnswerReader):
            return
        if given is reader.lent():
            reader.take(nbytes)
        else:
            reader.feed_data(given[:nbytes])

    def _lent(self) -> memoryview | None:
        reader = self._answers()
        return reader.lent() if isinstance(reader, AnswerReader) else None


class Piece(NamedTuple):
    """Some of the bytes of an answer, where they are."""

    answer: bytes
    begin: int
    end: int


class RecordBytes(Bytes):  # type: ignore[misc]  # the library has no types
    """The records of a partition in an answer of the broker: bytes behind their number, or None."""

    @classmethod
    def decode(cls, data: BytesIO) -> Piece | None:
        """Pass over them and say where they are.

        Raises:
            ValueError: there are fewer.
        """
        length = Int32.decode(data)
        if length < 0:
            return None
        # These are the bytes that were received, not a copy.
        answer, begin = data.getvalue(), data.tell()
        end = data.seek(begin + length)
        if end > len(answer):
            raise ValueError("fewer records than announced")
        return Piece(answer, begin, end)

    @classmethod
    def repr(cls, value: Piece | None) -> str:
        """Return how many there are, for the library's log."""
        return "NULL" if value is None else f"{value.end - value.begin} bytes"


def _leave_records(schema: Any) -> None:
    fields = [RecordBytes if field is Bytes else field for field in schema.fields]
    for field in fields:
        if isinstance(field, Array) and isinstance(field.array_of, Schema):
            _leave_records(field.array_of)
    schema.fields = tuple(fields)


_ANY = ctypes.POINTER(ctypes.c_char * BYTES_MAX)


def _writable(data: bytes) -> memoryview:
    """Return bytes that nobody has seen yet, to be written."""
    # The view keeps the pointer, and that the bytes; of all that the pointer's type speaks of it shows these.
    return memoryview(ctypes.cast(ctypes.c_char_p(data), _ANY).contents).cast("B")[: len(data)]


def install() -> None:
    """Make the client library of this process receive so."""
    # The library has no hook for either.
    library.AIOKafkaProtocol = AnswerProtocol
    for name, answer in vars(fetch).items():
        if name.startswith("FetchResponse_"):
            _leave_records(answer.SCHEMA)
