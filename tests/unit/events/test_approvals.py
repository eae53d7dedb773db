"""The approval of a second party: judged by everybody, about one request, used once (case SEC2)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from tests.asking import NETWORK, UNASKED, truly_asked

from salus.client.auth import RequestLine, make_approval, make_bearer
from salus.events.accountability import approver_of, verify_request
from salus.events.bearer import Bearer, BearerError, _claims_of, audience_of, read_bearer
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, PartyRegistered, PublicKey, RoleGranted
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied, NoEffect, WithoutEffect
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.errors import RejectedError
from salus.events.fields import RoleName
from salus.events.keyring import KeyRing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIRST, SECOND, STRANGER = (LocalSigner.from_seed(seed * 32) for seed in (b"1", b"2", b"3"))
HOLDER = LocalSigner.from_seed(b"4" * 32)
LINE = RequestLine(
    "POST",
    f"/parties/{HOLDER.did}/roles",
    json.dumps({"role": "operator", "keys": [HOLDER.verification_method]}).encode(),
)


def a_ring() -> KeyRing:
    ring = KeyRing(CATALOGUE, NETWORK)
    people: tuple[tuple[LocalSigner, tuple[RoleName, ...]], ...] = (
        (FIRST, ("operator",)),
        (SECOND, ("operator",)),
        (HOLDER, ()),
    )
    for signer, roles in people:
        key = PublicKey(signer.verification_method, multibase_of(signer.public_key), NOW - timedelta(days=1))
        ring.apply(PartyRegistered(did=signer.did, kind="person", keys=(key,), roles=roles, request=UNASKED))
    return ring


def asked(line: RequestLine = LINE) -> Bearer:
    audience = audience_of("identity", NETWORK)
    return read_bearer(make_bearer(FIRST, audience, now=NOW, request=line), audience=audience).claims


def test_the_second_partys_signature_over_the_same_request_approves_it() -> None:
    approval = make_approval(SECOND, LINE, network=NETWORK, now=NOW)

    assert approver_of(approval, asked=asked(), ring=a_ring(), at=NOW) == SECOND.did


@pytest.mark.parametrize(
    ("approval", "at", "why"),
    [
        (make_approval(FIRST, LINE, network=NETWORK, now=NOW), NOW, "of their own"),
        (make_approval(STRANGER, LINE, network=NETWORK, now=NOW), NOW, "not signed by a key"),
        (make_approval(SECOND, LINE, network="salus.local/other", now=NOW), NOW, "service or network"),
        (
            make_approval(SECOND, RequestLine("DELETE", LINE.target, LINE.body), network=NETWORK, now=NOW),
            NOW,
            "another request",
        ),
        (
            make_approval(SECOND, RequestLine("POST", "/parties", LINE.body), network=NETWORK, now=NOW),
            NOW,
            "another request",
        ),
        (
            make_approval(SECOND, RequestLine("POST", LINE.target, b"{}"), network=NETWORK, now=NOW),
            NOW,
            "another request",
        ),
        (
            make_approval(SECOND, RequestLine("POST", LINE.target), network=NETWORK, now=NOW),
            NOW,
            "another request",
        ),
        (
            make_approval(SECOND, LINE, network=NETWORK, now=NOW, lifetime_s=60),
            NOW + timedelta(minutes=2),
            "expired",
        ),
        (
            make_bearer(SECOND, audience_of("identity", NETWORK), now=NOW, request=LINE),
            NOW,
            "another service",
        ),
        ("a.b.c", NOW, "compact JWS"),
    ],
)
def test_what_does_not_approve_this_request_is_refused(approval: str, at: datetime, why: str) -> None:
    with pytest.raises(BearerError, match=why):
        approver_of(approval, asked=asked(), ring=a_ring(), at=at)


def test_an_approval_is_no_bearer() -> None:
    with pytest.raises(BearerError, match="another service"):
        read_bearer(
            make_approval(SECOND, LINE, network=NETWORK, now=NOW), audience=audience_of("identity", NETWORK)
        )


def test_a_revoked_key_approves_nothing() -> None:
    ring = a_ring()
    revoked = KeyRevoked(did=SECOND.did, key_id=SECOND.verification_method, reason="left", request=UNASKED)
    ring.apply(revoked, at=NOW - timedelta(seconds=1))
    with pytest.raises(BearerError, match="not signed by a key"):
        approver_of(make_approval(SECOND, LINE, network=NETWORK, now=NOW), asked=asked(), ring=ring, at=NOW)


def test_a_key_that_is_revoked_approves_nothing_though_the_clock_here_is_behind() -> None:
    ring = a_ring()
    revoked = KeyRevoked(did=SECOND.did, key_id=SECOND.verification_method, reason="left", request=UNASKED)
    ring.apply(revoked, at=NOW + timedelta(seconds=1))
    with pytest.raises(BearerError, match="key that may sign"):
        approver_of(make_approval(SECOND, LINE, network=NETWORK, now=NOW), asked=asked(), ring=ring, at=NOW)


def an_event(approval: str | None, *, version: int) -> Event:
    """An event of identity that grants a role, with the approval."""
    granted = RoleGranted(HOLDER.did, "operator", request=UNASKED)
    data = truly_asked(granted, FIRST, at=NOW, seen=[HOLDER.verification_method])
    data = msgspec.structs.replace(data, request=msgspec.structs.replace(data.request, approval=approval))
    value = encode_event(
        data,
        id=str(version),
        source="did:web:identity.example",
        subject=data.did,
        time=NOW,
        expected_version=version,
    )
    return decode_event(value, CATALOGUE)


def test_an_approval_takes_effect_once() -> None:
    approval = make_approval(SECOND, LINE, network=NETWORK, now=NOW)
    ring = a_ring()
    first = ring.fold(an_event(approval, version=0), appended=NOW)
    again = ring.fold(an_event(approval, version=1), appended=NOW)
    unapproved = ring.fold(an_event(None, version=1), appended=NOW)
    fresh = ring.fold(
        an_event(make_approval(SECOND, LINE, network=NETWORK, now=NOW), version=1), appended=NOW
    )

    assert first == Applied(1)
    assert again == WithoutEffect(NoEffect.NAME_TAKEN)
    assert unapproved == WithoutEffect(NoEffect.NOT_ENTITLED)
    assert fresh == Applied(2)


def test_everybody_who_judges_an_event_judges_its_approval() -> None:
    ring = a_ring()
    good, forged = (make_approval(signer, LINE, network=NETWORK, now=NOW) for signer in (SECOND, STRANGER))

    verify_request(an_event(good, version=0), ring=ring, at=NOW)
    with pytest.raises(RejectedError, match="approval"):
        verify_request(an_event(forged, version=0), ring=ring, at=NOW)


def test_a_claim_that_is_missing_or_of_another_kind_is_named() -> None:
    claims = {"iss": "did:key:z", "sub": "did:key:z", "aud": "salus:test", "iat": 1, "exp": 2, "jti": "j"}
    for spoiled, named in (({**claims, "exp": "2"}, "exp"), ({**claims, "aud": ["salus:test"]}, "aud")):
        with pytest.raises(BearerError, match=named):
            _claims_of(spoiled)
    for name in claims:
        with pytest.raises(BearerError, match=f"`{name}`"):
            _claims_of({other: value for other, value in claims.items() if other != name})
