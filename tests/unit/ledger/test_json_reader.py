"""What is JSON to us: every case of JSONTestSuite has its verdict, and the verdict needs no luck."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.errors import RejectedError
from salus.events.wellformed import require_well_formed
from salus.ledger.json_reader import DEPTH_MAX, INTEGER_MAX, NUMBER_CHARS_MAX, JsonError, read_json

ABUSE = Path(__file__).parents[2] / "data" / "abuse"
SUITE = sorted((ABUSE / "JSONTestSuite").iterdir())
TRANSFORM = sorted((ABUSE / "JSONTestSuite-transform").iterdir())

# RFC 8259 lets a parser accept these; RFC 7493 does not, and two readers may see two events in them.
AMBIGUOUS = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
}
# Cases that a parser may refuse and that are accepted: doubles near to zero are zero everywhere.
EITHER_ACCEPTED = {"i_number_double_huge_neg_exp.json", "i_number_real_underflow.json"}
# Larger integers than every reader holds.
TOO_LARGE = {
    "number_-9223372036854775808.json",
    "number_-9223372036854775809.json",
    "number_10000000000000000999.json",
    "number_9223372036854775807.json",
    "number_9223372036854775808.json",
}


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def is_well_formed(value: bytes) -> bool:
    with suppress(JsonError):
        read_json(value)
        return True
    with pytest.raises(RejectedError, match="malformed-json"):
        require_well_formed(value)
    return False


def expected(name: str) -> bool:
    if name.startswith("i_"):
        return name in EITHER_ACCEPTED
    return name.startswith("y_") and name not in AMBIGUOUS


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.name)
def test_every_case_of_the_json_test_suite_has_its_verdict(path: Path) -> None:
    assert is_well_formed(content_of(path)) is expected(path.name)


@pytest.mark.parametrize("path", TRANSFORM, ids=lambda path: path.name)
def test_what_parsers_turn_into_different_things_is_refused(path: Path) -> None:
    refused = path.name.startswith("object_same_key") or "invalid_codepoint" in path.name
    refused = refused or path.name in TOO_LARGE

    assert is_well_formed(content_of(path)) is not refused


def test_names_that_only_look_the_same_are_different_names() -> None:
    assert is_well_formed('{"é":1,"e\\u0301":2}'.encode())


def test_a_name_written_in_two_ways_is_given_twice() -> None:
    assert not is_well_formed(rb'{"a":1,"\u0061":2}')


@pytest.mark.parametrize(("depth", "accepted"), [(DEPTH_MAX, True), (DEPTH_MAX + 1, False), (100_000, False)])
@pytest.mark.parametrize("frames", [1, 800])
def test_the_verdict_on_nesting_does_not_depend_on_the_stack(depth: int, frames: int, accepted: bool) -> None:  # noqa: FBT001  # a column of the table
    def deeper(left: int) -> bool:
        return deeper(left - 1) if left else is_well_formed(b"[" * depth + b"]" * depth)

    assert deeper(frames) is accepted


def test_brackets_in_strings_are_not_nesting() -> None:
    assert is_well_formed(b'["' + b"[{" * 500 + b'\\"[["]')


@pytest.mark.parametrize(
    ("number", "accepted"),
    [
        (str(INTEGER_MAX), True),
        (str(-INTEGER_MAX), True),
        (str(INTEGER_MAX + 1), False),
        (str(-INTEGER_MAX - 1), False),
        ("9" * 1_000_000, False),
        ("0." + "1" * (NUMBER_CHARS_MAX - 2), True),
        ("0." + "1" * (NUMBER_CHARS_MAX - 1), False),
        ("1e308", True),
        ("1e309", False),
        ("-1e309", False),
        ("NaN", False),
        ("Infinity", False),
    ],
)
def test_a_number_is_the_same_one_for_every_reader(number: str, accepted: bool) -> None:  # noqa: FBT001  # a column of the table
    assert is_well_formed(f"[{number}]".encode()) is accepted


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (b'{"ada":{"eve":[1,{"jon":1,"jon":2}]}}', "$.ada.eve[1].jon"),
        (b'{"ada":["\\ud800"]}', "$.ada[0]"),
        (b'{"ada":{"\\ud800":1}}', "$"),
        (b'{"ada":1e400}', "$.ada"),
        (b'{"ada":9007199254740992}', "$.ada"),
        (b'{"ada":}', "$"),
        (b"\xef\xbb\xbf{}", "$"),
    ],
)
def test_a_refusal_names_the_place_and_quotes_nothing(value: bytes, place: str) -> None:
    with pytest.raises(JsonError) as refused:
        read_json(value)

    assert refused.value.place == place
    assert not {"ada", "eve", "jon", "9007199254740992"} & set(refused.value.why.split())


def test_a_refused_event_does_not_repeat_names_that_were_sent() -> None:
    with pytest.raises(RejectedError) as refused:
        require_well_formed(b'{"jane":1,"jane":2}')

    assert "jane" not in str(refused.value)


def test_a_byte_order_mark_is_refused_by_name() -> None:
    with pytest.raises(JsonError, match="byte order mark"):
        read_json(b"\xef\xbb\xbf{}")


def nested(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    nested,
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_whatever_python_writes_is_well_formed(value: object, ascii_only: bool) -> None:  # noqa: FBT001  # drawn
    assert read_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60) | st.text('{}[]":,\\u0d8 -1eE.tfn\x00', max_size=40).map(str.encode))
def test_arbitrary_bytes_get_a_verdict_and_never_an_accident(value: bytes) -> None:
    if is_well_formed(value):
        # As the parser of the standard library reads it, types included: 1.0 is not 1.
        assert repr(read_json(value)) == repr(json.loads(value))
        assert not list(_names_given_twice(value))


def _names_given_twice(value: bytes) -> Iterator[str]:
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        found.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    json.loads(value, object_pairs_hook=look)
    yield from found
