"""The API shows each caller what is hers, page by page without loss, and says no in problem details."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.unit.audit.chain import Accepted, Chain, Refused
from tests.unit.audit.people import founding, new_ring
from tests.unit.audit.samples import AROUND, CONSENT, IDENTITY, MEMBER, NOON, STORAGE
from tests.unit.audit.test_indexing import CLINICIAN, PATIENT, READ, documents, index_all

from salus.audit import api
from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.api import Reader, Reading, follow, routes
from salus.audit.domain.search import CursorError, Question, Visibility, position_of
from salus.audit.handlers import Bell
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.consent import AccessDecided, PatientLinked
from salus.events.contexts.storage import ObjectRead, SubjectRegistered
from salus.events.parties import Party
from salus.runtime import problems
from salus.runtime.problems import ProblemError

OTHER = "urn:uuid:22222222-2222-4222-8222-222222222222"
HER = "did:key:z6MkherHerHerHerHerHerHerHerHerHerHerHerHerHe"
DECISION = AccessDecided(
    decision="dec-2",
    principal=CLINICIAN,
    action="read",
    object="obj-1",
    patient=PATIENT,
    purpose="TREAT",
    allowed=False,
    reasons=("no-consent",),
    policy_set="a" * 64,
    inputs="b" * 64,
    decided_at=NOON,
    state_positions=(),
    epoch=1,
    valid_until=NOON + timedelta(seconds=60),
    request=UNASKED,
)
LINKED = PatientLinked(patient=PATIENT, did=HER, request=UNASKED)
RESEARCH = ObjectRead(
    object="obj-1", patient=PATIENT, reader=CLINICIAN, decision="dec-3", purpose="HRESCH", request=UNASKED
)


def document(patient: str, name: str) -> DocumentRegistered:
    return DocumentRegistered(patient=patient, object=name, media_type="text/plain")


def registered(patient: str, steward: str) -> SubjectRegistered:
    return SubjectRegistered(
        patient=patient,
        steward=steward,
        suite="s",
        key=f"{patient}#1",
        public_key="AAAA",
        request=UNASKED,
    )


def party(did: str, *roles: str, kind: Any = "person", member: str | None = None) -> Party:
    return Party(did=did, kind=kind, roles=frozenset(roles), member=member)


OVERSEER = Reader("did:key:z6Mkoverseer", Visibility(everything=True))
ANALYST = party("did:key:z6Mkanalyst", "soc-analyst")


class World:
    """The API over a trail, called as whoever `caller` is."""

    def __init__(self, trail: SqlTrail) -> None:
        self.trail = trail
        self.caller: Party | None = ANALYST
        self.grown = Bell()
        self.ring = new_ring()
        self.reading = self.reading_of(trail)
        app = FastAPI()
        problems.install(app)
        app.include_router(routes(self.reading))
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://audit")

    def reading_of(self, trail: Any) -> Reading:
        return Reading(
            trail=trail,
            around=AROUND,
            grown=self.grown,
            authenticate=self.authenticate,
            ring=lambda: self.ring,
        )

    @property
    def did(self) -> str:
        assert self.caller is not None
        return self.caller.did

    async def authenticate(self, _: object) -> Party:
        if self.caller is None:
            raise ProblemError(401, "unauthenticated", "send a bearer")
        return self.caller

    async def get(self, path: str, **query: Any) -> httpx.Response:
        return await self.client.get(path, params=query)

    async def ids(self, **query: Any) -> list[str | None]:
        return [entry["id"] for entry in (await self.get("/trail", **query)).json()["entries"]]


@pytest.fixture
async def world(trail: SqlTrail) -> AsyncIterator[World]:
    chain = Chain()
    chain.seal(
        [
            Accepted(document(PATIENT, "obj-1"), name="doc-1"),
            Accepted(document(OTHER, "obj-2"), name="doc-2"),
            Refused("bad-signature"),
        ]
    )
    chain.seal(
        [
            Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT),
            Accepted(DECISION, source=CONSENT, name="decided-1", subject=PATIENT),
            Accepted(
                PatientLinked(patient=PATIENT, did=HER, request=UNASKED),
                source=CONSENT,
                name="linked-1",
                subject=PATIENT,
            ),
            Accepted(RESEARCH, source=STORAGE, name="read-2", subject=PATIENT),
        ]
    )
    await index_all(chain, trail)
    made = World(trail)
    yield made
    await made.client.aclose()


async def test_without_a_bearer_nothing_is_shown(world: World) -> None:
    world.caller = None

    for path in (
        "/trail",
        "/trail/stream",
        "/trail/leaf/0",
        "/trail/did:x/1",
        "/reports/disclosures?patient=x",
    ):
        answer = await world.client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_the_newest_entry_comes_first(world: World) -> None:
    assert await world.ids() == ["read-2", "linked-1", "decided-1", "read-1", None, "doc-2", "doc-1"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"who": CLINICIAN}, ["read-2", "decided-1", "read-1"]),
        ({"patient": OTHER}, ["doc-2"]),
        ({"action": "R"}, ["read-2", "read-1"]),
        ({"type": "salus.storage.object-read.v1", "patient": PATIENT}, ["read-2", "read-1"]),
        ({"object": "obj-2"}, ["doc-2"]),
        ({"outcome": "refused"}, ["decided-1"]),
        ({"outcome": "rejected"}, [None]),
        ({"q": "OBJ-1 hresch"}, ["read-2"]),
        ({"q": "o%1"}, []),
        ({"q": "bad-signature"}, [None]),
        ({"since": (NOON + timedelta(days=1)).isoformat()}, []),
        ({"until": NOON.isoformat()}, []),
    ],
)
async def test_a_filter_keeps_what_it_says(world: World, query: dict[str, Any], expected: Any) -> None:
    assert await world.ids(**query) == expected


async def test_since_and_until_go_by_when_it_was_appended_whatever_its_author_says(trail: SqlTrail) -> None:
    # Case security.md, low: events dated 1900 or 9998 escaped the filters.
    chain, years = Chain(), [1900, 9998]
    stated = [datetime(year, 1, 1, tzinfo=UTC) for year in years]
    chain.seal([Accepted(document(PATIENT, f"obj-{at.year}"), name=f"{at.year}", time=at) for at in stated])
    await index_all(chain, trail)
    world = World(trail)
    before, after = (NOON + sign * timedelta(hours=1) for sign in (-1, 1))

    assert await world.ids(since=before.isoformat(), until=after.isoformat()) == ["9998", "1900"]
    assert await world.ids(since=after.isoformat()) == await world.ids(until=before.isoformat()) == []
    assert await world.ids(stated_since=after.isoformat()) == ["9998"]
    assert await world.ids(stated_until=before.isoformat()) == ["1900"]
    await world.client.aclose()


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (party("did:x", "privacy-officer"), 7),
        (party("did:x", "operator"), 7),
        (party(HER, "patient"), 5),
        # security.md, medium: without the role patient she sees what she did herself.
        (party(HER), 1),
        (party(CLINICIAN, "clinician"), 3),
        (party(MEMBER, kind="member"), 2),
        (party("did:stranger"), 0),
    ],
)
async def test_a_caller_sees_what_is_hers(world: World, caller: Party, expected: Any) -> None:
    world.caller = caller

    assert len(await world.ids()) == expected


async def test_a_patient_sees_no_other_patient(world: World) -> None:
    world.caller = party(HER, "patient")

    entries = (await world.get("/trail")).json()["entries"]
    assert {entry["patient"] for entry in entries} == {PATIENT}
    assert (await world.get(f"/trail/{MEMBER}/doc-2")).status_code == 404
    assert (await world.get(f"/trail/{MEMBER}/doc-1")).status_code == 200


@pytest.mark.parametrize("role", ["privacy-officer", "soc-analyst"])
async def test_a_members_own_overseers_see_its_people_and_its_patients_only(
    trail: SqlTrail, role: str
) -> None:
    elsewhere = "did:web:south-hospital.example"
    chain = Chain()
    joined = founding(MEMBER, "member")
    chain.seal(
        [
            Accepted(joined, source=IDENTITY, name="joined", subject=MEMBER),
            Accepted(registered(PATIENT, MEMBER), source=STORAGE, name="hers", subject=PATIENT),
            Accepted(registered(OTHER, elsewhere), source=STORAGE, name="theirs", subject=OTHER),
            Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT),
            Accepted(
                msgspec.structs.replace(RESEARCH, patient=OTHER, object="obj-9"),
                source=STORAGE,
                name="read-9",
                subject=OTHER,
            ),
            Accepted(document(OTHER, "obj-2"), name="doc-2"),
            Refused("bad-signature"),
        ]
    )
    await index_all(chain, trail)
    world = World(trail)

    world.caller = party("did:key:z6Mkoverseer", role, member=MEMBER)
    assert await world.ids() == ["doc-2", "read-1", "hers"]
    assert (await world.get(f"/trail/{STORAGE}/read-1")).status_code == 200
    assert (await world.get(f"/trail/{STORAGE}/read-9")).status_code == 404
    world.caller = party("did:key:z6Mkoverseer", role, member=elsewhere)
    assert await world.ids() == ["doc-2", "read-9", "theirs"]
    assert (await world.get(f"/trail/{STORAGE}/read-1")).status_code == 404
    assert (await world.get(f"/trail/{STORAGE}/read-9")).status_code == 200
    await world.client.aclose()


async def test_one_entry_has_its_place_and_its_receipt(world: World) -> None:
    answer = (await world.get(f"/trail/{STORAGE}/read-1")).json()

    assert answer["actor"] == CLINICIAN
    assert answer["rules"] == ["decision:dec-1"]
    assert (answer["ledger"]["height"], answer["ledger"]["index"], answer["ledger"]["offset"]) == (1, 0, 3)
    assert answer["receipt"] == (
        "http://127.0.0.1:8405/receipts?topic=salus.clinical.events&partition=0&offset=3"
    )
    by_leaf = (await world.get(f"/trail/leaf/{answer['uid']}")).json()
    assert by_leaf == answer


async def test_what_is_not_there_is_a_problem(world: World) -> None:
    answer = await world.get("/trail/did:x/nothing")

    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-entry")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"cursor": "nonsense"}, 400, "invalid-cursor"),
        ({"limit": 0}, 422, "invalid-request"),
        ({"limit": 1000}, 422, "invalid-request"),
        ({"action": "X"}, 422, "invalid-request"),
        ({"since": "yesterday"}, 422, "invalid-request"),
    ],
)
async def test_a_wrong_question_is_a_problem(
    world: World, query: dict[str, Any], status: int, code: str
) -> None:
    answer = await world.get("/trail", **query)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_wrong_last_event_id_is_a_problem(world: World) -> None:
    answer = await world.client.get("/trail/stream", headers={"Last-Event-ID": "-1"})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-last-event-id")


async def test_an_accounting_has_every_disclosure_oldest_first_and_says_which_the_law_wants(
    world: World,
) -> None:
    report = (await world.get("/reports/disclosures", patient=PATIENT)).json()

    assert [(line["purpose"], line["accountable"]) for line in report["disclosures"]] == [
        ("TREAT", False),
        ("HRESCH", True),
    ]
    assert {line["recipient"] for line in report["disclosures"]} == {CLINICIAN}


async def test_an_accounting_is_read_page_by_page(world: World) -> None:
    first = (await world.get("/reports/disclosures", patient=PATIENT, limit=1)).json()
    second = (await world.get("/reports/disclosures", patient=PATIENT, limit=1, cursor=first["next"])).json()

    assert [line["decision"] for line in first["disclosures"] + second["disclosures"]] == ["dec-1", "dec-3"]
    assert second["next"] is None


@given(st.text(max_size=40))
def test_no_text_makes_a_cursor_fail_otherwise_than_as_a_cursor(text: str) -> None:
    with contextlib.suppress(CursorError):
        assert position_of(text) > 0


@given(
    page=st.integers(1, 5),
    blocks=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    inserts=st.lists(st.integers(0, 3), max_size=6),
)
@settings(max_examples=10, deadline=None)
def test_reading_page_by_page_while_blocks_arrive_loses_and_repeats_nothing(
    page: int, blocks: list[int], inserts: list[int]
) -> None:
    async def check() -> None:
        async with open_trail("sqlite+aiosqlite://") as trail:
            chain, world = Chain(), World(trail)
            count = 0
            for size in blocks:
                chain.seal(documents(size, start=count))
                count += size
            await index_all(chain, trail)
            expected = [f"event-{index}" for index in reversed(range(count))]
            seen, cursor, arriving = [], None, list(inserts)
            while True:
                query = {"limit": page} | ({"cursor": cursor} if cursor else {})
                answer = (await world.get("/trail", **query)).json()
                seen += [entry["id"] for entry in answer["entries"]]
                cursor = answer["next"]
                assert len(seen) <= len(expected)
                if cursor is None:
                    break
                if arriving and (size := arriving.pop()):
                    chain.seal(documents(size, start=count))
                    count += size
                    await index_all(chain, trail)
            await world.client.aclose()
            assert seen == expected

    asyncio.run(check())


async def test_a_stream_resumed_from_its_last_id_has_no_gap_and_no_repetition(trail: SqlTrail) -> None:
    chain, world = Chain(), World(trail)
    chain.seal(documents(3))
    await index_all(chain, trail)

    async def take(start: int, count: int) -> list[int]:
        ids = []
        stream = follow(world.reading, Question(), OVERSEER, start=start, stopping=lambda: False)
        async with asyncio.timeout(60), contextlib.aclosing(stream):
            async for message in stream:
                if message.startswith("id: ") and "data: " in message:
                    ids.append(int(message.split("\n")[0].removeprefix("id: ")))
                if len(ids) == count:
                    break
        return ids

    first = await take(0, 2)
    waiting = asyncio.create_task(take(first[-1], 3))
    await asyncio.sleep(0)
    chain.seal(documents(2, start=3))
    await index_all(chain, trail)
    world.grown.ring()

    assert first + await waiting == [1, 2, 3, 4, 5]


async def test_a_stream_ends_when_the_bearer_that_opened_it_would(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "STREAM_S_MAX", 0.3)

    async with asyncio.timeout(60):
        answer = await world.client.get("/trail/stream", headers={"Last-Event-ID": "5"})

    ids = [line for line in answer.text.split("\n") if line.startswith("id: ")]
    assert ids == ["id: 5", "id: 6", "id: 7"]


async def test_a_stream_ends_when_the_service_stops(trail: SqlTrail) -> None:
    world = World(trail)
    stream = follow(world.reading, Question(), OVERSEER, start=0, stopping=lambda: True)

    assert [message async for message in stream] == ["id: 0\n: the trail\n\n"]
