"""What a member may bring as an event type of its own, and what its data may be (issue 13, section 1)."""

from __future__ import annotations

import gc
import time
import weakref
from datetime import UTC, datetime
from typing import Any

import jsonschema
import jsonschema_rs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.own_types import HOSPITAL, PSEUDONYM, SEALED, WARD, name_of, schema_of

from salus.events import asyncapi
from salus.events.contexts import CATALOGUE
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import RejectedError
from salus.events.event_types import EventType, dataschema_of, schema_file
from salus.events.schemas.engine_schema import engine_schema
from salus.events.schemas.plain_patterns import pattern_fault, weight_of
from salus.events.sealed_fields import sealed_fields
from salus.events.type_definition import class_name, definition, faults_of_definition
from salus.events.type_names import is_own_name, prefix_of

TOPICS = CATALOGUE.topics_of_members()
NO_REFERENCES: list[Any] = [
    *(["x"], ["#/$defs/A"], {}, 5, None, True, "A", "#/$defs/", "#/$defs/A%42", "#/$defs/B"),
]
PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"
OTHER = "did:web:other.example"
KEYED = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"


def faults(schema: Any, member: str = HOSPITAL) -> list[str]:
    return faults_of_definition(schema, size=len(schema_file(schema)), member=member, topics=TOPICS)


def entry_of(schema: dict[str, Any]) -> EventType:
    assert faults(schema) == []
    return definition(schema_file(schema))


def why_not(entry: EventType, **data: Any) -> str:
    """Why an event with this data is refused; nothing if it is not."""
    value = encode_event(
        entry.data(patient=PATIENT, ward="A"),
        id="1",
        source=HOSPITAL,
        subject=PATIENT,
        time=datetime(2026, 11, 22, tzinfo=UTC),
    )
    event = msgspec.json.decode(value)
    event["data"] |= data
    try:
        decode_event(msgspec.json.encode(event), CATALOGUE.with_types([entry]))
    except RejectedError as error:
        return f"{error.reason}: {error.detail}"
    return ""


# --- names ------------------------------------------------------------------------------------------


def test_a_member_brings_types_below_its_own_host_or_a_digest_of_its_did() -> None:
    assert prefix_of(HOSPITAL) == "example.hospital"
    for did in (KEYED, "did:web:hospital.example:ward", "did:web:localhost%3A8443", "did:web:evil.salus"):
        assert prefix_of(did).startswith("salus.ext.")
        assert len(prefix_of(did)) == len("salus.ext.") + 32


DIDS = st.one_of(
    st.from_regex(r"did:web:([a-c-]{1,3}\.){0,3}(salus|ext|a|b)", fullmatch=True),
    st.from_regex(r"did:(web|key):[a-c:%.A]{1,6}", fullmatch=True),
)


@given(DIDS, DIDS, st.from_regex(r"[a-c-]{1,3}(\.[a-c]){0,2}\.v[12]", fullmatch=True))
def test_no_name_is_of_two_members_and_none_is_the_releases(one: str, other: str, rest: str) -> None:
    for name in (f"{prefix_of(one)}.{rest}", f"{prefix_of(other)}.{rest}"):
        owners = {did for did in (one, other) if faults_of_name(name, did) == []}

        assert len(owners) <= 1
        assert CATALOGUE.type_named(name) is None


def faults_of_name(name: str, member: str) -> list[str]:
    schema = schema_of(member, about={"type": name}, more={"$id": f"urn:salus:schema:{name}"})
    return faults(schema, member)


@pytest.mark.parametrize("entry", CATALOGUE.types(), ids=lambda entry: entry.name)
def test_no_type_of_the_release_is_a_members(entry: EventType) -> None:
    assert not is_own_name(entry.name) or entry.name.split(".")[1] != "ext"
    for member in (HOSPITAL, KEYED, "did:web:salus", f"did:web:{entry.name.split('.')[1]}.salus"):
        assert faults_of_name(entry.name, member)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("example.other.bed-occupied.v1", "another member's"),
        ("example.hospital.ward.bed-occupied.v1", "of ward.hospital.example"),
        ("example.bed-occupied.v1", "of the host above"),
        ("example.hospital.bed-occupied", "no version"),
        ("example.hospital.bed-occupied.v0", "version 0"),
        ("example.hospital.Bed.v1", "capitals"),
        ("example.hospital.bed\u043eccupied.v1", "a letter that looks like another"),
        ("salus.clinical.encounter-recorded.v1", "of the release"),
        ("salus.clinical.bed-occupied.v1", "of a context of the release"),
        (f"example.hospital.{'b' * 200}.v1", "too long"),
    ],
)
def test_a_name_that_is_not_its_own_is_refused(name: str, why: str) -> None:
    assert faults_of_name(name, HOSPITAL)[0].startswith("$.x-salus.type: "), why


