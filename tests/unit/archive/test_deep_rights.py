"""Rights judged again from the ledger: a thief of a service's key serves himself, honest services do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.asking import UNASKED
from tests.pseudonyms import patient_of
from tests.unit.archive.served_ledger import (
    CLINIC,
    DOCTOR,
    HERSELF,
    HOSPITAL,
    OFFICER,
    OTHER_PATIENT,
    PATIENT,
    PRIVY,
    THIEF,
    ServedLedger,
    identifier,
)

from salus.archive import deep_rights
from salus.archive.check_blocks import Checked
from salus.archive.deep_rights import RightsJudge
from salus.archive.entitlements import STATED_WITHIN_S
from salus.events.contexts.identity import MemberReinstated, MemberSuspended, RoleGranted, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.errors import RejectedError

REVIEWER = "a privacy officer of the patient's steward reviews"


@pytest.fixture
def ledger() -> ServedLedger:
    """A patient of the hospital."""
    served = ServedLedger()
    served.register()
    return served


def honest() -> ServedLedger:
    """Return what honest services state: everything once, and what races and replays leave."""
    served = ServedLedger()
    served.register()
    served.store(DOCTOR)
    served.link(OFFICER)
    served.grant(HERSELF, DOCTOR)
    served.grant(HOSPITAL, THIEF, number=2)
    # Overtaken by the one before, and stated again as the next.
    served.grant(OFFICER, CLINIC, number=3, expected=0)
    served.grant(OFFICER, CLINIC, number=3)
    # Two replicas were asked at once under one Idempotency-Key: of the two decisions the first one counts.
    served.decide(DOCTOR, repeatable=True)
    served.read(DOCTOR, served.decide(DOCTOR, repeatable=True))
    served.break_off(THIEF, served.decide(THIEF, number=2))
    served.open(DOCTOR, served.decide(DOCTOR, number=3, object="e-1"))
    served.store(THIEF, name="o-2", under=served.decide(THIEF, number=4, action="write", object="o-2"))
    emergency = served.emergency(THIEF, number=5)
    served.read(THIEF, emergency, purpose="ETREAT", break_glass=True)
    served.review(OFFICER, emergency)
    served.revoke(HERSELF, epoch=1)
    served.forbid(HOSPITAL, DOCTOR, number=70, epoch=2)
    served.forbid(HERSELF, number=71, epoch=3)
    served.lift(HERSELF, number=71)
    served.lift(HOSPITAL, DOCTOR, number=70)
    served.unlink(HERSELF, epoch=4)
    served.link(HOSPITAL)
    served.decide(DOCTOR, number=6, allowed=False)
    served.erase(OFFICER)
    served.destroy_key()
    return served


async def test_what_honest_services_did_everybody_had_a_right_to() -> None:
    assert await honest().findings() == []


@pytest.mark.parametrize("backwards", [False, True])
async def test_blocks_come_in_any_order(*, backwards: bool) -> None:
    served = honest()
    served.grant(THIEF, THIEF, number=9)
    (found,) = await served.findings(blocks=7, backwards=backwards)

    assert (found.code, found.topic, found.height, found.severity) == (
        "unentitled",
        "salus.consent.events",
        6,
        "error",
    )


ACTS: dict[str, Callable[[ServedLedger, LocalSigner], object]] = {
    "grant": lambda ledger, who: ledger.grant(who, who),
    "revoke": lambda ledger, who: ledger.revoke(who),
    "forbid": lambda ledger, who: ledger.forbid(who, who),
    "lift": lambda ledger, who: ledger.lift(who, who),
    "link": lambda ledger, who: ledger.link(who, who),
    "unlink": lambda ledger, who: ledger.unlink(who),
    "erase": lambda ledger, who: ledger.erase(who),
    "store": lambda ledger, who: ledger.store(who),
    "register": lambda ledger, who: ledger.register(who, HOSPITAL, OTHER_PATIENT),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("who", [CLINIC, THIEF, PRIVY], ids=["member", "clinician", "officer"])
async def test_a_thief_of_a_services_key_who_serves_an_account_of_his_own_is_found(
    ledger: ServedLedger, act: str, who: LocalSigner
) -> None:
    """Case threat model, second attack: the thief of consent's key grants himself, and nobody sees it."""
    ACTS[act](ledger, who)
    (found,) = await ledger.findings()
    last = ledger.records[-1]

    assert (found.code, found.topic, found.offset) == ("unentitled", last.topic, last.offset)
    assert who.did not in found.detail
    assert PATIENT not in found.detail


