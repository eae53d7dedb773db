"""What the API answers when a part is away, and that no answer shows more than it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import parse_qsl

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.types import Message
from structlog.testing import capture_logs
from tests.asking import UNASKED, FixedCallers, calling

from salus.crypto.errors import KmsAwayError, KmsUnusableError, UnwrapError
from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.storage import ObjectRead, ObjectStored, ReadBrokenOff
from salus.events.event_types import EventData
from salus.events.parties import Party
from salus.events.pseudonyms import pseudonym_of
from salus.objects import RefusedError
from salus.objects.memory import Fault
from salus.runtime import problems
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.places import Places
from salus.runtime.problems import ProblemError
from salus.storage.adapters.problems import install
from salus.storage.api import Desk, routes
from salus.storage.handlers.outgoing import BrokenOffError
from salus.storage.transfers import Limits, OutgoingResponse
from salus.storage.upload_api import install_uploads

from .conftest import DOCTOR, HOSPITAL, LABORATORY, NOW, PATIENT, Bench, limits_of

CALLERS = {party.did: party for party in (DOCTOR, HOSPITAL, LABORATORY)}


def caller_named(request: Request) -> Party:
    return CALLERS[request.query_params.get("did", DOCTOR.did)]


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.registered()
    await bench.stored(b"content")
    bench.tokens.grant("right")
    bench.tokens.grant("second", object="o-2")
    return bench


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(bench, limits_of(object_bytes_max=1000, body_idle_s_max=0.05)) as client:
        yield client


def client_of(bench: Bench, limits: Limits) -> httpx.AsyncClient:
    app = FastAPI()
    problems.install(app)
    install(app)
    desk = Desk(
        subjects=bench.subjects,
        storing=bench.storing,
        reading=bench.reading,
        sealed=bench.sealed,
        authenticate=FixedCallers(caller_named),
        limits=limits,
        verifications=AccountLimit("verifications", Rate(burst=3, per_minute=1)),
        registrations=AccountLimit("registrations", Rate(burst=5, per_minute=1)),
        now=lambda: NOW,
    )
    app.include_router(routes(desk))
    install_uploads(app, desk, bench.uploading)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://storage")


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def right() -> dict[str, str]:
    return {"Salus-Decision": "right"}


async def test_an_object_store_that_is_away_is_unavailable_until_it_is_back(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.objects.away = True
    put = await client.put("/objects/o-2", params={"patient": PATIENT, "did": HOSPITAL.did}, content=b"x")

    assert code(await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())) == (
        503,
        "unavailable",
    )
    assert code(await client.get("/objects/o-1/verify", params={"patient": PATIENT})) == (503, "unavailable")
    assert code(put) == (503, "unavailable")
    bench.objects.away = False
    assert (
        await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())
    ).content == b"content"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KmsAwayError("the KMS sleeps"), (503, "kms-unavailable")),
        (UnwrapError("there is no root key root-1"), (500, "key-unusable")),
        # Cases L2, S4: what no waiting mends is not `unavailable`, which clients repeat.
        (KmsUnusableError("the file is damaged"), (500, "kms-unusable")),
        (RefusedError("subjects", "no permission"), (500, "store-refused")),
    ],
)
async def test_a_kms_that_does_not_unwrap_is_said_without_its_reason(
    bench: Bench, client: httpx.AsyncClient, error: Exception, expected: tuple[int, str]
) -> None:
    async def failing(wrapped: bytes, *, context: str) -> bytes:  # noqa: ARG001  # the form of the port
        raise error

    bench.vault.kms.unwrap = failing  # type: ignore[method-assign]  # the KMS's fault
    answer = await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())

    assert code(answer) == expected
    assert str(error) not in answer.text


async def test_an_erasure_that_the_store_refuses_to_finish_does_not_promise_that_it_will(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    """Case S4: the state that was told, `as soon as the store answers`, was false."""

    async def locked(key: str) -> None:
        raise RefusedError(key, "under lock")

    bench.keys.destroy = locked  # type: ignore[method-assign]  # a store with a lock
    answer = await client.request(
        "DELETE", f"/subjects/{PATIENT}/key", params={"did": HOSPITAL.did}, json={"basis": "gdpr-art-17"}
    )

    assert code(answer) == (500, "key-destruction-refused")


async def test_an_erasure_whose_key_is_not_gone_yet_says_so_and_can_be_repeated(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    bench.keys._faults = iter([Fault.LOST])

    async def erase() -> httpx.Response:
        url = f"/subjects/{PATIENT}/key"
        return await client.request(
            "DELETE", url, params={"did": HOSPITAL.did}, json={"basis": "gdpr-art-17"}
        )

    assert code(await erase()) == (503, "key-destruction-pending")
    assert code(await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())) == (
        410,
        "subject-erased",
    )
    assert (await erase()).json()["objects"] == 1
    assert not bench.keys.objects


async def test_a_topic_that_is_away_is_unavailable(bench: Bench, client: httpx.AsyncClient) -> None:
    async def read() -> tuple[int, str]:
        return code(await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right()))

    bench.topic.meet([Fault.LOST])
    assert await read() == (503, "outcome-unknown")
    bench.topic.topics.is_away = True
    assert await read() == (503, "unavailable")


async def test_a_body_that_stops_coming_is_given_up(client: httpx.AsyncClient) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.Event().wait()

    answer = await client.put(
        "/objects/o-2", params={"patient": PATIENT, "did": HOSPITAL.did}, content=stuck()
    )

    assert code(answer) == (408, "too-slow")


async def test_content_is_sent_so_that_no_browser_runs_or_keeps_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())

    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-length"] == "7"


async def test_transfers_are_given_back(client: httpx.AsyncClient) -> None:
    for _ in range(5):
        assert (
            await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())
        ).status_code == 200
        assert (await client.get("/objects/o-1", params={"patient": PATIENT})).status_code == 403


@pytest.mark.parametrize("media_type", ["text/xml", "text/csv; charset=UTF-8", "text/plain;charset=latin1"])
async def test_a_media_type_comes_back_as_it_was_stored(client: httpx.AsyncClient, media_type: str) -> None:
    """Case S1: text/xml came back with a charset that contradicted the document."""
    as_hospital = {"patient": PATIENT, "did": HOSPITAL.did}
    put = await client.put(
        "/objects/o-2", params=as_hospital, content=b"<x/>", headers={"Content-Type": media_type}
    )
    second = {"Salus-Decision": "second"}
    answer = await client.get("/objects/o-2", params={"patient": PATIENT}, headers=second)

    assert put.json()["media_type"] == media_type
    assert answer.headers["content-type"] == media_type


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Content-Encoding": "rot13"}, (415, "unsupported-media-type")),
        ({"Content-Range": "bytes 0-9/100"}, (400, "not-supported")),
        ({"If-Match": "*"}, (412, "precondition-failed")),
        ({"If-None-Match": '"x"'}, (412, "precondition-failed")),
        ({"If-None-Match": "*"}, (412, "precondition-failed")),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", "/objects/o-1"), ("POST", "/objects")])
async def test_headers_that_change_what_a_body_means_are_refused(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    """Case S2: a gzipped Bundle was stored as application/fhir+json, and a part as the whole."""
    as_hospital = {"patient": PATIENT, "did": HOSPITAL.did}
    answer = await client.request(method, path, params=as_hospital, content=b"content", headers=headers)

    assert code(answer) == expected
    assert ("accept-encoding" in answer.headers) == (expected[0] == 415)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_coded_document_comes_back_as_it_came(client: httpx.AsyncClient, coding: str) -> None:
    """Case S2: the coding is part of what was sent, and nobody undoes it."""
    as_hospital, raw = {"patient": PATIENT, "did": HOSPITAL.did}, b"no valid stream of that coding"
    put = await client.put(
        "/objects/o-2", params=as_hospital, content=raw, headers={"Content-Encoding": coding}
    )
    again = await client.put("/objects/o-2", params=as_hospital, content=raw)
    request = client.build_request(
        "GET", "/objects/o-2", params={"patient": PATIENT}, headers={"Salus-Decision": "second"}
    )
    answer = await client.send(request, stream=True)
    sent = b"".join([piece async for piece in answer.aiter_raw()])

    assert (put.status_code, put.json()["content_encoding"]) == (201, coding)
    assert code(again) == (409, "object-exists")
    assert (answer.headers["content-encoding"], sent) == (coding, raw)


async def test_the_receipt_of_an_object_is_found_by_its_answers(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    """By source and id of the event that the object is, whoever was first."""
    as_hospital = {"patient": PATIENT, "did": HOSPITAL.did}
    put = await client.put("/objects/o-2", params=as_hospital, content=b"x")
    again = await client.put("/objects/o-2", params=as_hospital, content=b"x")
    read = await client.get("/objects/o-2", params={"patient": PATIENT}, headers={"Salus-Decision": "second"})
    stored = await bench.topic.object(PATIENT, "o-2")
    (record,) = [
        record.event
        for record in bench.topic.topics.records["salus.storage.events"]
        if record.event is not None and record.event.envelope.id == stored.event_id
    ]

    assert isinstance(record.data, ObjectStored)
    assert dict(parse_qsl(read.headers["salus-receipt"])) == {
        "source": record.envelope.source,
        "id": record.envelope.id,
    }
    assert len({answer.headers["salus-receipt"] for answer in (put, again, read)}) == 1


async def test_a_range_is_answered_as_http_says(client: httpx.AsyncClient) -> None:
    async def get(**headers: str) -> httpx.Response:
        return await client.get("/objects/o-1", params={"patient": PATIENT}, headers={**right(), **headers})

    everything = await get()
    etag, size = everything.headers["etag"], len(everything.content)
    part, same = await get(Range="bytes=2-4"), await get(**{"Range": "bytes=2-4", "If-Range": etag})
    other = await get(**{"Range": "bytes=2-4", "If-Range": '"another"'})
    beyond, several = await get(Range=f"bytes={size}-"), await get(Range="bytes=0-0,2-2")

    assert (everything.status_code, everything.headers["accept-ranges"]) == (200, "bytes")
    for answer in (part, same):
        assert (answer.status_code, answer.content) == (206, everything.content[2:5])
        assert answer.headers["content-range"] == f"bytes 2-4/{size}"
        assert (answer.headers["content-length"], answer.headers["etag"]) == ("3", etag)
    assert (other.status_code, other.content) == (200, everything.content)
    assert code(beyond) == (416, "range-not-satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    assert code(several) == (416, "one-range-only")


async def test_if_none_match_stores_what_is_new(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/objects/o-2",
        params={"patient": PATIENT, "did": HOSPITAL.did},
        content=b"x",
        headers={"If-None-Match": "*"},
    )

    assert answer.status_code == 201


@pytest.mark.parametrize("limit", [{"body_idle_s_max": 0.05}, {"transfer_s_max": 0.05}])
async def test_a_download_that_is_not_taken_is_given_up_and_told(
    bench: Bench, limit: dict[str, float]
) -> None:
    """Case SEC7: a read lasted as long as its reader liked, and kept a transfer from others."""
    token = bench.tokens.grant("right")
    outgoing = await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    limits, transfers = limits_of(**limit), Places(most=1, of_one_max=1)
    end = limits.end()
    place = partial(transfers.taken, DOCTOR, end=end + 60)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    response = OutgoingResponse(outgoing, idle_s_max=limits.body_idle_s_max, end=end, place=place)
    with pytest.raises(BrokenOffError, match="too-slow"):
        await response({"type": "http"}, receive, send)
    async with place():
        told = bench.topic.events[-1]
    assert isinstance(told, ReadBrokenOff)
    assert (told.reason, told.sent_bytes) == ("too-slow", 0)


async def test_a_read_that_gets_no_place_for_its_content_is_broken_off_and_told(bench: Bench) -> None:
    token = bench.tokens.grant("right")
    outgoing = await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    end, places = limits_of().end(), Places(most=1, of_one_max=1, wait_s_max=0.01)
    place = partial(places.taken, DOCTOR, end=end)

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    async with places.taken(HOSPITAL, end=end):
        response = OutgoingResponse(outgoing, idle_s_max=60, end=end, place=place)
        with pytest.raises(BrokenOffError, match="busy"):
            await response({"type": "http"}, receive, send)
    assert isinstance(bench.topic.events[-1], ReadBrokenOff)


class Gate:
    """Holds up whoever reads the object store through it."""

    def __init__(self, bench: Bench) -> None:
        self.reached, self.opened = asyncio.Queue[None](), asyncio.Event()
        self._stream = bench.objects.stream
        bench.objects.stream = self.stream  # type: ignore[method-assign]  # a store that is slow

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        self.reached.put_nowait(None)
        await self.opened.wait()
        async for piece in self._stream(key, start=start, end=end):
            yield piece


def verification(party: Party = DOCTOR) -> dict[str, str]:
    return {"patient": PATIENT, "did": party.did}


async def test_slow_verifications_keep_nobody_from_reading_or_storing(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    """The third red team: each took a place of the transfers, of which there are two here."""
    gate, path = Gate(bench), "/objects/o-1/verify"
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        slow = [
            group.create_task(client.get(path, params=verification(party))) for party in (DOCTOR, HOSPITAL)
        ]
        for _ in slow:
            await gate.reached.get()
        bench.objects.stream = gate._stream  # type: ignore[method-assign]  # fast again, for others
        read = await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())
        put = await client.put("/objects/o-2", params={"patient": PATIENT, "did": HOSPITAL.did}, content=b"x")
        gate.opened.set()

    assert (read.status_code, put.status_code) == (200, 201)
    assert [task.result().json()["intact"] for task in slow] == [True, True]


async def test_an_account_verifies_one_at_a_time_and_leaves_a_place_to_others(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    gate, path = Gate(bench), "/objects/o-1/verify"
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        own = [group.create_task(client.get(path, params=verification())) for _ in range(3)]
        await gate.reached.get()
        other = group.create_task(client.get(path, params=verification(HOSPITAL)))
        await gate.reached.get()
        waiting = gate.reached.empty()
        gate.opened.set()

    assert waiting
    assert [task.result().status_code for task in (*own, other)] == [200] * 4


async def test_an_account_verifies_so_often_and_others_all_the_same(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/objects/o-1/verify", params=verification()) for _ in range(4)]
    other = await client.get("/objects/o-1/verify", params=verification(HOSPITAL))

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert code(answers[-1]) == (429, "too-many-requests")
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert other.status_code == 200


@pytest.mark.parametrize("path", ["/objects/o-1", "/objects/o-1/verify"])
async def test_looking_through_an_object_counts_to_the_time_of_its_transfer(bench: Bench, path: str) -> None:
    """A read that breaks off is stated in the time that a transfer has, counted from its request."""
    Gate(bench)
    async with client_of(bench, limits_of(transfer_s_max=0.05)) as client:
        answer = await client.get(path, params={"patient": PATIENT}, headers=right())

    assert code(answer) == (503, "unavailable")


def somebody(name: str) -> Party:
    return Party(f"did:web:{name}.example", "person", frozenset(), None)


async def test_waiting_for_a_place_counts_to_the_time_of_a_transfer() -> None:
    places, past = Places(most=1, of_one_max=1), limits_of(transfer_s_max=0).end()
    async with places.taken(somebody("a"), end=past):
        with pytest.raises(ProblemError, match="busy"):
            async with places.taken(somebody("b"), end=past):
                raise AssertionError


async def test_who_gets_no_place_in_time_is_told_when_to_come_back() -> None:
    end, places = limits_of().end(), Places(most=2, of_one_max=1, wait_s_max=0.01)
    async with places.taken(somebody("a"), end=end):
        with pytest.raises(ProblemError, match="busy") as own:
            async with places.taken(somebody("a"), end=end):
                raise AssertionError
        async with places.taken(somebody("b"), end=end):
            with pytest.raises(ProblemError, match="busy") as all_of_them:
                async with places.taken(somebody("c"), end=end):
                    raise AssertionError

    for refused in (own, all_of_them):
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    # Nothing of what was refused is held.
    async with places.taken(somebody("a"), end=end), places.taken(somebody("c"), end=end):
        pass


async def test_a_read_whose_right_ends_is_never_completed(bench: Bench, client: httpx.AsyncClient) -> None:
    """Case SEC7: the connection ends before the content does."""
    announce = bench.topic.announce

    async def revoked_after(data: EventData, *, patient: str) -> None:
        await announce(data, patient=patient)
        if isinstance(data, ObjectRead):
            bench.topic.fold(ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED), PATIENT)

    bench.topic.announce = revoked_after  # the moment between two lines

    with pytest.raises(BrokenOffError, match="decision-outdated"):
        await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())


async def test_a_pseudonym_is_of_the_steward_that_made_it(client: httpx.AsyncClient) -> None:
    """Case HIGH 4 of red team B: who read a pseudonym and registered it first was her steward."""
    nonce, hers = "5" * 32, pseudonym_of(HOSPITAL.did, "5" * 32)

    async def register(by: Party, **body: str) -> httpx.Response:
        return await client.post("/subjects", params={"did": by.did}, json=body)

    # The laboratory comes first: with the pseudonym that it read, and even with the nonce.
    for body in ({"patient": hers}, {"patient": hers, "nonce": "6" * 32}, {"patient": hers, "nonce": nonce}):
        assert (await register(LABORATORY, **body)).status_code == 422
    assert code(await register(LABORATORY, patient=hers, nonce=nonce)) == (422, "not-the-pseudonym")
    assert code(await register(LABORATORY, nonce=nonce, steward=HOSPITAL.did)) == (403, "not-the-steward")
    its_own = await register(LABORATORY, nonce=nonce)
    first = await register(HOSPITAL, patient=hers, nonce=nonce)
    again = await register(HOSPITAL, nonce=nonce)

    assert its_own.json()["patient"] == pseudonym_of(LABORATORY.did, nonce) != hers
    assert (first.json()["patient"], first.json()["steward"]) == (hers, HOSPITAL.did)
    assert again.json() == first.json()


async def test_an_upload_whose_client_leaves_is_no_failure_of_ours(
    client: httpx.AsyncClient, bench: Bench
) -> None:
    """Case LOW 13 of red team B: whoever broke off left an error with a traceback in the log."""
    messages: list[Message] = [
        {"type": "http.request", "body": b"half of it", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    query = httpx.QueryParams({"patient": PATIENT, "did": HOSPITAL.did})
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "PUT",
        "path": "/objects/o-9",
        "raw_path": b"/objects/o-9",
        "query_string": str(query).encode(),
        "headers": [(b"content-type", b"text/plain")],
    }
    kept = dict(bench.objects.objects)
    with capture_logs() as logs:
        await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]  # the app that it asks

    assert sent[0]["status"] == 400
    assert b"client-left" in sent[1]["body"]
    assert {entry["log_level"] for entry in logs} == {"info"}
    assert bench.objects.objects == kept


async def test_registrations_of_one_account_are_limited_and_leave_nothing(
    client: httpx.AsyncClient, bench: Bench
) -> None:
    """Case LOW 10 of red team B: 600 patients in 20 seconds."""
    of_hospital = {"did": HOSPITAL.did}
    registered = [
        await client.post("/subjects", params=of_hospital, json={"nonce": f"{n:032x}"}) for n in range(6)
    ]
    before = len(bench.topic.events)
    other = await client.post("/subjects", params={"did": LABORATORY.did}, json={"nonce": "7" * 32})

    assert [answer.status_code for answer in registered] == [201] * 5 + [429]
    assert int(registered[-1].headers["retry-after"]) > 0
    # What somebody did too often is no reason to refuse the others, nor this account's erasures.
    assert (other.status_code, len(bench.topic.events)) == (201, before + 1)


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain; note=Mary-Miller-is-positive",
        "text/plain; charset=utf-8; note=x",
        "text/plain; charset=Mary",
        "mary-miller/positive",
        "text/",
        "text/plain;",
    ],
)
async def test_a_media_type_has_no_words_of_the_caller_s_own(
    client: httpx.AsyncClient, bench: Bench, kind: str
) -> None:
    """Case LOW 7 of red team B: its parameters are on the ledger for ever."""
    before = len(bench.topic.events)
    query = {"patient": PATIENT, "did": HOSPITAL.did}
    put = await client.put("/objects/o-3", params=query, content=b"x", headers={"Content-Type": kind})

    assert code(put) == (422, "invalid-request")
    assert "ositive" not in put.text
    assert len(bench.topic.events) == before


@pytest.mark.parametrize(
    "kind",
    ["application/fhir+json", "text/plain; charset=utf-8", "text/csv;charset=UTF-8", "application/dicom"],
)
async def test_a_media_type_of_the_standard_is_kept(client: httpx.AsyncClient, kind: str) -> None:
    query = {"patient": PATIENT, "did": HOSPITAL.did}
    put = await client.put("/objects/o-3", params=query, content=b"x", headers={"Content-Type": kind})

    assert (put.status_code, put.json()["media_type"]) == (201, kind)


async def test_an_id_to_open_is_a_token_so_that_no_refusal_states_words(
    client: httpx.AsyncClient, bench: Bench
) -> None:
    """Case LOW 7 of red team B: without a decision, anything of 256 characters came into `read-refused`."""
    before = len(bench.topic.events)
    named = {"patient": PATIENT, "source": "did:web:x", "field": "content"}
    answers = [
        await client.post("/sealed/open", params={**named, "id": id_}, content=b"{}")
        for id_ in ("Mary Miller is positive", "\u00e4", "-x", "x" * 257)
    ]

    assert [code(answer) for answer in answers] == [(422, "invalid-request")] * 4
    assert len(bench.topic.events) == before
