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
from salus.events.wellformed import DEPTH_MAX, require_well_formed

ABUSE = Path(__file__).parents[2] / "data" / "abuse"
SUITE = sorted((ABUSE / "JSONTestSuite").iterdir())
TRANSFORM = sorted((ABUSE / "JSONTestSuite-transform").iterdir())

# RFC 8259 lets a parser accept these; RFC 7493 does not, and two readers may see two events in them.
AMBIGUOUS = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
}
# Cases that a parser may refuse and that are accepted: numbers are looked at and not computed.
EITHER_ACCEPTED = {
    "i_number_double_huge_neg_exp.json",
    "i_number_huge_exp.json",
    "i_number_neg_int_huge_exp.json",
    "i_number_pos_double_huge_exp.json",
    "i_number_real_neg_overflow.json",
    "i_number_real_pos_overflow.json",
    "i_number_real_underflow.json",
    "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",
    "i_number_very_big_negative_int.json",
}


def content_of(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def is_well_formed(value: bytes) -> bool:
    with suppress(RejectedError):
        require_well_formed(value)
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


def test_a_number_of_a_million_digits_is_looked_at_and_not_computed() -> None:
    assert is_well_formed(b"[" + b"9" * 1_000_000 + b"]")


def nested(children: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    nested,
    max_leaves=20,
)


@given(JSON, st.booleans())
def test_whatever_python_writes_is_well_formed(value: object, ascii_only: bool) -> None:  # noqa: FBT001  # drawn
    assert is_well_formed(json.dumps(value, ensure_ascii=ascii_only).encode())


@given(st.binary(max_size=60) | st.text('{}[]":,\\u0d8 -1eE.tfn\x00', max_size=40).map(str.encode))
def test_arbitrary_bytes_get_a_verdict_and_never_an_accident(value: bytes) -> None:
    accepted = is_well_formed(value)

    assert not accepted or not list(_names_given_twice(value))


def _names_given_twice(value: bytes) -> Iterator[str]:
    found: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for name, _ in pairs]
        found.extend(name for name in names if names.count(name) > 1)
        return dict(pairs)

    json.loads(value, object_pairs_hook=look)
    yield from found
