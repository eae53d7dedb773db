"""What a sender may choose of a record must not stop those who fold it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from salus.messaging import Record
from salus.runtime.identity_view import time_of


def record_at(timestamp_ms: int) -> Record:
    return Record("t", 0, 0, timestamp_ms=timestamp_ms, key=None, value=None, headers=())


@pytest.mark.parametrize(
    ("timestamp_ms", "time"),
    [
        (1_795_000_000_123, datetime(2026, 11, 18, 11, 6, 40, 123_000, UTC)),
        (-1, datetime(1970, 1, 1, tzinfo=UTC)),
        (-(2**63), datetime(1970, 1, 1, tzinfo=UTC)),
        (2**63 - 1, datetime(9999, 12, 31, tzinfo=UTC)),
    ],
)
def test_every_timestamp_is_a_time(timestamp_ms: int, time: datetime) -> None:
    assert time_of(record_at(timestamp_ms)) == time
