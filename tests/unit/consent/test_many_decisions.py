"""Many questions in one request, ours and AuthZEN's: what is answered, stated, counted and repeated."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from msgspec import structs
from tests.asking import FixedCallers
from tests.unit.consent.test_handlers import CLINICIAN, CONSENTED, HOSPITAL, PATIENT, Memory, limits_of

from salus.access.decisions import NO_POLICY_PERMITS, Inputs, Rule, Verdict
from salus.consent import api, authzen_api, decision_api
from salus.consent.adapters.freshness import Freshness
from salus.contracts.testing.faults import Fault
from salus.events.contexts.consent import AccessDecided
from salus.events.effect import claims_of, request_claim
from salus.events.envelope import Event
from salus.events.event_types import type_of
from salus.events.parties import Party
from salus.events.requests import SIGNED, Request
from salus.runtime import problems
from salus.runtime.auth import Caller
from salus.runtime.bodies import guard_bodies
from salus.runtime.problems import ProblemError
from salus.runtime.request_lanes import install_lanes

OPEN, CLOSED = Verdict(allowed=True, rules=(Rule("open"),)), Verdict(allowed=False)
LEFT = Verdict(allowed=True, rules=(Rule("left", needs_person=True),))
KEY = {"Idempotency-Key": "key-of-a-batch"}


class Town(Memory):
    """Consent that lets read what is called `yes…`, and leaves `left…` to a person, with its routes."""

    def __init__(self, *, faults: Any = (), denials: int = 60, questions_max: int = 20) -> None:
        super().__init__(faults=faults, limits=limits_of(denials), state=CONSENTED)
        self.charged: list[int] = []
        callers = Callers(self)
        shared = api.Api(world=self.world, authenticate=callers, now=lambda: self.now)
        self.deciding = deciding = decision_api.DecisionApi(shared, questions_max=questions_max)
        self.app = FastAPI()
        problems.install(self.app)
        self.app.include_router(decision_api.routes(deciding))
        authzen_api.install(self.app, deciding, public_url="https://consent.example")
        install_lanes(self.app, {**decision_api.lanes(deciding), **authzen_api.lanes(deciding)})

    def evaluate(self, inputs: Inputs) -> Verdict:
        self.decided += 1
        if inputs.resource["id"].startswith("left"):
            return LEFT
        return OPEN if inputs.resource["id"].startswith("yes") else CLOSED

    async def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
            return await client.post(path, json=body, headers=headers)

    async def batch(self, *objects: str, **headers: str) -> httpx.Response:
        return await self.post("/decisions/batch", batch_of(*objects), **headers)

    @property
    def stated(self) -> list[AccessDecided]:
        return [event for event in self.log if isinstance(event, AccessDecided)]


class Callers(FixedCallers):
    """The clinician; what she is charged for is remembered."""

    def __init__(self, town: Town) -> None:
        super().__init__(lambda _: town.parties[CLINICIAN])
        self._town = town

    def charge_parts(self, caller: Caller, *, number: int, size: int) -> None:
        assert caller.party.did == CLINICIAN
        assert size > 0
        self._town.charged.append(number)


def batch_of(*objects: str, patient: str = PATIENT) -> dict[str, Any]:
    asked = {"action": "read", "patient": patient, "purpose": "TREAT"}
    return {"questions": [{**asked, "object": name} for name in objects]}


async def test_each_question_is_answered_in_its_place_and_is_an_event_of_its_own() -> None:
    town = Town()
    answer = await town.batch("yes-1", "no-1", "yes-2")
    items = answer.json()["items"]

    assert answer.status_code == 200
    assert [item["outcome"] for item in items] == ["applied"] * 3
    assert [item["decision"]["allowed"] for item in items] == [True, False, True]
    assert [item["decision"]["token"] is not None for item in items] == [True, False, True]
    assert items[0]["decision"]["explanation"] == ["Because of open."]
    assert items[1]["decision"]["reasons"] == [NO_POLICY_PERMITS]
    assert [event.decision for event in town.stated] == [item["decision"]["decision"] for item in items]
    assert [(event.item, event.object, event.repeatable) for event in town.stated] == [
        (0, "yes-1", False),
        (1, "no-1", False),
        (2, "yes-2", False),
    ]
    assert town.charged == [3]


# issue 14, Consent 4
@pytest.mark.parametrize("headers", [{}, KEY], ids=["lane", "route"])
async def test_a_batch_waits_for_its_turn_before_anything_is_looked_up_and_one_question_passes_it(
    headers: dict[str, str],
) -> None:
    town, others_key = Town(), {name: f"{key}-2" for name, key in headers.items()}
    # Lanes take the bodies that were looked at.
    guard_bodies(town.app, streams=())
    evaluations = {**evaluation(), "evaluations": resources("yes-1", "no-1")}
    async with AsyncExitStack() as others:
        for _ in range(town.deciding.turns.at_once):
            await others.enter_async_context(town.deciding.turns.turn())
        batches = [
            asyncio.create_task(town.batch("yes-1", "yes-2", **headers)),
            asyncio.create_task(town.post("/access/v1/evaluations", evaluations, **others_key)),
        ]
        async with asyncio.timeout(60):
            single = await town.post("/decisions", batch_of("yes-1")["questions"][0])

        assert single.status_code == 200
        assert not any(batch.done() for batch in batches)
        assert (town.charged, town.decided, len(town.stated)) == ([], 1, 1)

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*batches)

    assert [answer.status_code for answer in answers] == [200, 200]
    assert town.charged == [2, 2]


async def test_a_request_has_only_so_many_questions_and_the_error_says_how_many() -> None:
    town = Town(questions_max=2)
    answer = await town.batch("yes-1", "yes-2", "yes-3")

    assert (answer.status_code, answer.json()["code"]) == (422, "too-many-questions")
    assert answer.json()["detail"] == "questions: at most 2 in one request"
    assert town.stated == []


@pytest.mark.parametrize("questions", [[], [{"object": "yes"}], [{**batch_of("y")["questions"][0], "x": 1}]])
async def test_questions_that_do_not_fit_are_refused(questions: list[Any]) -> None:
    town = Town()
    answer = await town.post("/decisions/batch", {"questions": questions})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert town.stated == []


async def test_each_denial_of_a_batch_counts_and_too_many_are_refused_before_anything_is_stated() -> None:
    town = Town(denials=3)
    assert (await town.batch("no-1", "yes-1", "no-2")).status_code == 200
    refused = await town.batch("no-3", "no-4")

    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert len(town.stated) == 3
    assert (await town.batch("yes-2")).status_code == 200


@pytest.mark.parametrize(
    ("faults", "outcomes", "status", "code"),
    [
        ([None, Fault.LOST, None], ["applied", "unknown", "applied"], 503, "batch-incomplete"),
        ([Fault.LOST, Fault.LOST, Fault.LOST], None, 503, "outcome-unknown"),
    ],
)
async def test_a_mixed_batch_is_no_success_and_says_what_became_of_each(
    faults: list[Fault | None], outcomes: list[str] | None, status: int, code: str
) -> None:
    town = Town(faults=faults)
    answer = await town.batch("yes-1", "yes-2", "yes-3")
    body = answer.json()

    assert (answer.status_code, body["code"]) == (status, code)
    if outcomes is not None:
        assert [item["outcome"] for item in body["items"]] == outcomes
        assert [item["decision"] is not None for item in body["items"]] == [o == "applied" for o in outcomes]
        assert body["items"][1]["failure"]["code"] == "outcome-unknown"


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
async def test_asked_again_under_its_key_what_stands_is_answered_and_the_rest_is_decided(
    fault: Fault,
) -> None:
    town = Town(faults=[None, fault])
    first = (await town.batch("yes-1", "no-1", "yes-2", **KEY)).json()
    town.topics.arrive()
    again = await town.batch("yes-1", "no-1", "yes-2", **KEY)
    third = await town.batch("yes-1", "no-1", "yes-2", **KEY)
    items = again.json()["items"]

    assert first["code"] == "batch-incomplete"
    assert again.status_code == 200
    assert again.json() == third.json()
    assert [items[n] for n in (0, 2)] == [first["items"][n] for n in (0, 2)]
    assert len(town.stated) == 3
    assert len({event.decision for event in town.stated}) == 3


async def test_two_who_ask_at_once_under_one_key_get_the_same() -> None:
    town = Town()
    answers = await asyncio.gather(*(town.batch("yes-1", "no-1", **KEY) for _ in range(3)))

    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.text for answer in answers}) == 1
    assert len(town.stated) == 2


async def test_another_question_under_a_used_key_is_refused() -> None:
    town = Town()
    await town.batch("yes-1", "no-1", **KEY)
    answer = await town.batch("yes-1", "no-2", **KEY)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")
    assert len(town.stated) == 2


async def test_what_was_allowed_under_a_key_is_not_allowed_again_once_a_role_is_lost() -> None:
    """Case redA8 13: AuthZEN's callers look at the boolean, and it stayed true for ever."""
    town = Town()
    question = batch_of("yes-1")["questions"][0]
    first = (await town.post("/decisions", question, **KEY)).json()
    same = (await town.post("/decisions", question, **KEY)).json()
    town.parties[CLINICIAN] = replace_roles(town.parties[CLINICIAN])
    later = (await town.post("/decisions", question, **KEY)).json()

    assert first == same
    assert first["token"] is not None
    assert (later["status"], later["code"]) == (409, "decision-over")
    assert len(town.stated) == 1


