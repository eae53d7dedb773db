"""When a decision was stated, against the state that it says it rests on.

A service decides by what it knows, which is old by seconds, and states it within seconds. Who has its key
could otherwise choose the policies, the consents or the roles of any day before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

from salus.archive.decision_store import DecisionStore
from salus.archive.entitlements import STATED_WITHIN_S
from salus.archive.replayed_decision import Difference, shown
from salus.archive.served_requests import CONSENT_TOPIC, STORAGE_TOPIC
from salus.events.bearer import CLOCKS
from salus.events.contexts.identity import PartyRegistered
from salus.events.event_types import type_of
from salus.events.state_positions import Partition

IDENTITY_TOPIC = type_of(PartyRegistered).topic
STATE_TOPICS = frozenset({CONSENT_TOPIC, STORAGE_TOPIC, IDENTITY_TOPIC})
"""The topics that a decision rests on."""


class StatedTimes:
    """How far each partition of those topics reached at a time, by when the broker appended its records."""

    def __init__(self, store: DecisionStore) -> None:
        self._store = store
        # The latest time at which a record of a partition was appended.
        self._newest: dict[Partition, float] = {}

    def note(self, columns: Mapping[str, Sequence[Any]], reached: Mapping[Partition, int]) -> None:
        """Note what a block brought, with the ends of partitions after it; blocks come in their order."""
        newest: dict[Partition, int] = {}
        for topic, partition, appended in zip(
            columns["topic"], columns["partition"], columns["timestamp"], strict=True
        ):
            if topic in STATE_TOPICS:
                at = topic, partition
                newest[at] = max(appended, newest.get(at, appended))
        for at, milliseconds in newest.items():
            self._newest[at] = max(milliseconds / 1000, self._newest.get(at, -inf))
            self._store.reach(at, next_=reached[at], newest=self._newest[at])

    def differences(
        self, decided_at: datetime, ends: Mapping[Partition, int], *, appended: float
    ) -> tuple[Difference, ...]:
        """Return in what a decision, appended then, is of another time than that at which it was stated.

        `ends` are the ends of partitions that it rests on.
        """
        found = []
        stated = datetime.fromtimestamp(appended, UTC)
        # The broker's clock and the service's: everybody judges with so much between them.
        if abs(decided_at - stated) > CLOCKS:
            found.append(Difference("decided_at", shown(decided_at), f"about {shown(stated)}"))
        for at in sorted(self._newest):
            least = self._store.reached(at, until=appended - STATED_WITHIN_S)
            if ends.get(at, 0) < least:
                topic, partition = at
                named = f"{topic} {partition} before {ends.get(at, 0)}"
                known = f"before {least} at least, which was known a minute before"
                found.append(Difference("state_positions", named, known))
                break
        return tuple(found)