def test_two_names_never_make_one_class() -> None:
    names = ["a.b-c.v1", "a-b.c.v1", "a.bc.v1", "a-1.b.v1", "a1.b.v1", "a.b.c.v1", "a--b.c.v1"]

    assert len({class_name(name) for name in names}) == len(names)


# --- what a schema may be ---------------------------------------------------------------------------


def field(**part: Any) -> dict[str, Any]:
    return schema_of(fields={"extra": part})


def nested(depth: int) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "boolean"}
    for _ in range(depth):
        part = {"type": "object", "additionalProperties": False, "properties": {"a": part}}
    return schema_of(fields={"extra": part})


HOSTILE: dict[str, tuple[Any, str]] = {
    "no object": ([], "$: a schema is an object"),
    "many fields": (schema_of(fields={f"f{n}": {"type": "boolean"} for n in range(300)}), "$: "),
    "a large one": (schema_of(title="x" * 70_000), "$: "),
    "a deep one": (nested(20), "$.extra"),
    "one that refers to itself": (
        schema_of(
            fields={"extra": {"$ref": "#/$defs/A"}},
            more={
                "$defs": {
                    "A": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"a": {"$ref": "#/$defs/A"}},
                    }
                }
            },
        ),
        "$.extra.a: $ref leads in a circle",
    ),
    "a circle of references alone": (
        schema_of(
            fields={"extra": {"$ref": "#/$defs/A"}},
            more={"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        ),
        "$.extra: $ref leads in a circle",
    ),
    "one from elsewhere": (field(**{"$ref": "https://example.org/x.json"}), "$.extra: $ref leads"),
    "one from the disk": (field(**{"$ref": "file:///etc/passwd"}), "$.extra: $ref leads"),
    "an id of its own": (field(**{"$id": "x", "type": "boolean"}), "$.extra: $id"),
    "an anchor": (field(**{"$anchor": "x", "type": "boolean"}), "$.extra: $anchor"),
    "a dynamic reference": (field(**{"$dynamicRef": "#x", "type": "boolean"}), "$.extra: $dynamicRef"),
    "definitions that are no object": (schema_of(more={"$defs": []}), "$"),
    "a definition that nothing refers to": (
        schema_of(more={"$defs": {"A": {"pattern": "(a+)+"}}}),
        "$.$defs.A",
    ),
    "conditions": (field(type="boolean", **{"if": {}}), "$.extra: if"),
    "patterns of names": (field(type="object", patternProperties={}), "$.extra"),
    "a number": (field(type="number", maximum=1), "$.extra: type"),
    "a fraction": (field(type="integer", minimum=0, maximum=9, multipleOf=2), "$.extra: multipleOf"),
    "a least length of no number": (field(type="string", maxLength=9, minLength="x"), "$.extra: minLength"),
    "no word": (field(enum=[]), "$.extra: words"),
    "a word twice": (field(enum=["a", "a"]), "$.extra: words"),
    "a field required twice": (schema_of(required=("patient", "patient")), "$: required"),
    "a title that is no text": (field(type="boolean", title=5), "$.extra: title"),
    "open words": (field(type="string", maxLength=400_000), "$.extra: maxLength is at most 256"),
    "a default": (field(type="string", maxLength=9, default="x"), "$.extra: default"),
    "a pattern that may take for ever": (
        field(type="string", maxLength=9, pattern="^(a+)+$"),
        "$.extra: pat",
    ),
    "another one": (field(type="string", maxLength=9, pattern="^(a|a)*$"), "$.extra: pattern"),
    "one of many states": (field(type="string", maxLength=9, pattern="^[a-z]{9}{99}$"), "$.extra: pattern"),
    "a large count": (field(type="string", maxLength=9, pattern="^[a-z]{1,5000}$"), "$.extra: pattern"),
    "a set operation": (field(type="string", maxLength=9, pattern="^[a-z&&b]$"), "$.extra: pattern"),
    "a class in a class": (field(type="string", maxLength=9, pattern="^[[a]$"), "$.extra: pattern"),
    "a dot": (field(type="string", maxLength=9, pattern="^.*$"), "$.extra: pattern"),
    "an alternative that leaves the frame": (
        field(type="string", maxLength=9, pattern="^a|b$"),
        "$.extra: pat",
    ),
    "a pattern of a word": (field(enum=["a"], pattern="^a$"), "$.extra"),
    "sealed within a part": (
        field(type="object", additionalProperties=False, properties={"a": SEALED}),
        "$.extra.a: what is sealed",
    ),
    "sealed in a list": (field(type="array", maxItems=2, items=SEALED), "$.extra[]: what is sealed"),
    "sealed and not said so": (field(**{"$ref": "#/$defs/Sealed"}), "$.extra: what is sealed"),
    "said to be sealed": (field(type="string", maxLength=9, **{"x-salus-sealed": True}), "$.extra: what is"),
    "sealed in its own way": (
        schema_of(fields={"extra": SEALED}, more={"$defs": {"Sealed": WARD}}),
        "$.$defs.Sealed",
    ),
    "sealed for no patient": (
        schema_of(fields={"extra": SEALED, "patient": WARD}),
        "$.patient: what is sealed",
    ),
    "a subject that is no field": (schema_of(about={"subject": "nobody"}), "$.x-salus.subject"),
    "a subject that is no name": (schema_of(about={"subject": ["patient"]}), "$.x-salus.subject"),
    "a subject that is a number": (schema_of(about={"subject": "beds"}, required=("beds",)), "$.beds"),
    "another's owner": (schema_of(about={"owner": OTHER}), "$.x-salus.owner"),
    "an owner that is a service": (schema_of(about={"owner": "consent"}), "$.x-salus.owner"),
    "an owner that is a list": (schema_of(about={"owner": [HOSPITAL]}), "$.x-salus.owner"),
    "a service's topic": (schema_of(about={"topic": "salus.consent.events"}), "$.x-salus.topic"),
    "a topic of its own": (schema_of(about={"topic": "example.hospital"}), "$.x-salus.topic"),
    "versions of its subject": (schema_of(about={"changes": True}), "$.x-salus.changes"),
    "zero for false": (schema_of(about={"changes": 0}), "$.x-salus.changes"),
    "a retention of its own": (schema_of(about={"retention": "for-ever"}), "$.x-salus.retention"),
    "more about it": (schema_of(about={"claims": "x"}), "$.x-salus"),
    "an object that is no name": (
        schema_of(fields={"object": {"type": "integer", "minimum": 0, "maximum": 9}}),
        "$.object: it names a record",
    ),
    "an object that is a time": (
        schema_of(fields={"object": {"type": "string", "format": "date-time"}}),
        "$.object: it names a record",
    ),
    "no sentence": (schema_of(description=""), "$.description"),
    "a sentence that is written backwards": (schema_of(description="A \u202eb"), "$: title and"),
    "a field's sentence that steers a terminal": (field(type="boolean", description="\x9b31m"), "$.extra: t"),
    "a word of no width": (field(enum=["a\u200bb"]), "$.extra: words"),
    # redA6: the look took these for a name, and the engine for an address of another definition.
    **{
        f"a reference that is written as {name}": (
            schema_of(
                fields={"extra": {"$ref": f"#/$defs/{name}"}},
                more={"$defs": {name: {"type": "boolean"}, other: {"pattern": "(a+)+"}}},
            ),
            "$.$defs",
        )
        for name, other in {"A%62": "Ab", "A/b": "A", "A~1b": "Ab", "A~0b": "A", "": "A"}.items()
    },
    **{
        f"a reference that is {value!r}": (
            schema_of(fields={"extra": {"$ref": value}}, more={"$defs": {"A": {"type": "boolean"}}}),
            "$.extra: $ref leads to no",
        )
        for value in NO_REFERENCES
    },
    "a definition that a default refers to": (
        schema_of(
            fields={"extra": {"$ref": "#/$defs/A", "default": {"$ref": "#/$defs/B"}}},
            more={"$defs": {"A": {"type": "boolean"}, "B": {"pattern": "(a+)+"}}},
        ),
        "$.$defs.B",
    ),
    "a default beside a reference": (
        schema_of(
            fields={"extra": {"$ref": "#/$defs/A", "default": "x"}},
            more={"$defs": {"A": {"type": "boolean"}}},
        ),
        "$.extra: default",
    ),
    "a default of the whole": (schema_of(more={"default": {"ward": "x"}}), "$: default"),
    "words that are a number": (field(type="integer", enum=["a"]), "$.extra: words"),
    "words of two types": (field(type=["string", "null"], enum=["a"]), "$.extra: type"),
    "two lists of words": (field(const="a", enum=["a"]), "$.extra: words"),
    "a word with a length": (field(enum=["a"], maxLength=3), "$.extra: maxLength"),
    "a time with a length": (field(type="string", format="date-time", maxLength="x"), "$.extra: maxLength"),
    "no length at all": (field(type="string", maxLength=1, minLength=2), "$.extra: minLength is larger"),
    "no number at all": (field(type="integer", minimum=2, maximum=1), "$.extra: minimum is larger"),
    "no list at all": (
        field(type="array", items={"type": "boolean"}, minItems=2, maxItems=1),
        "$.extra: minItems is larger",
    ),
    # redA6, redB6: each of these took some 70 MB in every process of the network, for ever.
    **{
        f"patterns of much room, as {pattern}": (
            schema_of(
                fields={f"f{n}": {"type": "string", "maxLength": 256, "pattern": pattern} for n in range(240)}
            ),
            "$: its patterns and words take",
        )
        for pattern in ("^ab[^a]{0,254}$", "^[^!]*a[^!]{0,120}b[^!]{0,120}N$", "^[a-z]{0,254}$")
    },
    "two fields of one name": (
        schema_of(fields={"a_1": {"enum": ["a"]}, "a1": {"enum": ["b"]}}),
        "$: two fields",
    ),
    "another id": (schema_of(more={"$id": "urn:salus:schema:x"}), "$.$id"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_schema_that_is_beyond_the_subset_is_refused_and_the_place_is_named(case: str) -> None:
    schema, place = HOSTILE[case]

    assert any(fault.startswith(place) for fault in faults(schema)), faults(schema)


def test_a_schema_of_many_fields_with_plain_patterns_is_taken() -> None:
    code = {"type": "string", "maxLength": 40, "pattern": "^[A-Z][A-Z0-9]{0,15}$"}
    kind = {"enum": [f"word-{n}" for n in range(100)]}
    fields = {f"code_{n}": code for n in range(200)} | {f"kind_{n}": kind for n in range(20)}

    assert faults(schema_of(fields=fields)) == []


PATTERN = st.lists(
    st.tuples(
        st.sampled_from(
            ["a", "[a-z]", "[^a]", "[^a-z0-9 ]", "[acegikmoqsuwyACEGIKMOQSUWY]", "(ab|[^c])", "\\."]
        ),
        st.sampled_from(["", "?", "{0,9}", "{31}", "*", "+"]),
    ),
    min_size=1,
    max_size=6,
).map(lambda parts: "^" + "".join(sign + ("" if sign[0] == "(" else count) for sign, count in parts) + "$")


@given(PATTERN)
def test_an_engine_compiles_a_pattern_in_the_room_that_its_weight_says(pattern: str) -> None:
    assert pattern_fault(pattern) is None
    room = jsonschema_rs.RegexOptions(size_limit=weight_of(pattern) * 160)

    jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=room)


def test_what_is_only_proposed_keeps_no_engine() -> None:
    before = definition.cache_info().currsize
    assert faults(schema_of(fact="bed-closed.v1")) == []

    assert definition.cache_info().currsize == before


def test_the_engine_is_given_what_was_looked_at_and_nothing_else() -> None:
    schema = schema_of(
        fields={
            "extra": {"$ref": "#/$defs/A", "title": "an extra"},
            "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "default": None},
            "at": {"type": "string", "format": "date-time"},
        },
        more={
            "$defs": {"A": {"type": "array", "maxItems": 2, "items": {"enum": ["a"], "description": "one"}}}
        },
    )
    assert faults(schema) == []
    given = engine_schema(schema)

    assert given["$defs"] == {"A": {"type": "array", "maxItems": 2, "items": {"enum": ["a"]}}}
    assert given["properties"] == {
        "patient": PSEUDONYM,
        "ward": WARD,
        "beds": {"type": "integer", "minimum": 0, "maximum": 9},
        "extra": {"$ref": "#/$defs/A"},
        "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
        "at": {"type": "string"},
    }
    assert given.keys() == {"$schema", "$defs", "type", "properties", "required", "additionalProperties"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYWORDS = [
    *("type", "properties", "required", "$ref", "$defs", "enum", "const", "anyOf", "items", "maxItems"),
    *("maxLength", "minLength", "pattern", "default", "x-salus", "$id", "description", "minimum"),
]


@given(keyword=st.sampled_from([*KEYWORDS, "extra"]), value=JSON, inside=st.booleans())
def test_what_is_proposed_is_refused_or_becomes_a_type(keyword: str, value: Any, *, inside: bool) -> None:
    schema = schema_of(fields={"extra": {"type": "string", "maxLength": 9}, "content": SEALED})
    (schema["properties"]["extra"] if inside else schema)[keyword] = value

    if faults(schema) == []:
        assert definition(schema_file(schema)).dataschema == dataschema_of(
            name_of(schema), schema_file(schema)
        )


# --- what its data may be ---------------------------------------------------------------------------

RICH = schema_of(
    fields={
        "class": {"enum": ["a", "b"]},
        "since": {"type": "string", "format": "date-time"},
        "note": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}], "default": None},
        "parts": {
            "type": "array",
            "maxItems": 2,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["yes"],
                "properties": {"yes": {"type": "boolean"}},
            },
        },
    }
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({}, ""),
        ({"beds": 9, "class": "a", "note": None, "parts": [{"yes": True}]}, ""),
        ({"since": "2026-11-22T12:00:00Z"}, ""),
        ({"ward": "ABC.5"}, ""),
        ({"ward": "abc"}, "schema-violation: $.ward: not as pattern of the schema says"),
        ({"ward": "A\n"}, "schema-violation: $.ward: not as pattern of the schema says"),
        ({"ward": "A" * 9}, "schema-violation: $.ward: Expected `str`"),
        ({"beds": 10}, "schema-violation: $.beds: Expected `int`"),
        ({"beds": 1.0}, "schema-violation: $.beds: Expected `int | null`"),
        ({"beds": True}, "schema-violation: $.beds: Expected `int | null`"),
        ({"beds": None}, "schema-violation: $.beds: not as type of the schema says"),
        ({"class": "c"}, "schema-violation: $.class: not as the schema says"),
        ({"since": "yesterday"}, "schema-violation: $.since: "),
        ({"parts": [{"yes": True}] * 3}, "schema-violation: $.parts: Expected `array`"),
        ({"parts": [{}]}, "schema-violation: $.parts[0]: Object missing required field `yes`"),
        ({"named": "Jane"}, "schema-violation: $: unknown field"),
        (
            {"patient": "urn:uuid:00000000-0000-4000-8000-000000000002"},
            "schema-violation: $.patient: differs",
        ),
    ],
)
def test_wrong_data_is_refused_and_the_field_is_named(data: dict[str, Any], why: str) -> None:
    said = why_not(entry_of(RICH), **data)

    assert said.startswith(why) if why else said == ""
    assert "Jane" not in said


