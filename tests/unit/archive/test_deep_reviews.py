"""What a thief of consent's key says of reviews is found: due too late, told to others, overdue too early."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.archive.served_ledger import CLINIC, DOCTOR, HOSPITAL, OFFICER, PRIVY, THIEF, ServedLedger

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


async def test_a_review_of_an_older_release_is_due_by_the_end_of_the_access(ledger: ServedLedger) -> None:
    decision = ledger.emergency(DOCTOR)
    due = ledger.now - timedelta(seconds=2) + timedelta(minutes=5) + 72 * HOURS
    ledger.now = due
    ledger.overdue(decision, due=due)
    ledger.emergency(DOCTOR, number=2, valid_until=ledger.now + 9000 * HOURS)

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


async def test_a_case_that_an_officer_approved_allows_what_was_asked(ledger: ServedLedger) -> None:
    case = ledger.case(DOCTOR)
    ledger.judge_case(OFFICER, case)
    ledger.decide(DOCTOR, number=2, case=case)

    assert await ledger.findings() == []


async def test_an_access_that_no_officer_approved_is_found(ledger: ServedLedger) -> None:
    waiting, refused = ledger.case(DOCTOR), ledger.case(DOCTOR, number=2)
    ledger.judge_case(OFFICER, refused, approved=False)
    ledger.decide(DOCTOR, number=3, case=waiting)
    ledger.decide(DOCTOR, number=4, case=refused)
    ledger.decide(THIEF, number=5, case=waiting)

    assert [why for _, why in await ledger.unentitled()] == [
        "an access allowed by a person who had not, or whose word had ended",
        "an access allowed by a person who had not, or whose word had ended",
        "an access allowed as a case that was not its asker's",
    ]


@pytest.mark.parametrize("backwards", [False, True])
async def test_an_access_that_was_allowed_before_an_officer_approved_is_found(
    ledger: ServedLedger, *, backwards: bool
) -> None:
    case = ledger.case(DOCTOR)
    ledger.decide(DOCTOR, number=2, case=case)
    ledger.now += HOURS
    ledger.judge_case(OFFICER, case)

    (found,) = await ledger.findings(blocks=3, backwards=backwards)
    assert (found.code, "by a person who had not" in found.detail) == ("unentitled", True)


async def test_an_approval_that_has_ended_allows_nothing(ledger: ServedLedger) -> None:
    case = ledger.case(DOCTOR)
    ledger.judge_case(OFFICER, case, hours=1)
    ledger.now += 2 * HOURS
    ledger.decide(DOCTOR, number=2, case=case)

    assert [why for _, why in await ledger.unentitled()] == [
        "an access allowed by a person who had not, or whose word had ended"
    ]


async def test_an_approval_that_ends_later_than_the_law_says_is_found(ledger: ServedLedger) -> None:
    # Case "approved for ever": the officer truly asked, and consent's key said until when.
    ledger.judge_case(OFFICER, ledger.case(DOCTOR), hours=25)

    assert [why for _, why in await ledger.unentitled()] == ["an approval that ends later than the law says"]


async def test_a_case_that_somebody_else_decided_is_found(ledger: ServedLedger) -> None:
    ledger.judge_case(PRIVY, ledger.case(DOCTOR))
    ledger.judge_case(OFFICER, "x.1")

    assert [why.partition(":")[0] for _, why in await ledger.unentitled()] == [
        "decide a case that waits for a person"
    ] * 2


async def test_a_case_is_no_alarm_of_an_emergency(ledger: ServedLedger) -> None:
    ledger.case(DOCTOR)
    ledger.emergency(DOCTOR, told=False)

    assert [why for _, why in await ledger.unentitled()] == ["an emergency access that nobody was told of"]
