"""Who is calling: a JWT signed with the caller's own DID key, checked against the key ring.

`Authorization: Bearer <JWT>` with `alg` EdDSA, `kid` the DID URL of the key, `iss` = `sub` = the DID, `aud`
= `salus:<service>`, `iat` and `exp` at most BEARER_LIFETIME_S_MAX apart. `salus.client.auth` makes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jwt
from fastapi import Request

from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing, Party
from salus.runtime.identity_view import IdentityView
from salus.runtime.jwt_text import require_one_meaning
from salus.runtime.problems import ProblemError

BEARER_LIFETIME_S_MAX = 300
BEARER_BYTES_MAX = 4096
CLOCK_SKEW_S = 10


class Authenticator:
    """Tells who signed a request; use an instance as a FastAPI dependency."""

    def __init__(self, identity: IdentityView, *, audience: str) -> None:
        self._identity = identity
        self._audience = audience

    async def __call__(self, request: Request) -> Party:
        """Return the calling party; raises ProblemError 401."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ProblemError(401, "unauthenticated", "send Authorization: Bearer with a signed JWT")
        ring = await self._identity.catch_up()
        return verify_bearer(token, ring=ring, audience=self._audience, now=datetime.now(UTC))


def verify_bearer(token: str, *, ring: KeyRing, audience: str, now: datetime) -> Party:
    """Return the party that made the token.

    Raises:
        ProblemError: 401 `unauthenticated`; the detail says what is wrong with the token.
    """
    claims, party = verify_jwt(token, ring=ring, audience=audience, now=now)
    if claims["sub"] != party.did:
        raise ProblemError(401, "unauthenticated", "iss and sub must be the same DID")
    if claims["exp"] - claims["iat"] > BEARER_LIFETIME_S_MAX:
        raise ProblemError(401, "unauthenticated", f"valid for more than {BEARER_LIFETIME_S_MAX} s")
    return party


def verify_jwt(token: str, *, ring: KeyRing, audience: str, now: datetime) -> tuple[dict[str, Any], Party]:
    """Return the claims of an EdDSA JWT and the party whose key signed it; raises ProblemError 401."""
    if len(token) > BEARER_BYTES_MAX:
        raise ProblemError(401, "unauthenticated", "the token is too long")
    try:
        require_one_meaning(token)
        known = ring.key_for(str(jwt.get_unverified_header(token).get("kid")), at=max(now, ring.time))
        claims = jwt.decode(
            token,
            known.key,
            algorithms=["EdDSA"],
            audience=audience,
            # The times are judged below, by the same `now` as the key.
            options={
                "require": ["iss", "sub", "aud", "iat", "exp", "jti"],
                "verify_exp": False,
                "verify_iat": False,
            },
        )
    except RejectedError as error:
        raise ProblemError(401, "unauthenticated", f"the token's key: {error.reason}") from None
    except jwt.PyJWTError as error:
        raise ProblemError(401, "unauthenticated", f"the token: {type(error).__name__}") from None
    if claims["iss"] != known.did:
        raise ProblemError(401, "unauthenticated", "iss is not the DID that the key belongs to")
    _require_current(claims, now)
    return claims, ring.parties[known.did]


def _require_current(claims: dict[str, Any], now: datetime) -> None:
    issued, expires = claims["iat"], claims["exp"]
    if not isinstance(issued, int) or not isinstance(expires, int):
        raise ProblemError(401, "unauthenticated", "iat and exp must be whole seconds")
    if now.timestamp() < issued - CLOCK_SKEW_S:
        raise ProblemError(401, "unauthenticated", "the token is not valid yet")
    if now.timestamp() >= expires + CLOCK_SKEW_S:
        raise ProblemError(401, "unauthenticated", "the token has expired")
