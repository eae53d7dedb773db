"""Who logs in gets a session, and nobody else: what stolen tokens, lying providers, stolen keys come to."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.logins import CLIENT, DID_CLAIM, Login
from tests.unit.events.samples import ROOT, SERVICES, records_of, row, verdict

from salus.events.accountability import verify_request
from salus.events.batch_judging import BatchJudging
from salus.events.bearer import CLOCKS
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
    PublicKey,
    RoleGranted,
)
from salus.events.contexts.identity_login import (
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData, type_of
from salus.events.keyring import KeyRing
from salus.events.login_rights import SESSIONS_MAX
from salus.events.requests import Request
from salus.events.sessions import LoginError, session_of
from salus.events.token_exchange import form_of
from salus.ledger.records import timestamp_at

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
NORTH, SOUTH, WEST = (f"did:web:{name}.example" for name in ("north", "south", "west"))
NORA, NINA, SVEN, WIM = f"{NORTH}:nora", f"{NORTH}:nina", f"{SOUTH}:sven", f"{WEST}:wim"
PARTIES: dict[str, tuple[Any, tuple[str, ...], str | None]] = {
    NORTH: ("member", (), None),
    SOUTH: ("member", (), None),
    WEST: ("member", (), None),
    NORA: ("person", ("clinician",), NORTH),
    NINA: ("person", ("operator",), NORTH),
    SVEN: ("person", ("operator",), SOUTH),
    WIM: ("person", ("operator",), WEST),
    f"{SOUTH}:susi": ("person", ("clinician",), SOUTH),
}
SUSI = f"{SOUTH}:susi"
IDENTITY = SERVICES["identity"]


def signer(did: str) -> LocalSigner:
    return LocalSigner.from_seed((1000 + [*PARTIES].index(did)).to_bytes(32), f"{did}#1")


@dataclass
class Town:
    """A network as everybody has it who folds identity's topic."""

    ring: KeyRing = field(
        default_factory=lambda: KeyRing.rooted(
            CATALOGUE, network=NETWORK, did=ROOT.did, key=_key(ROOT, NOON - timedelta(days=9))
        )
    )

    def __post_init__(self) -> None:
        for did, (kind, roles, member) in PARTIES.items():
            joined = PartyRegistered(
                did, kind, (_key(signer(did), NOON - timedelta(days=9)),), roles, member, request=UNASKED
            )
            self.ring.apply(joined, at=NOON - timedelta(days=1))

    def add_provider(self, login: Login, **more: Any) -> str:
        return self.say(login.provider(**more), SVEN, second=WIM)

    def say(self, data: Any, by: str | LocalSigner, *, at: datetime = NOON, second: str | None = None) -> str:
        """State what somebody asked for, and return the code of the objection, or `done`."""
        asking = signer(by) if isinstance(by, str) else by
        asked = truly_asked(data, asking, at=at, second=signer(second) if second else None)
        return self.state(asked, at=at)

    def state(self, data: EventData, *, at: datetime = NOON, appended: datetime | None = None) -> str:
        """Let everybody fold an event of identity, as the sequencer lets it; return the code, or `done`."""
        event = decode_event(self.value(data, at=at), CATALOGUE)
        verify_request(event, ring=self.ring, at=appended or at)
        offset = self.ring.position
        self.ring.fold(event, appended=appended or at)
        self.ring.position = offset + 1
        if offset in self.ring.unentitled:
            return self.ring.unentitled[offset].code
        return "done" if self.ring.took_effect(offset) else "no effect"

    def value(self, data: EventData, *, at: datetime) -> bytes:
        entry = type_of(data)
        subject = getattr(data, entry.subject_field or "")
        version = self.ring.versions.get(subject, 0) if entry.changes else None
        return encode_event(
            data,
            id=f"e{self.ring.position}",
            source=IDENTITY.did,
            subject=subject,
            time=at,
            expected_version=version,
        )

    def asks(self, by: LocalSigner, *, at: datetime, appended: datetime | None = None) -> bool:
        """Tell whether everybody takes a consent that was asked for with this key at that moment."""
        granted = ConsentGranted(
            consent="00000000-0000-4000-8000-000000000001.0123456789abcdef0123",
            patient="urn:uuid:00000000-0000-4000-8000-000000000001",
            grantee=SUSI,
            actions=("read",),
            purposes=("TREAT",),
            epoch=1,
            valid_from=NOON,
            valid_until=NOON + timedelta(days=1),
            request=UNASKED,
        )
        data = truly_asked(granted, by, at=at)
        data = msgspec.structs.replace(data, request=msgspec.structs.replace(data.request, behalf=NORTH))
        value = encode_event(
            data, id="c1", source=ROOT.did, subject=data.patient, time=at, expected_version=0
        )
        try:
            verify_request(decode_event(value, CATALOGUE), ring=self.ring, at=appended or at)
        except RejectedError:
            return False
        return True


