"""Lets the client library read records whose header names are not UTF-8, which it refuses by itself.

The broker takes such records from anybody who may write, and whoever reads the partition would stop there
for ever: one record would halt every service. Here such a name is read with U+FFFD in it. No name that
anything looks for holds that character, so the record is judged as if it had no such header.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

from salus.messaging.receiving import Piece

_MAGIC_V2 = 2


class _TolerantBytes(bytearray):
    """Bytes whose slices decode whatever they hold."""

    def __getitem__(self, at: SupportsIndex | slice) -> Any:
        part = super().__getitem__(at)
        return _TolerantBytes(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace" if errors == "strict" else errors)


class _TolerantBatch(_DefaultRecordBatchPy):  # type: ignore[misc]  # final for type checkers only
    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer: bytearray = _TolerantBytes(self._buffer)


class Batch:
    """A record batch as the fast parser reads it; the slow one takes over where that one gives up."""

    def __init__(self, batch: Any, raw: memoryview, answer: bytes, end: int) -> None:
        """`raw` is what is in `answer` before `end`."""
        self._batch = batch
        self.raw = raw
        self.answer = answer
        self.end = end

    def __getattr__(self, name: str) -> Any:
        """Return what the library's own batch says."""
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """Return the next record; only control records, which have no headers, are asked for like this."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        """Return the records, each once, whatever their headers are called."""
        try:
            return iter(list(self._batch))
        except UnicodeDecodeError:
            return iter(_TolerantBatch(bytes(self.raw)))


class Records(_MemoryRecordsPy):  # type: ignore[misc]  # final for type checkers only
    """The batches of a partition in one answer of the broker."""

    def __init__(self, found: Piece | bytes) -> None:
        self._answer, self._begin, end = found if isinstance(found, Piece) else (found, 0, len(found))
        super().__init__(memoryview(self._answer)[self._begin : end])

    def next_batch(self) -> Any:
        """Return the next batch, or None."""
        raw, end = self._next_slice, self._pos
        batch = super().next_batch()
        # The formats before v2 know no headers.
        if raw is None or raw[self.MAGIC_OFFSET] < _MAGIC_V2:
            return batch
        return Batch(batch, raw, self._answer, self._begin + end)


def install() -> None:
    """Make the client library of this process read so."""
    fetcher.MemoryRecords = Records  # the library has no hook for it
