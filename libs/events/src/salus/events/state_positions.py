"""Up to where topics had been folded that a statement rests on: with them anybody comes to the same state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from salus.events.fields import Count, Text

TOPICS_MAX = 64
PARTITIONS_MAX = 10_000
Partition = tuple[str, int]


class TopicPositions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to where a topic was folded: of each partition, by its number, the offset after the last record."""

    topic: Text
    ends: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1, max_length=PARTITIONS_MAX)]


StatePositions = Annotated[tuple[TopicPositions, ...], msgspec.Meta(max_length=TOPICS_MAX)]
"""Of every topic that a state rests on, in the order of their names."""


def state_positions(ends: Mapping[Partition, int]) -> tuple[TopicPositions, ...]:
    """Return the positions of partitions as events carry them; a partition that is not named is empty."""
    found: dict[str, list[int]] = {}
    for (topic, partition), end in sorted(ends.items()):
        of_topic = found.setdefault(topic, [])
        of_topic += [0] * (partition - len(of_topic)) + [end]
    return tuple(TopicPositions(topic, tuple(of_topic)) for topic, of_topic in found.items())


def ends_of(positions: Iterable[TopicPositions]) -> dict[Partition, int]:
    """Return the end of each partition that an event names."""
    return {(each.topic, number): end for each in positions for number, end in enumerate(each.ends)}
