from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import Request
from tests.asking import NETWORK, UNASKED

from salus.client.auth import make_bearer
from salus.events import requests
from salus.events.bearer import LIFETIME_S_MAX, audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
    PublicKey,
)
from salus.events.did import LocalSigner, multibase_of
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.runtime.auth import Authenticator, party_that_signed, verify_bearer
from salus.runtime.identity_view import IdentityView
from salus.runtime.limits import Rate, TooManyRequestsError
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(b"c" * 32)
CALLER = LocalSigner(KEY)


def ring() -> KeyRing:
    known = KeyRing(CATALOGUE, NETWORK)
    key = PublicKey(
        id=CALLER.verification_method,
        multibase=multibase_of(CALLER.public_key),
        valid_from=NOW - timedelta(days=1),
    )
    known.apply(
        PartyRegistered(did=CALLER.did, kind="person", keys=(key,), roles=("clinician",), request=UNASKED)
    )
    return known


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": CALLER.did,
        "sub": CALLER.did,
        "aud": audience_of("storage", NETWORK),
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 60,
        "jti": "1",
        **changes,
    }


def token(key: Any = KEY, algorithm: str = "EdDSA", **changes: Any) -> str:
    return jwt.encode(
        claims(**changes), key, algorithm=algorithm, headers={"kid": CALLER.verification_method}
    )


def refusal(bearer: str, *, known: KeyRing | None = None) -> str:
    with pytest.raises(ProblemError) as caught:
        verify_bearer(bearer, ring=known or ring(), service="storage", now=NOW)
    assert caught.value.status == 401
    assert caught.value.code == "unauthenticated"
    return caught.value.detail


def test_the_clients_bearer_is_accepted_as_its_own_party() -> None:
    bearer = make_bearer(CALLER, audience_of("storage", NETWORK), now=NOW)

    _, party = verify_bearer(bearer, ring=ring(), service="storage", now=NOW)

    assert party.did == CALLER.did
    assert party.roles == {"clinician"}


def test_a_bearer_for_another_service_is_refused() -> None:
    assert "another service" in refusal(make_bearer(CALLER, audience_of("consent", NETWORK), now=NOW))


def test_an_expired_bearer_is_refused() -> None:
    assert "expired" in refusal(token(iat=claims()["iat"] - 200, exp=claims()["iat"] - 100))


def test_a_bearer_from_the_future_is_refused() -> None:
    assert "not valid yet" in refusal(token(iat=claims()["iat"] + 100, exp=claims()["iat"] + 200))


@pytest.mark.parametrize("odd", ["soon", 1e308, None, True])
def test_a_bearer_with_odd_times_is_refused(odd: object) -> None:
    refusal(token(exp=odd))


def test_a_bearer_that_lives_too_long_is_refused() -> None:
    bearer = token(exp=claims()["iat"] + LIFETIME_S_MAX + 1)

    assert f"more than {LIFETIME_S_MAX} s" in refusal(bearer)


def test_a_bearer_signed_with_another_key_is_refused() -> None:
    assert "not signed by that key" in refusal(token(key=Ed25519PrivateKey.generate()))


def test_a_bearer_without_signature_is_refused() -> None:
    assert "the token" in refusal(token(key=None, algorithm="none"))


def test_a_bearer_on_behalf_of_another_party_is_refused() -> None:
    assert "same DID" in refusal(token(sub="did:key:zother"))
    assert "iss is not the DID" in refusal(token(iss="did:key:zother", sub="did:key:zother"))


@pytest.mark.parametrize("missing", ["iss", "sub", "aud", "iat", "exp", "jti"])
def test_a_bearer_without_a_claim_is_refused(missing: str) -> None:
    some = {name: value for name, value in claims().items() if name != missing}
    bearer = jwt.encode(some, KEY, algorithm="EdDSA", headers={"kid": CALLER.verification_method})

    assert "is missing" in refusal(bearer)


def test_a_bearer_of_an_unknown_or_revoked_key_is_refused() -> None:
    revoked = ring()
    revoked.apply(
        KeyRevoked(did=CALLER.did, key_id=CALLER.verification_method, reason="left", request=UNASKED)
    )

    assert "unknown-key" in refusal(token(), known=KeyRing(CATALOGUE, NETWORK))
    assert "key-revoked" in refusal(token(), known=revoked)


STANDINGS: dict[str, list[EventData]] = {
    "member-suspended": [MemberSuspended("did:web:h.example", "inquiry", request=UNASKED)],
    "member-expelled": [
        MemberSuspended("did:web:h.example", "inquiry", request=UNASKED),
        MemberExpelled("did:web:h.example", "left", request=UNASKED),
    ],
}


def ring_of_member(*roles: str, facts: Iterable[EventData] = ()) -> KeyRing:
    """The caller is a person of a member, about which these facts were stated."""
    known = KeyRing(CATALOGUE, NETWORK)
    for fact in facts:
        known.apply(fact)
    caller = replace(ring().parties[CALLER.did], member="did:web:h.example", roles=frozenset(roles))
    known.parties[CALLER.did] = caller
    known.keys.update(ring().keys)
    return known


