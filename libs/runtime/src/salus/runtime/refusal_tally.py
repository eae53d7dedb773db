"""Counts the records of topics that are refused, and says so in one line for many.

Anybody who may write to a topic can fill it with what is refused, and each start reads all of it again: a
line for each record would be 50 MB of log for a second of his time, in each service and for ever.
"""

from __future__ import annotations

from collections import Counter as Tally

import structlog
from prometheus_client import Counter

REFUSED = Counter(
    "salus_refused_records",
    "Records of a topic that a service folds or follows, which it refused; a start counts all of them again.",
    ["topic", "reason"],
)

_log = structlog.get_logger()


class RefusalTally:
    """What was refused since the last time that it was told, by partition."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, int], Tally[str]] = {}
        self._offsets: dict[tuple[str, int], tuple[int, int]] = {}

    def add(self, topic: str, partition: int, offset: int, reason: str) -> None:
        """Count one record."""
        at = topic, partition
        self._reasons.setdefault(at, Tally())[reason] += 1
        first, _ = self._offsets.get(at, (offset, offset))
        self._offsets[at] = first, offset

    def tell(self) -> None:
        """Say what was counted, in one line a partition, and begin anew."""
        reasons, self._reasons = self._reasons, {}
        offsets, self._offsets = self._offsets, {}
        for at, counts in reasons.items():
            topic, partition = at
            first, last = offsets[at]
            for reason, count in counts.items():
                REFUSED.labels(topic, reason).inc(count)
            _log.warning(
                "records refused",
                topic=topic,
                partition=partition,
                first=first,
                last=last,
                reasons=dict(counts),
            )