async def test_a_key_said_to_be_destroyed_of_a_patient_who_was_not_erased_is_found(
    ledger: ServedLedger,
) -> None:
    """What a service states of its own accord needs nobody's request; the erasure that it rests on does."""
    ledger.destroy_key()

    assert [why for _, why in await ledger.unentitled()] == [
        "a key said to be destroyed of a patient who was not erased"
    ]


async def test_an_erasure_by_a_key_that_is_not_the_patient_s_is_none(ledger: ServedLedger) -> None:
    """Case redB6 9: storage's key said that another key was erased and gone, and the patient's stayed."""
    ledger.erase(OFFICER, key="beef")
    ledger.destroy_key()

    assert [why for _, why in await ledger.unentitled()] == [
        "a patient erased by a key that is not hers",
        "a key said to be destroyed of a patient who was not erased",
    ]


async def test_after_an_erasure_only_the_patient_s_own_key_can_be_gone(ledger: ServedLedger) -> None:
    ledger.erase(OFFICER)
    ledger.destroy_key(key="beef")

    assert [why for _, why in await ledger.unentitled()] == [
        "a key said to be destroyed that is not the patient's"
    ]


async def test_what_may_not_be_done_about_oneself_is_found(ledger: ServedLedger) -> None:
    ledger.grant(OFFICER, OFFICER)
    ledger.link(HOSPITAL, HOSPITAL)
    emergency = ledger.emergency(OFFICER)
    ledger.review(OFFICER, emergency)

    assert [why for _, why in await ledger.unentitled()] == [
        "grant a consent: it is about who asked",
        "say that a party is the patient: it is about who asked",
        "review an emergency access: it is about who asked",
    ]


async def test_who_may_not_forbid_or_lift_is_found(ledger: ServedLedger) -> None:
    ledger.forbid(HOSPITAL, HOSPITAL)
    ledger.lift(HOSPITAL, HOSPITAL)
    ledger.forbid(HOSPITAL, number=71, epoch=2)
    ledger.lift(HOSPITAL, number=71)
    ledger.lift(OFFICER, number=71)
    ledger.forbid(PRIVY, CLINIC, number=72, epoch=3)
    ledger.lift(THIEF, THIEF, number=73)
    ledger.lift(OFFICER, THIEF, patient=OTHER_PATIENT)

    nobody = "who asked had no right to it (neither the patient nor her steward)"
    assert [why for _, why in await ledger.unentitled()] == [
        "lift a prohibition: it is about who asked",
        "lift a prohibition: it is about who asked",
        f"forbid an access: {nobody}",
        f"lift a prohibition: {nobody}",
        "lift a prohibition: what it names is another patient's",
    ]


async def test_a_thief_reviews_neither_his_own_emergency_nor_one_that_was_not(ledger: ServedLedger) -> None:
    emergency = ledger.emergency(PRIVY)
    ledger.review(PRIVY, emergency)
    ledger.review(OFFICER, identifier(PATIENT, 77))

    assert [why for _, why in await ledger.unentitled()] == [
        f"review an emergency access: who asked had no right to it ({REVIEWER})",
        "review an emergency access: the patient had none of that id",
    ]


def test_who_is_no_officer_reviews_nothing_whatever_key_he_has(ledger: ServedLedger) -> None:
    # case R13-F4: a review by anybody counted, and the steward's officer was refused hers for ever.
    emergency, case = ledger.emergency(DOCTOR), ledger.case(DOCTOR, number=2)
    for other in (DOCTOR, THIEF, HOSPITAL, CLINIC):
        with pytest.raises(RejectedError, match="may not ask for this"):
            ledger.review(other, emergency)
        with pytest.raises(RejectedError, match="may not ask for this"):
            ledger.judge_case(other, case, approved=False)


async def test_an_emergency_access_of_which_nobody_was_told_is_found(ledger: ServedLedger) -> None:
    ledger.emergency(DOCTOR, told=False)

    assert [why for _, why in await ledger.unentitled()] == ["an emergency access that nobody was told of"]


