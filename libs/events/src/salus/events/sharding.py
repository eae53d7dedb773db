"""Which shard seals which partition: the founding assignment and every `shards-assigned` event after it.

Pure, and the same for everybody who has folded the identity topic as far: a block's header says how far its
sequencer had, so anyone can tell which assignment it had to follow.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from salus.events.contexts.identity import AddedShard, AssignedShard, ShardsAssigned
from salus.ledger.errors import KeyTextError
from salus.ledger.note import NoteVerifier

Partition = tuple[str, int]
"""Topic and partition."""
# All that a shard gives away stands in one header, which is a log entry of at most 65,535 bytes.
GIVEN_AT_ONCE_MAX = 256


class FoundingShard(Protocol):
    """A shard of network.json."""

    @property
    def id(self) -> int:
        """The number that names its objects."""

    @property
    def origin(self) -> str:
        """The name that its headers bear."""

    @property
    def topics(self) -> Mapping[str, Iterable[int]]:
        """The partitions that it seals in the beginning; none if it was added later."""


class Assignment(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a `shards-assigned` event assigns, without the request that it carries: folds keep it for ever."""

    epoch: int
    shards: tuple[AssignedShard, ...]
    added: tuple[AddedShard, ...] = ()

    @classmethod
    def of(cls, event: ShardsAssigned) -> Assignment:
        """Return what an event assigns."""
        return cls(event.epoch, event.shards, event.added)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One assignment: who seals what for whoever knows the identity topic up to `position` or further."""

    number: int
    position: int
    holders: Mapping[Partition, int]

    def partitions_of(self, shard: int) -> frozenset[Partition]:
        """Return what one shard seals."""
        return frozenset(at for at, holder in self.holders.items() if holder == shard)


@dataclass(frozen=True, slots=True)
class Sharding:
    """Every assignment there has been, from the founding one (epoch 0) on, and every shard by its id."""

    epochs: tuple[Epoch, ...]
    origins: Mapping[int, str]
    added: Mapping[int, AddedShard]

    @classmethod
    def of(
        cls, founders: Iterable[FoundingShard], assignments: Iterable[tuple[int, Assignment]] = ()
    ) -> Sharding:
        """Return the sharding after these events, each with the position after it.

        An event that cannot follow, by `objection`, changes nothing. A shard of network.json without
        partitions is none of the founders: an event adds it, for whoever holds an older file as well.
        """
        shards = tuple(founder for founder in founders if any(founder.topics.values()))
        holders = {(t, p): s.id for s in shards for t, partitions in s.topics.items() for p in partitions}
        sharding = cls((Epoch(0, 0, holders),), {s.id: s.origin for s in shards}, {})
        for position, event in assignments:
            sharding = sharding.after(event, position=position)
        return sharding

    @property
    def now(self) -> Epoch:
        """The last assignment."""
        return self.epochs[-1]

    def at(self, position: int) -> Epoch:
        """Return the assignment that is known at a position of the identity topic."""
        return self.epochs[bisect_right(self.epochs, position, key=lambda epoch: epoch.position) - 1]

    def shard_of(self, origin: str) -> int | None:
        """Return the id of the shard with that origin."""
        return next((shard for shard, known in self.origins.items() if known == origin), None)

    def after(self, event: Assignment, *, position: int) -> Sharding:
        """Return the sharding after the event; a partition that it does not name stays where it is."""
        if self.objection(event) is not None:
            return self
        moved = {(t.topic, p): s.id for s in event.shards for t in s.topics for p in t.partitions}
        epoch = Epoch(event.epoch, position, {**self.now.holders, **moved})
        origins = {**self.origins, **{shard.id: shard.origin for shard in event.added}}
        return Sharding((*self.epochs, epoch), origins, {**self.added, **{s.id: s for s in event.added}})

    def objection(self, event: Assignment) -> tuple[str, str] | None:
        """Return why the event cannot follow, as code and sentence; None if it can."""
        if event.epoch != self.now.number + 1:
            return "wrong-epoch", f"the next epoch is {self.now.number + 1}, not {event.epoch}"
        return self._about_shards(event) or self._about_partitions(event)

    def _about_shards(self, event: Assignment) -> tuple[str, str] | None:
        known = dict(self.origins)
        for shard in event.added:
            if shard.id in known or shard.origin in known.values():
                return "shard-exists", f"shard {shard.id} or its origin is taken"
            if "/block/" in shard.origin:
                return "malformed-origin", f"the origin of shard {shard.id} would read like a block's"
            if not _is_key_of(shard):
                return "malformed-key", f"no C2SP verifier key (Ed25519) of {shard.origin}"
            known[shard.id] = shard.origin
        if unknown := sorted({shard.id for shard in event.shards} - known.keys()):
            return "unknown-shard", f"nobody has added shard {unknown[0]}"
        return None

    def _about_partitions(self, event: Assignment) -> tuple[str, str] | None:
        named = [((t.topic, p), s.id) for s in event.shards for t in s.topics for p in t.partitions]
        homes = dict(named)
        if len(homes) != len(named):
            return "assigned-twice", "a partition is assigned to two shards, or twice to one"
        if len({shard.id for shard in event.shards}) != len(event.shards):
            return "assigned-twice", "a shard is named twice"
        if not event.added and homes.items() <= self.now.holders.items():
            # It would be kept for ever by everybody, and one operator could state any number.
            return "nothing-moves", "every partition is where this assigns it, and no shard is added"
        lost = Counter(before for at, before in self.now.holders.items() if homes.get(at, before) != before)
        if any(count > GIVEN_AT_ONCE_MAX for count in lost.values()):
            return "too-many-moved", f"a shard gives at most {GIVEN_AT_ONCE_MAX} partitions at once"
        return None


def _is_key_of(shard: AddedShard) -> bool:
    try:
        return NoteVerifier.from_vkey(shard.verifier_key).name == shard.origin
    except KeyTextError:
        return False