VALUES = st.fixed_dictionaries(
    {
        # Not "A\n": that validator asks Python's engine, whose $ lets a final newline pass.
        "ward": st.sampled_from(["A", "AB.1", "a", "", "ABCDE", "A.", "A.12345678"]),
        "beds": st.sampled_from([0, 9, 10, -1, 1.5, "1", None, 2**60]),
        "class": st.sampled_from(["a", "b", "c", "", None, 1]),
        "note": st.one_of(st.none(), st.text(max_size=11)),
        "parts": st.lists(
            st.sampled_from([{"yes": True}, {"yes": 1}, {}, {"yes": False, "no": 1}]), max_size=3
        ),
    }
)


@given(VALUES)
def test_another_validator_says_the_same(data: dict[str, Any]) -> None:
    whole = {"patient": PATIENT, **data}

    accepted = why_not(entry_of(RICH), **data) == ""

    assert accepted is jsonschema.Draft202012Validator(RICH).is_valid(whole)


@pytest.mark.parametrize(
    "pattern", ["^(a|aa)?$", "^[a-z]+[a-z]*[a-z]*[a-z]*$", "^[a-z]*[a-z]*[a-z]*[a-z]*[a-z]*[0-9]$"]
)
def test_a_pattern_that_others_read_for_ever_takes_no_time(pattern: str) -> None:
    # What Python's own engine takes hours for, of 256 characters: here it is linear, whatever the pattern is.
    entry = entry_of(schema_of(fields={"code": {"type": "string", "maxLength": 256, "pattern": pattern}}))
    began = time.process_time()

    assert why_not(entry, code="a" * 255 + "!").startswith("schema-violation: $.code: not as pattern")
    assert time.process_time() - began < 10  # seconds: far more than it takes


