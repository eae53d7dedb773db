"""Logging in at identity: providers by the table of rights, sessions, and the token endpoint."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI
from tests.asking import NETWORK, UNASKED, FixedCallers, asked_by, truly_asked
from tests.logins import TOKEN_URL, Login

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    PartyRegistered,
    PublicKey,
    RoleWithdrawn,
    key_claims,
)
from salus.events.contexts.identity_login import (
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied, NoEffect, Outcome, Refused, Unknown, WithoutEffect
from salus.events.envelope import decode_event, encode_event
from salus.events.keyring import KeyRing
from salus.events.logins import ProviderFact
from salus.events.parties import Party
from salus.events.rights import RIGHTS, Act, Actor, Permission, Relation, Target
from salus.events.token_exchange import SESSION_KEY_TYPE, form_of
from salus.identity.domain import AddKey, PartyState, RevokeKey
from salus.identity.logins import (
    ProviderState,
    decide,
    end_session,
    evolve,
    require_key_of_party,
)
from salus.identity.providers_api import provider_routes
from salus.identity.sessions_api import session_routes
from salus.identity.token_api import FORM_TYPE, token_routes
from salus.runtime import problems
from salus.runtime.bodies import guard_bodies
from salus.runtime.limits import Rate
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
BEFORE = NOW - timedelta(days=1)
NORTH, SOUTH, ALPHA, BETA = (f"did:web:{name}.example" for name in ("north", "south", "alpha", "beta"))
NORA = f"{NORTH}:nora"
PARTIES: dict[str, tuple[Any, tuple[str, ...], str | None]] = {
    NORTH: ("member", (), None),
    SOUTH: ("member", (), None),
    ALPHA: ("person", ("operator",), None),
    BETA: ("person", ("operator",), None),
    NORA: ("person", ("clinician",), NORTH),
}
SIGNERS = {
    did: LocalSigner.from_seed(bytes([number]) * 32, f"{did}#1")
    for number, did in enumerate(PARTIES, start=1)
}
CELLS = [cell for cell in RIGHTS if cell[1] is Target.PROVIDER]
WHO = {
    Relation.ITSELF: NORTH,
    Relation.ITS_MEMBER: NORA,
    Relation.OPERATOR: ALPHA,
    Relation.OTHER: SOUTH,
}
LOGIN = Login(NORA, NORTH, NOW)
FACTS: dict[Act, ProviderFact] = {
    Act.ADD_PROVIDER: LOGIN.provider(),
    Act.REPLACE_PROVIDER_KEYS: ProviderKeysReplaced(
        "north-login", (Login(NORA, NORTH, NOW, number=1).provider_key,), request=UNASKED
    ),
    Act.WITHDRAW_PROVIDER: ProviderWithdrawn("north-login", request=UNASKED),
}


def network(*, with_provider: bool = False) -> KeyRing:
    ring = KeyRing(CATALOGUE, NETWORK)
    for did, (kind, roles, member) in PARTIES.items():
        holder = SIGNERS[did]
        key = PublicKey(holder.verification_method, multibase_of(holder.public_key), BEFORE)
        ring.apply(PartyRegistered(did, kind, (key,), roles, member, request=UNASKED))
    if with_provider:
        ring.apply(LOGIN.provider(), at=BEFORE)
    return ring


def answer(act: Act, who: str, second: str | None) -> str:
    ring = network(with_provider=act is not Act.ADD_PROVIDER)
    party = ring.parties[who]
    actor = Actor(who, party.kind, party.roles, UNASKED, member=party.member, second=second)
    try:
        decide(FACTS[act], actor=actor, operators=ring.operators(at=NOW), standing=ring)
    except Refusal as refusal:
        return refusal.code
    return "done"


def effect(act: Act, who: str, second: str | None) -> Any:
    ring = network(with_provider=act is not Act.ADD_PROVIDER)
    data = truly_asked(FACTS[act], SIGNERS[who], at=NOW, second=SIGNERS[second] if second else None)
    value = encode_event(data, id="1", source=ALPHA, subject=data.provider, time=NOW, expected_version=0)
    return ring.fold(decode_event(value, CATALOGUE), appended=NOW)


@pytest.mark.parametrize(("act", "target", "relation"), CELLS, ids=str)
def test_the_contract_and_everybody_who_folds_say_what_the_table_says(
    act: Act, target: Target, relation: Relation
) -> None:
    who = WHO[relation]
    said = {second: answer(act, who, second) for second in (None, BETA, SOUTH)}

    match RIGHTS[act, target, relation]:
        case Permission.ALONE:
            assert set(said.values()) == {"done"}
        case Permission.SECONDED:
            assert said == {BETA: "done", None: "second-operator-needed", SOUTH: "second-operator-needed"}
        case Permission.NEVER:
            assert set(said.values()) == {"not-permitted"}
    for second, code in said.items():
        allowed = code == "done"
        assert effect(act, who, second) == (Applied(1) if allowed else WithoutEffect(NoEffect.NOT_ENTITLED))


def test_a_provider_is_what_was_stated_of_it_last() -> None:
    states = [ProviderState()]
    for fact in FACTS.values():
        states.append(evolve(states[-1], fact))

    assert [(state.in_force, state.kids) for state in states] == [
        (False, ()),
        (True, ("ES256-0",)),
        (True, ("ES256-1",)),
        (False, ()),
    ]


# --- sessions by the contract -------------------------------------------------------------------------


def with_session() -> tuple[KeyRing, LocalSigner]:
    ring, one = network(with_provider=True), Login(NORA, NORTH, NOW)
    session = one.session()
    ring.apply(session, at=NOW)
    return ring, LocalSigner(one.key, session.key.id)


def test_her_session_is_ended_by_herself_her_member_or_an_operator() -> None:
    ring, session = with_session()
    state = PartyState(NORA, "person", roles=("clinician",), member=NORTH)
    command = RevokeKey(session.verification_method, "left")
    said = {}
    for who in (NORA, NORTH, ALPHA, SOUTH):
        party = ring.parties[who]
        actor = Actor(who, party.kind, party.roles, UNASKED, member=party.member)
        operators = ring.operators(at=NOW)
        try:
            ended = end_session(state, command, actor=actor, operators=operators, logins=ring.logins, at=NOW)
            said[who] = ended.key_id
        except Refusal as refusal:
            said[who] = refusal.code
    ring.apply(ended, at=NOW)

    assert said == dict.fromkeys((NORA, NORTH, ALPHA), command.key_id) | {SOUTH: "not-permitted"}
    with pytest.raises(Refusal) as again:
        end_session(state, command, actor=actor_of(ring, NORA), operators=(), logins=ring.logins, at=NOW)
    assert again.value.code == "unknown-key"


def actor_of(ring: KeyRing, did: str) -> Actor:
    party = ring.parties[did]
    return Actor(did, party.kind, party.roles, UNASKED, member=party.member)


def test_a_session_adds_no_key_and_revokes_none_of_the_persons_own() -> None:
    ring, session = with_session()
    key = PublicKey(f"{NORA}#2", multibase_of(session.public_key), NOW)
    for command, target in ((AddKey(key), "keys"), (RevokeKey(f"{NORA}#1", "left"), "keys/revoke")):
        request = asked_by(session, "identity", "POST", f"/parties/{NORA}/{target}", at=NOW, body={})
        data = truly_asked(_fact_of(command), SIGNERS[NORA], at=NOW)
        require_key_of_party(data, ring.logins)
        with pytest.raises(Refusal) as refused:
            require_key_of_party(msgspec.structs.replace(data, request=request), ring.logins)
        assert refused.value.code == "session-key"


def test_a_session_puts_no_other_in_doubt() -> None:
    """Case C8-5."""
    ring, session = with_session()
    other, since = Login(NORA, NORTH, NOW).session(), NOW + timedelta(seconds=1)
    ring.apply(other, at=NOW)
    state = PartyState(NORA, "person", roles=("clinician",), member=NORTH)
    codes = []
    for key_id in (session.verification_method, other.key.id):
        command = RevokeKey(key_id, "compromised", since)
        ended = KeyRevoked(NORA, key_id, command.reason, since, request=UNASKED)
        actor = replace(actor_of(ring, NORA), request=truly_asked(ended, session, at=since).request)
        try:
            end_session(state, command, actor=actor, operators=(), logins=ring.logins, at=since)
            codes.append("")
        except Refusal as refusal:
            codes.append(refusal.code)

    assert codes == ["", "session-key"]


def _fact_of(command: AddKey | RevokeKey) -> Any:
    if isinstance(command, AddKey):
        return KeyAdded(NORA, command.key, request=UNASKED)
    return KeyRevoked(NORA, command.key_id, command.reason, request=UNASKED)


# --- over HTTP ----------------------------------------------------------------------------------------


@dataclass
class Identity:
    """The ring, and what the routes use; whatever is decided is folded at once."""

    caller: str = ALPHA
    ring: KeyRing = field(default_factory=network)
    outcome: Outcome | None = None
    opened: list[SessionOpened] = field(default_factory=list)

    async def state(self, _: str) -> ProviderState:
        return ProviderState()

    async def execute(self, _: str, rule: Callable[[ProviderState], Awaitable[ProviderFact]]) -> None:
        self.ring.apply(await rule(ProviderState()), at=BEFORE)

    async def write(self, data: SessionOpened, *, subject: str) -> Outcome:
        assert subject == data.did
        self.opened.append(data)
        self.ring.apply(data, at=NOW)
        return self.outcome or Applied(1)

    async def catch_up(self) -> KeyRing:
        return self.ring

    def _party(self, _: object) -> Party:
        return self.ring.parties[self.caller]

    async def send(self, method: str, path: str, *, logins: int = 9, **more: Any) -> httpx.Response:
        app = FastAPI()
        problems.install(app)

        def nobody(*_: object) -> Any:
            raise AssertionError("nobody with a bearer is asked for")

        guard_bodies(app, streams=(), admit=None if path != "/token" else nobody, open_bodies=("/token",))
        stands: Any = self
        caller = FixedCallers(self._party)
        now: Callable[[], datetime] = lambda: NOW  # noqa: E731  # short
        app.include_router(provider_routes(stands, authenticate=caller, ring=self, now=now))
        rate = Rate(burst=logins, per_minute=1)
        app.include_router(session_routes(ring=self, authenticate=caller, now=now))
        app.include_router(token_routes(stands, ring=self, now=now, logins=rate))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="https://identity.example") as client:
            return await client.request(method, path, **more)

    async def exchange(self, one: Login, **more: Any) -> httpx.Response:
        headers = {"DPoP": one.proof(url=TOKEN_URL), "Content-Type": FORM_TYPE}
        return await self.send("POST", "/token", content=form_of(one.id_token()), headers=headers, **more)


def body_of(one: Login) -> dict[str, Any]:
    facts = msgspec.to_builtins(one.provider())
    return {name: value for name, value in facts.items() if name != "request"}


async def test_a_provider_is_added_shown_given_other_keys_and_withdrawn() -> None:
    identity = Identity(ring=network())
    identity.ring.apply(_without_beta())
    added = await identity.send("POST", "/providers", json=body_of(LOGIN))
    listed = await identity.send("GET", "/providers")
    fresh = [msgspec.to_builtins(Login(NORA, NORTH, NOW, number=1).provider_key)]
    replaced = await identity.send("POST", "/providers/north-login/keys", json={"keys": fresh})
    twice = await identity.send("POST", "/providers", json=body_of(LOGIN))
    withdrawn = await identity.send("POST", "/providers/north-login/withdraw")
    gone = await identity.send("GET", "/providers/north-login")

    assert added.status_code == 201, added.text
    assert listed.json()["providers"] == [added.json()]
    assert added.json()["keys"][0]["kid"] == "ES256-0"
    assert replaced.json()["keys"][0]["kid"] == "ES256-1"
    assert (twice.status_code, twice.json()["code"]) == (409, "provider-exists")
    assert (withdrawn.status_code, withdrawn.json()) == (200, {"provider": "north-login"})
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown-provider")


def _without_beta() -> Any:
    return RoleWithdrawn(BETA, "operator", request=UNASKED)


async def test_an_id_token_and_a_proof_are_exchanged_for_a_session_without_a_bearer() -> None:
    identity = Identity(ring=network(with_provider=True))
    one = Login(NORA, NORTH, NOW)
    answered = await identity.exchange(one)

    assert answered.status_code == 200, answered.text
    assert answered.json() == {
        "access_token": identity.opened[0].key.id,
        "issued_token_type": SESSION_KEY_TYPE,
        "token_type": "N_A",
        "expires_in": 3600,
        "did": NORA,
        "provider": "north-login",
        "acr": None,
    }


_SENT: dict[str, tuple[dict[str, Any], str, str]] = {
    "no proof": ({"headers": {"Content-Type": FORM_TYPE}}, "invalid_dpop_proof", "invalid-dpop-proof"),
    "JSON": ({"headers": {"Content-Type": "application/json"}}, "invalid_request", "invalid-exchange"),
    "a query": ({"params": {"note": "x"}}, "invalid_request", "invalid-exchange"),
    "no form": ({"content": b"abc"}, "invalid_request", "invalid-exchange"),
    "nothing": ({"content": b""}, "invalid_request", "invalid-exchange"),
}


@pytest.mark.parametrize("name", _SENT)
async def test_errors_are_those_of_oauth_with_a_stable_code(name: str) -> None:
    more, error, code = _SENT[name]
    one = Login(NORA, NORTH, NOW)
    headers = {"DPoP": one.proof(), "Content-Type": FORM_TYPE}
    asked = {"content": form_of(one.id_token()), "headers": headers} | more
    if name == "JSON":
        asked["content"] = b"{}"
    answered = await Identity(ring=network(with_provider=True)).send("POST", "/token", **asked)

    assert answered.status_code == 400, answered.text
    assert (answered.json()["error"], answered.json()["code"]) == (error, code)
    assert set(answered.json()) == {"error", "error_description", "code"}


async def test_two_proofs_are_none() -> None:
    one = Login(NORA, NORTH, NOW)
    headers = [("DPoP", one.proof()), ("DPoP", one.proof()), ("Content-Type", FORM_TYPE)]
    answered = await Identity(ring=network(with_provider=True)).send(
        "POST", "/token", content=form_of(one.id_token()), headers=headers
    )

    assert answered.json()["error"] == "invalid_dpop_proof"


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (WithoutEffect(NoEffect.NAME_TAKEN), 400, "token-used"),
        (WithoutEffect(NoEffect.NOT_ENTITLED), 409, "conflict"),
        (Refused("invalid-request"), 503, "not-accepted"),
        (Unknown("Kafka did not answer in time"), 503, "outcome-unknown"),
    ],
)
async def test_only_a_session_that_took_effect_is_one(outcome: Outcome, status: int, code: str) -> None:
    identity = Identity(ring=network(with_provider=True), outcome=outcome)
    answered = await identity.exchange(Login(NORA, NORTH, NOW))

    assert (answered.status_code, answered.json()["code"]) == (status, code)


async def test_an_exchange_that_is_sent_again_is_neither_counted_nor_stated() -> None:
    """Case C8-4: who reads the topic used up somebody's logins, and wrote on the ledger with each."""
    identity = Identity(ring=network(with_provider=True))
    one, another = Login(NORA, NORTH, NOW), Login(NORA, NORTH, NOW)
    first = await identity.exchange(one)
    identity.ring.claims.update(key_claims(identity.opened[0].key))
    again = await identity.exchange(one, logins=0)
    other = await identity.exchange(another, logins=0)

    assert first.status_code == 200
    assert (again.status_code, again.json()["code"]) == (400, "token-used")
    assert other.status_code == 429
    assert len(identity.opened) == 1


async def test_a_proof_for_an_address_that_is_none_is_no_fault_of_ours() -> None:
    """Case C8-1: `urlsplit` raised at it, and the answer was 500."""
    identity, one = Identity(ring=network(with_provider=True)), Login(NORA, NORTH, NOW)
    headers = {"DPoP": one.proof(url="https://[/token"), "Content-Type": FORM_TYPE}
    answered = await identity.send("POST", "/token", content=form_of(one.id_token()), headers=headers)

    assert (answered.status_code, answered.json()["code"]) == (400, "invalid-dpop-proof")


async def test_a_person_logs_in_so_often_and_no_more() -> None:
    identity = Identity(ring=network(with_provider=True))
    answered = await identity.exchange(Login(NORA, NORTH, NOW), logins=0)

    assert answered.status_code == 429
    assert not identity.opened
