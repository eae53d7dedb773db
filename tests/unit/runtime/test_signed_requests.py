"""A request that makes an event is signed as it is sent, and its token is used once (cases X7, D1)."""

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Depends, FastAPI
from fastapi import Request as HttpRequest
from tests.asking import NETWORK, UNASKED

from salus.client.auth import RequestLine, RequestSigner, make_approval, make_bearer
from salus.events.accountability import approver_of
from salus.events.bearer import CLOCK_SKEW_S, Bearer, BearerError, audience_of, read_bearer
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import MemberReinstated, MemberSuspended, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.runtime import problems
from salus.runtime.auth import Authenticator, Caller
from salus.runtime.problems import ProblemError
from salus.runtime.used_tokens import UsedTokens

CALLER = LocalSigner.from_seed(b"c" * 32)
SECOND = LocalSigner.from_seed(b"d" * 32)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Ring:
    def __init__(self) -> None:
        self.ring = KeyRing(CATALOGUE, NETWORK)
        member = "did:web:h.example"
        for signer in (CALLER, SECOND):
            key = PublicKey(signer.verification_method, multibase_of(signer.public_key), LONG_AGO)
            self.ring.apply(
                PartyRegistered(did=signer.did, kind="person", keys=(key,), member=member, request=UNASKED)
            )

    async def catch_up(self) -> KeyRing:
        return self.ring


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    ring: Any = Ring()
    app, authenticate = FastAPI(), Authenticator(ring, service="test", approvals=True)
    at_consent, at_storage = (Authenticator(ring, service=name) for name in ("consent", "storage"))
    problems.install(app)

    @app.post("/commands/{name}")
    async def command(name: str, caller: Annotated[Caller, Depends(authenticate.command)]) -> dict[str, Any]:
        return {
            "name": name,
            "by": caller.request.by,
            "behalf": caller.request.behalf,
            "body": caller.request.body,
            "second": caller.second,
        }

    @app.post("/consents/c/revoke")
    async def revoke(caller: Annotated[Caller, Depends(at_consent.command)]) -> str | None:
        return caller.request.body

    @app.put("/objects/o")
    async def store(caller: Annotated[Caller, Depends(at_storage.transfer)]) -> str:
        return caller.request.by

    @app.put("/transfers/{name}")
    async def transfer(
        name: str, caller: Annotated[Caller, Depends(authenticate.transfer)]
    ) -> dict[str, Any]:
        return {"name": name, "body": caller.request.body, "digest": caller.digest}

    @app.get("/questions/{name}")
    async def question(name: str, party: Annotated[Party, Depends(authenticate)]) -> dict[str, Any]:
        return {"name": name, "by": party.did}

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


SIGN = RequestSigner(CALLER, "test", network=NETWORK)


def audience_at(target: str) -> str:
    """The service whose request it is, as the catalogue has it; of the others, one of the tests."""
    services = {"consents": "consent", "objects": "storage"}
    return audience_of(services.get(target.strip("/").partition("/")[0], "test"), NETWORK)


def bearer(method: str, target: str, body: bytes | None = None, **facts: Any) -> dict[str, str]:
    line = RequestLine(method, target, body)
    token = make_bearer(
        CALLER,
        facts.get("audience", audience_of("test", NETWORK)),
        now=facts.get("now", datetime.now(UTC)),
        request=line,
    )
    return {"Authorization": f"Bearer {token}"}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_a_signed_command_is_taken_with_its_body(client: httpx.AsyncClient) -> None:
    answer = await client.post("/commands/a%20b?x=1&y=%C3%A9", json={"a": 1}, auth=SIGN)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "name": "a b",
        "by": CALLER.did,
        "behalf": "did:web:h.example",
        "body": '{"a":1}',
        "second": None,
    }