def _key(holder: LocalSigner, since: datetime) -> PublicKey:
    return PublicKey(holder.verification_method, multibase_of(holder.public_key), since)


def login(did: str = NORA, **more: Any) -> Login:
    return Login(did, NORTH, NOON, **more)


def logged_in(town: Town, one: Login | None = None) -> LocalSigner:
    """Let somebody log in, and return the signer of the session."""
    one = one or login()
    if not town.ring.logins.providers:
        assert town.add_provider(one) == "done"
    session = one.session()
    assert town.state(session) == "done"
    return LocalSigner(one.key, session.key.id)


LATER = NOON + timedelta(minutes=1)


@pytest.mark.parametrize("alg", ["ES256", "RS256", "PS256"])
def test_who_logs_in_signs_what_she_asks_for_until_the_session_ends(alg: str) -> None:
    town = Town()
    one = login(alg=alg)
    session = logged_in(town, one)

    assert town.asks(session, at=LATER)
    assert not town.asks(session, at=NOON + timedelta(seconds=3600) + CLOCKS)
    assert not town.asks(LocalSigner(Ed25519PrivateKey.generate(), session.verification_method), at=LATER)
    assert town.ring.logins.keys[session.verification_method].did == NORA


# --- what opens no session ----------------------------------------------------------------------------

_S = int(NOON.timestamp())
_BAD_TOKENS: dict[str, tuple[Callable[[Login], Any], str]] = {
    "of another issuer": (lambda x: x.claims.update(iss="https://evil.example"), "provider-unknown"),
    "for another client": (lambda x: x.claims.update(aud="other"), "provider-unknown"),
    "for several clients": (lambda x: x.claims.update(aud=[CLIENT, "other"]), "provider-unknown"),
    "issued to another": (lambda x: x.claims.update(azp="other"), "provider-unknown"),
    "expired": (lambda x: x.claims.update(exp=_S - 60), "id-token-expired"),
    "found later": (
        lambda x: x.claims.update(iat=_S - 400, exp=_S + 900, auth_time=_S - 400),
        "id-token-expired",
    ),
    "of the future": (lambda x: x.claims.update(iat=_S + 60), "id-token-expired"),
    "not yet valid": (lambda x: x.claims.update(nbf=_S + 60), "id-token-expired"),
    "without an end": (lambda x: x.claims.update(exp=None), "id-token-invalid"),
    "with an end of words": (lambda x: x.claims.update(exp="later"), "id-token-invalid"),
    "without a nonce": (lambda x: x.claims.update(nonce=None), "id-token-invalid"),
    "for another key": (lambda x: x.claims.update(nonce="abc"), "key-not-of-login"),
    "in another network": (lambda x: vars(x).update(network="salus.example/other"), "key-not-of-login"),
    "that tells not when she signed on": (lambda x: x.claims.update(auth_time=None), "auth-time-missing"),
    "of a single sign-on of weeks ago": (lambda x: x.claims.update(auth_time=_S - 7201), "sign-on-too-old"),
    "looked at after it was issued": (
        lambda x: x.claims.update(auth_time=_S + 5),
        "id-token-invalid",
    ),
    "with a name": (lambda x: x.claims.update(name="Nora North"), "personal-claims"),
    "with a mail address": (lambda x: x.claims.update(sub="nora@north.example"), "id-token-invalid"),
    "of nobody": (lambda x: x.claims.update({DID_CLAIM: None}), "id-token-invalid"),
    "with a key of its own": (lambda x: x.header.update(jku="https://evil.example"), "id-token-invalid"),
    "of another type": (lambda x: x.header.update(typ="at+jwt"), "id-token-invalid"),
    "by a key that nobody named": (lambda x: vars(x).update(number=1), "provider-key-unknown"),
    "by another key under its name": (
        lambda x: (vars(x).update(number=1), x.header.update(kid="ES256-0")),
        "id-token-invalid",
    ),
    "with another algorithm": (
        lambda x: (vars(x).update(alg="RS256"), x.header.update(kid="ES256-0")),
        "id-token-invalid",
    ),
}