@pytest.mark.parametrize("told", [{"object": "o-2"}, {"reason": "public-health"}, {}], ids=str)
async def test_what_is_told_of_an_emergency_access_is_what_was_decided(
    ledger: ServedLedger, told: dict[str, Any]
) -> None:
    """Case R12-2: patient and officer were told of another object and reason than were decided and read."""
    ends = ledger.now if not told else ledger.now + timedelta(minutes=5)
    decision = ledger.emergency(DOCTOR, valid_until=ends, **told)
    ledger.read(DOCTOR, decision, purpose="ETREAT", break_glass=True)

    assert [why for _, why in await ledger.unentitled()] == [
        "an emergency access of which another object, reason or end was told"
    ]


@pytest.mark.parametrize("says", [{"purpose": "HRESCH"}, {"break_glass": True}], ids=["purpose", "emergency"])
async def test_a_read_is_told_for_what_its_decision_was(ledger: ServedLedger, says: dict[str, Any]) -> None:
    """Case R12-1: a researcher's read was told as treatment, which no report of disclosures counts."""
    decision = ledger.decide(DOCTOR)
    sealed = ledger.decide(DOCTOR, number=2, object="e-1")
    ledger.read(DOCTOR, decision)
    ledger.open(DOCTOR, sealed)
    ledger.read(DOCTOR, decision, **says)
    ledger.open(DOCTOR, sealed, **says)

    otherwise = "done under a decision that was for another purpose, or about an emergency where none is told"
    assert [why for _, why in await ledger.unentitled()] == [otherwise, otherwise]


async def test_a_request_to_take_back_a_consent_of_one_patient_is_not_served_for_another(
    ledger: ServedLedger,
) -> None:
    ledger.revoke(OFFICER, of=OTHER_PATIENT)

    assert [why for _, why in await ledger.unentitled()] == [
        "take a consent back: what it names is another patient's"
    ]


async def test_a_steward_is_a_member(ledger: ServedLedger) -> None:
    ledger.register(THIEF, THIEF, patient_of(THIEF.did))

    assert [why for _, why in await ledger.unentitled()] == [
        "a patient registered with a steward that is no member"
    ]


# --- roles ---------------------------------------------------------------------------------------------


def withdraw(ledger: ServedLedger, who: LocalSigner, role: str, *, ago_s: int) -> None:
    data = RoleWithdrawn(did=who.did, role=role, request=UNASKED)
    ledger.ring.apply(data, at=ledger.now - timedelta(seconds=ago_s))


@pytest.mark.parametrize(("ago_s", "count"), [(-10, 0), (STATED_WITHIN_S - 5, 0), (STATED_WITHIN_S + 5, 3)])
async def test_a_role_counts_until_it_was_taken_and_as_long_as_a_service_may_have_looked_before(
    ledger: ServedLedger, ago_s: int, count: int
) -> None:
    ledger.link(OFFICER)
    ledger.now += timedelta(minutes=5)
    for who, role in ((OFFICER, "privacy-officer"), (HERSELF, "patient"), (DOCTOR, "clinician")):
        withdraw(ledger, who, role, ago_s=ago_s)
    ledger.grant(OFFICER, DOCTOR)
    ledger.grant(HERSELF, DOCTOR, number=2)
    ledger.store(DOCTOR)

    assert len(await ledger.unentitled()) == count


@pytest.mark.parametrize(("ago_s", "count"), [(-10, 0), (STATED_WITHIN_S - 5, 0), (STATED_WITHIN_S + 5, 4)])
async def test_a_suspended_member_and_its_people_have_no_right_but_the_patient_herself(
    ledger: ServedLedger, ago_s: int, count: int
) -> None:
    # Within the minutes by which clocks may differ what a thief of consent's key states is an accepted leaf.
    ledger.link(OFFICER)
    ledger.now += timedelta(minutes=5)
    suspended = MemberSuspended(did=HOSPITAL.did, reason="inquiry", request=UNASKED)
    ledger.ring.apply(suspended, at=ledger.now - timedelta(seconds=ago_s))
    ledger.grant(HERSELF, DOCTOR)
    ledger.grant(OFFICER, CLINIC, number=2)
    ledger.grant(HOSPITAL, CLINIC, number=3)
    ledger.store(DOCTOR)
    ledger.erase(HOSPITAL)

    assert len(await ledger.unentitled()) == count


