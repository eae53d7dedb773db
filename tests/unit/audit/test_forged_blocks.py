"""What the thief of a shard's key sealed is an entry of its own, and neither stops nor decides anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
from tests.unit.archive.served_ledger import HOSPITAL, ServedLedger
from tests.unit.archive.small_ledger import EVENT_SIGNER, SHARD_SIGNERS, SmallLedger, note_key
from tests.unit.archive.test_deep import identity_record
from tests.unit.archive.test_deep_forgeries import MINUTE_MS, REVOKES, forged, ledger_of
from tests.unit.archive.test_deep_fsck import sealed, served
from tests.unit.audit.samples import AROUND, NOON
from tests.unit.audit.test_indexing import FakeOutputs, all_of
from tests.unit.audit.test_order import nothing_to_correct

from salus.archive.building import BEGIN_MS, TOPIC, SampleRecord, sample_records
from salus.archive.fsck import fsck
from salus.audit.adapters.archive import ArchivedLedger
from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.detectors import Detectors
from salus.audit.domain.entry import Severity, TrailEntry
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.identity_history import IDENTITY_TOPIC
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.probing import ProbingRule
from salus.audit.handlers import Alarm, Bell, Follower, Indexer
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.audit.ports import BehindError
from salus.audit.reconciliation import Reconciler, Step
from salus.events.contexts import CATALOGUE
from salus.events.identity_position import AHEAD_MAX
from salus.events.keyring import KeyRing
from salus.ledger.key_periods import KeyHistory, KeyPeriod, Keys
from salus.ledger.note import NoteSigner

KEYS: dict[int, Keys] = {shard: signer.verifier for shard, signer in SHARD_SIGNERS.items()}


def topic_of(ledger: SmallLedger, *, founder: int = 0) -> IdentityTopic:
    trust = ledger.trust
    assert trust.root_did is not None
    assert trust.root_key is not None
    new_ring = partial(
        KeyRing.rooted,
        CATALOGUE,
        network=trust.origin,
        did=trust.root_did,
        key=trust.root_key,
        founders=trust.founding,
    )
    return IdentityTopic((IDENTITY_TOPIC, 0), SHARD_SIGNERS[founder].name, new_ring)


def indexer_of(ledger: SmallLedger, trail: SqlTrail, *, founder: int = 0) -> Indexer:
    archived = ArchivedLedger(ledger.ledger)
    identity = IdentityChain(archived, KEYS, topic_of(ledger, founder=founder), trail.identity)
    return Indexer(archived, trail, KEYS, identity)


async def index(
    ledger: SmallLedger,
    trail: SqlTrail,
    *,
    founder: int = 0,
    order: Sequence[int] = (0, 1),
    each: bool = False,
) -> list[TrailEntry]:
    """Index all that there is; `each` block by another process."""
    indexer, left = indexer_of(ledger, trail, founder=founder), True
    while left:
        left = False
        for shard in order:
            with suppress(BehindError):
                left |= await indexer.index_next(shard) is not None
            if each:
                indexer = indexer_of(ledger, trail, founder=founder)
    entries = [found.entry for found in await all_of(trail)]
    return sorted(entries, key=lambda entry: (entry.place.shard, entry.place.height, entry.place.index))


async def index_anew(
    ledger: SmallLedger, *, founder: int = 0, order: Sequence[int] = (0, 1)
) -> list[TrailEntry]:
    async with open_trail("sqlite+aiosqlite://") as trail:
        return await index(ledger, trail, founder=founder, order=order)


async def differing(ledger: SmallLedger, trail: SqlTrail, *, founder: int = 0) -> list[str]:
    found: list[str] = []

    async def take(step: Step) -> None:
        found.extend(map(str, step.differences))

    archived, topic = ArchivedLedger(ledger.ledger), topic_of(ledger, founder=founder)
    await Reconciler(archived, trail.stored, KEYS, topic, nothing_to_correct).run(take)
    return found


def told(entries: Sequence[TrailEntry]) -> list[tuple[str | None, str]]:
    """Return what is damaged of each accepted or forged entry, and whether it was done."""
    return [(entry.facts.damage, entry.facts.outcome) for entry in entries]


WRONG, DONE = ("verdict-wrong", "without-effect"), (None, "success")


def forged_in_the_middle() -> list[list[SampleRecord]]:
    honest = sample_records(3, signer=EVENT_SIGNER)
    return [[honest[0]], [forged(honest[1])], [honest[2]]]


async def test_one_forged_block_does_not_stop_the_trail(trail: SqlTrail) -> None:
    """Case redB6 5: audit stood still at such a block for ever, and no way led out of it."""
    ledger = await ledger_of(*((1, records) for records in forged_in_the_middle()))
    entries = await index(ledger, trail)

    assert told(entries) == [DONE, DONE, WRONG, DONE]
    assert await differing(ledger, trail) == []
    assert await index_anew(ledger) == entries
    async with open_trail("sqlite+aiosqlite://") as other:
        assert await index(ledger, other, each=True) == entries


async def test_a_forged_row_is_nobody_s_act_in_all_outputs(trail: SqlTrail) -> None:
    entry = (await index(await ledger_of((1, forged_in_the_middle()[1])), trail))[1]
    event, resource = ocsf_of(entry, AROUND), audit_event_of(entry, AROUND)

    assert "is sealed as accepted; judged: bad-signature" in entry.facts.summary
    assert (entry.actor, entry.member, entry.source, entry.id) == (None, None, None, None)
    assert (entry.facts.severity, entry.facts.rules) == (Severity.CRITICAL, ("verdict-wrong",))
    assert EVENT_SIGNER.did not in repr((entry, event, resource))
    assert (event["status"], event["status_code"], event["status_detail"]) == (
        "Failure",
        "without-effect",
        "verdict-wrong",
    )
    assert event["unmapped"]["damage"] == "verdict-wrong"
    assert resource["outcome"] == "4"


async def test_a_forged_row_is_a_critical_finding_about_nobody(trail: SqlTrail) -> None:
    entries = await index(await ledger_of((1, forged_in_the_middle()[1])), trail)
    detectors = Detectors(trail, ProbingRule(5, 60), AROUND)
    (finding,) = await detectors.findings(entries)

    assert (finding["metadata"]["event_code"], finding["severity_id"]) == ("verdict-wrong", 5)
    assert finding["evidences"] == [{"actor": {"app_name": "sequencer"}}]


async def test_readyz_and_the_metric_tell_of_it_after_a_restart(trail: SqlTrail) -> None:
    ledger = await ledger_of(*((1, records) for records in forged_in_the_middle()))
    await index(ledger, trail)
    follower = Follower(
        indexer_of(ledger, trail),
        Alarm(FakeOutputs(), AROUND, lambda: NOON),
        announced=Bell(),
        grown=Bell(),
        poll_s=1,
    )
    await follower.round()
    await follower.check()

    assert await follower.damage() == "1 damaged entries, the first in shard 0 block 2: verdict-wrong"


async def test_a_forged_identity_event_decides_nothing(trail: SqlTrail) -> None:
    revoked = forged(identity_record(1, REVOKES, after_ms=0))
    ledger = await ledger_of((1, [revoked]), (2, sample_records(2, signer=EVENT_SIGNER)))
    entries = await index(ledger, trail)

    assert told(entries) == [DONE, WRONG, DONE, DONE]
    assert list(await trail.identity.identity_events(9)) == [0]
    assert await differing(ledger, trail) == []
    async with open_trail("sqlite+aiosqlite://") as other:
        assert await index(ledger, other, each=True) == entries


async def test_what_follows_a_forged_change_is_judged_as_if_it_were_not(trail: SqlTrail) -> None:
    """The honest revocation has the version that the forged one claimed."""
    stated: ServedLedger = served()
    versions = dict(stated._versions)
    stated.revoke(HOSPITAL)
    stated.records[-1] = replace(stated.records[-1], signature=stated.records[0].signature)
    stated._versions = versions
    stated.revoke(HOSPITAL)
    ledger = await sealed(stated.records)
    entries = await index(ledger, trail, founder=1)
    revoked = [entry for entry in entries if entry.place.topic == "salus.consent.events"][-2:]

    assert told(revoked) == [WRONG, DONE]
    assert await differing(ledger, trail, founder=1) == []
    found = (await fsck(ledger.stores, ledger.trust, deep=True)).errors
    assert [finding.code for finding in found] == ["verdict-wrong"]


@pytest.mark.parametrize("reason", ["wrong-source", "malformed-json", "duplicate"])
async def test_a_copied_signature_accuses_nobody(trail: SqlTrail, reason: str) -> None:
    """Case redB6 6: garbage under consent's copied signature header was sealed, and consent was the actor."""
    (good,) = sample_records(1, signer=EVENT_SIGNER)
    truly = replace(good, status=f"rejected:{reason}")
    ledger = await ledger_of((1, [truly, replace(truly, offset=1, value=b"garbage")]))
    entries = await index(ledger, trail)

    assert told(entries) == [DONE, (None, "rejected"), WRONG]
    assert EVENT_SIGNER.did in repr(entries[1])
    assert EVENT_SIGNER.did not in repr(entries[2])
    assert f"sealed as rejected:{reason}; judged: bad-signature" in entries[2].facts.summary
    assert ocsf_of(entries[2], AROUND)["status_code"] == "without-effect"