@pytest.mark.parametrize("name", _BAD_TOKENS)
def test_an_id_token_that_is_not_good_opens_no_session(name: str) -> None:
    change, code = _BAD_TOKENS[name]
    one = login()
    provider = one.provider()
    change(one)

    with pytest.raises(LoginError) as refused:
        one.session(provider=provider)

    assert (refused.value.code, refused.value.error) == (code, "invalid_grant")


def forged(one: Login, header: dict[str, Any]) -> str:
    """An ID token with this header and the signature of the true one."""
    _, payload, signature = one.id_token().split(".")
    begin = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{begin}.{payload}.{signature}"


@pytest.mark.parametrize(
    "header",
    [
        *({"alg": alg} for alg in ("none", "HS256", "EdDSA", "ES384", "es256")),
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"jwk": {}},
        {"kid": None},
    ],
    ids=str,
)
def test_an_id_token_is_signed_as_the_providers_key_signs(header: dict[str, Any]) -> None:
    one = login()

    with pytest.raises(LoginError) as refused:
        exchanged(one, form_of(forged(one, {"alg": "ES256", "kid": one.provider_key.kid} | header)))

    assert refused.value.code == "id-token-invalid"


def exchanged(one: Login, body: bytes, proof: str | None = None, at: datetime = NOON) -> SessionOpened:
    return session_of(
        body=body,
        proof=one.proof() if proof is None else proof,
        providers=[one.provider()],
        network=NETWORK,
        at=at,
    )


def test_a_token_with_a_name_given_twice_has_no_reading() -> None:
    one = login()
    header, payload, signature = one.id_token().split(".")
    twice = urlsafe_b64encode(b'{"iss":"a","iss":"b"}').rstrip(b"=").decode()

    for token in (
        f"{header}.{twice}.{signature}",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}==",
    ):
        with pytest.raises(LoginError) as refused:
            exchanged(one, form_of(token))
        assert refused.value.code in {"id-token-invalid", "invalid-exchange"}


_BAD_PROOFS: dict[str, Callable[[Login], str]] = {
    "of another method": lambda x: x.proof(method="GET"),
    "for another target": lambda x: x.proof(url="https://identity.example/parties"),
    "with a query": lambda x: x.proof(url="https://identity.example/token?a=b"),
    "of the past": lambda x: x.proof(now=NOON - timedelta(seconds=120)),
    "of the future": lambda x: x.proof(now=NOON + timedelta(seconds=60)),
    "of no form": lambda _: "abc",
    "with another signature": lambda x: x.proof()[:-8] + "AAAAAAAA",
    "too long": lambda x: x.proof() + "A" * 4096,
    "with its private key": lambda x: _proof_with(x, jwk={"d": "A" * 43}),
    "of another type": lambda x: _proof_with(x, typ="JWT"),
    "without an algorithm": lambda x: _proof_with(x, alg="none"),
    "with a critical header": lambda x: _proof_with(x, crit=["b64"]),
    "with words": lambda x: _proof_with(x, note="Nora was here"),
}


def _proof_with(one: Login, **changes: Any) -> str:
    header, payload, _ = one.proof().split(".")
    said = json.loads(unpadded(header))
    said["jwk"] |= changes.pop("jwk", {})
    text = urlsafe_b64encode(json.dumps(said | changes).encode()).rstrip(b"=").decode() + f".{payload}"
    return f"{text}.{urlsafe_b64encode(one.key.sign(text.encode())).rstrip(b'=').decode()}"


