"""Which shard is to seal what, and how far that is done: the plain part of `salus shard`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from salus.cli.service_answers import converted, read_answer
from salus.ledger.key_periods import described_history

Partition = tuple[str, int]


class _Shard(msgspec.Struct, frozen=True):
    id: int
    origin: str
    topics: dict[str, tuple[int, ...]]


class _Assigned(msgspec.Struct, frozen=True):
    epoch: int
    shards: tuple[_Shard, ...]


class _Place(msgspec.Struct, frozen=True):
    topic: str
    partition: int


class _Range(_Place, frozen=True):
    next: int


class _Status(msgspec.Struct, frozen=True):
    epoch: int | None
    ranges: tuple[_Range, ...]
    awaited: tuple[_Place, ...]
    unassigned: tuple[_Place, ...]
    trouble: str | None
    halted: str | None


@dataclass(frozen=True, slots=True)
class Assignment:
    """An assignment: its number, and the shard of every partition."""

    epoch: int
    homes: Mapping[Partition, int]
    origins: Mapping[int, str]

    @classmethod
    def of(cls, view: Mapping[str, Any]) -> Assignment:
        """Return what identity answered; raises AnswerError."""
        told = converted("identity", view, _Assigned)
        homes = {(t, p): s.id for s in told.shards for t, ps in s.topics.items() for p in ps}
        return cls(told.epoch, homes, {shard.id: shard.origin for shard in told.shards})

    def topics_of(self, shard: int) -> dict[str, list[int]]:
        """Return a shard's partitions by topic."""
        found: dict[str, list[int]] = defaultdict(list)
        for (topic, partition), home in sorted(self.homes.items()):
            if home == shard:
                found[topic].append(partition)
        return dict(found)


def dealt(homes: Mapping[Partition, int], shards: list[int]) -> dict[Partition, int]:
    """Return every partition dealt to these shards: of each topic the first to the first, and so on."""
    of_topic: dict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(homes):
        of_topic[topic].append(partition)
    return {
        (topic, partition): shards[index % len(shards)]
        for topic, partitions in of_topic.items()
        for index, partition in enumerate(partitions)
    }


def first_shards(known: Iterable[int], count: int, *, without: Collection[int] = ()) -> list[int]:
    """Return so many shards: those that are known, by id, and as many new ones as are lacking.

    `without` are those whose chain has ended.
    """
    ids = sorted(set(known).difference(without))[:count]
    fresh = max([-1, *known, *without]) + 1
    return [*ids, *range(fresh, fresh + count - len(ids))]


def parse_move(text: str, homes: Mapping[Partition, int]) -> tuple[Partition, int]:
    """Return the partition and the shard of `TOPIC/PARTITION=SHARD`.

    Raises:
        ValueError: it is not of that form, or the network has no such topic. Whether a partition that no
            shard seals can be assigned is for identity to say.
    """
    place, _, shard = text.partition("=")
    topic, _, partition = place.rpartition("/")
    if not (topic and partition.isdigit() and shard.isdigit()):
        raise ValueError(f"{text} is not of the form TOPIC/PARTITION=SHARD")
    if topic not in {known for known, _ in homes}:
        raise ValueError(f"the network has no topic {topic}")
    return (topic, int(partition)), int(shard)


def require_shards(homes: Mapping[Partition, int], known: Iterable[int]) -> None:
    """Raise ValueError unless each shard is there or is one of the next: any other is a slip of the pen.

    For each shard up to the highest one, a key is made and a sequencer started.
    """
    there = set(known)
    lacking = set(homes.values()) - there
    fresh = max([-1, *there]) + 1
    if lacking and max(lacking) >= fresh + len(lacking):
        raise ValueError(f"there is no shard {max(lacking)}; the next new one is {fresh}")


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one shard is: what it seals, what it waits for, and why it stands still if it does."""

    epoch: int | None
    sealing: Mapping[Partition, int]
    awaited: tuple[Partition, ...]
    trouble: str | None
    unassigned: tuple[Partition, ...] = ()
    halted: bool = False

    @classmethod
    def of(cls, status: Mapping[str, Any]) -> Standing:
        """Return what a sequencer answered; raises AnswerError."""
        told = converted("sequencer", status, _Status)
        return cls(
            epoch=told.epoch,
            sealing={(each.topic, each.partition): each.next for each in told.ranges},
            awaited=tuple((each.topic, each.partition) for each in told.awaited),
            trouble=told.halted or told.trouble,
            unassigned=tuple((each.topic, each.partition) for each in told.unassigned),
            halted=told.halted is not None,
        )


def read_assignment(content: bytes) -> Assignment:
    """Return the assignment that identity answered; raises AnswerError."""
    return Assignment.of(read_answer("identity", content, dict))


def read_standing(content: bytes) -> Standing:
    """Return where a shard is, as its sequencer answered; raises AnswerError."""
    return Standing.of(read_answer("sequencer", content, dict))


def settled(assignment: Assignment, standings: Mapping[int, Standing | None]) -> set[Partition]:
    """Return the partitions that are where they are assigned to."""
    return {
        at
        for at, home in assignment.homes.items()
        if (standing := standings.get(home)) is not None and at in standing.sealing
    }


def ended_shards(network: Mapping[str, Any]) -> dict[int, int]:
    """Return the height before which a shard's chain ended, by id, of those of network.json that did."""
    ends = {shard["id"]: described_history(shard, may_end=True).end for shard in network["shards"]}
    return {shard: end for shard, end in ends.items() if end is not None}


def unassigned(standings: Mapping[int, Standing | None]) -> list[Partition]:
    """Return what Kafka has of the topics and no shard seals, as any sequencer says."""
    return sorted({at for standing in standings.values() if standing for at in standing.unassigned})
