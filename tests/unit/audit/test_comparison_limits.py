"""A comparison takes bounded memory, and whoever asks for one does not wait for the slow one.

Cases of the fourth attack: 950 bytes of memory for each request that was ever stated, and a repair that
waited in silence for a pass of hours.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.audit.test_reconciliation import CHANGES, World, database, world

from salus.audit import comparison, reconcile_api
from salus.audit.adapters.sql import SqlTrail
from salus.audit.adapters.stored import SqlStoredTrail
from salus.audit.ports import OutOfReachError
from salus.audit.reconcile_api import reconciled
from salus.audit.reconciliation import Step

__all__ = ["database", "world"]

ROOT = Path(__file__).parents[3]


def names_in(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def test_a_comparison_of_many_requests_takes_little_memory(tmp_path: Path) -> None:
    script = "tests.unit.audit.compared_in_little_memory"
    done = subprocess.run(
        [sys.executable, "-m", script, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )

    # Of those that were stated, one was not in the database, and of those there one was not stated.
    assert (done.stdout, done.returncode) == ("2", 0), done.stderr[-2000:]


async def test_the_file_of_a_comparison_has_no_name_and_a_full_disk_is_waited_for(
    trail: SqlTrail, tmp_path: Path
) -> None:
    folder = tmp_path / "room"
    folder.mkdir()
    stored = SqlStoredTrail(trail._engine, folder)
    async with stored.snapshot():
        assert names_in(folder) == []

    folder.rmdir()
    with pytest.raises(OutOfReachError, match="the file of the comparison"):
        async with stored.snapshot():
            pass


async def test_rows_that_differ_come_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("salus.audit.adapters.derived_tables.DIFFERING_AT_ONCE_MAX", 2)
    monkeypatch.setattr("salus.audit.adapters.stored.PAGE_ROWS", 2)
    added = ", ".join(f"('t', 'n-{number}')" for number in range(7))
    await world.change("DELETE FROM audit_patients", f"INSERT INTO audit_claims VALUES {added}")
    expected = ["audit_claims … is extra"] * 7 + ["audit_patients … is missing"]

    assert await world.compare() == expected
    assert await world.compare(repair=True) == expected
    assert await world.compare() == []


async def test_blocks_that_are_not_on_the_ledger_come_in_parts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salus.audit.reconciliation.STRAYS_AT_ONCE_MAX", 2)
    await world.change("DELETE FROM audit_shards WHERE shard = 1")
    monkeypatch.setattr("salus.audit.reconciliation.EXTRA_ROWS_TOLD_MAX", 1)

    found = await world.compare(repair=True)

    entries = [line for line in found if line.startswith("entry")]
    assert entries == [f"entry shard 1 block {height} row 0 is extra" for height in range(3)]


class SlowPass:
    """The pace of a pass that never goes on by itself."""

    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def wait(self, _: Step) -> None:
        self.began.set()
        await asyncio.Event().wait()


async def test_a_repair_ends_the_slow_pass_which_begins_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowPass()
    monkeypatch.setattr(world.comparison, "_paced", slow.wait)
    running = asyncio.create_task(world.comparison.run())
    async with asyncio.timeout(60):
        await slow.began.wait()
        await world.change(CHANGES["row deleted"][0])
        slow.began.clear()

        events = [event async for event in reconciled(world.comparison, repair=True)]
        await slow.began.wait()

    assert json.loads(events[-1].removeprefix(b"data: "))["result"] == "repaired"
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert world.comparison.outcome.known == ()


async def test_who_waits_for_another_comparison_hears_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_api, "SILENCE_S_MAX", 0.01)
    slow = SlowPass()
    first = asyncio.create_task(world.comparison.compare(slow.wait))
    async with asyncio.timeout(60):
        await slow.began.wait()
        events = reconciled(world.comparison, repair=False)
        told = [await anext(events) for _ in range(3)]
        first.cancel()
        rest = [event async for event in events]

    assert told == [b'data: {"progress":{"blocks":0,"blocks_in_all":0,"rows":0}}\n\n'] * 3
    assert json.loads(rest[-1].removeprefix(b"data: "))["result"] == "equal"


async def test_a_long_pause_says_that_it_lives(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    said: list[None] = []

    async def slept(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", slept)
    monkeypatch.setattr(comparison, "succeeded", lambda: said.append(None))
    await world.comparison._paced(Step(1, 1, 150_000_000))

    assert pauses == [60.0, 60.0, 30.0]
    assert len(said) == 3


# SQLite keeps any type in any column.
OTHER_TYPES = {
    "a text for an entry": "UPDATE audit_trail SET entry = 'text' WHERE id = 'event-0'",
    "a number for an entry": "UPDATE audit_trail SET entry = 1000000000000 WHERE id = 'event-0'",
    "a word for an index": "UPDATE audit_trail SET \"index\" = 'word' WHERE id = 'event-0'",
    "a word for a block": "UPDATE audit_trail SET height = 'word' WHERE id = 'event-0'",
    "a word for a shard": "UPDATE audit_trail SET shard = 'word' WHERE id = 'event-0'",
    "bytes for an actor": "UPDATE audit_trail SET actor = x'00ff' WHERE id = 'event-0'",
    "a text for a consent": "UPDATE audit_consents SET consent = 'text'",
    "a text for a version": "UPDATE audit_versions SET version = '1'",
    "a text for an identity event": "UPDATE audit_identity SET value = 'text'",
    "bytes for the key of a claim": "INSERT INTO audit_claims VALUES (x'00ff', x'00ff')",
    "a text for a header": "UPDATE audit_shards SET last_header = 'text' WHERE shard = 1",
}


@pytest.mark.parametrize("name", OTHER_TYPES)
async def test_a_value_of_another_type_is_found_and_repaired(world: World, name: str) -> None:
    await world.change(OTHER_TYPES[name])

    assert await world.compare() != []
    await world.compare(repair=True)
    assert await world.compare() == []
