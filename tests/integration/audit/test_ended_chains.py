"""A chain ends before what a stolen key refused: the trail takes it back, and equals one made anew."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.founding import add_founder, founding
from tests.integration.audit.conftest import World
from tests.integration.audit.test_forged_blocks import compared, document
from tests.integration.audit.test_rights import AT, HOSPITAL, REGISTERED, asked, sealed

from salus.archive.building import ChainBuilder, SampleRecord
from salus.audit import __main__ as audit
from salus.audit.__main__ import identity_topic_of
from salus.crypto.keys import load_ed25519
from salus.devkit.key_files import KeyFiles
from salus.ledger.block import Handover
from salus.ledger.note import NoteSigner


async def entries(world: World, count: int) -> list[Any]:
    """Return the trail once it has so many entries."""
    found: list[Any] = []
    async with asyncio.timeout(60):
        while len(found) != count:
            answer = await world.get("/trail", limit=100)
            found = answer.json()["entries"] if answer.is_success else []
    return found


def refused(record: SampleRecord) -> SampleRecord:
    return replace(record, status="rejected:duplicate")


async def ready(world: World, check: str, wanted: str) -> None:
    """Wait until a check of /readyz says something."""
    async with asyncio.timeout(60):
        while wanted not in str((await world.client.get("/readyz")).json()["checks"][check]):
            await world.get("/trail", limit=1)


async def test_what_a_stolen_key_refused_is_so_again(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Case redB7 3: honest readers disagreed for ever about an identity event that a forged block refused."""
    monkeypatch.setattr(audit, "identity_topic_of", identity_topic_of)
    add_founder(world.folder.file, HOSPITAL, "member")
    other = world.folder.add_shard(1)
    facts = founding(world.folder.file)
    before = AT - timedelta(hours=1)
    parties = [sealed(world, fact, fact.did, at=before, offset=number) for number, fact in enumerate(facts)]
    of_hospital = next(number for number, fact in enumerate(facts) if fact.did == HOSPITAL.did)
    assert of_hospital == len(parties) - 1
    begin = AT.replace(microsecond=0)
    chain = ChainBuilder(world.bucket, world.chain.signer, HOSPITAL, begin=begin)
    chain.cover([("salus.clinical.events", 0), ("salus.storage.events", 0)])
    await chain.seal(parties[:-1])
    chain.identity_position = len(parties)
    await chain.seal([refused(parties[-1]), document(0), refused(document(1))])
    await chain.seal([document(2), asked(world, REGISTERED, HOSPITAL)])
    await world.start()
    await entries(world, len(parties) + 4)

    KeyFiles(world.folder).end(0, before=1)
    await ready(world, "ledger", "before block 1, and the trail has it up to block 2")
    key = NoteSigner(other["origin"], load_ed25519(world.folder.key_file("shard-1")))
    heir = ChainBuilder(world.bucket, key, HOSPITAL, shard=1, begin=begin + timedelta(minutes=1))
    heir.identity_position = len(parties)
    left = chain.headers[0].next_offsets
    lines = [Handover("took", *at, left[at], chain.headers[0].block_origin) for at in left]
    await heir.seal([], handovers=lines)
    await heir.seal([parties[-1], document(0), document(1)])
    await heir.seal([document(2), asked(world, REGISTERED, HOSPITAL), document(3)])
    repaired = await world.post("/trail/reconcile?repair=true", world.operator)
    assert json.loads(repaired.text.split("data: ")[-1])["result"] == "repaired"

    page = await entries(world, len(parties) + 5)
    clinical = [entry for entry in page if entry["ledger"]["topic"] == "salus.clinical.events"]
    assert {entry["outcome"] for entry in clinical} == {"success"}
    assert {entry["actor"] for entry in clinical} == {HOSPITAL.did}
    assert {entry["ledger"]["shard"] for entry in clinical} == {1}
    checks = await compared(world)
    assert (checks["ledger"], checks["trail"], checks["damage"]) == ("ok", "ok", "ok")

    await world.stop()
    database = f"sqlite+aiosqlite:///{tmp_path}/anew.db"
    world.settings = world.settings.model_copy(update={"database_url": database})
    await world.start()
    assert sorted(map(str, await entries(world, len(page)))) == sorted(map(str, page))
    assert (await compared(world))["trail"] == "ok"
