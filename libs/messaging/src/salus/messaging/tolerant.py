"""Lets the client library read records whose header names are not UTF-8, which it refuses by itself.

The broker takes such records from anybody who may write, and whoever reads the partition would stop there
for ever: one record would halt every service. Here such a name is read with U+FFFD in it. No name that
anything looks for holds that character, so the record is judged as if it had no such header.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from crc32c import crc32c

from salus.ledger.record_batches import unpack_batch
from salus.messaging.compression import UnreadableError, is_compressed, uncompressed
from salus.messaging.receiving import Piece

_log = logging.getLogger(__name__)
_MAGIC_V2 = 2
# Where a batch has its checksum, and where what it is over begins.
_CRC, CHECKED_FROM = slice(17, 21), 21
# The same of the formats before v2, and where those say whether they are compressed.
_OLD_CHECKED_FROM, _OLD_ATTRIBUTES_AT, _OLD_CODEC = 16, 17, 0x07
# Where both say who dated the records. The bit is the broker's: it refuses a batch that comes with it, and
# clears it where a topic takes the sender's time.
_ATTRIBUTES_AT, _LOG_APPEND_TIME = 22, 0x08


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
        self._raw = raw
        self._answer = answer
        self._end = end
        self._expanded = b""
        self.is_v2 = raw[_MemoryRecordsPy.MAGIC_OFFSET] >= _MAGIC_V2

    def __getattr__(self, name: str) -> Any:
        """Return what the library's own batch says."""
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        """Return the next record; only control records, which have no headers, are asked for like this."""
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        """Return the records for consumers of the library, which have no word for a flaw: none then.

        What is raised here would stop them at this batch for ever.
        """
        try:
            return self.records()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the libraries of the codecs raise
            _log.warning(
                "a batch that cannot be read is passed over, up to offset %d: %s",
                self.next_offset,
                type(error).__name__,
            )
            return iter(())

    def records(self) -> Iterator[Any]:
        """Return the records, each once, whatever their headers are called.

        Raises:
            CorruptRecordException: there are none to be made of it, see `UnreadableError`.
        """
        if not self.is_v2:
            if self._raw[_OLD_ATTRIBUTES_AT] & _OLD_CODEC:
                raise UnreadableError("nothing bounds what a batch of the formats before v2 expands to")
            return iter(list(self._batch))
        data, begin, end = self.plain()
        # Here the library makes an object for each record and header: only of what is bounded.
        if unpack_batch(data, begin, end) is None:
            raise UnreadableError("its records cannot be told, do not stand at its offsets, or are too many")
        raw = memoryview(data)[begin:end]
        try:
            return iter(list(DefaultRecordBatch(raw)))
        except UnicodeDecodeError:
            return iter(list(_TolerantBatch(bytes(raw))))

    @property
    def checked(self) -> memoryview:
        """The bytes that its checksum is over."""
        return self._raw[CHECKED_FROM if self.is_v2 else _OLD_CHECKED_FROM :]

    @property
    def has_offsets(self) -> bool:
        """Whether it has at least one offset; a broker gives no batch fewer."""
        first = self.base_offset if self.is_v2 else self.next_offset - 1
        return bool(self.next_offset > first >= 0)

    @property
    def is_dated_by_broker(self) -> bool:
        """Whether the time of its records is when the broker appended them, not what their sender says."""
        attributes = self._raw[_ATTRIBUTES_AT if self.is_v2 else _OLD_ATTRIBUTES_AT]
        return self._raw[_MemoryRecordsPy.MAGIC_OFFSET] > 0 and bool(attributes & _LOG_APPEND_TIME)

    def has_right_checksum(self) -> bool:
        """Tell whether it is as it was sent, in a format that we know."""
        if not self.is_v2:
            return bool(self._batch.validate_crc())
        if self._raw[_MemoryRecordsPy.MAGIC_OFFSET] != _MAGIC_V2:
            return False
        return crc32c(self.checked) == int.from_bytes(self._raw[_CRC], "big")

    def plain(self) -> tuple[bytes, int, int]:
        """Return bytes that have this batch of format v2 uncompressed, and where it begins and ends in them.

        Raises:
            UnreadableError: its compression cannot be undone.
        """
        if not is_compressed(self._raw):
            return self._answer, self._end - len(self._raw), self._end
        self._expanded = self._expanded or uncompressed(self._raw)
        return self._expanded, 0, len(self._expanded)


class Records(_MemoryRecordsPy):  # type: ignore[misc]  # final for type checkers only
    """The batches of a partition in one answer of the broker."""

    def __init__(self, found: Piece | bytes) -> None:
        self._answer, self._begin, end = found if isinstance(found, Piece) else (found, 0, len(found))
        super().__init__(memoryview(self._answer)[self._begin : end])
        self._is_cut_off = self._next_slice is None and end > self._begin

    def has_next(self) -> bool:
        """Tell whether there is another batch; there is a broken one where not even the first is whole.

        Brokers send the first batch whole, however large. The library would pass over an offset there.
        """
        return self._is_cut_off or bool(super().has_next())

    def next_batch(self) -> Any:
        """Return the next batch, or None.

        Raises:
            CorruptRecordException: it is not as long as it says.
        """
        if self._is_cut_off:
            raise CorruptRecordException("a record batch is longer than what was received of it")
        raw, end = self._next_slice, self._pos
        batch = super().next_batch()
        return None if raw is None else Batch(batch, raw, self._answer, self._begin + end)


def install() -> None:
    """Make the client library of this process read so."""
    fetcher.MemoryRecords = Records  # the library has no hook for it
