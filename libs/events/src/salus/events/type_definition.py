"""A member's own event type, as the JSON Schema says that it proposes: what is wrong with it, and the type.

The schema keeps to the subset of all event schemas (`salus.events.schemas.subset`), and to a little less, so
that every validator says the same of the same data, now and in years: patterns of a few signs that all
engines read alike, texts that are short unless they are sealed, and all that is known of the type in
`x-salus`. What decides is `jsonschema-rs`, whose engine for patterns takes linear time whatever the pattern
is; the class that is made of the schema is how our programs carry the data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

import jsonschema_rs
import msgspec

from salus.events.event_types import (
    EXTENSIBLE,
    MEMBER,
    EventData,
    EventType,
    Retention,
    declare,
    sealed_definition,
)
from salus.events.fields import Moment, Pseudonym, Sealed, portable
from salus.events.schemas.engine_schema import engine_schema
from salus.events.schemas.plain_patterns import WEIGHT_MAX, pattern_fault, weight_of
from salus.events.schemas.subset import faults_of, target_of
from salus.events.type_names import NAME_CHARS_MAX, is_name_of, prefix_of

TEXT_CHARS_MAX = 256
"""Characters of a text that is not sealed: an id or a code, and no report about anybody."""
MEANING_CHARS_MAX = 256
# Far above what WEIGHT_MAX lets a pattern take: by the text alone it is decided what may be brought.
_REGEX_BYTES_MAX = 8 * 1024 * 1024
# What an engine keeps of a pattern while it is used; with less it is slower, and takes linear time still.
_DFA_BYTES_MAX = 64 * 1024
# Characters of a word that take as much room as a sign of a pattern.
_CHARS_A_UNIT = 16
_ABOUT = frozenset({"type", "owner", "topic", "key", "subject", "retention", "changes"})
_SEALED_REF = "#/$defs/Sealed"
_SEALED = sealed_definition()
_PSEUDONYM = portable(next(m.pattern for m in Pseudonym.__metadata__ if m.pattern))  # type: ignore[attr-defined]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the objects within such data."""


def faults_of_definition(schema: Any, *, size: int, member: str, topics: Collection[str]) -> list[str]:
    """Return, as sentences that begin with the place, why a schema is no event type of this member; or [].

    `size` is that of its file, and `topics` are those that members publish to.
    """
    found = faults_of(schema, size=size) or [*_Definition(schema).faults(member, topics)]
    if not found:
        try:
            _Definition(schema).require_usable()
        except (ValueError, jsonschema_rs.ReferencingError):
            return ["$: it is no JSON Schema"]
    return found


def with_sealed(schema: Any) -> Any:
    """Return the schema with the definition of `Sealed`, if it refers to it: its author need not copy it."""
    if not isinstance(schema, dict) or "Sealed" not in _references(schema):
        return schema
    defs = schema.get("$defs", {})
    return {**schema, "$defs": {"Sealed": _SEALED, **defs}} if isinstance(defs, dict) else schema


@lru_cache(maxsize=256)
def definition(schema: bytes, older: frozenset[str] = frozenset()) -> EventType:
    """Return the event type of a schema that was activated; `older` are the schemas that it has replaced."""
    return _Definition(msgspec.json.decode(schema)).event_type(schema, older)


class TypeOutline(NamedTuple):
    """What a member's schema says of its type, without what judges data: that takes time and room."""

    meaning: str
    topic: str
    owner: str
    subject: str
    sealed: tuple[str, ...]
    retention: str


def outline_of(schema: bytes) -> TypeOutline:
    """Return what the schema of a proposal says of its type; nothing is compiled for it."""
    return _Definition(msgspec.json.decode(schema)).outline()