def unpadded(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("name", _BAD_PROOFS)
def test_a_proof_that_is_not_good_opens_no_session(name: str) -> None:
    one = login()

    with pytest.raises(LoginError) as refused:
        exchanged(one, form_of(one.id_token()), _BAD_PROOFS[name](one))

    assert refused.value.error == "invalid_dpop_proof"
    assert refused.value.code in {"invalid-dpop-proof", "dpop-proof-expired"}


def test_a_stolen_id_token_is_of_no_use_to_who_does_not_hold_the_key() -> None:
    one, thief = login(), login()

    with pytest.raises(LoginError) as refused:
        exchanged(one, form_of(one.id_token()), thief.proof())

    assert refused.value.code == "key-not-of-login"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "invalid_request"),
        (b"\xff", "invalid_request"),
        (form_of("a.b.c").replace(b"token-exchange", b"password"), "unsupported_grant_type"),
        (form_of("a.b.c").replace(b"id_token", b"access_token", 1), "invalid_request"),
        (form_of("a.b.c").replace(b"session-key", b"access_token"), "invalid_request"),
        (form_of("a.b.c") + b"&subject_token=d.e.f", "invalid_request"),
        (form_of("a.b.c") + b"&note=a+word+about+somebody", "invalid_request"),
        (form_of("no token"), "invalid_request"),
        (form_of("a." + "b" * 20_000 + ".c"), "invalid_request"),
    ],
)
def test_an_exchange_is_of_one_form(body: bytes, error: str) -> None:
    with pytest.raises(LoginError) as refused:
        exchanged(login(), body)

    assert (refused.value.error, refused.value.code) == (error, "invalid-exchange")


def test_the_network_says_which_levels_of_authentication_are_enough() -> None:
    one = login()
    provider = one.provider(acr=("high", "substantial"))
    codes = []
    for acr in (None, "low", "high"):
        one.claims["acr"] = acr
        try:
            codes.append(one.session(provider=provider).acr)
        except LoginError as error:
            codes.append(error.code)

    assert codes == ["acr-too-low", "acr-too-low", "high"]


# --- what everybody judges ----------------------------------------------------------------------------


def test_a_session_is_opened_once_whoever_sends_the_exchange_again() -> None:
    town = Town()
    one = login()
    logged_in(town, one)

    assert town.state(one.session()) == "no effect"
    assert town.state(one.session(), at=NOON + timedelta(seconds=20)) == "no effect"


def test_the_thief_of_identitys_key_opens_no_session_for_anybody() -> None:
    town = Town()
    one = login()
    assert town.add_provider(one) == "done"
    true = one.session()
    longer = msgspec.structs.replace(true.key, valid_until=NOON + timedelta(days=300))
    other = Login(SUSI, SOUTH, NOON).key
    foreign = msgspec.structs.replace(true.key, multibase=multibase_of(other.public_key()))
    named = msgspec.structs.replace(true.key, id=f"{NORA}#1")
    by_form: list[dict[str, Any]] = [{"key": foreign}, {"key": named}, {"did": NINA}, {"acr": "high"}]

    for changes in (*by_form, {"authenticated": NOON}):
        with pytest.raises(RejectedError) as lied:
            town.state(msgspec.structs.replace(true, **changes))
        assert lied.value.reason is Reason.INVALID_REQUEST
    for changes in ({"key": longer}, {"provider": "other"}):
        assert town.state(msgspec.structs.replace(true, **changes)) == "not-permitted", changes
    for request in (
        Request.of_service(IDENTITY.did),
        msgspec.structs.replace(true.request, proof=None),
        msgspec.structs.replace(true.request, body=None),
        msgspec.structs.replace(true.request, body="note=a+word"),
        msgspec.structs.replace(true.request, approval=true.request.proof),
        msgspec.structs.replace(true.request, authentication="did-jwt"),
    ):
        with pytest.raises(RejectedError) as refused:
            town.state(msgspec.structs.replace(true, request=request))
        assert refused.value.reason is Reason.INVALID_REQUEST
    assert not town.ring.logins.keys
    assert town.state(true, at=NOON + timedelta(minutes=10)) == "dpop-proof-expired"


def test_no_other_event_is_asked_for_by_an_id_token() -> None:
    town = Town()
    one = login()
    town.add_provider(one)
    asked = one.session().request

    with pytest.raises(RejectedError):
        town.state(KeyAdded(NORA, one.session().key, request=asked))


