"""Reviews of emergency accesses: when each is due, what is told when it is overdue, and who is shown what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from tests.asking import UNASKED, FixedCallers
from tests.unit.consent.cases import opened
from tests.unit.consent.test_consents import (
    BROKEN,
    KNOWN,
    NOW,
    OFFICER,
    PATIENT,
    after,
    refusal_of,
)
from tests.unit.consent.test_handlers import Memory

from salus.access.emergencies import review_due
from salus.access.state import PatientState, SubjectState, evolve
from salus.consent import api, reviews_api
from salus.consent.adapters.folded import PATIENTS, SUBJECTS
from salus.consent.domain import reviews
from salus.consent.domain.consents import GROUNDS, Review, decide, identifier_under
from salus.consent.overdue import OverdueReviews
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.events.parties import Party
from salus.runtime import problems

HOUR = timedelta(hours=1)
STEWARD, OTHER = str(KNOWN.steward), "did:web:other-hospital.example"
DUE = NOW + 72 * HOUR


def broken(number: int = 1, *, of: str = PATIENT, due: datetime = DUE, **changes: Any) -> Any:
    decision = identifier_under(of, suffix=f"{number:08x}")
    told = {"broken_at": NOW, "review_due": due, "steward": STEWARD}
    return msgspec.structs.replace(BROKEN, decision=decision, patient=of, **(told | changes))


def overdue(event: Any) -> ReviewOverdue:
    state = evolve(PatientState(), event)
    return reviews.escalation(state, event.decision, request=UNASKED)


def other_patient(number: int) -> str:
    return f"{PATIENT[:-2]}{number:02x}"


@pytest.mark.parametrize(
    ("obligations", "hours"),
    [
        ((), 72),
        (("notify-patient", "review-within-72h"), 72),
        (("review-within-24h", "review-within-72h"), 24),
        (("review-within-100h",), 72),
        (("review-within-0h", "review-within-h", "xreview-within-1h", "review-within-1h2"), 72),
    ],
)
def test_a_review_is_due_by_the_law_or_sooner_by_a_policy(obligations: tuple[str, ...], hours: int) -> None:
    assert review_due(obligations, at=NOW) == NOW + hours * HOUR


def test_an_access_that_nobody_reviewed_owes_one_escalation_which_its_review_settles() -> None:
    event = broken()
    state = evolve(PatientState(), event)
    late = evolve(state, overdue(event))
    reviewed = after(Review(event.decision, PATIENT, "justified"), actor=OFFICER, state=state)

    assert reviews.owed(state) == [event.decision]
    assert reviews.falls_due(state, event.decision) == DUE
    assert reviews.owed(late) == reviews.owed(reviewed) == []
    assert evolve(late, overdue(event)) == late
    # What is overdue can still be reviewed, and an escalation that comes too late changes nothing.
    judged = after(Review(event.decision, PATIENT, "justified"), actor=OFFICER, state=late)
    assert [(b.is_overdue, b.outcome) for b in judged.glass_breaks] == [(True, "justified")]
    assert evolve(reviewed, overdue(event)) == reviewed


def test_an_access_that_said_no_time_is_due_as_the_law_has_it() -> None:
    """An older release stated none."""
    state = evolve(PatientState(), BROKEN)

    never = msgspec.structs.replace(BROKEN, valid_until=datetime.max.replace(tzinfo=UTC))

    assert reviews.falls_due(state, BROKEN.decision) == BROKEN.valid_until + 72 * HOUR
    assert reviews.falls_due(evolve(PatientState(), never), BROKEN.decision) == never.valid_until


def test_who_blames_somebody_says_why() -> None:
    event = broken()
    state = evolve(PatientState(), event)
    bare = Review(event.decision, PATIENT, "unjustified")

    assert refusal_of(bare, actor=OFFICER, state=state) == "ground-missing"
    assert (
        refusal_of(replace(bare, ground="emergency-confirmed"), actor=OFFICER, state=state)
        == "ground-differs"
    )
    for outcome, grounds in GROUNDS.items():
        for ground in grounds:
            command = replace(bare, outcome=outcome, ground=ground)
            stated = cast("Any", decide(state, command, actor=OFFICER, subject=KNOWN, at=NOW))
            assert (stated.outcome, stated.ground, stated.reviewer) == (outcome, ground, OFFICER.did)


# --- the list -------------------------------------------------------------------------------------


class Hospital:
    """The API over topics in memory; `caller` is who asks."""

    def __init__(self) -> None:
        memory = Memory()
        self.topics, self.reviews = memory.topics, memory.world.reviews
        self.caller = Party(STEWARD, "member", frozenset(), None)
        shared = api.Api(memory.world, FixedCallers(lambda _: self.caller), now=lambda: NOW)
        self.app = FastAPI()
        problems.install(self.app)
        self.app.include_router(reviews_api.review_routes(shared))

    def put(self, patient: str, *events: Any, steward: str = STEWARD, dids: tuple[str, ...] = ()) -> None:
        state = PatientState(dids=dids)
        for event in events:
            state = evolve(state, event)
        self.topics.put(PATIENTS, patient, state)
        self.topics.put(SUBJECTS, patient, SubjectState(steward))

    async def get(self, path: str, **query: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
            return await client.get(path, params=query)

    async def listed(self, **query: Any) -> list[str]:
        """Return the decisions of all pages."""
        found: list[str] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await self.get("/reviews", **query, **cursor)).json()
            found += [review["decision"] for review in page["reviews"]]
            if page["next"] is None:
                return found
            cursor = {"after": page["next"]}


@pytest.fixture
def hospital() -> Hospital:
    """Return a hospital with accesses to three of its patients, one of them overdue, and another's."""
    made = Hospital()
    late = broken(1, due=NOW - HOUR)
    made.put(PATIENT, broken(2, due=NOW + 2 * HOUR), late, overdue(late))
    made.put(other_patient(1), *(broken(n, of=other_patient(1), due=NOW + n * HOUR) for n in (1, 3)))
    one = broken(1, of=other_patient(2))
    reviewed = after(
        Review(one.decision, PATIENT, "justified"), actor=OFFICER, state=evolve(PatientState(), one)
    )
    made.put(other_patient(2))
    made.topics.put(PATIENTS, other_patient(2), reviewed)
    made.put(other_patient(3), broken(1, of=other_patient(3), steward=OTHER), steward=OTHER)
    return made


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_what_awaits_review_is_listed_the_first_one_due_first(hospital: Hospital, limit: int) -> None:
    wanted = [
        broken(1).decision,
        broken(1, of=other_patient(1)).decision,
        broken(2).decision,
        broken(3, of=other_patient(1)).decision,
    ]

    assert await hospital.listed(limit=limit) == wanted
    assert await hospital.listed(limit=limit, overdue=True) == wanted[:1]


