"""Each cell of the table of rights, tried on the contract; docs/rights.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import msgspec
import pytest
from tests.unit.consent.cases import opened
from tests.unit.consent.test_consents import (
    BROKEN,
    HERSELF,
    HOSPITAL,
    KNOWN,
    NOW,
    OFFICER,
    OUTSIDER,
    PATIENT,
    PATIENT_HERSELF,
    STEWARD,
    a_grant,
    a_prohibition,
    after,
)
from tools.consent_rights import CASES, Case, answer_to

from salus.access.actors import Actor, Asking
from salus.access.state import PatientState, SubjectState, evolve
from salus.consent.domain.cases import DecideCase
from salus.consent.domain.consents import Command, Link, Review, Revoke, Unlink, decide
from salus.consent.domain.prohibitions import Lift
from salus.consent.domain.rights import relation_of, require, sees_all
from salus.events.patient_rights import RIGHTS, Act, Concern, Permission, Relation
from salus.runtime.refusal import Refusal

FORMER = replace(PATIENT_HERSELF, did="did:web:former.example", roles=frozenset())
# Her steward's officer, and linked to her: the link counts.
LINKED_OFFICER = replace(OFFICER, did="did:web:h.example:linked")
CLINICIAN = replace(OFFICER, did="did:web:h.example:c2", roles=frozenset({"clinician"}))
FOREIGN_OFFICER = replace(OFFICER, did="did:web:x.example:o", member=OUTSIDER.did)
OPERATOR = replace(PATIENT_HERSELF, did="did:web:op.example", roles=frozenset({"operator"}))
SERVICE = replace(OUTSIDER, did="did:web:s.example", kind="service", roles=frozenset({"storage"}))
NAMESAKE = replace(PATIENT_HERSELF, did="did:web:other.example")
ACTORS: Mapping[Relation, tuple[Asking, ...]] = {
    Relation.PATIENT: (PATIENT_HERSELF,),
    Relation.LINKED: (FORMER, LINKED_OFFICER),
    Relation.STEWARD: (STEWARD,),
    Relation.OFFICER: (OFFICER,),
    Relation.OTHER: (OUTSIDER, CLINICIAN, FOREIGN_OFFICER, OPERATOR, SERVICE, NAMESAKE),
}
CELLS = [(act, concern, relation, actor) for act, concern, relation in RIGHTS for actor in ACTORS[relation]]


def state_about(did: str) -> PatientState:
    """Return a patient with links, a consent to the party, a prohibition of it, and an access that it had."""
    state = PatientState(dids=(HERSELF, FORMER.did, LINKED_OFFICER.did))
    state = after(a_grant(grantee=did), a_prohibition(party=did), state=state)
    state = evolve(state, msgspec.structs.replace(BROKEN, principal=did))
    return evolve(state, opened(principal=did))


def command_of(act: Act, did: str) -> Command | None:  # noqa: PLR0911  # one for each act
    match act:
        case Act.GRANT:
            return a_grant(consent="c2", grantee=did)
        case Act.REVOKE:
            return Revoke("c1", PATIENT)
        case Act.FORBID:
            return a_prohibition(prohibition="p2", party=did)
        case Act.LIFT:
            return Lift("p1", PATIENT)
        case Act.LINK:
            return Link(PATIENT, did, is_patient=True)
        case Act.UNLINK:
            return Unlink(PATIENT, did)
        case Act.REVIEW:
            return Review("d", PATIENT, "justified")
        case Act.DECIDE:
            return DecideCase("k", PATIENT, "approved", "needed")
        case Act.SEE:
            return None
        case _:
            assert_never(act)


def attempt(act: Act, actor: Asking, *, about: str) -> Permission:
    state = state_about(about)
    command = command_of(act, about)
    try:
        if command is None:
            require(act, actor, about=None, state=state, subject=KNOWN)
        else:
            decide(state, command, actor=actor, subject=KNOWN, at=NOW)
    except Refusal as refusal:
        codes = {"not-permitted": Permission.DENIED, "own-access": Permission.OWN}
        # Who may do it, and finds it done or undone, was let.
        return codes.get(refusal.code, Permission.GIVEN)
    return Permission.GIVEN


@pytest.mark.parametrize(("act", "concern", "relation", "actor"), CELLS)
def test_a_cell_of_the_table_is_what_the_contract_does(
    act: Act, concern: Concern, relation: Relation, actor: Asking
) -> None:
    about = actor.did if concern is Concern.ONESELF else "did:web:third.example"

    assert relation_of(actor, state_about(about), KNOWN) is relation
    assert attempt(act, actor, about=about) is RIGHTS[act, concern, relation]


def test_the_table_has_every_cell() -> None:
    assert len(RIGHTS) == len(Act) * len(Concern) * len(Relation)


@pytest.mark.parametrize("act", list(Act))
def test_nobody_has_a_right_for_a_patient_that_storage_does_not_know(act: Act) -> None:
    for actors in ACTORS.values():
        for actor in actors:
            with pytest.raises(Refusal, match="unknown-patient"):
                require(act, actor, about=None, state=PatientState(), subject=SubjectState())


def test_a_role_is_worth_nothing_to_another_kind_of_party() -> None:
    device = Actor(HERSELF, "device", frozenset({"patient", "privacy-officer"}), HOSPITAL)

    assert not sees_all(device, PatientState(dids=(HERSELF,)), KNOWN)
    assert not sees_all(device, PatientState(), KNOWN)


# In the order of CASES: who reads, and who writes, by the policies of the release.
READS = [
    True,
    False,
    True,
    True,
    True,
    False,
    False,
    True,
    False,
    False,
    False,
    True,
    False,
    False,
    True,
    False,
    False,
]
WRITES = [
    False,
    False,
    True,
    True,
    True,
    False,
    False,
    False,
    False,
    True,
    True,
    True,
    False,
    False,
    False,
    False,
    False,
]


@pytest.mark.parametrize(("case", "reads", "writes"), list(zip(CASES, READS, WRITES, strict=True)))
def test_a_case_of_the_document_is_as_it_should_be(case: Case, *, reads: bool, writes: bool) -> None:
    assert answer_to(case, "read").allowed is reads
    assert answer_to(case, "write").allowed is writes
