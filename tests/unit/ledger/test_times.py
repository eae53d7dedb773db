"""What a time is: RFC 3339, as the vectors in docs/vectors say, which other languages use as well."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.times import read_time


class Vector(NamedTuple):
    """A text, and the moment that it is; None: it is none."""

    text: str
    utc: str | None
    why: str


_FILE = json.loads((Path(__file__).parents[3] / "docs" / "vectors" / "times.json").read_text())
VECTORS = [Vector(**one) for one in _FILE["times"]]


def moment_of(text: str) -> datetime | None:
    try:
        return read_time(text)
    except ValueError:
        return None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.why)
def test_every_vector_has_its_moment_or_none(vector: Vector) -> None:  # cases K5, formats 8
    expected = None if vector.utc is None else datetime.strptime(vector.utc, "%Y-%m-%dT%H:%M:%S.%f%z")

    assert moment_of(vector.text) == expected


_moments = st.datetimes(datetime(1901, 1, 1), datetime(9997, 12, 31))  # noqa: DTZ001  # bounds are naive by the API
_offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(_moments, _offsets)
def test_what_python_writes_is_read_as_it_was(moment: datetime, zone: timezone) -> None:
    written = moment.replace(tzinfo=zone)

    assert read_time(written.isoformat()) == written


@given(_moments, st.text("0123456789", min_size=1, max_size=20))
def test_a_fraction_never_moves_a_time_forward(moment: datetime, digits: str) -> None:
    second = moment.replace(microsecond=0, tzinfo=UTC)
    read = read_time(f"{second.isoformat()[:19]}.{digits}Z")

    assert second <= read < second + timedelta(seconds=1)
    assert (read - second).microseconds * 10 ** len(digits) <= int(digits) * 10**6


@given(st.text("0123456789-:.TZtz+ ", max_size=30) | st.text(max_size=30))
def test_any_text_is_a_time_or_none_and_never_an_accident(text: str) -> None:
    moment = moment_of(text)

    assert moment is None or moment.tzinfo is UTC
