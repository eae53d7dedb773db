"""The contract of storage: pure rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.contracts.decision import Attempt
from salus.crypto.sealing import SUITE
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked, PatientUnlinked
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.contexts.storage import ObjectStored, SubjectErased, SubjectKeyDestroyed, SubjectRegistered
from salus.events.event_types import EventData
from salus.events.fields import Sealed
from salus.events.parties import Party
from salus.runtime.refusal import Refusal
from salus.storage.domain import (
    EpochState,
    ObjectState,
    SubjectState,
    decide_erasure,
    decide_registration,
    destruction_of,
    evolve_epoch,
    evolve_object,
    evolve_subject,
    location_of,
    object_of,
    owed_destruction,
    patient_of_revocation,
    require_may_read,
    require_may_store,
)

from .conftest import DOCTOR, HOSPITAL, LABORATORY, NOW, OFFICER, PATIENT, decision

SALT = Sealed(suite=SUITE, key=f"{PATIENT}#1", ciphertext="AAAA")
REGISTERED = SubjectRegistered(
    patient=PATIENT,
    steward=HOSPITAL.did,
    suite="s",
    key=f"{PATIENT}#1",
    public_key="AAAA",
    request=UNASKED,
)
STORED = ObjectStored(
    object="o-1",
    patient=PATIENT,
    steward=HOSPITAL.did,
    media_type="text/plain",
    plaintext_bytes=1,
    ciphertext_bytes=2,
    ciphertext_sha256="0" * 64,
    commitment="1" * 64,
    salt=SALT,
    request=UNASKED,
)
ERASED = SubjectErased(
    patient=PATIENT,
    key=f"{PATIENT}#1",
    requested_by=HOSPITAL.did,
    basis="gdpr-art-17",
    objects=0,
    request=UNASKED,
)


def subject(*events: EventData) -> SubjectState:
    state = SubjectState()
    for event in events:
        state = evolve_subject(state, event)
    return state


DEVICE = Party(did="did:web:device", kind="device", roles=frozenset(), member=HOSPITAL.did)
OTHER_PEOPLE = [
    OFFICER,
    *(replace(DOCTOR, roles=frozenset({role})) for role in ("patient", "researcher", "soc-analyst")),
    replace(DOCTOR, roles=frozenset()),
    replace(DOCTOR, kind="service"),
]


def attempt(caller: Party = DOCTOR, *, seconds: float = 0, epoch: int = 0) -> Attempt:
    return Attempt(caller=caller, at=NOW + timedelta(seconds=seconds), epoch=epoch)


def refused(code: str) -> pytest.RaisesExc[Refusal]:
    return pytest.raises(Refusal, check=lambda refusal: refusal.code == code)


def test_a_patient_is_registered_counted_and_erased() -> None:
    state = subject(REGISTERED, STORED, STORED, ERASED)

    assert (state.patient, state.steward, state.objects, state.erased) == (
        PATIENT,
        HOSPITAL.did,
        2,
        "gdpr-art-17",
    )


def test_a_second_registration_changes_nothing() -> None:
    other = SubjectRegistered(
        patient=PATIENT, steward="did:web:x", suite="s", key="k2", public_key="BBBB", request=UNASKED
    )

    assert subject(REGISTERED, other) == subject(REGISTERED)


def test_an_erasure_owes_the_destruction_of_her_key_until_that_is_recorded() -> None:
    gone = SubjectKeyDestroyed(patient=PATIENT, key=REGISTERED.key, request=UNASKED)
    other = SubjectKeyDestroyed(patient=PATIENT, key="k2", request=UNASKED)
    erased = subject(REGISTERED, ERASED)

    assert owed_destruction(subject(REGISTERED)) == ()
    assert owed_destruction(erased) == (REGISTERED.key,)
    assert destruction_of(erased, REGISTERED.key, request=UNASKED) == gone
    assert owed_destruction(subject(REGISTERED, ERASED, gone)) == ()
    assert owed_destruction(subject(REGISTERED, ERASED, other)) == (REGISTERED.key,)


def test_a_key_that_nobody_had_to_destroy_stays_whatever_is_said_of_it() -> None:
    """Whoever holds storage's own key could say so."""
    gone = SubjectKeyDestroyed(patient=PATIENT, key=REGISTERED.key, request=UNASKED)

    assert subject(REGISTERED, gone) == subject(REGISTERED)
    assert owed_destruction(subject(REGISTERED, gone, ERASED)) == (REGISTERED.key,)


def test_the_erasure_of_another_key_changes_nothing() -> None:
    other = SubjectErased(
        patient=PATIENT,
        key="k2",
        requested_by=HOSPITAL.did,
        basis="court-order",
        objects=0,
        request=UNASKED,
    )

    assert subject(REGISTERED, other) == subject(REGISTERED)