class _Definition:
    """A schema that is in the subset of all event schemas."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._schema = schema
        self._defs: Mapping[str, Any] = schema.get("$defs", {})
        self._root = self._resolved(schema)
        self._about: Any = schema.get("x-salus")
        self._weight = 0

    def faults(self, member: str, topics: Collection[str]) -> Iterator[str]:
        """Yield what makes it no type of this member."""
        about, defs = self._about, self._schema.get("$defs", {})
        if not isinstance(about, dict) or about.keys() != _ABOUT or not isinstance(defs, dict):
            yield f"$.x-salus: it has just {', '.join(sorted(_ABOUT))}"
            return
        yield from _faults_of_about(about, member, topics)
        if self._schema.get("$id") != f"urn:salus:schema:{about['type']}":
            yield "$.$id: it is urn:salus:schema: and the type"
        meaning = self._schema.get("description", "")
        if not 0 < len(meaning) <= MEANING_CHARS_MAX or not meaning.isprintable():
            yield f"$.description: a sentence on what is now true, of {MEANING_CHARS_MAX} characters at most"
        if defs.get("Sealed", _SEALED) != _SEALED:
            yield "$.$defs.Sealed: it is as in the schema of salus.lab.result-released.v1"
            return
        yield from self._subject_faults(about["subject"])
        # By this name a right to read what is sealed is given.
        named = self._resolved(self._root["properties"].get("object", {"type": "string"}))
        if named.get("type") != "string" or "format" in named:
            yield "$.object: it names a record of the patient: a text"
        yield from _default_faults(self._schema, "$")
        yield from _default_faults(self._root, "$")
        yield from _fields_alike(self._root, "$")
        for field, part in self._root["properties"].items():
            yield from self._faults(part, f"$.{field}", is_own=True)
        if self._weight > WEIGHT_MAX:
            yield (
                f"$: its patterns and words take {self._weight} units of room, and {WEIGHT_MAX} are there: "
                "let maxLength say how long texts are, and not counts in patterns"
            )

    def _subject_faults(self, name: Any) -> Iterator[str]:
        fields = self._root["properties"]
        if not isinstance(name, str) or name not in fields or name not in self._root.get("required", ()):
            yield "$.x-salus.subject: it names a field that is required"
            return
        field = self._resolved(fields[name])
        bound = field.get("minLength") or field.get("pattern")
        if field.get("type") != "string" or "format" in field or not bound:
            yield f"$.{name}: the subject is a text with a minLength or a pattern"
        has_sealed = any(_is_sealed(part) for part in fields.values())
        if has_sealed and field.get("pattern") != _PSEUDONYM:
            yield f"$.{name}: what is sealed is sealed to the subject, a pseudonym: pattern {_PSEUDONYM}"

    def _faults(self, part: Mapping[str, Any], at: str, *, is_own: bool = False) -> Iterator[str]:
        if _is_sealed(part) or part.get("x-salus-sealed") is not None:
            if not is_own or not _is_sealed(part) or part.get("x-salus-sealed") is not True:
                yield f"{at}: what is sealed is a field of the event: $ref {_SEALED_REF}, x-salus-sealed true"
            return
        yield from _default_faults(part, at)
        part = self._resolved(part)
        yield from _default_faults(part, at)
        if "anyOf" in part:
            yield from self._faults(_kind_of(part), at)
        elif "properties" in part:
            yield from _fields_alike(part, at)
            for name, field in part["properties"].items():
                yield from self._faults(field, f"{at}.{name}")
        elif "items" in part:
            yield from self._faults(part["items"], f"{at}[]")
        elif part.keys() & {"enum", "const"} or part["type"] == "string":
            yield from _text_faults(part, at)
            self._weight += _weight_of(part)

    def _resolved(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        found = part
        while "$ref" in found:
            found = self._defs[target_of(found)]
        return found

    def outline(self) -> TypeOutline:
        """Return what it says of its type."""
        about, fields = self._about, self._root["properties"]
        sealed = tuple(name for name, part in fields.items() if _is_sealed(part))
        meaning = " ".join(self._schema["description"].split())
        return TypeOutline(
            meaning, about["topic"], about["owner"], about["subject"], sealed, about["retention"]
        )

    def require_usable(self) -> None:
        """Raise what the engine or the classes have against it.

        Nothing of it is kept, for many may be proposed and few are activated. Above all nothing refers to the
        validator, which is large: a class is freed by the collector alone, which looks rarely.
        """
        _objection_of(engine_schema(self._schema))
        msgspec.json.Decoder(self._class(self._root, "", base=EventData))

    def event_type(self, schema: bytes, older: frozenset[str]) -> EventType:
        about = self._about
        name = about["type"]
        data = self._class(self._root, "", base=EventData)
        data.__doc__ = self._schema["description"]
        entry = EventType(
            name=name,
            data=data,
            owner=about["owner"],
            retention=Retention(about["retention"]),
            topic=about["topic"],
            subject_field=about["subject"],
            make_schema=lambda: schema,
            older_dataschemas=older,
            changes=False,
            claims=None,
            accompanies=False,
            unasked=False,
            transfer=False,
            operators=0,
            report=False,
            decoder=msgspec.json.Decoder(data),
            objection=_objection_of(engine_schema(self._schema)),
        )
        declare(entry)
        return entry

    def _class(self, part: Mapping[str, Any], path: str, *, base: type[Any] = _Part) -> Any:
        required = part.get("required", ())
        fields: list[Any] = []
        for field, value in part["properties"].items():
            kind = self._kind(value, f"{path}.{field}")
            fields.append((field, kind) if field in required else (field, kind | None, None))
        name = class_name(self._about["type"], path)
        return msgspec.defstruct(name, fields, bases=(base,), module=__name__, frozen=True, kw_only=True)

    def _kind(self, part: Mapping[str, Any], path: str) -> Any:  # noqa: PLR0911  # one per kind
        if _is_sealed(part):
            return Sealed | None if "anyOf" in part else Sealed
        part = self._resolved(part)
        if "anyOf" in part:
            return self._kind(_kind_of(part), path) | None
        if "properties" in part:
            return self._class(part, path)
        if "items" in part:
            bounds = msgspec.Meta(min_length=part.get("minItems"), max_length=part["maxItems"])
            return Annotated[tuple[self._kind(part["items"], path), ...], bounds]  # type: ignore[misc]  # made at run time
        if "const" in part or "enum" in part:
            words: Any = Literal[tuple([part["const"]] if "const" in part else part["enum"])]
            marked = msgspec.Meta(extra_json_schema={EXTENSIBLE: True})
            return Annotated[words, marked] if EXTENSIBLE in part else words
        match part["type"]:
            case "string":
                return Moment if "format" in part else _text_kind(part)
            case "integer":
                return Annotated[int, msgspec.Meta(ge=part["minimum"], le=part["maximum"])]
        return bool


def _faults_of_about(about: Mapping[str, Any], member: str, topics: Collection[str]) -> Iterator[str]:
    name = about["type"]
    if not isinstance(name, str) or len(name) > NAME_CHARS_MAX or not is_name_of(name, member):
        yield f"$.x-salus.type: it is {prefix_of(member)}.<fact>.v<n>, for it is yours"
    choices: Mapping[str, Collection[object]] = {
        "owner": (MEMBER, member),
        "topic": sorted(topics),
        "key": ("subject",),
        "changes": (False,),
        "retention": [*Retention],
    }
    for key, values in choices.items():
        # In Python, 0 is False as well.
        if not any(about[key] == value and type(about[key]) is not int for value in values):
            yield f"$.x-salus.{key}: it is {' or '.join(map(str, values))}"


def _fields_alike(part: Mapping[str, Any], at: str) -> Iterator[str]:
    names = part["properties"].keys()
    if len({name.replace("_", "") for name in names}) < len(names):
        yield f"{at}: two fields have one name but for _, and would be one in programs"


def _references(part: Any) -> Iterator[str]:
    """Yield the names of the definitions that something in a schema refers to."""
    values = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and isinstance(part.get("$ref"), str):
        yield part["$ref"].removeprefix("#/$defs/")
    for value in values:
        yield from _references(value)


def class_name(name: str, path: str = "") -> str:
    """Return what programs call the data of a type, or a part of it: letters and digits, and never one twice.

    Generators of other languages take no other signs. Words alone would be one name for `a.b-c` and `a-b.c`,
    and of a shorter digest somebody would find two names with one.
    """
    words = "".join(word.capitalize() for word in re.split(r"[^a-z0-9]", f"{name}{path}"))
    return f"{words}X{sha256(f'{name}{path}'.encode()).hexdigest()[:24]}"


def _text_kind(part: Mapping[str, Any]) -> Any:
    # The pattern is for documents: what decides by it is `objection`, for Python's engine may take for ever.
    extra = {"pattern": part["pattern"]} if "pattern" in part else None
    bounds = msgspec.Meta(
        min_length=part.get("minLength"), max_length=part["maxLength"], extra_json_schema=extra
    )
    return Annotated[str, bounds]


def _is_sealed(part: Any) -> bool:
    parts = [part, *part.get("anyOf", ())] if isinstance(part, dict) else []
    return any(one.get("$ref") == _SEALED_REF for one in parts)


def _kind_of(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the one kind of value that an `anyOf` allows besides null."""
    kind: Mapping[str, Any] = next(one for one in part["anyOf"] if one != {"type": "null"})
    return kind


