"""Which entries of the trail repeat another one: the same bytes, which the broker appended before.

It is found when entries are read, not when they are indexed: shards are indexed side by side, and which of
two records counts does not go by which was indexed first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from sqlalchemy import RowMapping, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.audit.adapters.tables import TRAIL
from salus.audit.domain.entry import Place, TrailEntry
from salus.audit.domain.search import Found

PAIRS_AT_ONCE_MAX = 250
# Of one source and id, the records that were appended first: of the same bytes the first is among them,
# unless the author itself stated so many other things under that id.
COPIES_READ_MAX = 8

_Stated = tuple[str, str, str]
"""A source, an id and a digest."""


async def with_repetitions(
    connection: AsyncConnection, found: Sequence[Found], read: Callable[[RowMapping], Found]
) -> list[Found]:
    """Return what was found, with those entries shown as without effect that another record stated first."""
    keys = [stated for each in found if (stated := _stated(each.entry)) is not None]
    firsts = await _firsts(connection, {key[:2] for key in keys}, read)
    return [_shown(each, firsts) for each in found]


def _shown(found: Found, firsts: dict[_Stated, Place]) -> Found:
    stated = _stated(found.entry)
    first = None if stated is None else firsts.get(stated)
    if first is None or first.order >= found.entry.place.order:
        return found
    return Found(found.seq, found.entry.repeating(first))


def _stated(entry: TrailEntry) -> _Stated | None:
    """Return what names the bytes of an entry, if it is one that states something."""
    if entry.source is None or entry.id is None or entry.facts.outcome in {"rejected", "without-effect"}:
        return None
    return entry.source, entry.id, entry.place.digest


async def _firsts(
    connection: AsyncConnection, pairs: Collection[tuple[str, str]], read: Callable[[RowMapping], Found]
) -> dict[_Stated, Place]:
    """Return the first record of each source and id that are in the trail more than once, by digest."""
    pair = (TRAIL.c.source, TRAIL.c.id)
    firsts: dict[_Stated, Place] = {}
    for some in _in_parts(pairs):
        several = select(*pair).where(tuple_(*pair).in_(some)).group_by(*pair).having(func.count() > 1)
        repeated = [tuple(row) for row in await connection.execute(several)]
        if not repeated:
            continue
        number = func.row_number().over(partition_by=pair, order_by=(TRAIL.c.appended_us, TRAIL.c.seq))
        ranked = select(TRAIL, number.label("number")).where(tuple_(*pair).in_(repeated)).subquery()
        columns = [ranked.c[column.name] for column in TRAIL.columns]
        copies = await connection.execute(select(*columns).where(ranked.c.number <= COPIES_READ_MAX))
        for row in copies.mappings():
            entry = read(row).entry
            if (stated := _stated(entry)) is not None:
                first = firsts.setdefault(stated, entry.place)
                firsts[stated] = min(first, entry.place, key=lambda place: place.order)
    return firsts


def _in_parts(pairs: Collection[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    ordered = sorted(pairs)
    for start in range(0, len(ordered), PAIRS_AT_ONCE_MAX):
        yield ordered[start : start + PAIRS_AT_ONCE_MAX]