def test_words_about_somebody_come_onto_the_ledger_by_no_exchange() -> None:
    town = Town()
    one = login()
    town.add_provider(one)
    one.claims["name"] = "Nora North"
    plain = login()
    said = msgspec.structs.replace(
        plain.session().request, body=form_of(one.id_token()).decode(), proof=one.proof()
    )

    with pytest.raises(RejectedError):
        town.state(msgspec.structs.replace(plain.session(), request=said))


@pytest.mark.parametrize(
    ("did", "code"),
    [
        (SUSI, "not-of-provider"),
        (NORTH, "not-of-provider"),
        (NINA, "operator-needs-key"),
        (WEST, "not-of-provider"),
    ],
)
def test_a_provider_speaks_for_its_members_people_alone_and_for_no_operator(did: str, code: str) -> None:
    town = Town()
    one = login(did)
    town.add_provider(one)

    assert town.state(one.session()) == code


def test_sixteen_sessions_of_a_person_are_open_at_once() -> None:
    town = Town()
    said = []
    for _ in range(SESSIONS_MAX + 1):
        one = login()
        if not town.ring.logins.providers:
            town.add_provider(one)
        said.append(town.state(one.session()))
    first = next(iter(town.ring.logins.keys))
    ended = town.say(KeyRevoked(NORA, first, "left", request=UNASKED), NORA, at=LATER)

    assert said == ["done"] * SESSIONS_MAX + ["too-many-sessions"]
    assert ended == "done"
    assert town.state(login().session(), at=LATER) == "done"


# --- what a session is good for, and what ends it ------------------------------------------------------


def test_a_session_signs_requests_and_neither_records_nor_approvals_nor_keys() -> None:
    town = Town()
    session = logged_in(town)
    key = _key(LocalSigner(Ed25519PrivateKey.generate(), f"{NORA}#2"), NOON)

    assert town.say(KeyAdded(NORA, key, request=UNASKED), session, at=LATER) == "session-key"
    lasting = KeyRevoked(NORA, signer(NORA).verification_method, "left", request=UNASKED)
    assert town.say(lasting, session, at=LATER) == "session-key"
    with pytest.raises(RejectedError) as refused:
        town.ring.key_for(session.verification_method, at=LATER)
    assert refused.value.reason is Reason.UNKNOWN_KEY
    with pytest.raises(RejectedError):
        town.ring.present_key(session.verification_method, now=LATER)


def test_a_person_ends_her_session_by_itself_and_nobody_elses() -> None:
    town = Town()
    session, other = logged_in(town), logged_in(town)
    foreign = KeyRevoked(SUSI, session.verification_method, "left", request=UNASKED)
    town.say(foreign, SUSI, at=LATER)
    still = town.asks(session, at=LATER)

    own = KeyRevoked(NORA, session.verification_method, "left", request=UNASKED)
    assert town.say(own, session, at=LATER) == "done"
    after = LATER + CLOCKS + timedelta(minutes=1)
    assert still
    assert not town.asks(session, at=after)
    assert town.asks(other, at=after)


_ENDS: dict[str, tuple[Any, str, str | None]] = {
    "the provider is withdrawn": (ProviderWithdrawn("north-login", request=UNASKED), NORTH, None),
    "an operator withdraws it": (ProviderWithdrawn("north-login", request=UNASKED), SVEN, None),
    "the member is suspended": (MemberSuspended(NORTH, "inquiry", request=UNASKED), SVEN, WIM),
}


@pytest.mark.parametrize("name", _ENDS)
def test_sessions_end_with_what_they_rest_on(name: str) -> None:
    data, by, second = _ENDS[name]
    town = Town()
    session = logged_in(town)

    assert town.say(data, by, at=LATER, second=second) == "done"
    after = LATER + CLOCKS + timedelta(minutes=1)
    assert town.asks(session, at=LATER)
    assert not town.asks(session, at=after)
    again = Login(NORA, NORTH, after)
    if isinstance(data, MemberSuspended):
        assert town.state(again.session(), at=after) == "member-suspended"
        town.say(MemberReinstated(NORTH, "resolved", request=UNASKED), WIM, at=after, second=SVEN)
        assert not town.asks(session, at=after + timedelta(seconds=1))
    else:
        assert town.state(again.session(), at=after) == "provider-unknown"