async def test_a_revoked_key_does_not_count_by_an_old_position_whatever_was_read_before(
    trail: SqlTrail,
) -> None:
    """Case redB6 3: of two honest audits one refused the block for ever, and one showed it as done."""
    late = replace(sample_records(1, signer=EVENT_SIGNER)[0], timestamp_ms=BEGIN_MS + 2 * MINUTE_MS)
    ledger = await ledger_of((2, [identity_record(1, REVOKES, after_ms=0)]))
    ledger.chains[1].identity_position = 1
    await ledger.chains[1].seal([late])
    entries = await index(ledger, trail)

    assert told(entries) == [DONE, DONE, WRONG]
    assert await differing(ledger, trail) == []
    for order in ((1, 0), (0, 1)):
        assert await index_anew(ledger, order=order) == entries


async def test_the_time_of_a_block_that_a_stolen_key_sealed_ends_no_reading(
    trail: SqlTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case redB7 6: its own time said that it was sealed after its record, so no event after it was read."""
    late = replace(sample_records(1, signer=EVENT_SIGNER)[0], timestamp_ms=BEGIN_MS + 2 * MINUTE_MS)
    ledger = await ledger_of()
    chain = ledger.chains[0]
    chain.begin += timedelta(minutes=10)
    chain.identity_position = 1
    await chain.seal([late])
    # The key is stolen, and nobody knows it yet.
    entries = await index(ledger, trail)
    assert told(entries) == [DONE, DONE]

    fresh = NoteSigner(SHARD_SIGNERS[0].name, note_key(99))
    periods = KeyPeriod(SHARD_SIGNERS[0].verifier, 0, 2), KeyPeriod(fresh.verifier, 2)
    monkeypatch.setitem(KEYS, 0, KeyHistory(fresh.name, periods))
    chain.note_signer, chain.identity_position = fresh, 2
    await chain.seal([identity_record(1, REVOKES, after_ms=0)])
    entries = await index(ledger, trail)

    fresh_entries = await index_anew(ledger)
    assert told(fresh_entries) == [DONE, WRONG, DONE]
    # What was shown before the key was known to be stolen is found by the comparison.
    assert [wrong for wrong in await differing(ledger, trail) if "block 1" in wrong]
    async with open_trail("sqlite+aiosqlite://") as other:
        assert await index(ledger, other, each=True) == fresh_entries


async def test_what_a_key_signed_that_counted_stays_done_in_a_block_that_leaves_events_out(
    trail: SqlTrail,
) -> None:
    """Contract services have taken it; the block is damage all the same."""
    honest = sample_records(1, signer=EVENT_SIGNER)[0]
    late = SampleRecord(TOPIC, 0, 1, None, None, "rejected:missing-signature", BEGIN_MS + 2 * MINUTE_MS)
    ledger = await ledger_of((2, [identity_record(1, REVOKES, after_ms=1)]))
    ledger.chains[1].identity_position = 1
    await ledger.chains[1].seal([honest, replace(late, value=b"x")])
    entries = await index(ledger, trail)

    assert told(entries)[-2:] == [("identity-behind", "success"), ("identity-behind", "rejected")]
    assert {entry.facts.severity for entry in entries[-2:]} == {Severity.CRITICAL}


async def test_a_position_that_the_topic_never_had_is_not_waited_for(trail: SqlTrail) -> None:
    """Case redB6 5: one block at position 10^12, and audit waited for ever."""
    honest = sample_records(2, signer=EVENT_SIGNER)
    ledger = await ledger_of((10**12, [honest[0]]), (10**12, [forged(honest[1])]))
    entries = await index(ledger, trail)

    assert told(entries) == [DONE, ("identity-ahead", "success"), WRONG]
    assert await differing(ledger, trail) == []
    assert await index_anew(ledger) == entries


async def test_a_position_a_little_ahead_is_waited_for_until_a_later_event_shows_it(trail: SqlTrail) -> None:
    late_ms = AHEAD_MAX.seconds * 1000 + MINUTE_MS
    ledger = await ledger_of()
    ledger.chains[1].identity_position = 9
    await ledger.chains[1].seal(sample_records(1, signer=EVENT_SIGNER))

    assert told(await index(ledger, trail)) == [DONE]

    ledger.chains[0].identity_position = 2
    await ledger.chains[0].seal([identity_record(1, REVOKES, after_ms=late_ms)])
    entries = await index(ledger, trail)

    assert [damage for damage, _ in told(entries)] == [None, "identity-ahead", "identity-ahead"]
    assert await index_anew(ledger, order=(1, 0)) == entries


async def test_an_event_that_another_broker_dated_a_moment_back_damages_no_block(trail: SqlTrail) -> None:
    """Case redB6 3: an audit that had read further would have called the honest block wrong."""
    record = replace(sample_records(1, signer=EVENT_SIGNER)[0], timestamp_ms=BEGIN_MS + 1)
    ledger = await ledger_of((2, [identity_record(1, REVOKES, after_ms=0)]))
    ledger.chains[1].identity_position = 1
    await ledger.chains[1].seal([record])

    assert told(await index(ledger, trail)) == [DONE, DONE, DONE]
    assert (await fsck(ledger.stores, ledger.trust, deep=True)).errors == []
