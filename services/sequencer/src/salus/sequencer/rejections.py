"""Says which rejections of a block are announced one by one, and which are counted.

A block may have thousands, of records of ten bytes, and an announcement takes a hundred times as much and is
kept for ever. So a block has a bound of announcements, whatever its records are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from salus.sequencer.domain import Rejection

SINGLE_MAX = 100
"""So many are announced one by one."""
ATTRIBUTED_MAX = 200
"""So many groups are told apart by key and source, which who sends garbage may vary as he likes."""


@dataclass(frozen=True, slots=True)
class RejectionGroup:
    """Rejected records of one partition that have all of this in common, with their first and last offset."""

    topic: str
    partition: int
    reason: str
    key: str | None
    source: str | None
    first: int
    last: int
    count: int


def split(rejections: Sequence[Rejection]) -> tuple[list[Rejection], list[RejectionGroup]]:
    """Return what is announced one by one, and the groups of all other rejections; a group is not torn apart.

    Who vouches for his records comes first, then every partition has its turn with its smallest group: a
    flood in one is counted, and the one rejection in another is announced.
    """
    if len(rejections) <= SINGLE_MAX:
        return [*rejections], []
    single: list[Rejection] = []
    counted: list[list[Rejection]] = []
    for group in _in_turns(_grouped(rejections, with_origin=True)):
        if len(single) + len(group) <= SINGLE_MAX:
            single += group
        else:
            counted.append(group)
    rest = [rejection for group in counted[ATTRIBUTED_MAX:] for rejection in group]
    groups = [_summary(group, with_origin=True) for group in counted[:ATTRIBUTED_MAX]]
    return single, groups + [
        _summary(group, with_origin=False) for group in _grouped(rest, with_origin=False)
    ]


def _grouped(rejections: Iterable[Rejection], *, with_origin: bool) -> list[list[Rejection]]:
    groups = defaultdict(list)
    for rejection in rejections:
        origin = (rejection.attribution.key, rejection.attribution.source) if with_origin else ()
        groups[rejection.topic, rejection.partition, rejection.reason, *origin].append(rejection)
    return [*groups.values()]


def _in_turns(groups: Sequence[list[Rejection]]) -> Iterator[list[Rejection]]:
    ordered = sorted(groups, key=lambda group: (group[0].attribution.source is None, len(group)))
    turns: dict[tuple[str, int], int] = defaultdict(int)
    ranked = []
    for group in ordered:
        at = group[0].topic, group[0].partition
        ranked.append(((group[0].attribution.source is None, turns[at]), group))
        turns[at] += 1
    return (group for _, group in sorted(ranked, key=lambda turn: turn[0]))


def _summary(group: Sequence[Rejection], *, with_origin: bool) -> RejectionGroup:
    one = group[0]
    offsets = [rejection.offset for rejection in group]
    return RejectionGroup(
        topic=one.topic,
        partition=one.partition,
        reason=one.reason,
        key=one.attribution.key if with_origin else None,
        source=one.attribution.source if with_origin else None,
        first=min(offsets),
        last=max(offsets),
        count=len(group),
    )
