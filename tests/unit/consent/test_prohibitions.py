"""What a patient forbids: its law, its index, and what a caller finds done."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.unit.consent.test_consents import (
    CLINICIAN,
    HERSELF,
    HOSPITAL,
    KNOWN,
    NOW,
    OFFICER,
    PATIENT,
    PATIENT_HERSELF,
    STEWARD,
    a_grant,
    a_prohibition,
    after,
    refusal_of,
)
from tests.unit.consent.test_grants import ROLES, WHO, is_meant
from tests.unit.consent.test_handlers import ALLOWED, CONSENTED, Memory, ask

from salus.access.actors import Asking
from salus.access.prohibitions import Forbidden, Prohibition, ProhibitionIndex
from salus.access.state import PatientState, SubjectState, evolve
from salus.consent.domain.consents import Grant, decide
from salus.consent.domain.prohibitions import PROHIBITIONS_MAX, Forbid, Lift
from salus.consent.domain.rights import visible_prohibitions
from salus.consent.handlers import execute, grant
from salus.consent.prohibition_handlers import forbid
from salus.contracts.testing.faults import Fault
from salus.events.contexts.consent import Action
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.fields import Purpose
from salus.events.recipients import recipients_of
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

DAY = timedelta(days=1)
ME, MEMBER = "did:web:h.example:c", "did:web:h.example"
ACTIONS, PURPOSES = get_args(Action), get_args(Purpose)[:3]
MOMENTS = st.integers(-4, 4).map(lambda hours: datetime(2026, 11, 30, tzinfo=UTC) + timedelta(hours=hours))
PROHIBITIONS = st.lists(
    st.builds(
        Prohibition,
        st.integers(0, 999).map(str),
        MOMENTS,
        st.sampled_from([None, ME, MEMBER, "did:web:x.example"]),
        st.sampled_from([(), *((action,) for action in ACTIONS)]),
        st.sampled_from([(), *((purpose,) for purpose in PURPOSES)]),
        st.none() | MOMENTS,
        st.booleans(),
        st.none() | st.sampled_from(ROLES),
    ),
    max_size=12,
)


@given(
    known=PROHIBITIONS,
    who=WHO,
    action=st.sampled_from(ACTIONS),
    purpose=st.sampled_from(PURPOSES),
    at=MOMENTS,
    is_emergency=st.booleans(),
)
def test_the_index_says_what_a_look_at_each_prohibition_says(
    known: list[Prohibition],
    who: Asking,
    action: Action,
    purpose: Purpose,
    at: datetime,
    *,
    is_emergency: bool,
) -> None:
    about = [
        one
        for one in known
        # Of a role of no party, which the law never states, everybody is forbidden.
        if (one.party is None or is_meant(who, one.party, one.role))
        and (action in one.actions or not one.actions)
        and (purpose in one.purposes or (not one.purposes and not is_emergency))
        and not one.lifted
        and (one.valid_until is None or at < one.valid_until)
    ]
    now = any(one.valid_from <= at for one in about)
    later = min((one.valid_from for one in about), default=None)
    found = ProhibitionIndex(known).forbidden(
        recipients_of(who), action=action, purpose=purpose, at=at, is_emergency=is_emergency
    )

    assert found == (Forbidden(now=True) if now else Forbidden(begins=later))


def test_a_prohibition_voids_what_was_decided_before() -> None:
    state = after(a_grant(), a_prohibition(party=None))

    assert (state.epoch, state.prohibitions[0].party) == (1, None)
    assert after(Lift("p1", PATIENT), actor=OFFICER, state=state).prohibitions[0].lifted
    assert after(Lift("p1", PATIENT), actor=OFFICER, state=state).epoch == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (a_prohibition(prohibition="p2", party_kind=None), "unknown-grantee"),
        (a_prohibition(prohibition="p2", expected_kind="member"), "grantee-differs"),
        (a_prohibition(prohibition="p2", role="clinician"), "role-without-member"),
        (a_prohibition(prohibition="p2", party=None, role="clinician"), "role-without-member"),
        (a_grant(consent="c2", role="researcher"), "role-without-member"),
        (a_grant(consent="c2", role="researcher", grantee_kind=None), "unknown-grantee"),
        (a_prohibition(prohibition="p2", valid_until=NOW), "invalid-period"),
        (a_prohibition(prohibition="p2", valid_from=NOW + DAY, valid_until=NOW + DAY), "invalid-period"),
        (a_prohibition(prohibition="c1"), "consent-exists"),
        (a_prohibition(prohibition="p1"), "consent-exists"),
        (a_grant(consent="p1"), "consent-exists"),
        (Lift("p2", PATIENT), "unknown-prohibition"),
    ],
)
def test_a_refusal_names_what_is_wrong(command: Forbid | Grant | Lift, code: str) -> None:
    state = after(a_grant(), a_prohibition(party=None))

    assert refusal_of(command, state=state, actor=OFFICER) == code


def test_nothing_is_forbidden_for_who_was_erased_and_nothing_is_lifted_twice() -> None:
    lifted = after(a_prohibition(), Lift("p1", PATIENT), actor=OFFICER)

    assert refusal_of(a_prohibition(), subject=SubjectState(HOSPITAL, erased=True)) == "patient-erased"
    assert refusal_of(Lift("p1", PATIENT), state=lifted, actor=OFFICER) == "prohibition-lifted"


def test_what_everybody_was_forbidden_is_lifted_by_nobody_who_gains_by_it() -> None:
    state = after(a_prohibition(party=None), state=PatientState(dids=(HERSELF,)))
    treats = replace(OFFICER, roles=OFFICER.roles | {"clinician"})

    assert refusal_of(Lift("p1", PATIENT), state=state, actor=STEWARD) == "own-access"
    assert refusal_of(Lift("p1", PATIENT), state=state, actor=treats) == "own-access"
    assert after(Lift("p1", PATIENT), state=state, actor=PATIENT_HERSELF).prohibitions[0].lifted


def test_a_lifting_that_names_another_party_lifts_nothing() -> None:
    """By the party that it names everybody judges who may: a thief of the service's key names another."""
    state = after(a_prohibition(party=HOSPITAL, party_kind="member"))
    forged = ProhibitionLifted(prohibition="p1", patient=PATIENT, party=CLINICIAN, request=UNASKED)

    assert evolve(state, forged) == state


