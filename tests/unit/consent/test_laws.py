"""The laws of every domain, for consent's: tried on what Hypothesis makes up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.policy_files import contents_of, digest_of
from salus.access.state import PatientState, PolicyState, SubjectState
from salus.consent.adapters.folded import DECISIONS, PATIENTS, POLICIES, POLICY_TEXTS, REVIEW, SUBJECTS
from salus.consent.domain.cases import DecideCase, require_room_for_case
from salus.consent.domain.consents import (
    Grant,
    Link,
    Review,
    Revoke,
    Unlink,
    decide,
    require_room_for_emergency,
)
from salus.consent.domain.policies import Founding, activate, adopt, propose
from salus.consent.domain.prohibitions import Forbid, Lift
from salus.consent.domain.reviews import escalation, owed
from salus.contracts.testing.domain_laws import DomainLaws, EvolveLaws
from salus.contracts.testing.reactor_laws import ReactorLaws
from salus.contracts.testing.strategies import NOON
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import GlassBroken, PolicyFile
from salus.events.contexts.consent_oversight import CaseOpened
from salus.events.event_types import EventData
from salus.runtime.refusal import Refusal

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
    **dict.fromkeys(("consent", "decision", "case", "prohibition"), _ids),
    "displaces": st.none() | _ids,
    "actions": st.sampled_from([("read",), ("read", "write")]),
    "purposes": st.sampled_from([("TREAT",), ("TREAT", "HRESCH")]),
    "party": st.none() | _dids,
    **dict.fromkeys(("did", "grantee", "principal", "reviewer"), _dids),
}


FILES = [(PolicyFile(f"{name}.cedar", "text"),) for name in "abc"]
DIGESTS = [digest_of(contents_of(files)) for files in FILES]


@dataclass(frozen=True)
class Proposal:
    files: tuple[PolicyFile, ...]


@dataclass(frozen=True)
class Activation:
    policy_set: str
    replaces: str


@dataclass(frozen=True)
class Overdue:
    decision: str


class TestPatients(DomainLaws):
    contract, catalogue, fields, aggregate = PATIENTS, CATALOGUE, FIELDS, PATIENT
    commands = (
        *(Grant, Revoke, Link, Unlink, Review, Forbid, Lift),
        *(GlassBroken, Overdue, CaseOpened, DecideCase),
    )
    facts = st.sampled_from(ASKERS)

    def decide(self, state: PatientState, command: Any, asker: Asking) -> EventData:
        if isinstance(command, GlassBroken):
            require_room_for_emergency(state, command)
            return command
        if isinstance(command, CaseOpened):
            require_room_for_case(state, command)
            return command
        if isinstance(command, Overdue):
            if command.decision not in owed(state):
                raise Refusal("nothing-owed", "no review of it is awaited")
            return escalation(state, command.decision, request=UNASKED)
        return decide(state, command, actor=asker, subject=SubjectState(steward=HOSPITAL), at=NOON)

    def event_invariants(self, state: PatientState) -> None:
        assert len({consent.id for consent in state.consents}) == len(state.consents)
        assert len({one.id for one in state.prohibitions}) == len(state.prohibitions)
        assert len({broken.decision for broken in state.glass_breaks}) == len(state.glass_breaks)
        assert len({one.id for one in state.cases}) == len(state.cases)
        assert state.dids == tuple(sorted(set(state.dids)))
        assert all((consent.revoked_epoch or 0) <= state.epoch for consent in state.consents)


class TestReviews(ReactorLaws):
    contract, catalogue, fields, reactor = PATIENTS, CATALOGUE, FIELDS, REVIEW
    obliging = (
        GlassBroken(
            decision=f"{PATIENT.removeprefix('urn:uuid:')}.00000000",
            principal=STRANGER,
            object="o",
            patient=PATIENT,
            reason="other",
            valid_until=NOON,
            request=UNASKED,
        ),
    )

    def outcome(self, state: PatientState, key: str) -> EventData:
        return escalation(state, key, request=UNASKED)


class TestPolicies(DomainLaws):
    contract, catalogue, aggregate = POLICIES, CATALOGUE, "did:web:consent.example"
    commands = (Founding, Proposal, Activation)
    fields: ClassVar = {
        "contract": st.sampled_from(["a" * 64, "b" * 64]),
        "files": st.sampled_from(FILES),
        "policy_set": st.sampled_from(DIGESTS),
        "replaces": st.sampled_from(DIGESTS),
        "engine": st.just("cedar"),
    }

    def decide(self, state: PolicyState, command: Founding | Proposal | Activation, _: None) -> EventData:
        match command:
            case Founding():
                return adopt(state, command, service=self.aggregate)
            case Proposal():
                return propose(state, command.files, request=UNASKED)
            case Activation():
                return activate(
                    state, command.policy_set, replaces=command.replaces, engine="cedar", request=UNASKED
                )

    def event_invariants(self, state: PolicyState) -> None:
        sets = [*state.earlier, *(proposal.policy_set for proposal in state.proposed)]
        assert len(set(state.earlier)) == len(state.earlier)
        assert state.policy_set not in sets
        assert bool(state.policy_set) == bool(state.version)


class TestPolicyTexts(EvolveLaws):
    contract, catalogue, fields = POLICY_TEXTS, CATALOGUE, TestPolicies.fields


class TestSubjects(EvolveLaws):
    contract, catalogue, fields = SUBJECTS, CATALOGUE, FIELDS


class TestDecisions(EvolveLaws):
    contract, catalogue, fields = DECISIONS, CATALOGUE, FIELDS
