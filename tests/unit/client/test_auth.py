"""A bearer token says who calls, whom it is for and for how long, and any JWT library reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest
from tests.asking import NETWORK

from salus.client import make_bearer
from salus.events.bearer import audience_of
from salus.events.did import LocalSigner

SIGNER = LocalSigner.from_seed(b"memb" * 8)


def now() -> datetime:
    """Asked each time: the suite may run longer than a token lives."""
    return datetime.now(UTC)


def test_another_library_verifies_the_token() -> None:
    token = make_bearer(SIGNER, audience_of("consent", NETWORK), now=now())
    claims = jwt.decode(
        token, SIGNER.public_key, algorithms=["EdDSA"], audience=audience_of("consent", NETWORK)
    )

    assert jwt.get_unverified_header(token) == {
        "alg": "EdDSA",
        "typ": "JWT",
        "kid": SIGNER.verification_method,
    }
    assert claims["iss"] == claims["sub"] == SIGNER.did
    assert claims["exp"] - claims["iat"] == 300


def test_a_token_is_of_one_audience_one_key_and_one_time() -> None:
    token = make_bearer(SIGNER, audience_of("consent", NETWORK), now=now())
    old = make_bearer(SIGNER, audience_of("consent", NETWORK), now=now() - timedelta(hours=1))
    other = LocalSigner.from_seed(b"othr" * 8)

    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(token, SIGNER.public_key, algorithms=["EdDSA"], audience=audience_of("storage", NETWORK))
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, other.public_key, algorithms=["EdDSA"], audience=audience_of("consent", NETWORK))
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(old, SIGNER.public_key, algorithms=["EdDSA"], audience=audience_of("consent", NETWORK))


def test_no_two_tokens_are_the_same() -> None:
    assert make_bearer(SIGNER, "a", now=now()) != make_bearer(SIGNER, "a", now=now())


@pytest.mark.parametrize("lifetime_s", [0, 301])
def test_a_token_lives_for_five_minutes_at_most(lifetime_s: int) -> None:
    with pytest.raises(ValueError, match="lives"):
        make_bearer(SIGNER, "a", now=now(), lifetime_s=lifetime_s)


def test_a_time_without_zone_is_no_time() -> None:
    with pytest.raises(ValueError, match="zone"):
        make_bearer(SIGNER, "a", now=now().replace(tzinfo=None))
