"""What is read at one look is what the strict reader and the rule for times would have read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.canonical_json import read_canonical
from salus.events.moments import with_moments
from salus.events.signed_request import Body
from salus.ledger.json_reader import INTEGER_MAX, read_json

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Inner(Body):
    note: str
    at: datetime | None = None


class Outer(Body):
    name: str
    until: datetime
    count: int | float = 0
    parts: tuple[Inner, ...] = ()
    free: Any = None


PLAIN = Outer("a", NOON, 7, (Inner("b", NOON), Inner("c")), {"d": [1, None, "e"]})


def strictly(text: bytes) -> Outer | None:
    try:
        return msgspec.convert(with_moments(read_json(text), Outer), Outer, builtin_types=(datetime,))
    except ValueError:
        return None


def test_what_our_encoder_wrote_is_read_at_one_look() -> None:
    assert read_canonical(msgspec.json.encode(PLAIN), Outer) == PLAIN


ODD = {
    "no zone": PLAIN.__class__("a", datetime(2026, 11, 29, 12)),  # noqa: DTZ001  # that is the point
    "year 1": Outer("a", datetime(1, 1, 1, tzinfo=UTC)),
    "year 9999": Outer("a", datetime(9999, 1, 1, tzinfo=UTC)),
    "large": Outer("a", NOON, INTEGER_MAX + 1),
    "deep": Outer("a", NOON, free=json.loads("[" * 70 + "]" * 70)),
    "large within": Outer("a", NOON, free={"b": [2**63]}),
}


@pytest.mark.parametrize("name", ODD)
def test_what_the_strict_reader_refuses_is_not_read(name: str) -> None:
    text = msgspec.json.encode(ODD[name])

    assert strictly(text) is None
    assert read_canonical(text, Outer) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"name":"a","until":"2026-11-29T12:00:00Z","name":"b"}',
        b'{"name":"a","until":"2026-11-29T12:00:00Z","free":{"x":1,"x":2}}',
        b'{"name":"a", "until":"2026-11-29T12:00:00Z"}',
        b'{"name":"\\u0061","until":"2026-11-29T12:00:00Z"}',
        b'{"name":"\\ud800","until":"2026-11-29T12:00:00Z"}',
        b'{"name":"\xff","until":"2026-11-29T12:00:00Z"}',
        b'{"name":"a","until":"2026-11-29T12:00:60Z"}',
        b'{"name":"a","until":"2026-11-29T13:00:00+01:00"}',
        b'{"name":"a","until":"2026-11-29T12:00:00Z","count":NaN}',
        b'{"name":"a","until":"2026-11-29T12:00:00Z","count":1e400}',
    ],
)
def test_what_an_encoder_does_not_write_is_left_to_the_strict_reader(text: bytes) -> None:
    assert read_canonical(text, Outer) is None


@given(st.binary(max_size=3), st.integers(0, 400), st.integers(0, 3))
def test_of_any_text_it_says_nothing_or_what_the_strict_reader_says(
    put: bytes, at: int, instead_of: int
) -> None:
    whole = msgspec.json.encode(PLAIN)
    text = whole[:at] + put + whole[at + instead_of :]
    read = read_canonical(text, Outer)

    assert read is None or read == strictly(text)