async def test_an_evaluation_under_a_used_key_is_no_permission_once_a_role_is_lost() -> None:
    town, body = Town(), {**evaluation(), "evaluations": resources("yes-1", "no-1")}
    before = (await town.post("/access/v1/evaluations", body, **KEY)).json()["evaluations"]
    town.parties[CLINICIAN] = replace_roles(town.parties[CLINICIAN])
    after = (await town.post("/access/v1/evaluations", body, **KEY)).json()["evaluations"]

    assert [one["decision"] for one in before] == [True, False]
    assert [one["decision"] for one in after] == [False, False]
    assert after[0]["context"]["error"]["code"] == "decision-over"
    assert len(town.stated) == 2


def replace_roles(party: Party) -> Party:
    return replace(party, roles=frozenset({"researcher"}))


async def test_an_emergency_has_no_key_and_is_in_no_batch() -> None:
    town = Town()
    question = {**batch_of("yes-1")["questions"][0], "break_glass": {"reason": "other"}}
    alone = await town.post("/decisions", question, **KEY)
    among = await town.post("/decisions/batch", {"questions": [question]})

    assert [answer.json()["code"] for answer in (alone, among)] == ["invalid-request"] * 2
    assert "Idempotency-Key" in alone.json()["detail"]


def evaluation(name: str = "yes-1", **changes: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "subject": {"type": "person", "id": CLINICIAN},
        "action": {"name": "read"},
        "resource": {"type": "record", "id": name, "properties": {"patient": PATIENT}},
        "context": {"purpose": "TREAT"},
    }
    return {**asked, **changes}


