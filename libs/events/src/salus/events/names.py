"""Names that a service gives, or repeats, in what it states: ids and codes, which are no words about anybody.

Their schema says that they are text. Whoever judges an event also asks that they are names: who holds a
service's key could else write sentences about a patient that stand on the ledger for ever.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import inspect

from salus.events.fields import Text

NAME_PATTERN = r"[A-Za-z0-9._:/@+#-]{1,128}"
NAME_RULE = "letters, digits and . _ : / @ + # -, at most 128"
_NAME = re.compile(NAME_PATTERN)
# Of this nothing is in a schema, so a type that was released keeps its own.
_MARK = {"name": True}

Name = Annotated[Text, msgspec.Meta(extra=_MARK)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)]


def is_name(text: str) -> bool:
    """Tell whether a text is a name: NAME_RULE says what that is."""
    return _NAME.fullmatch(text) is not None


def misnamed_field(data: msgspec.Struct) -> str | None:
    """Return a field of type `Name` or `Names` whose value is no name; None if there is none."""
    for field in _fields_of(type(data)):
        value = getattr(data, field)
        if value is not None and not (
            is_name(value) if isinstance(value, str) else all(is_name(each) for each in value)
        ):
            return field
    return None


@lru_cache(maxsize=1024)
def _fields_of(cls: type[msgspec.Struct]) -> tuple[str, ...]:
    """Return the names of the fields that hold names."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)  # noqa: S101  # for the type checker: it is a struct's class
    return tuple(field.name for field in info.fields if _holds_names(field.type))


def is_of_names(info: inspect.Type) -> bool:
    """Tell whether a field's type, as msgspec inspects it, is `Name`."""
    return isinstance(info, inspect.Metadata) and info.extra == _MARK


def _holds_names(info: inspect.Type) -> bool:
    if is_of_names(info):
        return True
    match info:
        case inspect.Metadata(type=inner) | inspect.VarTupleType(item_type=inner):
            return _holds_names(inner)
        case inspect.UnionType(types=types):
            return any(_holds_names(each) for each in types)
        case _:
            return False
