"""A whole deep fsck judges rights in one process and in a resumed run alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.asking import NETWORK
from tests.unit.archive.served_ledger import CLINIC, CONSENT, HOSPITAL, PATIENT, STORAGE, ServedLedger
from tests.unit.archive.small_ledger import LOG_SIGNER, SHARD_SIGNERS, SmallLedger
from tests.unit.archive.test_deep import ROOT, identity_record, public_key
from tests.unit.archive.test_resuming import InterruptedRunError

from salus.archive import fsck as fsck_module
from salus.archive.building import SampleRecord
from salus.archive.fsck import fsck
from salus.archive.report import Progress, Report
from salus.archive.resuming import FileMemory, subject_of
from salus.archive.trust import Trust
from salus.events.contexts.identity import PartyRegistered
from salus.events.did import LocalSigner
from salus.events.parties import Founder
from salus.events.requests import Request
from salus.ledger.block import header_key

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FOUNDERS = ((CONSENT, "service", "consent"), (STORAGE, "service", "storage"), (HOSPITAL, "member", None))
FOUNDED = (*FOUNDERS, (CLINIC, "member", None))


@pytest.fixture(autouse=True)
def _one_block_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsck_module, "BLOCKS_A_STRETCH", 1)


def founding() -> list[SampleRecord]:
    """Return identity's first events."""
    asked = Request.of_service(ROOT.did)
    parties: list[PartyRegistered] = [
        PartyRegistered(
            did=signer.did,
            kind=kind,  # type: ignore[arg-type]  # a text
            keys=(public_key(signer),),
            roles=(role,) if role else (),
            request=asked,
        )
        for signer, kind, role in FOUNDED
    ]
    return [identity_record(offset, data, subject=data.did) for offset, data in enumerate(parties)]


def trust() -> Trust:
    return Trust(
        LOG_SIGNER.vkey,
        {n: s.vkey for n, s in SHARD_SIGNERS.items()},
        NETWORK,
        ROOT.did,
        public_key(ROOT),
        founding=tuple(
            Founder(signer.did, kind, (role,) if role else (), public_key(signer))  # type: ignore[arg-type]  # a text
            for signer, kind, role in FOUNDED
        ),
    )


def served(*, thief: LocalSigner | None = None) -> ServedLedger:
    ledger = ServedLedger()
    ledger.register(HOSPITAL)
    ledger.grant(HOSPITAL, CLINIC)
    ledger.store(HOSPITAL)
    ledger.read(CLINIC, ledger.decide(CLINIC))
    if thief is not None:
        ledger.grant(thief, thief, number=2)
    return ledger


async def sealed(records: list[SampleRecord]) -> SmallLedger:
    """Seal identity's events in one chain, then each record in a block of the other."""
    ledger = SmallLedger()
    ledger.trust = trust()
    await ledger.chains[1].seal(founding())
    chain = ledger.chains[0]
    chain.identity_position = len(FOUNDED)
    for record in records:
        await chain.seal([record])
    await ledger.anchor.append()
    return ledger


def memory_in(folder: Path, ledger: SmallLedger, *, resume: bool) -> FileMemory:
    subject = subject_of(ledger.trust, "here", deep=True)
    return FileMemory(folder / "run.jsonl", subject=subject, resume=resume, now=NOW)


async def interrupted_and_resumed(ledger: SmallLedger, folder: Path) -> Report:
    def stop(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done == progress.total:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        await fsck(
            ledger.stores,
            ledger.trust,
            deep=True,
            on_progress=stop,
            memory=memory_in(folder, ledger, resume=False),
        )
    return await fsck(ledger.stores, ledger.trust, deep=True, memory=memory_in(folder, ledger, resume=True))


async def test_an_honest_ledger_is_found_so() -> None:
    ledger = await sealed(served().records)

    assert (await fsck(ledger.stores, ledger.trust, deep=True)).findings == []


async def test_a_thief_of_consents_key_who_grants_himself_is_found_also_by_a_resumed_run(
    tmp_path: Path,
) -> None:
    """Case threat model, second attack: `fsck --deep` says nothing of it. What is resumed judges it anew."""
    ledger = await sealed(served(thief=CLINIC).records)
    whole = await fsck(ledger.stores, ledger.trust, deep=True)
    resumed = await interrupted_and_resumed(ledger, tmp_path)

    assert [(f.code, f.height, f.event) for f in whole.findings] == [("unentitled", 5, "consent-2")]
    assert resumed.findings == whole.findings
    assert resumed.counts.spared == resumed.counts.blocks


async def test_a_shallow_fsck_judges_no_rights() -> None:
    ledger = await sealed(served(thief=CLINIC).records)

    assert (await fsck(ledger.stores, ledger.trust)).findings == []


async def test_what_rots_in_a_spared_body_of_consent_is_found(tmp_path: Path) -> None:
    ledger = await sealed(served().records)
    [key] = [k for k in ledger.ledger.objects if k.startswith(f"shard/0/{1:012d}/body")]
    whole = await fsck(
        ledger.stores, ledger.trust, deep=True, memory=memory_in(tmp_path, ledger, resume=False)
    )
    ledger.flip("ledger", key, 40)
    resumed = await fsck(
        ledger.stores, ledger.trust, deep=True, memory=memory_in(tmp_path, ledger, resume=True)
    )

    assert whole.ok
    assert {f.key for f in resumed.errors} == {key}
    assert [f.code for f in resumed.findings if f.severity == "info"] == ["rights-unjudged"]


async def test_what_should_not_have_been_accepted_is_that_finding_and_no_other() -> None:
    records = served(thief=CLINIC).records
    records[-1] = replace(records[-1], signature=records[0].signature)
    ledger = await sealed(records)
    found = (await fsck(ledger.stores, ledger.trust, deep=True)).findings

    assert [f.code for f in found] == ["verdict-wrong"]


async def test_without_a_header_nothing_is_concluded() -> None:
    records = served(thief=CLINIC).records
    ledger = await sealed(records[:-2])
    for record in records[-2:]:
        await ledger.chains[0].seal([record])
    del ledger.ledger.objects[header_key(0, len(records) - 2)]
    found = (await fsck(ledger.stores, ledger.trust, deep=True)).findings

    assert "header-missing" in {f.code for f in found}
    assert "rights-unjudged" in {f.code for f in found}


@pytest.mark.parametrize(("shard", "height", "code"), [(0, 1, "rights-unjudged"), (1, 0, "rights-unjudged")])
async def test_without_what_rights_rest_on_nothing_is_concluded(shard: int, height: int, code: str) -> None:
    ledger = await sealed(served(thief=CLINIC).records)
    [key] = [k for k in ledger.ledger.objects if k.startswith(f"shard/{shard}/{height:012d}/body")]
    del ledger.ledger.objects[key]
    found = (await fsck(ledger.stores, ledger.trust, deep=True)).findings

    assert "body-missing" in {f.code for f in found}
    assert code in {f.code for f in found}
    assert "unentitled" not in {f.code for f in found}
    assert PATIENT not in repr(found)
