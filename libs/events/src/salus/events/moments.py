"""Reads the times in an event's data by the one rule of `salus.ledger.times`, and not by a parser's own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Any

from msgspec import inspect

from salus.ledger.times import read_time


class MomentError(ValueError):
    """A field that is a time holds none; `place` is its path, made of names of the schema."""

    def __init__(self, why: str, *, place: str) -> None:
        super().__init__(why)
        self.place = place


@lru_cache(maxsize=1024)
def holds_moments(kind: Any) -> bool:
    """Tell whether a class has a time among its fields, or in what is in them."""
    return _holds(_type_info(kind))


def with_moments(decoded: Any, kind: Any) -> Any:
    """Return decoded JSON in which what is to be a time is one; what has another shape stays as it is.

    Raises:
        MomentError: a text that is to be a time is none.
    """
    return _read(decoded, _type_info(kind), "$")


def moments_of(data: Any, kind: Any) -> Iterator[datetime]:
    """Yield every time in typed data."""
    if holds_moments(kind):
        yield from _moments(data, _type_info(kind))


_type_info = lru_cache(maxsize=1024)(inspect.type_info)


def _holds(info: inspect.Type) -> bool:
    match info:
        case inspect.DateTimeType():
            return True
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return _holds(inner)
        case inspect.StructType(fields=fields):
            return any(_holds(field.type) for field in fields)
        case inspect.UnionType(types=types):
            return any(map(_holds, types))
    return False


def _read(decoded: Any, info: inspect.Type, place: str) -> Any:
    match info:
        case inspect.DateTimeType() if isinstance(decoded, str):
            try:
                return read_time(decoded)
            except ValueError as error:
                raise MomentError(str(error), place=place) from None
        case inspect.Metadata(type=inner):
            return _read(decoded, inner, place)
        case inspect.VarTupleType(item_type=item) if isinstance(decoded, list):
            return [_read(part, item, f"{place}[{index}]") for index, part in enumerate(decoded)]
        case inspect.StructType(fields=fields) if isinstance(decoded, dict):
            known = {field.encode_name: field.type for field in fields}
            return {
                name: _read(value, known[name], f"{place}.{name}") if name in known else value
                for name, value in decoded.items()
            }
        case inspect.UnionType(types=types):
            for kind in types:
                decoded = _read(decoded, kind, place)
    return decoded


def _moments(data: Any, info: inspect.Type) -> Iterator[datetime]:
    match info:
        case inspect.DateTimeType() if isinstance(data, datetime):
            yield data
        case inspect.Metadata(type=inner):
            yield from _moments(data, inner)
        case inspect.VarTupleType(item_type=item) if isinstance(data, tuple):
            for part in data:
                yield from _moments(part, item)
        case inspect.StructType(fields=fields) if data is not None:
            for field in fields:
                yield from _moments(getattr(data, field.name), field.type)
        case inspect.UnionType(types=types):
            for kind in types:
                yield from _moments(data, kind)
        case _:
            pass
