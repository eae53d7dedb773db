"""How many bytes of bodies are in memory at once is limited, by what was declared (fifth attack, 4)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK
from tests.unit.runtime.test_signed_requests import CALLER, SECOND, Joining, Ring, bearer

from salus.client.auth import make_bearer
from salus.events.bearer import audience_of
from salus.events.parties import Party
from salus.events.signed_request import VALUES_MAX
from salus.messaging.errors import BrokerAwayError
from salus.runtime import problems
from salus.runtime.auth import LOOKED_UP_BYTES_MIN, Authenticator
from salus.runtime.bodies import BODY_BYTES_MAX, VALUE_BYTES, guard_bodies
from salus.runtime.body_memory import BODIES_BYTES_MAX, RETRY_AFTER_S, BodyMemory, account_at
from salus.runtime.problems import ProblemError

MIB = 2**20


def app_of(ring: Any, **choices: Any) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    guard_bodies(app, streams=(), admit=Authenticator(ring, service="test", **choices).admit)

    @app.post("/{name}")
    async def command(name: str, request: Request) -> str:
        return f"{name} {len(await request.body())}"

    return app


@dataclass
class Sending:
    """A request whose body ends when it is told to; `task` is done once it was answered."""

    task: asyncio.Task[None]
    end: asyncio.Event
    read: list[int] = field(default_factory=list)
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def code(self) -> Any:
        return json.loads(self.body)["code"]


@asynccontextmanager
async def opened(app: FastAPI) -> AsyncIterator[Callable[..., Awaitable[Sending]]]:
    """Open requests that are left once they wait for the rest of their bodies, or were answered."""
    begun: list[Sending] = []

    async def open_one(
        headers: dict[str, str], size: int | None, path: str = "/a", *, came: int = 1, host: str = "10.0.0.1"
    ) -> Sending:
        waits, end = asyncio.Event(), asyncio.Event()

        async def receive() -> dict[str, Any]:
            one.read.append(1)
            if len(one.read) == 1:
                return {"type": "http.request", "body": b"x" * came, "more_body": True}
            waits.set()
            await end.wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            one.status = message.get("status", one.status)
            one.headers |= {name.decode(): value.decode() for name, value in message.get("headers", ())}
            one.body += message.get("body", b"")

        length = {"transfer-encoding": "chunked"} if size is None else {"content-length": str(size)}
        scope = {
            "type": "http",
            "client": (host, 40000),
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (name.lower().encode(), value.encode()) for name, value in (headers | length).items()
            ],
        }
        waiting = asyncio.ensure_future(waits.wait())
        one = Sending(asyncio.ensure_future(app(scope, receive, send)), end)
        begun.append(one)
        await asyncio.wait([one.task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return one

    try:
        yield open_one
    finally:
        for one in begun:
            one.end.set()
        await asyncio.gather(*(one.task for one in begun))


def unbound(signer: Any = CALLER) -> dict[str, str]:
    token = make_bearer(signer, audience_of("test", NETWORK), now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("size", [MIB, None])
async def test_an_account_holds_so_many_unfinished_bodies(size: int | None) -> None:
    # 100 of them were open at once, of one token, and nothing was counted: 250 end a process of 512 MiB.
    async with opened(app_of(Ring())) as open_one:
        taken = [await open_one(unbound(), size) for _ in range(BODIES_BYTES_MAX // MIB // 4)]
        refused = await open_one(unbound(), size)
        small = await open_one(unbound(SECOND), 1000)

        assert not any(one.task.done() for one in (*taken, small))
        assert (refused.status, refused.code, refused.read) == (503, "busy", [])
        assert refused.headers["retry-after"] == str(RETRY_AFTER_S)

        for one in (taken[0], small):
            one.end.set()
            await one.task
            assert one.status == 200
        assert not (await open_one(unbound(), size)).task.done()


async def test_a_token_read_off_a_topic_opens_no_body() -> None:
    async with opened(app_of(Ring())) as open_one:
        read = bearer("POST", "/a", b"x")
        elsewhere = await open_one(read, MIB, "/b")
        first = await open_one(read, 1)
        meanwhile = await open_one(read, MIB)
        first.end.set()
        await first.task
        afterwards = await open_one(read, MIB)

    assert first.status == 200
    assert [(one.status, one.code, one.read) for one in (elsewhere, meanwhile, afterwards)] == [
        (401, "unbound-token", []),
        (401, "token-used", []),
        (401, "token-used", []),
    ]


async def test_a_token_that_another_replica_has_used_opens_no_large_body() -> None:
    async def stated(_: str) -> bool:
        return True

    async with opened(app_of(Ring(), has_stated=stated)) as open_one:
        large = await open_one(bearer("POST", "/a", b"x"), LOOKED_UP_BYTES_MIN + 1)

    assert (large.status, large.code, large.read) == (401, "token-used", [])


@pytest.mark.parametrize(("stall_s", "asks"), [(0, 1), (3600, 0)])
async def test_a_token_that_another_replica_has_used_holds_no_room_for_long(
    stall_s: float, asks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case: a token that is read off a topic held 64 KiB of a replica that had not seen it, for a minute."""
    asked: list[str] = []

    async def stated(token: str) -> bool:
        asked.append(token)
        return True

    monkeypatch.setattr("salus.runtime.bodies.STALL_S", stall_s)
    async with opened(app_of(Ring(), has_stated=stated)) as open_one:
        one = await open_one(bearer("POST", "/a", b"x"), LOOKED_UP_BYTES_MIN)
        if asks:
            await one.task
            assert (one.status, one.code) == (401, "token-used")
        one.end.set()
        await one.task

    # Whose body comes with its head costs no question.
    assert len(asked) == asks
    assert one.status == (401 if asks else 200)