def test_who_becomes_an_operator_has_no_session_any_more() -> None:
    town = Town()
    session = logged_in(town)
    granted = truly_asked(
        RoleGranted(NORA, "operator", request=UNASKED),
        signer(SVEN),
        at=LATER,
        seen=[signer(NORA).verification_method],
        second=signer(WIM),
    )

    assert town.state(granted, at=LATER) == "done"
    assert not town.asks(session, at=LATER + CLOCKS + timedelta(minutes=1))


# --- providers ----------------------------------------------------------------------------------------


def test_two_operators_add_a_provider_and_its_member_keeps_its_keys() -> None:
    town = Town()
    one, fresh = login(), login(number=1)

    assert town.say(one.provider(), NORTH) == "not-permitted"
    assert town.say(one.provider(), SVEN) == "second-operator-needed"
    assert town.add_provider(one, member=f"{NORTH}:none") == "unknown-member"
    assert town.add_provider(one) == "done"
    assert town.add_provider(one) == "provider-exists"
    assert town.add_provider(one, provider="other") == "provider-exists"
    replaced = ProviderKeysReplaced("north-login", (fresh.provider_key,), request=UNASKED)
    assert town.say(replaced, SOUTH) == "not-permitted"
    assert town.say(replaced, NORA) == "not-permitted"
    assert town.say(replaced, NORTH) == "done"
    assert town.state(fresh.session(provider=fresh.provider())) == "done"
    with pytest.raises(LoginError) as refused:
        one.session(provider=town.ring.logins.providers["north-login"])
    assert refused.value.code == "provider-key-unknown"
    assert town.say(ProviderWithdrawn("other", request=UNASKED), SVEN) == "unknown-provider"
    assert town.say(ProviderWithdrawn("north-login", request=UNASKED), SUSI) == "not-permitted"
    assert town.say(ProviderWithdrawn("north-login", request=UNASKED), SVEN) == "done"


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "RS256"},
        {"n": "AQAB"},
        {"x": None},
        {"x": "A" * 43},
        {"alg": "PS256", "x": None, "y": None, "n": "AQAB", "e": "AQAB"},
        {"alg": "RS256", "x": None, "y": None, "n": "w" * 342, "e": "Aw"},
    ],
)
def test_a_providers_key_is_one_of_its_kind(changes: dict[str, Any]) -> None:
    one = login()
    key = msgspec.structs.replace(one.provider_key, **changes)

    assert Town().add_provider(one, keys=(key,)) == "invalid-provider-key"
    assert Town().add_provider(one, keys=(one.provider_key, one.provider_key)) == "invalid-provider-key"


# --- as records ---------------------------------------------------------------------------------------


def test_one_by_one_and_together_a_session_and_what_is_asked_in_it_are_judged_alike() -> None:
    town = Town()
    one = login()
    town.add_provider(one)
    opened = one.session()
    wrong = msgspec.structs.replace(opened, request=msgspec.structs.replace(opened.request, body="a=b"))
    place: dict[str, Any] = {"topic": "salus.identity.events", "key": NORA.encode(), "signer": ROOT}
    rows = [
        row(town.value(data, at=NOON), **place, timestamp_ms=timestamp_at(NOON)) for data in (opened, wrong)
    ]
    alone = [verdict(each, at=NOON, ring=town.ring) for each in rows]
    together = BatchJudging([record for part in records_of(rows) for record in part], ring=town.ring)
    while together.judge(1):
        pass
    together.verify()

    assert isinstance(alone[1], RejectedError)
    assert alone[1].reason is Reason.INVALID_REQUEST
    assert not isinstance(alone[0], RejectedError)
    assert [isinstance(said, RejectedError) for said in together.verdicts()] == [False, True]


def test_what_was_signed_in_a_session_is_in_doubt_since_a_moment_that_its_end_names() -> None:
    town = Town()
    session = logged_in(town)
    since = NOON + timedelta(seconds=30)
    ended = KeyRevoked(NORA, session.verification_method, "compromised", since, request=UNASKED)

    assert town.say(ended, NORA, at=LATER) == "done"
    assert town.ring.doubted([session.verification_method], at=LATER) == (session.verification_method,)
    assert town.ring.doubted([session.verification_method], at=NOON) == ()