@pytest.mark.parametrize(
    ("pattern", "plain"),
    [
        ("^[0-9]{5}([.][0-9]{1,2})?$", True),
        ("^(red|green|blue)$", True),
        (r"^[A-Z]\.[^a-z\]\[]+$", True),
        ("^$", True),
        (r"^[a-z\-]$", True),
        ("^[a-]$", False),
        ("^a{2}{2}$", False),
        ("^*$", False),
        ("^a**$", False),
        ("^a+?$", False),
        ("^(?:a)$", False),
        ("^(a$", False),
        ("^a)$", False),
        ("^a{2,1}$", False),
        (r"^\d$", False),
        (r"^\u0041$", False),
        ("^é$", False),
        ("^[a~~b]$", False),
        ("^[a--b]$", False),
        ("a", False),
        ("^" + "a" * 1024 + "$", False),
    ],
)
def test_a_plain_pattern_is_of_few_signs(pattern: str, *, plain: bool) -> None:
    assert (pattern_fault(pattern) is None) is plain


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("A+", "$.code: pattern: it is a text that goes from ^ to $"),
        ("^" + "a" * 1024 + "$", "$.code: pattern: it has 1026 characters, of 1024 at most"),
        (r"^a\d$", "$.code: pattern: character 3: no classes by letter"),
        ("^a[b$", "$.code: pattern: character 3: it is no regular expression, unterminated character set"),
        ("^a.b$", "$.code: pattern: character 3: here may stand"),
        ("^(ab)+$", "$.code: pattern: character 5: a group does not repeat"),
        ("^a|b$", "$.code: pattern: character 3: alternatives stand in a group: (a|b)"),
        ("^a{200}b{57}$", "$.code: pattern: its counts come to 257, of 256 at most"),
    ],
)
def test_a_fault_of_a_pattern_names_the_character(pattern: str, said: str) -> None:
    """A newcomer's case: one sentence stood for every fault, and named no part of the pattern."""
    schema = schema_of(fields={"code": {"type": "string", "maxLength": 9, "pattern": pattern}})
    [fault] = faults(schema)

    assert fault.startswith(said)


