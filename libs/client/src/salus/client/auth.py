"""Bearer tokens: callers of the HTTP APIs prove who they are with their own DID key, and need no account."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import datetime
from uuid import uuid4

from salus.events.signature import Signer

# A stolen token is of use for so long only; services refuse longer-lived ones.
BEARER_LIFETIME_S_MAX = 300


def make_bearer(
    signer: Signer, audience: str, *, now: datetime, lifetime_s: int = BEARER_LIFETIME_S_MAX
) -> str:
    """Return a JWT (RFC 7519, EdDSA of RFC 8037) by which a service knows its caller.

    Send it as `Authorization: Bearer <token>`. `audience` is the service meant, as `salus:consent`; another
    service refuses the token. `now` needs a time zone; `lifetime_s` is in seconds.

    Raises:
        ValueError: `now` has no time zone, or the lifetime is not within 1 to BEARER_LIFETIME_S_MAX.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    if not 1 <= lifetime_s <= BEARER_LIFETIME_S_MAX:
        raise ValueError(f"a bearer lives 1 to {BEARER_LIFETIME_S_MAX} s, not {lifetime_s}")
    did = signer.verification_method.partition("#")[0]
    issued = int(now.timestamp())
    signing_input = b".".join(
        (
            _segment({"alg": "EdDSA", "typ": "JWT", "kid": signer.verification_method}),
            _segment(
                {
                    "iss": did,
                    "sub": did,
                    "aud": audience,
                    "iat": issued,
                    "exp": issued + lifetime_s,
                    "jti": str(uuid4()),
                }
            ),
        )
    )
    return (signing_input + b"." + _unpadded(signer.sign(signing_input))).decode("ascii")


def _segment(claims: dict[str, str | int]) -> bytes:
    return _unpadded(json.dumps(claims, separators=(",", ":")).encode())


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
