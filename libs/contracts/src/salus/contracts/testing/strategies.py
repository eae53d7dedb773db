"""Hypothesis strategies of a service's events and commands, made of their types.

What is one thing in several events, as a consent's id, has the same name in all of them: give `Values` a
strategy of a few values for that name, so that histories come about in which events concern each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import inspect

from salus.events.event_types import EventData, EventType
from salus.events.fields import SEALED_CHARS_MIN, Sealed, Suite
from salus.events.requests import SERVICE, Request

# Collections are no longer, for what holds of two and of three holds of more.
ITEMS_MAX = 3
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
WORDS = ("a", "b", "ab", "c d", "é", "-")


class Values:
    """Strategies of values by type; `fields` are those of fields of a name, wherever such a field stands.

    A name may say of which class the field is, as `PublicKey.id`. Text of a pattern is one of three that fit,
    and other text one of WORDS. Numbers and times lie close together, for so they meet. Requests are the
    service's own.
    """

    def __init__(self, fields: Mapping[str, SearchStrategy[Any]] | None = None) -> None:
        self._fields = dict(fields or {})
        self._made: dict[type, SearchStrategy[Any]] = {}

    def of(self, kind: Any) -> SearchStrategy[Any]:
        """Return a strategy of values of a type, as of an event's data or a command."""
        return self._of(inspect.type_info(kind))

    def event(self, entry: EventType) -> SearchStrategy[tuple[str, EventData]]:
        """Return a strategy of events of one type, each with its subject."""

        def about(drawn: tuple[EventData, str]) -> tuple[str, EventData]:
            data, subject = drawn
            name = subject if entry.subject_field is None else getattr(data, entry.subject_field)
            return name, _sealed_to(data, name)

        subjects = self._fields.get("subject", st.sampled_from(WORDS))
        return st.tuples(self.of(entry.data), subjects).map(about)

    def _of(self, info: inspect.Type) -> SearchStrategy[Any]:  # noqa: PLR0911  # one for each form of a type
        match info:
            case inspect.Metadata(type=inner):
                return self._of(inner)
            case inspect.StructType(cls=cls, fields=fields) | inspect.DataclassType(cls=cls, fields=fields):
                if cls not in self._made:
                    self._made[cls] = self._built(cls, fields)
                return self._made[cls]
            case inspect.UnionType(types=types):
                return st.one_of([self._of(one) for one in types])
            case inspect.VarTupleType(item_type=item):
                return self._items(item, info).map(tuple)
            case inspect.FrozenSetType(item_type=item):
                return self._items(item, info).map(frozenset)
            case inspect.DictType(key_type=key, value_type=value):
                return st.dictionaries(self._of(key), self._of(value), max_size=ITEMS_MAX)
        return _plain(info)

    def _items(self, item: inspect.Type, info: Any) -> SearchStrategy[list[Any]]:
        most = ITEMS_MAX if info.max_length is None else min(ITEMS_MAX, info.max_length)
        return st.lists(self._of(item), min_size=info.min_length or 0, max_size=most)

    def _built(self, cls: type, fields: Iterable[inspect.Field]) -> SearchStrategy[Any]:
        if cls is Sealed:
            return st.just(Sealed(get_args(Suite)[0], _NOBODYS_KEY, "A" * SEALED_CHARS_MIN))
        given = {field.name: self._field(cls, field) for field in fields}
        if cls is Request:
            kept = {name: given[name] for name in ("by", "behalf")}
            return _made_of(Request, {**kept, "authentication": st.just(SERVICE)})
        return _made_of(cls, given)

    def _field(self, cls: type, field: inspect.Field) -> SearchStrategy[Any]:
        for name in (f"{cls.__name__}.{field.name}", field.name):
            if name in self._fields:
                return self._fields[name]
        return self._of(field.type)


_NOBODYS_KEY = "urn:uuid:00000000-0000-4000-8000-000000000000#0"
_MOMENTS = st.integers(-3, 3).map(lambda days: NOON + timedelta(days=days))
_PLAIN: dict[type[inspect.Type], SearchStrategy[Any]] = {
    inspect.NoneType: st.none(),
    inspect.BoolType: st.booleans(),
    inspect.DateTimeType: _MOMENTS,
}


def _made_of(cls: type, fields: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    # `builds` would read the class's annotations, which takes its time.
    return st.fixed_dictionaries(fields).map(lambda given: cls(**given))


def _plain(info: inspect.Type) -> SearchStrategy[Any]:
    match info:
        case inspect.StrType(pattern=None):
            return st.sampled_from(WORDS)
        case inspect.StrType(pattern=str(pattern), max_length=most):
            fitting = st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= (most or 256))
            few = st.lists(fitting, min_size=1, max_size=ITEMS_MAX, unique=True)
            return st.shared(few, key=pattern).flatmap(st.sampled_from)
        case inspect.IntType(ge=least, le=most):
            return st.integers(least or 0, (least or 0) + 4) | st.integers(least or 0, most)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.EnumType(cls=cls):
            return st.sampled_from(cls)
    try:
        return _PLAIN[type(info)]
    except KeyError:
        raise TypeError(f"no values of {info}: give a strategy by the field's name") from None


def _sealed_to(data: EventData, subject: str) -> EventData:
    """Return the data with what is sealed in it sealed to a key of the subject."""
    sealed = {
        name: msgspec.structs.replace(value, key=f"{subject}#1")
        for name in data.__struct_fields__
        if isinstance(value := getattr(data, name), Sealed)
    }
    return msgspec.structs.replace(data, **sealed)
