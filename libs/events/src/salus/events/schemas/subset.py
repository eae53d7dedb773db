"""The subset of JSON Schema (2020-12) that event schemas keep to, and its limits.

What is in it means the same to every validator and generator, is judged in time that is proportional to the
event, and bounds each value: an event on the ledger stays there for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from salus.events.event_types import EXTENSIBLE, SCHEMA_DIALECT
from salus.ledger.json_reader import INTEGER_MAX

SCHEMA_BYTES_MAX = 64 * 1024
FIELDS_MAX = 256
"""Fields of an event, those of its parts included."""
DEPTH_MAX = 16
"""How deep objects and lists nest, references followed."""
CHARS_MAX = 400_000
"""Characters of a text: what a sealed value may have."""
ITEMS_MAX = 10_000
WORDS_MAX = 256
"""Words of an `enum`."""
PATTERN_CHARS_MAX = 1024
REFERENCE_CHARS_MAX = 100
"""Of a reference that leads nowhere, in the sentence that says so."""

_ANYWHERE = frozenset({"title", "description", "default", "x-salus-sealed"})
_ROOT = frozenset({"$schema", "$id", "$defs", "x-salus"})
_OF_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset({"type", "properties", "required", "additionalProperties"}),
    "array": frozenset({"type", "items", "minItems", "maxItems"}),
    "string": frozenset({"type", "minLength", "maxLength", "pattern", "format", "enum", "const", EXTENSIBLE}),
    "integer": frozenset({"type", "minimum", "maximum"}),
    "boolean": frozenset({"type"}),
}
FIELD_NAME = "[a-z][a-z0-9_]{0,63}"
"""What a field is called, as a pattern."""
_NAME = re.compile(FIELD_NAME)
# What a JSON Pointer and a URI write in one way only, so that whoever follows a reference comes to one place.
_DEFINITION = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_REFERENCE = re.compile(rf"#/\$defs/({_DEFINITION.pattern})")
_WORDS = frozenset({"type", "enum", "const", EXTENSIBLE})
_TIME = frozenset({"type", "format"})
# Engines differ in what these mean, or some lack them. Sets of signs cut out of others are Rust's, and one
# day Python's.
_UNPORTABLE = re.compile(
    r"(?P<special>\(\?)|(?P<named>\\[1-9wWdDsSbBpPkAZzGQE])|(?P<repeated>\)[*+{])"
    r"|(?P<nested>\[\^?\[|&&|--|~~|\|\|)"
)
_WHY_UNPORTABLE = {
    "special": "no look-around and no special groups: a group is (…)",
    "named": "no classes by letter and no references: write a class in brackets, as [0-9]",
    "repeated": "a group does not repeat; it may be left out, by ?",
    "nested": "no class in a class, and none that is cut out of another",
}


def faults_of(schema: Any, *, size: int = 0) -> list[str]:
    """Return, as sentences, in what a schema is not in the subset; in nothing: []. `size` is its bytes."""
    if size > SCHEMA_BYTES_MAX:
        return [f"$: {size} bytes, at most {SCHEMA_BYTES_MAX}"]
    if not isinstance(schema, dict):
        return ["$: a schema is an object"]
    return list(_Look(schema).whole())


class _Look:
    """One look at a schema: its definitions, which of them were seen, and how many fields."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        defs = schema.get("$defs", {})
        self._defs: Mapping[str, Any] = defs if isinstance(defs, dict) else {}
        self._seen = set[str]()
        self._fields = 0

    def whole(self) -> Iterator[str]:
        """Yield what is wrong with the schema."""
        if self._schema.get("$schema") != SCHEMA_DIALECT:
            yield f"$.$schema: it is not {SCHEMA_DIALECT}"
        if not all(map(_DEFINITION.fullmatch, self._defs)) or self._schema.get("$defs", {}) != self._defs:
            yield "$.$defs: definitions by names of letters and digits, the first one A to Z"
            return
        root = {key: value for key, value in self._schema.items() if key not in _ROOT}
        if self._resolved(root).get("type") != "object":
            yield "$: the data of an event is an object"
            return
        yield from self._part(root, "$", ())
        if self._fields > FIELDS_MAX:
            yield f"$: {self._fields} fields, at most {FIELDS_MAX}"
            return
        # Nobody has looked at it, and an engine might use it.
        yield from (
            f"$.$defs.{name}: nothing refers to it" for name in sorted(self._defs.keys() - self._seen)
        )

    def _resolved(self, part: Any) -> Mapping[str, Any]:
        found = self._defs.get(target_of(part), {}) if isinstance(part, dict) and "$ref" in part else part
        return found if isinstance(found, dict) else {}

    def _part(self, part: Any, at: str, within: tuple[str, ...]) -> Iterator[str]:
        if self._fields > FIELDS_MAX:
            return
        if not isinstance(part, dict):
            yield f"{at}: it is no object, and any value would do"
        elif len(within) > DEPTH_MAX:
            yield f"{at}: deeper than {DEPTH_MAX}"
        elif not all(_is_printable(part.get(words, "")) for words in ("title", "description")):
            yield f"{at}: title and description are texts that can be printed"
        elif part.get("x-salus-sealed", True) is not True:
            yield f"{at}: x-salus-sealed is true, or not there"
        elif "$ref" in part:
            yield from self._reference(part, at, within)
        elif "anyOf" in part:
            yield from self._optional(part, at, within)
        else:
            yield from self._value(part, at, within)

    def _reference(self, part: Mapping[str, Any], at: str, within: tuple[str, ...]) -> Iterator[str]:
        name = target_of(part)
        yield from _unknown(part, frozenset({"$ref"}), at)
        self._seen.add(name)
        if name not in self._defs:
            # As it is written, for a person; a reference may be anything.
            yield f"{at}: $ref leads to no definition of this file: {part['$ref']!a:.{REFERENCE_CHARS_MAX}}"
        elif name in within:
            yield f"{at}: $ref leads in a circle"
        else:
            yield from self._part(self._defs[name], at, (*within, name))

    def _optional(self, part: Mapping[str, Any], at: str, within: tuple[str, ...]) -> Iterator[str]:
        yield from _unknown(part, frozenset({"anyOf"}), at)
        choices = part["anyOf"] if isinstance(part["anyOf"], list) else []
        kinds = [choice for choice in choices if choice != {"type": "null"}]
        if len(kinds) != 1 or len(choices) != 2:  # a kind of value, and null
            yield f"{at}: anyOf is for one kind of value, or null"
        else:
            yield from self._part(kinds[0], at, (*within, ""))

    def _value(self, part: Mapping[str, Any], at: str, within: tuple[str, ...]) -> Iterator[str]:
        is_word = not part.keys().isdisjoint({"enum", "const"})
        kind = part.get("type", "string" if is_word else None)
        if not isinstance(kind, str) or kind not in _OF_TYPE:
            yield f"{at}: type is none of {', '.join(_OF_TYPE)}"
            return
        if is_word and (kind != "string" or {"enum", "const"} <= part.keys()):
            yield f"{at}: words are texts, by enum or by const"
            return
        known = _WORDS if is_word else _TIME if "format" in part else _OF_TYPE[kind]
        yield from _unknown(part, known, at)
        match kind:
            case "object":
                yield from self._object(part, at, within)
            case "array":
                yield from _bound(part, "maxItems", ITEMS_MAX, at)
                yield from _least_bound(part, "minItems", "maxItems", ITEMS_MAX, at)
                yield from self._part(part.get("items"), f"{at}[]", (*within, ""))
            case "string":
                yield from _of_string(part, at)
            case "integer":
                yield from _bound(part, "maximum", INTEGER_MAX, at)
                yield from _bound(part, "minimum", INTEGER_MAX, at, least=-INTEGER_MAX)
                yield from _order(part, "minimum", "maximum", at)

    def _object(self, part: Mapping[str, Any], at: str, within: tuple[str, ...]) -> Iterator[str]:
        if part.get("additionalProperties") is not False:
            yield f"{at}: additionalProperties is not false, so anybody could add anything"
        fields = part.get("properties")
        if not isinstance(fields, dict):
            yield f"{at}: properties are missing"
            return
        self._fields += len(fields)
        required = part.get("required", [])
        if not isinstance(required, list) or not {*map(str, required)} <= fields.keys():
            yield f"{at}: required names what is no field"
        elif len({*map(str, required)}) < len(required):
            yield f"{at}: required names a field twice"
        for name, field in fields.items():
            if _NAME.fullmatch(name) is None:
                yield f"{at}: a field's name is a to z, digits and _, at most 64 of them"
            else:
                yield from self._part(field, f"{at}.{name}", (*within, ""))


