"""Checks that all shards together cover every offset of every input partition exactly once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from salus.ledger.block import Header
from salus.ledger.findings import Finding

Span = tuple[int, int, str]
"""First offset, next offset, and the origin of the shard that covers them."""


class CoverageChecker:
    """Collects what headers cover, in any order of shards; a shard's own headers in order of height.

    Memory: one span for each time that a partition changed its shard.
    """

    def __init__(self) -> None:
        self._spans: dict[tuple[str, int], list[Span]] = {}

    def add(self, header: Header) -> None:
        """Add what one block covers."""
        for covered in header.ranges:
            if covered.first == covered.next:
                continue
            spans = self._spans.setdefault((covered.topic, covered.partition), [])
            span = (covered.first, covered.next, header.origin)
            for index, (first, following, origin) in enumerate(spans):
                if (following, origin) == (covered.first, header.origin):
                    spans[index] = (first, covered.next, origin)
                    break
            else:
                spans.append(span)

    def findings(self) -> list[Finding]:
        """Return every gap and overlap, each partition from offset 0 on."""
        return [
            finding for place, spans in sorted(self._spans.items()) for finding in _gaps(place, sorted(spans))
        ]


def _gaps(place: tuple[str, int], spans: list[Span]) -> Iterable[Finding]:
    where = f"{place[0]} {place[1]}"
    for (_, end, before), (first, _, origin) in pairwise([(0, 0, "the beginning"), *spans]):
        if first > end:
            detail = f"offsets {end} to {first - 1}, between {before} and {origin}, are in no block"
            yield Finding("coverage-gap", where, detail)
        elif first < end:
            detail = f"offsets from {first} to {end - 1} are covered by {before} and again by {origin}"
            yield Finding("coverage-overlap", where, detail)
