"""Decodes JSON that is known to be what its class says: patterns and bounds are not looked at again.

Only for texts that a program of `salus.events.recognizers` came through: others may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import inspect

from salus.events.envelope import Envelope, Event
from salus.events.event_types import EventType

_T = TypeVar("_T", bound=msgspec.Struct)
_Finish = Callable[[Any], None]
_PLAIN: Mapping[type[inspect.Type], type] = {
    inspect.StrType: str,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.BoolType: bool,
    inspect.DateTimeType: datetime,
    inspect.NoneType: type(None),
    inspect.RawType: msgspec.Raw,
}


def decode_valid(text: bytes, kind: type[_T]) -> _T:
    """Return the value of this class that a text is, which is known to be one."""
    decode, finish = _decoder(kind)
    found: _T = decode(text)
    finish(found)
    return found


def decode_valid_event(value: bytes, entry: EventType) -> Event:
    """Return the event of this type that a value is, which is known to be one."""
    decode, finish = _event_decoder(entry.data)
    envelope = decode(value)
    data = envelope.data
    finish(data)
    return Event(envelope, entry, data)


@lru_cache(maxsize=256)
def _decoder(kind: type[msgspec.Struct]) -> tuple[Callable[[bytes], Any], _Finish]:
    lean, finish = _lean(kind)
    return msgspec.json.Decoder(lean).decode, finish


@lru_cache(maxsize=256)
def _event_decoder(kind: type[msgspec.Struct]) -> tuple[Callable[[bytes], Any], _Finish]:
    lean, finish = _lean(kind)
    fields = [
        (each.name, lean if each.name == "data" else _type_of(each.type), *_default_of(each))
        for each in _fields_of(Envelope)
    ]
    whole: Any = msgspec.defstruct("Whole", fields, bases=(Envelope,), frozen=True, gc=False)
    return msgspec.json.Decoder(whole).decode, finish


# Of an object of one class it makes one of another that lays out the same fields in the same way, or raises
# TypeError. A struct that may not be changed refuses the attribute itself.
_set_class = object.__dict__["__class__"].__set__


def _lean(kind: type[msgspec.Struct]) -> tuple[type[Any], _Finish]:
    """Return a class of the same fields without checks, and what makes of an object of it one of `kind`.

    To make another object of its fields would take longer than to decode it.
    """
    fields: list[Any] = []
    within: list[tuple[Callable[[Any], Any], _Finish]] = []
    for each in _fields_of(kind):
        if type(each.type) is inspect.StructType:
            field, finish = _lean(each.type.cls)
            within.append((attrgetter(each.name), finish))
        else:
            field = _type_of(each.type)
        fields.append((each.name, field, *_default_of(each)))
    # What is made of it has the order of its own fields, and takes all of them by name.
    lean: type[Any] = msgspec.defstruct(kind.__name__, fields, bases=(kind,), kw_only=True)
    return lean, _finish(kind, within)


def _finish(kind: type[msgspec.Struct], within: Sequence[tuple[Callable[[Any], Any], _Finish]]) -> _Finish:
    if not within:
        return lambda found: _set_class(found, kind)

    def finish(found: Any) -> None:
        _set_class(found, kind)
        for part, finish_part in within:
            finish_part(part(found))

    return finish


def _fields_of(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    if not isinstance(info, inspect.StructType):
        raise TypeError(kind)
    return info.fields


def _default_of(each: inspect.Field) -> tuple[Any, ...]:
    return () if each.required else (each.default,)


def _type_of(info: inspect.Type) -> Any:
    """Return a type as which a field of this kind is decoded; of structs in lists the class itself."""
    match info:
        case inspect.Metadata(type=inner):
            return _type_of(inner)
        case inspect.LiteralType(values=values):
            return Literal[values]
        case inspect.UnionType(types=types):
            found = _type_of(types[0])
            for kind in types[1:]:
                found |= _type_of(kind)
            return found
        case inspect.VarTupleType(item_type=item):
            return tuple[_type_of(item), ...]  # type: ignore[misc]  # made when it runs
        case inspect.StructType(cls=cls):
            return cls
    return _PLAIN.get(type(info), Any)
