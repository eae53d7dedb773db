"""A deep fsck and consent's contract say the same of everybody: what one refuses, the other finds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.effort import tries
from tests.unit.archive.served_ledger import (
    CLINIC,
    DOCTOR,
    HERSELF,
    HOSPITAL,
    OFFICER,
    PATIENT,
    PRIVY,
    THIEF,
    ServedLedger,
    identifier,
)

from salus.access.actors import Asking
from salus.access.state import PatientState, SubjectState, evolve
from salus.consent.domain.cases import DecideCase
from salus.consent.domain.consents import Command, Grant, Link, Review, Revoke, Unlink, decide
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.events.errors import RejectedError
from salus.runtime.refusal import Refusal

WITHOUT_RIGHT = {"not-permitted", "own-access"}
PEOPLE = st.sampled_from([HOSPITAL, DOCTOR, OFFICER, HERSELF, CLINIC, THIEF, PRIVY])
NUMBERS = st.integers(1, 4)


@dataclass
class Town:
    """One patient: her state as consent folds it, and what was stated without a right, whoever stated it."""

    ledger: ServedLedger = field(default_factory=ServedLedger)
    state: PatientState = field(default_factory=PatientState)
    wrong: int = 0

    def attempt(self, by: LocalSigner, command: Command, say: Callable[[], object]) -> None:
        """State what was asked for, if consent lets or a thief of its key would have to state it for it."""
        party = self.ledger.ring.parties[by.did]
        actor = Asking(party.did, party.kind, party.roles, party.member, request=UNASKED)
        subject = SubjectState(steward=HOSPITAL.did)
        try:
            decide(self.state, command, actor=actor, subject=subject, at=self.ledger.now)
        except Refusal as refusal:
            if refusal.code not in WITHOUT_RIGHT:
                return
            with suppress(RejectedError):
                self.say(say)
                # Some of it nobody accepts, whoever states it.
                self.wrong += 1
            return
        self.say(say)

    def say(self, say: Callable[[], object]) -> None:
        stated = len(self.ledger.records)
        say()
        for record in self.ledger.records[stated:]:
            self.state = evolve(self.state, decode_event(record.value or b"", CATALOGUE).data)

    def grant(self, by: LocalSigner, to: LocalSigner, number: int) -> None:
        # The first few are those that somebody may try to take back.
        number += 4 * len(self.state.consents)
        until = self.ledger.now + timedelta(days=1)
        command = Grant(
            consent=identifier(PATIENT, number),
            patient=PATIENT,
            grantee=to.did,
            grantee_kind="person",
            actions=("read",),
            purposes=("TREAT",),
            valid_from=None,
            valid_until=until,
        )
        self.attempt(by, command, lambda: self.ledger.grant(by, to, number=number))

    def revoke(self, by: LocalSigner, _: LocalSigner, number: int) -> None:
        epoch = self.state.epoch + 1
        named = identifier(PATIENT, number)
        self.attempt(by, Revoke(named, PATIENT), lambda: self.ledger.revoke(by, number=number, epoch=epoch))

    def link(self, by: LocalSigner, did: LocalSigner, _: int) -> None:
        command = Link(PATIENT, did.did, is_patient=did is HERSELF)
        self.attempt(by, command, lambda: self.ledger.link(by, did))

    def unlink(self, by: LocalSigner, did: LocalSigner, _: int) -> None:
        epoch = self.state.epoch + 1
        self.attempt(by, Unlink(PATIENT, did.did), lambda: self.ledger.unlink(by, did, epoch=epoch))

    def emergency(self, by: LocalSigner, _: LocalSigner, number: int) -> None:
        if all(broken.decision != identifier(PATIENT, number) for broken in self.state.glass_breaks):
            self.say(lambda: self.ledger.emergency(by, number=number))

    def review(self, by: LocalSigner, _: LocalSigner, number: int) -> None:
        decision = identifier(PATIENT, number)
        known = {broken.decision: broken.outcome for broken in self.state.glass_breaks}
        # Once for ever: a second review has no effect.
        if known.get(decision, "") is None:
            command = Review(decision, PATIENT, "justified")
            self.attempt(by, command, lambda: self.ledger.review(by, decision))

    def case(self, by: LocalSigner, _: LocalSigner, number: int) -> None:
        if all(case.id != identifier(PATIENT, 50 + number) for case in self.state.cases):
            self.say(lambda: self.ledger.case(by, number=50 + number))

    def decide_case(self, by: LocalSigner, _: LocalSigner, number: int) -> None:
        name = identifier(PATIENT, 50 + number)
        # Once for ever, as reviews are.
        if any(case.id == name and case.outcome is None for case in self.state.cases):
            command = DecideCase(name, PATIENT, "approved", "other")
            self.attempt(by, command, lambda: self.ledger.judge_case(by, name))


ACTS = st.sampled_from(
    [
        Town.grant,
        Town.revoke,
        Town.link,
        Town.unlink,
        Town.emergency,
        Town.review,
        Town.case,
        Town.decide_case,
    ]
)


@settings(max_examples=tries(30, long=1_000), deadline=None)
@given(st.lists(st.tuples(ACTS, PEOPLE, PEOPLE, NUMBERS), max_size=20))
def test_what_consent_refuses_for_want_of_a_right_is_what_is_found_if_it_is_stated_all_the_same(
    acts: list[tuple[Callable[[Town, LocalSigner, LocalSigner, int], None], LocalSigner, LocalSigner, int]],
) -> None:
    town = Town()
    town.ledger.register()
    for act, by, about, number in acts:
        act(town, by, about, number)

    found = asyncio.run(town.ledger.findings())
    assert [f.code for f in found] == ["unentitled"] * town.wrong
