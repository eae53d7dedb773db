"""Findings of what one entry alone is enough for, and the same again for the same entry."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.asking import UNASKED
from tests.unit.audit import samples
from tests.unit.audit.chain import Accepted, Chain
from tests.unit.audit.people import founding, joining, nobody
from tests.unit.audit.test_indexing import (
    CLINICIAN,
    DOCUMENT,
    PATIENT,
    READ,
    all_of,
    index_all,
)
from tests.unit.audit.test_mappings import OCSF
from tests.unit.audit.test_order import differences

from salus.audit.adapters.sql import SqlTrail
from salus.audit.detectors import Detectors
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.describe import describe, describe_rejected
from salus.audit.domain.detection import (
    RULES,
    TEXT_CHARS_MAX,
    actor_of,
    block_finding,
    glass_finding,
    is_glass_broken,
    is_repeated,
    is_stated_late,
    is_unentitled,
    key_of,
    late_finding,
    repeated_finding,
    unentitled_finding,
)
from salus.audit.domain.directory import Directory
from salus.audit.domain.entry import UNDATED, TrailEntry
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.probing import ProbingRule
from salus.events.contexts.consent import GlassBreakReviewed, GlassBroken
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.events.contexts.identity import RoleGranted
from salus.events.contexts.storage import ReadRefused
from salus.events.effect import Applied
from salus.events.requests import Request

GLASS = GlassBroken(
    decision="dec-9",
    principal=CLINICIAN,
    object="obj-1",
    patient=PATIENT,
    reason="life-threatening",
    valid_until=samples.NOON,
    request=UNASKED,
)
BLAMED = GlassBreakReviewed(
    decision="dec-9",
    patient=PATIENT,
    reviewer=CLINICIAN,
    outcome="unjustified",
    ground="no-emergency",
    request=UNASKED,
)
OVERDUE = ReviewOverdue(
    decision="dec-9",
    patient=PATIENT,
    principal=CLINICIAN,
    due=samples.NOON,
    request=Request.of_service(samples.CONSENT),
)
REFUSED = ReadRefused(
    object="obj-1", patient=PATIENT, reader=CLINICIAN, reason="no-decision", request=UNASKED
)


def entry_of(data: Any, index: int = 0, *, appended_at: datetime = samples.NOON) -> TrailEntry:
    event = samples.event_of(data, source=samples.STORAGE)
    place = samples.place(index, appended_at=appended_at)
    return describe(event, Applied(1), place, None, Directory(nobody()))


def ocsf(data: Any, index: int = 0) -> dict[str, Any]:
    return ocsf_of(entry_of(data, index), samples.AROUND)


def without_effect(entry: TrailEntry, reason: str) -> TrailEntry:
    facts = msgspec.structs.replace(entry.facts, outcome="without-effect", no_effect=reason)
    return msgspec.structs.replace(entry, facts=facts)


def test_emergency_access_is_a_finding_at_once() -> None:
    event = ocsf(GLASS)
    finding = glass_finding(event)

    assert is_glass_broken(entry_of(GLASS))
    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["unmapped"]["decision"]) == ("High", "dec-9")
    assert finding["finding_info"]["related_events"] == [{"uid": event["metadata"]["uid"]}]
    assert key_of(finding) == CLINICIAN
    assert glass_finding(event) == finding


@pytest.mark.parametrize(
    ("data", "rule", "key"), [(BLAMED, "unjustified-access", CLINICIAN), (OVERDUE, "review-overdue", None)]
)
def test_what_a_review_found_and_one_that_nobody_made_are_findings(
    data: Any, rule: str, key: str | None
) -> None:
    entry, event = entry_of(data), ocsf(data)
    justified = msgspec.structs.replace(BLAMED, outcome="justified", ground="duty-of-care")
    [found] = [each for each in RULES if each.applies(entry)]
    finding = found.finding(event)

    OCSF[2004].validate(finding)
    assert (found.name, finding["severity"], finding["unmapped"]["decision"]) == (rule, "High", "dec-9")
    assert finding == found.finding(event)
    assert key is None or key_of(finding) == key
    assert not any(each.applies(entry_of(justified)) for each in RULES)
    assert not any(each.applies(without_effect(entry, "stale")) for each in RULES)


@pytest.mark.parametrize(("late_ms", "is_late"), [(600_000, False), (600_001, True), (-600_001, False)])
def test_a_request_stated_under_a_time_long_past_is_a_finding(late_ms: int, is_late: bool) -> None:  # noqa: FBT001  # a table
    """The red team: a service chooses the time by which its request is judged."""
    entry = entry_of(READ, appended_at=samples.NOON + timedelta(milliseconds=late_ms))
    event = ocsf_of(entry, samples.AROUND)

    assert is_stated_late(entry) is is_late
    finding = late_finding(event)
    OCSF[2004].validate(finding)
    assert finding["finding_info"]["related_events"] == [{"uid": event["metadata"]["uid"]}]
    assert late_finding(event) == finding


@pytest.mark.parametrize("reason", ["repeated", "name-taken", "stale"])
def test_what_has_no_effect_is_no_use_of_emergency_access_and_not_late(reason: str) -> None:
    # case B1 of red team B: a replay of old records had audit sign findings of high severity
    late_at = samples.NOON + timedelta(milliseconds=600_001)
    glass = without_effect(entry_of(GLASS), reason)
    late = without_effect(entry_of(READ, appended_at=late_at), reason)

    assert not is_glass_broken(glass)
    assert not is_stated_late(late)
    assert is_repeated(late) is (reason == "repeated")
    finding = repeated_finding(ocsf_of(late, samples.AROUND))
    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["metadata"]["event_code"]) == ("Low", "repeated")


async def test_records_that_their_sender_dated_are_one_finding_a_block_under_the_blocks_time(
    trail: SqlTrail,
) -> None:
    # Red team B6, 1: the settings were others for a tenth of a second, and nobody was told.
    detectors = Detectors(trail, ProbingRule(5, 600), samples.AROUND)
    entries = [
        describe_rejected(samples.place(row, appended_at=UNDATED), "create-time", None, Directory(nobody()))
        for row in range(3)
    ]

    [finding] = await detectors.findings(entries)

    OCSF[2004].validate(finding)
    assert (finding["metadata"]["event_code"], finding["severity"]) == ("create-time", "High")
    assert {entry.time for entry in entries} == {samples.place().sealed_at}


def test_the_words_of_an_event_are_cut_off_in_a_finding() -> None:
    event = ocsf(GLASS) | {"message": "x" * 50_000}
    finding = glass_finding(event)

    assert len(finding["finding_info"]["desc"]) == TEXT_CHARS_MAX
    assert len(finding["message"]) < TEXT_CHARS_MAX + 100
    OCSF[2004].validate(finding)


async def test_what_the_asker_had_no_right_to_changes_nothing_and_is_a_finding(trail: SqlTrail) -> None:
    """Threat model: the thief of identity's key makes himself an operator, and others something else."""
    thief = "did:web:north-hospital.example:thief"
    tries = [
        joining(thief, by=thief),
        joining(thief, by=CLINICIAN),
        founding(thief, "person", ("operator",)),
        RoleGranted(did=CLINICIAN, role="operator", request=Request.of_service(samples.IDENTITY)),
    ]
    chain = Chain()
    chain.seal([Accepted(joining(CLINICIAN), source=samples.IDENTITY, name="clinician")])
    chain.seal(
        [
            Accepted(each, source=samples.IDENTITY, name=f"try-{n}", version=n // 3)
            for n, each in enumerate(tries)
        ]
    )
    chain.seal([Accepted(msgspec.structs.replace(READ, reader=thief), source=samples.STORAGE, name="read")])
    await index_all(chain, trail)
    entries = [found.entry for found in await all_of(trail)]

    assert [e.facts.no_effect for e in entries] == [None, *["not-entitled"] * 4, None]
    assert [e.facts.rules for e in entries[1:5]] == [("not-permitted",)] * 4
    assert entries[-1].member is None
    assert await differences([chain], trail) == []
    for entry in entries[1:5]:
        event = ocsf_of(entry, samples.AROUND)
        finding = unentitled_finding(event)

        assert (event["severity"], event["status_code"]) == ("High", "without-effect")
        assert is_unentitled(entry)
        OCSF[2004].validate(finding)
        assert (finding["severity"], finding["metadata"]["event_code"]) == ("High", "not-entitled")
        assert "It lacks: not-permitted." in finding["message"]
        assert unentitled_finding(event) == finding


async def test_who_was_only_overtaken_is_no_finding(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([Accepted(joining(CLINICIAN), source=samples.IDENTITY, name="clinician")] * 2)
    chain.seal([Accepted(joining(CLINICIAN), source=samples.IDENTITY, name="late", version=0)])
    await index_all(chain, trail)
    entries = [found.entry for found in await all_of(trail)]

    assert [entry.facts.no_effect for entry in entries] == [None, "name-taken", "stale"]
    assert not any(map(is_unentitled, entries))


def test_what_nobody_asked_for_is_dated_by_its_source() -> None:
    assert not is_stated_late(entry_of(DOCUMENT, appended_at=samples.NOON + timedelta(hours=2)))


def test_a_block_that_does_not_verify_is_a_critical_finding() -> None:
    refusal = BlockRefusedError(shard=2, height=7, code="block-root", detail="names nobody")

    finding = block_finding(refusal, samples.AROUND, at=samples.NOON)

    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["finding_info"]["types"]) == ("Critical", ["ledger-block-refused"])
    assert block_finding(refusal, samples.AROUND, at=samples.NOON) == finding


def test_an_unproven_sender_is_nobody() -> None:
    assert actor_of({"actor": {"user": {"uid": "unproven"}}}) is None
    assert actor_of({}) is None
