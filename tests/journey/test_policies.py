"""The story is played and replayed, two operators change the policies, a forged decision is found.

Issue 14, Consent 2 and 8, on the whole platform: parts, services, command line, and a copy of the buckets.
"""

from __future__ import annotations

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.asking import truly_asked
from tests.commands import Said, Salus
from tests.integration.cli.test_two_operators import SecondOperator
from tests.journey.test_own_event_types import together

from salus.cli.callers import signer_of
from salus.cli.checking import LEDGER_BUCKET, LOG_BUCKET
from salus.cli.exits import Exit
from salus.client import Publisher
from salus.devkit.platform import Platform
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided
from salus.events.envelope import decode_event
from salus.messaging import Reader
from salus.objects import refuse_stray

pytestmark = pytest.mark.timeout(1800)
ROOT = Path(__file__).parents[2]
SEALED_S_MAX = 180
NO_EMERGENCIES = """
@id("consented")
permit (principal, action == Salus::Action::"read", resource)
when {
  resource.patient.grants.contains({ grantee: principal.did, action: "read", purpose: context.purpose })
};
"""
KNOWN = """
SELECT DISTINCT subject FROM leaves WHERE type = 'salus.storage.subject-registered.v1' AND subject NOT IN
(SELECT subject FROM leaves WHERE type = 'salus.storage.subject-erased.v1')
"""


async def replayed(salus: Salus, *words: str | Path, decisions: int, code: Exit = Exit.OK) -> Any:
    """Replay until so many decisions are sealed, with a deadline."""
    said = Said(0, "", "")
    async with asyncio.timeout(SEALED_S_MAX):
        while True:
            said = await salus("consent", "replay", "--json", *words)
            assert said.out, said.err
            report = said.json
            if report["decisions"] >= decisions and not report["not_replayed"]:
                assert (said.code, report["decisions"]) == (code, decisions), said.out
                return report
            await asyncio.sleep(1)


async def test_policies_change_by_two_operators_and_every_decision_is_replayed(tmp_path: Path) -> None:
    state, patients, policies = tmp_path / "state", tmp_path / "patients", tmp_path / "policies"
    for folder in (patients, policies, tmp_path / "second"):
        folder.mkdir()
    for name in ("Adrian", "Bernardo"):
        (file,) = (ROOT / "examples" / "patients").glob(f"{name}*.json.gz")
        shutil.copy(file, patients)
    (policies / "own.cedar").write_text(NO_EMERGENCIES)
    salus = Salus(state)
    try:
        played = await salus("demo", "--keep", "--patients", patients)
        assert played.code == 0, played.out + played.err
        await _story(Platform.attach(state / "demo"), salus, tmp_path, policies)
    finally:
        await salus("down", "--erase")


async def _story(platform: Platform, salus: Salus, folder: Path, policies: Path) -> None:
    # Every decision of the demo follows again from the ledger.
    first = await salus("consent", "replay", "--json")
    decided = first.json["decisions"]
    await replayed(salus, decisions=decided)
    assert decided > 0

    second = await _second_operator(platform, salus, folder)
    joined = await together(salus, second, folder, "party", "register", "clinic", "--kind", "member")
    doctor = ("party", "register", "doc", "--kind", "person", "--role", "clinician", "--member", "clinic")
    registered = await salus(*doctor, "--as", "clinic")
    assert (joined.code, registered.code) == (0, 0), joined.err + registered.err
    known = await salus("ledger", "query", KNOWN, "--json")
    patient = known.json[0]["subject"]
    emergency = ("consent", "decide", patient, "o-1", "--break-glass", "other", "--as", "doc", "--json")
    before = await salus(*emergency)
    assert (before.code, before.json["reasons"]) == (0, ["break-glass"]), before.err

    # What another policy set would have changed is told before anybody activates it.
    trial = await replayed(salus, "--with", policies, decisions=decided + 1)
    assert trial["denied"]["no-policy-permits"] >= 1
    assert (await salus("policy", "diff", policies)).code == Exit.NO
    await _change_policies(salus, second, folder, policies)

    # The decision changes at the position, and a replay goes across it.
    after = await salus(*emergency)
    assert (after.code, after.json["reasons"]) == (Exit.NO, ["no-policy-permits"]), after.err
    report = await replayed(salus, decisions=decided + 2)
    assert (report["same"], report["differs"]) == (decided + 2, 0)

    # The thief of consent's key allows himself an access: it is named, with block, row and what follows.
    event = await _forge(platform, patient)
    report = await replayed(salus, decisions=decided + 3, code=Exit.NO)
    (found,) = report["listed"]
    assert (found["event"], found["outcome"], found["allowed"]) == (event, "differs", True)
    assert {"field": "allowed", "said": "true", "follows": "false"} in found["differences"]

    # So says a copy of the two buckets, with no platform at all.
    copy = await _copied(platform, folder / "copy")
    offline = Salus(folder / "elsewhere")
    words = ("--network", platform.network.file, "--archive", copy)
    again = await replayed(offline, *words, decisions=decided + 3, code=Exit.NO)
    assert again["listed"] == report["listed"]


