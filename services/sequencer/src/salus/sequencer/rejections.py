"""Says which rejections of a block are announced one by one, and which are counted.

A block may have thousands, of records of ten bytes, and an announcement takes a hundred times as much and is
kept for ever. So a block has a bound of announcements, whatever its records are.

Which are which follows from what the archive keeps of each: place, reason and key. After a crash the block
is announced once more from there, and each event must tell of the same records as the one that had its id
before: consumers drop an id that they know. What only the record says, such as its source, decides nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from salus.events.attribution import VOUCHED
from salus.events.contexts.ledger import RejectedGroup
from salus.sequencer.domain import Rejection

SINGLE_MAX = 100
"""So many are announced one by one."""
ATTRIBUTED_MAX = 200
"""So many groups are told apart by key, which who sends garbage may vary as he likes."""


def split(rejections: Sequence[Rejection]) -> tuple[list[Rejection], list[RejectedGroup]]:
    """Return what is announced one by one, and the groups of all other rejections; a group is not torn apart.

    A group tells a source only if all its records have the same one.
    Who vouches for his records comes first, then every partition has its turn with its smallest group: a
    flood in one is counted, and the one rejection in another is announced.
    """
    if len(rejections) <= SINGLE_MAX:
        return [*rejections], []
    single: list[Rejection] = []
    counted: list[list[Rejection]] = []
    for group in _in_turns(_grouped(rejections, with_key=True)):
        if len(single) + len(group) <= SINGLE_MAX:
            single += group
        else:
            counted.append(group)
    rest = [rejection for group in counted[ATTRIBUTED_MAX:] for rejection in group]
    groups = [_summary(group, with_key=True) for group in counted[:ATTRIBUTED_MAX]]
    return single, groups + [_summary(group, with_key=False) for group in _grouped(rest, with_key=False)]


def _grouped(rejections: Iterable[Rejection], *, with_key: bool) -> list[list[Rejection]]:
    groups = defaultdict(list)
    for rejection in rejections:
        key = rejection.attribution.key if with_key else None
        groups[rejection.topic, rejection.partition, rejection.reason, key].append(rejection)
    return [*groups.values()]


def _in_turns(groups: Sequence[list[Rejection]]) -> Iterator[list[Rejection]]:
    ordered = sorted(groups, key=lambda group: (_is_unvouched(group), len(group)))
    turns: dict[tuple[str, int], int] = defaultdict(int)
    ranked = []
    for group in ordered:
        at = group[0].topic, group[0].partition
        ranked.append(((_is_unvouched(group), turns[at]), group))
        turns[at] += 1
    return (group for _, group in sorted(ranked, key=lambda turn: turn[0]))


def _is_unvouched(group: Sequence[Rejection]) -> bool:
    return group[0].reason not in VOUCHED


def _summary(group: Sequence[Rejection], *, with_key: bool) -> RejectedGroup:
    one = group[0]
    offsets = [rejection.offset for rejection in group]
    sources = {rejection.attribution.source for rejection in group}
    return RejectedGroup(
        topic=one.topic,
        partition=one.partition,
        reason=one.reason,
        key=one.attribution.key if with_key else None,
        source=one.attribution.source if with_key and len(sources) == 1 else None,
        first=min(offsets),
        last=max(offsets),
        count=len(group),
    )