def target_of(part: Mapping[str, Any]) -> str:
    """Return the name of the definition that a part refers to; nothing if it is no reference to one."""
    reference = part.get("$ref")
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return "" if found is None else found[1]


def _is_printable(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable()


def _unknown(part: Mapping[str, Any], known: frozenset[str], at: str) -> Iterator[str]:
    for key in sorted(part.keys() - known - _ANYWHERE):
        yield f"{at}: {key} is not in the subset here"


def _bound(part: Mapping[str, Any], key: str, most: int, at: str, *, least: int = 0) -> Iterator[str]:
    value = part.get(key)
    if type(value) is not int or not least <= value <= most:
        yield f"{at}: {key} is an integer from {least} to {most}, and needed"


def _least_bound(part: Mapping[str, Any], key: str, upper: str, most: int, at: str) -> Iterator[str]:
    yield from _bound({key: 0, **part}, key, most, at)
    yield from _order(part, key, upper, at)


def _order(part: Mapping[str, Any], key: str, upper: str, at: str) -> Iterator[str]:
    least, most = part.get(key, 0), part.get(upper)
    if type(least) is int and type(most) is int and least > most:
        yield f"{at}: {key} is larger than {upper}"


def _of_string(part: Mapping[str, Any], at: str) -> Iterator[str]:
    words = [part["const"]] if "const" in part else part.get("enum")
    if EXTENSIBLE in part and (part[EXTENSIBLE] is not True or "enum" not in part):
        yield f"{at}: {EXTENSIBLE} is true, beside an enum"
    if words is not None:
        if (
            not isinstance(words, list)
            or len(words) > WORDS_MAX
            or not all(map(_is_printable, words))
            or len({*words}) != max(1, len(words))
        ):
            yield f"{at}: words are 1 to {WORDS_MAX} texts that can be printed, each once"
        return
    if part.get("format", "date-time") != "date-time":
        yield f"{at}: format is date-time, or not there"
    if "format" not in part:
        yield from _bound(part, "maxLength", CHARS_MAX, at)
        yield from _least_bound(part, "minLength", "maxLength", CHARS_MAX, at)
    pattern = part.get("pattern", "^$")
    if (fault := _pattern_fault(pattern)) is not None:
        yield f"{at}: pattern: {fault}"


def _pattern_fault(pattern: Any) -> str | None:
    """Return why not all engines read a pattern alike and in linear time, or None."""
    if not isinstance(pattern, str) or not (pattern.startswith("^") and pattern.endswith("$")):
        return "it is a text that goes from ^ to $"
    if len(pattern) > PATTERN_CHARS_MAX:
        return f"it has {len(pattern)} characters, of {PATTERN_CHARS_MAX} at most"
    if (unportable := _UNPORTABLE.search(pattern)) is not None:
        return f"character {unportable.start() + 1}: {_WHY_UNPORTABLE[unportable.lastgroup or '']}"
    try:
        re.compile(pattern)
    except re.error as error:
        return f"character {(error.pos or 0) + 1}: it is no regular expression, {error.msg}"
    except (OverflowError, RecursionError):
        return "it is larger than engines can read"
    return None
