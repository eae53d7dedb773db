"""The law of consent: every refusal by its code, and the laws of the fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.emergencies import REVIEWED_MAX
from salus.access.state import (
    Consent,
    PatientState,
    SubjectState,
    active_consents,
    evolve,
    evolve_subject,
)
from salus.consent.domain.consents import (
    CONSENTS_MAX,
    Command,
    Grant,
    Link,
    Review,
    Revoke,
    Unlink,
    decide,
    found_consent,
    identifier_under,
    patient_of,
)
from salus.consent.domain.prohibitions import Forbid
from salus.consent.domain.rights import sees_all, visible_consents
from salus.events.contexts.consent import (
    ConsentGranted,
    ConsentRevoked,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
)
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.events.event_types import EventData
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
HOSPITAL, CLINICIAN, HERSELF = "did:web:h.example", "did:web:h.example:c", "did:web:p.example"
KNOWN = SubjectState(steward=HOSPITAL)
STEWARD = Asking(did=HOSPITAL, kind="member", roles=frozenset(), member=None, request=UNASKED)
OFFICER = Asking(
    did="did:web:h.example:o",
    kind="person",
    roles=frozenset({"privacy-officer"}),
    member=HOSPITAL,
    request=UNASKED,
)
PATIENT_HERSELF = Asking(
    did=HERSELF, kind="person", roles=frozenset({"patient"}), member=None, request=UNASKED
)
A_CLINICIAN = Asking(
    did=CLINICIAN, kind="person", roles=frozenset({"clinician"}), member=HOSPITAL, request=UNASKED
)
OUTSIDER = Asking(did="did:web:x.example", kind="member", roles=frozenset(), member=None, request=UNASKED)
BROKEN = GlassBroken(
    decision="d",
    principal=CLINICIAN,
    object="o",
    patient=PATIENT,
    reason="other",
    valid_until=NOW,
    request=UNASKED,
)


def a_grant(**changes: Any) -> Grant:
    fields: dict[str, Any] = {
        "consent": "c1",
        "patient": PATIENT,
        "grantee": CLINICIAN,
        "grantee_kind": "person",
        "actions": ("read",),
        "purposes": ("TREAT",),
        "valid_from": NOW,
        "valid_until": NOW + DAY,
    }
    return Grant(**{**fields, **changes})


def a_prohibition(**changes: Any) -> Forbid:
    fields: dict[str, Any] = {
        "prohibition": "p1",
        "patient": PATIENT,
        "party": CLINICIAN,
        "party_kind": "person",
    }
    return Forbid(**{**fields, **changes})


def after(*commands: Command, actor: Asking = STEWARD, state: PatientState | None = None) -> PatientState:
    state = state or PatientState()
    for command in commands:
        state = evolve(state, decide(state, command, actor=actor, subject=KNOWN, at=NOW))
    return state


def refusal_of(
    command: Command,
    *,
    state: PatientState | None = None,
    actor: Asking = STEWARD,
    subject: SubjectState = KNOWN,
    at: datetime = NOW,
) -> str:
    with pytest.raises(Refusal) as caught:
        decide(state or PatientState(), command, actor=actor, subject=subject, at=at)
    return caught.value.code


def test_a_granted_consent_is_active_until_it_ends() -> None:
    state = after(a_grant())

    assert [consent.id for consent in active_consents(state, at=NOW)] == ["c1"]
    assert active_consents(state, at=NOW + DAY) == ()
    assert active_consents(state, at=NOW - DAY) == ()


def test_the_patient_and_her_steward_and_its_officer_grant() -> None:
    linked = PatientState(dids=(HERSELF,))
    for actor, state in ((STEWARD, None), (OFFICER, None), (PATIENT_HERSELF, linked)):
        assert after(a_grant(), actor=actor, state=state).consents


@pytest.mark.parametrize("actor", [OUTSIDER, A_CLINICIAN, PATIENT_HERSELF])
def test_nobody_else_grants_or_takes_back(actor: Asking) -> None:
    assert refusal_of(a_grant(), actor=actor) == "not-permitted"
    assert refusal_of(Revoke("c1", PATIENT), state=after(a_grant()), actor=actor) == "not-permitted"


def test_an_unregistered_patient_has_no_consents() -> None:
    assert refusal_of(a_grant(), subject=SubjectState()) == "unknown-patient"


def test_nothing_is_granted_on_an_erased_record() -> None:
    assert refusal_of(a_grant(), subject=SubjectState(steward=HOSPITAL, erased=True)) == "patient-erased"


def test_a_consent_id_is_granted_once() -> None:
    assert refusal_of(a_grant(), state=after(a_grant())) == "consent-exists"


def test_a_grantee_is_a_registered_party() -> None:
    assert refusal_of(a_grant(grantee_kind=None)) == "unknown-grantee"


@pytest.mark.parametrize(
    ("start", "end"),
    [(NOW, NOW), (NOW + DAY, NOW), (NOW - 2 * DAY, NOW), (NOW, NOW + 3661 * DAY)],
)
def test_a_period_lies_ahead_and_has_an_end(start: datetime, end: datetime) -> None:
    assert refusal_of(a_grant(valid_from=start, valid_until=end)) == "invalid-period"


def test_a_patient_has_a_limited_number_of_consents() -> None:
    consent = Consent("x", CLINICIAN, ("read",), ("TREAT",), NOW, NOW + DAY)
    full = PatientState(consents=(consent,) * CONSENTS_MAX)

    assert refusal_of(a_grant(), state=full) == "too-many"


@pytest.mark.parametrize("over", [{"revoked_epoch": 1}, {"valid_until": NOW}])
def test_a_consent_that_is_over_makes_room_for_the_next(over: dict[str, Any]) -> None:
    """Case issue 12, item 6: no state without an exit."""
    some = tuple(
        Consent(f"x{n}", CLINICIAN, ("read",), ("TREAT",), NOW - DAY, NOW + DAY) for n in range(CONSENTS_MAX)
    )
    ended = msgspec.structs.replace(some[7], **over)
    state = after(a_grant(), state=PatientState(consents=(*some[:7], ended, *some[8:])))

    assert len(state.consents) == CONSENTS_MAX
    assert {"c1", ended.id} & {consent.id for consent in state.consents} == {"c1"}


def test_reviewed_emergencies_are_listed_up_to_a_limit_and_the_others_always() -> None:
    state = PatientState()
    for n in range(REVIEWED_MAX + 2):
        state = evolve(state, msgspec.structs.replace(BROKEN, decision=f"d{n}"))
    for n in range(1, REVIEWED_MAX + 2):
        state = after(Review(f"d{n}", PATIENT, "justified"), actor=OFFICER, state=state)

    listed = {broken.decision for broken in state.glass_breaks}
    assert "d0" in listed
    assert "d1" not in listed
    assert len(listed) == REVIEWED_MAX + 1


def test_a_consent_is_taken_back_once() -> None:
    state = after(a_grant(), Revoke("c1", PATIENT))

    assert (state.epoch, found_consent(state, "c1").revoked_epoch) == (1, 1)
    assert refusal_of(Revoke("c1", PATIENT), state=state) == "consent-revoked"
    assert refusal_of(Revoke("c2", PATIENT), state=state) == "unknown-consent"


def test_a_consent_granted_after_a_revocation_keeps_the_epoch() -> None:
    state = after(a_grant(), Revoke("c1", PATIENT), a_grant(consent="c2"))

    assert state.epoch == 1
    assert [consent.id for consent in active_consents(state, at=NOW)] == ["c2"]


def test_an_emergency_access_is_reviewed_once_by_another_officer_of_the_steward() -> None:
    state = evolve(PatientState(), BROKEN)
    review = Review("d", PATIENT, "justified")
    reviewed = after(review, actor=OFFICER, state=state)

    assert [broken.outcome for broken in reviewed.glass_breaks] == ["justified"]
    assert refusal_of(review, actor=OFFICER, state=reviewed) == "already-reviewed"
    assert refusal_of(Review("e", PATIENT, "justified"), actor=OFFICER, state=state) == "unknown-glass-break"
    for other in (STEWARD, A_CLINICIAN, PATIENT_HERSELF):
        assert refusal_of(review, actor=other, state=state) == "not-permitted"
    foreign = Asking(
        did="did:web:x",
        kind="person",
        roles=frozenset({"privacy-officer"}),
        member="did:web:x.example",
        request=UNASKED,
    )
    assert refusal_of(review, actor=foreign, state=state) == "not-permitted"
    own = Asking(
        did=CLINICIAN, kind="person", roles=frozenset({"privacy-officer"}), member=HOSPITAL, request=UNASKED
    )
    assert refusal_of(review, actor=own, state=state) == "own-access"


def test_consents_are_shown_to_those_whom_they_concern() -> None:
    state = after(a_grant(), a_grant(consent="c2", grantee=HOSPITAL))
    colleague = Asking(
        did="did:web:h.example:d", kind="person", roles=frozenset(), member=HOSPITAL, request=UNASKED
    )

    def seen(actor: Asking) -> list[str]:
        return [consent.id for consent in visible_consents(actor, state, KNOWN)]

    assert seen(STEWARD) == seen(OFFICER) == seen(A_CLINICIAN) == ["c1", "c2"]
    assert seen(colleague) == ["c2"]
    assert seen(OUTSIDER) == []
    assert not sees_all(A_CLINICIAN, state, KNOWN)


def test_the_first_steward_stays_and_erasure_is_for_ever() -> None:
    first = SubjectRegistered(
        patient=PATIENT, steward=HOSPITAL, suite="s", key="k", public_key="p", request=UNASKED
    )
    second = SubjectRegistered(
        patient=PATIENT, steward="did:web:x", suite="s", key="l", public_key="q", request=UNASKED
    )
    erased = SubjectErased(
        patient=PATIENT,
        key="k",
        requested_by=HOSPITAL,
        basis="court-order",
        objects=1,
        request=UNASKED,
    )
    state = SubjectState()
    for event in (first, second, erased, second, BROKEN):
        state = evolve_subject(state, event)

    assert state == SubjectState(steward=HOSPITAL, erased=True)


def test_an_id_leads_back_to_its_patient() -> None:
    assert patient_of(identifier_under(PATIENT, suffix="0123456789abcdef0123")) == PATIENT


@pytest.mark.parametrize(
    "wrong", ["", "c1", PATIENT, PATIENT[9:] + ".", PATIENT[9:] + ".XYZ", "../../etc/passwd"]
)
def test_an_id_of_another_form_leads_nowhere(wrong: str) -> None:
    with pytest.raises(Refusal, match="unknown-id"):
        patient_of(wrong)


# --- laws -----------------------------------------------------------------------------------------

_ids = st.sampled_from(["c1", "c2", "c3"])
_commands: st.SearchStrategy[Command] = st.one_of(
    _ids.map(lambda name: a_grant(consent=name)),
    _ids.map(lambda name: Revoke(name, PATIENT)),
    st.just(Link(PATIENT, HERSELF, is_patient=True)),
    st.just(Unlink(PATIENT, HERSELF)),
    st.just(Review("d", PATIENT, "justified")),
)
_events: st.SearchStrategy[EventData] = st.one_of(
    st.tuples(_ids, st.integers(0, 3)).map(
        lambda t: ConsentGranted(
            consent=t[0],
            patient=PATIENT,
            grantee=CLINICIAN,
            actions=("read",),
            purposes=("TREAT",),
            valid_from=NOW,
            valid_until=NOW + DAY,
            epoch=t[1],
            request=UNASKED,
        )
    ),
    st.tuples(_ids, st.integers(0, 3)).map(
        lambda t: ConsentRevoked(consent=t[0], patient=PATIENT, epoch=t[1], request=UNASKED)
    ),
    st.just(PatientLinked(patient=PATIENT, did=HERSELF, request=UNASKED)),
    st.integers(0, 3).map(
        lambda epoch: PatientUnlinked(patient=PATIENT, did=HERSELF, epoch=epoch, request=UNASKED)
    ),
    st.just(BROKEN),
    st.just(
        GlassBreakReviewed(
            decision="d", patient=PATIENT, reviewer=HOSPITAL, outcome="justified", request=UNASKED
        )
    ),
)


@given(st.lists(_events, max_size=15))
def test_the_epoch_goes_on_by_one_and_a_revoked_consent_never_comes_back(events: list[EventData]) -> None:
    state = PatientState()
    for event in events:
        before, state = state, evolve(state, event)

        assert before.epoch <= state.epoch <= before.epoch + 1
        gone = {consent.id for consent in before.consents if consent.revoked_epoch is not None}
        assert gone.isdisjoint(consent.id for consent in active_consents(state, at=NOW))


@given(st.lists(_events, max_size=12))
def test_an_event_that_comes_twice_changes_nothing_the_second_time(events: list[EventData]) -> None:
    state = PatientState()
    for event in events:
        state = evolve(state, event)

        assert evolve(state, event) == state


@given(st.lists(_commands, max_size=12))
def test_the_state_is_the_fold_of_what_was_decided(commands: list[Command]) -> None:
    live, log = evolve(PatientState(), BROKEN), [BROKEN]
    decided: list[EventData] = list(log)
    for command in commands:
        actor = OFFICER if isinstance(command, Review) else STEWARD
        try:
            event = decide(live, command, actor=actor, subject=KNOWN, at=NOW)
        except Refusal:
            continue
        live, before = evolve(live, event), live
        decided.append(event)

        assert live != before

    rebuilt = PatientState()
    for event in decided:
        rebuilt = evolve(rebuilt, event)
    assert rebuilt == live
