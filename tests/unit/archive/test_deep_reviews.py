"""What a thief of consent's key says of reviews is found: due too late, told to others, overdue too early."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.archive.served_ledger import CLINIC, DOCTOR, HOSPITAL, OFFICER, ServedLedger

HOURS = timedelta(hours=1)


@pytest.fixture
def ledger() -> ServedLedger:
    made = ServedLedger()
    made.register()
    return made


async def test_a_review_that_is_due_by_the_law_and_overdue_after_that_is_right(ledger: ServedLedger) -> None:
    due = ledger.now + 24 * HOURS
    decision = ledger.emergency(DOCTOR, review_due=due, steward=HOSPITAL.did)
    ledger.now = due
    ledger.overdue(decision, due=due)
    ledger.now += HOURS
    ledger.review(OFFICER, decision)

    assert await ledger.findings() == []


async def test_a_review_that_is_due_later_than_the_law_says_is_found(ledger: ServedLedger) -> None:
    ledger.emergency(DOCTOR, review_due=ledger.now + 74 * HOURS)

    assert [why for _, why in await ledger.unentitled()] == [
        "an emergency access whose review is due later than the law says"
    ]


@pytest.mark.parametrize("backwards", [False, True])
async def test_an_access_that_another_member_is_to_review_is_found(
    ledger: ServedLedger, *, backwards: bool
) -> None:
    ledger.emergency(DOCTOR, steward=CLINIC.did)

    (found,) = await ledger.findings(blocks=3, backwards=backwards)
    assert found.code == "unentitled"
    assert "another than the steward" in found.detail


@pytest.mark.parametrize(
    ("early", "other", "reviewed", "why"),
    [
        (True, False, False, "a review said to be overdue before it was due"),
        (False, True, False, "a review said to be overdue that was due at another time"),
        (False, False, True, "a review said to be overdue that had been made"),
    ],
)
async def test_an_escalation_that_is_not_true_is_found(
    ledger: ServedLedger, *, early: bool, other: bool, reviewed: bool, why: str
) -> None:
    due = ledger.now + 24 * HOURS
    decision = ledger.emergency(DOCTOR, review_due=due)
    if reviewed:
        ledger.review(OFFICER, decision)
    ledger.now = due - HOURS if early else due
    ledger.overdue(decision, due=due - HOURS if other else due)

    assert [found for _, found in await ledger.unentitled()] == [why]


async def test_an_escalation_of_an_access_that_was_none_is_found(ledger: ServedLedger) -> None:
    ledger.overdue("x.1", due=ledger.now)

    assert [why for _, why in await ledger.unentitled()] == [
        "a review said to be overdue of an access that the patient had none of"
    ]
