"""Decision tokens: a JWT (RFC 7519) under the consent service's own DID key."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import msgspec

from salus.consent.ports import Claims
from salus.events.bearer import DECISION_TYPE, audience_of
from salus.events.signature import Signer


class DecisionTokens:
    """Makes tokens that enforcement points check offline against the key ring."""

    def __init__(self, signer: Signer, *, network: str) -> None:
        self._signer = signer
        self._network = network
        method = signer.verification_method
        self._issuer = method.partition("#")[0]
        self._header = _segment({"alg": signer.algorithm, "typ": DECISION_TYPE, "kid": method})

    def make(self, claims: Claims) -> str:
        """Return the compact JWS; times are whole seconds, the end rounded down."""
        body: dict[str, Any] = {
            "iss": self._issuer,
            "sub": claims.principal,
            "aud": audience_of(claims.service, self._network),
            "jti": claims.decision,
            "obj": claims.object,
            "act": claims.action,
            "pat": claims.patient,
            "pur": claims.purpose,
            "epoch": claims.epoch,
            "bg": claims.break_glass,
            # Whoever loses one of these, or gets another, loses the token's right with it.
            "roles": sorted(claims.roles),
            "iat": int(claims.issued.timestamp()),
            "exp": int(claims.expires.timestamp()),
        }
        signing_input = self._header + b"." + _segment(body)
        return (signing_input + b"." + _unpadded(self._signer.sign(signing_input))).decode("ascii")


def _segment(part: dict[str, Any]) -> bytes:
    return _unpadded(msgspec.json.encode(part))


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
