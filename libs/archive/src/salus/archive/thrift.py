"""Thrift's compact protocol, as far as Parquet files use it, read without trust in whoever wrote it.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

from salus.archive.errors import BodyError

_DEPTH_MAX = 8
_STOP, _LONG_LIST = 0, 15
Fields = dict[int, Any]
"""Fields by number: integers, truths, lists, structures; in the place of bytes and floats stands None."""


def struct_at(data: bytes, at: int, end: int, depth: int = 0) -> tuple[Fields, int]:
    """Return the structure that begins at a place, before another, and where it ends.

    Raises:
        BodyError: there is none.
    """
    fields: Fields = {}
    field = 0
    while True:
        if at >= end or depth > _DEPTH_MAX:
            raise BodyError("a structure of the file that is none")
        byte, at = data[at], at + 1
        if byte == _STOP:
            return fields, at
        field += byte >> 4
        if byte >> 4 == 0:
            field, at = _zigzag(data, at, end)
        fields[field], at = _value(data, at, end, byte & 15, depth)


def _value(data: bytes, at: int, end: int, kind: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 1 | 2:
            return kind == 1, at
        case 4 | 5 | 6:
            return _zigzag(data, at, end)
        case 3 | 7 | 8:
            length, at = _varint(data, at, end) if kind == 8 else (1 if kind == 3 else 8, at)
            return None, at + length
        case 9:
            return _list(data, at, end, depth + 1)
        case 12:
            return struct_at(data, at, end, depth + 1)
    raise BodyError("a field of the file that Parquet has none of")


def _list(data: bytes, at: int, end: int, depth: int) -> tuple[list[Any], int]:
    if at >= end or depth > _DEPTH_MAX:
        raise BodyError("a list of the file that is none")
    head, at = data[at], at + 1
    count, kind = head >> 4, head & 15
    if count == _LONG_LIST:
        count, at = _varint(data, at, end)
    values = []
    for _ in range(count):
        # Each has a byte at least, a truth too: here it is not in the kind.
        if at >= end:
            raise BodyError("a list of the file that is cut off")
        value, at = (data[at] == 1, at + 1) if kind in {1, 2} else _value(data, at, end, kind, depth)
        values.append(value)
    return values, at


def _zigzag(data: bytes, at: int, end: int) -> tuple[int, int]:
    number, at = _varint(data, at, end)
    return (number >> 1) ^ -(number & 1), at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte, at = data[at], at + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise BodyError("a number of the file that is cut off")
