"""Of the same bytes on the ledger twice, the trail shows one as done (case B1 of red team B)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from tests.unit.audit.chain import Accepted, Chain
from tests.unit.audit.samples import AROUND, NOON
from tests.unit.audit.test_indexing import DOCUMENT, all_of, index_all
from tests.unit.audit.test_mappings import FHIR, OCSF

from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.detection import is_repeated
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.ocsf import ocsf_of

EVENT = Accepted(DOCUMENT, name="e-1")
OTHER = Accepted(DOCUMENT, name="e-2")


def shards() -> tuple[Chain, Chain]:
    """Two shards; the second one seals another partition's worth of the same events."""
    return Chain(), Chain(topic="salus.clinical.notes", origin="salus.local/dev/shard/1", shard=1)


def outcomes(entries: list[TrailEntry]) -> list[tuple[int, str | None, str, str | None]]:
    return sorted((e.place.shard, e.id, e.facts.outcome, e.facts.no_effect) for e in entries)


@pytest.mark.parametrize("replay_is_indexed_first", [False, True])
async def test_a_replay_to_another_shard_is_without_effect_whichever_is_indexed_first(
    trail: SqlTrail, *, replay_is_indexed_first: bool
) -> None:
    first, second = shards()
    first.seal([EVENT, OTHER])
    second.seal([])
    second.seal([EVENT])
    for chain in (second, first) if replay_is_indexed_first else (first, second):
        await index_all(chain, trail)

    entries = [each.entry for each in await all_of(trail)]

    assert outcomes(entries) == [
        (0, "e-1", "success", None),
        (0, "e-2", "success", None),
        (1, "e-1", "without-effect", "repeated"),
    ]
    [replay] = [each for each in entries if each.place.shard == 1]
    assert "first at salus.clinical.events/0/0" in replay.facts.summary
    assert replay.place.appended_at == NOON + timedelta(seconds=1)
    OCSF[6005].validate(ocsf_of(replay, AROUND))
    FHIR.validate(audit_event_of(replay, AROUND))
    assert is_repeated(replay)
    [published] = await trail.block(1, 1, limit=10)
    assert published.entry == replay
    found = await trail.leaf(replay.uid)
    assert found is not None
    assert found.entry == replay
    shown = await trail.entry(EVENT.source, "e-1")
    assert shown is not None
    assert shown.entry.place.shard == 0


async def test_a_replay_in_one_shard_after_its_window_is_without_effect(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([EVENT])
    chain.seal([OTHER])
    chain.seal([EVENT])
    await index_all(chain, trail)

    entries = [each.entry for each in await all_of(trail)]

    assert sorted((e.place.offset, e.facts.no_effect) for e in entries) == [
        (0, None),
        (1, None),
        (2, "repeated"),
    ]


async def test_another_event_under_a_used_id_is_its_authors_and_no_repetition(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([EVENT])
    chain.seal([Accepted(DOCUMENT, name="e-1", time=NOON + timedelta(hours=1))])
    await index_all(chain, trail)

    assert {each.entry.facts.outcome for each in await all_of(trail)} == {"success"}


async def test_copies_are_looked_up_and_no_index_is_read_whole(trail: SqlTrail) -> None:
    """The trail has millions of rows, and each page and each block that is published looks for copies."""
    if trail._engine.dialect.name != "sqlite":
        pytest.skip("how SQLite plans")
    chain = Chain()
    chain.seal([EVENT, OTHER])
    chain.seal([EVENT])
    await index_all(chain, trail)
    asked: list[tuple[str, Any]] = []

    @event.listens_for(trail._engine.sync_engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        asked.append((statement, parameters))

    await trail.block(0, 1, limit=10)
    event.remove(trail._engine.sync_engine, "before_cursor_execute", note)
    plans = []
    async with trail._engine.connect() as connection:
        for statement, parameters in asked:
            if "HAVING" in statement or "row_number" in statement:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.append([row[-1] for row in plan])

    assert len(plans) == 2
    assert [step for plan in plans for step in plan if "SCAN audit_trail" in step] == []
    assert all("ix_audit_trail_event (source=? AND id=?)" in " ".join(plan) for plan in plans)