async def test_a_reinstated_member_has_its_rights_from_then_on(ledger: ServedLedger) -> None:
    ledger.link(OFFICER)
    ledger.now += timedelta(minutes=20)
    suspended = MemberSuspended(did=HOSPITAL.did, reason="inquiry", request=UNASKED)
    reinstated = MemberReinstated(did=HOSPITAL.did, reason="unfounded", request=UNASKED)
    ledger.ring.apply(suspended, at=ledger.now - timedelta(minutes=15))
    ledger.ring.apply(reinstated, at=ledger.now - timedelta(seconds=1))
    ledger.grant(OFFICER, CLINIC)
    ledger.store(HOSPITAL)

    assert await ledger.unentitled() == []


async def test_a_role_that_was_given_counts(ledger: ServedLedger) -> None:
    ledger.grant(DOCTOR, THIEF)
    assert len(await ledger.unentitled()) == 1
    ledger.ring.apply(RoleGranted(did=DOCTOR.did, role="privacy-officer", request=UNASKED))

    assert await ledger.unentitled() == []


async def test_a_party_that_is_the_patient_no_more_grants_nothing(ledger: ServedLedger) -> None:
    ledger.link(HOSPITAL)
    ledger.unlink(HOSPITAL)
    ledger.grant(HERSELF, DOCTOR)

    assert len(await ledger.unentitled()) == 1


# --- decisions -----------------------------------------------------------------------------------------


async def test_a_read_under_a_decision_that_does_not_fit_is_found(ledger: ServedLedger) -> None:
    """Case threat model, second attack: a thief of storage's key reads as he likes."""
    others = ledger.decide(DOCTOR, number=1)
    denial = ledger.decide(THIEF, number=2, allowed=False)
    about_another = ledger.decide(THIEF, number=3, object="o-2")
    of_another = ledger.decide(THIEF, number=4, patient=OTHER_PATIENT)
    to_write = ledger.decide(THIEF, number=5, action="write")
    to_read = ledger.decide(THIEF, number=6)
    for decision in (others, denial, about_another, of_another, to_write):
        ledger.read(THIEF, decision)
    ledger.open(THIEF, others)
    ledger.break_off(THIEF, denial)
    ledger.store(THIEF, under=to_read)
    ledger.read(THIEF, to_read)

    assert [why for _, why in await ledger.unentitled()] == [
        "done under a decision that was given to somebody else",
        "done under a decision that is a denial",
        *["done under a decision that is about another action, object or patient"] * 3,
        "done under a decision that was given to somebody else",
        "done under a decision that is a denial",
        "done under a decision that is about another action, object or patient",
    ]


@pytest.mark.parametrize(("late_s", "count"), [(0, 0), (65, 0), (75, 1)])
async def test_a_decision_is_current_when_its_read_is_asked_for(
    ledger: ServedLedger, late_s: int, count: int
) -> None:
    decision = ledger.decide(DOCTOR)
    # Clocks may differ by ten seconds, and a decision is valid for sixty.
    ledger.now += timedelta(seconds=late_s - 1)
    ledger.read(DOCTOR, decision)

    assert len(await ledger.unentitled()) == count


async def test_a_transfer_goes_on_after_its_decision_ended(ledger: ServedLedger) -> None:
    decision, signed = ledger.decide(DOCTOR), ledger.now
    ledger.now += timedelta(minutes=50)
    data_ends_late = signed + timedelta(seconds=1)
    ledger.store(DOCTOR, name="o-9", under=decision, signed=data_ends_late)

    assert await ledger.unentitled() == []


