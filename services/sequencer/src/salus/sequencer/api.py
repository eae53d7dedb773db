"""The sequencer over HTTP: besides health and metrics, where its chain stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import APIRouter
from pydantic import BaseModel, Field

from salus.runtime.topic_check import Difference
from salus.sequencer.handlers import Progress, lag_of
from salus.sequencer.restoring import Shard


class SealedRange(BaseModel):
    """How far one partition is sealed."""

    topic: str
    partition: int
    next: int = Field(description="The first offset that is in no block yet.")
    lag: int | None = Field(description="Offsets behind the topic's end; null while that is unknown.")


class AwaitedPartition(BaseModel):
    """A partition that another shard has to give first."""

    topic: str
    partition: int


class UnassignedPartition(BaseModel):
    """A partition that Kafka has and no shard seals."""

    topic: str
    partition: int


class Status(BaseModel):
    """Where the chain stands, as this process knows it."""

    shard: int
    origin: str
    height: int | None = Field(description="The last block; null before the first.")
    ranges: list[SealedRange] = Field(description="What the shard seals now; none: it has nothing to do.")
    epoch: int | None = Field(description="The assignment that it follows; null until it is read.")
    awaited: list[AwaitedPartition] = Field(description="Assigned to it, and not given to it yet.")
    unassigned: list[UnassignedPartition] = Field(
        description="Of the topics that are sealed; `salus shard assign` assigns them."
    )
    trouble: str | None = Field(description="Why what others gave cannot be taken; null if all is well.")
    halted: str | None = Field(description="Why sealing stopped and needs a person; null while it goes on.")


def routes(
    shard: Shard, progress: Progress, *, differences: Callable[[], Iterable[Difference]] = tuple
) -> APIRouter:
    """Return the routes of one shard's sequencer; `differences` are those of the topics, as found last."""
    router = APIRouter()

    @router.get("/status", tags=["ledger"], summary="Where the chain stands and how far it lags.")
    async def get_status() -> Status:
        header = progress.tip and progress.tip.header
        lag = await lag_of(progress)
        sealed = header.next_offsets if header else {}
        following = {at: sealed.get(at, start) for at, start in progress.starts.items()}
        outlook = progress.outlook
        return Status(
            shard=shard.id,
            origin=shard.verifier.name,
            height=header.height if header else None,
            ranges=[
                SealedRange(topic=topic, partition=partition, next=offset, lag=lag.get((topic, partition)))
                for (topic, partition), offset in sorted(following.items())
            ],
            epoch=outlook.epoch if outlook else None,
            awaited=[AwaitedPartition(topic=t, partition=p) for t, p in outlook.awaited] if outlook else [],
            unassigned=[
                UnassignedPartition(topic=difference.topic, partition=difference.partition)
                for difference in differences()
                if difference.what == "unassigned" and difference.partition is not None
            ],
            trouble=outlook.trouble if outlook else None,
            halted=progress.halted,
        )

    return router
