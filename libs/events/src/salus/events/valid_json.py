"""Decodes JSON that is known to be what its class says: patterns and bounds are not looked at again.

Only for texts that a program of `salus.events.recognizers` came through: others may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import takewhile
from operator import attrgetter
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import inspect

from salus.events.envelope import Envelope, Event
from salus.events.event_types import EventType

_T = TypeVar("_T", bound=msgspec.Struct)
_Build = Callable[[Any], Any]
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
    decode, build = _decoder(kind)
    found: _T = build(decode(text))
    return found


def decode_valid_event(value: bytes, entry: EventType) -> Event:
    """Return the event of this type that a value is, which is known to be one."""
    decode, build = _event_decoder(entry.data)
    envelope = decode(value)
    data = build(envelope.data)
    # It was made here, and nobody has seen it yet.
    msgspec.structs.force_setattr(envelope, "data", data)
    return Event(envelope, entry, data)


@lru_cache(maxsize=256)
def _decoder(kind: type[msgspec.Struct]) -> tuple[Callable[[bytes], Any], _Build]:
    bare, build = _bare(kind)
    return msgspec.json.Decoder(bare).decode, build


@lru_cache(maxsize=256)
def _event_decoder(kind: type[msgspec.Struct]) -> tuple[Callable[[bytes], Any], _Build]:
    bare, build = _bare(kind)
    fields = [
        (each.name, bare if each.name == "data" else _type_of(each.type), *_default_of(each))
        for each in _fields_of(Envelope)
    ]
    whole: Any = msgspec.defstruct("Whole", fields, bases=(Envelope,), frozen=True, gc=False)
    return msgspec.json.Decoder(whole).decode, build


def _bare(kind: type[msgspec.Struct]) -> tuple[Any, _Build]:
    """Return a class of the same fields without checks, and what makes a value of `kind` of one of it."""
    fields: list[Any] = []
    within: dict[str, _Build] = {}
    for each in _fields_of(kind):
        if type(each.type) is inspect.StructType:
            within_field, within[each.name] = _bare(each.type.cls)
        else:
            within_field = _type_of(each.type)
        fields.append((each.name, within_field, *_default_of(each)))
    bare: Any = msgspec.defstruct(kind.__name__, fields, kw_only=True, gc=False)
    return bare, _builder(kind, within)


def _builder(kind: type[msgspec.Struct], within: Mapping[str, _Build]) -> _Build:
    """Return what makes a value of a class of one without checks; `within` makes what is in some fields."""
    placed = tuple(takewhile(lambda name: name not in within, kind.__match_args__))
    # With one name or none it would return no tuple.
    get: _Build = attrgetter(*placed) if len(placed) > 1 else _getter(placed)
    others = [(name, attrgetter(name), within.get(name, _same)) for name in kind.__struct_fields__]
    others = [other for other in others if other[0] not in placed]
    if not others:
        return lambda found: kind(*get(found))
    if len(others) == 1:
        ((name, get_one, make_one),) = others
        return lambda found: kind(*get(found), **{name: make_one(get_one(found))})
    return lambda found: kind(*get(found), **{name: make(part(found)) for name, part, make in others})


def _getter(names: tuple[str, ...]) -> _Build:
    return lambda found: tuple(getattr(found, name) for name in names)


def _same(value: Any) -> Any:
    return value


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