@pytest.mark.parametrize("limit", [1, 2, 50])
async def test_what_an_older_release_stated_is_listed_to_the_steward_of_today(
    hospital: Hospital, limit: int
) -> None:
    # Case "overdue and in nobody's list": such an event names no steward.
    before = await hospital.listed()
    own = [broken(n, of=other_patient(7), steward=None, due=NOW + n * HOUR) for n in (0, 9)]
    hospital.put(other_patient(7), *own)
    others = [broken(n, of=other_patient(8), steward=None, due=NOW + n * HOUR) for n in range(10)]
    hospital.put(other_patient(8), *others, steward=OTHER)

    wanted = [before[0], own[0].decision, *before[1:], own[1].decision]
    assert await hospital.listed(limit=limit) == wanted
    assert await hospital.listed(limit=limit, overdue=True) == wanted[:1]


async def test_the_list_says_who_and_whose_and_since_when_and_by_when(hospital: Hospital) -> None:
    (first,) = (await hospital.get("/reviews", overdue=True)).json()["reviews"]

    assert first == {
        "kind": "emergency",
        "decision": broken(1).decision,
        "patient": PATIENT,
        "principal": BROKEN.principal,
        "member": None,
        "action": "read",
        "object": "o",
        "purpose": "ETREAT",
        "reason": "other",
        "since": "2026-11-22T12:00:00Z",
        "review_due": "2026-11-22T11:00:00Z",
        "overdue": True,
    }


async def test_cases_are_in_the_same_list(hospital: Hospital) -> None:
    case = opened(patient=other_patient(5), due=NOW + 150 * timedelta(minutes=1))
    hospital.put(other_patient(5), case)
    page = (await hospital.get("/reviews")).json()["reviews"]

    assert [(one["kind"], one["decision"]) for one in page][3] == ("case", "k")
    assert (page[3]["action"], page[3]["purpose"], page[3]["reason"]) == ("read", "TREAT", None)


@pytest.mark.parametrize(
    ("kind", "roles", "member", "number"),
    [
        ("member", (), None, 4),
        ("person", ("privacy-officer",), STEWARD, 4),
        ("person", ("privacy-officer",), OTHER, 1),
        ("person", ("privacy-officer",), None, None),
        ("person", ("clinician", "operator"), STEWARD, None),
        ("device", ("privacy-officer",), STEWARD, None),
        ("service", ("consent",), None, None),
    ],
)
async def test_a_steward_and_its_officers_are_shown_what_is_theirs(
    hospital: Hospital, kind: Any, roles: tuple[str, ...], member: str | None, number: int | None
) -> None:
    did = STEWARD if kind == "member" else "did:web:h.example:somebody"
    hospital.caller = Party(did, kind, frozenset(roles), member)
    answer = await hospital.get("/reviews")

    if number is None:
        assert (answer.status_code, answer.json()["code"]) == (403, "not-permitted")
    else:
        assert len(answer.json()["reviews"]) == number


async def test_an_officer_who_is_the_patient_is_not_shown_what_is_about_herself(hospital: Hospital) -> None:
    hospital.caller = Party(OFFICER.did, "person", frozenset({"privacy-officer"}), STEWARD)
    hospital.put(other_patient(4), broken(1, of=other_patient(4)), dids=(OFFICER.did,))

    assert broken(1, of=other_patient(4)).decision not in await hospital.listed()
    hospital.caller = Party(STEWARD, "member", frozenset(), None)
    assert broken(1, of=other_patient(4)).decision in await hospital.listed()


async def test_a_cursor_that_no_page_gave_is_refused(hospital: Hospital) -> None:
    answer = await hospital.get("/reviews", after="AAAA")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-cursor")


async def test_readiness_says_what_is_overdue_and_for_how_long(hospital: Hospital) -> None:
    look = OverdueReviews(hospital.reviews, now=lambda: NOW + 2 * HOUR)
    # It goes by what is folded, which this lets be.
    await hospital.listed()
    told = await look.check()
    hospital.put(PATIENT)
    await hospital.listed()

    assert told == "overdue reviews and cases: 1, the oldest for 3 h"
    assert await look.check() is None
