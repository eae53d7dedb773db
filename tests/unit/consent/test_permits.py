"""Permits for research: their law, how uses are counted by many replicas, and what the API says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from tests.asking import UNASKED, FixedCallers
from tests.effort import tries
from tests.unit.consent.permits import (
    ACTORS,
    DAY,
    NOW,
    OFFICER,
    OPERATOR,
    OWNER,
    PARTIES,
    PARTY,
    PERMIT,
    RESEARCHER,
    REVIEWER,
    STRANGER,
    UNIVERSITY,
    a_proposal,
    asked,
    granted,
    proposed,
)
from tests.unit.consent.test_handlers import PATIENT, Memory, limits_of

from salus.access.permits import WORDS, Permit, Reason, evolve_permit, reasons_against
from salus.access.prohibitions import Prohibition
from salus.access.state import PatientState, SubjectState
from salus.consent import permits_api
from salus.consent.adapters.folded_permits import PERMITS, FoldedPermits
from salus.consent.api import Api
from salus.consent.domain.permits import (
    Approve,
    Ask,
    Propose,
    Withdraw,
    approve,
    decide,
    propose,
    use,
    withdraw,
)
from salus.consent.permit_handlers import Usage, execute_permit, propose_permit, use_permit
from salus.consent.ports import World
from salus.contracts.testing.domain_laws import DomainLaws
from salus.contracts.testing.faults import CrashError, Fault
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent_permits import (
    PermitGranted,
    PermitUsed,
    PermitUseDenied,
    PermitWithdrawn,
)
from salus.events.event_types import EventData
from salus.events.permit_rights import AHEAD_DAYS_MAX, PERIOD_DAYS_MAX
from salus.runtime import problems
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

DIDS = st.sampled_from([OWNER, UNIVERSITY, RESEARCHER, REVIEWER])
SECOND = timedelta(seconds=1)


class TestPermits(DomainLaws):
    """What every domain has to keep, and that decided uses are never more than the permit has."""

    contract, catalogue, aggregate = PERMITS, CATALOGUE, PERMIT
    fields: ClassVar = {
        "permit": st.just(PERMIT),
        "use": st.integers(0, 4).map(lambda number: f"{number:020x}"),
        "data_set": st.sampled_from(["cohort-1", "cohort-2"]),
        "uses_max": st.integers(1, 3),
        "owner": st.just(OWNER),
        "recipient": st.just(RESEARCHER),
        "proposer": st.just(UNIVERSITY),
        "recipient_party": st.just(PARTY[RESEARCHER]),
        "owner_party": st.just(PARTY[OWNER]),
    }
    commands = st.one_of(
        st.builds(a_proposal, uses_max=st.integers(1, 3)),
        st.sampled_from([Approve(PERMIT, "0" * 64), Approve(PERMIT, "")]),
        st.just(Withdraw(PERMIT, "other")),
        st.builds(asked, st.integers(0, 4)),
    )
    facts = st.sampled_from([ACTORS[did] for did in (UNIVERSITY, REVIEWER, RESEARCHER, STRANGER)])

    def decide(self, state: Permit, command: Any, actor: Any) -> EventData:
        if isinstance(command, Ask):
            question = replace(command.question, principal=actor)
            event = use(state, replace(command, question=question), actor=actor, at=NOW)
            if isinstance(event, PermitUseDenied):
                raise Refusal(event.reasons[0], "denied")
            return event
        if isinstance(command, Approve) and not command.terms and state.terms is not None:
            command = Approve(PERMIT, state.terms.digest)
        return decide(state, command, actor=actor, at=NOW)

    def event_invariants(self, state: Permit) -> None:
        assert len(state.uses) <= state.used
        assert state.used == 0 or state.approver is not None

    def invariants(self, state: Permit) -> None:
        assert state.terms is not None
        assert state.used <= state.terms.uses_max


@pytest.mark.parametrize(
    ("permit", "changes", "at", "reason"),
    [
        (granted(), {"purpose": "PUBHLTH"}, NOW, "another-purpose"),
        (granted(), {"data_set": "cohort-2"}, NOW, "another-data-set"),
        (granted(), {"owner": UNIVERSITY}, NOW, "another-data-set"),
        (granted(), {}, NOW - SECOND, "permit-not-begun"),
        (granted(), {}, NOW + DAY, "permit-over"),
        (proposed(), {}, NOW, "permit-not-granted"),
        (granted(), {"barred": "patient-forbids"}, NOW, "patient-forbids"),
        (granted(), {"principal": ACTORS[STRANGER]}, NOW, "not-recipient"),
        (Permit(), {}, NOW, "not-recipient"),
    ],
)
def test_a_use_is_denied_for_each_thing_that_is_not_as_permitted(
    permit: Permit, changes: Any, at: datetime, reason: Reason
) -> None:
    assert reasons_against(granted(), asked().question, at=NOW + DAY - timedelta(microseconds=1)) == ()
    assert reasons_against(permit, asked(**changes).question, at=at) == (reason,)
    assert reason in WORDS


def test_what_a_patient_forbids_goes_before_all_that_a_permit_says() -> None:
    question = asked(barred="patient-forbids", purpose="PUBHLTH").question

    assert reasons_against(proposed(), question, at=NOW + DAY) == (
        "patient-forbids",
        "another-purpose",
        "permit-not-granted",
        "permit-over",
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipient_party": None}, "unknown-recipient"),
        ({"recipient_party": PARTY[STRANGER]}, "unknown-recipient"),
        ({"recipient_party": replace(PARTY[RESEARCHER], roles=frozenset())}, "unknown-recipient"),
        ({"owner_party": None}, "unknown-owner"),
        ({"owner_party": PARTY[OFFICER]}, "unknown-owner"),
        ({"valid_until": NOW}, "invalid-period"),
        ({"valid_from": NOW + DAY}, "invalid-period"),
        ({"valid_until": NOW + timedelta(days=PERIOD_DAYS_MAX) + SECOND}, "invalid-period"),
        (
            {
                "valid_from": NOW + timedelta(days=AHEAD_DAYS_MAX) + SECOND,
                "valid_until": NOW + timedelta(days=AHEAD_DAYS_MAX + 1),
            },
            "invalid-period",
        ),
    ],
)
def test_a_proposal_that_could_not_be_meant_is_refused(changes: Any, code: str) -> None:
    with pytest.raises(Refusal, match=code) as refused:
        propose(Permit(), a_proposal(**changes), actor=ACTORS[UNIVERSITY], at=NOW)

    assert refused.value.status == 422
    assert refused.value.sentence.partition(":")[0] in {"recipient", "owner", "valid_from", "valid_until"}


def test_a_permit_is_granted_and_withdrawn_once_and_by_its_terms() -> None:
    terms = proposed().terms
    assert terms is not None
    right = Approve(PERMIT, terms.digest)
    gone = evolve_permit(granted(), PermitWithdrawn(permit=PERMIT, ground="misused", request=UNASKED))
    for permit, command, at, code in (
        (proposed(), Approve(PERMIT, "0" * 64), NOW, "terms-differ"),
        (granted(), right, NOW, "already-granted"),
        (gone, right, NOW, "permit-withdrawn"),
        (proposed(), right, NOW + DAY, "permit-over"),
    ):
        with pytest.raises(Refusal, match=code):
            approve(permit, command, actor=ACTORS[REVIEWER], at=at)
    with pytest.raises(Refusal, match="permit-withdrawn"):
        withdraw(gone, Withdraw(PERMIT, "other"), actor=ACTORS[OWNER])

    assert reasons_against(gone, asked().question, at=NOW) == ("permit-withdrawn",)


def test_every_term_is_in_the_digest_and_no_other_grant_is_folded() -> None:
    terms = granted().terms
    assert terms is not None
    changes: dict[str, Any] = {
        **dict.fromkeys(("owner", "data_set", "proposer", "recipient", "purpose"), "did:web:y.example"),
        **dict.fromkeys(("valid_from", "valid_until"), NOW + 2 * DAY),
        "uses_max": 4,
    }
    others = {structs.replace(terms, **{name: value}).digest for name, value in changes.items()}
    forged = PermitGranted(permit=PERMIT, terms=min(others), request=UNASKED)

    assert len(others - {terms.digest}) == 8
    assert evolve_permit(proposed(), forged) == proposed()


# --- with topics ------------------------------------------------------------------------------------


def town(**chosen: Any) -> Memory:
    memory = Memory(parties=PARTIES, subject=SubjectState(OWNER), **{"limits": limits_of(99), **chosen})
    memory.now = NOW
    return memory


async def put(memory: Memory, permit: Permit) -> None:
    """Let a permit be on the topic, as far as it came."""
    memory.topics.put(PERMITS, PERMIT, permit)


async def ask(memory: Memory, number: int = 1, *, by: str = RESEARCHER, **changes: Any) -> Usage:
    repeatable = changes.pop("repeatable", False)
    question = asked(number, by=by, **changes)
    return await use_permit(
        question, actor=ACTORS[by], at=memory.now, repeatable=repeatable, world=memory.world
    )


def replica_of(memory: Memory) -> World:
    """Return what another process of consent uses."""
    replica = memory.topics.replica()
    permits, source = replica.host(PERMITS), FoldedPermits(replica, replica)
    return replace(memory.world, permits=permits, permit_source=source, statements=replica.writer)


_uses = st.tuples(
    st.integers(0, 2),
    st.sampled_from([RESEARCHER, RESEARCHER, RESEARCHER, STRANGER, UNIVERSITY]),
    st.sampled_from(["HRESCH", "HRESCH", "HRESCH", "PUBHLTH"]),
)
# A withdrawal and a denial claim no name that another event could take.
FAULTS = [None, None, *(fault for fault in Fault if fault is not Fault.NAME_TAKEN)]
_steps = st.one_of(
    st.lists(_uses, min_size=1, max_size=4),
    st.integers(1, 8).map(lambda hours: timedelta(hours=hours)),
    st.just("withdraw"),
)


@settings(max_examples=tries(40, long=2000))
@given(
    steps=st.lists(_steps, max_size=8),
    faults=st.lists(st.sampled_from(FAULTS), max_size=4),
    uses_max=st.integers(1, 4),
)
def test_no_interleaving_uses_a_permit_more_often_or_otherwise_than_it_says(
    steps: list[Any], faults: list[Fault | None], uses_max: int
) -> None:
    """Three replicas are asked at once, by whomever, for whatever, while time goes on and faults happen."""
    memory = town(faults=faults)
    world = memory.world
    worlds = [replica_of(memory) for _ in range(3)]
    memory.topics.put(PERMITS, PERMIT, granted(uses_max=uses_max))

    async def run() -> None:
        number = 0
        for step in steps:
            if isinstance(step, timedelta):
                memory.now += step
            elif step == "withdraw":
                command = Withdraw(PERMIT, "other")
                await asyncio.gather(
                    execute_permit(command, actor=ACTORS[OPERATOR], at=memory.now, world=world),
                    return_exceptions=True,
                )
            else:
                questions = []
                for replica, by, purpose in step:
                    number += 1
                    questions.append(
                        use_permit(
                            asked(number, by=by, purpose=purpose),
                            actor=ACTORS[by],
                            at=memory.now,
                            repeatable=False,
                            world=worlds[replica],
                        )
                    )
                answers = await asyncio.gather(*questions, return_exceptions=True)
                allowed.extend(one for one in answers if isinstance(one, Usage) and one.use is not None)
                assert all(isinstance(one, Usage | ProblemError | Refusal | CrashError) for one in answers)
        memory.topics.arrive()

    allowed: list[Usage] = []
    asyncio.run(run())
    used = [event for event in memory.log if isinstance(event, PermitUsed)]

    assert [event.number for event in used] == [*range(1, len(used) + 1)]
    assert len(used) <= uses_max
    assert {one.use.id for one in allowed if one.use} <= {event.use for event in used}
    for event in used:
        assert NOW <= event.used_at < NOW + DAY
        assert (event.principal, event.purpose) == (RESEARCHER, "HRESCH")
    kinds = [type(event) for event in memory.log]
    if PermitWithdrawn in kinds:
        assert PermitUsed not in kinds[kinds.index(PermitWithdrawn) :]


async def test_of_those_that_ask_for_the_last_use_at_once_one_gets_it() -> None:
    memory = town()
    await put(memory, granted(uses_max=1))
    worlds = [replica_of(memory) for _ in range(4)]
    answers = await asyncio.gather(
        *(
            use_permit(asked(n), actor=ACTORS[RESEARCHER], at=NOW, repeatable=False, world=world)
            for n, world in enumerate(worlds)
        )
    )

    assert sorted(answer.reasons for answer in answers) == [(), *3 * [("permit-used-up",)]]
    # The denials are on the topic, too.
    assert [type(event) for event in memory.log].count(PermitUseDenied) == 3


@pytest.mark.parametrize(("fault", "events"), [(Fault.LOST, 0), (Fault.LATE, 1), (Fault.REFUSED, 0)])
async def test_nobody_may_use_what_may_not_be_counted_and_a_repetition_counts_once(
    fault: Fault, events: int
) -> None:
    memory = town(faults=[fault])
    await put(memory, granted())
    with pytest.raises(ProblemError, match=r"outcome-unknown|not-accepted"):
        await ask(memory, repeatable=True)
    memory.topics.arrive()
    assert len(memory.log) == events
    first, again = await ask(memory, repeatable=True), await ask(memory, repeatable=True)

    assert first.use == again.use is not None
    assert memory.topics.state(PERMITS, PERMIT).used == 1
    with pytest.raises(Refusal, match="already-used"):
        await ask(memory)


async def test_a_use_that_is_asked_for_again_is_answered_only_as_long_as_it_would_be_allowed() -> None:
    memory = town()
    await put(memory, granted(uses_max=1))
    await ask(memory, repeatable=True)
    assert (await ask(memory, repeatable=True)).use is not None
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await ask(memory, repeatable=True, patient=PATIENT)
    memory.now = NOW + DAY
    with pytest.raises(Refusal, match="decision-over"):
        await ask(memory, repeatable=True)


@pytest.mark.parametrize(
    ("state", "subject", "reason"),
    [
        (PatientState(), SubjectState(OWNER), None),
        (PatientState(), SubjectState(OWNER, erased=True), "patient-erased"),
        (PatientState(), SubjectState(), "patient-unknown"),
        *(
            (
                PatientState(prohibitions=(prohibition,)),
                SubjectState(OWNER),
                reason,
            )
            for prohibition, reason in (
                (Prohibition("p", NOW - DAY), "patient-forbids"),
                (Prohibition("p", NOW - DAY, RESEARCHER), "patient-forbids"),
                (Prohibition("p", NOW - DAY, UNIVERSITY, ("read",), ("HRESCH",)), "patient-forbids"),
                (Prohibition("p", NOW - DAY, UNIVERSITY, ("write",)), None),
                (Prohibition("p", NOW - DAY, UNIVERSITY, (), ("TREAT",)), None),
                (Prohibition("p", NOW - DAY, UNIVERSITY, role="researcher"), "patient-forbids"),
                (Prohibition("p", NOW - DAY, UNIVERSITY, role="clinician"), None),
                (Prohibition("p", NOW - DAY, STRANGER), None),
                (Prohibition("p", NOW + DAY), None),
            )
        ),
    ],
)
async def test_a_use_about_a_patient_goes_by_what_she_forbids(
    state: PatientState, subject: SubjectState, reason: str | None
) -> None:
    memory = Memory(parties=PARTIES, subject=subject, state=state, limits=limits_of(9))
    memory.now = NOW
    await put(memory, granted())
    answer = await ask(memory, patient=PATIENT)

    assert answer.reasons == (() if reason is None else (reason,))
    # Of a use that names nobody it is not asked: the data set's owner looks to that.
    assert (await ask(memory, 2)).use is not None
    [event, _] = memory.log
    assert getattr(event, "patient", None) == PATIENT


async def test_an_account_is_denied_only_so_often_and_nothing_more_is_recorded() -> None:
    memory = town(limits=limits_of(2))
    await put(memory, granted())
    for number in (1, 2):
        assert (await ask(memory, number, by=STRANGER)).reasons == ("not-recipient",)
    with pytest.raises(ProblemError, match="too-many-requests"):
        await ask(memory, 3, by=STRANGER)

    assert len(memory.log) == 2
    assert (await ask(memory)).use is not None
    with pytest.raises(Refusal, match="unknown-permit"):
        await use_permit(
            replace(asked(), permit=f"permit-{'9' * 20}"),
            actor=ACTORS[RESEARCHER],
            at=NOW,
            repeatable=False,
            world=memory.world,
        )


async def test_who_has_lost_the_role_uses_and_approves_nothing() -> None:
    memory = town()
    await put(memory, granted())
    memory.parties[RESEARCHER] = replace(memory.parties[RESEARCHER], roles=frozenset())
    memory.parties[REVIEWER] = replace(memory.parties[REVIEWER], member=UNIVERSITY)

    assert (await ask(memory)).reasons == ("not-recipient",)
    with pytest.raises(Refusal, match="unknown-permit"):
        await execute_permit(Withdraw(PERMIT, "other"), actor=ACTORS[REVIEWER], at=NOW, world=memory.world)


async def test_a_proposal_that_is_made_again_is_found_unless_it_is_another_one() -> None:
    memory = town(faults=[Fault.LATE])

    async def run(command: Propose, *, repeatable: bool = True) -> Permit:
        return await propose_permit(
            command, actor=ACTORS[UNIVERSITY], at=NOW, repeatable=repeatable, world=memory.world
        )

    with pytest.raises(ProblemError, match="outcome-unknown"):
        await run(a_proposal())
    found = await run(a_proposal())

    assert found.status == "proposed"
    assert len(memory.log) == 1
    with pytest.raises(Refusal, match="permit-exists"):
        await run(a_proposal(), repeatable=False)
    with pytest.raises(Refusal, match="idempotency-key-reused"):
        await run(a_proposal(uses_max=4))


# --- over HTTP --------------------------------------------------------------------------------------


async def test_a_permit_is_proposed_approved_used_and_withdrawn_over_http() -> None:
    memory = town()
    api = Api(
        world=memory.world,
        authenticate=FixedCallers(lambda request: PARTY[request.headers["who"]]),
        now=lambda: memory.now,
    )
    app = FastAPI()
    problems.install(app)
    app.include_router(permits_api.routes(api))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    async with httpx.AsyncClient(transport=transport, base_url="http://consent") as http:

        async def call(who: str, method: str, path: str, **body: Any) -> httpx.Response:
            return await http.request(method, path, json=body or None, headers={"who": who})

        body = {"owner": OWNER, "data_set": "cohort-1", "recipient": RESEARCHER, "purpose": "HRESCH"}
        until = (NOW + DAY).isoformat()
        made = await call(UNIVERSITY, "POST", "/permits", **body, valid_until=until, uses_max=1)
        view = made.json()
        path = f"/permits/{view['permit']}"
        usage = {"owner": OWNER, "data_set": "cohort-1", "purpose": "HRESCH"}
        early = (await call(RESEARCHER, "POST", f"{path}/uses", **usage)).json()
        own = await call(UNIVERSITY, "POST", f"{path}/approve", terms=view["terms"])
        approved = await call(REVIEWER, "POST", f"{path}/approve", terms=view["terms"])
        used = (await call(RESEARCHER, "POST", f"{path}/uses", **usage)).json()
        more = (await call(RESEARCHER, "POST", f"{path}/uses", **usage)).json()
        listed = {
            who: [one["standing"] for one in (await call(who, "GET", "/permits")).json()["permits"]]
            for who in (RESEARCHER, UNIVERSITY, OWNER, OFFICER, REVIEWER, OPERATOR, STRANGER)
        }
        waiting = (await call(REVIEWER, "GET", "/permits?status=proposed")).json()["permits"]
        hidden = await call(STRANGER, "GET", path)
        gone = (await call(OFFICER, "POST", f"{path}/withdraw", ground="data-withdrawn")).json()
        wrong = []
        for change in ({"purpose": "TREAT"}, {"data_set": "Jane Roe"}, {"uses_max": 0}, {"note": "x"}):
            told = body | {"valid_until": until, "uses_max": 1} | change
            wrong.append((await call(UNIVERSITY, "POST", "/permits", **told)).status_code)

    assert (made.status_code, view["standing"], view["used"]) == (201, "proposed", 0)
    assert (early["allowed"], early["reasons"]) == (False, ["permit-not-granted"])
    assert (own.status_code, own.json()["code"]) == (403, "not-permitted")
    assert (approved.status_code, approved.json()["standing"]) == (200, "granted")
    assert (used["allowed"], used["number"], used["left"]) == (True, 1, 0)
    assert (more["allowed"], more["reasons"], more["use"]) == (False, ["permit-used-up"], None)
    assert more["explanation"] == [WORDS["permit-used-up"]]
    assert listed.pop(STRANGER) == []
    assert all(standings == ["used-up"] for standings in listed.values())
    assert waiting == []
    assert (hidden.status_code, hidden.json()["code"]) == (404, "unknown-permit")
    assert (gone["standing"], gone["ground"]) == ("withdrawn", "data-withdrawn")
    assert wrong == [422] * 4