async def test_a_slow_body_of_a_token_that_was_not_used_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def stated(token: str) -> bool:
        asked.append(token)
        return False

    monkeypatch.setattr("salus.runtime.bodies.STALL_S", 0)
    async with opened(app_of(Ring(), has_stated=stated)) as open_one:
        one = await open_one(bearer("POST", "/a", b"x"), LOOKED_UP_BYTES_MIN)
        one.end.set()
        await one.task

    assert (one.status, len(asked)) == (200, 1)


async def test_while_nobody_can_tell_whether_a_token_was_used_a_slow_body_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(_: str) -> bool:
        raise BrokerAwayError("away")

    monkeypatch.setattr("salus.runtime.bodies.STALL_S", 0)
    async with opened(app_of(Ring(), has_stated=away)) as open_one:
        one = await open_one(bearer("POST", "/a", b"x"), LOOKED_UP_BYTES_MIN)
        await one.task

    assert (one.status, one.code) == (503, "unavailable")


@pytest.fixture
def open_to_all() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    guard_bodies(app, streams=())

    @app.post("/a")
    async def question(request: Request) -> int:
        return len(await request.body())

    return app


async def test_who_announces_a_body_and_sends_nothing_holds_no_room(open_to_all: FastAPI) -> None:
    # 64 such connections kept everybody's questions from anchoring, sequencer and witness.
    async with opened(open_to_all) as open_one:
        silent = [
            await open_one({}, size) for size in (MIB, None) for _ in range(2 * BODIES_BYTES_MAX // MIB)
        ]
        whole = await open_one({}, MIB, came=MIB)
        whole.end.set()
        await whole.task

        assert not any(one.task.done() for one in silent)
        assert (whole.status, whole.body) == (200, str(MIB).encode())


async def test_of_whom_nobody_asks_who_he_is_an_address_holds_so_many_bytes(open_to_all: FastAPI) -> None:
    async with opened(open_to_all) as open_one:
        taken = [await open_one({}, None, came=MIB) for _ in range(BODIES_BYTES_MAX // MIB // 4)]
        refused = await open_one({}, None)
        other = await open_one({}, None, came=MIB, host="10.0.0.2")

        assert not any(one.task.done() for one in (*taken, other))
        assert (refused.status, refused.code) == (503, "busy")
        assert refused.headers["retry-after"] == str(RETRY_AFTER_S)
        taken[0].end.set()
        await taken[0].task
        again = await open_one({}, None, came=MIB // 2)
        assert (taken[0].status, again.task.done()) == (200, False)


@pytest.mark.parametrize("is_asked", [True, False])
async def test_what_a_body_becomes_takes_room_while_its_request_is_under_way(*, is_asked: bool) -> None:
    """48 MB of bodies were parsed into 1.2 GB that waited for receipts of nothing (redA7, finding 3)."""
    app, release = FastAPI(), asyncio.Event()
    problems.install(app)
    ring: Any = Ring()
    guard_bodies(app, streams=(), admit=Authenticator(ring, service="test").admit if is_asked else None)

    @app.post("/waits")
    async def waits(request: Request) -> int:
        values = await request.json()
        await release.wait()
        return len(values)

    body = b"[%s]" % b",".join([b"0"] * VALUES_MAX)
    fitting = BODIES_BYTES_MAX // 4 // (VALUES_MAX * VALUE_BYTES + len(body))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://salus") as client:

        async def asked() -> int:
            headers = unbound() if is_asked else {}
            return (await client.post("/waits", content=body, headers=headers)).status_code

        sent = [asyncio.create_task(asked()) for _ in range(fitting + 20)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in sent) < 10:  # noqa: ASYNC110  # the others wait for ever
                await asyncio.sleep(0)
        refused = [one.result() for one in sent if one.done()]
        release.set()
        answers = await asyncio.gather(*sent)
        assert await asked() == 200

    assert set(refused) == {503}
    assert fitting <= answers.count(200) <= fitting + 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_an_address_is_an_account_and_of_ipv6_a_line(address: str, name: str) -> None:
    assert account_at(address).did == name


class Away(Joining):
    async def catch_up(self) -> Any:
        raise BrokerAwayError("away")


async def test_no_made_up_key_opens_a_body_while_kafka_is_away() -> None:
    async with opened(app_of(Away())) as open_one:
        refused = await open_one(unbound(), MIB)

    assert (refused.status, refused.code, refused.read) == (503, "unavailable", [])


def patient(number: int) -> Party:
    return Party(f"did:web:patient-{number}.example", "person", frozenset({"patient"}), None)


@pytest.mark.parametrize(
    "newcomer",
    [
        Party("did:web:hospital.example", "member", frozenset(), None),
        Party("did:web:doctor.example", "person", frozenset({"clinician"}), "did:web:hospital.example"),
        Party("did:web:operator.example", "person", frozenset({"operator"}), None),
        Party("did:web:both.example", "person", frozenset({"operator", "patient"}), None),
    ],
)
def test_no_number_of_patients_takes_the_room_of_whom_two_operators_let_in(newcomer: Party) -> None:
    # Case: some 34 parties that are each their own organisation left others little room.
    memory = BodyMemory()
    with ExitStack() as held:
        for number in range(100):
            take = held.enter_context(memory.opened(patient(number)))
            with suppress(ProblemError):
                while True:
                    take(1024)
        held.enter_context(memory.opened(newcomer))(BODIES_BYTES_MAX // 8)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(1, BODY_BYTES_MAX)), max_size=300)
)
def test_no_organisation_takes_all_the_room(asked: list[tuple[int, int, int]]) -> None:
    memory, total, of_one = BodyMemory(8 * MIB), 0, dict.fromkeys(range(5), 0)
    with ExitStack() as held:
        for member, account, size in asked:
            party = Party(
                did=f"did:web:{member}.example:{account}",
                kind="person",
                roles=frozenset(),
                member=f"did:web:{member}.example",
            )
            try:
                held.enter_context(memory.opened(party))(size)
            except ProblemError:
                continue
            total, of_one[member] = total + size, of_one[member] + size
            assert total <= 8 * MIB
            assert max(of_one.values()) <= 4 * MIB
        newcomer = Party(did="did:web:new.example", kind="member", roles=frozenset(), member=None)
        held.enter_context(memory.opened(newcomer))(8 * MIB // 2**5 // 4)

    assert memory._of_organisation.total() == memory._of_account.total() == 0
