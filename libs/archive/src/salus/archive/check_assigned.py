"""Checks that what network.json assigns is covered at all: what is left out from the start leaves no gap."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from salus.archive.report import Finding
from salus.archive.trust import Founder
from salus.ledger.block import header_key
from salus.ledger.check_coverage import CoverageChecker


def check_assigned(
    checker: CoverageChecker, founders: Sequence[Founder], origins: Collection[str]
) -> Iterator[Finding]:
    """Find, shard by shard, the partitions of the first assignment that no block of any shard has.

    An error if all shards (`origins`) have blocks. One that has none may be waiting for its first record, or
    have been assigned the partition before anybody covered it, which is worth knowing, no error.
    """
    waiting = not set(origins) <= checker.tops.keys()
    for founder in founders:
        assigned = {(topic, partition) for topic, some in founder.topics.items() for partition in some}
        missing = sorted(assigned - checker.places)
        if not missing:
            continue
        topic, partition = missing[0]
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        which = f"{topic} {partition}{more}, assigned to this shard in network.json"
        yield Finding(
            severity="info" if waiting else "error",
            code="not-begun" if waiting else "coverage-gap",
            bucket="ledger",
            key=header_key(founder.id, max(checker.tops.get(founder.origin, 0), 0)),
            detail=f"{which}, is in no block; if added since, the next one has it",
            shard=founder.id,
        )
