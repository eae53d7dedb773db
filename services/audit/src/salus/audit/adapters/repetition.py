"""Which entries of the trail repeat another one: the same bytes, which the broker appended before.

It is found when entries are read, not when they are indexed: shards are indexed side by side, and which of
two records counts does not go by which was indexed first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from sqlalchemy import RowMapping, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.audit.adapters.tables import TRAIL
from salus.audit.domain.entry import Place, TrailEntry
from salus.audit.domain.search import Found

IDS_AT_ONCE_MAX = 400
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
    firsts: dict[_Stated, Place] = {}
    for source, ids in _in_parts(pairs):
        # By one source at once, for SQLite reads the whole index for a list of pairs.
        named = select(TRAIL.c.id).where(TRAIL.c.source == source, TRAIL.c.id.in_(ids))
        several = named.group_by(TRAIL.c.id).having(func.count() > 1)
        repeated = (await connection.execute(several)).scalars().all()
        if not repeated:
            continue
        number = func.row_number().over(partition_by=TRAIL.c.id, order_by=(TRAIL.c.appended_us, TRAIL.c.seq))
        of_these = (TRAIL.c.source == source, TRAIL.c.id.in_(repeated))
        ranked = select(TRAIL, number.label("number")).where(*of_these).subquery()
        columns = [ranked.c[column.name] for column in TRAIL.columns]
        copies = await connection.execute(select(*columns).where(ranked.c.number <= COPIES_READ_MAX))
        for row in copies.mappings():
            entry = read(row).entry
            if (stated := _stated(entry)) is not None:
                first = firsts.setdefault(stated, entry.place)
                firsts[stated] = min(first, entry.place, key=lambda place: place.order)
    return firsts


def _in_parts(pairs: Collection[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each source with its ids, so many at once as fit into one statement."""
    for source, of_one in groupby(sorted(pairs), key=itemgetter(0)):
        ids = [name for _, name in of_one]
        for start in range(0, len(ids), IDS_AT_ONCE_MAX):
            yield source, ids[start : start + IDS_AT_ONCE_MAX]