def test_one_that_was_lifted_makes_room_and_else_one_has_to_be_lifted() -> None:
    full = PatientState(prohibitions=tuple(Prohibition(f"x{n}", NOW) for n in range(PROHIBITIONS_MAX)))
    one_over = replace_at(full, 7, valid_until=NOW)
    one_lifted = replace_at(full, 7, lifted=True)

    assert refusal_of(a_prohibition(), state=full) == "too-many"
    assert refusal_of(a_prohibition(), state=one_over) == "too-many"
    names = {one.id for one in after(a_prohibition(), state=one_lifted).prohibitions}
    assert len(names) == PROHIBITIONS_MAX
    assert "p1" in names
    assert "x7" not in names


@pytest.mark.parametrize("valid_until", [None, NOW + DAY])
def test_what_was_not_lifted_is_displaced_by_nobody(valid_until: datetime | None) -> None:
    """A thief of the service's key names it, in a prohibition that begins after its end."""
    state = after(a_prohibition(valid_until=valid_until))
    forged = AccessProhibited(
        prohibition="p2",
        patient=PATIENT,
        valid_from=NOW + 900 * DAY,
        epoch=2,
        displaces="p1",
        request=UNASKED,
    )

    assert [one.id for one in evolve(state, forged).prohibitions] == ["p1", "p2"]


