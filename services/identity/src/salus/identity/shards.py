"""The law of shards: which of them seals which partitions. Pure, as `salus.identity.domain` is.

There is one aggregate, named by the network's origin. What its events come to is `salus.events.sharding`,
which sequencers and verifiers follow too; here is only who may state them, and what else is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from salus.events.catalogue import AddedShard, AssignedShard, EventData, ShardsAssigned
from salus.events.sharding import FoundingShard, Sharding
from salus.identity.domain import Actor
from salus.runtime.refusal import Refusal


class ShardingState(msgspec.Struct, frozen=True):
    """The assignments that were stated, in their order."""

    assigned: tuple[ShardsAssigned, ...] = ()

    def sharding(self, founders: Iterable[FoundingShard]) -> Sharding:
        """Return what they come to."""
        return Sharding.of(founders, enumerate(self.assigned, start=1))


@dataclass(frozen=True)
class AssignShards:
    """Let these shards seal these partitions; `epoch` is the assignment before plus one."""

    epoch: int
    shards: tuple[AssignedShard, ...]
    added: tuple[AddedShard, ...] = ()


def concerns(subject: str, event: EventData) -> str | None:
    """Name the aggregate that an event of the identity topic belongs to, if it is one of ours."""
    return subject if isinstance(event, ShardsAssigned) else None


def evolve(state: ShardingState, event: EventData) -> ShardingState:
    """Return the state after the event."""
    if isinstance(event, ShardsAssigned):
        return ShardingState((*state.assigned, event))
    return state


def decide(
    state: ShardingState,
    command: AssignShards,
    *,
    network: str,
    founders: Iterable[FoundingShard],
    actor: Actor,
) -> ShardsAssigned:
    """Return the event that the command becomes.

    Raises:
        Refusal: with one of the codes not-permitted, wrong-epoch, shard-exists, malformed-origin,
            malformed-key, unknown-shard, assigned-twice, too-many-moved, unknown-partition,
            partition-left-out.
    """
    if not actor.governs:
        raise Refusal("not-permitted", "operators assign partitions to shards", status=403)
    before = state.sharding(founders)
    event = ShardsAssigned(network=network, epoch=command.epoch, shards=command.shards, added=command.added)
    if (objection := before.objection(event)) is not None:
        code, detail = objection
        raise Refusal(code, detail, status=409 if code == "wrong-epoch" else 422)
    named = {(t.topic, p) for shard in event.shards for t in shard.topics for p in t.partitions}
    known = before.now.holders.keys()
    for topic, partition in sorted(named - known):
        raise Refusal("unknown-partition", f"the network has no {topic} {partition}", status=422)
    for topic, partition in sorted(known - named):
        raise Refusal("partition-left-out", f"nobody would seal {topic} {partition}", status=422)
    return event
