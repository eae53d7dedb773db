"""What an actor was refused, as the detectors ask for it: by the broker's time, and no copy of a record."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, exists, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.audit.adapters.tables import TRAIL
from salus.audit.domain.probing import Refusal, Span

# As in the condition of the index `ix_audit_trail_refused`, which a plan for any parameter cannot use.
_REFUSED: ColumnElement[str] = literal_column("'refused'")


async def refusals_of(connection: AsyncConnection, actor: str, span: Span, *, limit: int) -> list[Refusal]:
    """Return an actor's refusals of a time, and no more than `limit`.

    A record counts once for its source and id, the first time: copies do not take the place of others.
    """
    row, other = TRAIL.c, TRAIL.alias()
    is_earlier = or_(
        other.c.appended_us < row.appended_us,
        and_(other.c.appended_us == row.appended_us, other.c.uid < row.uid),
    )
    is_copy = exists().where(other.c.source == row.source, other.c.id == row.id, is_earlier)
    within = (row.appended_us >= span.since_ms * 1000, row.appended_us < span.until_ms * 1000)
    order = (row.appended_us.desc(), row.uid.desc()) if span.newest_first else (row.appended_us, row.uid)
    query = select(row.appended_us, row.uid, row.member, row.patient).where(
        row.actor == actor, row.outcome == _REFUSED, *within, ~is_copy
    )
    rows = (await connection.execute(query.order_by(*order).limit(limit))).all()
    return [Refusal(each.appended_us // 1000, each.uid, actor, each.member, each.patient) for each in rows]
