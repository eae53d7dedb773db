"""Thrift's compact protocol, read by the shapes that a Parquet file has, without trust in its writer.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md. Whoever reads a file twice,
here and in a decoder, must not be shown two files: a field that no shape has, that stands twice, or whose
type is another one than the shape says is refused, for decoders pass over some of these and believe others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salus.archive.errors import BodyError

Fields = dict[int, Any]
"""Fields by number: integers, truths, lists and structures; in the place of bytes stands None."""
TRUTH, BYTE, I16, I32, I64, BINARY, LIST, STRUCT = 1, 3, 4, 5, 6, 8, 9, 12
Shape = int | list[Any] | Mapping[int, Any]
"""A type: one of the numbers, a list of one shape, or a structure's shapes by the number of the field."""
Shapes = dict[int, Any]
_FALSE, _STOP, _LONG_LIST = 2, 0, 15


def struct_at(data: bytes, at: int, end: int, shapes: Mapping[int, Shape]) -> tuple[Fields, int]:
    """Return the structure that begins at a place, and where it ends, which is at `end` or before.

    Raises:
        BodyError: there is none of these shapes.
    """
    fields: Fields = {}
    field = 0
    while True:
        if at >= end:
            raise BodyError("a structure of the file that is cut off")
        byte, at = data[at], at + 1
        if byte == _STOP:
            return fields, at
        field += byte >> 4
        if byte >> 4 == 0:
            field, at = _zigzag(data, at, end)
        kind, shape = byte & 15, shapes.get(field)
        if shape is None or field in fields or kind not in _kinds(shape):
            raise BodyError("a field of the file that is not of its shape, or stands twice")
        fields[field], at = (kind == TRUTH, at) if shape == TRUTH else _value(data, at, end, shape)


def _kinds(shape: Shape) -> tuple[int, ...]:
    """Return how a field of this shape may be marked; a truth is in its mark."""
    if isinstance(shape, int):
        return (TRUTH, _FALSE) if shape == TRUTH else (shape,)
    return (LIST,) if isinstance(shape, list) else (STRUCT,)


def _value(data: bytes, at: int, end: int, shape: Shape) -> tuple[Any, int]:
    if isinstance(shape, Mapping):
        return struct_at(data, at, end, shape)
    if isinstance(shape, list):
        return _list(data, at, end, shape[0])
    if shape == BYTE:
        return None, at + 1
    number, at = _varint(data, at, end)
    if shape == BINARY:
        if number > end - at:
            raise BodyError("a text of the file that is cut off")
        return None, at + number
    return (number >> 1) ^ -(number & 1), at


def _list(data: bytes, at: int, end: int, shape: Shape) -> tuple[list[Any], int]:
    if at >= end:
        raise BodyError("a list of the file that is cut off")
    head, at = data[at], at + 1
    count = head >> 4
    if count == _LONG_LIST:
        count, at = _varint(data, at, end)
    if (head & 15,) != _kinds(shape) or count > end - at:
        raise BodyError("a list of the file that is not of its shape, or cut off")
    values = []
    for _ in range(count):
        value, at = _value(data, at, end, shape)
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
