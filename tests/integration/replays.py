"""A past state again: topics folded up to exactly the positions that a statement names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from salus.contracts.contract import Contract
from salus.contracts.fold import Follower
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.projection import tables_of
from salus.events.keyring import KeyRing
from salus.events.state_positions import Partition, TopicPositions, ends_of
from salus.messaging import Reader, Record
from salus.runtime.identity_view import IDENTITY_TOPIC, apply_identity_record
from salus.runtime.network import Network


async def records_before(bootstrap: str, ends: Mapping[Partition, int]) -> list[Record]:
    """Return what stands in partitions before these positions."""
    found: list[Record] = []
    async with Reader(bootstrap, starts=dict.fromkeys(ends, 0)) as reader:
        while any([await reader.position(*at) < end for at, end in ends.items()]):
            found += await reader.poll(max_records=500, timeout_ms=100)
    return [record for record in found if record.offset < ends[record.topic, record.partition]]


async def ring_at(bootstrap: str, network_file: Path, ends: Mapping[Partition, int]) -> KeyRing:
    """Return the key ring as it was at the position of identity's topic."""
    ring = Network.read(network_file).new_ring()
    of_identity = {at: end for at, end in ends.items() if at[0] == IDENTITY_TOPIC}
    for record in await records_before(bootstrap, of_identity):
        apply_identity_record(ring, record)
    assert ring.position == of_identity[IDENTITY_TOPIC, 0]
    return ring


class RingThen:
    """The key ring as it was: nothing more comes."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring

    async def catch_up(self) -> KeyRing:
        return self.ring


@asynccontextmanager
async def folded_up_to(
    positions: Iterable[TopicPositions],
    *,
    bootstrap: str,
    network_file: Path,
    contracts: Sequence[Contract[Any]],
    database_url: str,
) -> AsyncIterator[tuple[FoldStore, KeyRing]]:
    """Fold topics into an empty database up to exactly there, and yield it with the key ring of then."""
    ends = ends_of(positions)
    ring = await ring_at(bootstrap, network_file, ends)
    folded = {at: end for at, end in ends.items() if at[0] != IDENTITY_TOPIC}
    async with (
        open_fold_store(database_url) as store,
        Reader(bootstrap, starts=dict.fromkeys(folded, 0)) as reader,
    ):
        await store.begin(folded, code=b"1" * 32, tables=tables_of(contracts))
        follower = Follower(reader, store=store, identity=cast("Any", RingThen(ring)), contracts=contracts)
        await follower.fold_up_to(folded)
        assert await store.positions() == folded
        yield store, ring