def replace_at(state: PatientState, place: int, **changes: Any) -> PatientState:
    changed = [*state.prohibitions]
    old = changed[place]
    changed[place] = Prohibition(old.id, old.valid_from, **changes)
    return PatientState(prohibitions=tuple(changed))


def test_whom_she_forbids_is_told_to_nobody_else() -> None:
    state = after(a_prohibition(), state=PatientState(dids=(HERSELF,)))
    clinician = replace(OFFICER, did=CLINICIAN, roles=frozenset({"clinician"}))

    assert visible_prohibitions(clinician, state, KNOWN) == ()
    assert visible_prohibitions(PATIENT_HERSELF, state, KNOWN) == state.prohibitions


def test_the_event_of_a_prohibition_says_all_of_it() -> None:
    command = a_prohibition(
        actions=("write", "read", "read"), purposes=("TREAT",), valid_until=NOW + DAY, prohibition="p9"
    )
    event = decide(PatientState(epoch=3), command, actor=STEWARD, subject=KNOWN, at=NOW)

    assert event == AccessProhibited(
        prohibition="p9",
        patient=PATIENT,
        party=CLINICIAN,
        actions=("read", "write"),
        purposes=("TREAT",),
        valid_from=NOW,
        valid_until=NOW + DAY,
        epoch=4,
        request=UNASKED,
    )


FORBID = Forbid("p1", PATIENT, party=CLINICIAN)


async def test_a_prohibition_denies_at_once_and_its_lifting_allows_again() -> None:
    memory = Memory(ALLOWED, state=CONSENTED)

    assert await ask(memory) is not None
    stated = await forbid(FORBID, actor=STEWARD, at=NOW, repeatable=False, world=memory.world)
    assert await ask(memory) is None
    await execute(Lift(stated.id, PATIENT), actor=STEWARD, at=NOW, world=memory.world)
    assert await ask(memory) is not None


async def test_a_prohibition_whose_answer_was_lost_is_found_done_when_repeated() -> None:
    memory = Memory(faults=[Fault.LATE])
    with pytest.raises(ProblemError, match="outcome-unknown"):
        await forbid(FORBID, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    again = await forbid(FORBID, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)

    assert again == Prohibition("p1", NOW, CLINICIAN)
    assert [type(event) for event in memory.log] == [AccessProhibited]


@pytest.mark.parametrize(
    "other",
    [
        replace(FORBID, party=None),
        replace(FORBID, actions=("read",)),
        replace(FORBID, purposes=("TREAT",)),
        replace(FORBID, valid_from=NOW + DAY),
        replace(FORBID, valid_until=NOW + DAY),
    ],
)
async def test_a_key_that_is_used_for_another_prohibition_is_used_up(other: Forbid) -> None:
    memory = Memory()
    await forbid(FORBID, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    with pytest.raises(Refusal) as refused:
        await forbid(other, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)

    assert refused.value.code == "idempotency-key-reused"


async def test_a_key_of_a_prohibition_grants_nothing_and_the_other_way_round() -> None:
    memory = Memory()
    await forbid(FORBID, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    with pytest.raises(Refusal) as refused:
        await grant(a_grant(consent="p1"), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)

    assert refused.value.code == "idempotency-key-reused"


@pytest.mark.parametrize("ends", ["lifted", "over"])
async def test_a_prohibition_that_stands_no_more_is_not_answered_as_done(ends: str) -> None:
    memory = Memory()
    command = replace(FORBID, valid_until=NOW + DAY)
    await forbid(command, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    later = NOW
    if ends == "lifted":
        await execute(Lift("p1", PATIENT), actor=STEWARD, at=NOW, world=memory.world)
    else:
        later = memory.now = NOW + 2 * DAY
    with pytest.raises(Refusal) as refused:
        await forbid(command, actor=STEWARD, at=later, repeatable=True, world=memory.world)

    assert refused.value.code in {f"prohibition-{ends}", "invalid-period"}
