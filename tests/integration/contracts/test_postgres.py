"""The fold store over PostgreSQL: what holds with SQLite, and replicas on one database that take turns."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from tests.unit.contracts.test_versions import GRANT, PATIENT, REVOCATION, TOPIC, fold

from salus.contracts.fold_store import FoldStore, Mark, open_fold_store
from salus.events.effect import Applied, NoEffect, Outcome, WithoutEffect
from salus.messaging import Position


async def test_versions_outcomes_and_marks_are_kept(postgres: str) -> None:
    async with open_fold_store(postgres) as store:
        assert await fold(store, GRANT, 0) == 1
        assert await fold(store, GRANT, 0) is None
        assert await fold(store, REVOCATION, 1) == 2
        outcomes: dict[Position, Outcome] = {
            Position(TOPIC, 0, 0): Applied(1),
            Position(TOPIC, 0, 1): WithoutEffect(NoEffect.STALE),
        }
        async with store.engine.begin() as connection:
            await store.set_outcomes(connection, outcomes)
            mark = Mark(1, sha256(b"value").digest())
            await store.set_positions(connection, {(TOPIC, 0): 2}, marks={(TOPIC, 0): mark})

    async with open_fold_store(postgres) as again:
        loaded = await again.load("epoch", PATIENT)
        async with again.engine.begin() as connection:
            found = await again.outcomes(connection, [*outcomes])

        assert loaded is not None
        assert (loaded.version, found) == (2, outcomes)
        assert (await again.positions(), await again.marks()) == ({(TOPIC, 0): 2}, {(TOPIC, 0): mark})


async def test_of_two_replicas_on_one_database_one_folds_a_record(postgres: str) -> None:
    async def replica(store: FoldStore) -> bool:
        async with store.engine.begin() as connection:
            done = await store.lock_positions(connection)
            if done[TOPIC, 0]:
                return False
            await store.set_positions(connection, {(TOPIC, 0): 2}, marks={})
            await asyncio.sleep(0)
            return True

    async with open_fold_store(postgres) as one, open_fold_store(postgres) as other:
        await asyncio.gather(*(store.begin([(TOPIC, 0)], code=b"1" * 32) for store in (one, other)))
        folded = await asyncio.gather(*(replica(store) for store in (one, other) * 5))

    assert sum(folded) == 1