def test_an_erased_patient_stays_erased() -> None:
    assert subject(REGISTERED, ERASED, REGISTERED, STORED) == subject(REGISTERED, ERASED)


def test_the_first_object_of_an_id_counts() -> None:
    # Case security.md, medium, folds do not deduplicate: an erasure stated 42 objects instead of 1.
    first = evolve_object(ObjectState(), STORED)

    assert first.commitment == STORED.commitment
    assert evolve_object(first, replaced_commitment()) == first


def replaced_commitment() -> ObjectStored:
    return ObjectStored(
        **{**{f: getattr(STORED, f) for f in STORED.__struct_fields__}, "commitment": "2" * 64}
    )


def test_objects_are_named_by_patient_and_id_and_other_events_name_none() -> None:
    # Case security.md, medium: ids were global, so another member took them.
    assert object_of(PATIENT, STORED) == f"{PATIENT}/o-1"
    assert object_of(PATIENT, REGISTERED) is None
    assert evolve_object(ObjectState(), REGISTERED) == ObjectState()


@given(epochs=st.lists(st.integers(0, 100)))
def test_an_epoch_goes_on_by_one_or_not_at_all(epochs: list[int]) -> None:
    """The second red team: an event with the largest epoch left the next revocation no room."""
    state = EpochState()
    for epoch in epochs:
        before = state.epoch
        state = evolve_epoch(
            state, ConsentRevoked(consent="c", patient=PATIENT, epoch=epoch, request=UNASKED)
        )
        assert state.epoch == before + (epoch == before + 1)


def test_a_prohibition_moves_the_epoch_as_a_revocation_does() -> None:
    forbidden = AccessProhibited(prohibition="p", patient=PATIENT, valid_from=NOW, epoch=4, request=UNASKED)
    lifted = ProhibitionLifted(prohibition="p", patient=PATIENT, request=UNASKED)

    assert evolve_epoch(EpochState(epoch=3), forbidden) == EpochState(epoch=4)
    assert patient_of_revocation("p", forbidden) == PATIENT
    assert patient_of_revocation("p", lifted) is None


def test_unlinking_moves_the_epoch_as_a_revocation_does() -> None:
    unlinked = PatientUnlinked(patient=PATIENT, did="did:web:p.example", epoch=4, request=UNASKED)

    assert evolve_epoch(EpochState(epoch=3), unlinked) == EpochState(epoch=4)
    assert patient_of_revocation("c", unlinked) == PATIENT


def test_a_grant_moves_no_epoch() -> None:
    grant = ConsentGranted(
        consent="c",
        patient=PATIENT,
        grantee=DOCTOR.did,
        actions=("read",),
        purposes=("TREAT",),
        valid_from=NOW,
        valid_until=NOW,
        epoch=7,
        request=UNASKED,
    )

    assert evolve_epoch(EpochState(), grant) == EpochState()
    assert patient_of_revocation("c", grant) is None
    assert (
        patient_of_revocation("c", ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED))
        == PATIENT
    )


def test_two_uploads_of_one_id_lie_in_two_places() -> None:
    other = Sealed(suite=SUITE, key=SALT.key, ciphertext="BBBB")

    assert location_of("o-1", SALT) == location_of("o-1", SALT)
    assert location_of("o-1", SALT) != location_of("o-1", other)


@pytest.mark.parametrize("caller", [HOSPITAL, DOCTOR, DEVICE])
def test_a_steward_and_who_acts_for_it_registers_patients(caller: Party) -> None:
    assert (
        decide_registration(SubjectState(), registration=REGISTERED, caller=caller, steward=HOSPITAL)
        == REGISTERED
    )


@pytest.mark.parametrize(
    ("state", "caller", "steward", "code"),
    [
        (SubjectState(), LABORATORY, HOSPITAL, "not-the-steward"),
        (SubjectState(), DOCTOR, DOCTOR, "unknown-steward"),
        (SubjectState(), HOSPITAL, None, "unknown-steward"),
        (subject(REGISTERED), HOSPITAL, HOSPITAL, "subject-exists"),
        (subject(REGISTERED, ERASED), HOSPITAL, HOSPITAL, "subject-erased"),
    ],
)
def test_a_registration_is_refused_with_its_reason(
    state: SubjectState, caller: Party, steward: Party | None, code: str
) -> None:
    with refused(code):
        decide_registration(state, registration=REGISTERED, caller=caller, steward=steward)


