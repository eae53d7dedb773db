"""Where the parts of the records of a Kafka record batch lie, so that nobody makes an object for each.

Only `native/record_batches.c` does it, for batches as they usually are: everything else, and everything where
it is missing, is for the Kafka client library to read. What is unpacked here reads the same there.
"""

from __future__ import annotations

import ctypes
import struct
from array import array
from collections.abc import Callable

from salus.ledger.hashing import LIBRARY
from salus.ledger.records import STRIDE

# The number changes with the arguments, as in `hashing`, and with what is refused.
FUNCTION = "salus_unpack_batch_3"
HEADER_BYTES = 61
RECORD_BYTES_MIN = 7
"""One byte each for length, attributes, two deltas, key, value and the number of headers."""
_COUNT = struct.Struct(">I")
_COUNT_AT = 57

Unpacked = tuple["array[int]", "array[int]", "array[int]"]
"""Offsets, timestamps and spans, as `salus.ledger.records.Records` have them."""
Unpack = Callable[[bytes, int, int], Unpacked | None]


def unpack_batch(data: bytes, begin: int, end: int) -> Unpacked | None:
    """Return what is in the batch `data[begin:end]`, whose checksum is right; None if it is unusual."""
    return None if _unpack is None else _unpack(data, begin, end)


def load(path: str = LIBRARY) -> Unpack | None:
    """Return the library's function; None if it is not there."""
    try:
        # Where others compute, giving the interpreter lock away and waiting for it costs more than the call.
        run = ctypes.PyDLL(path)[FUNCTION]
    except (OSError, AttributeError):
        return None
    address, number = ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [ctypes.c_char_p, number, number, number, address, address, address]

    def unpack(data: bytes, begin: int, end: int) -> Unpacked | None:
        if not 0 <= begin <= end - HEADER_BYTES <= len(data) - HEADER_BYTES:
            return None
        count: int = _COUNT.unpack_from(data, begin + _COUNT_AT)[0]
        if count > (end - begin) // RECORD_BYTES_MIN:
            return None
        # A batch of tiny records has 72 bytes of them for each of its own 10, so they are made once.
        columns = [array("q", (0,)) * (width * count) for width in (1, 1, STRIDE)]
        refused = run(data, begin, end, count, *(column.buffer_info()[0] for column in columns))
        offsets, timestamps, spans = columns
        return None if refused else (offsets, timestamps, spans)

    return unpack


_unpack = load()