@pytest.mark.parametrize("how", ["revoked", "forbidden"])
@pytest.mark.parametrize(("late_s", "count"), [(1, 0), (STATED_WITHIN_S + 5, 1)])
async def test_a_right_that_was_taken_back_ends_the_decisions_before(
    ledger: ServedLedger, late_s: int, count: int, how: str
) -> None:
    ledger.grant(HOSPITAL, DOCTOR)
    emergency = ledger.decide(DOCTOR, valid_until=ledger.now + timedelta(minutes=5))
    if how == "revoked":
        ledger.revoke(HOSPITAL)
    else:
        ledger.forbid(HOSPITAL, THIEF)
    after = ledger.decide(DOCTOR, number=2, epoch=1, valid_until=ledger.now + timedelta(minutes=5))
    ledger.now += timedelta(seconds=late_s)
    ledger.read(DOCTOR, emergency)
    ledger.read(DOCTOR, after)

    assert [why for _, why in await ledger.unentitled()] == [
        "done under a decision that was void, for a right had been taken back"
    ] * count


async def test_a_decision_is_not_taken_afterwards(ledger: ServedLedger) -> None:
    decision = identifier(PATIENT, 1)
    ledger.read(DOCTOR, decision)
    ledger.now += timedelta(seconds=STATED_WITHIN_S + 5)
    ledger.decide(DOCTOR)

    assert [why for _, why in await ledger.unentitled()] == [
        "done under a decision that was taken afterwards"
    ]


# --- what is not sealed yet, or cannot be read ------------------------------------------------------------


@pytest.mark.parametrize(("more_s", "code"), [(1, "rights-pending"), (STATED_WITHIN_S + 5, "unentitled")])
async def test_an_invented_decision_is_found_once_its_topic_is_sealed_beyond_the_read(
    ledger: ServedLedger, more_s: int, code: str
) -> None:
    ledger.read(THIEF, identifier(PATIENT, 99))
    ledger.now += timedelta(seconds=more_s)
    ledger.decide(DOCTOR)
    (found,) = await ledger.findings()

    assert (found.code, found.severity) == (code, "error" if code == "unentitled" else "info")
    assert found.detail == "done under a decision that is not on the ledger"


@pytest.mark.parametrize(("more_s", "code"), [(1, "rights-pending"), (STATED_WITHIN_S + 5, "unentitled")])
async def test_a_steward_that_another_shard_has_yet_to_seal_is_waited_for(more_s: int, code: str) -> None:
    ledger = ServedLedger()
    ledger.grant(HOSPITAL, DOCTOR)
    ledger.now += timedelta(seconds=more_s)
    ledger.register(patient=OTHER_PATIENT)

    assert [f.code for f in await ledger.findings()] == [code]


async def test_where_blocks_are_damaged_nothing_is_concluded_from_what_is_left(ledger: ServedLedger) -> None:
    rights = RightsJudge(ledger.ring)
    rights.take(Checked(0, 3, 4, served=None))
    (found,) = rights.findings()

    assert (found.code, found.severity, found.shard) == ("rights-unjudged", "info", 0)
    assert found.key.startswith("shard/0/000000000003")


async def test_where_a_block_between_others_is_missing_nothing_is_concluded(ledger: ServedLedger) -> None:
    """A shard that was listed a moment before another may lack it, and the ledger is honest."""
    ledger.decide(DOCTOR, number=1)
    ledger.read(DOCTOR, ledger.decide(DOCTOR, number=2))
    ledger.now += timedelta(hours=1)
    ledger.decide(DOCTOR, number=3)
    assert await ledger.findings(blocks=5) == []
    (found,) = await ledger.findings(blocks=5, without=2)

    assert (found.code, found.severity) == ("rights-unjudged", "info")


async def test_so_many_findings_are_enough_and_what_is_waited_for_takes_no_place_of_theirs(
    ledger: ServedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deep_rights, "FINDINGS_MAX", 2)
    for number in range(3):
        ledger.read(THIEF, identifier(PATIENT, 90 + number))
    for number in range(3):
        ledger.store(THIEF, name=f"o-{number}")

    assert [f.code for f in await ledger.findings()] == ["unentitled"] * 2 + ["rights-pending"] * 2


# --- what had no effect ----------------------------------------------------------------------------------


async def test_what_had_no_effect_gave_nobody_anything(ledger: ServedLedger) -> None:
    ledger.link(OFFICER)
    ledger.grant(THIEF, THIEF, expected=0)
    ledger.store(DOCTOR)
    ledger.store(THIEF, expected=7)

    assert await ledger.unentitled() == []


