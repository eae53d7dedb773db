"""Decision tokens: only what consent signed, meant for the service that reads it, is a decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.asking import NETWORK, UNASKED

from salus.contracts.decision import Attempt, Decision
from salus.contracts.decision_tokens import DecisionTokens
from salus.events.bearer import audience_of
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.runtime.refusal import Refusal

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"

CONSENT = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
MEMBER = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
IDENTITY = LocalSigner.from_seed(bytes([3]) * 32)
TYPE = "salus-decision+jwt"


def public(signer: LocalSigner) -> PublicKey:
    return PublicKey(
        id=signer.verification_method,
        multibase=multibase_of(signer.public_key),
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
    )


class Ring:
    def __init__(self) -> None:
        self.ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=IDENTITY.did, key=public(IDENTITY))
        for key, kind, roles in ((CONSENT, "service", ("consent",)), (MEMBER, "member", ())):
            signer = LocalSigner(key)
            facts: dict[str, Any] = {"kind": kind, "roles": roles, "keys": (public(signer),)}
            self.ring.apply(PartyRegistered(did=signer.did, request=UNASKED, **facts))

    async def catch_up(self) -> KeyRing:
        return self.ring


def token(*, key: Ed25519PrivateKey = CONSENT, header: dict[str, str] | None = None, **claims: object) -> str:
    signer = LocalSigner(key)
    issued = int(NOW.timestamp())
    full: dict[str, object] = {
        "iss": signer.did,
        "sub": "did:web:doctor",
        "aud": audience_of("storage", NETWORK),
        "jti": "d-1",
        "obj": "o-1",
        "act": "read",
        "pat": PATIENT,
        "pur": "TREAT",
        "epoch": 3,
        "bg": False,
        "roles": ["clinician"],
        "iat": issued,
        "exp": issued + 60,
    }
    full = {name: value for name, value in {**full, **claims}.items() if value is not None}
    headers = {"kid": signer.verification_method, "typ": TYPE, **(header or {})}
    return jwt.encode(full, key, algorithm="EdDSA", headers=headers)


async def read(text: str, *, ring: Ring | None = None, service: str = "storage") -> Decision:
    return await DecisionTokens(ring or Ring(), service).read(text, at=NOW)


DOCTOR = Party("did:web:doctor", "person", frozenset({"clinician"}), "did:web:hospital")


async def require(text: str | None, **asked: Any) -> Decision:
    facts: dict[str, Any] = {"caller": DOCTOR, "at": NOW, "epoch": 3}
    attempt = Attempt(**{name: asked.pop(name, value) for name, value in facts.items()})
    what = {"action": "read", "object": "o-1", "patient": PATIENT, **asked}
    return await DecisionTokens(Ring(), "storage").require(text, attempt=attempt, **what)


async def test_who_may_do_just_this_now_has_a_decision() -> None:
    assert await require(token()) == await read(token())


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"caller": Party("did:web:nurse", "person", DOCTOR.roles, DOCTOR.member)}, "wrong-holder"),
        ({"action": "write"}, "wrong-action"),
        ({"object": "o-2"}, "wrong-object"),
        ({"patient": PATIENT.replace("6", "7")}, "wrong-object"),
        ({"at": NOW + timedelta(seconds=60)}, "decision-expired"),
        ({"caller": Party(DOCTOR.did, "person", frozenset(), DOCTOR.member)}, "role-lost"),
        (
            {"caller": Party(DOCTOR.did, "person", frozenset({"clinician", "researcher"}), DOCTOR.member)},
            "role-gained",
        ),
        ({"epoch": 4}, "decision-outdated"),
    ],
)
async def test_a_decision_of_something_else_or_of_before_is_refused(asked: dict[str, Any], code: str) -> None:
    """redA6 7: a new service that only reads a token checks none of these."""
    with pytest.raises(Refusal, match=code):
        await require(token(), **asked)


async def test_no_token_or_one_that_consent_did_not_sign_is_refused() -> None:
    with pytest.raises(Refusal, match="no-decision"):
        await require(None)
    with pytest.raises(Refusal, match="invalid-decision"):
        await require(token(key=MEMBER))


async def test_a_token_of_consent_is_a_decision() -> None:
    assert await read(token()) == Decision(
        id="d-1",
        principal="did:web:doctor",
        action="read",
        object="o-1",
        patient=PATIENT,
        purpose="TREAT",
        epoch=3,
        break_glass=False,
        roles=frozenset({"clinician"}),
        expires=NOW + timedelta(seconds=60),
    )


@pytest.mark.parametrize(
    "text",
    [
        token(key=MEMBER),
        token(iss=LocalSigner(MEMBER).did),
        token(header={"kid": LocalSigner(MEMBER).verification_method}),
        token(header={"kid": "did:web:nobody#1"}),
        token(header={"typ": "JWT"}),
        token(aud=audience_of("consent", NETWORK)),
        token(aud="salus:storage"),
        token(aud=audience_of("storage", "other.example")),
        token(aud=None),
        token(iat=int(NOW.timestamp()) + 60),
        token(pur="CURIOSITY"),
        token(epoch="3"),
        token(sub=None),
        token(obj=None),
        token(bg="yes"),
        token()[:-4] + "AAAA",
        "",
        "a.b.c",
        "x" * 5000,
        jwt.encode({"sub": "x"}, "", algorithm="none"),
        jwt.encode({"sub": "x"}, "secret" * 10, algorithm="HS256", headers={"typ": TYPE}),
    ],
    ids=[
        "signed by a member",
        "says a member issued it",
        "under a member's key id",
        "under an unknown key id",
        "of another type",
        "for another service",
        "for no network",
        "for another network",
        "for nobody",
        "from the future",
        "unknown purpose",
        "epoch is text",
        "no holder",
        "no object",
        "break-glass is text",
        "altered signature",
        "empty",
        "no JWT",
        "too long",
        "unsigned",
        "symmetric",
    ],
)
async def test_anything_else_is_not(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        await read(text)

    assert (caught.value.status, caught.value.code) == (403, "invalid-decision")


async def test_each_service_takes_the_decisions_that_are_meant_for_it_alone() -> None:
    """Issue 13, section 2: any service acts by decisions; a token is good at one of them."""
    meant = token(aud=audience_of("trials", NETWORK))

    assert (await read(meant, service="trials")).id == "d-1"
    for text, service in ((meant, "storage"), (token(), "trials")):
        with pytest.raises(Refusal, match="another service"):
            await read(text, service=service)


async def test_a_revocation_counts_though_the_clock_of_storage_is_behind() -> None:
    ring, signer = Ring(), LocalSigner(CONSENT)
    revoked = KeyRevoked(
        did=signer.did, key_id=signer.verification_method, reason="compromised", request=UNASKED
    )
    ring.ring.time = NOW + timedelta(seconds=5)
    ring.ring.apply(revoked, at=ring.ring.time)

    with pytest.raises(Refusal, match="key-revoked"):
        await read(token(), ring=ring)


async def test_a_token_under_a_revoked_key_is_no_decision() -> None:
    ring = Ring()
    signer = LocalSigner(CONSENT)
    ring.ring.apply(
        KeyRevoked(did=signer.did, key_id=signer.verification_method, reason="compromised", request=UNASKED)
    )

    with pytest.raises(Refusal, match="key-revoked"):
        await read(token(), ring=ring)
