"""What a transit engine may answer, and what comes of it; the real one is in tests/integration."""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY

from salus.crypto.errors import KmsAwayError, KmsError, KmsUnusableError, UnwrapError
from salus.crypto.key_cache import KeyCache
from salus.crypto.kms import wrapped_form
from salus.crypto.kms_succession import KmsSuccession
from salus.crypto.secret_source import Secret
from salus.storage.adapters import transit_kms
from salus.storage.adapters.metered_kms import MeteredKms
from salus.storage.adapters.transit_kms import ATTEMPTS_MAX, TransitKms
from salus.storage.adapters.transit_login import AppRole
from salus.storage.kms_places import RoleLogin, TokenLogin, TransitPlace

KEY = bytes(range(32))
FIT = {"derived": True, "exportable": False, "allow_plaintext_backup": False, "latest_version": 1}
WRAPPED = wrapped_form("transit-k-v1", b"vault:v1:AAAA")

Answer = Callable[[httpx.Request], httpx.Response]


class Engine:
    """Answers as it is told, and notes what it was asked."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.asked: list[httpx.Request] = []
        self.answer = answer or self.usual

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.answer(request)

    def usual(self, request: httpx.Request) -> httpx.Response:
        match request.url.path.split("/")[3]:
            case "keys":
                return data(FIT)
            case "encrypt":
                plaintext = msgspec.json.decode(request.content)["plaintext"]
                return data({"ciphertext": f"vault:v1:{plaintext}"})
            case "decrypt":
                return data({"plaintext": msgspec.json.decode(request.content)["ciphertext"].split(":")[2]})
        return httpx.Response(500)


def data(content: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"data": content})


@pytest.fixture
def token(tmp_path: Path) -> Secret:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("s.secret-token\n")
    return Secret(f"file:{file}")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit_kms, "RETRY_S", 0.0)


def kms_of(engine: Engine, token: Secret) -> TransitKms:
    place = TransitPlace("https://bao", "transit", "k", TokenLogin(token), namespace="health")
    return TransitKms(place, transport=httpx.MockTransport(engine))


async def test_a_key_goes_there_and_back_with_its_context(token: Secret) -> None:
    engine = Engine()
    kms = kms_of(engine, token)
    wrapped = await kms.wrap(KEY, context="patient 1")

    assert wrapped.startswith(b"salus.health/wrapped-key/v1 transit-k-v1\nvault:v1:")
    assert await kms.unwrap(wrapped, context="patient 1") == KEY
    assert [request.url.path.split("/")[3] for request in engine.asked] == ["keys", "encrypt", "decrypt"]
    asked = msgspec.json.decode(engine.asked[2].content)
    assert b64decode(asked["context"]) == b"patient 1"
    assert {r.headers["x-vault-token"] for r in engine.asked} == {"s.secret-token"}
    assert {r.headers["x-vault-namespace"] for r in engine.asked} == {"health"}


def broken(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("s.secret-token", request=None)


@pytest.mark.parametrize("status", [307, 408, 412, 429, 472, 473, 500, 502, 503, 504, None])
async def test_what_passes_is_tried_again_and_then_away(token: Secret, status: int | None) -> None:
    engine = Engine((lambda _: httpx.Response(status)) if status else broken)

    with pytest.raises(KmsAwayError) as raised:
        await kms_of(engine, token).unwrap(WRAPPED, context="c")
    assert len(engine.asked) == ATTEMPTS_MAX
    assert "secret" not in str(raised.value)


async def test_a_fault_that_passes_in_time_is_not_seen(token: Secret) -> None:
    engine = Engine()

    def once_sealed(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503) if len(engine.asked) == 1 else engine.usual(request)

    engine.answer = once_sealed
    assert await kms_of(engine, token).wrap(KEY, context="c")


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (httpx.Response(405), KmsUnusableError, "answers 405"),
        (httpx.Response(403), KmsUnusableError, "denies GET"),
        (httpx.Response(404), KmsUnusableError, "has no key k"),
        (httpx.Response(200, content=b"<html>"), KmsUnusableError, "no answer of a transit engine"),
        (httpx.Response(200, json=[]), KmsUnusableError, "no answer of a transit engine"),
        (httpx.Response(200, json={"data": {"derived": 1}}), KmsUnusableError, "no answer of a transit"),
    ],
)
async def test_what_no_engine_answers_is_named_and_tells_no_secret(
    token: Secret, answer: httpx.Response, error: type[KmsError], says: str
) -> None:
    def again(_: httpx.Request) -> httpx.Response:
        return httpx.Response(answer.status_code, content=answer.content)

    with pytest.raises(error, match=says) as raised:
        await kms_of(Engine(again), token).wrap(KEY, context="c")
    assert "secret" not in str(raised.value)
    assert b64encode(KEY).decode() not in str(raised.value)


@pytest.mark.parametrize(
    "wrapped",
    [
        b"nothing",
        wrapped_form("root-0011", b"vault:v1:AAAA"),
        wrapped_form("transit-k-v2", b"vault:v1:AAAA"),
        wrapped_form("transit-k-v1", b"vault:v1:AAAA\n"),
        wrapped_form("transit-other-v1", b"vault:v1:AAAA"),
        wrapped_form("transit-k-v1", b"vault:v1:\xff"),
    ],
)
async def test_what_the_engine_did_not_make_is_not_sent_to_it(token: Secret, wrapped: bytes) -> None:
    engine = Engine()
    with pytest.raises(UnwrapError):
        await kms_of(engine, token).unwrap(wrapped, context="c")
    assert engine.asked == []


def role_of(
    answer: Answer | Callable[[httpx.Request], Coroutine[None, None, httpx.Response]], token: Secret
) -> TransitKms:
    place = TransitPlace("https://bao", "transit", "k", RoleLogin(token, token))
    return TransitKms(place, transport=httpx.MockTransport(answer))


@dataclass
class Logins:
    """Answers logins, each with a token of its own; a token that is revoked counts no more."""

    lease_s: int
    engine: Engine = field(default_factory=Engine)
    count: int = 0
    revoked: set[str] = field(default_factory=set)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        if request.url.path != "/v1/auth/approle/login":
            is_revoked = request.headers["x-vault-token"] in self.revoked
            return httpx.Response(403) if is_revoked else self.engine(request)
        assert "x-vault-token" not in request.headers
        self.count += 1
        login = {"client_token": f"t{self.count}", "lease_duration": self.lease_s}
        return httpx.Response(200, json={"auth": login})


async def test_a_role_logs_in_once_and_again_when_its_lease_is_used_up(token: Secret) -> None:
    logins, now = Logins(lease_s=600), 0.0
    role = AppRole(token, token, clock=lambda: now)
    kms = role_of(logins, token)
    kms._login = role
    wrapped = await kms.wrap(KEY, context="c")
    await kms.unwrap(wrapped, context="c")
    assert logins.count == 1
    now = 399.0
    await kms.unwrap(wrapped, context="c")
    assert logins.count == 1
    now = 401.0
    await kms.unwrap(wrapped, context="c")
    await kms.unwrap(wrapped, context="c")

    assert logins.count == 2


async def test_a_lease_of_zero_has_no_end(token: Secret) -> None:
    logins = Logins(lease_s=0)
    kms = role_of(logins, token)
    await kms.check()
    await kms.check()

    assert logins.count == 1


async def test_uses_at_once_share_a_login_and_the_one_after_their_token_was_revoked(token: Secret) -> None:
    logins = Logins(lease_s=600)
    kms = role_of(logins, token)
    await asyncio.gather(*(kms.check() for _ in range(20)))
    assert logins.count == 1
    logins.revoked = {"t1"}
    await asyncio.gather(*(kms.check() for _ in range(20)))

    assert logins.count == 2


async def test_what_is_denied_to_the_role_costs_a_login_for_each_use(token: Secret) -> None:
    """Whether a token has ended cannot be told from what is denied to it, but by asking with a new one."""
    logins = Logins(lease_s=600, revoked={f"t{n}" for n in range(10)})
    kms = role_of(logins, token)
    for _ in range(3):
        with pytest.raises(KmsUnusableError, match="denies GET"):
            await kms.check()

    assert logins.count == 1 + 3


@pytest.mark.parametrize("content", [b"<html>", b'{"auth": null}', b'{"auth": {"client_token": "secret"}}'])
async def test_what_is_no_login_is_named_and_tells_no_secret(token: Secret, content: bytes) -> None:
    with pytest.raises(KmsUnusableError, match="login answers what is no login") as raised:
        await role_of(lambda _: httpx.Response(200, content=content), token).check()
    assert raised.value.__suppress_context__


async def test_a_secret_that_is_not_there_is_said_by_its_place() -> None:
    kms = kms_of(Engine(), Secret("env:SALUS_NO_SUCH_TOKEN"))
    with pytest.raises(KmsUnusableError, match="env:SALUS_NO_SUCH_TOKEN"):
        await kms.wrap(KEY, context="c")
    place = TransitPlace("https://bao", "transit", "k", TokenLogin(Secret("env:T")), ca="/no/such/ca.crt")
    with pytest.raises(KmsUnusableError, match=r"/no/such/ca\.crt"):
        TransitKms(place)


async def test_a_kms_that_never_answers_is_away_after_the_deadline(token: Secret) -> None:
    class Never(TransitKms):
        async def wrap(self, key: bytes, *, context: str) -> bytes:
            del key, context
            await asyncio.Event().wait()
            raise AssertionError

    place = TransitPlace("https://bao", "transit", "k", TokenLogin(token))
    metered = MeteredKms(Never(place), KeyCache(0, clock=lambda: 0.0), deadline_s=0.01)
    with pytest.raises(KmsAwayError, match=r"within 0.01 s"):
        await metered.wrap(KEY, context="c")


async def test_who_hangs_up_is_not_counted_as_a_kms_that_is_away(token: Secret) -> None:
    asked = asyncio.Event()

    async def never(_: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    def counted(outcome: str) -> float:
        labels = {"operation": "look", "outcome": outcome}
        return REGISTRY.get_sample_value("salus_storage_kms_uses_total", labels) or 0.0

    before = {outcome: counted(outcome) for outcome in ("away", "broken-off")}
    kms = role_of(never, token)
    use = asyncio.create_task(MeteredKms(kms, KeyCache(0, clock=lambda: 0.0), deadline_s=600).check())
    await asked.wait()
    use.cancel()
    await asyncio.wait([use])

    assert counted("away") == before["away"]
    assert counted("broken-off") == before["broken-off"] + 1


async def test_a_kms_takes_over_from_another_that_has_a_key_of_the_same_name(token: Secret) -> None:
    """Two engines, `transit-k-v1` in both: only the one that wrapped a key opens it."""
    old, new = (kms_of(Engine(Own(name).answer), token) for name in ("old", "new"))
    kms = KmsSuccession(new, old)
    wrapped = await old.wrap(KEY, context="c")
    assert await kms.unwrap(wrapped, context="c") == KEY

    anew = await kms.rewrap(wrapped, context="c")
    assert await new.unwrap(anew, context="c") == KEY
    assert await kms.rewrap(anew, context="c") == anew


@dataclass
class Own:
    """An engine that opens what it wrapped itself, in its context, and nothing else."""

    name: str

    def answer(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.split("/")[3]
        if operation == "keys":
            return data(FIT)
        asked = msgspec.json.decode(request.content)
        if operation == "encrypt":
            return self._wrapped(asked["context"], asked["plaintext"])
        body = asked["ciphertext"].removeprefix("vault:v1:")
        name, context, plaintext, _ = b64decode(body).decode().split(" ")
        if (name, context) != (self.name, asked["context"]):
            return httpx.Response(400)
        return self._wrapped(context, plaintext) if operation == "rewrap" else data({"plaintext": plaintext})

    def _wrapped(self, context: str, plaintext: str) -> httpx.Response:
        body = f"{self.name} {context} {plaintext} {uuid4()}"
        return data({"ciphertext": f"vault:v1:{b64encode(body.encode()).decode()}"})