def resources(*names: str) -> list[dict[str, Any]]:
    return [{"resource": evaluation(name)["resource"]} for name in names]


async def test_an_evaluation_is_a_decision_and_says_why() -> None:
    town = Town()
    yes = await town.post("/access/v1/evaluation", evaluation(), **{"X-Request-ID": "id-1"})
    no = await town.post("/access/v1/evaluation", evaluation("no-1", unknown={"any": ["thing"]}))

    assert (yes.status_code, yes.headers["X-Request-ID"]) == (200, "id-1")
    assert yes.json()["decision"] is True
    assert yes.json()["context"]["token"] == f"token for {town.stated[0].decision}"
    assert yes.json()["context"]["reason_user"] == {"en": "Because of open."}
    assert no.json()["decision"] is False
    assert no.json()["context"]["reasons"] == [NO_POLICY_PERMITS]
    assert "token" not in no.json()["context"]
    assert [event.item for event in town.stated] == [None, None]


async def test_an_evaluation_of_what_waits_for_a_person_is_no_permission_and_opens_no_case() -> None:
    # Case "400 and no denial on the ledger": an evaluation asked for a case, which only /decisions does.
    town = Town()
    answer = await town.post("/access/v1/evaluation", evaluation("left-1"))

    assert (answer.status_code, answer.json()["decision"]) == (200, False)
    assert (answer.json()["context"]["pending"], "case" in answer.json()["context"]) == (True, False)
    assert town.log == town.stated
    assert [(event.allowed, event.pending, event.case) for event in town.stated] == [(False, True, None)]


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"subject": {"type": "person", "id": HOSPITAL}}, 403, "wrong-subject"),
        ({"subject": {"type": "member", "id": CLINICIAN}}, 403, "wrong-subject"),
        ({"subject": {"id": CLINICIAN}}, 400, "invalid-request"),
        ({"subject": None}, 400, "invalid-request"),
        ({"action": {"name": "can_read"}}, 400, "action.name"),
        ({"action": {"name": 7}}, 400, "invalid-request"),
        ({"resource": {"type": "book", "id": "1"}}, 400, "resource.type"),
        ({"resource": {"type": "record", "id": "yes"}}, 400, "resource.properties.patient"),
        ({"resource": {**evaluation()["resource"], "id": "Jane Roe"}}, 400, "resource.id"),
        ({"context": {}}, 400, "context.purpose"),
        ({"context": {"purpose": ["TREAT"]}}, 400, "context.purpose"),
        ({"context": {"purpose": "TREAT", "service": "Jane Roe"}}, 400, "context.service"),
    ],
)
async def test_an_evaluation_that_cannot_be_mapped_is_an_error_and_no_decision(
    changes: dict[str, Any], status: int, says: str
) -> None:
    town = Town()
    answer = await town.post("/access/v1/evaluation", evaluation(**changes), **{"X-Request-ID": "id-2"})

    assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "id-2")
    assert isinstance(answer.json(), str)
    assert says in answer.json()
    assert "Jane" not in answer.text
    assert town.stated == []


