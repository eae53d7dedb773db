"""Whether a block can have been judged by the identity position that it names (redB6, findings 3 and 5)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.events.identity_position import (
    AHEAD_MAX,
    BEHIND_MAX,
    UNSEALED_MAX,
    IdentityTimes,
    newest_judged,
    position_fault,
)
from salus.ledger.records import timestamp_at

DATED = datetime(2026, 6, 1, tzinfo=UTC)
BEHIND_MS = BEHIND_MAX // timedelta(milliseconds=1)
AHEAD_MS = AHEAD_MAX // timedelta(milliseconds=1)
NOW_MS = timestamp_at(DATED)
EVENTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), unique_by=lambda event: event[0])


def code_of(position: int, *, newest_ms: int | None, events: list[tuple[int, int]]) -> str:
    times = IdentityTimes(events)
    fault = position_fault(position, newest_ms=newest_ms, dated=DATED, times=times, sealed_to=10)
    return "" if fault is None else fault.code


@given(EVENTS, st.integers(0, 10))
def test_the_extreme_times_are_those_of_a_search_through_all_events(
    events: list[tuple[int, int]], position: int
) -> None:
    times = IdentityTimes(sorted(events))

    before = [time for offset, time in events if offset < position]
    after = [time for offset, time in events if offset >= position]
    latest, earliest = times.latest_before(position), times.earliest_from(position)
    assert (None if latest is None else latest[1]) == max(before, default=None)
    assert (None if earliest is None else earliest[1]) == min(after, default=None)
    assert latest is None or (latest in events and latest[0] < position)
    assert earliest is None or (earliest in events and earliest[0] >= position)


@pytest.mark.parametrize(("late_ms", "code"), [(BEHIND_MS, ""), (BEHIND_MS + 1, "identity-behind")])
def test_a_position_that_leaves_out_an_event_of_more_than_a_minute_before_is_behind(
    late_ms: int, code: str
) -> None:
    revoked_ms = NOW_MS - 3_600_000

    assert code_of(5, newest_ms=revoked_ms + late_ms, events=[(5, revoked_ms)]) == code
    assert code_of(6, newest_ms=revoked_ms + late_ms, events=[(5, revoked_ms)]) == ""


@pytest.mark.parametrize(("late_ms", "code"), [(AHEAD_MS, ""), (AHEAD_MS + 1, "identity-ahead")])
def test_a_position_beyond_an_event_that_came_after_the_header_is_ahead(late_ms: int, code: str) -> None:
    assert code_of(6, newest_ms=None, events=[(5, NOW_MS + late_ms)]) == code
    assert code_of(5, newest_ms=None, events=[(5, NOW_MS + late_ms)]) == ""


@pytest.mark.parametrize(
    ("position", "code"), [(10 + UNSEALED_MAX, ""), (11 + UNSEALED_MAX, "identity-ahead")]
)
def test_a_position_that_no_topic_ever_had_is_ahead_at_once(position: int, code: str) -> None:
    assert code_of(position, newest_ms=NOW_MS, events=[(5, NOW_MS)]) == code


def test_a_block_without_rows_leaves_nothing_out() -> None:
    assert code_of(0, newest_ms=None, events=[(5, 0)]) == ""


def test_rows_whose_time_may_be_anybodys_count_for_nothing() -> None:
    rows = [("rejected:unreadable", 9), ("rejected:transactional", 8)]
    judged = [("rejected:duplicate", 2), ("accepted", 1)]

    assert newest_judged(rows + judged) == 2
    assert newest_judged(rows) is None
