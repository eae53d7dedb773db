"""A deep fsck repeats the sequencer's judgement by the identity state that each block recorded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.unit.archive.small_ledger import EVENT_SIGNER, LOG_SIGNER, SHARD_SIGNERS, SmallLedger, note_key

from salus.archive.building import (
    BEGIN,
    BEGIN_MS,
    IDENTITY,
    TOPIC,
    SampleRecord,
    sample_records,
    sample_value,
)
from salus.archive.fsck import fsck
from salus.archive.trust import Trust
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.event_types import EventData
from salus.events.parties import Founder
from salus.events.requests import Request
from salus.events.signature import sign_values

ROOT = LocalSigner(note_key(30))


def public_key(signer: LocalSigner) -> PublicKey:
    return PublicKey(
        id=signer.verification_method,
        multibase=multibase_of(signer.public_key),
        valid_from=BEGIN.replace(year=2020),
    )


def identity_record(
    offset: int, data: EventData, *, subject: str | None = None, after_ms: int = -1
) -> SampleRecord:
    """Return an event of identity, about the events' signer, or a party that is new; appended after BEGIN."""
    value = encode_event(
        data,
        id=f"identity-{offset}",
        source=ROOT.did,
        subject=subject or EVENT_SIGNER.did,
        time=BEGIN,
        expected_version=0 if subject else offset,
    )
    signature = sign_values([value], ROOT)[0]
    return SampleRecord(IDENTITY, 0, offset, value, signature, timestamp_ms=BEGIN_MS + after_ms)


REGISTERED = identity_record(
    0,
    PartyRegistered(
        did=EVENT_SIGNER.did,
        kind="member",
        keys=(public_key(EVENT_SIGNER),),
        request=Request.of_service(ROOT.did),
    ),
)
REVOKED = identity_record(
    1,
    truly_asked(
        KeyRevoked(
            did=EVENT_SIGNER.did, key_id=EVENT_SIGNER.verification_method, reason="rotated", request=UNASKED
        ),
        EVENT_SIGNER,
        at=BEGIN,
    ),
    # The third sample is of this millisecond, and the fourth of the one after it.
    after_ms=2,
)


def judged_trust() -> Trust:
    return Trust(
        LOG_SIGNER.vkey,
        {n: s.vkey for n, s in SHARD_SIGNERS.items()},
        NETWORK,
        ROOT.did,
        public_key(ROOT),
        founding=(Founder(EVENT_SIGNER.did, "member", (), public_key(EVENT_SIGNER)),),
    )


@pytest.fixture
async def judged() -> SmallLedger:
    """A member is registered, publishes, loses the key, and is refused from then on."""
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    chain = ledger.chains[0]
    await chain.seal([REGISTERED])
    chain.identity_position = 1
    await chain.seal_samples(3)
    await chain.seal([REVOKED])
    chain.identity_position = 2
    late = sample_records(2, signer=EVENT_SIGNER, first=3)
    await chain.seal([replace(r, status="rejected:key-revoked") for r in late])
    await ledger.anchor.append()
    return ledger


async def test_judged_again_every_verdict_is_the_same(judged: Any) -> None:
    report = await fsck(judged.stores, judged.trust, deep=True)

    assert report.findings == []
    assert report.counts.judged == 7


async def test_an_event_accepted_though_its_key_was_revoked_is_found(judged: Any) -> None:
    await judged.chains[0].seal(sample_records(1, signer=EVENT_SIGNER, first=5))

    report = await fsck(judged.stores, judged.trust, deep=True)

    (found,) = report.errors
    assert (found.code, found.row, found.event) == ("verdict-wrong", 0, "event-5")
    assert "judged again it is rejected:key-revoked" in found.detail


async def test_an_event_accepted_with_a_bad_signature_is_found(judged: Any) -> None:
    judged.chains[0].identity_position = 2
    value = sample_value(77, EVENT_SIGNER)
    wrong = sign_values([b"something else"], EVENT_SIGNER)[0]
    with_old_ring = SmallLedger()
    with_old_ring.trust = judged.trust
    chain = with_old_ring.chains[0]
    await chain.seal([REGISTERED])
    chain.identity_position = 1
    await chain.seal([SampleRecord(TOPIC, 0, 0, value, wrong)])
    await with_old_ring.anchor.append()

    report = await fsck(with_old_ring.stores, with_old_ring.trust, deep=True)

    assert [f.code for f in report.errors] == ["verdict-wrong"]
    assert "bad-signature" in report.errors[0].detail


async def test_a_good_event_refused_is_found(judged: Any) -> None:
    ledger = SmallLedger()
    chain = ledger.chains[0]
    await chain.seal([REGISTERED])
    chain.identity_position = 1
    (good,) = sample_records(1, signer=EVENT_SIGNER)
    await chain.seal([replace(good, status="rejected:bad-signature")])
    await ledger.anchor.append()

    report = await fsck(ledger.stores, judged.trust, deep=True)

    assert "judged again it is accepted" in report.errors[0].detail


async def test_without_a_root_of_identity_a_deep_fsck_is_refused(small_ledger: Any) -> None:
    with pytest.raises(ValueError, match="root"):
        await fsck(small_ledger.stores, small_ledger.trust, deep=True)


async def test_a_party_that_nobody_asked_for_and_that_founded_nothing_signs_nothing(
    judged: Any,
) -> None:  # case SEC6
    report = await fsck(judged.stores, replace(judged.trust, founding=()), deep=True)
    notes = [(f.code, f.event, f.detail.partition(":")[0]) for f in report.findings if f.severity == "info"]

    assert notes == [
        ("not-entitled", "identity-0", "not-permitted"),
    ]
    # Of what was refused the archive names no event.
    names = ("identity-1", "event-0", "event-1", "event-2", None)
    assert {(f.code, f.event) for f in report.errors} == {("verdict-wrong", name) for name in names}