@pytest.mark.parametrize("code", STANDINGS)
def test_a_bearer_of_somebody_of_a_suspended_member_is_forbidden(code: str) -> None:
    known = ring_of_member("clinician", facts=STANDINGS[code])
    with pytest.raises(ProblemError) as caught:
        verify_bearer(token(), ring=known, service="storage", now=NOW)
    asked = requests.Request(by=CALLER.did, authentication=requests.SIGNED, proof=token())
    with pytest.raises(Refusal, match=code):
        # The same for a transfer that began before.
        party_that_signed(CALLER.did, asked, known, at=NOW)

    assert (caught.value.status, caught.value.code) == (403, code)


@pytest.mark.parametrize("code", STANDINGS)
def test_a_patient_of_a_suspended_member_is_one_and_nothing_else(code: str) -> None:
    known = ring_of_member("clinician", "patient", facts=STANDINGS[code])
    asked = requests.Request(by=CALLER.did, authentication=requests.SIGNED, proof=token())

    _, party = verify_bearer(token(), ring=known, service="storage", now=NOW)

    assert party.roles == party_that_signed(CALLER.did, asked, known, at=NOW).roles == {"patient"}
    assert party.member is None


def test_whoever_was_reinstated_is_who_he_was() -> None:
    reinstated = MemberReinstated("did:web:h.example", "unfounded", request=UNASKED)
    known = ring_of_member("clinician", facts=[*STANDINGS["member-suspended"], reinstated])

    _, party = verify_bearer(token(), ring=known, service="storage", now=NOW)

    assert party == known.parties[CALLER.did]


@pytest.mark.parametrize("bearer", ["", "x", "a.b.c", "é" * 10, "." * 5000])
def test_what_is_no_token_is_refused_without_crashing(bearer: str) -> None:
    refusal(bearer)


def test_a_claim_given_twice_is_refused_though_the_signature_is_good() -> None:  # case F1, RFC 7519 section 4
    def part(text: str) -> str:
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    header = json.dumps({"alg": "EdDSA", "kid": CALLER.verification_method})
    once = json.dumps(claims())
    twice = once.replace('"aud"', '"aud": "salus:audit", "aud"')
    bearers = []
    for said in (once, twice):
        signed = f"{part(header)}.{part(said)}"
        signature = urlsafe_b64encode(KEY.sign(signed.encode())).decode().rstrip("=")
        bearers.append(f"{signed}.{signature}")

    _, party = verify_bearer(bearers[0], ring=ring(), service="storage", now=NOW)
    assert party.did == CALLER.did
    assert refusal(bearers[1]) == "the token: it is not a compact JWS"


@pytest.mark.parametrize(("ahead_s", "valid"), [(2, True), (9, True), (11, False)])
@pytest.mark.parametrize("with_nbf", [True, False])
def test_one_clock_rule_for_every_claim(ahead_s: int, *, valid: bool, with_nbf: bool) -> None:  # case D1
    iat = claims()["iat"] + ahead_s
    bearer = token(iat=iat, exp=iat + 60, **({"nbf": iat} if with_nbf else {}))

    if valid:
        verify_bearer(bearer, ring=ring(), service="storage", now=NOW)
    else:
        assert refusal(bearer) == "the token is not valid yet"


def test_a_token_for_several_services_is_for_none() -> None:
    # Case security.md, low: an `aud` list was accepted.
    both = [audience_of(service, NETWORK) for service in ("storage", "audit")]
    assert "several" in refusal(token(aud=" ".join(both)))
    refusal(token(aud=both))


@pytest.mark.parametrize("audience", [audience_of("storage", "salus.local/other"), "salus:storage"])
def test_a_token_for_another_network_is_for_none(audience: str) -> None:
    # Whoever signs with one key in two networks had a request repeated in the other by who reads the topics.
    assert "another service or network" in refusal(token(aud=audience))


async def test_an_account_asks_so_often_and_no_more() -> None:
    # Case of the third attack: no read had a limit.
    known = ring()
    asks = Authenticator(
        cast("IdentityView", Known(known)), service="storage", questions=Rate(burst=2, per_minute=1)
    )
    now = int(datetime.now(UTC).timestamp())
    bearer = token(iat=now, exp=now + 60)
    request = Request({"type": "http", "headers": [(b"authorization", f"Bearer {bearer}".encode())]})

    assert [(await asks(request)).did for _ in range(2)] == [CALLER.did, CALLER.did]
    with pytest.raises(TooManyRequestsError):
        await asks(request)


class Known:
    """A view of identity that knows a ring."""

    def __init__(self, known: KeyRing) -> None:
        self._known = known

    async def catch_up(self) -> KeyRing:
        return self._known
