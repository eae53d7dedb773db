"""What actors were refused, as the detectors ask for it: by the broker's time, and no copy of a record."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sqlalchemy import ColumnElement, and_, exists, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.audit.adapters.tables import TRAIL
from salus.audit.domain.probing import Period, Refusal

ACTORS_AT_ONCE_MAX = 400
# As in the condition of the index `ix_audit_trail_refused`, which a plan for any parameter cannot use.
_REFUSED: ColumnElement[str] = literal_column("'refused'")


async def refusals_of(connection: AsyncConnection, periods: Collection[Period]) -> list[Refusal]:
    """Return what was refused in these periods and in those before them, of each the first and the last ones.

    A record counts once for its source and id, the first time: copies do not take the place of others.
    """
    found: list[Refusal] = []
    for some in _in_parts(periods):
        numbers, rule = [period.number for period in some], some[0].rule
        row, window_us = TRAIL.c, rule.window_ms * 1000
        within = (
            row.appended_us >= (min(numbers) - 1) * window_us,
            row.appended_us < (max(numbers) + 1) * window_us,
        )
        actors = row.actor.in_({period.actor for period in some})
        of_one = (row.actor, row.appended_us // window_us)
        first = func.row_number().over(partition_by=of_one, order_by=(row.appended_us, row.uid))
        last = func.row_number().over(partition_by=of_one, order_by=(row.appended_us.desc(), row.uid.desc()))
        ranked = (
            select(
                row.appended_us,
                row.uid,
                row.actor,
                row.member,
                row.patient,
                first.label("f"),
                last.label("l"),
            )
            .where(actors, row.outcome == _REFUSED, *within, ~_is_copy())
            .subquery()
        )
        ends = or_(ranked.c.f <= rule.refusals, ranked.c.l <= rule.refusals)
        rows = await connection.execute(select(ranked).where(ends))
        found += [Refusal(r.appended_us // 1000, r.uid, r.actor, r.member, r.patient) for r in rows]
    return found


def _is_copy() -> ColumnElement[bool]:
    row, other = TRAIL.c, TRAIL.alias().c
    is_earlier = or_(
        other.appended_us < row.appended_us,
        and_(other.appended_us == row.appended_us, other.uid < row.uid),
    )
    return exists().where(other.source == row.source, other.id == row.id, is_earlier)


def _in_parts(periods: Collection[Period]) -> Iterator[list[Period]]:
    """Yield the periods in parts that fit into one statement, of one time together."""
    ordered = sorted(periods, key=lambda period: (period.number, period.actor))
    for start in range(0, len(ordered), ACTORS_AT_ONCE_MAX):
        yield ordered[start : start + ACTORS_AT_ONCE_MAX]
