"""The laws of every domain, for consent's: tried on what Hypothesis makes up."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.state import PatientState, PolicyState, SubjectState
from salus.consent.adapters.folded import PATIENTS, POLICIES, SUBJECTS
from salus.consent.domain.consents import (
    Grant,
    Link,
    Review,
    Revoke,
    Unlink,
    adopt,
    decide,
    require_room_for_emergency,
)
from salus.contracts.testing.domain_laws import DomainLaws, EvolveLaws
from salus.contracts.testing.strategies import NOON
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import GlassBroken
from salus.events.event_types import EventData

PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
SHE, HOSPITAL, OFFICER, STRANGER = (f"did:web:{name}.example" for name in ("she", "h", "o", "x"))
ASKERS = [
    Asking(SHE, "person", frozenset({"patient"}), None, request=UNASKED),
    Asking(HOSPITAL, "member", frozenset(), None, request=UNASKED),
    Asking(OFFICER, "person", frozenset({"privacy-officer"}), HOSPITAL, request=UNASKED),
    Asking(STRANGER, "person", frozenset({"clinician"}), None, request=UNASKED),
]
_dids = st.sampled_from([SHE, HOSPITAL, OFFICER, STRANGER])
_ids = st.sampled_from([f"{PATIENT.removeprefix('urn:uuid:')}.0000000{number}" for number in range(3)])
FIELDS = {
    "patient": st.just(PATIENT),
    **dict.fromkeys(("consent", "decision"), _ids),
    "displaces": st.none() | _ids,
    "actions": st.sampled_from([("read",), ("read", "write")]),
    "purposes": st.sampled_from([("TREAT",), ("TREAT", "HRESCH")]),
    **dict.fromkeys(("did", "grantee", "principal", "reviewer"), _dids),
}


class TestPatients(DomainLaws):
    contract, catalogue, fields, aggregate = PATIENTS, CATALOGUE, FIELDS, PATIENT
    commands = (Grant, Revoke, Link, Unlink, Review, GlassBroken)
    facts = st.sampled_from(ASKERS)

    def decide(self, state: PatientState, command: Any, asker: Asking) -> EventData:
        if isinstance(command, GlassBroken):
            require_room_for_emergency(state, command)
            return command
        return decide(state, command, actor=asker, subject=SubjectState(steward=HOSPITAL), at=NOON)

    def event_invariants(self, state: PatientState) -> None:
        assert len({consent.id for consent in state.consents}) == len(state.consents)
        assert len({broken.decision for broken in state.glass_breaks}) == len(state.glass_breaks)
        assert state.dids == tuple(sorted(set(state.dids)))
        assert all((consent.revoked_epoch or 0) <= state.epoch for consent in state.consents)


class TestPolicies(DomainLaws):
    contract, catalogue, aggregate = POLICIES, CATALOGUE, "did:web:consent.example"
    commands = (PolicyState,)
    fields = dict.fromkeys(("policy_set", "contract"), st.sampled_from(["a" * 64, "b" * 64]))

    def decide(self, state: PolicyState, command: PolicyState, _: None) -> EventData:
        return adopt(state, command, service=self.aggregate)


class TestSubjects(EvolveLaws):
    contract, catalogue, fields = SUBJECTS, CATALOGUE, FIELDS