async def _second_operator(platform: Platform, salus: Salus, folder: Path) -> SecondOperator:
    second = SecondOperator(folder / "second", Salus(folder / "second"))
    (folder / "second" / "network.json").write_bytes(platform.network.file.read_bytes())
    await second.prove(folder / "entry")
    joined = await salus(
        "party", "register", "--kind", "person", "--role", "operator", "--entry", folder / "entry"
    )
    assert joined.code == 0, joined.err
    return second


async def _change_policies(salus: Salus, second: SecondOperator, folder: Path, policies: Path) -> None:
    checked = await salus("policy", "check", policies, "--json")
    digest = checked.json["policy_set"]
    proposed = await salus("policy", "propose", policies)
    assert (checked.code, proposed.code) == (0, 0), proposed.err
    alone = await salus("policy", "activate", digest, "--yes")
    assert (alone.code, "second-operator-needed" in alone.err) == (Exit.NO, True), alone.err
    activated = await together(salus, second, folder, "policy", "activate", digest, "--yes")
    assert activated.code == 0, activated.err
    assert (activated.json["policy_set"], activated.json["version"]) == (digest, 2)
    (policies / "own.cedar").write_text("permit (principal")
    wrong = await salus("policy", "propose", policies)
    assert "own.cedar:1:18: unexpected end of input" in wrong.err
    (policies / "own.cedar").write_text(NO_EMERGENCIES)


async def _forge(platform: Platform, patient: str) -> str:
    """State, by consent's key, that the doctor may read what was denied to him; he asks for it himself."""
    doc, consent = signer_of(platform, "doc", None), platform.network.signer("consent")
    denied = [each for each in await _decisions(platform) if each.principal == doc.did][-1]
    assert (denied.allowed, denied.patient) == (False, patient)
    decision = f"{patient.removeprefix('urn:uuid:')}.{'f' * 20}"
    forged = structs.replace(denied, decision=decision, allowed=True, reasons=("consented",))
    network, behalf = platform.network.read()["origin"], denied.request.behalf
    asked = truly_asked(forged, doc, at=datetime.now(UTC), network=network)
    asked = structs.replace(asked, request=structs.replace(asked.request, behalf=behalf))
    async with Publisher(platform.kafka_bootstrap, consent) as publisher:
        handle = await publisher.publish(asked, subject=patient)
    return str(handle.id)


async def _decisions(platform: Platform) -> list[AccessDecided]:
    topics = [shard["topics"] for shard in platform.network.read()["shards"]]
    numbers = [number for each in topics for number in each.get("salus.consent.events", ())]
    found: list[Any] = []
    async with Reader(
        platform.kafka_bootstrap, starts={("salus.consent.events", number): 0 for number in numbers}
    ) as reader:
        left = sum((await reader.end_offsets()).values())
        while left > 0:
            records = await reader.poll(max_records=500, timeout_ms=100)
            left -= len(records)
            found += (decode_event(record.value or b"", CATALOGUE).data for record in records)
    return [data for data in found if isinstance(data, AccessDecided)]


async def _copied(platform: Platform, folder: Path) -> Path:
    for bucket in (LEDGER_BUCKET, LOG_BUCKET):
        objects = platform.bucket(bucket)
        async for entry in objects.list(on_stray=refuse_stray):
            file = folder / bucket / entry.key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(await objects.get(entry.key, bytes_max=entry.size))
    return folder
