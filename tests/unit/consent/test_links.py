"""Who says which party a patient is, who unsays it, and what a link is worth without the role patient."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.consent.test_consents import (
    A_CLINICIAN,
    CLINICIAN,
    HERSELF,
    HOSPITAL,
    KNOWN,
    OFFICER,
    OUTSIDER,
    PATIENT,
    PATIENT_HERSELF,
    STEWARD,
    a_grant,
    after,
    refusal_of,
)

from salus.access.actors import Asking
from salus.access.state import PatientState, SubjectState
from salus.consent.domain.consents import Link, Review, Revoke, Unlink
from salus.consent.domain.rights import sees_all, visible_consents

LINK, UNLINK = Link(PATIENT, HERSELF, is_patient=True), Unlink(PATIENT, HERSELF)
LINKED = PatientState(dids=(HERSELF,))
# A privacy officer who is a patient as well.
BOTH = replace(OFFICER, roles=frozenset({"privacy-officer", "patient"}))
NO_PATIENT_ANY_MORE = replace(PATIENT_HERSELF, roles=frozenset())


def test_only_the_steward_says_who_the_patient_is() -> None:
    link = Link(PATIENT, HERSELF, is_patient=True)
    state = after(link)

    assert state.dids == (HERSELF,)
    assert refusal_of(link, actor=PATIENT_HERSELF) == "not-permitted"
    assert refusal_of(link, actor=PATIENT_HERSELF, state=state) == "not-permitted"
    assert refusal_of(link, actor=OUTSIDER) == "not-permitted"
    assert refusal_of(link, subject=SubjectState()) == "unknown-patient"
    assert refusal_of(link, state=state) == "already-linked"
    assert refusal_of(Link(PATIENT, CLINICIAN, is_patient=False)) == "not-a-patient"
    full = PatientState(dids=tuple(f"did:web:{n}.example" for n in range(8)))
    assert refusal_of(link, state=full) == "too-many"


@pytest.mark.parametrize("actor", [STEWARD, OFFICER, PATIENT_HERSELF, NO_PATIENT_ANY_MORE])
def test_the_steward_or_the_party_itself_unlinks_and_older_tokens_are_void(actor: Asking) -> None:
    """Case security.md, medium: 'No unlink'."""
    state = after(UNLINK, actor=actor, state=LINKED)

    assert (state.dids, state.epoch) == ((), 1)
    assert refusal_of(a_grant(), actor=PATIENT_HERSELF, state=state) == "not-permitted"
    assert refusal_of(UNLINK, actor=STEWARD, state=state) == "not-linked"


@pytest.mark.parametrize("actor", [OUTSIDER, A_CLINICIAN])
def test_nobody_else_unlinks(actor: Asking) -> None:
    assert refusal_of(UNLINK, actor=actor, state=LINKED) == "not-permitted"


def test_one_party_of_a_patient_does_not_unlink_another() -> None:
    state = PatientState(dids=(HERSELF, "did:web:q.example"))

    assert refusal_of(Unlink(PATIENT, "did:web:q.example"), actor=PATIENT_HERSELF, state=state) == (
        "not-permitted"
    )


def test_too_many_links_have_a_way_out() -> None:
    full = PatientState(dids=tuple(f"did:web:{n}.example" for n in range(8)))
    state = after(Unlink(PATIENT, "did:web:3.example"), LINK, state=full)

    assert HERSELF in state.dids


def test_a_link_gives_nothing_to_who_does_not_hold_the_role_patient() -> None:
    """Case security.md, medium: 'withdrawing the role patient stops neither reading nor granting'."""
    for state in (LINKED, after(a_grant(), state=LINKED)):
        assert refusal_of(a_grant(consent="c9"), actor=NO_PATIENT_ANY_MORE, state=state) == "not-permitted"
        assert refusal_of(Revoke("c1", PATIENT), actor=NO_PATIENT_ANY_MORE, state=state) == "not-permitted"
        assert not sees_all(NO_PATIENT_ANY_MORE, state, KNOWN)
        assert visible_consents(NO_PATIENT_ANY_MORE, state, KNOWN) == ()


def test_an_officer_does_not_link_herself() -> None:
    """Case security.md, medium: 'A privacy officer who also holds patient links herself'."""
    assert refusal_of(Link(PATIENT, BOTH.did, is_patient=True), actor=BOTH) == "own-access"
    assert after(LINK, actor=BOTH).dids == (HERSELF,)


def test_who_is_linked_to_a_patient_acts_for_her_steward_no_longer() -> None:
    # She speaks as the patient while she holds that role, which BOTH does; the member itself still acts.
    assert BOTH.did == OFFICER.did
    state = after(a_grant(), state=PatientState(dids=(BOTH.did,)))

    assert after(a_grant(consent="c2"), actor=BOTH, state=state).consents
    assert refusal_of(LINK, actor=BOTH, state=state) == "not-permitted"
    assert refusal_of(a_grant(consent="c2"), actor=OFFICER, state=state) == "not-permitted"
    assert refusal_of(Review("d", PATIENT, "justified"), actor=OFFICER, state=state) == "not-permitted"
    assert not sees_all(OFFICER, state, KNOWN)
    assert after(Unlink(PATIENT, BOTH.did), actor=STEWARD, state=state).dids == ()


@pytest.mark.parametrize(
    ("roles", "grantee", "refused"),
    [
        ({"privacy-officer"}, OFFICER.did, True),
        ({"privacy-officer"}, HOSPITAL, False),
        ({"privacy-officer"}, CLINICIAN, False),
        ({"privacy-officer", "clinician"}, HOSPITAL, True),
        ({"privacy-officer", "researcher"}, HOSPITAL, True),
        ({"privacy-officer", "clinician"}, CLINICIAN, False),
    ],
)
def test_an_officer_grants_nothing_from_which_she_gains(
    roles: set[str], grantee: str, *, refused: bool
) -> None:
    officer = replace(OFFICER, roles=frozenset(roles))

    if refused:
        assert refusal_of(a_grant(grantee=grantee), actor=officer) == "own-access"
    else:
        assert after(a_grant(grantee=grantee), actor=officer).consents