NAMES = ("yes-1", "no-1", "yes-2", "no-2")


@pytest.mark.parametrize(
    ("semantic", "names", "decisions"),
    [
        (None, NAMES, [True, False, True, False]),
        ("execute_all", NAMES, [True, False, True, False]),
        ("deny_on_first_deny", NAMES, [True, False]),
        ("deny_on_first_deny", ("yes-1", "yes-2"), [True, True]),
        ("deny_on_first_deny", ("yes-1", "Jane Roe", "yes-2"), [True, False]),
        ("permit_on_first_permit", NAMES, [True]),
        ("permit_on_first_permit", ("no-1", "Jane Roe", "yes-2", "yes-3"), [False, False, True]),
        ("permit_on_first_permit", ("no-1", "Jane Roe"), [False, False]),
        # What is not well-formed is not answered behind the end either.
        ("permit_on_first_permit", ("yes-1", "Jane Roe", "yes-2"), [True]),
        ("deny_on_first_deny", ("no-1", "Jane Roe"), [False]),
    ],
)
async def test_evaluations_end_as_their_semantic_says(
    semantic: str | None, names: tuple[str, ...], decisions: list[bool]
) -> None:
    town = Town()
    options = {"options": {"evaluations_semantic": semantic, "other": 1}} if semantic else {}
    body = {**evaluation(), **options, "evaluations": resources(*names)}
    answer = await town.post("/access/v1/evaluations", body)
    found = answer.json()["evaluations"]

    assert answer.status_code == 200
    assert [one["decision"] for one in found] == decisions
    # What ended the work is stated, what would have followed is not, nor what cannot be decided.
    mapped = [name for name in names[: len(decisions)] if name != "Jane Roe"]
    assert [event.object for event in town.stated] == mapped
    assert [event.item for event in town.stated] == [names.index(name) for name in mapped]
    for one, name in zip(found, names, strict=False):
        if name == "Jane Roe":
            assert one["context"]["error"]["status"] == 400


