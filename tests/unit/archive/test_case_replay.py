"""Decisions that waited for a person, and those that rest on her approval, follow again from the ledger."""

from __future__ import annotations

import pytest
from tests.unit.archive.decided_ledger import DecidedLedger, begun, policies
from tests.unit.archive.served_ledger import DOCTOR, OFFICER, PATIENT, identifier
from tests.unit.archive.test_decision_replay import OPEN, fields, outcomes

LEFT = '@id("left") @review("human") @obligations("review-within-24h") permit (principal, action, resource);'
CASE = identifier(PATIENT, 50)


@pytest.fixture
def ledger() -> DecidedLedger:
    """Return a ledger whose policies leave all to a person, with a patient who lets a doctor read."""
    made = begun()
    made.change_policies(policies(OPEN + LEFT))
    made.grant(OFFICER, DOCTOR)
    return made


async def test_what_waits_what_was_approved_and_what_was_taken_back_follow_again(
    ledger: DecidedLedger,
) -> None:
    said = [ledger.ask(DOCTOR)]
    ledger.case(DOCTOR, number=50)
    said.append(ledger.ask(DOCTOR))
    ledger.judge_case(OFFICER, CASE)
    said.append(ledger.ask(DOCTOR))
    ledger.revoke(OFFICER)
    said.append(ledger.ask(DOCTOR))
    found = await ledger.replayed(blocks=3)

    assert [(one.allowed, one.pending, one.case) for one in said] == [
        (False, True, None),
        (False, True, CASE),
        (True, False, CASE),
        (False, False, None),
    ]
    assert outcomes(found) == ["same"] * 4


async def test_an_access_that_nobody_approved_is_a_difference(ledger: DecidedLedger) -> None:
    ledger.case(DOCTOR, number=50)
    ledger.ask(DOCTOR, allowed=True, pending=False, reasons=("left", "open"))
    ledger.judge_case(OFFICER, CASE)
    ledger.ask(DOCTOR, case=identifier(PATIENT, 51))
    ledger.ask(DOCTOR, allowed=False, pending=True)
    found = await ledger.replayed()

    assert outcomes(found) == ["differs"] * 3
    assert {"allowed", "pending"} <= set(fields(found[0]))
    assert fields(found[1]) == ["case"]
    assert set(fields(found[2])) == {"allowed", "pending"}
