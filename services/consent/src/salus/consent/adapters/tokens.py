"""Decision tokens: a JWT (RFC 7519) under the consent service's own DID key."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from salus.consent.ports import Claims
from salus.events.bearer import DECISION_TYPE, audience_of
from salus.events.signature import Signer


class DecisionTokens:
    """Makes tokens that enforcement points check offline against the key ring."""

    def __init__(self, signer: Signer, *, network: str) -> None:
        self._signer = signer
        self._network = network

    def make(self, claims: Claims) -> str:
        """Return the compact JWS; times are whole seconds, the end rounded down."""
        method = self._signer.verification_method
        header = {"alg": self._signer.algorithm, "typ": DECISION_TYPE, "kid": method}
        body: dict[str, Any] = {
            "iss": method.partition("#")[0],
            "sub": claims.principal,
            "aud": audience_of(claims.service, self._network),
            "jti": claims.decision,
            "obj": claims.object,
            "act": claims.action,
            "pat": claims.patient,
            "pur": claims.purpose,
            "epoch": claims.epoch,
            "bg": claims.break_glass,
            # Whoever loses one of these loses the token's right with it.
            "roles": sorted(claims.roles),
            "iat": int(claims.issued.timestamp()),
            "exp": int(claims.expires.timestamp()),
        }
        signing_input = _segment(header) + b"." + _segment(body)
        return (signing_input + b"." + _unpadded(self._signer.sign(signing_input))).decode("ascii")


def _segment(part: dict[str, Any]) -> bytes:
    return _unpadded(json.dumps(part, separators=(",", ":")).encode())


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