async def test_evaluations_without_a_list_are_one_evaluation() -> None:
    town = Town()
    lists: tuple[dict[str, Any], ...] = ({}, {"evaluations": []})
    for more in lists:
        answer = await town.post("/access/v1/evaluations", {**evaluation(), **more})

        assert answer.json()["decision"] is True
        assert "evaluations" not in answer.json()


@pytest.mark.parametrize(
    "body",
    [
        {"evaluations": resources("yes-1")},
        {**evaluation(), "evaluations": [{"resource": {"type": "record"}}]},
        {**evaluation(), "evaluations": resources("yes-1"), "options": {"evaluations_semantic": "any"}},
        {**evaluation(), "evaluations": resources(*["yes-1"] * 21)},
        {"subject": evaluation()["subject"]},
    ],
)
async def test_evaluations_that_lack_what_is_required_are_a_bad_request(body: dict[str, Any]) -> None:
    town = Town()
    answer = await town.post("/access/v1/evaluations", body)

    assert answer.status_code == 400
    assert isinstance(answer.json(), str)
    assert town.stated == []


async def test_an_evaluation_that_is_not_known_to_stand_is_no_permission() -> None:
    town = Town(faults=[None, Fault.LOST])
    body = {**evaluation(), "evaluations": resources("yes-1", "yes-2")}
    found = (await town.post("/access/v1/evaluations", body)).json()["evaluations"]

    assert [one["decision"] for one in found] == [True, False]
    assert found[1]["context"]["error"]["outcome"] == "unknown"
    assert "token" not in found[1]["context"]


async def test_where_evaluations_are_asked_is_said() -> None:
    transport = httpx.ASGITransport(Town().app)
    async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
        answer = await client.get("/.well-known/authzen-configuration")

    assert answer.json() == {
        "policy_decision_point": "https://consent.example",
        "access_evaluation_endpoint": "https://consent.example/access/v1/evaluation",
        "access_evaluations_endpoint": "https://consent.example/access/v1/evaluations",
    }


async def test_what_is_not_known_in_time_is_stale_and_the_age_is_said() -> None:
    now = [100.0]
    fresh = Freshness(age_s_max=0.01, clock=lambda: now[0])
    assert await fresh.within(lambda: asyncio.sleep(0, "seen")) == "seen"
    now[0] = 107.5
    with pytest.raises(ProblemError, match=r"7[.]5 s old, and 0[.]01 s are allowed") as refused:
        await fresh.within(asyncio.Event().wait)

    assert (refused.value.status, refused.value.code) == (503, "state-stale")
    assert refused.value.extra == {"age_ms": 7500}


async def test_a_request_claims_each_of_its_parts_once() -> None:
    # Else all but the first decision of a batch would be without effect, or one could be stated twice.
    town = Town()
    await town.batch("yes-1", "no-1", "yes-2")
    request = Request(by=CLINICIAN, authentication=SIGNED, proof="a.b.c")
    parts = [structs.replace(event, request=request) for event in town.stated]
    alone = structs.replace(parts[0], item=None)
    claims = [
        claims_of(cast("Event", SimpleNamespace(data=one, type=type_of(one)))) for one in (*parts, alone)
    ]

    assert [len(names) for names in claims] == [1] * 4
    assert len({*claims[:3]}) == 3
    assert claims[3] == claims[0] == (request_claim("a.b.c"),)
