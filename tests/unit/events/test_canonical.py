"""What is read of many events at once is what each says by itself; of an invalid one nothing is read."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import inspect
from tests.unit.events.samples import PATIENT, SEALED, as_json, document, encoded, for_each_type, refusal_of

from salus.events import canonical
from salus.events.canonical import Attribute, Attributes, attributes_of, load
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import EncounterRecorded
from salus.events.contexts.network import KeyRotated
from salus.events.envelope import decode_event
from salus.events.event_types import EventType, type_of
from salus.events.recognizers import Compiler, NotCompilableError, pieces_of
from salus.events.requests import RequestedData

needs_library = pytest.mark.skipif(
    canonical._reader(CATALOGUE) is None, reason="no C compiler, or a processor without vector lanes"
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENCOUNTER = encoded(EncounterRecorded(patient=PATIENT, encounter="encounter-1", content=SEALED))
ROTATED = encoded(KeyRotated(name="log", role="log", verifier_key="log+00000000+AA", first=7))

Edit = tuple[int, str, int]
EDITS: st.SearchStrategy[Edit] = st.tuples(
    st.integers(0, 5000), st.sampled_from(["change", "drop", "double", "insert"]), st.integers(0, 255)
)
# What may stand in the place of any value; as JSON text, for no encoder writes some of these.
TOKENS = (
    [
        "",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-1",
        "01",
        "1.0",
        "1e3",
        "999999999999999",
        "9999999999999999",
        "99999999999999999999",
        '""',
        '"',
        '"',
        '"\\u0041"',
        '"\\n"',
        '"\x7f"',
        '"é"',
        '"😀"',
        "{}",
        "[]",
        "[[]]",
        '[""]',
        '["a","a"]',
        "[null]",
        '{"a":1}',
        '"2026-11-22T12:00:00Z"',
        '"2026-11-22T12:00:00.5Z"',
        '"2026-11-22T12:00:00.1234567Z"',
        '"2026-11-22T12:00:00"',
        '"2026-11-22T12:00:00+01:00"',
        '"2026-02-29T12:00:00Z"',
        '"2024-02-29T12:00:00Z"',
        '"1900-01-01T00:00:00Z"',
        '"9998-12-31T23:59:59.999999Z"',
        'x2026-11-22T12:00:00Z"',
        '"1899-12-31T23:59:59Z"',
        '"9999-01-01T00:00:00Z"',
        '"0000-01-01T00:00:00Z"',
        '"2026-11-22t12:00:00z"',
        '"2026-11-22T24:00:00Z"',
        '"2026-11-22T12:00:60Z"',
        '"2026-13-01T00:00:00Z"',
        '"2026-11-22T12:00:00.Z"',
        '"A"',
        '"A="',
        '"A=="',
        '"A==="',
        '"="',
        '"=="',
        '"A=A"',
        '"did:"',
        '"did:key:"',
        '"did:key:z"',
        '"did:KEY:z"',
        '"did:key:z#z"',
        '"did:key:z#"',
        '"z0"',
        '"z1"',
        '"urn:uuid:"',
        '"urn:uuid:00000000-0000-4000-8000-00000000000g"',
        '"urn:uuid:00000000-0000-4000-8000-0000000000001"',
        '"read"',
        '"write"',
        '"TREAT"',
        '"member"',
        '"0.3"',
        '"1.0"',
        '"application/json"',
    ]
    + [f'"{"x" * size}"' for size in (64, 65, 128, 129, 256, 257)]
    + [f'"{"0" * size}"' for size in (63, 64, 65)]
)

# What is valid in some place, but no encoder writes it so, or hardly ever.
WRITTEN_OTHERWISE = {
    "null",
    "-0",
    "1.0",
    "1e3",
    "9999999999999999",
    '"2026-11-22T12:00:00.1234567Z"',
    '"2026-11-22T12:00:00+01:00"',
    '"2026-11-22t12:00:00z"',
}


def read(*values: bytes) -> Attributes:
    return attributes_of(b"".join(values), array("Q", accumulate(map(len, values), initial=0)), CATALOGUE)


def texts_of(found: Attributes, row: int = 0) -> tuple[bytes | None, ...]:
    return tuple(found.texts(attribute)[row] for attribute in Attribute)


def types_of(found: Attributes) -> list[EventType | None]:
    return [found.type_of(row) for row in range(len(found.numbers))]


def require_same(value: bytes, found: Attributes, row: int = 0) -> None:
    """An event of which something is said is valid, and says the same."""
    event = decode_event(value, CATALOGUE)
    envelope = event.envelope
    assert found.type_of(row) == event.type
    texts = envelope.id, envelope.source, envelope.subject
    assert texts_of(found, row) == tuple(map(str.encode, texts))
    assert EPOCH + timedelta(microseconds=found.times[row]) == envelope.time


def is_plain(value: bytes) -> bool:
    many_digits = re.search(rb"[:,\[][0-9]{16}", value)
    return value.isascii() and b"\\" not in value and b"\x7f" not in value and not many_digits


def edited(value: bytes, edit: Edit) -> bytes:
    at, kind, byte = edit[0] % len(value), edit[1], bytes([edit[2]])
    kept = {
        "change": byte,
        "drop": b"",
        "double": value[at : at + 1] * 2,
        "insert": byte + value[at : at + 1],
    }[kind]
    return value[:at] + kept + value[at + 1 :]


def places_in(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Sequence[tuple[Any, Any]] = (
        list(tree.items())
        if isinstance(tree, dict)
        else list(enumerate(tree))
        if isinstance(tree, list)
        else []
    )
    return [found for name, part in items for found in [(*path, name), *places_in(part, (*path, name))]]


def with_token(value: bytes, path: tuple[Any, ...], token: str) -> bytes:
    tree = as_json(value)
    at: Any = tree
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = "\0"
    return json.dumps(tree, separators=(",", ":"), ensure_ascii=False).replace('"\\u0000"', token).encode()


@needs_library
def test_every_type_of_the_catalogue_has_a_program() -> None:
    reader = canonical._reader(CATALOGUE)

    assert reader is not None
    # Whether a request was made is not written in an event, so those that carry one are judged alone.
    assert reader.types == [entry for entry in CATALOGUE.types() if not issubclass(entry.data, RequestedData)]


@needs_library
@for_each_type(st.integers(0, 10**6 - 1))
def test_every_plain_event_as_an_encoder_writes_it_is_read(data: Any, microsecond: int) -> None:
    time = datetime(2026, 11, 22, 12, tzinfo=UTC) + timedelta(microseconds=microsecond)
    value = encoded(data, time=time)
    found = read(value)

    if isinstance(data, RequestedData):
        assert types_of(found) == [None]
    elif is_plain(value):
        assert types_of(found) == [type_of(data)]
        require_same(value, found)


@for_each_type(st.lists(EDITS, max_size=3))
def test_an_event_with_changed_bytes_is_read_only_if_it_is_valid(data: Any, edits: list[Edit]) -> None:
    value = encoded(data)
    for edit in edits:
        value = edited(value, edit)
    found = read(value)

    if found.type_of(0) is not None:
        require_same(value, found)


@for_each_type(st.data())
def test_an_event_with_another_value_somewhere_is_read_only_if_it_is_valid(
    data: Any, draw: st.DataObject
) -> None:
    value = encoded(data)
    path = draw.draw(st.sampled_from(places_in(as_json(value))))
    value = with_token(value, path, draw.draw(st.sampled_from(TOKENS)))
    found = read(value)

    if found.type_of(0) is not None:
        require_same(value, found)


@pytest.mark.parametrize("value", [ENCOUNTER, ROTATED], ids=["encounter", "key"])
def test_whatever_stands_in_the_place_of_a_value_is_read_only_if_it_is_valid(value: bytes) -> None:
    tried = [
        (with_token(value, path, token), token) for path in places_in(as_json(value)) for token in TOKENS
    ]
    found = read(*(changed for changed, _ in tried))

    for row, (changed, token) in enumerate(tried):
        if found.type_of(row) is not None:
            require_same(changed, found, row)
        elif is_plain(changed) and token not in WRITTEN_OTHERWISE:
            assert refusal_of(changed) is not None, changed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"patient":', b'"patient":"x","patient":'),
        (b'"id":', b'"id":"x","id":'),
        (b'{"suite"', b'{"more":1,"suite"'),
        (f'"suite":"{SEALED.suite}",'.encode(), b""),
        # Case SEC9: by a suite that we know, to a key of the subject, and as long as that makes it.
        (SEALED.suite.encode(), b"rot13"),
        (SEALED.key.encode(), b"nokey"),
        (SEALED.key.encode(), SEALED.key.encode().replace(b"0#1", b"9#1").replace(b"1#1", b"2#1")),
        (SEALED.key.encode(), PATIENT.encode() + b"#"),
        (SEALED.ciphertext.encode(), SEALED.ciphertext.encode()[1:]),
        (b",", b", "),
        (b'"content":{', b'"content":[{'),
        (b"}}}", b"}}"),
        (b"}}}", b"}}}}"),
        (b"}}}", b"}}} "),
        (PATIENT.encode() + b'","enc', PATIENT.encode()[:-1] + b'2","enc'),
        (b"encounter-recorded.v1:", b"encounter-recorded.v2:"),
        (b'"type":"salus', b'"type":"saluz'),
    ],
)
def test_what_is_no_event_is_not_read(old: bytes, new: bytes) -> None:
    assert old in ENCOUNTER

    assert types_of(read(ENCOUNTER.replace(old, new, 1))) == [None]


@given(st.binary(max_size=60) | st.text('{"specvrion:1.0d,', max_size=60).map(str.encode))
@example(b"")
@example(ENCOUNTER[:30])
def test_arbitrary_bytes_are_not_read(value: bytes) -> None:
    assert types_of(read(value)) == [None]


def test_the_beginning_of_an_event_is_not_read_on_into_the_next() -> None:
    whole = ENCOUNTER
    cuts = [part for at in range(len(whole)) for part in (whole[:at], whole[at:])]

    found = types_of(read(*cuts))
    assert set(found[1:]) <= {None, type_of(EncounterRecorded)}
    assert found.count(None) == len(cuts) - 1


@needs_library
@given(
    st.lists(
        st.sampled_from([ENCOUNTER, ROTATED, b"", ENCOUNTER[:-1], encoded(document(), number=7)]), max_size=30
    )
)
def test_each_of_many_events_is_read_as_it_is_alone(values: list[bytes]) -> None:
    found = read(*values)

    assert len(found.numbers) == len(found.times) == len(values)
    for row, value in enumerate(values):
        alone = read(value)
        assert (found.type_of(row), texts_of(found, row)) == (alone.type_of(0), texts_of(alone))
        assert found.times[row] == alone.times[0]


@needs_library
@pytest.mark.parametrize("places", [[0, 5, 3], [0, 9999], [7, 0]])
def test_places_that_are_not_within_the_events_are_refused(places: list[int]) -> None:
    with pytest.raises(ValueError, match="beyond the events"):
        attributes_of(ENCOUNTER, array("Q", places), CATALOGUE)


def test_a_library_that_is_missing_is_done_without(tmp_path: Path) -> None:
    assert load(CATALOGUE.types(), str(tmp_path / "none.native")) is None


class Checked(msgspec.Struct):
    field: str

    def __post_init__(self) -> None:
        raise ValueError


class Tagged(msgspec.Struct, tag=True):
    field: Annotated[str, msgspec.Meta(max_length=3)]


class Listed(msgspec.Struct, array_like=True):
    field: Annotated[str, msgspec.Meta(max_length=3)]


class FirstOptional(msgspec.Struct):
    field: bool = False


@pytest.mark.parametrize(
    "kind",
    [
        Checked,
        Tagged,
        Listed,
        FirstOptional,
        float,
        bytes,
        int,
        str,
        Any,
        dict[str, str],
        tuple[bool, ...],
        datetime,
        Annotated[int, msgspec.Meta(ge=0, le=10)],
        Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)],
        Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1, multiple_of=2)],
        Annotated[str, msgspec.Meta(max_length=8, pattern="^a|b$")],
        Annotated[str, msgspec.Meta(max_length=8, pattern=r"^a(b)\Z")],
        Annotated[str, msgspec.Meta(max_length=2, pattern=r"^abc\Z")],
        Annotated[str, msgspec.Meta(max_length=8, min_length=4, pattern=r"^ab[c]*[d]*\Z")],
        Annotated[str, msgspec.Meta(max_length=8, pattern=r"^[a]+\Z", extra_json_schema={"pattern": "^b$"})],
        bool | str,
    ],
    ids=str,
)
def test_a_class_that_asks_for_more_than_a_program_can_tell_gets_none(kind: Any) -> None:
    with pytest.raises(NotCompilableError):
        Compiler().value(inspect.type_info(kind))


@pytest.mark.parametrize("pattern", [r"^a.b\Z", r"^(a)\Z", r"^a|b\Z", r"a\Z", "^a.b$", "^a+", r"^a+$(?!\n)"])
def test_a_pattern_of_more_than_characters_in_a_row_is_refused(pattern: str) -> None:
    with pytest.raises(NotCompilableError):
        pieces_of(pattern)
