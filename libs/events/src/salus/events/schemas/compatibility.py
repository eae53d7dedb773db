"""Whether one JSON Schema is a compatible evolution of another, and if not, which field breaks for whom.

*Writers* are programs that write as the released schema says: all that they send must still be accepted.
*Readers* are programs made from the released schema: of the fields that they know, they must meet nothing
that it did not allow. They ignore fields that they do not know, so an optional field may be added, and
take a word that they do not know for text where the list is `x-salus-extensible`, so a word may be added.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from salus.events.event_types import EXTENSIBLE

Side = Literal["readers", "writers"]
_READERS: tuple[Side, ...] = ("readers",)
_WRITERS: tuple[Side, ...] = ("writers",)
_BOTH: tuple[Side, ...] = ("readers", "writers")

# Keywords whose larger number allows more, and those whose larger number allows less.
_UPPER = frozenset({"maxLength", "maxItems", "maximum", "exclusiveMaximum"})
_LOWER = frozenset({"minLength", "minItems", "minimum", "exclusiveMinimum"})
# What says nothing of the values that are allowed, or is looked at by itself.
_ASIDE = frozenset(
    {
        "$defs",
        "properties",
        "required",
        "items",
        "anyOf",
        "enum",
        "const",
        "title",
        "description",
        EXTENSIBLE,
    }
)
_MISSING = object()


class Break(NamedTuple):
    """Something that is no compatible evolution: where, what, and for whom."""

    field: str
    why: str
    sides: tuple[Side, ...]

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.field}: {self.why} (breaks {' and '.join(self.sides)})"


def breaks_between(released: Mapping[str, Any], current: Mapping[str, Any]) -> list[Break]:
    """Return in what the current schema is no compatible evolution of the released one; in nothing: []."""
    return list(_Comparison(released, current).of(released, current, "$"))


class _Comparison:
    """Two whole schemas, for what their parts refer to."""

    def __init__(self, released: Mapping[str, Any], current: Mapping[str, Any]) -> None:
        self._released = released.get("$defs", {})
        self._current = current.get("$defs", {})
        self._compared = set[str]()

    def of(self, before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Break]:
        """Yield the breaks between two parts, of the field `at`."""
        if "$ref" in before or "$ref" in after:
            # Once for all places that refer to it, so that this takes linear time and a circle ends.
            if (pair := repr((before, after))) in self._compared:
                return
            self._compared.add(pair)
            before, after = _resolved(before, self._released), _resolved(after, self._current)
        yield from _of_keywords(before, after, at)
        yield from _of_words(before, after, at)
        yield from self._of_choices(before, after, at)
        yield from self._of_fields(before, after, at)
        if "items" in before and "items" in after:
            yield from self.of(before["items"], after["items"], f"{at}[]")
        elif ("items" in before) != ("items" in after):
            yield Break(at, "items: changed", _BOTH)

    def _of_fields(self, before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Break]:
        old, new = before.get("properties", {}), after.get("properties", {})
        needed, needs = set(before.get("required", ())), set(after.get("required", ()))
        for name in sorted(old.keys() | new.keys()):
            field = f"{at}.{name}"
            if name not in new:
                yield Break(field, "the field is gone", _BOTH)
            elif name not in old and name in needs:
                yield Break(field, "a field more that is required", _WRITERS)
            elif name in old:
                if name in needs - needed:
                    yield Break(field, "it was optional and is required", _WRITERS)
                if name in needed - needs:
                    yield Break(field, "it was required and is optional", _READERS)
                yield from self.of(old[name], new[name], field)

    def _of_choices(self, before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Break]:
        old, new = before.get("anyOf", []), after.get("anyOf", [])
        null = {"type": "null"}
        if null in old and null not in new:
            yield Break(at, "it may no longer be null", _WRITERS)
        if null in new and null not in old:
            yield Break(at, "it may be null now", _READERS)
        old, new = ([part for part in parts if part != null] for parts in (old, new))
        if len(old) != len(new):
            yield Break(at, "anyOf: changed", _BOTH)
        else:
            for one, other in zip(old, new, strict=True):
                yield from self.of(one, other, at)


def _resolved(part: Mapping[str, Any], defs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part with all that it refers to, which may refer on; what leads nowhere stays a `$ref`."""
    seen = set[str]()
    while (name := str(part.get("$ref")).removeprefix("#/$defs/")) in defs and name not in seen:
        seen.add(name)
        part = {**defs[name], **{key: value for key, value in part.items() if key != "$ref"}}
    return part


def _of_keywords(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Break]:
    """Yield the breaks of keywords that stand by themselves: bounds, types, patterns, `x-salus`."""
    for key in sorted((before.keys() | after.keys()) - _ASIDE):
        old, new = before.get(key, _MISSING), after.get(key, _MISSING)
        if old == new:
            continue
        if key == "x-salus" and isinstance(old, dict) and isinstance(new, dict):
            yield from _of_keywords(old, new, f"{at} {key}")
            continue
        why = f"{key}: {_shown(old)} became {_shown(new)}"
        if key in _UPPER | _LOWER:
            more = _allows_more(old, new, upper=key in _UPPER)
            yield Break(at, why, _READERS if more else _WRITERS)
        elif key == "additionalProperties" and all(one in (True, False, _MISSING) for one in (old, new)):
            if old is False or new is False:
                yield Break(at, why, _WRITERS if new is False else _READERS)
        else:
            yield Break(at, why, _BOTH)


def _allows_more(old: Any, new: Any, *, upper: bool) -> bool:
    if old is _MISSING or new is _MISSING:
        return new is _MISSING
    return bool(new > old) if upper else bool(new < old)


def _of_words(before: Mapping[str, Any], after: Mapping[str, Any], at: str) -> Iterator[Break]:
    old, new = _words(before), _words(after)
    if old is None and new is None:
        return
    if old is None or new is None:
        yield Break(
            at,
            "any word is allowed now" if new is None else "only some words are allowed now",
            _READERS if new is None else _WRITERS,
        )
        return
    gone, more = [word for word in old if word not in new], [word for word in new if word not in old]
    if gone:
        yield Break(at, f"the words {_shown(gone)} are gone", _WRITERS)
    if more and not before.get(EXTENSIBLE):
        yield Break(at, f"the words {_shown(more)} are new", _READERS)
    if after.get(EXTENSIBLE) and not before.get(EXTENSIBLE):
        yield Break(at, f"{EXTENSIBLE}: more words may come now", _READERS)


def _words(part: Mapping[str, Any]) -> list[Any] | None:
    return [part["const"]] if "const" in part else part.get("enum")


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else repr(value)
