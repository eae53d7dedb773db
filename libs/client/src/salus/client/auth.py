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

from salus.events.bearer import (
    APPROVAL,
    APPROVAL_LIFETIME_S_MAX,
    LIFETIME_S_MAX,
    PROPOSAL,
    PROPOSAL_LIFETIME_S_MAX,
    audience_of,
)
from salus.events.possession import POSSESSION, POSSESSION_LIFETIME_S_MAX
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
    """Return a JWT (RFC 7519) by which a service knows its caller.

    Send it as `Authorization: Bearer <token>`. `audience` is the service meant, in its network, as
    `audience_of("consent", "salus.example/main")` names it; any other refuses the token. `now` needs a time
    zone; `lifetime_s` is in seconds. With `request` the token signs that request, and is good for it once;
    services want that of every request that makes an event.

    Raises:
        ValueError: `now` has no time zone, or the lifetime is not within 1 to LIFETIME_S_MAX.
    """
    if not 1 <= lifetime_s <= LIFETIME_S_MAX:
        raise ValueError(f"a bearer lives 1 to {LIFETIME_S_MAX} s, not {lifetime_s}")
    claims = _claims(signer, audience, now, lifetime_s)
    if request is not None:
        claims |= _named(request)
    return _signed(signer, claims)


def make_approval(
    signer: Signer, request: RequestLine, *, network: str, now: datetime, lifetime_s: int = 3600
) -> str:
    """Return the approval of a request that another party will send; that party sends it in `Salus-Approval`.

    It is good once, for this method, target and body to the byte, in the network of this origin, and lives
    APPROVAL_LIFETIME_S_MAX at most.
    """
    if not 1 <= lifetime_s <= APPROVAL_LIFETIME_S_MAX:
        raise ValueError(f"an approval lives 1 to {APPROVAL_LIFETIME_S_MAX} s, not {lifetime_s}")
    claims = _claims(signer, audience_of(APPROVAL, network), now, lifetime_s)
    return _signed(signer, claims | _named(request))


def make_proposal(signer: Signer, content: bytes, *, network: str, now: datetime) -> str:
    """Return the signature of a file that asks another party for an approval: it says who wrote the file.

    It lives PROPOSAL_LIFETIME_S_MAX. No service takes it in place of a bearer or an approval.
    """
    claims = _claims(signer, audience_of(PROPOSAL, network), now, PROPOSAL_LIFETIME_S_MAX)
    return _signed(signer, {**claims, "dig": sha256(content).hexdigest()})


def make_possession(
    signer: Signer,
    *,
    network: str,
    member: str | None = None,
    now: datetime,
    lifetime_s: int = POSSESSION_LIFETIME_S_MAX,
) -> str:
    """Return the proof that the key's holder wants it registered under its id: `proof` of the key in a body.

    `network` is the origin of the network that it is to join, and `member` the organisation that the party
    acts for, if it acts for one.
    """
    claims = _claims(signer, audience_of(POSSESSION, network), now, lifetime_s)
    return _signed(signer, claims if member is None else {**claims, "member": member})


class RequestSigner(httpx.Auth):
    """Signs each request of an httpx client: `client.post(..., auth=RequestSigner(…))`.

    `service` is whom it asks, as `consent`, and `network` the `origin` in network.json. With `stream` the
    body is not read before it is sent, and the token does not name its digest. Use it for uploads: the token
    stays on the ledger, where a digest without salt would outlive the erasure of the content. `second` is
    another party's signer, which approves each request: for tests, and where one machine has both keys.
    """

    def __init__(
        self,
        signer: Signer,
        service: str,
        *,
        network: str,
        stream: bool = False,
        second: Signer | None = None,
    ) -> None:
        self._signer = signer
        self._audience = audience_of(service, network)
        self._network = network
        self._second = second
        self.requires_request_body = not stream

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token to one request."""
        line = RequestLine(
            request.method,
            request.url.raw_path.decode("ascii"),
            request.content if self.requires_request_body else None,
        )
        now = datetime.now(UTC)
        token = make_bearer(self._signer, self._audience, now=now, request=line)
        request.headers["Authorization"] = f"Bearer {token}"
        if self._second is not None:
            request.headers["Salus-Approval"] = make_approval(
                self._second, line, network=self._network, now=now
            )
        yield request


def _claims(signer: Signer, audience: str, now: datetime, lifetime_s: int) -> dict[str, str | int]:
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    did = signer.verification_method.partition("#")[0]
    issued = int(now.timestamp())
    times: dict[str, str | int] = {"iat": issued, "exp": issued + lifetime_s}
    return {"iss": did, "sub": did, "aud": audience, **times, "jti": str(uuid4())}


def _named(request: RequestLine) -> dict[str, str | int]:
    named: dict[str, str | int] = {"htm": request.method, "htu": request.target}
    return named if request.body is None else {**named, "dig": sha256(request.body).hexdigest()}


def _signed(signer: Signer, claims: dict[str, str | int]) -> str:
    header: dict[str, str | int] = {
        "alg": signer.algorithm,
        "typ": "JWT",
        "kid": signer.verification_method,
    }
    signing_input = _segment(header) + b"." + _segment(claims)
    return (signing_input + b"." + _unpadded(signer.sign(signing_input))).decode("ascii")


def _segment(claims: dict[str, str | int]) -> bytes:
    return _unpadded(json.dumps(claims, separators=(",", ":")).encode())


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