def test_a_type_is_read_like_those_of_the_release() -> None:
    entry = entry_of(schema_of(fields={"content": SEALED, "mro": {"type": "boolean"}}, required=("patient",)))
    document = msgspec.json.decode(asyncapi.document(CATALOGUE.with_types([entry])))

    assert sealed_fields(entry.data) == ("content",)
    assert entry.summary == "A bed of a ward is occupied."
    assert document["components"]["schemas"][entry.data.__name__]["properties"]["ward"] == WARD
    assert document["components"]["messages"][entry.name]["x-salus-owner"] == HOSPITAL
    assert CATALOGUE.with_types([entry]).digest != CATALOGUE.digest
    assert CATALOGUE.type_named(entry.name) is None
    assert PSEUDONYM["maxLength"] == len(PATIENT)


def test_what_is_judged_is_not_kept_until_somebody_looks_for_cycles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator takes megabytes, and services look rarely (redA7, finding 1)."""
    made: list[weakref.ref[object]] = []

    engine = jsonschema_rs.Draft202012Validator

    class Watched:
        def __init__(self, *given: Any, **options: Any) -> None:
            self.validator = engine(*given, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(jsonschema_rs, "Draft202012Validator", Watched)
    gc.disable()
    try:
        assert faults(schema_of()) == []
        assert [kept() for kept in made] == [None]
    finally:
        gc.enable()
