"""Findings: at once for emergency access, once a burst for probing, the same again for the same events."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.unit.audit import samples
from tests.unit.audit.chain import Accepted, Chain
from tests.unit.audit.people import founding, joining, nobody
from tests.unit.audit.test_indexing import (
    ALLOWED,
    CLINICIAN,
    DOCUMENT,
    PATIENT,
    READ,
    all_of,
    index_all,
)
from tests.unit.audit.test_mappings import OCSF
from tests.unit.audit.test_order import differences

from salus.audit.adapters.detectors import read_event
from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.describe import describe
from salus.audit.domain.detection import (
    ProbingRule,
    Window,
    actor_of,
    block_finding,
    glass_finding,
    is_finding,
    is_glass_broken,
    is_refusal,
    is_repeated,
    is_stated_late,
    is_unentitled,
    kept_of,
    key_of,
    late_finding,
    note_refusal,
    repeated_finding,
    unentitled_finding,
)
from salus.audit.domain.directory import Directory
from salus.audit.domain.ocsf import ocsf_of
from salus.events.contexts.consent import GlassBroken
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
REFUSED = ReadRefused(
    object="obj-1", patient=PATIENT, reader=CLINICIAN, reason="no-decision", request=UNASKED
)
RULE = ProbingRule(refusals=3, window_s=60)


def ocsf(data: Any, index: int = 0, *, at_ms: int | None = None) -> dict[str, Any]:
    event = samples.event_of(data, source=samples.STORAGE)
    found = ocsf_of(describe(event, Applied(1), samples.place(index), Directory(nobody())), samples.AROUND)
    if at_ms is not None:
        found["metadata"]["logged_time"] = at_ms
    return found


def run(times: list[int], *, rule: ProbingRule = RULE) -> list[dict[str, Any]]:
    window, findings = Window(), []
    for index, at_ms in enumerate(times):
        window, found = note_refusal(window, ocsf(REFUSED, index, at_ms=at_ms), rule)
        findings += [found] if found else []
    return findings


def test_emergency_access_is_a_finding_at_once() -> None:
    event = ocsf(GLASS)
    finding = glass_finding(event)

    assert is_glass_broken(event)
    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["unmapped"]["decision"]) == ("High", "dec-9")
    assert finding["finding_info"]["related_events"] == [{"uid": event["metadata"]["uid"]}]
    assert key_of(finding) == CLINICIAN
    assert glass_finding(event) == finding


@pytest.mark.parametrize(("late_ms", "is_late"), [(600_000, False), (600_001, True), (-600_001, False)])
def test_a_request_stated_under_a_time_long_past_is_a_finding(late_ms: int, is_late: bool) -> None:  # noqa: FBT001  # a table
    """The red team: a service chooses the time by which its request is judged."""
    event = ocsf(READ)
    event["metadata"]["logged_time"] = event["time"] + late_ms

    assert is_stated_late(event) is is_late
    finding = late_finding(event)
    OCSF[2004].validate(finding)
    assert finding["finding_info"]["related_events"] == [{"uid": event["metadata"]["uid"]}]
    assert late_finding(event) == finding


@pytest.mark.parametrize("reason", ["repeated", "name-taken", "stale"])
def test_what_has_no_effect_is_no_use_of_emergency_access_and_not_late(reason: str) -> None:
    # case B1 of red team B: a replay of old records had audit sign findings of high severity
    glass, late = ocsf(GLASS), ocsf(READ)
    late["metadata"]["logged_time"] = late["time"] + 600_001
    for event in (glass, late):
        event["unmapped"] |= {"outcome": "without-effect", "no_effect": reason}

    assert not is_glass_broken(glass)
    assert not is_stated_late(late)
    assert is_repeated(late) is (reason == "repeated")
    finding = repeated_finding(late)
    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["metadata"]["event_code"]) == ("Low", "repeated")


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
        assert is_unentitled(event)
        OCSF[2004].validate(finding)
        assert (finding["severity"], finding["metadata"]["event_code"]) == ("High", "not-entitled")
        assert "It lacks: not-permitted." in finding["message"]
        assert unentitled_finding(event) == finding


async def test_who_was_only_overtaken_is_no_finding(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([Accepted(joining(CLINICIAN), source=samples.IDENTITY, name="clinician")] * 2)
    chain.seal([Accepted(joining(CLINICIAN), source=samples.IDENTITY, name="late", version=0)])
    await index_all(chain, trail)
    events = [ocsf_of(found.entry, samples.AROUND) for found in await all_of(trail)]

    assert [event["unmapped"].get("no_effect") for event in events] == [None, "name-taken", "stale"]
    assert not any(map(is_unentitled, events))


def test_what_nobody_asked_for_is_dated_by_its_source() -> None:
    event = ocsf(DOCUMENT)
    event["metadata"]["logged_time"] = event["time"] + 10 * 600_000

    assert not is_stated_late(event)


def test_a_block_that_does_not_verify_is_a_critical_finding() -> None:
    refusal = BlockRefusedError(shard=2, height=7, code="block-root", detail="names nobody")

    finding = block_finding(refusal, samples.AROUND, at=samples.NOON)

    OCSF[2004].validate(finding)
    assert (finding["severity"], finding["finding_info"]["types"]) == ("Critical", ["ledger-block-refused"])
    assert block_finding(refusal, samples.AROUND, at=samples.NOON) == finding


def test_findings_are_not_looked_at_again() -> None:
    assert is_finding(glass_finding(ocsf(GLASS)))
    assert not is_finding(ocsf(GLASS))


def test_refused_reads_and_refused_decisions_are_refusals_and_nothing_else_is() -> None:
    refused = msgspec.structs.replace(ALLOWED, allowed=False)

    assert is_refusal(ocsf(REFUSED))
    assert is_refusal(ocsf(refused))
    assert not any(is_refusal(ocsf(data)) for data in (READ, ALLOWED, GLASS))


def test_an_unproven_sender_is_nobody() -> None:
    assert actor_of({"actor": {"user": {"uid": "unproven"}}}) is None
    assert actor_of({}) is None


def test_enough_refusals_within_the_window_are_probing() -> None:
    findings = run([0, 1_000, 2_000])

    assert len(findings) == 1
    OCSF[2004].validate(findings[0])
    assert findings[0]["finding_info"]["related_events_count"] == 3


def test_refusals_far_apart_are_not_probing() -> None:
    assert run([0, 60_000, 120_000, 180_000]) == []


def test_a_burst_gives_one_finding_and_a_later_burst_another() -> None:
    later = 10_000_000

    findings = run([0, 1, 2, 3, 4, later, later + 1, later + 2])

    assert len(findings) == 2
    assert len({finding["metadata"]["uid"] for finding in findings}) == 2


@pytest.mark.parametrize("ahead_ms", [3_600_000, -3_600_000])
def test_one_refusal_dated_elsewhere_hides_none_after_it(ahead_ms: int) -> None:
    # Case X5, and the security report: a record with a far-future time made its actor immune.
    start = 10_000_000

    assert len(run([start + ahead_ms, *range(start, start + 20_000, 1000)])) == 1
    assert len(run([time for n in range(20) for time in (start + ahead_ms * (n + 2), start + n)])) >= 1


def test_the_stated_time_of_a_refusal_is_not_looked_at() -> None:
    window, findings = Window(), []
    for index, stated_ms in enumerate([0, 10**12, 2 * 10**12]):
        event = ocsf(REFUSED, index, at_ms=1000 + index) | {"time": stated_ms}
        window, found = note_refusal(window, event, RULE)
        findings += [found] if found else []

    assert len(findings) == 1


def test_an_event_seen_twice_counts_once() -> None:
    window, event = Window(), ocsf(REFUSED)
    for _ in range(10):
        window, found = note_refusal(window, event, RULE)

        assert found is None
    assert len(window.refusals) == 1


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=12))
def test_a_finding_comes_only_when_the_window_holds_enough(times: list[int]) -> None:
    ordered = sorted(times)
    dense = any(
        ordered[i + RULE.refusals - 1] - ordered[i] < RULE.window_s * 1000
        for i in range(len(ordered) - RULE.refusals + 1)
    )

    assert bool(run(ordered)) == dense


@pytest.mark.parametrize(
    "value", [b"", b"\xff", b"null", b"[]", b"{}", b'{"metadata":{"uid":"x"}}', b"[" * 5000]
)
def test_what_is_not_an_event_of_audit_is_passed_over(value: bytes) -> None:
    assert read_event(value) is None


def test_an_event_of_audit_is_read() -> None:
    event = ocsf(GLASS)

    assert read_event(json.dumps(event).encode()) == event


def test_what_is_sent_again_silences_no_detector() -> None:
    """Case of the third attack: old signed refusals, pushed in again, took the place of fresh ones."""
    hour, kept = 3_600_000, kept_of(RULE)
    old = [ocsf(REFUSED, index, at_ms=index * hour) for index in range(2 * kept)]
    window, findings = Window(), []
    for event in old:
        window, found = note_refusal(window, event, RULE)
        assert found is None
    for index in range(RULE.refusals):
        fresh = ocsf(REFUSED, 10_000 + index, at_ms=1000 * hour + index * 1000)
        window, found = note_refusal(window, fresh, RULE)
        findings += [found] if found else []
        for event in old:
            window, found = note_refusal(window, event, RULE)
            assert found is None

    assert len(findings) == 1
    assert len(window.refusals) == kept


@given(st.lists(st.integers(0, 200), max_size=60))
def test_the_order_in_which_refusals_come_again_changes_nothing(again: list[int]) -> None:
    events = [ocsf(REFUSED, index, at_ms=index * 100_000) for index in range(201)]
    window = Window()
    for event in events:
        window, _ = note_refusal(window, event, RULE)
    after = window
    for index in again:
        after, found = note_refusal(after, events[index], RULE)
        assert found is None

    assert after == window


def test_a_correction_of_a_refusal_is_not_one_more() -> None:
    event = ocsf(REFUSED, 1, at_ms=1000)
    window, _ = note_refusal(Window(), event, RULE)
    correction = {**event, "metadata": {**event["metadata"], "uid": "another"}}
    correction["unmapped"] = {**event["unmapped"], "corrects": event["metadata"]["uid"]}

    assert note_refusal(window, correction, RULE) == (window, None)
