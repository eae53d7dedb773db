"""Bearer tokens: callers of the HTTP APIs prove who they are with their own DID key, and need no account.

A request that makes an event is signed: its token names method, target and digest of the body, and is used
once. `RequestSigner` does that for httpx.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

import httpx

from salus.events.bearer import LIFETIME_S_MAX
from salus.events.signature import Signer


@dataclass(frozen=True)
class RequestLine:
    """What a signed request is: `method`, `target` (path and query as sent) and `body`, if it is known."""

    method: str
    target: str
    body: bytes | None = None


def make_bearer(
    signer: Signer,
    audience: str,
    *,
    now: datetime,
    lifetime_s: int = LIFETIME_S_MAX,
    request: RequestLine | None = None,
) -> str:
    """Return a JWT (RFC 7519, EdDSA of RFC 8037) by which a service knows its caller.

    Send it as `Authorization: Bearer <token>`. `audience` is the service meant, as `salus:consent`; another
    service refuses the token. `now` needs a time zone; `lifetime_s` is in seconds. With `request` the token
    signs that request, and is good for it once; services want that of every request that makes an event.

    Raises:
        ValueError: `now` has no time zone, or the lifetime is not within 1 to LIFETIME_S_MAX.
    """
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    if not 1 <= lifetime_s <= LIFETIME_S_MAX:
        raise ValueError(f"a bearer lives 1 to {LIFETIME_S_MAX} s, not {lifetime_s}")
    did = signer.verification_method.partition("#")[0]
    issued = int(now.timestamp())
    claims: dict[str, str | int] = {
        "iss": did,
        "sub": did,
        "aud": audience,
        "iat": issued,
        "exp": issued + lifetime_s,
        "jti": str(uuid4()),
    }
    if request is not None:
        claims |= {"htm": request.method, "htu": request.target}
        if request.body is not None:
            claims["dig"] = sha256(request.body).hexdigest()
    header: dict[str, str | int] = {"alg": "EdDSA", "typ": "JWT", "kid": signer.verification_method}
    signing_input = _segment(header) + b"." + _segment(claims)
    return (signing_input + b"." + _unpadded(signer.sign(signing_input))).decode("ascii")


class RequestSigner(httpx.Auth):
    """Signs each request of an httpx client: `client.post(..., auth=RequestSigner(signer, "salus:consent"))`.

    With `stream` the body is not read before it is sent, and the token does not name its digest.
    """

    def __init__(self, signer: Signer, audience: str, *, stream: bool = False) -> None:
        self._signer = signer
        self._audience = audience
        self.requires_request_body = not stream

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to one request."""
        line = RequestLine(
            request.method,
            request.url.raw_path.decode("ascii"),
            request.content if self.requires_request_body else None,
        )
        token = make_bearer(self._signer, self._audience, now=datetime.now(UTC), request=line)
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


def _segment(claims: dict[str, str | int]) -> bytes:
    return _unpadded(json.dumps(claims, separators=(",", ":")).encode())


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
