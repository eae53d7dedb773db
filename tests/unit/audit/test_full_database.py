"""A database without room makes audit unready at once, and audit goes on by itself (issue 12)."""

from __future__ import annotations

import pytest
from tests.full_databases import writes_nothing
from tests.unit.audit.chain import Chain
from tests.unit.audit.samples import AROUND, NOON
from tests.unit.audit.test_indexing import FakeOutputs, documents, indexer_of_all

from salus.audit.adapters.sql import SqlTrail
from salus.audit.handlers import Alarm, Bell, Follower
from salus.audit.ports import OutOfReachError
from salus.runtime.supervisor import Supervisor, TaskStoppedError


async def test_a_full_disk_is_told_at_once_and_whatever_else_is_away(
    trail: SqlTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, away = Chain(), Chain(topic="salus.lab.events", origin="salus.test/shard/1", shard=1)
    full.seal(documents(200))
    indexer = indexer_of_all([full, away], trail)
    index_next = indexer.index_next

    async def one_is_away(shard: int) -> int | None:
        if shard == away.shard:
            raise OutOfReachError("the archive: away")
        return await index_next(shard)

    monkeypatch.setattr(indexer, "index_next", one_is_away)
    alarm = Alarm(FakeOutputs(), AROUND, lambda: NOON)
    follower = Follower(indexer, alarm, announced=Bell(), grown=Bell(), poll_s=1)

    with Supervisor().watching("indexing", age_s_max=3600) as pulse:
        await follower.round()
        await pulse.check()
        full.seal(documents(200, 200))
        with writes_nothing(trail._engine):
            assert not await follower.round()
            with pytest.raises(TaskStoppedError, match="the database writes nothing: its disk is full"):
                await pulse.check()

        monkeypatch.setattr(indexer, "index_next", index_next)
        assert await follower.round()
        await pulse.check()
    assert await trail.end() == 400
