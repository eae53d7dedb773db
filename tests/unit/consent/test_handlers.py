"""The order of consent's effects, and what a write that was lost, or whose answer was lost, leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import jwt
import pytest
from tests.asking import NETWORK, UNASKED

from salus.access.actors import Asking
from salus.access.decisions import Inputs, Question, Rule, Verdict
from salus.access.state import (
    Consent,
    PatientState,
    SubjectState,
)
from salus.consent.adapters.folded import (
    DECISIONS,
    PATIENTS,
    POLICIES,
    POLICY_TEXTS,
    SUBJECTS,
    FoldedDecisions,
    FoldedFacts,
)
from salus.consent.adapters.folded_permits import PERMITS, FoldedPermits
from salus.consent.adapters.freshness import Freshness
from salus.consent.adapters.review_table import FoldedReviews
from salus.consent.adapters.tokens import DecisionTokens
from salus.consent.decision_handlers import Asked, decide_access
from salus.consent.domain.consents import Grant, Revoke
from salus.consent.domain.policies import Founding
from salus.consent.handlers import adopt_policies, execute, grant
from salus.consent.ports import Claims, Limits, Policies, World
from salus.contracts.contract import DECISIONS_MAX, Contract, NameTakenError
from salus.contracts.queues import Queues
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.memory import MemoryTopics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided, GlassBroken, PolicyFile
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.parties import KnownKey, Party
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
HOSPITAL, CLINICIAN, STRANGER = "did:web:h.example", "did:web:h.example:c", "did:web:x"
SERVICE = "did:web:c.example"
FOUNDING = Founding("b" * 64, "cedar", (PolicyFile("a.cedar", "text"),))
STEWARD = Asking(did=HOSPITAL, kind="member", roles=frozenset(), member=None, request=UNASKED)
WHO = Asking(did=CLINICIAN, kind="person", roles=frozenset({"clinician"}), member=HOSPITAL, request=UNASKED)
QUESTION = Question(WHO, "read", "o", PATIENT, "TREAT")
EMERGENCY = Question(WHO, "read", "o", PATIENT, "ETREAT", "other")
GLASS = Rule("break-glass", ("tell",), 300, breaks_glass=True)


def limits_of(burst: int) -> Limits:
    """Return limits of so many at once; the clock stands."""
    names = ("denials", "glass breaks", "commands", "revocations")
    return Limits(*(AccountLimit(name, Rate(burst, 1), clock=lambda: 0.0) for name in names))


PARTIES = (
    Party(CLINICIAN, "person", frozenset({"clinician"}), HOSPITAL),
    Party(HOSPITAL, "member", frozenset(), None),
    Party(STRANGER, "member", frozenset(), None),
)


class Memory:
    """Consent over topics in memory, with policies that say what a test wants."""

    def __init__(  # what a test begins with
        self,
        verdict: Verdict = Verdict(allowed=False),  # noqa: B008  # frozen
        *,
        faults: Iterable[Fault | None] = (),
        state: PatientState | None = None,
        subject: SubjectState = SubjectState(HOSPITAL),  # noqa: B008  # frozen
        parties: Iterable[Party] = PARTIES,
        limits: Limits | None = None,
    ) -> None:
        self.verdict = verdict
        self.limits = limits or limits_of(9)
        self.digest = "a" * 64
        self.decided = 0
        # Of the decisions that are asked for.
        self.numbers = count()
        self.keys: dict[str, KnownKey] = {}
        self.now = NOW
        self.parties = {party.did: party for party in parties}
        contracts: list[Contract[Any]] = [PATIENTS, SUBJECTS, DECISIONS, PERMITS]
        self.topics = MemoryTopics(contracts, catalogue=CATALOGUE, faults=faults)
        if state is not None:
            self.topics.put(PATIENTS, PATIENT, state)
        self.topics.put(SUBJECTS, PATIENT, subject)
        replica = self.topics.replica()
        self.host = replica.host(PATIENTS)
        self.world = World(
            patients=self.host,
            facts=FoldedFacts(replica, replica, service=SERVICE),
            decisions=FoldedDecisions(replica, replica),
            reviews=FoldedReviews(replica, replica),
            permits=replica.host(PERMITS),
            permit_source=FoldedPermits(replica, replica),
            freshness=Freshness(age_s_max=60, clock=time.monotonic),
            statements=replica.writer,
            policies=self,
            policy_states=replica.host(POLICIES),
            policy_texts=replica.host(POLICY_TEXTS),
            service=SERVICE,
            tokens=self,
            ring=self,
            limits=self.limits,
            queues=Queues(),
            now=lambda: self.now,
        )

    @property
    def log(self) -> list[EventData]:
        return self.topics.applied

    @property
    def state(self) -> PatientState:
        return self.topics.state(PATIENTS, PATIENT)

    async def of(self, _: str) -> Policies:
        return self

    def evaluate(self, _: Inputs) -> Verdict:
        self.decided += 1
        return self.verdict

    def words(self, reasons: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"Because of {reason}." for reason in reasons)

    def make(self, claims: Claims) -> str:
        return f"token for {claims.decision}"

    async def catch_up(self) -> KeyRing:
        return KeyRing(CATALOGUE, NETWORK, parties=dict(self.parties), keys=dict(self.keys))


ALLOWED = Verdict(allowed=True, rules=(Rule("open"),))
CONSENT = Consent(
    "c", CLINICIAN, ("read",), ("TREAT", "ETREAT"), NOW - timedelta(hours=1), NOW + timedelta(hours=1)
)
CONSENTED = PatientState(consents=(CONSENT,))
BROKEN = Verdict(allowed=True, rules=(GLASS,))


async def ask(memory: Memory, question: Question = QUESTION) -> str | None:
    suffix = f"{next(memory.numbers):020x}"
    decision = await decide_access(Asked(question, suffix), statement=None, at=NOW, world=memory.world)
    return decision.token


async def test_an_allowed_access_is_an_event_and_a_token() -> None:
    memory = Memory(ALLOWED, state=CONSENTED)

    assert await ask(memory) == f"token for {PATIENT.removeprefix('urn:uuid:')}.{'0' * 20}"
    assert [type(event) for event in memory.log] == [AccessDecided]


async def test_a_denied_access_is_an_event_and_no_token() -> None:
    memory = Memory()

    assert await ask(memory) is None
    assert [type(event) for event in memory.log] == [AccessDecided]


@pytest.mark.parametrize(("fault", "events"), [(Fault.LOST, 0), (Fault.LATE, 1), (Fault.REFUSED, 0)])
async def test_nobody_gets_a_token_for_a_decision_that_may_not_be_on_the_topic(
    fault: Fault, events: int
) -> None:
    memory = Memory(ALLOWED, state=CONSENTED, faults=[fault])
    with pytest.raises(ProblemError, match=r"outcome-unknown|not-accepted"):
        await ask(memory)
    memory.topics.arrive()

    assert len(memory.log) == events


@pytest.mark.parametrize(
    ("faults", "left"),
    [
        ([Fault.LOST], []),
        ([Fault.LATE], [GlassBroken]),
        ([None, Fault.LOST], [GlassBroken]),
        ([None, Fault.LATE], [GlassBroken, AccessDecided]),
        ([], [GlassBroken, AccessDecided]),
    ],
)
async def test_there_is_never_an_emergency_access_without_its_alarm(
    faults: list[Fault | None], left: list[type[EventData]]
) -> None:
    memory = Memory(BROKEN, faults=list(faults))
    if faults:
        with pytest.raises(ProblemError, match="outcome-unknown"):
            await ask(memory, EMERGENCY)
    else:
        assert await ask(memory, EMERGENCY)

    memory.topics.arrive()
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
    memory = Memory(ALLOWED, state=CONSENTED, limits=limits_of(1))
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


async def test_nothing_is_decided_that_could_not_be_recorded_though_many_ask_at_once() -> None:
    """The third red team: denied beyond the limit was told apart from allowed, and stood nowhere."""
    memory = Memory(limits=limits_of(2))
    answers = await asyncio.gather(*(ask(memory) for _ in range(50)), return_exceptions=True)

    assert (len(memory.log), memory.decided, answers.count(None)) == (2, 2, 2)


async def test_what_is_allowed_is_not_too_much_however_much_is_asked_at_once() -> None:
    memory = Memory(ALLOWED, state=CONSENTED, limits=limits_of(2))

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
    memory = Memory(faults=[Fault.LATE])

    async def run() -> Consent:
        return await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)

    with pytest.raises(ProblemError, match="outcome-unknown"):
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


async def test_a_policy_set_is_adopted_once_although_others_were_first() -> None:
    topics = MemoryTopics([POLICIES], catalogue=CATALOGUE, faults=2 * DECISIONS_MAX * [Fault.STALE])
    host = topics.host(POLICIES)
    first = await adopt_policies(FOUNDING, service=SERVICE, host=host)
    second = await adopt_policies(FOUNDING, service=SERVICE, host=host)

    assert (first, second) == (True, False)
    assert len(topics.applied) == 1


async def test_of_replicas_that_start_at_once_one_adopts_the_policy_set() -> None:
    topics = MemoryTopics([POLICIES], catalogue=CATALOGUE)
    hosts = [topics.host(POLICIES) for _ in range(3)]
    adopted = await asyncio.gather(*(adopt_policies(FOUNDING, service=SERVICE, host=host) for host in hosts))

    assert (sorted(adopted), len(topics.applied)) == ([False, False, True], 1)


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
    memory = Memory(faults=2 * [Fault.NAME_TAKEN])
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=memory.world)
    with pytest.raises(NameTakenError):
        await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=False, world=memory.world)


async def test_a_token_is_meant_for_the_service_that_the_question_names() -> None:
    """Issue 13, section 2: any service acts by decisions of consent."""
    world = replace(
        Memory(ALLOWED, state=CONSENTED).world,
        tokens=DecisionTokens(LocalSigner.from_seed(b"c" * 32), network="n"),
    )
    meant = []
    for question in (QUESTION, replace(QUESTION, service="trials")):
        decision = await decide_access(Asked(question, "d"), statement=None, at=NOW, world=world)
        assert decision.token is not None
        meant.append(jwt.decode(decision.token, options={"verify_signature": False})["aud"])

    assert meant == ["salus:storage@n", "salus:trials@n"]
