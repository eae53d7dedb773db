"""What the thief of a shard's key sealed makes nobody's act, and no later block wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.asking import truly_asked
from tests.unit.archive.small_ledger import EVENT_SIGNER, SmallLedger, note_key
from tests.unit.archive.test_deep import REGISTERED, identity_record, judged_trust, public_key

from salus.archive.building import BEGIN, BEGIN_MS, IDENTITY, SampleRecord, sample_records
from salus.archive.deep import IdentityEvent, IdentityTopic, rightly_accepted
from salus.archive.fsck import fsck
from salus.archive.report import Finding
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered
from salus.events.did import LocalSigner
from salus.events.errors import Reason
from salus.events.identity_position import AHEAD_MAX, BEHIND_MAX
from salus.events.requests import Request
from salus.events.sealed_rows import SealedRow

THIEF = LocalSigner(note_key(99))
MINUTE_MS = 60_000
REVOKES = truly_asked(
    KeyRevoked(
        did=EVENT_SIGNER.did,
        key_id=EVENT_SIGNER.verification_method,
        reason="compromised",
        request=Request.of_service(EVENT_SIGNER.did),
    ),
    EVENT_SIGNER,
    at=BEGIN,
)


def forged(record: SampleRecord) -> SampleRecord:
    """The record as somebody seals it who has a shard's key, with a signature that he saw elsewhere."""
    return replace(record, signature=sample_records(1, signer=EVENT_SIGNER, first=99)[0].signature)


async def ledger_of(*blocks: tuple[int, list[SampleRecord]]) -> SmallLedger:
    """Seal the member's registration, then blocks, each by the identity position that it is given."""
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    chain = ledger.chains[0]
    await chain.seal([REGISTERED])
    for position, records in blocks:
        chain.identity_position = position
        await chain.seal(records)
    await ledger.anchor.append()
    return ledger


async def errors_of(ledger: SmallLedger) -> list[Finding]:
    return (await fsck(ledger.stores, ledger.trust, deep=True)).errors


def told(findings: list[Finding]) -> list[tuple[str, int | None]]:
    return [(finding.code, finding.height) for finding in findings]


async def test_a_forged_revocation_makes_no_honest_block_wrong() -> None:  # case redB6 5
    """Before, what the named key signed later was `verdict-wrong`, and so was the row that took it away."""
    revoked = forged(identity_record(1, REVOKES, after_ms=0))
    ledger = await ledger_of((1, [revoked]), (2, sample_records(2, signer=EVENT_SIGNER, first=0)))

    assert told(await errors_of(ledger)) == [("verdict-wrong", 1)]


async def test_a_forged_party_signs_nothing() -> None:  # case redB6 5
    joins = PartyRegistered(
        did=THIEF.did, kind="member", keys=(public_key(THIEF),), request=Request.of_service(THIEF.did)
    )
    joined = forged(identity_record(1, joins, subject=THIEF.did, after_ms=0))
    ledger = await ledger_of((1, [joined]), (2, sample_records(1, signer=THIEF, first=0)))
    found = await errors_of(ledger)

    assert told(found) == [("verdict-wrong", 1), ("verdict-wrong", 2)]
    assert "judged again it is rejected:unknown-key" in found[1].detail


@pytest.mark.parametrize("reason", [Reason.WRONG_SOURCE, Reason.MALFORMED_JSON, Reason.DUPLICATE])
async def test_a_reason_that_only_a_good_signature_has_is_believed_with_one(reason: Reason) -> None:
    """Case redB6 6: garbage under a copied signature was sealed as `wrong-source`, which names its signer."""
    (good,) = sample_records(1, signer=EVENT_SIGNER)
    refused = replace(good, status=f"rejected:{reason}")
    garbage = replace(refused, offset=1, value=b"garbage")
    found = await errors_of(await ledger_of((1, [refused, garbage])))

    assert [(each.code, each.offset) for each in found] == [("verdict-wrong", 1)]
    assert f"sealed as rejected:{reason}, judged again it is rejected:bad-signature" in found[0].detail


async def test_a_position_that_the_topic_never_had_is_named() -> None:  # case redB6 5
    ledger = await ledger_of((10**12, sample_records(1, signer=EVENT_SIGNER)))

    assert told(await errors_of(ledger)) == [("identity-ahead", 1)]


async def test_a_position_beyond_what_was_appended_later_is_named() -> None:
    late_ms = AHEAD_MAX.seconds * 1000 + MINUTE_MS
    ledger = await ledger_of(
        (2, sample_records(1, signer=EVENT_SIGNER)), (2, [identity_record(1, REVOKES, after_ms=late_ms)])
    )

    assert ("identity-ahead", 1) in told(await errors_of(ledger))


async def test_a_position_of_before_a_revocation_does_not_undo_it() -> None:
    """Case redB6 3: the thief of an idle shard sealed what a revoked key signed by its last, old position."""
    late = replace(sample_records(1, signer=EVENT_SIGNER)[0], timestamp_ms=BEGIN_MS + 2 * MINUTE_MS)
    ledger = await ledger_of((2, [identity_record(1, REVOKES, after_ms=0)]))
    ledger.chains[1].identity_position = 1
    await ledger.chains[1].seal([late])
    await ledger.anchor.append()
    found = await errors_of(ledger)

    assert [(each.code, each.shard) for each in found] == [("identity-behind", 1), ("verdict-wrong", 1)]
    assert "rejected:key-revoked" in found[1].detail


async def test_an_event_that_another_broker_dated_a_moment_back_makes_no_block_wrong() -> None:
    """Case redB6 3: a sequencer judges by what it has read, and brokers' clocks differ."""
    moment = BEHIND_MAX.seconds * 1000
    (record,) = sample_records(1, signer=EVENT_SIGNER)
    ledger = await ledger_of(
        (1, [replace(record, timestamp_ms=BEGIN_MS + moment)]), (2, [identity_record(1, REVOKES, after_ms=0)])
    )

    assert await errors_of(ledger) == []


def test_what_is_no_event_at_all_is_none_of_identity_s() -> None:
    """Before, one such row that a thief sealed as accepted ended each deep fsck with an error."""
    garbage = SealedRow(IDENTITY, 0, 0, BEGIN_MS, "accepted", "s", b"garbage", None, b"v1")
    topic = IdentityTopic([IdentityEvent(garbage)], 1)

    assert rightly_accepted(judged_trust(), topic, CATALOGUE) == IdentityTopic([], 1)
