"""The order of consent's effects, and what a write that was lost, or whose answer was lost, leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import jwt
import pytest
from tests.asking import NETWORK, UNASKED

from salus.consent.adapters.tokens import DecisionTokens
from salus.consent.domain.consents import Grant, Revoke
from salus.consent.domain.decisions import Inputs, Question, Rule, Verdict
from salus.consent.domain.rights import Asking
from salus.consent.domain.state import (
    Consent,
    PatientState,
    PolicyState,
    SubjectState,
    evolve,
    evolve_policies,
)
from salus.consent.handlers import adopt_policies, decide_access, execute, grant
from salus.consent.ports import Claims, Facts, Limits, World
from salus.contracts.contract import NameTakenError
from salus.contracts.queues import Queues
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided, GlassBroken
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.messaging import DeliveryError
from salus.runtime.limits import AccountLimit, Rate
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


def limits_of(burst: int) -> Limits:
    """Return limits of so many at once; the clock stands."""
    names = ("denials", "glass breaks", "commands", "revocations")
    return Limits(*(AccountLimit(name, Rate(burst, 1), clock=lambda: 0.0) for name in names))


PARTIES = (
    Party(CLINICIAN, "person", frozenset({"clinician"}), HOSPITAL),
    Party(HOSPITAL, "member", frozenset(), None),
    Party(STRANGER, "member", frozenset(), None),
)


@dataclass
class Memory:
    """The topic, the fold and the policies, in memory; `faults` are taken one a write."""

    verdict: Verdict = Verdict(allowed=False)  # noqa: RUF009  # frozen
    faults: list[Fault | None] = field(default_factory=list)
    log: list[EventData] = field(default_factory=list)
    state: PatientState = PatientState()  # noqa: RUF009  # frozen
    digest: str = "a" * 64
    taken: bool = False
    limits: Limits = field(default_factory=lambda: limits_of(9))
    parties: tuple[Party, ...] = PARTIES
    subject: SubjectState = SubjectState(HOSPITAL)  # noqa: RUF009  # frozen
    queues: Queues = field(default_factory=Queues)

    async def facts(self, _: str) -> Facts:
        return Facts(self.state, self.subject, {("salus.consent.events", 0): len(self.log)})

    async def execute(self, _: str, decide: Callable[[PatientState], Awaitable[EventData]]) -> EventData:
        event = await decide(self.state)
        if self.taken:
            raise NameTakenError
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
        return KeyRing(CATALOGUE, NETWORK, parties={party.did: party for party in self.parties})

    @property
    def world(self) -> World:
        return World(
            patients=self,
            facts=self,
            statements=Statements(self),
            policies=self,
            tokens=self,
            ring=self,
            limits=self.limits,
            queues=self.queues,
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


async def test_an_account_is_denied_only_so_often_and_may_still_break_the_glass() -> None:
    """Case security.md, low: denied decisions and glass breaks are unbounded per account."""
    memory = Memory(limits=limits_of(2))
    for _ in range(2):
        await ask(memory)
    with pytest.raises(ProblemError, match="too-many-requests") as caught:
        await ask(memory)

    assert (caught.value.status, len(memory.log)) == (429, 2)
    memory.verdict = BROKEN
    for _ in range(2):
        assert await ask(memory, EMERGENCY)
    with pytest.raises(ProblemError, match="too-many-requests"):
        await ask(memory, EMERGENCY)
    assert len(memory.log) == 6


async def test_what_is_allowed_and_denied_in_an_emergency_is_counted_as_what_was_asked() -> None:
    memory = Memory(ALLOWED, limits=limits_of(1))
    for _ in range(3):
        assert await ask(memory)
        assert await ask(memory, EMERGENCY)
    memory.verdict = Verdict(allowed=False)
    await ask(memory, EMERGENCY)
    with pytest.raises(ProblemError, match="too-many-requests"):
        await ask(memory, EMERGENCY)

    assert await ask(memory) is None


async def test_nothing_beyond_the_limit_is_recorded_though_many_ask_at_once() -> None:
    memory = Memory(limits=limits_of(2))
    answers = await asyncio.gather(*(ask(memory) for _ in range(8)), return_exceptions=True)

    assert len([one for one in answers if one is None]) == len(memory.log) == 2


class Asynchronous(Memory):
    """A memory that others use while one waits for it, as with Kafka; it counts what is decided."""

    decided = 0

    async def facts(self, patient: str) -> Facts:
        await asyncio.sleep(0)
        return await super().facts(patient)

    def evaluate(self, inputs: Inputs) -> Verdict:
        self.decided += 1
        return super().evaluate(inputs)


async def test_nothing_is_decided_that_could_not_be_recorded_though_many_ask_at_once() -> None:
    """The third red team: denied beyond the limit was told apart from allowed, and stood nowhere."""
    memory = Asynchronous(limits=limits_of(2))
    answers = await asyncio.gather(*(ask(memory) for _ in range(50)), return_exceptions=True)

    assert (len(memory.log), memory.decided, answers.count(None)) == (2, 2, 2)


async def test_what_is_allowed_is_not_too_much_however_much_is_asked_at_once() -> None:
    memory = Asynchronous(ALLOWED, limits=limits_of(2))

    assert all(await asyncio.gather(*(ask(memory) for _ in range(50))))


def a_grant() -> Grant:
    return Grant(
        consent="c",
        patient=PATIENT,
        grantee=CLINICIAN,
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


@pytest.mark.parametrize(("when", "code"), [("now", "consent-revoked"), ("later", "consent-over")])
async def test_a_repeated_grant_whose_consent_stands_no_more_is_not_answered_as_done(
    when: str, code: str
) -> None:
    """Case threat model, second attack: a repeated grant is 201 after its consent was revoked."""
    memory = Memory()
    granted = await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    at = NOW if when == "now" else granted.valid_until
    if when == "now":
        await execute(Revoke("c", PATIENT), actor=STEWARD, at=NOW, world=memory.world)
    with pytest.raises(Refusal, match=code) as refused:
        await grant(a_grant(), actor=STEWARD, at=at, repeatable=True, world=memory.world)

    assert (refused.value.status, "consent c was granted" in str(refused.value)) == (409, True)


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


async def test_a_repeated_key_with_another_start_is_another_consent() -> None:
    """Case security.md, low: the same Idempotency-Key with another `valid_from` answers 201."""
    memory = Memory()
    later = replace(a_grant(), valid_from=NOW + timedelta(hours=1))
    first = await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    unsaid = replace(a_grant(), valid_from=None)
    same = await grant(unsaid, actor=STEWARD, at=NOW + timedelta(1e-5), repeatable=True, world=memory.world)

    assert same == first
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await grant(later, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)


async def test_a_grant_from_now_is_not_found_done_by_one_that_has_not_begun() -> None:
    """Case A8, sibling: the same key, first with a start next month and then without one, answered 201."""
    memory = Memory()
    later = replace(a_grant(), valid_from=NOW + timedelta(hours=1))
    await grant(later, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    unsaid = replace(a_grant(), valid_from=None)
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await grant(unsaid, actor=STEWARD, at=NOW, repeatable=True, world=memory.world)


async def test_a_repeated_key_whose_consent_is_listed_no_longer_is_used_up() -> None:
    memory = Memory(taken=True)
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    with pytest.raises(NameTakenError):
        await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=False, world=memory.world)


async def test_a_token_is_meant_for_the_service_that_the_question_names() -> None:
    """Issue 13, section 2: any service acts by decisions of consent."""
    world = replace(
        Memory(ALLOWED).world, tokens=DecisionTokens(LocalSigner.from_seed(b"c" * 32), network="n")
    )
    meant = []
    for question in (QUESTION, replace(QUESTION, service="trials")):
        decision = await decide_access(question, statement=None, suffix="d", at=NOW, world=world)
        assert decision.token is not None
        meant.append(jwt.decode(decision.token, options={"verify_signature": False})["aud"])

    assert meant == ["salus:storage@n", "salus:trials@n"]