async def test_a_request_that_is_stated_twice_has_one_effect(ledger: ServedLedger) -> None:
    """Otherwise versions would go astray, and what comes after would not be looked at."""
    ledger.grant(OFFICER, DOCTOR)
    again = ledger.records[-1]
    ledger.repeat(again, expected=1)
    ledger.grant(THIEF, THIEF, number=3)

    assert len(await ledger.unentitled()) == 1


async def test_a_patient_whose_events_went_to_another_partition_is_followed(ledger: ServedLedger) -> None:
    """Partitions were added: her later events stand on one that is followed before."""
    ledger.partition = 1
    ledger.link(OFFICER)
    ledger.partition = 0
    ledger.grant(HERSELF, DOCTOR)
    ledger.review(OFFICER, ledger.emergency(DOCTOR))
    ledger.partition = 1
    ledger.unlink(HERSELF)
    ledger.partition = 0
    ledger.read(DOCTOR, ledger.decide(DOCTOR, number=2, epoch=1))

    assert await ledger.unentitled() == []


async def test_what_a_thief_hides_on_another_partition_hides_nothing(ledger: ServedLedger) -> None:
    ledger.link(OFFICER)
    ledger.partition = 1
    ledger.adopt_policies_for(PATIENT)
    ledger.partition = 0
    ledger.grant(THIEF, THIEF)
    ledger.revoke(THIEF)

    assert [why for _, why in await ledger.unentitled()] == [
        f"{act}: who asked had no right to it (neither the patient nor her steward)"
        for act in ("grant a consent", "take a consent back")
    ]


async def test_whatever_moves_a_patients_version_is_followed(ledger: ServedLedger) -> None:
    ledger.adopt_policies_for(PATIENT)
    ledger.grant(THIEF, THIEF)

    assert len(await ledger.unentitled()) == 1


@pytest.mark.parametrize(("ago_s", "count"), [(-10, 0), (STATED_WITHIN_S - 5, 0), (STATED_WITHIN_S + 5, 2)])
async def test_a_decision_ends_with_a_role_that_it_rested_on(
    ledger: ServedLedger, ago_s: int, count: int
) -> None:
    until = ledger.now + timedelta(minutes=9)
    to_read = ledger.decide(DOCTOR, valid_until=until)
    to_write = ledger.decide(THIEF, number=2, action="write", object="o-2", valid_until=until)
    other = ledger.decide(PRIVY, number=3, valid_until=until)
    ledger.now += timedelta(minutes=5)
    withdraw(ledger, DOCTOR, "clinician", ago_s=ago_s)
    withdraw(ledger, THIEF, "clinician", ago_s=ago_s)
    ledger.read(DOCTOR, to_read)
    ledger.store(THIEF, under=to_write, name="o-2")
    ledger.read(PRIVY, other)

    assert [why for _, why in await ledger.unentitled()] == [
        "done under a decision that rested on roles that were others by then"
    ] * count


@pytest.mark.parametrize(("ago_s", "count"), [(STATED_WITHIN_S - 5, 0), (STATED_WITHIN_S + 5, 1)])
async def test_a_decision_ends_with_a_role_that_was_given_since(
    ledger: ServedLedger, ago_s: int, count: int
) -> None:
    """The patient may have forbidden it to who holds the role."""
    decision = ledger.decide(DOCTOR, valid_until=ledger.now + timedelta(minutes=9))
    ledger.now += timedelta(minutes=5)
    data = RoleGranted(did=DOCTOR.did, role="researcher", request=UNASKED)
    ledger.ring.apply(data, at=ledger.now - timedelta(seconds=ago_s))
    ledger.read(DOCTOR, decision)

    assert len(await ledger.unentitled()) == count


async def test_a_role_that_was_never_held_is_not_lost(ledger: ServedLedger) -> None:
    decision = ledger.decide(DOCTOR, valid_until=ledger.now + timedelta(minutes=9))
    data = RoleGranted(did=DOCTOR.did, role="researcher", request=UNASKED)
    ledger.ring.apply(data, at=ledger.now + timedelta(minutes=2))
    ledger.now += timedelta(minutes=5)
    withdraw(ledger, DOCTOR, "researcher", ago_s=STATED_WITHIN_S + 5)
    ledger.read(DOCTOR, decision)

    assert await ledger.unentitled() == []
