"""Shards over HTTP: which of them seals which partitions, and changing that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, FailFast, Field

from salus.contracts.contract import ContractHost
from salus.contracts.http_fields import CommandBody, at_most
from salus.events import fields
from salus.events.contexts.identity import AddedShard, AssignedShard, AssignedTopic, ShardsAssigned
from salus.events.fields import INTEGER_MAX
from salus.events.sharding import Sharding
from salus.identity.api import actor_of
from salus.identity.handlers import as_known
from salus.identity.ports import Ring
from salus.identity.shards import AssignShards, ShardingState, decide, growing_topics, require_governing
from salus.runtime.auth import Caller, Callers
from salus.runtime.fields import pattern_of
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.network import Network
from salus.runtime.problems import documented

SHARDS_MAX = 1024
TOPICS_MAX = 64
# Each is kept by everybody who folds the topic, for ever.
ASSIGNMENTS = Rate(burst=60, per_minute=1 / 5)
# The name of a C2SP key has no space and no plus sign; in ASCII, for engines differ in what a space is.
ORIGIN_PATTERN = "^[!-*,-~]+$"
Id = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
TopicName = Annotated[str, Field(min_length=1, max_length=256, pattern=pattern_of(fields.Text))]


class ShardBody(CommandBody):
    """What one shard is to seal."""

    id: Id
    topics: Annotated[dict[TopicName, Annotated[list[Id], FailFast()]], at_most(TOPICS_MAX)] = Field(
        max_length=TOPICS_MAX,
        description="Partitions by topic; none: the shard ends.",
        examples=[{"salus.clinical.events": [0, 1]}],
    )

    def as_assigned(self) -> AssignedShard:
        """Return it as events carry it: in one order, without what is empty."""
        topics = ((topic, tuple(sorted(partitions))) for topic, partitions in sorted(self.topics.items()))
        return AssignedShard(
            self.id, tuple(AssignedTopic(topic, numbers) for topic, numbers in topics if numbers)
        )


class AddedBody(CommandBody):
    """A shard that is new."""

    id: Id
    origin: str = Field(min_length=1, max_length=256, pattern=ORIGIN_PATTERN)
    verifier_key: str = Field(
        min_length=1,
        max_length=256,
        pattern=pattern_of(fields.Text),
        description="C2SP verifier key, Ed25519.",
    )


class AssignBody(CommandBody):
    """Every partition's new place. `epoch` is the present one plus one: whoever was later gets a 409."""

    epoch: Id
    shards: Annotated[list[ShardBody], FailFast()] = Field(min_length=1, max_length=SHARDS_MAX)
    added: Annotated[list[AddedBody], FailFast()] = Field(default=[], max_length=SHARDS_MAX)

    def as_command(self) -> AssignShards:
        """Return the command."""
        return AssignShards(
            epoch=self.epoch,
            shards=tuple(shard.as_assigned() for shard in sorted(self.shards, key=lambda shard: shard.id)),
            added=tuple(AddedShard(a.id, a.origin, a.verifier_key) for a in self.added),
        )


class ShardView(BaseModel):
    """A shard: its name, the partitions assigned to it, and the key it began with if it was added later."""

    id: int
    origin: str
    topics: dict[str, list[int]]
    verifier_key: str | None = Field(
        description="Of an added shard; those of founding ones are in network.json."
    )


class ShardingView(BaseModel):
    """The assignment in force; epoch 0 is the one of network.json."""

    network: str
    epoch: int
    shards: list[ShardView]

    @classmethod
    def of(cls, network: str, sharding: Sharding) -> ShardingView:
        """Return the view of the last assignment."""
        shards = []
        for shard, origin in sorted(sharding.origins.items()):
            topics: dict[str, list[int]] = {}
            for topic, partition in sorted(sharding.now.partitions_of(shard)):
                topics.setdefault(topic, []).append(partition)
            added = sharding.added.get(shard)
            key = added.verifier_key if added else None
            shards.append(ShardView(id=shard, origin=origin, topics=topics, verifier_key=key))
        return cls(network=network, epoch=sharding.now.number, shards=shards)


def shard_routes(  # noqa: PLR0913  # what the routes are made from
    host: ContractHost[ShardingState],
    network: Network,
    *,
    authenticate: Callers,
    partitions_of: Callable[[Iterable[str]], Awaitable[Mapping[str, Collection[int]]]],
    ring: Ring,
    now: Callable[[], datetime],
) -> APIRouter:
    """Return the routes about shards; `partitions_of` asks Kafka what it has of topics."""
    router = APIRouter(tags=["shards"])
    commander = Depends(authenticate.command)
    limit = AccountLimit("assignments", ASSIGNMENTS)

    async def sharding() -> Sharding:
        return (await host.state(network.origin)).sharding(network.shards)

    async def governing(caller: Caller = commander) -> Caller:
        """Return the caller, if it is an operator: of others neither body nor topics are looked at."""
        require_governing(actor_of(caller))
        limit.take(caller.party)
        return caller

    operator = Depends(governing)

    @router.get("/shards", responses=documented(503))
    async def list_shards() -> ShardingView:
        """Return which shard is to seal which partitions, as of every assignment published until now."""
        return ShardingView.of(network.origin, await sharding())

    @router.post("/shards", status_code=201, responses=documented(401, 403, 409, 422, 429, 503))
    async def assign_shards(body: AssignBody, caller: Caller = operator) -> ShardingView:
        """Assign every partition anew: shards appear, take over, give away and end, without a gap.

        Partitions that a topic of members got since are assigned like this too, and sealed from offset 0 on.
        """
        command = body.as_command()
        growing = growing_topics(command, await sharding(), (await ring.catch_up()).types.present)
        there = await partitions_of(growing) if growing else {}

        async def rule(state: ShardingState) -> ShardsAssigned:
            # It may have waited: who asks, and who governs, is looked up in its turn.
            known, at = await ring.catch_up(), now()
            return decide(
                state,
                command,
                network=network.origin,
                founders=network.shards,
                actor=as_known(actor_of(caller), known, at=at),
                there=there,
                catalogue=known.types.present,
                operators=known.operators(at=at),
            )

        await host.execute(network.origin, rule)
        return ShardingView.of(network.origin, await sharding())

    return router
