"""Decision tokens of consent: JWTs, EdDSA, signed by the consent service's key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec

from salus.events.catalogue import Purpose
from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing
from salus.runtime.jwt_text import require_one_meaning
from salus.runtime.refusal import Refusal
from salus.storage.domain import Decision
from salus.storage.ports import Ring

TOKEN_BYTES_MAX = 4096
CLOCK_SKEW_S = 10
AUDIENCE = "salus:storage"
# Explicit typing (RFC 8725, 3.11), so that no other token of consent's key passes for a decision.
TOKEN_TYPE = "salus-decision+jwt"  # noqa: S105  # a media type, not a secret


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    jti: str
    obj: str
    act: str
    pat: str
    pur: Purpose
    epoch: int
    aud: str
    iat: int
    exp: int
    bg: bool = False


@dataclass(frozen=True)
class DecisionTokens:
    """Verifies tokens against the key ring; only a service that holds the role `consent` may sign them."""

    ring: Ring

    async def read(self, token: str, *, at: datetime) -> Decision:
        """Return the decision; raises Refusal `invalid-decision`."""
        claims = verified_claims(token, ring=await self.ring.catch_up(), at=at)
        return Decision(
            id=claims.jti,
            principal=claims.sub,
            action=claims.act,
            object=claims.obj,
            patient=claims.pat,
            purpose=claims.pur,
            epoch=claims.epoch,
            break_glass=claims.bg,
            expires=datetime.fromtimestamp(claims.exp, UTC),
        )


def verified_claims(token: str, *, ring: KeyRing, at: datetime) -> _Claims:
    """Return the claims of a token that consent signed; raises Refusal `invalid-decision`."""
    if len(token) > TOKEN_BYTES_MAX:
        raise _invalid("it is too long")
    try:
        require_one_meaning(token)
        header = jwt.get_unverified_header(token)
        if header.get("typ") != TOKEN_TYPE:
            raise _invalid("it is not a decision")
        # Never before what the ring knows: a revocation counts though this clock may be behind.
        known = ring.key_for(str(header.get("kid")), at=max(at, ring.time))
        payload: dict[str, Any] = jwt.decode(
            token,
            known.key,
            algorithms=["EdDSA"],
            # The times are judged by the domain, by the same clock as everything else.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
        claims = msgspec.convert(payload, _Claims)
    except RejectedError as error:
        raise _invalid(f"its key: {error.reason}") from None
    except jwt.PyJWTError as error:
        raise _invalid(type(error).__name__) from None
    except msgspec.ValidationError:
        raise _invalid("its claims are not those of a decision") from None
    signer = ring.parties[known.did]
    if claims.iss != signer.did or signer.kind != "service" or "consent" not in signer.roles:
        raise _invalid("consent did not sign it")
    if claims.aud != AUDIENCE:
        raise _invalid("it is meant for another service")
    if claims.iat > at.timestamp() + CLOCK_SKEW_S:
        raise _invalid("it is not valid yet")
    return claims


def _invalid(why: str) -> Refusal:
    return Refusal("invalid-decision", f"the decision token is not valid: {why}", status=403)
