"""What a policy leaves to a person waits as a case; what is approved is just what was asked, and ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.unit.consent.cases import NOW, PATIENT, opened
from tests.unit.consent.test_consents import HOSPITAL, KNOWN, OFFICER, PATIENT_HERSELF, STEWARD, refusal_of
from tests.unit.consent.test_handlers import CONSENT, WHO, Memory

from salus.access.cases import DECIDED_MAX
from salus.access.decisions import Question, Rule, Verdict
from salus.access.state import PatientState, evolve
from salus.consent.decision_handlers import Asked, Decision, decide_access, decide_many
from salus.consent.domain import cases as law
from salus.consent.domain.cases import DecideCase, visible_case
from salus.consent.domain.consents import decide
from salus.consent.handlers import execute
from salus.contracts.testing.faults import Fault
from salus.events.contexts.consent import AccessDecided
from salus.events.contexts.consent_oversight import CaseDecided, CaseOpened
from salus.events.parties import Party
from salus.events.patient_rights import APPROVED_HOURS_MAX
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

LEFT = Verdict(allowed=True, rules=(Rule("left", ("review-within-24h",), needs_person=True), Rule("open")))
PARTIES = (
    Party(WHO.did, "person", WHO.roles, HOSPITAL),
    Party(OFFICER.did, "person", OFFICER.roles, HOSPITAL),
)
QUESTION = Question(WHO, "read", "o", PATIENT, "TREAT")
HOUR = timedelta(hours=1)


def place(**more: Any) -> Memory:
    return Memory(LEFT, state=PatientState(consents=(CONSENT,)), parties=PARTIES, **more)


async def ask(memory: Memory, question: Question = QUESTION, **more: Any) -> Decision:
    asked = Asked(question, f"{next(memory.numbers):08x}", **more)
    return await decide_access(asked, statement=None, at=memory.now, world=memory.world)


async def judge(memory: Memory, case: str | None, outcome: Any = "approved") -> None:
    assert case is not None
    ground: Any = "needed" if outcome == "approved" else "not-needed"
    command = DecideCase(case, PATIENT, outcome, ground)
    await execute(command, actor=OFFICER, at=memory.now, world=memory.world)


async def test_what_is_left_to_a_person_waits_and_is_allowed_once_she_approved() -> None:
    memory = place()
    first = await ask(memory)
    again = await ask(memory)
    await judge(memory, first.answer.case)
    allowed = await ask(memory)

    assert (first.answer.allowed, first.answer.pending, first.token) == (False, True, None)
    assert first.answer.reasons == ("awaits-person", "left")
    assert first.answer.case == again.answer.case == first.id
    assert (allowed.answer.allowed, allowed.answer.case) == (True, first.id)
    assert allowed.token is not None
    assert [type(event) for event in memory.log] == [
        CaseOpened,
        AccessDecided,
        AccessDecided,
        CaseDecided,
        AccessDecided,
    ]
    assert [(e.pending, e.case) for e in memory.log if isinstance(e, AccessDecided)] == [
        (True, first.id),
        (True, first.id),
        (False, first.id),
    ]
    case = memory.log[0]
    assert isinstance(case, CaseOpened)
    assert (case.due, case.steward, case.principal) == (NOW + 24 * HOUR, HOSPITAL, WHO.did)


@pytest.mark.parametrize(
    "change",
    [{"object": "other"}, {"action": "write"}, {"purpose": "ETREAT"}],
    ids=lambda change: next(iter(change)),
)
async def test_what_was_approved_is_just_what_was_asked(change: dict[str, Any]) -> None:
    consent = msgspec.structs.replace(CONSENT, actions=("read", "write"))
    memory = Memory(LEFT, state=PatientState(consents=(consent,)), parties=PARTIES)
    first = await ask(memory)
    await judge(memory, first.answer.case)
    other = await ask(memory, replace(QUESTION, **change))

    assert (other.answer.allowed, other.answer.pending) == (False, True)
    assert other.answer.case != first.answer.case


async def test_nobody_else_uses_an_approval() -> None:
    colleague = replace(WHO, did=f"{WHO.did}:colleague")
    memory = Memory(
        LEFT,
        state=PatientState(
            consents=(CONSENT, msgspec.structs.replace(CONSENT, id="c2", grantee=colleague.did))
        ),
        parties=(*PARTIES, Party(colleague.did, "person", colleague.roles, HOSPITAL)),
    )
    await judge(memory, (await ask(memory)).answer.case)
    other = await ask(memory, replace(QUESTION, principal=colleague))

    assert (other.answer.allowed, other.answer.pending) == (False, True)


async def test_an_approval_ends_and_no_token_outlives_it() -> None:
    consent = msgspec.structs.replace(CONSENT, valid_until=NOW + 99 * HOUR)
    memory = Memory(LEFT, state=PatientState(consents=(consent,)), parties=PARTIES)
    await judge(memory, (await ask(memory)).answer.case)
    memory.now = NOW + APPROVED_HOURS_MAX * HOUR - timedelta(seconds=1)
    late = await ask(memory)
    memory.now += timedelta(seconds=1)
    over = await ask(memory)

    assert (late.answer.allowed, late.answer.valid_until) == (True, memory.now)
    assert (over.answer.allowed, over.answer.pending) == (False, True)
    assert over.answer.case != late.answer.case


async def test_a_consent_that_was_taken_back_meanwhile_wins_over_an_approval() -> None:
    memory = place()
    await judge(memory, (await ask(memory)).answer.case)
    revoked = msgspec.structs.replace(CONSENT, revoked_epoch=1)
    state = msgspec.structs.replace(memory.state, consents=(revoked,), epoch=1)
    denied = Memory(LEFT, state=state, parties=PARTIES)

    answer = (await ask(denied)).answer
    assert (answer.allowed, answer.pending, answer.reasons) == (False, False, ("no-basis",))


async def test_what_was_refused_waits_anew_if_it_is_asked_again() -> None:
    memory = place()
    first = await ask(memory)
    await judge(memory, first.answer.case, "rejected")
    again = await ask(memory)

    assert (again.answer.allowed, again.answer.pending) == (False, True)
    assert again.answer.case != first.answer.case


async def test_of_many_questions_none_opens_a_case_and_all_go_by_approvals() -> None:
    memory = place()

    async def many() -> list[Any]:
        asked = [Asked(QUESTION, f"{next(memory.numbers):08x}", item=item) for item in range(2)]
        return [found.answer for found in await decide_many(asked, at=NOW, world=memory.world)]  # type: ignore[union-attr]  # decided

    before = await many()
    opened_by = [event for event in memory.log if isinstance(event, CaseOpened)]
    await judge(memory, (await ask(memory)).answer.case)
    after = await many()

    assert [(a.allowed, a.pending, a.case) for a in before] == [(False, True, None)] * 2
    assert opened_by == []
    assert [a.allowed for a in after] == [True, True]


@pytest.mark.parametrize(
    ("faults", "stated"),
    [
        ([Fault.LOST], []),
        ([Fault.LATE], [CaseOpened]),
        ([None, Fault.LOST], [CaseOpened]),
        ([None, Fault.LATE], [CaseOpened, AccessDecided]),
    ],
)
async def test_a_crash_leaves_a_case_without_a_decision_and_never_the_other_way_round(
    faults: list[Fault | None], stated: list[type]
) -> None:
    memory = place(faults=faults)
    with pytest.raises(ProblemError):
        await ask(memory)
    again = await ask(memory)

    assert [type(event) for event in memory.log][: len(stated)] == stated
    assert len([event for event in memory.log if isinstance(event, CaseOpened)]) == 1
    assert again.answer.pending


async def test_a_key_whose_decision_was_lost_asks_again_after_its_case_was_rejected() -> None:
    # Case "409 name-taken for ever": the case has the decision's id, and was claimed.
    memory = place(faults=[None, Fault.LOST])
    asked = Asked(QUESTION, "0badc0de", repeatable=True)
    with pytest.raises(ProblemError):
        await decide_access(asked, statement=None, at=memory.now, world=memory.world)
    await judge(memory, asked.decision, "rejected")
    again = await decide_access(asked, statement=None, at=memory.now, world=memory.world)

    assert (again.id, again.answer.pending) == (asked.decision, True)
    assert again.answer.case not in {None, asked.decision}
    assert [one.outcome for one in memory.state.cases] == ["rejected", None]


# --- the law ------------------------------------------------------------------------------------------


def test_a_case_is_decided_once_with_a_ground_that_fits() -> None:
    state = evolve(PatientState(), opened())
    command = DecideCase("k", PATIENT, "approved", "needed")
    decided = evolve(state, decide(state, command, actor=OFFICER, subject=KNOWN, at=NOW))

    assert refusal_of(command, actor=OFFICER, state=decided) == "already-decided"
    assert refusal_of(replace(command, case="x"), actor=OFFICER, state=state) == "unknown-case"
    assert refusal_of(replace(command, ground="too-much"), actor=OFFICER, state=state) == "ground-differs"
    assert refusal_of(command, actor=STEWARD, state=state) == "not-permitted"
    assert refusal_of(command, actor=PATIENT_HERSELF, state=state) == "not-permitted"


def test_a_case_is_shown_to_whom_it_concerns() -> None:
    state = evolve(PatientState(dids=(PATIENT_HERSELF.did,)), opened(principal=WHO.did))

    for actor in (WHO, OFFICER, STEWARD, PATIENT_HERSELF):
        assert visible_case("k", actor, state, KNOWN).id == "k"
    with pytest.raises(Refusal, match="no such case"):
        visible_case("k", replace(WHO, did="did:web:h.example:other"), state, KNOWN)


@pytest.mark.parametrize("whose", ["own", "organisation", "all"])
def test_only_so_many_cases_wait(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("WAITING_MAX", 2), ("WAITING_OF_ORGANISATION_MAX", 3), ("WAITING_OF_PATIENT_MAX", 4)):
        monkeypatch.setattr(law, name, most)
    number = {"own": 2, "organisation": 3, "all": 4}[whose]
    state = PatientState()
    for n in range(number):
        who = "w" if whose == "own" else f"w{n}"
        member = None if whose == "all" else HOSPITAL
        one = opened(case=f"k{n}", principal=f"did:web:{who}", object=f"o{n}")
        one = msgspec.structs.replace(one, request=msgspec.structs.replace(one.request, behalf=member))
        law.require_room_for_case(state, one)
        state = evolve(state, one)
    last = opened(case="last", principal="did:web:w", object="last")
    last = msgspec.structs.replace(last, request=msgspec.structs.replace(last.request, behalf=HOSPITAL))

    with pytest.raises(Refusal, match="wait for a person"):
        law.require_room_for_case(state, last)


def test_decided_cases_are_listed_up_to_a_limit() -> None:
    state = PatientState()
    for n in range(DECIDED_MAX + 2):
        state = evolve(state, opened(case=f"k{n}"))
    for n in range(1, DECIDED_MAX + 2):
        command = DecideCase(f"k{n}", PATIENT, "rejected", "other")
        state = evolve(state, decide(state, command, actor=OFFICER, subject=KNOWN, at=NOW))

    listed = {case.id for case in state.cases}
    assert ("k0" in listed, "k1" in listed, len(listed)) == (True, False, DECIDED_MAX + 1)
