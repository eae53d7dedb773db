"""What rows hash to, and whether their columns repeat their events, straight out of Arrow's buffers.

`native/event_columns.c` of salus-ledger does it, with the interpreter lock released. Where that library is
missing nothing is known here, and `salus.archive.sound_body` does it by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence

import pyarrow as pa

from salus.ledger.block import LEAF_ORIGIN
from salus.ledger.hashing import LIBRARY, lanes
from salus.ledger.merkle import HASH_SIZE, LEAF_PREFIX

# The numbers change with the arguments, as in `salus.ledger.hashing`.
FUNCTIONS = ("salus_leaf_hashes_2", "salus_repeats_events_1")
_BEFORE_LEAF = LEAF_PREFIX + LEAF_ORIGIN


class _Column(ctypes.Structure):
    """An Arrow array, which must outlive it, as `event_columns.c` sees it."""

    _fields_ = (
        ("valid", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("first", ctypes.c_uint64),
        ("data_size", ctypes.c_uint64),
    )


class QuickRows:
    """The library's functions. Columns are arrays of one length and of the types of a body's, by name."""

    def __init__(self, path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        library = ctypes.CDLL(path)
        self._hash, self._repeat = (library[name] for name in FUNCTIONS)
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self._hash.argtypes = [count, ctypes.c_char_p, count, *[address] * 9]
        self._repeat.argtypes = [count, *[address] * 4]

    def leaf_hashes(self, columns: Mapping[str, pa.Array]) -> bytes:
        """Return the rows' leaf hashes, joined, out of what a leaf has, and value or digest.

        Raises:
            ValueError: the arrays are not whole.
        """
        texts = {name: _column(columns[name]) for name in ("topic", "status", "signature", "value")}
        rows = len(columns["value"])
        out = ctypes.create_string_buffer(HASH_SIZE * rows)
        kept = _cells(columns["digest"], HASH_SIZE) if columns["value"].null_count else None
        failed = self._hash(
            rows,
            _BEFORE_LEAF,
            len(_BEFORE_LEAF),
            ctypes.byref(texts["topic"]),
            _cells(columns["partition"], 4),
            _cells(columns["offset"], 8),
            _cells(columns["timestamp"], 8),
            ctypes.byref(texts["status"]),
            ctypes.byref(texts["signature"]),
            ctypes.byref(texts["value"]),
            kept,
            out,
        )
        if failed:
            raise ValueError("not the columns of a body")
        return out.raw

    def doubtful(self, columns: Mapping[str, pa.Array]) -> Sequence[int]:
        """Return the rows with a value of which it is not certain that the columns repeat it.

        Raises:
            ValueError: the arrays are not whole.
        """
        texts = (_Column * 5)(
            *(_column(columns[name]) for name in ("id", "source", "type", "subject", "time"))
        )
        rows = len(columns["value"])
        out = ctypes.create_string_buffer(rows)
        value = _column(columns["value"])
        times = _cells(columns["time"], 8)
        if self._repeat(rows, ctypes.byref(value), texts, times, out):
            raise ValueError("not the columns of a body")
        sure = out.raw
        return [row for row, it in enumerate(sure) if not it] if 0 in sure else ()


def load(path: str = LIBRARY) -> QuickRows | None:
    """Return the library's functions; None if it is not there, or of no use on this processor."""
    try:
        return QuickRows(path) if lanes() > 1 else None
    except (OSError, AttributeError):
        return None


def _column(array: pa.Array) -> _Column:
    valid, *places, data = array.buffers()
    return _Column(
        valid.address if valid is not None else None,
        places[0].address if places else None,
        data.address if data is not None else None,
        array.offset,
        data.size if data is not None else 0,
    )


def _cells(array: pa.Array, width: int) -> int:
    """Return where the cells of a column of fixed width begin; raises ValueError if some lack."""
    data = array.buffers()[1]
    if data is None or data.size < (array.offset + len(array)) * width:
        raise ValueError("not the columns of a body")
    begin: int = data.address + array.offset * width
    return begin
