"""The judge of rights: what is judged again when, and nobody can have everything judged again and again."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from tests.unit.archive.served_ledger import DOCTOR, HOSPITAL, PATIENT, THIEF, whole_ring

from salus.archive import entitlement_store
from salus.archive.entitlement_store import Case
from salus.archive.entitlements import Entitlements
from salus.archive.served_requests import (
    CONSENT_TOPIC,
    STORAGE_TOPIC,
    AnyServed,
    ServedCase,
    ServedDecision,
    ServedEmergency,
    ServedLink,
    ServedRead,
    ServedRegistration,
    ServedRevocation,
    ServedRun,
    ServedVerdict,
)

# More than are judged in one part.
MANY = 40


class Judge(Entitlements):
    """A judge that counts what it judged, and takes events at any partition."""

    def __init__(self) -> None:
        super().__init__(whole_ring())
        self.judged = 0
        self.offset = 0

    def _judge(self, case: Case) -> None:
        self.judged += 1
        super()._judge(case)

    def say(self, served: AnyServed, *, partition: int = 0) -> None:
        is_storage = isinstance(served, ServedRead | ServedRegistration)
        topic = STORAGE_TOPIC if is_storage else CONSENT_TOPIC
        self.take(ServedRun(topic, partition, 0, 9**9, 0, 0, "", b""), served)

    def found(self) -> set[tuple[int, str]]:
        return {(each.served.offset, each.why) for each in self.unentitled()}


def common(at: int, **more: Any) -> dict[str, Any]:
    times = {"time": 1e9 + at / 1000, "appended": 1e9 + at / 1000}
    place = {"offset": at, "row": 0, "event": f"e-{at}", "patient": PATIENT, "by": DOCTOR.did}
    return {**place, **times, "expected": None, "claims": (), **more}


def decision(at: int, **more: Any) -> ServedDecision:
    said = {"decision": "d", "action": "read", "object": "o", "purpose": "TREAT", "allowed": True}
    no_emergency = {"emergency": None, "break_glass": False}
    return ServedDecision(**common(at, **{**said, **no_emergency, "valid_until": 2e9, "epoch": 0, **more}))


def read(at: int, **more: Any) -> ServedRead:
    said = {"object": "o", "decision": "d", "purpose": "TREAT", "break_glass": False}
    return ServedRead(**common(at, **{**said, "asked": 1e9 + at / 1000, **more}))


def emergency(at: int) -> ServedEmergency:
    said = {"decision": "d", "object": "o", "reason": "other", "until": 2e9, "due": 1e9}
    return ServedEmergency(**common(at, **said))


def revocation(at: int, *, epoch: int, time: float) -> ServedRevocation:
    consent = PATIENT.removeprefix("urn:uuid:") + ".x"
    return ServedRevocation(**common(at, consent=consent, epoch=epoch, time=time, expected=epoch))


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """A judge that judges again in parts of a few."""
    monkeypatch.setattr(entitlement_store, "CASES_AT_ONCE_MAX", 7)
    return Judge()


# Case readC6, 2: the holder of consent's key had each of n transfers judged again by each of n events.


def test_further_decisions_of_an_id_have_nothing_judged_again(judge: Judge) -> None:
    judge.say(decision(0, allowed=False))
    for at in range(1, MANY):
        judge.say(read(at))
    for at in range(MANY, 2 * MANY):
        judge.say(decision(at))

    assert judge.judged == 2 * MANY
    assert judge.found() == {
        *((at, "done under a decision that is a denial") for at in range(1, MANY)),
        *((at, "a decision under the id of another") for at in range(MANY, 2 * MANY)),
    }


def test_revocations_that_are_dated_back_have_only_their_epoch_judged_again(judge: Judge) -> None:
    judge.say(decision(0, epoch=2))
    for at in range(1, MANY):
        judge.say(read(at))
    for epoch in range(1, MANY):
        judge.say(revocation(MANY + epoch, epoch=epoch, time=1.0))
    for epoch in range(1, MANY):
        judge.say(revocation(2 * MANY + epoch, epoch=epoch, time=1.0))

    # Each once, and the reads once more, when the third epoch ended.
    assert judge.judged == 1 + 4 * (MANY - 1)
    void = {
        (at, "done under a decision that was void, for a right had been taken back") for at in range(1, MANY)
    }
    assert void <= judge.found()


@pytest.mark.parametrize(("approved", "found"), [(0, 0), (90, 1)])
def test_what_a_person_approved_is_so_whatever_came_first_and_whatever_comes_later(
    judge: Judge, approved: int, found: int
) -> None:
    """Two partitions: the decision comes first, and is right if she had approved by then."""
    verdict = ServedVerdict(**common(2, case="k", until=1e9 + 3600, time=1e9 + approved))
    judge.say(decision(0, case="k"))
    judge.say(ServedCase(**common(1, case="k", due=1e9, steward=HOSPITAL.did, opened=1e9)), partition=1)
    judge.say(verdict, partition=1)
    at_once = [at for at, _ in judge.found() if at == 0]
    judge.know(whole_ring())

    assert [at for at, _ in judge.found() if at == 0] == at_once == [0] * found


def test_what_comes_twice_has_nothing_judged_again(judge: Judge) -> None:
    for at in range(MANY):
        judge.say(read(at, by=THIEF.did, decision=f"d-{at}"))
    for at in range(MANY, 2 * MANY):
        judge.say(emergency(at))
    registration = ServedRegistration(**common(3 * MANY, by=HOSPITAL.did, steward=HOSPITAL.did, key="1"))
    for _ in range(MANY):
        judge.say(registration)

    assert judge.judged == 4 * MANY


def test_what_is_kept_of_an_act_does_not_grow_with_the_patient_s_links(judge: Judge) -> None:
    judge.say(ServedLink(**common(0, did=DOCTOR.did, expected=0)))
    few = judge._facts.then(read(1))
    for at in range(1, MANY):
        judge.say(ServedLink(**common(at, did=f"did:web:{at}.example", expected=at)))

    assert judge._facts.then(read(MANY)) == few


@pytest.mark.parametrize("first", [0, 1])
def test_of_one_id_the_decision_counts_that_was_appended_first_in_whatever_order_they_come(
    judge: Judge, first: int
) -> None:
    """Two partitions: the right one of the two was appended first, or the other one."""
    right, other = decision(first), decision(1 - first, object="another", event="f")
    served_at: list[tuple[AnyServed, int]] = [(right, 0), (other, 1), (read(2), 0)]
    for order in permutations(served_at):
        judge = Judge()
        for served, partition in order:
            judge.say(served, partition=partition)

        later = {(1, "a decision under the id of another")}
        wrong = (2, "done under a decision that is about another action, object or patient")
        assert judge.found() == (later if first == 0 else {*later, wrong})
        assert judge.lacking == len(judge.found())


def test_equal_questions_under_one_key_at_once_have_one_decision(judge: Judge) -> None:
    """Case redA8 5: each of them is stated, and claims the decision's name; but for the first none counts."""
    judge.say(decision(0, claims=(b"name",)))
    judge.say(decision(1, claims=(b"another request", b"name"), event="e-1"))
    judge.say(decision(2, claims=(b"a third",), event="e-2"))
    judge.say(read(3))

    assert judge.found() == {(2, "a decision under the id of another")}


def test_a_decision_that_is_accepted_twice_is_one(judge: Judge) -> None:
    judge.say(decision(0))
    judge.say(decision(5, event="e-0"))
    judge.say(read(6))

    assert judge.found() == set()
