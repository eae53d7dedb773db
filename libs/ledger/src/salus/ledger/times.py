"""What is a time: RFC 3339, section 5.6, and nothing else.

`date-time` of its grammar: a date, `T` or `t`, hours, minutes and seconds, a fraction of any length, and `Z`,
`z` or an offset in hours and minutes, in the years 1900 to 9998 as written. Digits of the fraction beyond six
are cut off, so that no time moves into the future. Second 60 is taken where UTC may have one, at the end
of a month, and is read as the last microsecond of second 59.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

YEAR_MIN, YEAR_MAX = 1900, 9998
_LEAP_SECOND = 60
_FORM = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))", re.ASCII
)


def read_time(text: str) -> datetime:
    """Return the moment, in UTC.

    Raises:
        ValueError: it is no time as this module says; the sentence quotes nothing of it.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise ValueError("not a time of RFC 3339: 2026-11-22T12:00:00Z, with a zone")
    *numbers, fraction, sign, hours, minutes = form.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    if not YEAR_MIN <= year <= YEAR_MAX:
        raise ValueError(f"not in the years {YEAR_MIN} to {YEAR_MAX}")
    is_leap = second == _LEAP_SECOND
    microsecond = 999_999 if is_leap else int(f"{fraction or '':0<6.6}")
    try:
        zone = _zone(sign, hours, minutes)
        written = datetime(year, month, day, hour, minute, second - is_leap, microsecond, zone)
    except ValueError:
        raise ValueError("no such date, hour, minute, second or offset") from None
    moment = written.astimezone(UTC)
    if is_leap and not _ends_a_month(moment):
        raise ValueError("second 60 is at the end of a month of UTC only")
    return moment


def _zone(sign: str | None, hours: str, minutes: str) -> timezone:
    if sign is None:
        return UTC
    if int(minutes) >= 60:
        raise ValueError
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return timezone(-offset if sign == "-" else offset)


def _ends_a_month(moment: datetime) -> bool:
    following = moment + timedelta(seconds=1)
    return following.day == 1 and (following.hour, following.minute, following.second) == (0, 0, 0)