WRONG = {
    "method": ("PUT", "/commands/a", b"{}"),
    "path": ("POST", "/commands/b", b"{}"),
    "query": ("POST", "/commands/a?x=1", b"{}"),
    "body": ("POST", "/commands/a", b"[]"),
    "no digest": ("POST", "/commands/a", None),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_token_for_another_request_is_refused(client: httpx.AsyncClient, what: str) -> None:
    answer = await client.post("/commands/a", content=b"{}", headers=bearer(*WRONG[what]))

    assert answer.status_code == 401


@pytest.mark.parametrize(("what", "named"), [("method", "htm"), ("path", "htu"), ("query", "htu")])
async def test_a_refused_token_is_told_which_claim_is_wrong(
    client: httpx.AsyncClient, what: str, named: str
) -> None:
    answer = await client.post("/commands/a", content=b"{}", headers=bearer(*WRONG[what]))

    assert answer.json()["detail"].startswith(f"{named} is not")


async def test_the_token_of_the_integrators_page_signs_a_request(client: httpx.AsyncClient) -> None:
    page = (Path(__file__).parents[3] / "docs" / "integrators.md").read_text()
    (source,) = re.findall(r"^```python\n([^`]*def request_token.*?)^```", page, re.MULTILINE | re.DOTALL)
    program: dict[str, Any] = {}
    exec(source, program)  # what the page tells integrators to write
    key = Ed25519PrivateKey.from_private_bytes(b"c" * 32)

    token = program["request_token"](
        key, CALLER.verification_method, "test", NETWORK, "POST", "/commands/a", b"{}"
    )
    answer = await client.post("/commands/a", content=b"{}", headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 200, answer.text


async def test_a_token_without_a_request_gives_no_command(client: httpx.AsyncClient) -> None:
    token = make_bearer(CALLER, audience_of("test", NETWORK), now=datetime.now(UTC))
    answer = await client.post("/commands/a", headers={"Authorization": f"Bearer {token}"})

    assert code(answer) == (401, "unbound-token")


async def test_a_token_is_used_once(client: httpx.AsyncClient) -> None:  # case X7
    headers = bearer("POST", "/commands/a", b"{}")
    first = await client.post("/commands/a", content=b"{}", headers=headers)
    second = await client.post("/commands/a", content=b"{}", headers=headers)

    assert first.status_code == 200
    assert code(second) == (401, "token-used")


async def test_a_token_that_stands_in_an_event_asks_no_question(client: httpx.AsyncClient) -> None:
    # Everybody who reads the topic has the tokens of commands, while they are valid.
    of_a_command = bearer("POST", "/commands/a", b"{}")
    unbound = make_bearer(CALLER, audience_of("test", NETWORK), now=datetime.now(UTC))

    assert code(await client.get("/questions/a", headers=of_a_command)) == (401, "unbound-token")
    assert (await client.get("/questions/a", headers=bearer("GET", "/questions/a"))).status_code == 200
    assert (await client.get("/questions/a", auth=SIGN)).status_code == 200
    answer = await client.get("/questions/a", headers={"Authorization": f"Bearer {unbound}"})
    assert answer.json() == {"name": "a", "by": CALLER.did}


async def test_a_transfer_may_leave_the_digest_out(client: httpx.AsyncClient) -> None:
    streamed = RequestSigner(CALLER, "test", network=NETWORK, stream=True)
    without = await client.put("/transfers/a", content=b"bytes", auth=streamed)
    named = await client.put("/transfers/a", content=b"bytes", auth=SIGN)

    assert without.json() == {"name": "a", "body": None, "digest": None}
    assert len(named.json()["digest"]) == 64


@pytest.mark.parametrize(("ahead_s", "status"), [(CLOCK_SKEW_S - 2, 200), (CLOCK_SKEW_S + 5, 401)])
async def test_clocks_may_differ_a_little(client: httpx.AsyncClient, ahead_s: int, status: int) -> None:
    now = datetime.now(UTC) + timedelta(seconds=ahead_s)
    answer = await client.post(
        "/commands/a", content=b"{}", headers=bearer("POST", "/commands/a", b"{}", now=now)
    )

    assert answer.status_code == status


def used_token(issuer: str, name: str, *, expires: float = 2000) -> Bearer:
    return Bearer(iss=issuer, sub=issuer, aud="a", iat=0, exp=expires, jti=name)


THEN = datetime.fromtimestamp(1000, UTC)


def test_one_account_does_not_fill_the_room_for_used_tokens() -> None:
    used = UsedTokens(most=8, most_of_one=2, least_of_one=1)
    used.require_new(used_token("mallory", "x" * 3000), organisation="o", now=THEN)
    used.require_new(used_token("mallory", "2"), organisation="o", now=THEN)

    with pytest.raises(ProblemError, match="too-many-tokens") as caught:
        used.require_new(used_token("mallory", "3"), organisation="o", now=THEN)
    assert caught.value.status == 429
    used.require_new(used_token("alice", "2"), organisation="o", now=THEN)
    with pytest.raises(ProblemError, match="token-used"):
        used.require_new(used_token("mallory", "x" * 3000), organisation="o", now=THEN)


def test_no_number_of_accounts_fills_the_room_of_another() -> None:  # red team 3, 17: four were enough
    used = UsedTokens(most=1000, most_of_one=250, least_of_one=3)
    for account in range(50):
        for number in range(260):
            with suppress(ProblemError):
                used.require_new(
                    used_token(f"mallory-{account}", str(number)), organisation=f"m-{account}", now=THEN
                )

    for number in range(3):
        used.require_new(used_token("alice", str(number)), organisation="alice", now=THEN)
    with pytest.raises(ProblemError, match="too-many-tokens") as caught:
        used.require_new(used_token("alice", "3"), organisation="alice", now=THEN)
    assert caught.value.status == 429


def test_used_tokens_are_forgotten_when_they_expire_and_never_beyond_the_room() -> None:
    used = UsedTokens(most=4, most_of_one=2, least_of_one=0)
    used.require_new(used_token("i", "1", expires=1010), organisation="o", now=THEN)
    used.require_new(used_token("i", "2"), organisation="o", now=THEN)

    with pytest.raises(ProblemError, match="too-many-tokens"):
        used.require_new(used_token("i", "3"), organisation="o", now=THEN)
    later = THEN + timedelta(seconds=60)
    used.require_new(used_token("i", "3"), organisation="o", now=later)
    with pytest.raises(ProblemError, match="token-used"):
        used.require_new(used_token("i", "2"), organisation="o", now=later)


def test_accounts_of_some_organisations_fill_no_room_of_others() -> None:
    # Case: three members at full flood left others 1,000 tokens in five minutes.
    used = UsedTokens(most=1000, most_of_one=250, least_of_one=3)
    for member in range(3):
        for number in range(1000):
            with suppress(ProblemError):
                token = used_token(f"person-{member}-{number % 10}", str(number))
                used.require_new(token, organisation=f"member-{member}", now=THEN)
    for number in range(60):
        used.require_new(used_token("alice", str(number)), organisation="hospital", now=THEN)

    later = THEN + timedelta(seconds=2000)
    for number in range(250):
        used.require_new(used_token("bob", str(number), expires=4000), organisation="hospital", now=later)


async def test_an_approval_is_of_this_request_and_of_somebody_else(client: httpx.AsyncClient) -> None:
    seconded = RequestSigner(CALLER, "test", network=NETWORK, second=SECOND)
    alone = RequestSigner(CALLER, "test", network=NETWORK, second=CALLER)
    approved = await client.post("/commands/a", json={"a": 1}, auth=seconded)
    other = make_approval(SECOND, RequestLine("POST", "/commands/b"), network=NETWORK, now=datetime.now(UTC))
    refused = [
        await client.post("/commands/a", json={"a": 1}, auth=alone),
        await client.post("/commands/a", json={"a": 1}, auth=SIGN, headers={"Salus-Approval": other}),
        await client.post("/commands/a", json={"a": 1}, auth=SIGN, headers={"Salus-Approval": "x"}),
    ]

    assert approved.json()["second"] == SECOND.did
    assert [code(answer) for answer in refused] == [(403, "approval-invalid")] * 3


async def test_only_a_command_that_may_need_an_approval_takes_one(client: httpx.AsyncClient) -> None:
    """The third red team: it stood in the event of a read, and ended before the read broke off."""
    signer: Any = RequestSigner(CALLER, "test", network=NETWORK, second=SECOND)
    answer = await client.put("/transfers/a", content=b"bytes", auth=signer)

    assert code(answer) == (422, "invalid-request")
    assert "Salus-Approval" in answer.json()["detail"]


@pytest.mark.parametrize(
    "target", ["/transfers/a?x=1&x=2", "/transfers/a?x=1&x=1", "/transfers%2Fa", "/transfers/a?x=1&%78=2"]
)
async def test_a_request_that_its_judges_would_read_otherwise_is_refused(
    client: httpx.AsyncClient, target: str
) -> None:
    answer = await client.put(target, headers=bearer("PUT", target))

    assert answer.request.url.raw_path == target.encode()
    assert code(answer) == (422, "invalid-request")


class Joining(Ring):
    """A ring that knows nobody until it has caught up."""

    def __init__(self) -> None:
        super().__init__()
        self.joined, self.ring = self.ring, KeyRing(CATALOGUE, NETWORK)

    async def catch_up(self) -> KeyRing:
        self.ring = self.joined
        return self.ring


class Reinstating(Ring):
    """A ring in which the callers' member is suspended until it has caught up."""

    def __init__(self) -> None:
        super().__init__()
        self.ring.apply(MemberSuspended("did:web:h.example", "inquiry", request=UNASKED))

    async def catch_up(self) -> KeyRing:
        self.ring.apply(MemberReinstated("did:web:h.example", "unfounded", request=UNASKED))
        return self.ring


async def test_whoever_was_reinstated_a_moment_ago_may_send_a_body() -> None:
    ring: Any = Reinstating()
    token = make_bearer(CALLER, audience_of("test", NETWORK), now=datetime.now(UTC))
    async with Authenticator(ring, service="test").admit(sent(token), 1):
        pass


async def test_of_a_suspended_member_no_body_is_read_and_no_approval_taken() -> None:
    ring: Any = Ring()
    ring.ring.apply(MemberSuspended("did:web:h.example", "inquiry", request=UNASKED))
    token = make_bearer(CALLER, audience_of("test", NETWORK), now=datetime.now(UTC))
    with pytest.raises(ProblemError, match="member-suspended"):
        async with Authenticator(ring, service="test").admit(sent(token), 1):
            pass
    line = RequestLine("POST", "/commands/a", None)
    approval = make_approval(SECOND, line, network=NETWORK, now=datetime.now(UTC))
    request = bearer("POST", "/commands/a")["Authorization"].removeprefix("Bearer ")
    asked = read_bearer(request, audience=None).claims
    with pytest.raises(BearerError, match="not signed by a key that may sign"):
        approver_of(approval, asked=asked, ring=ring.ring, at=datetime.now(UTC))


def sent(token: str) -> HttpRequest:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "raw_path": b"/", "headers": headers}
    return HttpRequest({**scope, "query_string": b""})


async def test_a_party_that_joined_a_moment_ago_may_send_a_body() -> None:  # red team 3, 1
    ring: Any = Joining()
    authenticate = Authenticator(ring, service="test")
    async with authenticate.admit(
        sent(make_bearer(CALLER, audience_of("test", NETWORK), now=datetime.now(UTC))), 1
    ):
        pass

    for stranger in (
        make_bearer(LocalSigner.from_seed(b"x" * 32), audience_of("test", NETWORK), now=datetime.now(UTC)),
        make_bearer(CALLER, audience_of("other", NETWORK), now=datetime.now(UTC)),
        make_bearer(CALLER, audience_of("test", NETWORK), now=LONG_AGO),
        "x",
    ):
        with pytest.raises(ProblemError, match="unauthenticated"):
            await authenticate.admit(sent(stranger), 1).__aenter__()


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/consents/c/revoke", b"Jane Roe, born 1980-01-01"),
        ("POST", "/consents/c/revoke", b"{}"),
        ("POST", "/consents/c/revoke?note=Jane%20Roe", None),
        ("POST", "/consents/c/revoke?", b" "),
        ("PUT", "/objects/o?patient=p&note=Jane", None),
        ("PUT", "/objects/o?patient=p&&", None),
    ],
)
async def test_more_than_a_request_needs_is_refused_before_it_is_stated(  # red team 3, 7
    client: httpx.AsyncClient, method: str, target: str, body: bytes | None
) -> None:
    headers = bearer(method, target, body, audience=audience_at(target))
    answer = await client.request(method, target, content=body, headers=headers)

    assert code(answer) == (422, "invalid-request")
    assert "Jane" not in answer.text


async def test_what_a_request_needs_is_taken(client: httpx.AsyncClient) -> None:
    at_consent, at_storage = (RequestSigner(CALLER, name, network=NETWORK) for name in ("consent", "storage"))
    revoked = await client.post("/consents/c/revoke", auth=at_consent)
    unnamed = await client.post(
        "/consents/c/revoke",
        headers=bearer("POST", "/consents/c/revoke", audience=audience_of("consent", NETWORK)),
    )
    stored = await client.put("/objects/o?patient=p", content=b"x", auth=at_storage)

    assert [answer.status_code for answer in (revoked, unnamed, stored)] == [200, 200, 200]
    assert revoked.json() is None


async def test_a_token_names_no_body_where_there_is_none(client: httpx.AsyncClient) -> None:
    headers = bearer("POST", "/consents/c/revoke", b"Jane Roe")
    answer = await client.post("/consents/c/revoke", headers=headers)

    assert code(answer) == (401, "unauthenticated")
