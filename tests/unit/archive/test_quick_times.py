"""A time is certain exactly if it is one, and then it is the moment that Python reads."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.archive.one_event import CELLS, MEMBERS, is_certain, json_of

from salus.archive.quick_rows import QuickRows
from salus.ledger.times import read_time

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z")
YEARS = (1, 4, 1899, 1900, 1904, 2000, 2023, 2024, 2100, 2400, 9998, 9999)


def sloppily(text: str) -> int:
    """Return what a reader comes to who checks nothing: month 13 is next January, and a colon is a ten."""

    def number(start: int, end: int) -> int:
        value = 0
        for character in text[start:end]:
            value = 10 * value + ord(character) - ord("0")
        return value

    year, month = number(0, 4) + (number(5, 7) - 1) // 12, (number(5, 7) - 1) % 12 + 1
    cycles = year // 400 - 1
    days = date(year - 400 * cycles, month, 1).toordinal() + 146_097 * cycles + number(8, 10) - 1
    hours = 24 * (days - date(1970, 1, 1).toordinal()) + number(11, 13)
    seconds = 3600 * hours + 60 * number(14, 16) + number(17, 19)
    places = len(text) - 21
    fraction = number(20, len(text) - 1) * int("1" + "0" * (6 - places)) if places > 0 else 0
    return 1_000_000 * seconds + fraction


def is_time(text: str) -> bool:
    if FORM.fullmatch(text) is None:
        return False
    try:
        read_time(text)
    except ValueError:
        return False
    # A leap second is a time, and not for the one who reads quickly.
    return text[17:19] != "60"


def is_certain_at(quick: QuickRows, text: str, moment: int) -> bool:
    return is_certain(quick, json_of(MEMBERS | {"time": f'"{text}"'}), (*CELLS[:4], moment))


@given(st.datetimes(datetime(1900, 1, 1), datetime(9998, 12, 31)), st.integers(0, 6))  # noqa: DTZ001  # UTC by "Z"
@example(datetime(2000, 2, 29), 0)  # noqa: DTZ001  # likewise
@example(datetime(1900, 3, 1), 6)  # noqa: DTZ001  # likewise
def test_a_time_is_read_as_python_reads_it(quick: QuickRows, moment: datetime, digits: int) -> None:
    step = 10 ** (6 - digits)
    moment = moment.replace(microsecond=moment.microsecond // step * step, tzinfo=UTC)
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    text = moment.isoformat()[:19] + fraction + "Z"

    assert is_certain_at(quick, text, (moment - BEGINNING) // timedelta(microseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        *["0000-01-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z"],
        *["2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-01T24:00:00Z"],
        *["2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z", "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00"],
        *[
            "2026-01-01T00:00:00.1234567Z",
            "2026-01-01T00:00:00,1Z",
            "2026-01-01t00:00:00Z",
            "2026-1-01T00:00:00Z",
        ],
        *[
            "2026-01-01T00:00:00z",
            "2026-01-01 00:00:00Z",
            "2026-01-01T00:00:00.1aZ",
            "-026-01-01T00:00:00Z",
            "",
        ],
        *["2026-01-01T00:00:00+00:00", "20260101T000000Z", "2026-01-01T00:00Z", "+2026-01-01T00:00:00Z"],
    ],
)
def test_a_time_that_is_none_or_seldom_is_doubted(quick: QuickRows, text: str) -> None:
    for guess in (0, 1, 1_767_225_600_000_000, 1_767_225_600_100_000):
        assert not is_certain_at(quick, text, guess)


@pytest.mark.parametrize("year", YEARS)
def test_every_month_has_the_days_that_it_has(quick: QuickRows, year: int) -> None:
    for month in range(14):
        for day in range(33):
            text = f"{year:04}-{month:02}-{day:02}T00:00:00Z"
            assert is_certain_at(quick, text, sloppily(text)) == is_time(text)


@pytest.mark.parametrize("form", ["{:02}:59:59", "23:{:02}:59", "23:59:{:02}"])
def test_a_day_has_its_hours_minutes_and_seconds(quick: QuickRows, form: str) -> None:
    for number in range(100):
        text = f"2024-02-29T{form.format(number)}.000001Z"
        assert is_certain_at(quick, text, sloppily(text)) == is_time(text)


@pytest.mark.parametrize("fraction", ["", *("." + "1" * digits for digits in range(1, 7))])
def test_any_other_character_anywhere_is_doubted_unless_it_makes_another_time(
    quick: QuickRows, fraction: str
) -> None:
    text = f"2011-11-11T11:11:11{fraction}Z"
    for at in range(len(text)):
        for character in map(chr, range(0x20, 0x7F)):
            other = text[:at] + character + text[at + 1 :]
            if character not in '"\\':
                assert is_certain_at(quick, other, sloppily(other)) == is_time(other)


@pytest.mark.parametrize("digits", range(12))
def test_a_fraction_has_up_to_six_digits(quick: QuickRows, digits: int) -> None:
    text = "2026-11-22T15:00:00." + "123456789123"[:digits] + "Z"

    assert is_certain_at(quick, text, sloppily(text)) == (1 <= digits <= 6)


@pytest.mark.parametrize("size", range(20))
def test_a_piece_of_a_time_is_doubted_also_at_the_end_of_all_bytes(quick: QuickRows, size: int) -> None:
    whole = "2026-11-22T15:00:00Z"
    last = {name: text for name, text in MEMBERS.items() if name != "time"} | {"time": f'"{whole[:size]}"'}

    assert not is_certain(quick, json_of(last), (*CELLS[:4], sloppily(whole)))
    assert not is_certain(quick, json_of(last), (*CELLS[:4], 0))
