"""The laws of every domain, for storage's: tried on what Hypothesis makes up."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.unit.storage.conftest import DOCTOR, HOSPITAL, LABORATORY, NOW, OFFICER, PATIENT

from salus.contracts.decision import Attempt
from salus.contracts.testing.domain_laws import DomainLaws, EvolveLaws
from salus.contracts.testing.reactor_laws import ReactorLaws
from salus.events.contexts import CATALOGUE
from salus.events.contexts.storage import ObjectStored, SubjectErased, SubjectKeyDestroyed, SubjectRegistered
from salus.events.event_types import EventData
from salus.events.parties import Party
from salus.runtime.refusal import Refusal
from salus.storage.adapters.facts import EPOCHS, ERASURE, OBJECTS, SUBJECTS
from salus.storage.domain import (
    Basis,
    SubjectState,
    decide_erasure,
    decide_registration,
    decide_storing,
    destruction_of,
    owed_destruction,
)

FIELDS = {
    "patient": st.just(PATIENT),
    "key": st.sampled_from([f"{PATIENT}#1", f"{PATIENT}#2"]),
    "steward": st.sampled_from([HOSPITAL.did, LABORATORY.did]),
}


class TestSubjects(DomainLaws):
    contract, catalogue, fields, aggregate = SUBJECTS, CATALOGUE, FIELDS, PATIENT
    commands = (SubjectRegistered, ObjectStored, SubjectKeyDestroyed, Basis)
    facts = st.sampled_from([HOSPITAL, LABORATORY, DOCTOR, OFFICER])

    def decide(self, state: SubjectState, command: Any, caller: Party) -> EventData:
        match command:
            case SubjectRegistered():
                return decide_registration(state, registration=command, caller=caller, steward=HOSPITAL)
            case ObjectStored():
                return decide_storing(
                    state, command, decision=None, attempt=Attempt(caller=caller, at=NOW, epoch=0)
                )
            case SubjectKeyDestroyed():
                if command.key not in owed_destruction(state):
                    raise Refusal("nothing-owed", "no erasure obliges to destroy this key")
                return destruction_of(state, command.key, request=UNASKED)
            case basis:
                return decide_erasure(state, caller=caller, basis=basis, request=UNASKED)

    def event_invariants(self, state: SubjectState) -> None:
        assert bool(state.patient) == bool(state.key)
        assert state.patient or state.objects == 0
        assert state.erased is None or state.erased in get_args(Basis)
        assert state.erased or not state.destroyed
        assert owed_destruction(state) == ((state.key,) if state.erased and not state.destroyed else ())


class TestObjects(EvolveLaws):
    contract, catalogue, fields = OBJECTS, CATALOGUE, FIELDS


class TestEpochs(EvolveLaws):
    contract, catalogue, fields = EPOCHS, CATALOGUE, FIELDS


class TestErasures(ReactorLaws):
    contract, catalogue, fields, reactor = SUBJECTS, CATALOGUE, FIELDS, ERASURE
    obliging = (
        SubjectRegistered(
            patient=PATIENT,
            steward=HOSPITAL.did,
            suite="s",
            key=f"{PATIENT}#1",
            public_key="AAAA",
            request=UNASKED,
        ),
        SubjectErased(
            patient=PATIENT,
            key=f"{PATIENT}#1",
            requested_by=HOSPITAL.did,
            basis="gdpr-art-17",
            objects=0,
            request=UNASKED,
        ),
    )

    def outcome(self, state: SubjectState, key: str) -> EventData:
        return destruction_of(state, key, request=UNASKED)