def _text_faults(part: Mapping[str, Any], at: str) -> Iterator[str]:
    if "format" in part or "enum" in part or "const" in part:
        if "pattern" in part:
            yield f"{at}: a time or a word has no pattern besides"
        return
    if part["maxLength"] > TEXT_CHARS_MAX:
        yield f"{at}: maxLength is at most {TEXT_CHARS_MAX}, for all can read it: seal what is longer"
    if (fault := pattern_fault(part.get("pattern", "^$"))) is not None:
        yield f"{at}: pattern: {fault}"


def _default_faults(part: Mapping[str, Any], at: str) -> Iterator[str]:
    if part.get("default") is not None:
        yield f"{at}: default is null or not there, for nobody would fill it in"


def _weight_of(part: Mapping[str, Any]) -> int:
    """Return what a text takes in an engine, in units of WEIGHT_MAX."""
    words = [part["const"]] if "const" in part else part.get("enum", ())
    return sum(1 + len(word) // _CHARS_A_UNIT for word in words) + (
        weight_of(part["pattern"]) if "pattern" in part else 0
    )


def _objection_of(schema: dict[str, Any]) -> Callable[[Any], str | None]:
    validator = jsonschema_rs.Draft202012Validator(
        schema,
        # Times are read by the rule of all events, and nothing is fetched from anywhere.
        validate_formats=False,
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(
            size_limit=_REGEX_BYTES_MAX, dfa_size_limit=_DFA_BYTES_MAX
        ),
    )

    def objection(data: Any) -> str | None:
        if validator.is_valid(data):
            return None
        error = next(iter(validator.iter_errors(data)))
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        return f"${place}: not as {error.schema_path[-1]} of the schema says"

    return objection
