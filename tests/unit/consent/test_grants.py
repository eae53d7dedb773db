"""The index of a patient's consents says what a look at all of them says, at any moment, in any order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.decisions import Question, Rule, Verdict, conclude, inputs_of
from salus.access.grants import CONSENTS_NAMED_MAX, GrantIndex
from salus.access.state import Consent, PatientState, SubjectState
from salus.consent.adapters.folded import PATIENTS
from salus.contracts.testing.strategies import Values
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import Action
from salus.events.fields import Purpose
from salus.events.recipients import Recipient, RecipientRole

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)
ME, MEMBER = "did:web:h.example:c", "did:web:h.example"
GRANTEES = (ME, MEMBER, "did:web:x.example")
ACTIONS, PURPOSES = get_args(Action), get_args(Purpose)
ROLES = get_args(RecipientRole)
MOMENTS = st.integers(-4, 4).map(lambda hours: NOW + timedelta(hours=hours))
CONSENTS = st.lists(
    st.builds(
        lambda number, grantee, actions, purposes, begins, ends, revoked, role: Consent(
            f"c{number:03}", grantee, actions, purposes, begins, ends, revoked, role
        ),
        st.integers(0, 999),
        st.sampled_from(GRANTEES),
        st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=3).map(tuple),
        st.lists(st.sampled_from(PURPOSES[:3]), min_size=1, max_size=3).map(tuple),
        MOMENTS,
        MOMENTS,
        st.none() | st.integers(1, 3),
        st.none() | st.sampled_from(ROLES),
    ),
    max_size=12,
    unique_by=lambda consent: consent.id,
).map(tuple)
WHO = st.sampled_from(
    [
        Asking(ME, "person", frozenset({"clinician"}), MEMBER, request=UNASKED),
        Asking(ME, "person", frozenset({"clinician"}), None, request=UNASKED),
        Asking(ME, "person", frozenset({"clinician", "researcher"}), MEMBER, request=UNASKED),
        Asking(ME, "person", frozenset({"patient"}), MEMBER, request=UNASKED),
        Asking(ME, "device", frozenset(), MEMBER, request=UNASKED),
        Asking(MEMBER, "member", frozenset(), None, request=UNASKED),
        Asking(MEMBER, "member", frozenset(), MEMBER, request=UNASKED),
    ]
)
QUESTIONS = st.builds(
    Question,
    WHO,
    st.sampled_from(ACTIONS),
    st.just("object-1"),
    st.just("urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"),
    st.sampled_from(PURPOSES[:3]),
)
PERMITS = Verdict(allowed=True, rules=(Rule("permits", valid_seconds=900),))


def is_meant(who: Asking, grantee: str | None, role: str | None) -> bool:
    """Tell whether somebody is among those whom a consent or a prohibition names."""
    if role is None:
        return grantee in {who.did, who.member}
    return who.kind == "person" and who.member == grantee and role in who.roles


def covering(question: Question, consents: tuple[Consent, ...], at: datetime) -> list[Consent]:
    """Return what a look at each consent finds."""
    who = question.principal
    return [
        consent
        for consent in consents
        if is_meant(who, consent.grantee, consent.role)
        and question.action in consent.actions
        and question.purpose in consent.purposes
        and consent.is_active(at)
    ]


# issue 14, Speed: the engine gets candidates only, and the answer is that of all grants
@given(CONSENTS, QUESTIONS, st.lists(MOMENTS, min_size=1, max_size=6))
def test_the_index_finds_what_a_look_at_all_finds(
    consents: tuple[Consent, ...], question: Question, moments: list[datetime]
) -> None:
    index, state = GrantIndex(PatientState(consents=consents)), PatientState(consents=consents)
    # One index is asked at many moments, later and earlier ones, as those of several requests are.
    for at in moments:
        found = covering(question, consents, at)
        inputs = inputs_of(
            question, state=state, patients=set(), subject=SubjectState(MEMBER), at=at, grants=index
        )
        answer = conclude(question, PERMITS, state=state, at=at, grants=index)
        seen = [grant["grantee"] for grant in inputs.entities[1]["attrs"]["grants"]]

        assert seen == sorted({consent.grantee for consent in found})
        assert answer.consents == tuple(sorted(consent.id for consent in found))
        ends = [consent.valid_until for consent in found]
        assert answer.valid_until == min(at + timedelta(seconds=900), max(ends, default=NOW + timedelta(9)))
        # What replays a decision has no index.
        again = inputs_of(question, state=state, patients=set(), subject=SubjectState(MEMBER), at=at)
        assert inputs.encoded == again.encoded


def test_of_many_consents_the_first_are_named() -> None:
    ids = [f"c{number:04}" for number in range(1000)]
    consents = [
        Consent(name, GRANTEES[number % 2], ("read",), ("TREAT",), NOW, NOW + timedelta(minutes=1 + number))
        for number, name in enumerate(reversed(ids))
    ]
    found = GrantIndex(PatientState(consents=tuple(consents))).covering(
        (Recipient(ME), Recipient(MEMBER)), action="read", purpose="TREAT", at=NOW
    )

    assert found.ids == tuple(ids[:CONSENTS_NAMED_MAX])
    assert found.until == NOW + timedelta(minutes=1000)


@given(st.data())
def test_what_changes_a_patient_changes_her_version(data: DataObject) -> None:
    # Replicas keep her state by her version: an event without one would change what they do not read again.
    state = PatientState(consents=data.draw(CONSENTS), dids=(ME,))
    for entry in CATALOGUE.types():
        if entry.topic == PATIENTS.topic and not entry.changes:
            _, event = data.draw(Values().event(entry))

            assert PATIENTS.evolve(state, event) == state
