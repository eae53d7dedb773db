"""Shards over HTTP: which of them seals which partitions, and changing that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from salus.events import fields
from salus.events.contexts.identity import AddedShard, AssignedShard, AssignedTopic
from salus.events.fields import INTEGER_MAX
from salus.events.parties import Operator
from salus.events.sharding import Sharding
from salus.identity.api import actor_of
from salus.identity.shards import AssignShards, ShardingState, decide
from salus.runtime.auth import Caller, Callers
from salus.runtime.contract import ContractHost
from salus.runtime.fields import pattern_of
from salus.runtime.network import Network
from salus.runtime.problems import documented

SHARDS_MAX = 1024
# The name of a C2SP key has no space and no plus sign; in ASCII, for engines differ in what a space is.
ORIGIN_PATTERN = "^[!-*,-~]+$"
Id = Annotated[int, Field(ge=0, le=INTEGER_MAX)]
TopicName = Annotated[str, Field(min_length=1, max_length=256, pattern=pattern_of(fields.Text))]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ShardBody(_Body):
    """What one shard is to seal."""

    id: Id
    topics: dict[TopicName, list[Id]] = Field(
        description="Partitions by topic; none: the shard ends.", examples=[{"salus.clinical.events": [0, 1]}]
    )

    def as_assigned(self) -> AssignedShard:
        """Return it as events carry it: in one order, without what is empty."""
        topics = ((topic, tuple(sorted(partitions))) for topic, partitions in sorted(self.topics.items()))
        return AssignedShard(
            self.id, tuple(AssignedTopic(topic, numbers) for topic, numbers in topics if numbers)
        )


class AddedBody(_Body):
    """A shard that is new."""

    id: Id
    origin: str = Field(min_length=1, max_length=256, pattern=ORIGIN_PATTERN)
    verifier_key: str = Field(
        min_length=1,
        max_length=256,
        pattern=pattern_of(fields.Text),
        description="C2SP verifier key, Ed25519.",
    )


class AssignBody(_Body):
    """Every partition's new place. `epoch` is the present one plus one: whoever was later gets a 409."""

    epoch: Id
    shards: list[ShardBody] = Field(min_length=1, max_length=SHARDS_MAX)
    added: list[AddedBody] = Field(default=[], max_length=SHARDS_MAX)

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


def shard_routes(
    host: ContractHost[ShardingState],
    network: Network,
    *,
    authenticate: Callers,
    partitions_of: Callable[[Iterable[str]], Awaitable[Mapping[str, Collection[int]]]],
    operators: Callable[[], Awaitable[Collection[Operator]]],
) -> APIRouter:
    """Return the routes about shards; `partitions_of` asks Kafka what it has of topics.

    `operators` returns those of the network, as of everything published until now.
    """
    router = APIRouter(tags=["shards"])
    caller = Depends(authenticate.command)

    async def view() -> ShardingView:
        return ShardingView.of(network.origin, (await host.state(network.origin)).sharding(network.shards))

    @router.get("/shards", responses=documented(503))
    async def list_shards() -> ShardingView:
        """Return which shard is to seal which partitions, as of every assignment published until now."""
        return await view()

    @router.post("/shards", status_code=201, responses=documented(401, 403, 409, 422, 503))
    async def assign_shards(body: AssignBody, caller: Caller = caller) -> ShardingView:
        """Assign every partition anew: shards appear, take over, give away and end, without a gap.

        Partitions that a topic of members got since are assigned like this too, and sealed from offset 0 on.
        """
        rule = partial(
            decide,
            command=body.as_command(),
            network=network.origin,
            founders=network.shards,
            actor=actor_of(caller),
            operators=await operators(),
            there=await partitions_of(sorted({topic for shard in body.shards for topic in shard.topics})),
        )
        await host.execute(network.origin, rule)
        return await view()

    return router
