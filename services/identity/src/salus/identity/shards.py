"""The law of shards: which of them seals which partitions. Pure, as `salus.identity.domain` is.

There is one aggregate, named by the network's origin. What its events come to is `salus.events.sharding`,
which sequencers and verifiers follow too; here is only who may state them, and what else is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import AddedShard, AssignedShard, ShardsAssigned
from salus.events.event_types import EventData
from salus.events.parties import Operator
from salus.events.rights import Actor, objection_to_one_alone
from salus.events.sharding import Assignment, FoundingShard, Partition, Sharding
from salus.runtime.refusal import Refusal, require


class ShardingState(msgspec.Struct, frozen=True):
    """The assignments that were stated, in their order."""

    assigned: tuple[Assignment, ...] = ()

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
        return ShardingState((*state.assigned, Assignment.of(event)))
    return state


def require_governing(actor: Actor) -> None:
    """Raise Refusal `not-permitted` unless the actor is an operator."""
    if not actor.governs:
        raise Refusal("not-permitted", "operators assign partitions to shards", status=403)


def growing_topics(command: AssignShards, sharding: Sharding, catalogue: Catalogue) -> list[str]:
    """Return the topics, sealed ones or of the catalogue, that get a partition by the command."""
    known = sharding.now.holders.keys()
    named = {(t.topic, p) for shard in command.shards for t in shard.topics for p in t.partitions}
    assignable = {topic for topic, _ in known} | {*catalogue.input_topics()}
    return sorted({topic for topic, _ in named - known} & assignable)


def decide(  # noqa: PLR0913  # the facts that a decision rests on
    state: ShardingState,
    command: AssignShards,
    *,
    network: str,
    founders: Iterable[FoundingShard],
    actor: Actor,
    there: Mapping[str, Collection[int]],
    catalogue: Catalogue,
    operators: Collection[Operator] = (),
) -> ShardsAssigned:
    """Return the event that the command becomes; `there` are the partitions that Kafka has, by topic.

    `catalogue` has the types that hold now: the topic of a context that joined may be assigned as well.

    Raises:
        Refusal: with one of the codes not-permitted, second-operator-needed, wrong-epoch, shard-exists,
            malformed-origin, malformed-key, unknown-shard, assigned-twice, nothing-moves, too-many-moved,
            unknown-partition, several-partitions, partition-left-out.
    """
    require_governing(actor)
    if command.added:
        # A new shard brings a key that the ledger is believed by.
        require(objection_to_one_alone("add a shard", actor=actor, operators=operators))
    before = state.sharding(founders)
    event = ShardsAssigned(
        network=network,
        epoch=command.epoch,
        shards=command.shards,
        added=command.added,
        request=actor.request,
    )
    if (objection := before.objection(Assignment.of(event))) is not None:
        code, detail = objection
        raise Refusal(code, detail, status=409 if code == "wrong-epoch" else 422)
    named = {(t.topic, p) for shard in event.shards for t in shard.topics for p in t.partitions}
    known = before.now.holders.keys()
    _require_extensions(named - known, known, there, catalogue)
    for topic, partition in sorted(known - named):
        raise Refusal("partition-left-out", f"nobody would seal {topic} {partition}", status=422)
    return event


def _require_extensions(
    fresh: Collection[Partition],
    known: Collection[Partition],
    there: Mapping[str, Collection[int]],
    catalogue: Catalogue,
) -> None:
    """Raise unless what is assigned for the first time are the next partitions of topics.

    A topic with one owner has one partition, for ever: what its events change follows from their order.
    """
    following = dict.fromkeys(catalogue.input_topics(), 0) | {
        topic: 1 + max(p for t, p in known if t == topic) for topic, _ in known
    }
    sealed, growing = {topic for topic, _ in known}, {*catalogue.topics_of_members()}
    for topic, partition in sorted(fresh):
        if topic not in following or (topic in sealed and topic not in growing):
            raise Refusal(
                "unknown-partition", f"{topic} {partition} is none that can be assigned", status=422
            )
        if partition != following[topic]:
            raise Refusal("unknown-partition", f"the next one of {topic} is {following[topic]}", status=422)
        if partition not in there.get(topic, ()):
            raise Refusal("unknown-partition", f"Kafka has no {topic} {partition}", status=422)
        following[topic] += 1
    for topic in {topic for topic, _ in fresh} - sealed - growing:
        if {*there[topic]} != {0}:
            sentence = f"{topic} has one owner and so one partition, and Kafka has {len(there[topic])} of it"
            raise Refusal("several-partitions", sentence, status=422)
