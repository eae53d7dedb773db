"""Every number that a record may have for its time is a moment, and the same for all who read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.records import TIMESTAMP_MS_MAX, appended_at, timestamp_at, timestamp_of


@pytest.mark.parametrize(
    ("said_ms", "time"),
    [
        (1_795_000_000_123, datetime(2026, 11, 18, 11, 6, 40, 123_000, UTC)),
        (-1, datetime(1970, 1, 1, tzinfo=UTC)),
        (-(2**63), datetime(1970, 1, 1, tzinfo=UTC)),
        (2**63 - 1, datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_every_timestamp_is_a_time(said_ms: int, time: datetime) -> None:
    assert appended_at(said_ms) == time


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_leaf_says_what_a_reader_takes(said_ms: int) -> None:
    assert 0 <= timestamp_of(said_ms) <= TIMESTAMP_MS_MAX
    assert timestamp_at(appended_at(said_ms)) == timestamp_of(said_ms)