@pytest.mark.parametrize("caller", [HOSPITAL, DOCTOR, DEVICE])
def test_who_acts_for_the_steward_stores_without_a_decision(caller: Party) -> None:
    require_may_store(subject(REGISTERED), object="o-1", decision=None, attempt=attempt(caller))


@pytest.mark.parametrize("caller", OTHER_PEOPLE)
def test_a_stewards_patients_researchers_and_officers_keep_nobodys_record(caller: Party) -> None:
    with refused("not-the-steward"):
        require_may_store(subject(REGISTERED), object="o-1", decision=None, attempt=attempt(caller))
    with refused("not-the-steward"):
        decide_registration(SubjectState(), registration=REGISTERED, caller=caller, steward=HOSPITAL)


def test_another_member_stores_with_a_decision_to_write() -> None:
    allowed = decision(principal=LABORATORY.did, action="write")

    require_may_store(subject(REGISTERED), object="o-1", decision=allowed, attempt=attempt(LABORATORY))


@pytest.mark.parametrize(
    ("state", "allowed", "code"),
    [
        (SubjectState(), None, "unknown-subject"),
        (subject(REGISTERED, ERASED), None, "subject-erased"),
        (subject(REGISTERED), None, "not-the-steward"),
        (subject(REGISTERED), decision(principal=LABORATORY.did), "wrong-action"),
        (
            subject(REGISTERED),
            decision(principal=LABORATORY.did, action="write", object="o-2"),
            "wrong-object",
        ),
    ],
)
def test_another_member_is_refused_with_the_reason(state: SubjectState, allowed: object, code: str) -> None:
    with refused(code):
        require_may_store(state, object="o-1", decision=allowed, attempt=attempt(LABORATORY))  # type: ignore[arg-type]  # a table of cases


def read(state: SubjectState, *, trying: Attempt, **facts: object) -> None:
    stored = evolve_object(ObjectState(), STORED)
    require_may_read(stored, state, decision=decision(**facts), attempt=trying)


def test_the_right_decision_lets_its_holder_read() -> None:
    read(subject(REGISTERED), trying=attempt())
    read(subject(REGISTERED), trying=attempt(epoch=3), epoch=3)
    read(subject(REGISTERED), trying=attempt(seconds=59), break_glass=True)


@pytest.mark.parametrize(
    ("facts", "trying", "code"),
    [
        ({}, attempt(HOSPITAL), "wrong-holder"),
        ({"action": "write"}, attempt(), "wrong-action"),
        ({"object": "o-2"}, attempt(), "wrong-object"),
        ({"patient": PATIENT[:-1] + "2"}, attempt(), "wrong-object"),
        ({}, attempt(seconds=60), "decision-expired"),
        ({"epoch": 2}, attempt(epoch=3), "decision-outdated"),
        ({"epoch": 2, "break_glass": True}, attempt(epoch=3), "decision-outdated"),
        # security.md, medium: who lost the role patient, or any other, reads no more at once.
        ({"roles": frozenset({"clinician", "patient"})}, attempt(), "role-lost"),
        # What she forbids to a role holds also for who gets it with a token in the hand.
        ({"roles": frozenset()}, attempt(), "role-gained"),
    ],
)
def test_any_other_decision_does_not(facts: dict[str, object], trying: Attempt, code: str) -> None:
    with refused(code):
        read(subject(REGISTERED), trying=trying, **facts)


def test_nothing_of_an_erased_patient_is_read() -> None:
    with refused("subject-erased"):
        read(subject(REGISTERED, ERASED), trying=attempt())


@pytest.mark.parametrize("caller", [HOSPITAL, OFFICER])
def test_the_steward_and_its_privacy_officer_erase(caller: Party) -> None:
    event = decide_erasure(subject(REGISTERED, STORED), caller=caller, basis="gdpr-art-17", request=UNASKED)

    assert event == replaced(ERASED, requested_by=caller.did, objects=1)


def replaced(event: SubjectErased, **facts: object) -> SubjectErased:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return SubjectErased(**{**fields, **facts})


@pytest.mark.parametrize(
    "caller", [DOCTOR, LABORATORY, replace(OFFICER, member=LABORATORY.did), replace(OFFICER, member=None)]
)
def test_nobody_else_erases(caller: Party) -> None:
    with refused("may-not-erase"):
        decide_erasure(subject(REGISTERED), caller=caller, basis="gdpr-art-17", request=UNASKED)


def test_what_is_not_there_or_gone_is_not_erased_again() -> None:
    with refused("unknown-subject"):
        decide_erasure(SubjectState(), caller=HOSPITAL, basis="gdpr-art-17", request=UNASKED)
    with refused("subject-erased"):
        decide_erasure(subject(REGISTERED, ERASED), caller=HOSPITAL, basis="gdpr-art-17", request=UNASKED)
