"""DPoP proofs (RFC 9449) of an Ed25519 key: what an exchange of an ID token for a session is sent with."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.events.dpop import PROOF_TYPE, base64url


def make_proof(key: Ed25519PrivateKey, *, method: str, url: str, now: datetime) -> str:
    """Return the proof that a request to this URL, without its query, is sent by who holds the key."""
    public = base64url(key.public_key().public_bytes_raw())
    header = {
        "typ": PROOF_TYPE,
        "alg": "EdDSA",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": public},
    }
    claims = {"jti": str(uuid4()), "htm": method, "htu": url, "iat": int(now.timestamp())}
    signing_input = f"{_segment(header)}.{_segment(claims)}"
    return f"{signing_input}.{base64url(key.sign(signing_input.encode('ascii')))}"


def _segment(value: object) -> str:
    return base64url(json.dumps(value, separators=(",", ":")).encode())
