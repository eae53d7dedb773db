"""A search for a sequence of acts that ends in a right that nobody with the right gave, or in a dead end.

The attacker holds one member with all of its people, whose roles it gives and takes as it likes, and one
privacy officer of the patient's steward, who may hold any other role as well. Everybody else is honest.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.asking import UNASKED
from tests.effort import tries

from salus.access.actors import Asking
from salus.access.cases import CaseOutcome
from salus.access.cedar import CedarPolicies
from salus.access.decisions import (
    Answer,
    Question,
    Rule,
    Verdict,
    case_opened,
    glass_broken,
    inputs_of,
    patients_among,
)
from salus.access.law import answer_of
from salus.access.policy_files import read_policies
from salus.access.prohibitions import Prohibition
from salus.access.state import PatientState, SubjectState, evolve
from salus.consent.domain import consents as law
from salus.consent.domain import prohibitions
from salus.consent.domain.cases import DecideCase
from salus.consent.domain.consents import Command, Grant, Link, Review, Revoke, Unlink, decide
from salus.consent.domain.prohibitions import Forbid, Lift
from salus.events.contexts.consent import Action
from salus.events.fields import Purpose
from salus.events.parties import Party
from salus.events.recipients import RecipientRole
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
HOSPITAL, EVIL = "did:web:h.example", "did:web:e.example"
HERSELF, OFFICER, CLINICIAN = f"{HOSPITAL}:patient", f"{HOSPITAL}:officer", f"{HOSPITAL}:clinician"
INSIDER = f"{HOSPITAL}:insider"
PEOPLE = (f"{EVIL}:1", f"{EVIL}:2")
EVERYBODY = (HOSPITAL, HERSELF, OFFICER, CLINICIAN, EVIL, *PEOPLE, INSIDER)
SUBJECT = SubjectState(steward=HOSPITAL)
POLICIES = CedarPolicies(read_policies(files("salus.access").joinpath("policies")))
# As the release's, and all reading is left to a person besides.
LEFT = CedarPolicies(
    {
        **read_policies(files("salus.access").joinpath("policies")),
        "left.cedar": b'@id("left") @review("human") permit (principal, action, resource)'
        b' when { action == Salus::Action::"read" };',
    }
)
FOUNDED = {
    HOSPITAL: Party(HOSPITAL, "member", frozenset(), None),
    EVIL: Party(EVIL, "member", frozenset(), None),
    HERSELF: Party(HERSELF, "person", frozenset({"patient"}), HOSPITAL),
    OFFICER: Party(OFFICER, "person", frozenset({"privacy-officer"}), HOSPITAL),
    CLINICIAN: Party(CLINICIAN, "person", frozenset({"clinician"}), HOSPITAL),
    INSIDER: Party(INSIDER, "person", frozenset({"privacy-officer", "patient"}), HOSPITAL),
    **{did: Party(did, "person", frozenset({"patient"}), EVIL) for did in PEOPLE},
}
USERS = {"clinician", "researcher"}
# The insider more often than others, for she has the most to try.
anybody, number = st.sampled_from((*EVERYBODY, *[INSIDER] * 6)), st.integers(1, 9)
# Who acts, and whom it is about: as often oneself, for there the ways in were.
pair = st.one_of(st.sampled_from([INSIDER, *PEOPLE]).map(lambda did: (did, did)), st.tuples(anybody, anybody))
# What identity lets a member give to its people.
role = st.sampled_from(["patient", "clinician", "researcher", "privacy-officer"])
people = st.sampled_from([did for did, party in FOUNDED.items() if party.kind == "person"])
PERMITS = Verdict(allowed=True, rules=(Rule("open"),))
PURPOSES: tuple[Purpose, ...] = ("TREAT", "ETREAT", "HRESCH", "PATRQT")
ACTIONS: tuple[Action, ...] = get_args(Action)
purpose, action = st.sampled_from(PURPOSES), st.sampled_from(ACTIONS)
purposes = st.sampled_from([(), *((one,) for one in PURPOSES)])
actions = st.sampled_from([(), *((one,) for one in ACTIONS)])
# To a role at a member as often as to a party.
held = st.sampled_from([None, None, *get_args(RecipientRole)])


def a_grant(
    name: str, grantee: str, acts: Action, why: Purpose, *, role: RecipientRole | None = None
) -> Grant:
    return Grant(
        consent=name,
        patient=PATIENT,
        grantee=grantee,
        grantee_kind=FOUNDED[grantee].kind,
        role=role,
        actions=(acts,),
        purposes=(why,),
        valid_from=None,
        valid_until=NOW + timedelta(days=1),
    )


class Network(RuleBasedStateMachine):
    """One patient of an honest hospital, and everything that was said of her.

    What may be is said here in other words than the rules' own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parties = dict(FOUNDED)
        self.state = PatientState()
        self.consents = self.emergencies = self.prohibitions = 0
        self.approvals: dict[tuple[str, Purpose], bool] = {}

    def asking(self, did: str) -> Asking:
        party = self.parties[did]
        return Asking(party.did, party.kind, party.roles, party.member, request=UNASKED)

    def event_of(self, did: str, command: Command) -> bool:
        """Let a party give a command; tell whether it took effect."""
        try:
            event = decide(self.state, command, actor=self.asking(did), subject=SUBJECT, at=NOW)
        except Refusal:
            return False
        self.state = evolve(self.state, event)
        return True

    def is_patient(self, did: str) -> bool:
        return did in self.state.dids and "patient" in self.parties[did].roles

    def is_officer(self, did: str) -> bool:
        party = self.parties[did]
        unlinked = did not in self.state.dids
        return unlinked and party.member == HOSPITAL and "privacy-officer" in party.roles

    def is_steward(self, did: str) -> bool:
        return did == HOSPITAL or self.is_officer(did)

    def may_use(self, did: str, grantee: str) -> bool:
        party = self.parties[did]
        return grantee == did or (grantee == party.member and bool(party.roles & USERS))

    # --- what anybody does ---------------------------------------------------------------------------

    @initialize(linked=st.sets(st.sampled_from([HERSELF, INSIDER])), lost=st.booleans())
    def begin(self, linked: set[str], *, lost: bool) -> None:
        for did in sorted(linked):
            assert self.event_of(HOSPITAL, Link(PATIENT, did, is_patient=True))
            if lost:
                self.set_role(did, "patient", given=False)

    @rule(did=people, role=role, given=st.booleans())
    def change_role(self, did: str, role: str, *, given: bool) -> None:
        """A member gives and takes its people's roles, the attacker's as the hospital."""
        self.set_role(did, role, given=given)

    def set_role(self, did: str, role: str, *, given: bool) -> None:
        party = self.parties[did]
        roles = party.roles | {role} if given else party.roles - {role}
        self.parties[did] = replace(party, roles=roles)

    @rule(pair=pair, acts=action, why=purpose, held=held)
    def grant(self, pair: tuple[str, str], acts: Action, why: Purpose, held: RecipientRole | None) -> None:
        who, grantee = pair
        gains = self.is_officer(who) and self.may_use(who, grantee)
        may = self.is_patient(who) or (self.is_steward(who) and not gains)
        self.consents += 1
        if self.event_of(who, a_grant(f"c{self.consents}", grantee, acts, why, role=held)):
            assert may
            assert held is None or grantee in {HOSPITAL, EVIL}

    @rule(pair=pair)
    def link(self, pair: tuple[str, str]) -> None:
        who, did = pair
        may = self.is_steward(who) and who != did and "patient" in self.parties[did].roles
        known = bool(patients_among((did,), self.parties))
        if self.event_of(who, Link(PATIENT, did, is_patient=known)):
            assert may

    @rule(pair=pair)
    def unlink(self, pair: tuple[str, str]) -> None:
        who, did = pair
        may = self.is_steward(who) or who == did
        if self.event_of(who, Unlink(PATIENT, did)):
            assert may

    @rule(who=anybody, number=number)
    def revoke(self, who: str, number: int) -> None:
        may = self.is_steward(who) or self.is_patient(who)
        if self.event_of(who, Revoke(f"c{number}", PATIENT)):
            assert may

    @rule(pair=pair, of_all=st.booleans(), acts=actions, why=purposes, held=held)
    def forbid(
        self,
        pair: tuple[str, str],
        acts: tuple[Action, ...],
        why: tuple[Purpose, ...],
        held: RecipientRole | None,
        *,
        of_all: bool,
    ) -> None:
        who, did = pair
        may = self.is_steward(who) or self.is_patient(who)
        self.prohibitions += 1
        party = None if of_all else did
        kind = None if party is None else FOUNDED[party].kind
        command = Forbid(f"p{self.prohibitions}", PATIENT, party, acts, why, party_kind=kind, role=held)
        if self.event_of(who, command):
            assert may

    @rule(who=anybody, number=number)
    def lift(self, who: str, number: int) -> None:
        parties = {one.id: one.party for one in self.state.prohibitions}
        party = parties.get(f"p{number}", who)
        about_oneself = who == HOSPITAL if party is None else who == party
        uses = bool(self.parties[who].roles & USERS) and party in {None, self.parties[who].member}
        may = self.is_patient(who) or (self.is_steward(who) and not about_oneself and not uses)
        if self.event_of(who, Lift(f"p{number}", PATIENT)):
            assert may

    @rule(who=anybody)
    def break_the_glass(self, who: str) -> None:
        question = Question(self.asking(who), "read", "o", PATIENT, "ETREAT", "other")
        answer = self.answer(question)
        broken = glass_broken(
            question, answer, decision=f"d{self.emergencies + 1}", statement=None, steward=HOSPITAL, at=NOW
        )
        if broken is not None:
            assert "clinician" in self.parties[who].roles
            assert self.parties[who].member is not None
            assert not any(
                "ETREAT" in one.purposes and "read" in (one.actions or ACTIONS)
                for one in self.forbidden_to(who)
            )
            self.state = evolve(self.state, broken)
            self.emergencies += 1

    @rule(who=anybody, number=number)
    def review(self, who: str, number: int) -> None:
        principals = {broken.decision: broken.principal for broken in self.state.glass_breaks}
        may = self.is_officer(who) and principals.get(f"d{number}") != who
        if self.event_of(who, Review(f"d{number}", PATIENT, "justified")):
            assert may

    @rule(who=anybody, why=purpose)
    def ask_a_person(self, who: str, why: Purpose) -> None:
        """Ask by policies that leave all reading to a person."""
        question = Question(self.asking(who), "read", "o", PATIENT, why)
        answer = self.answer(question, LEFT)
        if answer.allowed and not (self.is_patient(who) and why == "PATRQT"):
            assert self.approvals.get((who, why)), "nobody allowed it"
        if answer.pending and answer.case is None:
            name = f"k{len(self.state.cases) + 1}"
            opened = case_opened(question, answer, case=name, steward=HOSPITAL, at=NOW)
            self.state = evolve(self.state, opened)

    @rule(who=anybody, number=st.integers(1, 4), outcome=st.sampled_from(["approved", "rejected"]))
    def decide_a_case(self, who: str, number: int, outcome: CaseOutcome) -> None:
        known = {case.id: case for case in self.state.cases}
        case = known.get(f"k{number}")
        may = case is not None and self.is_officer(who) and case.principal != who
        if self.event_of(who, DecideCase(f"k{number}", PATIENT, outcome, "other")):
            assert may
            assert case is not None
            self.approvals[case.principal, case.purpose] = outcome == "approved"

    # --- what must hold ------------------------------------------------------------------------------

    def answer(
        self, question: Question, policies: CedarPolicies = POLICIES, *, verdict: Verdict | None = None
    ) -> Answer:
        """Return the answer by policies, or by a verdict of others."""
        patients = patients_among(self.state.dids, self.parties)
        inputs = inputs_of(question, state=self.state, patients=patients, subject=SUBJECT, at=NOW)
        return answer_of(
            question,
            verdict or policies.evaluate(inputs),
            state=self.state,
            patients=patients,
            subject=SUBJECT,
            at=NOW,
        )

    def is_meant(self, did: str, named: str, held: str | None) -> bool:
        """Tell whether a party is whom a consent or a prohibition names, by the roles that it has now."""
        party = self.parties[did]
        if held is None:
            return named in {did, party.member}
        return party.member == named and party.kind == "person" and held in party.roles

    def is_given(self, did: str, acts: Action, why: Purpose) -> bool:
        return any(
            self.is_meant(did, consent.grantee, consent.role)
            and acts in consent.actions
            and why in consent.purposes
            for consent in self.state.consents
            if consent.revoked_epoch is None
        )

    def forbidden_to(self, did: str) -> list[Prohibition]:
        return [
            one
            for one in self.state.prohibitions
            if (one.party is None or self.is_meant(did, one.party, one.role)) and not one.lifted
        ]

    @invariant()
    def nobody_does_what_was_forbidden(self) -> None:
        for did, party in self.parties.items():
            keeps = did == HOSPITAL or (party.member == HOSPITAL and "clinician" in party.roles)
            for one in self.forbidden_to(did):
                for acts in one.actions or ACTIONS:
                    for why in one.purposes or PURPOSES:
                        # Whatever the policies permit.
                        answer = self.answer(
                            Question(self.asking(did), acts, "o", PATIENT, why), verdict=PERMITS
                        )
                        own = acts == "read" and why == "PATRQT" and self.is_patient(did)
                        assert not answer.allowed or own or (keeps and acts == "write")

    @invariant()
    def nobody_reads_or_writes_without_having_been_given_it(self) -> None:
        for did, party in self.parties.items():
            keeps = did == HOSPITAL or (party.member == HOSPITAL and "clinician" in party.roles)
            for acts in ACTIONS:
                for why in PURPOSES:
                    answer = self.answer(Question(self.asking(did), acts, "o", PATIENT, why))
                    if answer.allowed and not self.is_given(did, acts, why):
                        assert keeps if acts == "write" else self.is_patient(did) and why == "PATRQT"

    @invariant()
    def every_state_has_an_exit(self) -> None:
        before = self.state
        for did in before.dids:
            assert self.event_of(HOSPITAL, Unlink(PATIENT, did))
        for consent in before.consents:
            if consent.revoked_epoch is None:
                assert self.event_of(HOSPITAL, Revoke(consent.id, PATIENT))
        self.parties["lifts"] = Party("lifts", "person", frozenset({"privacy-officer"}), HOSPITAL)
        for one in before.prohibitions:
            if not one.lifted:
                assert self.event_of("lifts", Lift(one.id, PATIENT))
        self.parties.pop("lifts")
        assert self.event_of(HOSPITAL, Forbid("new-p", PATIENT))
        assert self.event_of(HOSPITAL, a_grant("new", CLINICIAN, "read", "TREAT"))
        assert self.event_of(HOSPITAL, Link(PATIENT, HERSELF, is_patient=True))
        for broken in before.glass_breaks:
            if broken.outcome is None:
                self.parties["new"] = Party("new", "person", frozenset({"privacy-officer"}), HOSPITAL)
                assert self.event_of("new", Review(broken.decision, PATIENT, "justified"))
        for case in before.cases:
            if case.outcome is None:
                self.parties["new"] = Party("new", "person", frozenset({"privacy-officer"}), HOSPITAL)
                assert self.event_of("new", DecideCase(case.id, PATIENT, "rejected", "other"))
        self.parties.pop("new", None)
        self.state = before


def test_no_sequence_ends_in_a_right_that_nobody_gave_or_in_a_dead_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Case issue 12, item 6; the limits are so low that a search meets them."""
    monkeypatch.setattr(law, "CONSENTS_MAX", 3)
    monkeypatch.setattr(law, "LINKS_MAX", 2)
    monkeypatch.setattr(prohibitions, "PROHIBITIONS_MAX", 3)
    run_state_machine_as_test(
        Network, settings=settings(max_examples=tries(25, long=1_000), stateful_step_count=20, deadline=None)
    )
