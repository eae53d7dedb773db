"""The order of consent's effects, and what a write that was lost, or whose answer was lost, leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from tests.asking import UNASKED

from salus.consent.domain.authority import Asking
from salus.consent.domain.consents import Grant
from salus.consent.domain.decisions import Inputs, Question, Rule, Verdict
from salus.consent.domain.state import (
    Consent,
    PatientState,
    PolicyState,
    SubjectState,
    evolve,
    evolve_policies,
)
from salus.consent.handlers import adopt_policies, decide_access, grant
from salus.consent.ports import Claims, Facts, World
from salus.events.catalogue import AccessDecided, EventData, GlassBroken, StatePosition
from salus.events.keyring import KeyRing, Party
from salus.messaging import DeliveryError
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
HOSPITAL, CLINICIAN, STRANGER = "did:web:h.example", "did:web:h.example:c", "did:web:x"
STEWARD = Asking(did=HOSPITAL, kind="member", roles=frozenset(), member=None, request=UNASKED)
WHO = Asking(did=CLINICIAN, kind="person", roles=frozenset({"clinician"}), member=HOSPITAL, request=UNASKED)
QUESTION = Question(WHO, "read", "o", PATIENT, "TREAT")
EMERGENCY = Question(WHO, "read", "o", PATIENT, "ETREAT", "other")
GLASS = Rule("break-glass", ("tell",), 300, breaks_glass=True)
Fault = Literal["lost", "late"]


@dataclass
class Memory:
    """The topic, the fold and the policies, in memory; `faults` are taken one a write."""

    verdict: Verdict = Verdict(allowed=False)  # noqa: RUF009  # frozen
    faults: list[Fault | None] = field(default_factory=list)
    log: list[EventData] = field(default_factory=list)
    state: PatientState = PatientState()  # noqa: RUF009  # frozen
    digest: str = "a" * 64

    async def facts(self, _: str) -> Facts:
        return Facts(
            self.state, SubjectState(HOSPITAL), (StatePosition("salus.consent.events", 0, len(self.log)),)
        )

    async def execute(self, _: str, decide: Callable[[PatientState], EventData]) -> EventData:
        event = decide(self.state)
        self.write(event)
        return event

    def write(self, event: EventData) -> None:
        fault = self.faults.pop(0) if self.faults else None
        if fault == "lost":
            raise DeliveryError("lost")
        self.log.append(event)
        self.state = evolve(self.state, event)
        if fault == "late":
            raise DeliveryError("late")

    def evaluate(self, _: Inputs) -> Verdict:
        return self.verdict

    def make(self, claims: Claims) -> str:
        return f"token for {claims.decision}"

    async def catch_up(self) -> KeyRing:
        return KeyRing(
            parties={
                CLINICIAN: Party(CLINICIAN, "person", frozenset({"clinician"}), HOSPITAL),
                HOSPITAL: Party(HOSPITAL, "member", frozenset(), None),
                STRANGER: Party(STRANGER, "member", frozenset(), None),
            }
        )

    @property
    def world(self) -> World:
        return World(
            patients=self, facts=self, statements=Statements(self), policies=self, tokens=self, ring=self
        )


@dataclass
class Statements:
    """Facts that change nothing."""

    memory: Memory

    async def state(self, data: EventData, *, subject: str) -> None:
        assert subject == PATIENT
        self.memory.write(data)


ALLOWED = Verdict(allowed=True, rules=(Rule("open"),))
BROKEN = Verdict(allowed=True, rules=(GLASS,))


async def ask(memory: Memory, question: Question = QUESTION) -> str | None:
    decision = await decide_access(question, statement=None, suffix="0" * 20, at=NOW, world=memory.world)
    return decision.token


async def test_an_allowed_access_is_an_event_and_a_token() -> None:
    memory = Memory(ALLOWED)

    assert await ask(memory) == f"token for {PATIENT.removeprefix('urn:uuid:')}.{'0' * 20}"
    assert [type(event) for event in memory.log] == [AccessDecided]


async def test_a_denied_access_is_an_event_and_no_token() -> None:
    memory = Memory()

    assert await ask(memory) is None
    assert [type(event) for event in memory.log] == [AccessDecided]


@pytest.mark.parametrize(("fault", "events"), [("lost", 0), ("late", 1)])
async def test_nobody_gets_a_token_for_a_decision_that_may_not_be_on_the_topic(
    fault: Fault, events: int
) -> None:
    memory = Memory(ALLOWED, faults=[fault])
    with pytest.raises(DeliveryError):
        await ask(memory)

    assert len(memory.log) == events


@pytest.mark.parametrize(
    ("faults", "left"),
    [
        (["lost"], []),
        (["late"], [GlassBroken]),
        ([None, "lost"], [GlassBroken]),
        ([None, "late"], [GlassBroken, AccessDecided]),
        ([], [GlassBroken, AccessDecided]),
    ],
)
async def test_there_is_never_an_emergency_access_without_its_alarm(
    faults: list[Fault | None], left: list[type[EventData]]
) -> None:
    memory = Memory(BROKEN, faults=list(faults))
    if faults:
        with pytest.raises(DeliveryError):
            await ask(memory, EMERGENCY)
    else:
        assert await ask(memory, EMERGENCY)

    assert [type(event) for event in memory.log] == left


def a_grant() -> Grant:
    return Grant(
        consent="c",
        patient=PATIENT,
        grantee=CLINICIAN,
        grantee_known=False,
        actions=("read",),
        purposes=("TREAT",),
        valid_from=NOW,
        valid_until=NOW + timedelta(days=1),
    )


async def test_a_grant_whose_answer_was_lost_is_found_done_when_repeated() -> None:
    memory = Memory(faults=["late"])

    async def run() -> Consent:
        return await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)

    with pytest.raises(DeliveryError):
        await run()
    consent = await run()

    assert consent.id == "c"
    assert len(memory.log) == 1


async def test_a_grant_that_is_not_meant_as_a_repetition_is_refused() -> None:
    memory = Memory()
    await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=False, world=memory.world)
    with pytest.raises(Refusal, match="consent-exists"):
        await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=False, world=memory.world)


class PolicyMemory:
    def __init__(self, conflicts: int = 0) -> None:
        self.state, self.log, self.conflicts = PolicyState(), list[EventData](), conflicts

    async def execute(self, _: str, decide: Callable[[PolicyState], EventData]) -> EventData:
        event = decide(self.state)
        if self.conflicts:
            self.conflicts -= 1
            raise ProblemError(409, "conflict", "another was first")
        self.log.append(event)
        self.state = evolve_policies(self.state, event)
        return event


async def test_a_policy_set_is_adopted_once_although_others_were_first() -> None:
    host, version = PolicyMemory(conflicts=2), PolicyState("a" * 64, "b" * 64)
    first = await adopt_policies(version, service="did:web:c.example", host=host)
    second = await adopt_policies(version, service="did:web:c.example", host=host)

    assert (first, second) == (True, False)
    assert len(host.log) == 1
