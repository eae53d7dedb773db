"""Reads the times in an event's data by the one rule of `salus.ledger.times`, and not by a parser's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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


def holds_moments(kind: Any) -> bool:
    """Tell whether a class has a time among its fields, or in what is in them."""
    return _reader_of(kind) is not None


def with_moments(decoded: Any, kind: Any) -> Any:
    """Return decoded JSON in which what is to be a time is one; what has another shape stays as it is.

    Raises:
        MomentError: a text that is to be a time is none.
    """
    read = _reader_of(kind)
    return decoded if read is None else read(decoded, "$")


def moments_of(data: Any, kind: Any) -> Iterator[datetime]:
    """Yield every time in typed data."""
    find = _finder_of(kind)
    return iter(()) if find is None else find(data)


_type_info = lru_cache(maxsize=1024)(inspect.type_info)


_Reader = Callable[[Any, str], Any]


@lru_cache(maxsize=1024)
def _reader_of(kind: Any) -> _Reader | None:
    return _reader(_type_info(kind))


def _reader(info: inspect.Type) -> _Reader | None:
    """Return what reads the times in a decoded value that has a place; None if it is to have none."""
    match info:
        case inspect.DateTimeType():
            return _read_moment
        case inspect.Metadata(type=inner):
            return _reader(inner)
        case inspect.VarTupleType(item_type=item) if (read := _reader(item)) is not None:
            return _items_reader(read)
        case inspect.StructType(fields=fields):
            known = {field.encode_name: read for field in fields if (read := _reader(field.type))}
            return _fields_reader(known) if known else None
        case inspect.UnionType(types=types):
            readers = [read for kind in types if (read := _reader(kind)) is not None]
            return _union_reader(readers) if readers else None
    return None


def _read_moment(decoded: Any, place: str) -> Any:
    if not isinstance(decoded, str):
        return decoded
    try:
        return read_time(decoded)
    except ValueError as error:
        raise MomentError(str(error), place=place) from None


def _items_reader(read: _Reader) -> _Reader:
    def items(decoded: Any, place: str) -> Any:
        if not isinstance(decoded, list):
            return decoded
        return [read(part, f"{place}[{index}]") for index, part in enumerate(decoded)]

    return items


def _fields_reader(known: Mapping[str, _Reader]) -> _Reader:
    def fields(decoded: Any, place: str) -> Any:
        if not isinstance(decoded, dict):
            return decoded
        return {
            name: known[name](value, f"{place}.{name}") if name in known else value
            for name, value in decoded.items()
        }

    return fields


def _union_reader(readers: Sequence[_Reader]) -> _Reader:
    def union(decoded: Any, place: str) -> Any:
        for read in readers:
            decoded = read(decoded, place)
        return decoded

    return union


_Finder = Callable[[Any], Iterator[datetime]]


@lru_cache(maxsize=1024)
def _finder_of(kind: Any) -> _Finder | None:
    return _finder(_type_info(kind))


def _finder(info: inspect.Type) -> _Finder | None:
    """Return what yields the times in a typed value; None if there can be none."""
    match info:
        case inspect.DateTimeType():
            return _one_moment
        case inspect.Metadata(type=inner):
            return _finder(inner)
        case inspect.VarTupleType(item_type=item) if (find := _finder(item)) is not None:
            return _items_finder(find)
        case inspect.StructType(fields=fields):
            known = [(field.name, find) for field in fields if (find := _finder(field.type)) is not None]
            return _fields_finder(known) if known else None
        case inspect.UnionType(types=types):
            finders = [find for kind in types if (find := _finder(kind)) is not None]
            return _union_finder(finders) if finders else None
    return None


def _one_moment(data: Any) -> Iterator[datetime]:
    if isinstance(data, datetime):
        yield data


def _items_finder(find: _Finder) -> _Finder:
    def items(data: Any) -> Iterator[datetime]:
        if isinstance(data, tuple):
            for part in data:
                yield from find(part)

    return items


def _fields_finder(known: Sequence[tuple[str, _Finder]]) -> _Finder:
    def fields(data: Any) -> Iterator[datetime]:
        if data is not None:
            for name, find in known:
                yield from find(getattr(data, name))

    return fields


def _union_finder(finders: Sequence[_Finder]) -> _Finder:
    def union(data: Any) -> Iterator[datetime]:
        for find in finders:
            yield from find(data)

    return union
